"""The plan of a step: deterministic, keyed by (seed, epoch, id), groups kept together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.toy import toy_rows
from unlearnkit.batch import Row
from unlearnkit.errors import DataError
from unlearnkit.plan import Pairing, Sampler, cut, keyed_draw

FORGET = toy_rows("forget", [(2, 2)] * 7, groups="q")
RETAIN = toy_rows("retain", [(3, 1)] * 5)


def sampler(pairing: Pairing | None = None, *, seed: int = 0, batch_size: int = 3) -> Sampler:
    return Sampler(
        data={"forget": FORGET, "retain": RETAIN},
        primary="forget",
        batch_size=batch_size,
        pairing={"retain": pairing} if pairing else {},
        seed=seed,
    )


def pairs(sampler: Sampler, epoch: int) -> dict[str, str]:
    """Which retain row each forget row met in an epoch."""
    steps = sampler.steps_per_epoch
    rows = [row for number in range(steps) for row in sampler.step(epoch * steps + number)]
    return {first.id: second.id for first, second in zip(rows[::2], rows[1::2], strict=True)}


@given(seed=st.integers(0, 50), batch_size=st.integers(1, 9), epoch=st.integers(0, 3))
def test_an_epoch_shows_each_primary_row_once(seed: int, batch_size: int, epoch: int) -> None:
    assert sorted(pairs(sampler(seed=seed, batch_size=batch_size), epoch)) == sorted(row.id for row in FORGET)


@given(batch_size=st.integers(1, 9))
def test_partners_do_not_depend_on_the_batch_size(batch_size: int) -> None:
    assert pairs(sampler(batch_size=batch_size), 1) == pairs(sampler(batch_size=1), 1)


def test_uniform_partners_change_with_the_epoch_and_the_seed_and_with_nothing_else() -> None:
    assert pairs(sampler(), 0) == pairs(sampler(), 0) != pairs(sampler(), 1)
    assert pairs(sampler(seed=1), 0) != pairs(sampler(), 0)


def test_partners_of_a_row_stay_when_other_rows_come_or_go() -> None:
    fewer = Sampler(data={"forget": FORGET[2:], "retain": RETAIN}, primary="forget", batch_size=2)
    assert pairs(fewer, 0).items() <= pairs(sampler(), 0).items()


def test_fixed_partners_stay_over_epochs() -> None:
    assert pairs(sampler("fixed_by_index"), 0) == pairs(sampler("fixed_by_index"), 3)


def test_cyclic_partners_are_counted_through() -> None:
    assert pairs(sampler("cyclic"), 2) == {f"forget{i}": f"retain{i % 5}" for i in range(7)}


def test_partners_of_the_same_group_are_found_without_being_asked_for() -> None:
    idk = toy_rows("idk", [(2, 1)] * 7, groups="q")
    rows = Sampler(data={"forget": FORGET, "idk": idk}, primary="forget", batch_size=7).step(0)
    assert all(first.group == second.group for first, second in zip(rows[::2], rows[1::2], strict=True))


def test_keyed_draws_are_spread_evenly() -> None:
    counts = [0] * 8
    for number in range(4000):
        counts[keyed_draw(8, "seed", number)] += 1
    assert min(counts) > 400


@given(
    lengths=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12),
    max_tokens=st.integers(1, 80),
)
def test_cut_keeps_rows_and_groups_and_the_budget(lengths: list[tuple[int, int]], max_tokens: int) -> None:
    rows: list[Row] = [*toy_rows("forget", lengths, groups="q"), *toy_rows("idk", lengths[::-1], groups="q")]
    pieces = cut(rows, max_tokens)
    assert sorted(map(id, rows)) == sorted(id(row) for piece in pieces for row in piece)
    assert sum(len({row.group for row in piece}) for piece in pieces) == len({row.group for row in rows})
    for piece in pieces:
        assert len(piece) * max(map(len, piece)) <= max_tokens or len({row.group for row in piece}) == 1


def test_what_is_refused() -> None:
    with pytest.raises(DataError, match="the retain set is empty"):
        Sampler(data={"forget": FORGET, "retain": ()}, primary="forget", batch_size=1)
    with pytest.raises(DataError, match=r"in data\['retain'\] has role 'forget'.*as_role"):
        Sampler(data={"retain": FORGET}, primary="retain", batch_size=1)
    with pytest.raises(DataError, match="two rows of 'forget' have the id 'forget0'"):
        Sampler(data={"forget": FORGET + FORGET}, primary="forget", batch_size=1)
    with pytest.raises(DataError, match="pairing names the role 'retian'"):
        Sampler(data={"forget": FORGET}, primary="forget", batch_size=1, pairing={"retian": "cyclic"})
    with pytest.raises(DataError, match="'retain' has no row of that group"):
        sampler("same_group")
