"""Attacks: what looks for knowledge that was only hidden. One file each, all of one shape; `audit` runs them with controls."""

from unlearnkit.attacks.attack import Asking, Attack, Budget, Outcome, Secret, Target, mentions, recalls
from unlearnkit.attacks.audit import Audit, Estimate, Finding, audit, compare
from unlearnkit.attacks.benign_modifications import PairedQueries, swapped_choices
from unlearnkit.attacks.crosslingual import CrossLingual, Translated
from unlearnkit.attacks.direction_ablation import DirectionAblation, RefusalAblation
from unlearnkit.attacks.dua import DUA, StaticAttack
from unlearnkit.attacks.eight_methods import Before, EightMethods, OneOfTwo
from unlearnkit.attacks.embedding_attack import EmbeddingAttack
from unlearnkit.attacks.enhanced_gcg import EnhancedGCG
from unlearnkit.attacks.few_shot_rephrase import FewShot, Letters, Rephrased
from unlearnkit.attacks.finetune_attack import FineTuning
from unlearnkit.attacks.gcg import GCG
from unlearnkit.attacks.knowledge_holes import KnowledgeHoles
from unlearnkit.attacks.linear_probe import ClassProbe, LinearProbe
from unlearnkit.attacks.logit_lens import LogitLens
from unlearnkit.attacks.masking_alias import ReverseQuery, Unnamed
from unlearnkit.attacks.multi_hop import Probing
from unlearnkit.attacks.prompt_perturbation import InformedPerturbation, NaivePerturbation
from unlearnkit.attacks.quantization_attack import Quantizing
from unlearnkit.attacks.rebel import Rebel
from unlearnkit.attacks.relearning import Relearning
from unlearnkit.attacks.rtt import Retraining
from unlearnkit.attacks.rwku_probes import Membership, Probed
from unlearnkit.attacks.sampling import Sampled
from unlearnkit.attacks.secrets import read_secrets, secret_of
from unlearnkit.attacks.set_difference_pruning import SetDifferencePruning
from unlearnkit.attacks.standard import standard
from unlearnkit.attacks.unlearning_trace import ActivationTrace, TextTrace
from unlearnkit.attacks.worst_case import WorstCase, WorstWordings

__all__ = [
    "DUA",
    "GCG",
    "ActivationTrace",
    "Asking",
    "Attack",
    "Audit",
    "Before",
    "Budget",
    "ClassProbe",
    "CrossLingual",
    "DirectionAblation",
    "EightMethods",
    "EmbeddingAttack",
    "EnhancedGCG",
    "Estimate",
    "FewShot",
    "Finding",
    "FineTuning",
    "InformedPerturbation",
    "KnowledgeHoles",
    "Letters",
    "LinearProbe",
    "LogitLens",
    "Membership",
    "NaivePerturbation",
    "OneOfTwo",
    "Outcome",
    "PairedQueries",
    "Probed",
    "Probing",
    "Quantizing",
    "Rebel",
    "RefusalAblation",
    "Relearning",
    "Rephrased",
    "Retraining",
    "ReverseQuery",
    "Sampled",
    "Secret",
    "SetDifferencePruning",
    "StaticAttack",
    "Target",
    "TextTrace",
    "Translated",
    "Unnamed",
    "WorstCase",
    "WorstWordings",
    "audit",
    "compare",
    "mentions",
    "read_secrets",
    "recalls",
    "secret_of",
    "standard",
    "swapped_choices",
]
