r"""Unlikelihood: push each forget token's probability down until it is low enough (the "away" loss of LAT).

    L = mean_t -log(1 - p_t) * 1[log p_t >= threshold]

The mean runs over all answer tokens, those below the threshold included, so that the push ends as tokens fall below it.
The gradient with respect to a logit is at most p_t <= 1: unlike gradient ascent's it vanishes once a token is unlikely.

Aliases:
    threshold: min_log_prob, -5 (latent-adversarial-training)

Papers: Welleck et al. Neural Text Generation With Unlikelihood Training. ICLR 2020, arXiv:1908.04319 (the loss).
Sheshadri et al. Latent Adversarial Training Improves Robustness to Persistent Harmful Behaviors in LLMs. 2024,
arXiv:2407.15549 (the threshold).

Checked: aengusl/latent-adversarial-training@53ac752, losses and gradients to 1e-9.

Deviations: none. 1 - p is computed from the other tokens' logits: as a difference it rounds to 0 for certain tokens.
"""

from __future__ import annotations

import math

import torch
from attrs import field, frozen
from attrs.validators import le
from torch import Tensor

from unlearnkit.protocols import Additive, Loss, Needs, Seen, Term, Tokens, Unit


def unlikelihood(logits: Tensor, labels: Tensor, *, threshold: float = -math.inf) -> Tensor:
    """-log(1 - p) of each label, 0 where log p is below the threshold, unreduced: [N, V], [N] -> [N], in nats."""
    everything = logits.logsumexp(-1)
    others = logits.scatter(-1, labels[:, None], -torch.inf).logsumexp(-1)
    log_probs = logits.gather(-1, labels[:, None])[:, 0] - everything
    return torch.where(log_probs >= threshold, everything - others, 0.0)


@frozen
class Unlikely:
    """`unlikelihood` at each position."""

    threshold: float = -math.inf
    uses_labels = True

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return unlikelihood(logits, labels, threshold=self.threshold)


@frozen(kw_only=True)
class Unlikelihood(Additive):
    """`unlikelihood` averaged over the answer tokens of the global step.

    Attributes:
        threshold: log-probability, in nats, below which a token is left alone; minus infinity: never.
        role: whose answers are pushed down.
        name: what the term is logged as.
    """

    threshold: float = field(default=-5.0, validator=le(0.0))
    role: str = "forget"
    name: str = "unlikelihood"

    @property
    def penalty(self) -> Tokens:
        return Tokens(Unlikely(self.threshold), self.role)

    @property
    def needs(self) -> Needs:
        return frozenset({self.penalty})

    def __call__(self, seen: Seen) -> Loss:
        return Loss(Term(self.name, seen[self.penalty].values.sum(), per=Unit("answer", self.role)))
