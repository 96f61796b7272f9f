"""Token statistics shared by many objectives and metrics: a number per position from one model's logits."""

from __future__ import annotations

import torch
from attrs import field, frozen
from attrs.validators import min_len
from torch import Tensor

from unlearnkit.errors import NeedError


def label_log_probs(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-probability of each label: [N, V], [N] -> [N], in nats, <= 0."""
    return -torch.nn.functional.cross_entropy(logits, labels, reduction="none")


def top_hits(logits: Tensor, labels: Tensor) -> Tensor:
    """1.0 where the label is the most likely token (the first of equals), else 0.0: [N, V], [N] -> [N]."""
    return (logits.argmax(-1) == labels).to(logits.dtype)


def log_prob_moments(logits: Tensor) -> Tensor:
    """Mean and variance of log p(v) over the vocabulary under p itself, in nats: [N, V] -> [N, 2].

    The mean is minus the entropy. The variance is taken about it, so that it cannot be negative.
    """
    log_probs = torch.log_softmax(logits, -1)
    probs = log_probs.exp()
    finite = torch.where(probs > 0, log_probs, 0.0)  # 0 log 0 = 0
    mean = (probs * finite).sum(-1)
    return torch.stack([mean, (probs * (finite - mean[:, None]).square()).sum(-1)], -1)


def label_ranks(logits: Tensor, labels: Tensor) -> Tensor:
    """How many tokens are at least as likely as the label, itself included (1: the only best): [N, V], [N] -> [N]."""
    return (logits >= logits.gather(-1, labels[:, None])).sum(-1).to(logits.dtype)


def label_margins(logits: Tensor, labels: Tensor) -> Tensor:
    """log p(label) / (1 - p(label)), in nats: [N, V], [N] -> [N].

    From the logits of the other tokens: 1 - p rounds to 0 in float32 once p > 1 - 6e-8.
    """
    others = logits.scatter(-1, labels[:, None], -torch.inf)
    return logits.gather(-1, labels[:, None])[:, 0] - others.logsumexp(-1)


def top_two_log_probs(logits: Tensor) -> Tensor:
    """Log-probs of the two most likely tokens, in nats: [N, V] -> [N, 2]."""
    return logits.topk(2, -1).values - logits.logsumexp(-1, keepdim=True)


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


@frozen
class LogProbMoments:
    """`log_prob_moments` at each position: [N, 2]."""

    uses_labels = False

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return log_prob_moments(logits)


@frozen
class LabelRank:
    """`label_ranks` at each position."""

    uses_labels = True

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return label_ranks(logits, labels)


@frozen
class LabelMargin:
    """`label_margins` at each position."""

    uses_labels = True

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return label_margins(logits, labels)


@frozen
class TopTwo:
    """`top_two_log_probs` at each position: [N, 2]."""

    uses_labels = False

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return top_two_log_probs(logits)


@frozen
class Given:
    """A number per token that no model says: a weight, a mask, an advantage. Read from a recording made by `given`.

    Attributes:
        name: what is given.
    """

    name: str = "weight"
    uses_labels = False

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        raise NeedError(
            f"{self} is not computed from logits but given for each row. Bind its name in models to a recording: "
            f"models={{'weights': given({self.name!r}, {{'row id': [1.0, 0.5]}}, rows)}}."
        )


@frozen
class Candidates:
    """Log-probs of some tokens among the whole vocabulary (the letters of a multiple choice): [N, k]."""

    tokens: tuple[int, ...] = field(validator=min_len(1))
    uses_labels = False

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return torch.log_softmax(logits, -1)[:, list(self.tokens)]
