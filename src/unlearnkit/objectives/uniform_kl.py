r"""KL from uniform: have a model know nothing on some data. What ULD's assistant is taught on everything to be kept.

    L = mean_t KL(U || p_t),    KL(U || p) = -log V - (1/V) * sum_v log p(v)

U is uniform over the vocabulary; 0 if and only if p is uniform too. An assistant of ULD is trained on
`CrossEntropy("forget") + 5.0 * UniformKL("retain")`.

Paper: Ji, Liu, Zhang, Liu, Kompella, Liu, Chang. Reversing the Forget-Retain Objectives: An Efficient LLM Unlearning
Framework from Logit Difference. NeurIPS 2024, arXiv:2406.08607.

Checked: UCSB-NLP-Chang/ULD@858608c, loss and gradient to 1e-9.

Deviations: the code averages over all B*T positions, padding included, so that the loss depends on how far the batch
was padded. Here the mean is over real tokens, or over `positions`; the tests reproduce the released number with
`uniform_kl` over all positions.
"""

from __future__ import annotations

import math

import torch
from attrs import field, frozen
from attrs.validators import in_
from torch import Tensor

from unlearnkit.protocols import POSITIONS, Additive, Loss, Needs, Positions, Seen, Term, Tokens, Unit


def uniform_kl(logits: Tensor, *, eps: float = 0.0) -> Tensor:
    """KL of each next-token distribution from the uniform one, unreduced: [N, V] -> [N], in nats, >= 0 (without eps).

    Args:
        logits: [N, V] under the model.
        eps: added to each probability before the logarithm, so that no token costs more than -log(eps) / V.
    """
    log_probs = torch.log(torch.softmax(logits, -1) + eps) if eps > 0 else torch.log_softmax(logits, -1)
    return -math.log(logits.shape[-1]) - log_probs.mean(-1)


@frozen
class FromUniform:
    """`uniform_kl` at each position."""

    eps: float = 0.0
    uses_labels = False

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return uniform_kl(logits, eps=self.eps)


@frozen
class UniformKL(Additive):
    """`uniform_kl` averaged over the tokens of the global step.

    Attributes:
        role: where nothing should be known.
        positions: "non_pad" every real token, "text" those with a next token, "answer" those that predict an answer.
        name: what the term is logged as. Default: "uniform_kl_" and the role.
    """

    role: str = "retain"
    positions: Positions = field(default="non_pad", kw_only=True, validator=in_(POSITIONS))
    name: str = field(kw_only=True)

    @name.default
    def _named_after_the_role(self) -> str:
        return f"uniform_kl_{self.role}"

    @property
    def divergence(self) -> Tokens:
        return Tokens(FromUniform(), self.role, positions=self.positions)

    @property
    def needs(self) -> Needs:
        return frozenset({self.divergence})

    def __call__(self, seen: Seen) -> Loss:
        return Loss(Term(self.name, seen[self.divergence].values.sum(), per=Unit(self.positions, self.role)))
