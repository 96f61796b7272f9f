"""A global step of the toy model, as estimates of its gradient see it."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.toy import Toy, toy_rows
from unlearnkit.batch import Row
from unlearnkit.gradient import At, exact
from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.objectives.npo import NPO
from unlearnkit.protocols import Objective
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
