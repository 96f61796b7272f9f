r"""Retain KL: keep the next-token distributions on retain data where the frozen reference has them.

    L = mean_t sum_v p_ref(v) * (log p_ref(v) - log p(v))        forward KL(ref || model), over positions t

The reference comes first, the gradient flows through the model only; with respect to the logits it is (p - p_ref) / N.
Zero, with zero gradient, at the reference, which has to be a live model: no recording holds whole distributions.

Papers: Maini et al. TOFU ("KL minimization"). COLM 2024, arXiv:2401.06121. Zhang, Lin, Bai, Mei (NPO+KL). COLM 2024,
arXiv:2404.05868. Shi et al. MUSE (KLR), arXiv:2407.06460.

Checked: licong-lin/negative-preference-optimization@1207bbe, locuslab/tofu@bdc209e, locuslab/open-unlearning@d3d7cf9,
molereddy/Alternate-Preference-Optimization@c9b78bd, sail-sg/closer-look-LLM-unlearning@b622294,
tmlr-group/G-effect@ef368ee and UCSB-NLP-Chang/ULD@858608c, losses and gradients to 1e-9.

Deviations:
1. Every code base averages over all B*T positions, padding included, so that its value depends on how far the batch
   was padded (to 500 tokens in TOFU). This is not offered: padding never reaches an objective here. The default
   averages over real tokens, prompt included; the papers write `positions="answer"`.
2. MUSE's code feeds raw logits where log-probabilities belong and divides by B only: `released("muse")` is that other
   loss, from raw_logits.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from attrs import field, frozen
from attrs.validators import in_
from torch import Tensor

from unlearnkit.protocols import POSITIONS, Additive, Compared, Loss, Needs, Positions, Seen, Term, Unit

if TYPE_CHECKING:
    from unlearnkit.objectives.raw_logits import RawLogitKL


def forward_kl(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """KL(reference || model) at each position, unreduced: [N, V], [N, V] -> [N], in nats, >= 0.

    Args:
        logits: [N, V] under the model.
        reference_logits: [N, V] under the reference; a constant.
    """
    log_probs = torch.log_softmax(logits, -1)
    reference_log_probs = torch.log_softmax(reference_logits.detach(), -1)
    return (reference_log_probs.exp() * (reference_log_probs - log_probs)).sum(-1)


@frozen
class ForwardKL:
    """`forward_kl` at each position."""

    uses_labels = False

    def __call__(self, logits: Tensor, reference_logits: Tensor, labels: Tensor) -> Tensor:
        return forward_kl(logits, reference_logits)


@frozen
class RetainKL(Additive):
    """`forward_kl` averaged over the positions of a role in the global step.

    Attributes:
        role: where the model is held.
        positions: "non_pad" every real token, "text" those with a next token, "answer" those that predict an answer.
        of: the name of the model to stay close to.
        name: what the term is logged as. Default: "kl_" and the role.
    """

    role: str = "retain"
    positions: Positions = field(default="non_pad", kw_only=True, validator=in_(POSITIONS))
    of: str = field(default="reference", kw_only=True)
    name: str = field(kw_only=True)

    @name.default
    def _named_after_the_role(self) -> str:
        return f"kl_{self.role}"

    @classmethod
    def released(cls, code: Literal["muse"]) -> RawLogitKL:
        """What MUSE's code calls KL: another loss, on raw logits."""
        from unlearnkit.objectives.raw_logits import RawLogitKL

        return {"muse": RawLogitKL()}[code]

    @property
    def divergence(self) -> Compared:
        return Compared(ForwardKL(), self.role, of=self.of, positions=self.positions)

    @property
    def needs(self) -> Needs:
        return frozenset({self.divergence})

    def __call__(self, seen: Seen) -> Loss:
        each = seen[self.divergence].values
        return Loss(Term(self.name, each.sum(), per=Unit(self.positions, self.role)))
