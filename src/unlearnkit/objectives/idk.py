r"""IDK fine-tuning (IdkNLL, TOFU's "preference optimisation"): teach refusals to forget questions.

    L = NLL(idk) + retain_weight * NLL(retain)                                two token means (default)
    L = (sum_idk nll + sum_retain nll) / (M_idk + M_retain)                   one joint token mean

Role "idk" holds the forget questions, each with a refusal drawn once ("I don't know."). In the joint mean, retain data
outweighs the refusals by its number of tokens. Never negative, and minimal where both are learned.

To copy: both terms are those of cross_entropy.py.

Paper: Maini et al. TOFU. COLM 2024, arXiv:2401.06121.

Checked: locuslab/tofu@bdc209e and licong-lin/negative-preference-optimization@1207bbe (joint mean),
sail-sg/closer-look-LLM-unlearning@b622294, molereddy/Alternate-Preference-Optimization@c9b78bd (with its alternate
answers for refusals) and tmlr-group/G-effect@ef368ee (refusals only), losses and gradients to 1e-9.

Deviations: TOFU's paper writes the equal-weight sum, its code computes the joint mean. The default follows the paper;
`joint_mean=True` is the code.
"""

from __future__ import annotations

from typing import Literal

from attrs import Attribute, field, frozen

from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.objectives.validators import finite
from unlearnkit.protocols import Additive, Loss, Needs, Seen, Term, Unit, WeightedSum


@frozen(kw_only=True)
class IdkNLL(Additive):
    """Cross-entropy on refusals (role "idk") and on role "retain".

    Terms "nll_idk" and "nll_retain", or one term "nll_idk_retain" with `joint_mean`.

    Attributes:
        retain_weight: of the retain term; the joint mean knows no other than 1.
        joint_mean: one mean over the tokens of both roles instead of two means.
    """

    retain_weight: float = field(default=1.0, validator=finite)
    joint_mean: bool = field(default=False)

    @joint_mean.validator
    def _no_weight_in_a_joint_mean(self, _: Attribute[bool], joint_mean: bool) -> None:
        if joint_mean and self.retain_weight != 1:
            raise ValueError(
                f"'joint_mean' weighs every token alike, so that 'retain_weight' has to be 1: {self.retain_weight}. "
                "Set joint_mean=False to weight the retain term."
            )

    @classmethod
    def released(cls, code: Literal["tofu", "npo", "closer-look"]) -> IdkNLL:
        """The reduction of an official code base."""
        return cls(joint_mean={"tofu": True, "npo": True, "closer-look": False}[code])

    @property
    def terms(self) -> WeightedSum:
        return CrossEntropy("idk") + self.retain_weight * CrossEntropy("retain")

    @property
    def needs(self) -> Needs:
        return self.terms.needs

    def __call__(self, seen: Seen) -> Loss:
        separate = self.terms(seen)
        if not self.joint_mean:
            return separate
        idk, retain = separate
        return Loss(Term("nll_idk_retain", idk.value + retain.value, per=Unit("answer", ("idk", "retain"))))
