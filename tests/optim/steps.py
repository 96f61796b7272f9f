"""A global step of the toy model, as estimates of its gradient see it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from tests.objectives.conformance import loss_of
from tests.toy import Toy, toy_rows
from unlearnkit.batch import Row
from unlearnkit.gradient import At, Means, exact
from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.objectives.gradient_ascent import GradientAscent
from unlearnkit.objectives.npo import NPO, npo_loss
from unlearnkit.protocols import Objective, WeightedSum
from unlearnkit.testing import Table
from unlearnkit.train import Engine

FORGET = toy_rows("forget", [(2, 3), (4, 1), (1, 6)])
RETAIN = toy_rows("retain", [(3, 4), (1, 2)], seed=1)
ROWS: tuple[Row, ...] = (*FORGET, *RETAIN)
BOTH = NPO(beta=0.5) + 0.7 * CrossEntropy("retain")


def at_toy(model: Toy, objective: Objective = BOTH, step: int = 0) -> At:
    """The step of all rows."""
    engine = Engine(models={"model": model, "reference": Toy(1).requires_grad_(False)})
    return At(
        step=step,
        objective=objective,
        parameters=tuple(model.parameters()),
        backward=lambda wanted: engine.backward(wanted, ROWS, step=step),
        value=lambda wanted: engine.value(wanted, ROWS, step=step),
    )


def taken(at: At) -> list[Tensor]:
    """What an estimate left in `.grad`, emptied."""
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in at.parameters]
    for parameter in at.parameters:
        parameter.grad = None
    return found


def exact_gradient(model: Toy, objective: Objective = BOTH) -> list[Tensor]:
    """The gradient itself, by a model of its own."""
    twin = Toy()
    twin.load_state_dict(model.state_dict())
    at = at_toy(twin, objective)
    exact(at)
    return taken(at)


# --- the linear read-out on which the authors' steps were recorded ----------------------------------------------------


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


def released_steps(shared: Path, kind: str) -> Iterator[tuple[str, Linear, Mapping[str, object]]]:
    """The recorded steps of a kind: name, a fresh read-out, and what was recorded."""
    content = json.loads((shared / "conformance" / "unlearn_smooth_a.json").read_text())
    for name, case in content["objectives"].items():
        if kind in name:
            yield name, Linear(content), case


def numbers(case: Mapping[str, object], name: str) -> Tensor:
    """A recorded tensor."""
    return torch.tensor(case[name], dtype=torch.float64)


def hyper(case: Mapping[str, object]) -> Mapping[str, float]:
    """A case's hyper-parameters."""
    found = case["hyper"]
    assert isinstance(found, dict)
    return found
