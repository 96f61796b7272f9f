"""One step of sharpness-aware and smoothed unlearning, as the authors' code takes it on a linear read-out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from tests.objectives.conformance import assert_agrees, loss_of
from unlearnkit.gradient import At, Means
from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.objectives.gradient_ascent import GradientAscent
from unlearnkit.objectives.npo import npo_loss
from unlearnkit.optim.points import norm
from unlearnkit.optim.sharpness import SharpnessAware
from unlearnkit.optim.smoothing import mean_gradient
from unlearnkit.protocols import Objective, WeightedSum
from unlearnkit.testing import Table

CASES = ("ga_ft_sam", "npo_ft_sam", "npo_ft_rs")


class Linear:
    """logits = hidden @ readout, the read-out alone is trained; the reference reads other states with the same one."""

    def __init__(self, content: Mapping[str, Mapping[str, object]]) -> None:
        self.readout = torch.nn.Parameter(torch.tensor(content["readout"], dtype=torch.float64))
        self.before = self.readout.detach().clone()
        self.hidden = {name: torch.tensor(values, dtype=torch.float64) for name, values in content["hidden"].items()}
        self.labels = {
            name: torch.tensor(batch["labels"])  # type: ignore[index]
            for name, batch in content["batches"].items()
        }

    def nll(self, role: str) -> Tensor:
        """The token mean of a batch's answers."""
        table = Table(self.hidden[role] @ self.readout, self.labels[role])
        return loss_of(CrossEntropy("forget"), {"forget": table})

    def reference_nll(self) -> Tensor:
        """The same of the frozen reference, which does not move along."""
        table = Table(self.hidden["ref_forget"] @ self.before, self.labels["forget"])
        return loss_of(CrossEntropy("forget"), {"forget": table})

    def forget(self, case: str, beta: float) -> Tensor:
        """Ascent, or NPO with the token mean of a batch in the place of a sequence's sum."""
        if case.startswith("ga"):
            return -self.nll("forget")
        return npo_loss(-self.nll("forget"), -self.reference_nll(), beta=beta)

    def at(self, case: str, beta: float, gamma: float) -> At:
        """A step whose forget part is the case's, and whose other part is `gamma` times the retain NLL."""

        def loss(objective: Objective) -> Tensor:
            assert isinstance(objective, WeightedSum)
            parts = []
            for weight, part in objective.summands:
                retain = "retain" in {need.role for need in part.needs}
                parts.append(weight * (self.nll("retain") if retain else self.forget(case, beta)))
            return torch.stack(parts).sum()

        def value(objective: Objective) -> Means:
            found = loss(objective)
            return Means({str(objective): found.detach()}, found.detach())

        def backward(objective: Objective) -> Means:
            found = loss(objective)
            (slope,) = torch.autograd.grad(found, self.readout)
            self.readout.grad = slope if self.readout.grad is None else self.readout.grad + slope
            return Means({str(objective): found.detach()}, found.detach())

        objective = GradientAscent() + gamma * CrossEntropy("retain")
        return At(step=0, objective=objective, parameters=(self.readout,), backward=backward, value=value)


def test_official_steps(shared: Path) -> None:
    content = json.loads((shared / "conformance" / "unlearn_smooth_a.json").read_text())
    toy = Linear(content)
    for name, case in content["objectives"].items():
        toy.readout.grad = None
        hyper = case["hyper"]
        at = toy.at(name, hyper["beta"], hyper["gamma"])
        forget = WeightedSum(((1.0, GradientAscent()),))
        if "sam" in name:
            means = SharpnessAware(rho=hyper["rho"])(at)
            slope = torch.autograd.grad(toy.forget(name, hyper["beta"]), toy.readout)[0]
            epsilon = hyper["rho"] * slope / norm([slope])
            assert_agrees("unlearn_smooth", name, epsilon, torch.tensor(case["epsilon"], dtype=torch.float64))
            if hyper["rho"] == 0:
                assert_agrees("unlearn_smooth", name, means.loss, case["reported_loss"])
        else:
            noise = torch.tensor(case["noise"], dtype=torch.float64)
            shifts = [[hyper["sigma"] * draw] for draw in noise]
            gradient, _ = mean_gradient(at, forget, shifts)
            at.backward(WeightedSum(((hyper["gamma"], CrossEntropy("retain")),)))
            assert toy.readout.grad is not None
            toy.readout.grad += gradient[0]
        assert toy.readout.grad is not None
        expected = torch.tensor(case["final_grad_readout"], dtype=torch.float64)
        assert_agrees("unlearn_smooth", name, toy.readout.grad, expected)
