r"""GA + KL: ascend on forget answers while the output distributions are tied to the reference.

    L = -NLL(forget) + retain_weight * KL(ref || model)        token mean; KL averaged over real tokens

At the reference the KL is at its minimum, so that the first gradient is exactly gradient ascent's.

To copy: the two terms are those of gradient_ascent.py and retain_kl.py.

Aliases:
    retain_weight: KL_coeff (NPO's code), alpha (OpenUnlearning)

Paper: Maini et al. TOFU ("KL minimization"). COLM 2024, arXiv:2401.06121.

Checked: locuslab/tofu@bdc209e, licong-lin/negative-preference-optimization@1207bbe (KL on retain and on forget data),
molereddy/Alternate-Preference-Optimization@c9b78bd, sail-sg/closer-look-LLM-unlearning@b622294,
tmlr-group/G-effect@ef368ee, UCSB-NLP-Chang/ULD@858608c and the synthetic experiment of
OPTML-Group/Unlearn-Simple@f1a355d, losses and gradients to 1e-9.

Deviations: those of retain_kl.py, padding above all.
"""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen
from attrs.validators import in_

from unlearnkit.objectives.gradient_ascent import GradientAscent
from unlearnkit.objectives.retain_kl import RetainKL
from unlearnkit.objectives.validators import finite
from unlearnkit.protocols import POSITIONS, Additive, Loss, Needs, Positions, Seen, WeightedSum


@frozen(kw_only=True)
class GradientAscentKL(Additive):
    """Gradient ascent on role "forget" plus `RetainKL`; terms "ga" and "kl_retain" or "kl_forget".

    Attributes:
        retain_weight: of the KL.
        kl_role: the data on which the model is held: "retain", or "forget" as one variant of NPO's code has it.
        positions: over which the KL is averaged.
    """

    retain_weight: float = field(default=1.0, validator=finite)
    kl_role: Literal["retain", "forget"] = field(default="retain", validator=in_(("retain", "forget")))
    positions: Positions = field(default="non_pad", validator=in_(POSITIONS))

    @property
    def terms(self) -> WeightedSum:
        return GradientAscent() + self.retain_weight * RetainKL(self.kl_role, positions=self.positions)

    @property
    def needs(self) -> Needs:
        return self.terms.needs

    def __call__(self, seen: Seen) -> Loss:
        return self.terms(seen)
