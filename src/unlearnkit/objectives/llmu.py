r"""LLMU: ascend on forget answers, teach random answers to the same prompts, stay near the reference on normal data.

    L = -forget_weight * mean_b A_b(forget) + mismatch_weight * mean_b A_b(random_answers)
        + retain_weight * mean_t KL(ref || model)

A_b is the mean NLL of the answer tokens of row b. Role "random_answers" holds each forget prompt with some answers to
other questions (`unlearnkit.data.mismatched.mismatched`): ascent alone leaves nonsense, the random answers say what to
write instead. With `mismatch_weight=0` and `retain_weight=0` it is half of gradient ascent on answers' means; at the
reference the KL has no gradient.

To copy: the terms are those of gradient_ascent.py, cross_entropy.py and retain_kl.py.

Aliases:
    forget_weight: epsilon_1 (paper), bad_weight (code)
    mismatch_weight: epsilon_2 (paper), random_weight (code)
    retain_weight: epsilon_3 (paper), normal_weight (code)

Paper: Yao, Xu, Liu. Large Language Model Unlearning. NeurIPS 2024, arXiv:2310.10683.

Checked: kevinyaobytedance/llm_unlearn@647f309 and sail-sg/closer-look-LLM-unlearning@b622294, losses and gradients to
1e-9; the former's KL up to a constant, see 1.

Deviations:
1. The code takes the cross-entropy of the model under the reference for the KL: the two differ by the reference's
   entropy, a constant, so that gradients agree. It averages over all B*T positions, padding included; here over real
   tokens, or over `positions`. Its 1e-12 inside the logarithm is left out.
2. The code divides an answer's NLL by T_b + 1, having counted a last token that predicts nothing. Here by T_b.
3. The code finds the start of a random answer wrongly and trains the question as well; with padding to the model's
   maximal length its ascent term is 0. Here answers are what a row's labels say.
4. The code draws one set of random answers for a whole batch; here each prompt has its own.
5. The closer-look code has one random answer, taken from the retain data, token means, and a mismatch term weighted
   like the KL: `released("closer-look")`.
"""

from __future__ import annotations

from typing import Literal, get_args

from attrs import field, frozen
from attrs.validators import in_

from unlearnkit.objectives.cross_entropy import CrossEntropy, Reduction
from unlearnkit.objectives.gradient_ascent import GradientAscent
from unlearnkit.objectives.retain_kl import RetainKL
from unlearnkit.objectives.validators import finite
from unlearnkit.protocols import POSITIONS, Additive, Loss, Needs, Positions, Seen, WeightedSum


@frozen(kw_only=True)
class LLMU(Additive):
    """Ascent on "forget", descent on "random_answers", KL on "retain"; terms "ga", "nll_random_answers", "kl_retain".

    Attributes:
        forget_weight: of the ascent.
        mismatch_weight: of the random answers.
        retain_weight: of the KL.
        reduction: of the first two terms; with `sequence_mean` every answer weighs the same.
        positions: over which the KL is averaged.
    """

    forget_weight: float = field(default=0.5, validator=finite)
    mismatch_weight: float = field(default=1.0, validator=finite)
    retain_weight: float = field(default=1.0, validator=finite)
    reduction: Reduction = field(default="sequence_mean", validator=in_(get_args(Reduction)))
    positions: Positions = field(default="non_pad", validator=in_(POSITIONS))

    @classmethod
    def released(cls, code: Literal["llmu", "closer-look"]) -> LLMU:
        """The weights and the reduction of an official code base."""
        return cls() if code == "llmu" else cls(forget_weight=1.0, reduction="token")

    @property
    def terms(self) -> WeightedSum:
        return (
            self.forget_weight * GradientAscent(reduction=self.reduction)
            + self.mismatch_weight * CrossEntropy("random_answers", reduction=self.reduction)
            + self.retain_weight * RetainKL(positions=self.positions)
        )

    @property
    def needs(self) -> Needs:
        return self.terms.needs

    def __call__(self, seen: Seen) -> Loss:
        return self.terms(seen)
