r"""ME (maximum entropy): make the next token of forget text as good as random, whatever the answer was.

    uniform_to_model    L = mean_t KL(U || p_t) = mean_t (-log V - (1/V) sum_v log p_t(v))        (default)
    model_to_uniform    L = mean_t KL(p_t || U) = mean_t (log V - H(p_t))

U is uniform over the V tokens. Both are 0 if and only if p is uniform, and read no labels. The gradients with respect
to the logits are p - 1/V, which is large where the model is certain, and p(v) (log p(v) + H), which vanishes there.

The mean runs over question and answer (`positions="text"`), as the authors train ME; "answer" is their masked variant.
Their objective on TOFU is `0.1 * ME() + CrossEntropy("retain")`, ME+GD; the weight of ME is 1 when tasks follow each
other and 0.5 on real-world knowledge.

To copy: the default's formula is that of uniform_kl.py.

Paper: Yuan, Pang, Du, Chen, Zhang, Lin. A Closer Look at Machine Unlearning for Large Language Models. ICLR 2025,
arXiv:2410.08109.

Checked: sail-sg/closer-look-LLM-unlearning@b622294, losses and gradients to 1e-9.

Deviations:
1. By its name ME maximises H(p), which is the second direction; the authors' code minimises the first, and so does the
   default. The first is unbounded and punishes tokens that have become impossible.
2. The code adds 1e-12 to every probability before the logarithm. That bounds the loss, and takes the gradient from just
   the tokens it should raise, those far below 1e-12. The default adds nothing; `eps=1e-12` is the code.
3. Without mask the code averages over padding too, up to the padded length. Here padding never counts; the tests
   reproduce the released number by declaring padding real.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from attrs import Attribute, field, frozen
from attrs.validators import ge, in_
from torch import Tensor

from unlearnkit.objectives.uniform_kl import FromUniform
from unlearnkit.objectives.validators import finite
from unlearnkit.protocols import POSITIONS, Additive, Loss, Needs, Positions, Seen, Term, Tokens, Unit

Direction = Literal["uniform_to_model", "model_to_uniform"]
"""KL(U || p) or KL(p || U)."""


def missing_entropy(logits: Tensor) -> Tensor:
    """KL of the uniform distribution from each next-token distribution, log V - H(p): [N, V] -> [N], in nats, >= 0."""
    log_probs = torch.log_softmax(logits, -1)
    return math.log(logits.shape[-1]) + (log_probs.exp() * log_probs).sum(-1)


@frozen
class MissingEntropy:
    """`missing_entropy` at each position."""

    uses_labels = False

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return missing_entropy(logits)


@frozen(kw_only=True)
class ME(Additive):
    """A KL divergence between next-token distribution and the uniform one, averaged over the tokens of the global step.

    Attributes:
        direction: "uniform_to_model" KL(U || p), as in the authors' code; "model_to_uniform" KL(p || U), the entropy.
        eps: added to each probability before the logarithm; of "uniform_to_model" only.
        positions: "text" those with a next token, "answer" those that predict an answer, "non_pad" every real token.
        role: where nothing should be known.
        name: what the term is logged as.
    """

    direction: Direction = field(default="uniform_to_model", validator=in_(get_args(Direction)))
    eps: float = field(default=0.0, validator=[ge(0.0), finite])
    positions: Positions = field(default="text", validator=in_(POSITIONS))
    role: str = "forget"
    name: str = "maximum_entropy"

    @eps.validator
    def _only_where_a_probability_may_be_too_small(self, _: Attribute[float], eps: float) -> None:
        if eps > 0 and self.direction != "uniform_to_model":
            raise ValueError(
                f"'eps' belongs to direction='uniform_to_model': {eps}. Leave it 0 with {self.direction!r}."
            )

    @classmethod
    def released(cls, code: Literal["closer-look"]) -> ME:
        """The settings of the official code."""
        return cls(eps={"closer-look": 1e-12}[code])

    @property
    def divergence(self) -> Tokens:
        statistic = FromUniform(self.eps) if self.direction == "uniform_to_model" else MissingEntropy()
        return Tokens(statistic, self.role, positions=self.positions)

    @property
    def needs(self) -> Needs:
        return frozenset({self.divergence})

    def __call__(self, seen: Seen) -> Loss:
        return Loss(Term(self.name, seen[self.divergence].values.sum(), per=Unit(self.positions, self.role)))
