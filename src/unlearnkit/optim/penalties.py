r"""Gradient penalty (GP) and curvature regularisation (CR): make the forget loss flat, or evenly sloped, at the model.

    GP:  L + rho * |grad L_f(theta)|
    CR:  L + rho * |grad L_f(theta + width * u) - grad L_f(theta)|,    u = grad L_f / |grad L_f|

The penalties' own gradients are products of the Hessian with a direction, found here from two gradients a short way
apart: H u = [grad L_f(theta + h u) - grad L_f(theta)] / h. GP costs two gradients of the forget terms, CR four.

Aliases:
    rho: rho (paper), gp_rho, cr_rho (released code)
    width: 0.01 (fixed in released code)

Paper: Fan et al. Towards LLM Unlearning Resilient to Relearning Attacks: A Sharpness-Aware Minimization Perspective and
Beyond. ICML 2025, arXiv:2502.05374.

Checked: closed forms of quadratic losses. No numbers of OPTML-Group/Unlearn-Smooth@fc655ba were recorded for these two.

Deviations:
1. The release reads both norms as Python numbers, so that the penalties have no gradient and change nothing but the
   reported loss; GP multiplies by a fixed 0.01 instead of rho. Here they are differentiated.
2. For CR the release backpropagates the forget loss once for the direction and never clears it: the forget gradient
   counts twice. Here once.
3. In CR the direction u is a constant of the step.
"""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge, gt
from torch import Tensor

from unlearnkit.gradient import At, Means
from unlearnkit.optim.points import Slopes, gradient_of, moved, put, scaled, split, summed, together, unit
from unlearnkit.protocols import Objective


def curvature_along(at: At, objective: Objective, here: Slopes, along: Slopes, h: float) -> list[Tensor | None]:
    """The Hessian times a unit direction, from the gradient here and the one a distance h away."""
    with moved(at.parameters, scaled(along, h)):
        there, _ = gradient_of(at, objective)
    return scaled(summed(there, here, -1.0), 1 / h)


@frozen(kw_only=True)
class GradientPenalty:
    """The gradient of the objective plus `rho` times the norm of the forget gradient.

    Attributes:
        rho: weight of the penalty.
        h: distance of the two gradients that make a Hessian product.
        role: what is forgotten.
    """

    rho: float = field(default=10.0, validator=ge(0.0))
    h: float = field(default=1e-2, validator=gt(0.0))
    role: str = "forget"

    def __call__(self, at: At) -> Means:
        forget, rest = split(at.objective, self.role)
        slope, means = gradient_of(at, forget)
        bend = curvature_along(at, forget, slope, unit(slope), self.h)
        put(at, summed(slope, bend, self.rho))
        return means if rest is None else together(means, at.backward(rest))


@frozen(kw_only=True)
class CurvaturePenalty:
    """The gradient of the objective plus `rho` times how far the forget gradient turns a short way ahead.

    Attributes:
        rho: weight of the penalty.
        width: how far ahead.
        h: distance of the two gradients that make a Hessian product.
        role: what is forgotten.
    """

    rho: float = field(default=10.0, validator=ge(0.0))
    width: float = field(default=1e-2, validator=gt(0.0))
    h: float = field(default=1e-2, validator=gt(0.0))
    role: str = "forget"

    def __call__(self, at: At) -> Means:
        forget, rest = split(at.objective, self.role)
        here, means = gradient_of(at, forget)
        with moved(at.parameters, scaled(unit(here), self.width)):
            there, _ = gradient_of(at, forget)
            turn = unit(summed(there, here, -1.0))
            bend_there = curvature_along(at, forget, there, turn, self.h)
        bend_here = curvature_along(at, forget, here, turn, self.h)
        put(at, summed(here, summed(bend_there, bend_here, -1.0), self.rho))
        return means if rest is None else together(means, at.backward(rest))
