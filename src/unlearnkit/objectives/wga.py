r"""WGA (weighted gradient ascent): ascend on each token as much as the model still believes in it.

    L = (1/M) * sum_t w_t * log p_t,    w_t = p_t^beta, a constant of the step

p_t is the probability of answer token t, M the number of answer tokens. Gradient ascent's flaw is that the pull on a
token, 1/p in terms of its probability, grows as the token is forgotten. The weight takes that back: the gradient with
respect to the token's logits is p^beta * (onehot(y) - p) / M, which vanishes where the token is certain and where it is
gone. With beta 0 it is gradient ascent. |L| never exceeds 1 / (e * beta).

Paper: Wang, Zhou, Zhou, Shin, Han, Weinberger. Rethinking LLM Unlearning Objectives: A Gradient Perspective and Go
Beyond. ICLR 2025, arXiv:2502.19301.

Checked: tmlr-group/G-effect@ef368ee and locuslab/open-unlearning@d3d7cf9, losses and gradients to 1e-9.

Aliases:
    beta: hyper_param (G-effect)

Deviations: none in the formula. The two code bases differ in their default, 5 and 1; ours is 1.
"""

from __future__ import annotations

from typing import Literal

import torch
from attrs import field, frozen
from attrs.validators import ge
from torch import Tensor

from unlearnkit.objectives.validators import finite
from unlearnkit.objectives.weighted_ascent import weighted_ascent
from unlearnkit.protocols import Additive, Loss, Needs, Seen, Term, Tokens, Unit
from unlearnkit.statistics import LabelLogProb


def wga_weights(log_probs: Tensor, *, beta: float) -> Tensor:
    """p^beta of each token: [N] -> [N], in [0, 1], without gradient.

    Args:
        log_probs: [N] of answer tokens, in nats.
        beta: >= 0; how fast the weight falls with the probability. 0: all weights are 1.
    """
    return torch.exp(beta * log_probs.detach())


@frozen(kw_only=True)
class WGA(Additive):
    """`weighted_ascent` with `wga_weights`, averaged over the forget answer tokens of the global step.

    Weights being constants, the gradient is not that of the logged value.

    Attributes:
        beta: the power of the probability, >= 0.
        role: whose answers are unlearned.
        name: what the term is logged as.
    """

    beta: float = field(default=1.0, validator=[ge(0.0), finite])
    role: str = "forget"
    name: str = "wga"

    @classmethod
    def released(cls, code: Literal["g-effect", "open-unlearning"]) -> WGA:
        """The defaults of an official code base."""
        return cls(beta={"g-effect": 5.0, "open-unlearning": 1.0}[code])

    @property
    def tokens(self) -> Tokens:
        return Tokens(LabelLogProb(), self.role)

    @property
    def needs(self) -> Needs:
        return frozenset({self.tokens})

    def __call__(self, seen: Seen) -> Loss:
        log_probs = seen[self.tokens].values
        each = weighted_ascent(log_probs, wga_weights(log_probs, beta=self.beta))
        return Loss(Term(self.name, each.sum(), per=Unit("answer", self.role)))
