"""Random labels: what changes, what stays, and what the draws depend on."""

from __future__ import annotations

import math

import pytest
import torch

from tests.toy import VOCABULARY, Toy, toy_rows
from unlearnkit.batch import IGNORE, Row, as_role
from unlearnkit.data.random_labels import random_labels
from unlearnkit.errors import DataError
from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.objectives.uniform_kl import UniformKL
from unlearnkit.observe import observe
from unlearnkit.plan import Sampler

ROWS = toy_rows("forget", [(2, 4), (1, 1), (0, 5)])


def labels(rows: tuple[Row, ...]) -> list[list[int]]:
    return [row.labels.tolist() for row in rows]


def test_only_supervised_labels_change() -> None:
    for before, after in zip(ROWS, random_labels(ROWS, VOCABULARY), strict=True):
        assert (after.id, after.role, after.group) == (before.id, before.role, before.group)
        assert after.inputs["input_ids"] is before.inputs["input_ids"]
        assert torch.equal(after.labels == IGNORE, before.labels == IGNORE)
        assert ((after.labels == IGNORE) | ((after.labels >= 0) & (after.labels < VOCABULARY))).all()
    assert labels(random_labels(ROWS, VOCABULARY)) != labels(ROWS)


def test_draws_depend_on_seed_role_and_id_only() -> None:
    drawn = random_labels(ROWS, VOCABULARY, seed=1)
    assert labels(random_labels(ROWS[::-1], VOCABULARY, seed=1)) == labels(drawn)[::-1]
    assert labels(random_labels(ROWS[2:], VOCABULARY, seed=1)) == labels(drawn)[2:]
    assert labels(random_labels(ROWS, VOCABULARY, seed=2)) != labels(drawn)
    assert labels(random_labels(as_role(ROWS, "other"), VOCABULARY, seed=1)) != labels(drawn)


def test_true_labels_are_not_looked_at() -> None:
    others = tuple(
        Row(row.id, row.role, row.inputs, torch.where(row.labels == IGNORE, IGNORE, (row.labels + 1) % VOCABULARY))
        for row in ROWS
    )
    assert labels(random_labels(others, VOCABULARY)) == labels(random_labels(ROWS, VOCABULARY))


def test_draws_are_uniform() -> None:
    ids = torch.zeros(5000, dtype=torch.int64)
    (row,) = random_labels([Row("long", "forget", {"input_ids": ids}, ids)], 5)
    counts = torch.bincount(row.labels, minlength=5)
    assert len(counts) == 5
    assert (counts - 1000).abs().max() < 5 * math.sqrt(800)


def test_special_tokens_keep_their_label() -> None:
    ids = torch.tensor([1, 7, 1, 2, 2])
    (row,) = random_labels([Row("a", "forget", {"input_ids": ids}, ids)], 1000, special={1, 2})
    assert row.labels[[0, 2, 3, 4]].tolist() == [1, 1, 2, 2]
    assert row.labels[1] != 7


def test_several_draws_are_several_rows_of_one_group() -> None:
    rows = random_labels(ROWS, VOCABULARY, draws=3)
    assert [row.id for row in rows[:3]] == ["forget0/0", "forget0/1", "forget0/2"]
    assert {row.group for row in rows[:3]} == {"forget0"}
    assert len({tuple(row.labels.tolist()) for row in rows[:3]}) == 3
    assert Sampler(data={"forget": rows}, primary="forget", batch_size=4).steps_per_epoch == 3


def test_the_mean_gradient_is_that_of_the_divergence_from_uniform() -> None:
    """Every label once is what draws are on average: cross-entropy and KL(U || p) differ by log V."""
    ids = torch.tensor([3, 5])
    every = [
        Row(str(token), "forget", {"input_ids": ids}, torch.tensor([IGNORE, token])) for token in range(VOCABULARY)
    ]
    toy = Toy()
    grads, values = [], []
    for objective, rows in ((CrossEntropy("forget"), every), (UniformKL("forget", positions="answer"), every[:1])):
        (term,) = objective(observe({"model": toy}, rows, objective.needs))
        value = term.value / len(rows)
        values.append(value.item())
        grads.append(torch.autograd.grad(value, toy.bias)[0])
    torch.testing.assert_close(grads[0], grads[1])
    assert values[0] - values[1] == pytest.approx(math.log(VOCABULARY))


@pytest.mark.parametrize(("vocabulary", "draws"), [(0, 1), (5, 0)])
def test_numbers_below_one_are_refused(vocabulary: int, draws: int) -> None:
    with pytest.raises(DataError, match=f"vocabulary is {vocabulary} and draws is {draws}"):
        random_labels(ROWS, vocabulary, draws=draws)
