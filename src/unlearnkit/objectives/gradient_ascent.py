r"""Gradient ascent (GA): unlearn by undoing the training step, that is, by minimising minus the fine-tuning loss.

    L = -NLL(forget)        token mean by default; the other reductions of `CrossEntropy` on request

Nothing bounds it from below. A token's gradient with respect to its logits is (onehot(y) - p) / M, with M supervised
tokens: it vanishes where the model is sure of the token, and does not vanish once the token is forgotten. The loss
diverges and the model collapses unless a retain term or a short run prevents it.

To copy: `-sequence_nll(...).sum() / tokens`, with `sequence_nll` from cross_entropy.py.

Papers: Jang et al. Knowledge Unlearning for Mitigating Privacy Risks in Language Models. ACL 2023, arXiv:2210.01504.
Maini et al. TOFU. COLM 2024, arXiv:2401.06121.

Checked: locuslab/tofu@bdc209e, locuslab/open-unlearning@d3d7cf9, licong-lin/negative-preference-optimization@1207bbe,
tmlr-group/G-effect@ef368ee, molereddy/Alternate-Preference-Optimization@c9b78bd and jaechan-repo/muse_bench@54719c5,
losses and gradients to 1e-9; princeton-pli/impossibility-unlearning@de1cc83, which computes in float32, to 1e-6.

Deviations: papers write a sum or a mean over sequences, every code base takes the token mean; so do we by default
(`reduction="sequence_sum"` is the papers').
"""

from __future__ import annotations

from typing import get_args

from attrs import evolve, field, frozen
from attrs.validators import in_

from unlearnkit.objectives.cross_entropy import CrossEntropy, Reduction
from unlearnkit.protocols import Additive, Loss, Needs, Seen


@frozen
class GradientAscent(Additive):
    """Minus the `CrossEntropy` of a role's answers, and nothing else: no clipping, no bound.

    Attributes:
        role: whose answers are unlearned.
        reduction: what is averaged; with `token`, long answers weigh more.
        name: what the term is logged as; the logged value is the log-likelihood, in nats.
    """

    role: str = "forget"
    reduction: Reduction = field(default="token", kw_only=True, validator=in_(get_args(Reduction)))
    name: str = field(default="ga", kw_only=True)

    @property
    def descent(self) -> CrossEntropy:
        """The fine-tuning loss that is turned around."""
        return CrossEntropy(self.role, reduction=self.reduction, name=self.name)

    @property
    def needs(self) -> Needs:
        return self.descent.needs

    def __call__(self, seen: Seen) -> Loss:
        return Loss(*(evolve(term, value=-term.value) for term in self.descent(seen)))
