"""Loss-based methods, one file each: the method's page, its formula as a pure function, and the class that uses it."""

from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.objectives.dpo import DPO
from unlearnkit.objectives.ga_kl import GradientAscentKL
from unlearnkit.objectives.grad_diff import GradDiff
from unlearnkit.objectives.gradient_ascent import GradientAscent
from unlearnkit.objectives.idk import IdkNLL
from unlearnkit.objectives.npo import NPO
from unlearnkit.objectives.retain_kl import RetainKL
from unlearnkit.objectives.rmu import RMU
from unlearnkit.objectives.simnpo import SimNPO
from unlearnkit.objectives.uniform_kl import UniformKL

__all__ = [
    "DPO",
    "NPO",
    "RMU",
    "CrossEntropy",
    "GradDiff",
    "GradientAscent",
    "GradientAscentKL",
    "IdkNLL",
    "RetainKL",
    "SimNPO",
    "UniformKL",
]
