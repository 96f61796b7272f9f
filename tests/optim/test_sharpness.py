"""Sharpness-aware steps as the authors' code takes them."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.objectives.conformance import assert_agrees
from tests.optim.steps import hyper, numbers, released_steps
from unlearnkit.optim.points import unit
from unlearnkit.optim.sharpness import SharpnessAware


def test_official_steps(shared: Path) -> None:
    for name, toy, case in released_steps(shared, "sam"):
        rho, beta, gamma = (hyper(case)[key] for key in ("rho", "beta", "gamma"))
        (slope,) = torch.autograd.grad(toy.forget(name, beta), toy.readout)
        direction = slope / slope.norm()
        torch.testing.assert_close(unit([slope]), [direction])
        assert_agrees("unlearn_smooth", name, rho * direction, numbers(case, "epsilon"))
        SharpnessAware(rho=rho)(toy.at(name, beta, gamma))
        assert toy.readout.grad is not None
        assert_agrees("unlearn_smooth", name, toy.readout.grad, numbers(case, "final_grad_readout"))
        with torch.no_grad():
            toy.readout.add_(rho * direction)
        assert_agrees("unlearn_smooth", name, toy.forget(name, beta), numbers(case, "forget_loss_at_perturbed"))
