"""Methods that act at inference: each is a `Model`, so that every metric and attack runs on it unchanged."""

from unlearnkit.decoding.logit_arithmetic import (
    contrastive_scores,
    generic_logits,
    logarithmic_mean_scores,
    offset_logits,
)
from unlearnkit.decoding.uld import LogitDifference, logit_difference

__all__ = [
    "LogitDifference",
    "contrastive_scores",
    "generic_logits",
    "logarithmic_mean_scores",
    "logit_difference",
    "offset_logits",
]
