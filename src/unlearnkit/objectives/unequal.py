r"""Unequal unlearning: ascend, refuse or SimNPO on forget answers, while forget *questions* and retain data are kept.

    L = forget_weight * A + question_weight * NLL(forget_question) + retain_weight * NLL(retain)

    ga       A = -NLL(forget)
    idk      A = NLL(idk)
    simnpo   A = -(2/beta) * mean_b log sigmoid(beta * (A_b - margin)),    A_b = mean NLL of answer b's tokens

NLLs are token means. Role "forget_question" holds the forget rows with the tokens of the question supervised in place
of the answer's, so that the words a fact is made of stay likely outside of it. Half the weight on forgetting is the
authors' setting for a study of how often a fact occurs in pre-training data: frequent facts are harder to unlearn.

To copy: the terms are those of gradient_ascent.py, cross_entropy.py and simnpo.py.

Aliases:
    forget_weight: lambda_forget (code)
    question_weight: lambda_question (code)
    retain_weight: lambda_retain (code)
    margin: gamma (code)

Paper: Krishnan, Reddy, Mosbach. Not All Data Are Unlearned Equally. 2025, arXiv:2504.05058.

Checked: McGill-NLP/unequal-unlearning@78f575d, losses and gradients to 1e-9.

Deviations: in the code, retain questions are supervised along with their answers, and a forget answer has no end token
among its labels. Both are matters of the rows' labels and left to the data.
"""

from __future__ import annotations

from typing import Literal, get_args

from attrs import field, frozen
from attrs.validators import gt, in_

from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.objectives.gradient_ascent import GradientAscent
from unlearnkit.objectives.simnpo import SimNPO
from unlearnkit.objectives.validators import finite
from unlearnkit.protocols import Additive, Loss, Needs, Objective, Seen, WeightedSum

Form = Literal["ga", "idk", "simnpo"]
"""What is done to the answers."""


@frozen(kw_only=True)
class UnequalUnlearning(Additive):
    """The three terms together; "ga", "nll_idk" or "simnpo", then "nll_forget_question" and "nll_retain".

    The question term is left out, and role "forget_question" not asked for, where its weight is 0.

    Attributes:
        form: what is done to the answers: of role "forget", or "idk" for the form of that name.
        forget_weight: of that.
        question_weight: of the forget questions' cross-entropy.
        retain_weight: of the retain data's cross-entropy.
        beta, margin: of SimNPO; the other forms have none.
    """

    form: Form = field(default="ga", validator=in_(get_args(Form)))
    forget_weight: float = field(default=0.5, validator=finite)
    question_weight: float = field(default=0.0, validator=finite)
    retain_weight: float = field(default=1.0, validator=finite)
    beta: float = field(default=0.1, validator=gt(0.0))
    margin: float = field(default=0.0, validator=finite)

    @property
    def answers(self) -> Objective:
        """The loss on the answers."""
        if self.form == "simnpo":
            return SimNPO(beta=self.beta, margin=self.margin)
        return GradientAscent() if self.form == "ga" else CrossEntropy("idk")

    @property
    def terms(self) -> WeightedSum:
        kept = self.retain_weight * CrossEntropy("retain")
        if self.question_weight:
            kept = self.question_weight * CrossEntropy("forget_question") + kept
        return WeightedSum(((self.forget_weight, self.answers),)) + kept

    @property
    def needs(self) -> Needs:
        return self.terms.needs

    def __call__(self, seen: Seen) -> Loss:
        return self.terms(seen)
