"""Metrics: pure functions, and the classes that say what they need and turn it into a score."""

from unlearnkit.metrics.forget_quality import ForgetQuality, KSTest, ks_test
from unlearnkit.metrics.intervals import with_interval
from unlearnkit.metrics.memorization import (
    ExactMemorization,
    ExtractionStrength,
    exact_memorization,
    extraction_strength,
)
from unlearnkit.metrics.model_utility import ModelUtility, harmonic_mean
from unlearnkit.metrics.porter import porter_stem
from unlearnkit.metrics.probability import Probability, ProbabilityMC, answer_probability, probability_mc
from unlearnkit.metrics.rouge import Overlap, Rouge, rouge
from unlearnkit.metrics.suite import tofu_metrics
from unlearnkit.metrics.truth_ratio import TruthRatio, log_truth_ratio, truth_score

__all__ = [
    "ExactMemorization",
    "ExtractionStrength",
    "ForgetQuality",
    "KSTest",
    "ModelUtility",
    "Overlap",
    "Probability",
    "ProbabilityMC",
    "Rouge",
    "TruthRatio",
    "answer_probability",
    "exact_memorization",
    "extraction_strength",
    "harmonic_mean",
    "ks_test",
    "log_truth_ratio",
    "porter_stem",
    "probability_mc",
    "rouge",
    "tofu_metrics",
    "truth_score",
    "with_interval",
]
