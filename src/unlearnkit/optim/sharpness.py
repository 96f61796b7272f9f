r"""SAM for unlearning: take the forget gradient where it is worst nearby, so that relearning finds no short way back.

    g = grad L_f(theta),    g_f = grad L_f(theta + rho * g / |g|),    step along g_f + grad L_r(theta)

One global L2 norm over all trained parameters. The retain terms are differentiated where the model is. Twice the cost
of a step on the forget terms; two more copies of the trained parameters.

    unlearn(model, NPO() + CrossEntropy("retain"), data, gradient=SharpnessAware(rho=0.01), ...)

Aliases:
    rho: rho (paper), sam_rho (released code)

Papers: Foret et al. Sharpness-Aware Minimization. ICLR 2021, arXiv:2010.01412. For unlearning: Fan et al. Towards LLM
Unlearning Resilient to Relearning Attacks: A Sharpness-Aware Minimization Perspective and Beyond. ICML 2025,
arXiv:2502.05374.

Checked: OPTML-Group/Unlearn-Smooth@fc655ba, perturbation, loss and final gradient of a step to 1e-9.

Deviations:
1. The release clears and overwrites `.grad` in every micro-batch, so that with gradient accumulation only the last one
   counts; here a step is whole.
2. It drops parameters without a gradient from the list of directions and pairs the two lists by place. Here they have
   direction zero.
3. Its NPO is on the mean NLL of a batch (hence beta = 0.015) and, in its MUSE folder, on raw logits; the objective is
   yours to choose here.
"""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge

from unlearnkit.gradient import At, Means
from unlearnkit.optim.points import gradient_of, moved, put, scaled, split, together, unit


@frozen(kw_only=True)
class SharpnessAware:
    """The gradient of what is forgotten at a nearby worst point, that of everything else where the model is.

    Attributes:
        rho: how far away; 0 is the exact gradient.
        role: what is forgotten; the summands that read it are moved.
    """

    rho: float = field(default=0.01, validator=ge(0.0))
    role: str = "forget"

    def __call__(self, at: At) -> Means:
        forget, rest = split(at.objective, self.role)
        ascent, means = gradient_of(at, forget)
        with moved(at.parameters, scaled(unit(ascent), self.rho)):
            there, _ = gradient_of(at, forget)
        put(at, there)
        return means if rest is None else together(means, at.backward(rest))
