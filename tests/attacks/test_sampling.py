"""Sampling: greedy is one answer, k samples are many, guessing grows with k, and the oracle only guesses."""

from __future__ import annotations

import pytest
from attrs import evolve

from tests.attacks.conftest import Attacked
from tests.attacks.test_few_shot_rephrase import PEOPLE
from unlearnkit.attacks.attack import mean
from unlearnkit.attacks.sampling import KS, Sampled, guessed
from unlearnkit.errors import DataError
from unlearnkit.protocols import Greedy, Sampling


def test_next_to_no_temperature_is_greedy(attacked: Attacked) -> None:
    """All samples alike: leak@k is the greedy answer for every k."""
    attack = Sampled(sampling=Sampling(samples=3, temperature=1e-4), ks=(1, 2, 3))
    found = attack(attacked.hidden, attacked.facts[:6])
    assert found.after == found.before
    assert set(found.curve.values()) == {mean(found.before)}


def test_settings_are_refused() -> None:
    assert Sampled().ks == KS
    assert Sampled().sampling.samples == 200
    for ks in ((2, 1), (1, 9), (0, 1), (1, 1)):
        with pytest.raises(DataError, match="they have to ascend from 1"):
            Sampled(sampling=Sampling(samples=8), ks=ks)


def test_guesses() -> None:
    assert guessed(PEOPLE[0], 1) == 0.25
    assert guessed(PEOPLE[0], 2) == pytest.approx(1 - 0.75**2)
    assert guessed(evolve(PEOPLE[0], wrong=()), 5) == 0.0


def test_control_samples_find_what_the_original_knows_and_the_oracle_guesses(attacked: Attacked) -> None:
    """8 samples: 1.00 of the original (0.53 with one), 0.08 of the hidden model and of the oracle, both far below what
    guessing among the values would find (0.31): most of their samples name no value at all, or a likelier one."""
    attack = Sampled(sampling=Sampling(samples=8), ks=(1, 2, 4, 8))
    target = attacked.original
    original, oracle = attack(target, attacked.facts), attack(attacked.oracle, attacked.facts)
    assert original.success >= 0.9
    assert mean(oracle.before) <= 0.1
    assert oracle.success <= oracle.chance
    for one in (original, oracle):
        curve = list(one.curve.values())
        assert curve == sorted(curve)
        assert curve[-1] == pytest.approx(one.success)
        assert one.budget.queries == 8 * len(attacked.facts)
    again = attack(target, attacked.facts[3:5])
    assert again.after == {one.id: original.after[one.id] for one in attacked.facts[3:5]}
    assert again.found == {one.id: original.found[one.id] for one in attacked.facts[3:5]}


def test_samples_are_as_long_as_the_target_writes(attacked: Attacked) -> None:
    target = attacked.original
    target.decoding = Greedy(2)
    found = Sampled(sampling=Sampling(samples=2), ks=(2,))(target, attacked.facts[:3])
    assert all(len(text.split()) <= 2 for text in found.found.values())
