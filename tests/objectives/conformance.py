"""Compare objectives with recorded losses and gradients of official code, and the fixture with numbers worked by hand."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from attrs import evolve, frozen
from torch import Tensor

from tests.tables import recorded
from unlearnkit.protocols import Objective, WeightedSum
from unlearnkit.testing import Table, seen_from_tables, total

Tables = Mapping[str, Table]
"""Role -> table."""

PREFERRED = {"open_unlearning": "alternate", "altpo": "alternate", "uld": "prefer", "closer_look": "forget_idk"}
"""What the recorded file calls the batch whose role is "idk" here."""

Supervised = Literal["labels", "all ids"]
"""Some code supervises every token instead of the recorded labels, padding included."""


def loss_of(objective: Objective, model: Tables, reference: Tables | None = None) -> Tensor:
    """The objective's total, each role's table being the whole global step."""
    seen = seen_from_tables(objective.needs, {"model": model, "reference": reference or {}})
    return total(objective(seen), model)


@frozen
class Agreement:
    """What a comparison with a recorded number found: the test, the recorded file and case, and the difference.

    `methods` are the classes that were compared; empty if only the test's file says which method it was.
    """

    test: str
    source: str
    case: str
    difference: float
    methods: tuple[str, ...] = ()


AGREEMENTS: list[Agreement] = []
"""Every comparison that held, in this process; `python -m unlearnkit verify` reads them."""


def assert_agrees(
    source: str,
    case: str,
    found: Tensor | float,
    expected: Tensor | float,
    *,
    tolerance: float = 1e-9,
    methods: tuple[str, ...] = (),
) -> None:
    """Each number found differs from the recorded one by at most `tolerance` times max(1, |recorded|)."""
    mine, theirs = (torch.as_tensor(value, dtype=torch.float64).detach() for value in (found, expected))
    assert mine.shape == theirs.shape, f"{source}/{case}: shape {tuple(mine.shape)}, recorded {tuple(theirs.shape)}"
    difference = ((mine - theirs).abs() / theirs.abs().clamp(min=1)).max().item() if mine.numel() else 0.0
    assert difference <= tolerance, f"{source}/{case}: differs by {difference:.1e}, tolerance {tolerance:.0e}"
    AGREEMENTS.append(Agreement(os.environ.get("PYTEST_CURRENT_TEST", ""), source, case, difference, methods))


def classes(objective: Objective) -> tuple[str, ...]:
    """The names of what an objective is, and of what it is a sum of."""
    if isinstance(objective, WeightedSum):
        return tuple(name for _, part in objective.summands for name in classes(part))
    terms = getattr(objective, "terms", None)
    inside = classes(terms) if isinstance(terms, WeightedSum) else ()
    return (type(objective).__name__, *inside)


def assert_reproduces(
    shared: Path,
    source: str,
    case: str,
    objective: Objective,
    *,
    supervised: Supervised = "labels",
    padding_is_text: bool = True,
    times: float = 1.0,
    tolerance: float = 1e-9,
) -> None:
    """`times` the objective has the loss and the gradients of a recorded case, and no other gradients.

    With `padding_is_text`, padding is declared real: official code takes its KL over every position.
    """
    file = recorded(shared, source)
    labels = _labels(shared, source, supervised)
    renamed = {"idk": PREFERRED[source]} if source in PREFERRED else {}
    models: dict[str, dict[str, Table]] = {}
    for of, tables in (("model", file.model), ("reference", file.reference)):
        models[of] = {
            name: evolve(
                table,
                labels=labels.get(name, table.labels),
                mask=torch.ones_like(table.mask) if padding_is_text else table.mask,
            )
            for name, table in tables.items()
        }
        models[of] |= {ours: models[of][theirs] for ours, theirs in renamed.items()}
    loss = times * loss_of(objective, models["model"], models["reference"])
    expected = file.cases[case]
    assert_agrees(source, case, loss, expected.loss, tolerance=tolerance, methods=classes(objective))
    for name, table in file.model.items():
        (grad,) = torch.autograd.grad(loss, table.logits, allow_unused=True, retain_graph=True)
        assert (grad is None) == (name not in expected.grad), f"{case}: gradient of {name!r}"
        if grad is not None:
            assert_agrees(source, case, grad, expected.grad[name], tolerance=tolerance, methods=classes(objective))


def _labels(shared: Path, source: str, supervised: Supervised) -> dict[str, Tensor]:
    if supervised == "labels":
        return {}
    batches = json.loads((shared / "conformance" / f"{source}_a.json").read_text())["batches"]
    return {name: torch.tensor(batch["input_ids"]) for name, batch in batches.items()}


def worked_example() -> tuple[Table, Table]:
    """Model and reference whose logits are logs of plain fractions: two answers, of three tokens and of one.

    The NLL of their tokens is [log 4, log 4/3, log 2 | log 2] under the model, [log 2, log 2, log 4 | log 4] under the
    reference. Positions that predict nothing are uniform in both.
    """
    labels = torch.tensor([[-100, 1, 2, 1], [-100, 2, -100, -100]])
    model = torch.full((2, 4, 3), 1 / 3, dtype=torch.float64)
    reference = model.clone()
    model[0, :3] = torch.tensor([[1 / 2, 1 / 4, 1 / 4], [1 / 8, 1 / 8, 3 / 4], [1 / 4, 1 / 2, 1 / 4]])
    model[1, 0] = torch.tensor([1 / 4, 1 / 4, 1 / 2])
    reference[0, :3] = torch.tensor([[1 / 4, 1 / 2, 1 / 4], [1 / 4, 1 / 4, 1 / 2], [1 / 4, 1 / 4, 1 / 2]])
    reference[1, 0] = torch.tensor([1 / 2, 1 / 4, 1 / 4])
    return Table(model.log().requires_grad_(), labels), Table(reference.log(), labels)
