r"""EUL (Effective Unlearning Loss): a stand-in family of forget losses that are bounded below and let go by themselves.

    reciprocal      L = mean_b 1 / (1 + A_b)              in (0, 1]; ascent on A_b, slowed by 1 / (1 + A_b)^2
    hinge           L = mean_b max(0, level - A_b)        ascent on A_b until it reaches `level`, then exactly nothing
    unlikelihood    L = mean_t -log(1 - p_t)              token mean; p on the label's logit, the gradient of CE-U

A_b is the NLL of answer b per token, p_t the probability of answer token t. All fall as A_b rises, and no logit's
gradient is large: the 1 in 1 + A_b bounds it (with 1e-6 in its place a learned answer would be hit 10^5 times as hard),
and unlikelihood's has at most norm sqrt(2) * p. In log p, unlikelihood's slope p / (1 - p) has no bound.

Paper: Sun, Li. iShumei-Chinchunmei at SemEval-2025 Task 4: A Balanced Forgetting and Retention Multi-Task Framework
Using Effective Unlearning Loss. SemEval 2025, arXiv:2507.16263.

Reconstructed: the paper's are the name, the aim (forgetting that can be controlled) and the sum with a retain loss,
`EUL() + CrossEntropy("retain")`. Its formula is not known to us, and no code is public: the three forms are ours. Do
not report their results as the paper's.

Reciprocal and hinge are no sums of tokens. They are taken of each answer's mean NLL, and the mean is over answers: each
answer lets go at its own pace, and a step may be cut anywhere. Of the mean over a whole batch they would depend on
what else is in it: one forgotten answer would shelter the others.

Checked: laws and closed forms only.

Deviations: none that are known, see above.
"""

from __future__ import annotations

from typing import Literal, get_args

from attrs import Attribute, field, frozen
from attrs.validators import in_
from torch import Tensor

from unlearnkit.objectives.cross_entropy import sequence_nll
from unlearnkit.objectives.unlikelihood import Unlikely
from unlearnkit.objectives.validators import finite
from unlearnkit.protocols import Additive, Loss, Needs, Seen, Term, Tokens, Unit
from unlearnkit.statistics import LabelLogProb

Form = Literal["reciprocal", "hinge", "unlikelihood"]
"""Which member of the family."""


def reciprocal_loss(nll: Tensor) -> Tensor:
    """1 / (1 + NLL) of each answer, unreduced: [B] nats per token -> [B], in (0, 1]."""
    return 1.0 / (1.0 + nll)


def hinge_loss(nll: Tensor, *, level: float) -> Tensor:
    """What each answer's NLL lacks to `level`, at least 0, unreduced: [B] nats per token -> [B]."""
    return (level - nll).clamp(min=0)


@frozen(kw_only=True)
class EUL(Additive):
    """One form of the family: over answers of the global step, or over its answer tokens if it is "unlikelihood".

    Attributes:
        form: "reciprocal", "hinge" or "unlikelihood".
        level: NLL in nats per token at which the hinge lets go: the model's on text it never saw, or half of log V.
        role: whose answers are forgotten.
        name: what the term is logged as.
    """

    form: Form = field(default="reciprocal", validator=in_(get_args(Form)))
    level: float | None = field(default=None)
    role: str = "forget"
    name: str = "eul"

    @level.validator
    def _of_the_hinge(self, attribute: Attribute[float], level: float | None) -> None:
        if level is not None:
            finite(self, attribute, level)
        if (level is None) == (self.form == "hinge"):
            raise ValueError(
                f"'level' belongs to form='hinge', and only to it; with form={self.form!r} it is {level}. Pass the NLL "
                "of the model on text it never saw, or half the logarithm of its vocabulary's size."
            )

    @property
    def tokens(self) -> Tokens:
        return Tokens(Unlikely() if self.form == "unlikelihood" else LabelLogProb(), self.role)

    @property
    def needs(self) -> Needs:
        return frozenset({self.tokens})

    def __call__(self, seen: Seen) -> Loss:
        flat = seen[self.tokens]
        if self.form == "unlikelihood":
            return Loss(Term(self.name, flat.values.sum(), per=Unit("answer", self.role)))
        nll = sequence_nll(flat.values, flat.row, rows=flat.rows, length_normalise=True)
        each = reciprocal_loss(nll) if self.level is None else hinge_loss(nll, level=self.level)
        return Loss(Term(self.name, each[flat.counts() > 0].sum(), per=Unit("sequence", self.role)))
