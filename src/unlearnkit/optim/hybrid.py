r"""Hybrid first- and zeroth-order unlearning: some steps with the gradient, then as many with its estimate, and again.

    steps 0 … N-1 exact, N … 2N-1 estimated, 2N … exact …

First-order steps forget fast; zeroth-order steps end where the loss is flat, which relearning and quantization undo
less. Let the number of steps be a multiple of 2N, so that a run ends with the estimate.

    unlearn(model, NPO() + CrossEntropy("retain"), data, gradient=Alternating(period=20), ...)

Aliases:
    period: N (paper)

Reconstructed: the alternation, N of about 20 and the ratio 1:1 are the paper's. Whether the two phases share the state
of Adam is not said; here they do, since a run has one optimizer.

Paper: Lang et al. Downgrade to Upgrade: Optimizer Simplification Enhances Robustness in LLM Unlearning. ICLR 2026,
arXiv:2510.00761.

Checked: a run of exact steps only, and of estimated steps only.

Deviations: none known; no code was released.
"""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge, min_len

from unlearnkit.gradient import At, Gradient, Means, exact
from unlearnkit.optim.zeroth_order import ZerothOrder


@frozen(kw_only=True)
class Alternating:
    """Ways of finding the gradient, each for `period` steps in turn.

    Attributes:
        phases: the ways, in order.
        period: steps of each.
    """

    phases: tuple[Gradient, ...] = field(default=(exact, ZerothOrder()), validator=min_len(1))
    period: int = field(default=20, validator=ge(1))

    def __call__(self, at: At) -> Means:
        return self.phases[at.step // self.period % len(self.phases)](at)
