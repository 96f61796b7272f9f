r"""Zeroth-order unlearning: estimate the gradient from losses alone, by looking a little way to both sides.

    g = (1/q) * sum_i  s * [L(theta + mu u_i) - L(theta - mu u_i)] / (2 mu) * u_i

u_i is standard normal ("gaussian", s = 1) or uniform on the unit sphere of all d trained parameters ("sphere", s = d
with `scale_by_dim`, else 1). Both evaluations are of the same rows, with dropout off. No direction is stored: each is
drawn again from its seed, first to move the model, then to write the gradient. 2q forward passes and no backward pass;
a copy of the trained parameters brings them back exactly.

For gaussian u the estimate is unbiased for the gradient of E_u L(theta + mu u); for u on the sphere, d times it for the
gradient of the mean of L over the *ball* of radius mu.

    unlearn(model, NPO() + CrossEntropy("retain"), data, gradient=ZerothOrder(), ...)

Aliases:
    mu: mu (paper), zo_eps (ZO-Bench)
    directions: q (paper), num_perturbation (ZO-Bench)

Reconstructed: the optimizer study gives the two-point estimate on the sphere, with a variance reduction ("AdaZO") that
is not spelled out. Here the estimate goes to whatever optimizer is used, Adam for instance, and its scale is an option.

Papers: Lang et al. Downgrade to Upgrade: Optimizer Simplification Enhances Robustness in LLM Unlearning. ICLR 2026,
arXiv:2510.00761. Malladi et al. Fine-Tuning Language Models with Just Forward Passes. NeurIPS 2023, arXiv:2305.17333
(directions from seeds).

Checked: closed forms. The step of ZO-LLM/ZO-Bench@bf210fa is this one with q = 1 and gaussian directions.

Deviations: ZO-Bench puts the parameters back by adding and subtracting, which leaves rounding errors behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from attrs import field, frozen
from attrs.validators import ge, gt
from torch import Tensor

from unlearnkit.gradient import At, Means
from unlearnkit.optim.noise import gaussian
from unlearnkit.optim.points import moved


@frozen(kw_only=True)
class ZerothOrder:
    """The two-point estimate of the gradient.

    Attributes:
        mu: how far to each side.
        directions: q, how many are averaged.
        distribution: of directions.
        scale_by_dim: multiply by d, on the sphere; without it the learning rate has to make up for it.
        seed: of directions, beside the step's number.
    """

    mu: float = field(default=1e-3, validator=gt(0.0))
    directions: int = field(default=1, validator=ge(1))
    distribution: Literal["gaussian", "sphere"] = "gaussian"
    scale_by_dim: bool = True
    seed: int = 0

    def __call__(self, at: At) -> Means:
        slopes = [self._slope(at, number) for number in range(self.directions)]
        for number, (slope, _) in enumerate(slopes):
            for parameter, direction in zip(at.parameters, self._direction(at, number), strict=True):
                part = (slope / self.directions).to(direction) * direction
                parameter.grad = part if parameter.grad is None else parameter.grad + part
        return slopes[0][1]

    def _slope(self, at: At, number: int) -> tuple[Tensor, Means]:
        """The loss's slope along a direction, and the means on its far side."""
        with moved(at.parameters, (self.mu * direction for direction in self._direction(at, number))):
            ahead = at.value(at.objective)
        with moved(at.parameters, (-self.mu * direction for direction in self._direction(at, number))):
            behind = at.value(at.objective)
        return self._scale(at) * (ahead.loss - behind.loss) / (2 * self.mu), ahead

    def _direction(self, at: At, number: int) -> Iterator[Tensor]:
        """Drawn anew at each call, one tensor at a time."""
        key = (self.seed, "zeroth order", at.step, number)
        drawn = gaussian(at.parameters, *key)
        if self.distribution == "gaussian":
            return drawn
        squares = [tensor.double().square().sum() for tensor in gaussian(at.parameters, *key)]
        length = torch.stack(squares).sum().sqrt()
        return ((tensor / length).to(tensor) for tensor in drawn)

    def _scale(self, at: At) -> float:
        if self.distribution == "sphere" and self.scale_by_dim:
            return float(sum(parameter.numel() for parameter in at.parameters))
        return 1.0
