r"""Weighted ascent: gradient ascent in which every answer token has a weight of its own.

    L = (1/M) * sum_t w_t * log p_t        over the M answer tokens of the step, whatever they weigh

A weight is a constant of the step: it scales a token's pull and gets no gradient, and it changes nothing about M, so
that a token of weight 0 still counts in the mean. A token's gradient with respect to its logits is
w * (onehot(y) - p) / M. Weights of 1 are gradient ascent, negative weights learn.

`WeightedAscent` takes weights that were made beforehand: spans, annotated importance, influence. Methods whose weights
follow from the current model (WGA, TNPO, SatImp) compute them and call the same function.

    models = {"model": model, "weights": given("weight", {"row id": [0.0, 1.0, 0.5]}, forget_rows)}

Paper: none of its own; it is what the token-weighted methods share.

Checked: tmlr-group/SatImp@51314c0 (the annotated-importance terms, which scale it otherwise, see importance.py), losses
and gradients to 1e-9.

Deviations: none.
"""

from __future__ import annotations

from attrs import field, frozen
from torch import Tensor

from unlearnkit.protocols import Additive, Loss, Needs, Seen, Term, Tokens, Unit
from unlearnkit.statistics import Given, LabelLogProb


def weighted_ascent(log_probs: Tensor, weights: Tensor) -> Tensor:
    """Weight times log-prob of each token, unreduced: [N], [N] -> [N], in nats. Minimising it unlearns.

    Args:
        log_probs: [N] of answer tokens (or [B] of whole answers), in nats.
        weights: the same shape; constants, of any sign.
    """
    return weights.detach().to(log_probs.dtype) * log_probs


@frozen
class WeightedAscent(Additive):
    """`weighted_ascent` with given weights, averaged over all answer tokens of the global step.

    Attributes:
        role: whose answers are unlearned.
        of: the name of the recording, made by `given("weight", …)`, that holds a weight for each answer token.
        name: what the term is logged as.
    """

    role: str = "forget"
    of: str = field(default="weights", kw_only=True)
    name: str = field(default="weighted_ascent", kw_only=True)

    @property
    def tokens(self) -> Tokens:
        return Tokens(LabelLogProb(), self.role)

    @property
    def weights(self) -> Tokens:
        return Tokens(Given("weight"), self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.tokens, self.weights})

    def __call__(self, seen: Seen) -> Loss:
        each = weighted_ascent(seen[self.tokens].values, seen[self.weights].values)
        return Loss(Term(self.name, each.sum(), per=Unit("answer", self.role)))
