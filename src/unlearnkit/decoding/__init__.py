"""Methods that act at inference: each is a `Model`, so that every metric and attack runs on it unchanged."""

from unlearnkit.decoding.combined import Combined
from unlearnkit.decoding.logit_arithmetic import (
    contrastive_scores,
    generic_logits,
    logarithmic_mean_scores,
    offset_logits,
)
from unlearnkit.decoding.uld import first_layers, logit_difference, uld

__all__ = [
    "Combined",
    "contrastive_scores",
    "first_layers",
    "generic_logits",
    "logarithmic_mean_scores",
    "logit_difference",
    "offset_logits",
    "uld",
]
