"""Recorded conformance files as tables of logits, and random tables for property tests."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import torch
from attrs import frozen
from torch import Tensor

from unlearnkit.testing import Table


@frozen(eq=False)
class Case:
    """One recorded result: hyper-parameters, loss, and gradient with respect to each batch's logits."""

    hyper: dict[str, float]
    loss: float
    grad: dict[str, Tensor]


@frozen(eq=False)
class Recorded:
    """A conformance file: the model's and the reference's tables by role, and the cases computed on them."""

    model: dict[str, Table]
    reference: dict[str, Table]
    cases: dict[str, Case]


@cache
def _read(path: Path) -> Recorded:
    content = json.loads(path.read_text())
    tables: dict[str, dict[str, Table]] = {"": {}, "ref_": {}}
    for prefix, found in tables.items():
        for role, batch in content["batches"].items():
            if (logits := content["logits"].get(prefix + role)) is not None:
                found[role] = Table(
                    torch.tensor(logits, dtype=torch.float64, requires_grad=prefix == ""),
                    torch.tensor(batch["labels"]),
                    torch.tensor(batch["attention_mask"]).bool(),
                )
    cases = {
        name: Case(
            case["hyper"],
            case["loss"],
            {
                role: torch.tensor(grad, dtype=torch.float64)
                for role, grad in case.get("grad", {}).items()
                if grad is not None and role in tables[""]
            },
        )
        for name, case in content["objectives"].items()
        if case.get("loss") is not None
    }
    return Recorded(tables[""], tables["ref_"], cases)


def recorded(shared: Path, name: str) -> Recorded:
    """The conformance file `name`."""
    return _read(shared / "conformance" / f"{name}_a.json")


def random_table(
    seed: int, lengths: list[tuple[int, int]], *, vocabulary: int = 7, width: int | None = None, ids: str = "row"
) -> Table:
    """A float64 table of right-padded rows with (prompt, answer) token counts; an answer may be empty."""
    generator = torch.Generator().manual_seed(seed)
    width = max(prompt + answer for prompt, answer in lengths) if width is None else width
    labels = torch.full((len(lengths), width), -100)
    mask = torch.zeros(len(lengths), width, dtype=torch.bool)
    for b, (prompt, answer) in enumerate(lengths):
        mask[b, : prompt + answer] = True
        labels[b, prompt : prompt + answer] = torch.randint(vocabulary, (answer,), generator=generator)
    logits = 2 * torch.randn(len(lengths), width, vocabulary, generator=generator, dtype=torch.float64)
    return Table(logits.requires_grad_(), labels, mask, ids=tuple(f"{ids}{b}" for b in range(len(lengths))))
