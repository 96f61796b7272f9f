r"""Gradient difference (GradDiff, GA+GD): ascend on forget answers, descend on retain answers.

    L = -forget_weight * NLL(forget) + retain_weight * NLL(retain)        two token means, each over its own tokens

Linear in both weights: `retain_weight=0` is gradient ascent, `forget_weight=0` fine-tuning on retain data. With
`reduction="sequence_mean"` it is the ascent plus descent of Yao et al., who take one mean over as many forget as retain
sequences: half of the sum of two means, `released("pretrained-unlearning")`.

Aliases:
    forget_weight: gamma (OpenUnlearning)
    retain_weight: alpha (OpenUnlearning), positive_factor (Yao et al., code)

To copy: the two terms are those of gradient_ascent.py and cross_entropy.py.

Papers: Liu, Liu, Stone. Continual Learning and Private Unlearning. CoLLAs 2022, arXiv:2203.12817 (the name).
Maini et al. TOFU. COLM 2024, arXiv:2401.06121 (for language models). Yao et al. Machine Unlearning of Pre-trained
Large Language Models. ACL 2024, arXiv:2402.15159 (sequence means).

Checked: locuslab/tofu@bdc209e, licong-lin/negative-preference-optimization@1207bbe, OPTML-Group/Unlearn-Simple@f1a355d
(its WMDP and MUSE folders), molereddy/Alternate-Preference-Optimization@c9b78bd,
sail-sg/closer-look-LLM-unlearning@b622294, tmlr-group/G-effect@ef368ee, UCSB-NLP-Chang/ULD@858608c,
jaechan-repo/muse_bench@54719c5 and yaojin17/Unlearning_LLM@d4b1287, losses and gradients to 1e-9.

Deviations: none.
"""

from __future__ import annotations

from typing import Literal, get_args

from attrs import field, frozen
from attrs.validators import in_

from unlearnkit.objectives.cross_entropy import CrossEntropy, Reduction
from unlearnkit.objectives.gradient_ascent import GradientAscent
from unlearnkit.objectives.validators import finite
from unlearnkit.protocols import Additive, Loss, Needs, Seen, WeightedSum


@frozen(kw_only=True)
class GradDiff(Additive):
    """Gradient ascent on role "forget" plus cross-entropy on role "retain"; terms "ga" and "nll_retain".

    Attributes:
        forget_weight: of the ascent.
        retain_weight: of the descent.
        reduction: what is averaged, in both terms; with `token`, long answers weigh more.
    """

    forget_weight: float = field(default=1.0, validator=finite)
    retain_weight: float = field(default=1.0, validator=finite)
    reduction: Reduction = field(default="token", validator=in_(get_args(Reduction)))

    @classmethod
    def released(cls, code: Literal["tofu", "pretrained-unlearning"]) -> GradDiff:
        """The weights and the reduction of an official code base."""
        if code == "tofu":
            return cls()
        return cls(forget_weight=0.5, retain_weight=0.5, reduction="sequence_mean")

    @property
    def terms(self) -> WeightedSum:
        ascent = GradientAscent(reduction=self.reduction)
        return self.forget_weight * ascent + self.retain_weight * CrossEntropy("retain", reduction=self.reduction)

    @property
    def needs(self) -> Needs:
        return self.terms.needs

    def __call__(self, seen: Seen) -> Loss:
        return self.terms(seen)
