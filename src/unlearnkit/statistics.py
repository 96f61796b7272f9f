"""Token statistics shared by many objectives and metrics: a number per position from one model's logits."""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor


def label_log_probs(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-probability of each label: [N, V], [N] -> [N], in nats, <= 0."""
    return -torch.nn.functional.cross_entropy(logits, labels, reduction="none")


def top_hits(logits: Tensor, labels: Tensor) -> Tensor:
    """1.0 where the label is the most likely token (the first of equals), else 0.0: [N, V], [N] -> [N]."""
    return (logits.argmax(-1) == labels).to(logits.dtype)


@frozen
class LabelLogProb:
    """`label_log_probs` at each position."""

    uses_labels = True

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return label_log_probs(logits, labels)


@frozen
class TopHit:
    """`top_hits` at each position."""

    uses_labels = True

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return top_hits(logits, labels)
