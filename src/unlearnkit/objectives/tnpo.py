r"""TNPO and WTNPO: NPO token by token; each token's pull fades once it has fallen below the reference.

    L = (1/M) * sum_t w_t * log p_t,    w_t = 2 p_t^(beta + alpha) / (p_t^beta + p_ref,t^beta + eps)

p_t is the probability of answer token t under the model, p_ref,t under the frozen reference, M the number of answer
tokens; w_t is a constant of the step, between 0 and 2. With alpha 0 it is TNPO: 1 at the reference, and the gradient is
exactly that of NPO applied to every token as if it were an answer, -(2/beta) log sigmoid(-beta log(p_t / p_ref,t)),
averaged over tokens. With alpha > 0 it is WTNPO: WGA's weight p^alpha on top. beta -> 0 gives gradient ascent and
WGA(beta=alpha).

Paper: Wang, Zhou, Zhou, Shin, Han, Weinberger. Rethinking LLM Unlearning Objectives: A Gradient Perspective and Go
Beyond. ICLR 2025, arXiv:2502.19301.

Checked: tmlr-group/G-effect@ef368ee, losses and gradients to 1e-9.

Aliases:
    beta: hyper_param (G-effect's TNPO)
    alpha: hyper_param (G-effect's w_ins_npo), the number in wtnpo_<number> (its loss names)

Deviations: the code adds eps = 1e-5 to the denominator, the paper nothing. It is not a guard only: once p^beta and
p_ref^beta are below it (at beta 4, where both are under 0.06) it drives the weight to 0, and tokens that were unlikely
from the start are never unlearned. The default is 0, computed from logarithms, where no guard is needed; `eps=1e-5` is
the code.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from attrs import field, frozen
from attrs.validators import ge, gt
from torch import Tensor

from unlearnkit.objectives.validators import finite
from unlearnkit.objectives.weighted_ascent import weighted_ascent
from unlearnkit.protocols import Additive, Loss, Needs, Seen, Term, Tokens, Unit
from unlearnkit.statistics import LabelLogProb


def tnpo_weights(
    log_probs: Tensor, reference_log_probs: Tensor, *, beta: float, alpha: float = 0.0, eps: float = 0.0
) -> Tensor:
    """2 p^(beta + alpha) / (p^beta + p_ref^beta + eps) of each token: [N], [N] -> [N], in [0, 2], without gradient.

    Args:
        log_probs: [N] of answer tokens under the model, in nats.
        reference_log_probs: [N] the same under the reference.
        beta: inverse temperature, > 0.
        alpha: power of p on top, >= 0. 0: TNPO.
        eps: added to the denominator, >= 0.
    """
    model, others = log_probs.detach(), beta * reference_log_probs.detach()
    if eps > 0:
        others = torch.logaddexp(others, torch.full_like(others, math.log(eps)))
    return 2 * torch.exp(alpha * model) * torch.sigmoid(beta * model - others)


@frozen(kw_only=True)
class TNPO(Additive):
    """`weighted_ascent` with `tnpo_weights`, averaged over the forget answer tokens of the global step.

    Weights being constants, the gradient is not that of the logged value.

    Attributes:
        beta: inverse temperature, > 0.
        alpha: power of p on top, >= 0. 0 is TNPO, more is WTNPO.
        eps: added to the denominator of the weights. 1e-5 is the released code.
        role: whose answers are unlearned.
        name: what the term is logged as.
    """

    beta: float = field(default=4.0, validator=[gt(0.0), finite])
    alpha: float = field(default=0.0, validator=[ge(0.0), finite])
    eps: float = field(default=0.0, validator=[ge(0.0), finite])
    role: str = "forget"
    name: str = "tnpo"

    @classmethod
    def released(cls, code: Literal["g-effect-tnpo", "g-effect-wtnpo"]) -> TNPO:
        """The defaults of an official code base."""
        return cls(beta=4.0, alpha={"g-effect-tnpo": 0.0, "g-effect-wtnpo": 1.5}[code], eps=1e-5)

    @property
    def model(self) -> Tokens:
        return Tokens(LabelLogProb(), self.role)

    @property
    def reference(self) -> Tokens:
        return Tokens(LabelLogProb(), self.role, of="reference")

    @property
    def needs(self) -> Needs:
        return frozenset({self.model, self.reference})

    def __call__(self, seen: Seen) -> Loss:
        log_probs, reference = seen[self.model].values, seen[self.reference].values
        weights = tnpo_weights(log_probs, reference, beta=self.beta, alpha=self.alpha, eps=self.eps)
        return Loss(Term(self.name, weighted_ascent(log_probs, weights).sum(), per=Unit("answer", self.role)))
