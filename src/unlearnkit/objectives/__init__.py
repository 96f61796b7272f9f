"""Loss-based methods, one file each: the method's page, its formula as a pure function, and the class that uses it."""

from unlearnkit.objectives.adaptive_rmu import AdaptiveRMU
from unlearnkit.objectives.altpo import AltPO
from unlearnkit.objectives.catnip import CATNIP
from unlearnkit.objectives.ce_u import CEU
from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.objectives.distribution_matching import DistributionMatching
from unlearnkit.objectives.dpo import DPO
from unlearnkit.objectives.dto import DTO
from unlearnkit.objectives.duet import DUET
from unlearnkit.objectives.eru import ElasticReward
from unlearnkit.objectives.eul import EUL
from unlearnkit.objectives.example_weighted import ExampleWeighted
from unlearnkit.objectives.flat import FLAT
from unlearnkit.objectives.floor_selective import FloorSelective
from unlearnkit.objectives.ga_kl import GradientAscentKL
from unlearnkit.objectives.grad_diff import GradDiff
from unlearnkit.objectives.gradient_ascent import GradientAscent
from unlearnkit.objectives.grpo import GRPO
from unlearnkit.objectives.idk import IdkNLL
from unlearnkit.objectives.idk_ap import AnswerPreservation, IdkAP
from unlearnkit.objectives.importance import ImportanceAscent, ImportanceNPO
from unlearnkit.objectives.inverted_hinge import IHL
from unlearnkit.objectives.jensun import JensUn, RetainJSD
from unlearnkit.objectives.kto import KTO
from unlearnkit.objectives.llmu import LLMU
from unlearnkit.objectives.maximum_entropy import ME
from unlearnkit.objectives.mixed_prompt import MixedPromptKL
from unlearnkit.objectives.neds import NEDS
from unlearnkit.objectives.npo import NPO
from unlearnkit.objectives.pdu import PDU
from unlearnkit.objectives.raw_logits import RawLogitKL, RawLogitNPO, RawLogitSimNPO
from unlearnkit.objectives.retain_kl import RetainKL
from unlearnkit.objectives.rmu import RMU
from unlearnkit.objectives.satimp import SatImp
from unlearnkit.objectives.simnpo import SimNPO
from unlearnkit.objectives.tnpo import TNPO
from unlearnkit.objectives.undial import UNDIAL
from unlearnkit.objectives.unequal import UnequalUnlearning
from unlearnkit.objectives.uniform_kl import UniformKL
from unlearnkit.objectives.unlikelihood import Unlikelihood
from unlearnkit.objectives.weighted_ascent import WeightedAscent
from unlearnkit.objectives.wga import WGA

__all__ = [
    "CATNIP",
    "CEU",
    "DPO",
    "DTO",
    "DUET",
    "EUL",
    "FLAT",
    "GRPO",
    "IHL",
    "KTO",
    "LLMU",
    "ME",
    "NEDS",
    "NPO",
    "PDU",
    "RMU",
    "TNPO",
    "UNDIAL",
    "WGA",
    "AdaptiveRMU",
    "AltPO",
    "AnswerPreservation",
    "CrossEntropy",
    "DistributionMatching",
    "ElasticReward",
    "ExampleWeighted",
    "FloorSelective",
    "GradDiff",
    "GradientAscent",
    "GradientAscentKL",
    "IdkAP",
    "IdkNLL",
    "ImportanceAscent",
    "ImportanceNPO",
    "JensUn",
    "MixedPromptKL",
    "RawLogitKL",
    "RawLogitNPO",
    "RawLogitSimNPO",
    "RetainJSD",
    "RetainKL",
    "SatImp",
    "SimNPO",
    "UnequalUnlearning",
    "UniformKL",
    "Unlikelihood",
    "WeightedAscent",
]
