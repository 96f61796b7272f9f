r"""Randomized smoothing (RS) for unlearning: the mean of the forget gradient around the model.

    g_f = (1/n) * sum_j grad L_f(theta + sigma * xi_j),    xi_j ~ N(0, I)

Retain terms are differentiated where the model is. n times the cost of a step on the forget terms.

Aliases:
    sigma: sigma (paper), noise std (released code)
    draws: 3 (fixed in released code)

Paper: Fan et al. Towards LLM Unlearning Resilient to Relearning Attacks: A Sharpness-Aware Minimization Perspective and
Beyond. ICML 2025, arXiv:2502.05374.

Checked: OPTML-Group/Unlearn-Smooth@fc655ba, final gradient of a step with its recorded noise to 1e-9.

Deviations: the release calls the optimizer inside its training step, in every micro-batch; here a step is whole. Noise
follows from the seed, the step and the parameter's place, so that it is the same on every process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from attrs import field, frozen
from attrs.validators import ge
from torch import Tensor

from unlearnkit.gradient import At, Means
from unlearnkit.optim.noise import gaussian
from unlearnkit.optim.points import gradient_of, moved, put, split, summed, together
from unlearnkit.protocols import Objective


def mean_gradient(
    at: At, objective: Objective, shifts: Sequence[Iterable[Tensor]]
) -> tuple[list[Tensor | None], Means]:
    """The mean of an objective's gradient at several places around the model, and of its terms there."""
    gradient: list[Tensor | None] = [None] * len(at.parameters)
    seen = []
    for shift in shifts:
        with moved(at.parameters, shift):
            slope, means = gradient_of(at, objective)
        gradient = summed(gradient, slope, 1 / len(shifts))
        seen.append(means)
    terms = {name: torch.stack([means.terms[name] for means in seen]).mean() for name in seen[0].terms}
    return gradient, Means(terms, torch.stack([means.loss for means in seen]).mean())


@frozen(kw_only=True)
class RandomizedSmoothing:
    """The mean forget gradient over a few random places around the model. Logged forget terms are means there too.

    Attributes:
        sigma: standard deviation of the noise on every parameter.
        draws: how many places.
        role: what is forgotten; the summands that read it are smoothed.
        seed: of the noise.
    """

    sigma: float = field(default=1e-4, validator=ge(0.0))
    draws: int = field(default=3, validator=ge(1))
    role: str = "forget"
    seed: int = 0

    def __call__(self, at: At) -> Means:
        forget, rest = split(at.objective, self.role)
        shifts = [
            (self.sigma * noise for noise in gaussian(at.parameters, self.seed, "smoothing", at.step, number))
            for number in range(self.draws)
        ]
        gradient, means = mean_gradient(at, forget, shifts)
        put(at, gradient)
        return means if rest is None else together(means, at.backward(rest))
