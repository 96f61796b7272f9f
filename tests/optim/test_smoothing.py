"""Smoothed steps as the authors' code takes them, with its noise."""

from __future__ import annotations

from pathlib import Path

from tests.objectives.conformance import assert_agrees
from tests.optim.steps import hyper, numbers, released_steps
from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.objectives.gradient_ascent import GradientAscent
from unlearnkit.optim.points import put
from unlearnkit.optim.smoothing import mean_gradient
from unlearnkit.protocols import WeightedSum


def test_official_steps(shared: Path) -> None:
    for name, toy, case in released_steps(shared, "_rs"):
        sigma, beta, gamma = (hyper(case)[key] for key in ("sigma", "beta", "gamma"))
        at = toy.at(name, beta, gamma)
        shifts = [[sigma * draw] for draw in numbers(case, "noise")]
        gradient, _ = mean_gradient(at, WeightedSum(((1.0, GradientAscent()),)), shifts)
        put(at, gradient)
        at.backward(WeightedSum(((gamma, CrossEntropy("retain")),)))
        assert toy.readout.grad is not None
        assert_agrees("unlearn_smooth", name, toy.readout.grad, numbers(case, "final_grad_readout"))
