"""Small random worlds: tables of logits for questions with right, paraphrased and wrong answers, and texts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from attrs import evolve

from tests.tables import random_table
from unlearnkit.protocols import Answer, Continuations, Generated, Need, Needs, RowTexts, Seen, TokenNeed
from unlearnkit.testing import Table, seen_from_tables

ROLES = {"": 1, "_paraphrased": 2, "_perturbed": 3}
"""What a role's name ends in, and its answers per question."""


def world(seed: int, *, sets: tuple[str, ...] = ("forget",), questions: int = 4) -> dict[str, Table]:
    """Tables of all roles of each set, with rows of different lengths, answers of one token among them."""
    tables = {}
    for number, name in enumerate(sets):
        for kind, answers in enumerate(ROLES.values()):
            lengths = [(1 + (row + kind) % 3, 2 + (2 * row + kind + seed) % 4) for row in range(questions * answers)]
            lengths[-1] = (2, 1)
            table = random_table(1000 * seed + 10 * number + kind, lengths, ids=f"{name}-{kind}-")
            groups = tuple(f"{name}/{row // answers}" for row in range(len(lengths)))
            tables[name + list(ROLES)[kind]] = evolve(table, groups=groups, ids=groups if answers == 1 else table.ids)
    return tables


def permuted(table: Table, order: list[int]) -> Table:
    """The same rows in another order."""
    return Table(
        table.logits[order],
        table.labels[order],
        table.mask[order],
        ids=tuple(table.ids[row] for row in order),
        groups=tuple(table.groups[row] for row in order),
    )


def padded(table: Table, *, left: int, right: int) -> Table:
    """The same rows with columns of padding, whose logits are large."""

    def widened(values: torch.Tensor, fill: float) -> torch.Tensor:
        before, after = (values.new_full((len(values), width, *values.shape[2:]), fill) for width in (left, right))
        return torch.cat([before, values, after], 1)

    return Table(
        widened(table.logits, 50.0),
        widened(table.labels, -100),
        widened(table.mask, False),
        ids=table.ids,
        groups=table.groups,
    )


def seen_with_texts(
    needs: Needs, tables: Mapping[str, Mapping[str, Table]], texts: Mapping[str, tuple[str, ...]]
) -> Seen:
    """`seen_from_tables`, and for each generation of a role the texts given; every answer is "the first answer"."""
    tokens = frozenset(need for need in needs if isinstance(need, TokenNeed))
    seen = seen_from_tables(tokens, tables)
    answers: dict[Need, Answer] = dict(seen.answers)
    ids, groups = dict(seen.ids), dict(seen.groups)
    for need in needs:
        if isinstance(need, TokenNeed):
            continue
        table = tables[need.of if isinstance(need, Generated) else "model"][need.role]
        right = ("the first answer",) * len(table.ids)
        if isinstance(need, Generated):
            answers[need] = Continuations(texts[need.role], right)
        else:
            answers[need] = RowTexts(("which one is it?",) * len(table.ids), right)
        ids[need.role], groups[need.role] = table.ids, table.groups
    return Seen(answers, ids, groups)
