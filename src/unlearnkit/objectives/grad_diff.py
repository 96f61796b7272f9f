r"""Gradient difference (GradDiff, GA+GD): ascend on forget answers, descend on retain answers.

    L = -forget_weight * NLL(forget) + retain_weight * NLL(retain)        two token means, each over its own tokens

Linear in both weights: `retain_weight=0` is gradient ascent, `forget_weight=0` fine-tuning on retain data.

To copy: the two terms are those of gradient_ascent.py and cross_entropy.py.

Papers: Liu, Liu, Stone. Continual Learning and Private Unlearning. CoLLAs 2022, arXiv:2203.12817 (the name).
Maini et al. TOFU. COLM 2024, arXiv:2401.06121 (for language models).

Checked: locuslab/tofu@bdc209e, licong-lin/negative-preference-optimization@1207bbe, OPTML-Group/Unlearn-Simple@f1a355d
(its WMDP and MUSE folders), molereddy/Alternate-Preference-Optimization@c9b78bd,
sail-sg/closer-look-LLM-unlearning@b622294, tmlr-group/G-effect@ef368ee, UCSB-NLP-Chang/ULD@858608c and
jaechan-repo/muse_bench@54719c5, losses and gradients to 1e-9.

Deviations: none.
"""

from __future__ import annotations

from attrs import field, frozen

from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.objectives.gradient_ascent import GradientAscent
from unlearnkit.objectives.validators import finite
from unlearnkit.protocols import Additive, Loss, Needs, Seen, WeightedSum


@frozen(kw_only=True)
class GradDiff(Additive):
    """Gradient ascent on role "forget" plus cross-entropy on role "retain"; terms "ga" and "nll_retain".

    Attributes:
        forget_weight: of the ascent.
        retain_weight: of the descent.
    """

    forget_weight: float = field(default=1.0, validator=finite)
    retain_weight: float = field(default=1.0, validator=finite)

    @property
    def terms(self) -> WeightedSum:
        return self.forget_weight * GradientAscent() + self.retain_weight * CrossEntropy("retain")

    @property
    def needs(self) -> Needs:
        return self.terms.needs

    def __call__(self, seen: Seen) -> Loss:
        return self.terms(seen)
