"""Optimizers that are methods: estimates of a step's gradient for `unlearn(gradient=...)`, and torch optimizers."""

from unlearnkit.optim.averaging import average_weights, take_average
from unlearnkit.optim.hybrid import Alternating
from unlearnkit.optim.low_bit import LowBitAdam, SignSGD
from unlearnkit.optim.penalties import CurvaturePenalty, GradientPenalty
from unlearnkit.optim.saliency import SalientGradient, SalientUpdates
from unlearnkit.optim.sharpness import SharpnessAware
from unlearnkit.optim.smoothing import RandomizedSmoothing
from unlearnkit.optim.sophia import SophiaG
from unlearnkit.optim.zeroth_order import ZerothOrder

__all__ = [
    "Alternating",
    "CurvaturePenalty",
    "GradientPenalty",
    "LowBitAdam",
    "RandomizedSmoothing",
    "SalientGradient",
    "SalientUpdates",
    "SharpnessAware",
    "SignSGD",
    "SophiaG",
    "ZerothOrder",
    "average_weights",
    "take_average",
]
