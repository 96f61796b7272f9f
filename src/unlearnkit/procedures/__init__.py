"""Measurements that a single observation cannot answer: gradients, shaken or mixed weights, patched passes, whole runs."""

from unlearnkit.procedures.calibration import Calibration, calibrate, mixed
from unlearnkit.procedures.g_effect import GEffect, depth_group, g_effect, gradients
from unlearnkit.procedures.gradient_norm import gradient_norm, mean_norm
from unlearnkit.procedures.removal_difficulty import (
    draw_probabilities,
    memory_removal_difficulty,
    removal_difficulty,
)
from unlearnkit.procedures.retrain_equivalence import PathDependence, path_dependence
from unlearnkit.procedures.unlearning_depth import depth_score, unlearning_depth

__all__ = [
    "Calibration",
    "GEffect",
    "PathDependence",
    "calibrate",
    "depth_group",
    "depth_score",
    "draw_probabilities",
    "g_effect",
    "gradient_norm",
    "gradients",
    "mean_norm",
    "memory_removal_difficulty",
    "mixed",
    "path_dependence",
    "removal_difficulty",
    "unlearning_depth",
]
