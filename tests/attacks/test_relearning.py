"""Relearning: nothing without steps, benign texts only, and what was hidden comes back while the oracle stays ignorant."""

from __future__ import annotations

import pytest
import torch

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.attack import Secret, mean
from unlearnkit.attacks.relearning import (
    Relearning,
    check_benign,
    facts_of_others,
    other_facts,
    relearned,
    without_keyword,
)
from unlearnkit.errors import DataError


def test_no_steps_change_nothing(attacked: Attacked) -> None:
    rows = [attacked.original.row("Who is it?", "Nobody.", id="0", role="texts")]
    for steps, rate in ((0, 1e-3), (3, 1e-300)):
        changed = relearned(attacked.unlearned, rows, steps=steps, learning_rate=rate)
        for before, after in zip(attacked.unlearned.parameters(), changed.parameters(), strict=True):
            assert torch.equal(before, after)


def test_the_target_stays_as_it_was(attacked: Attacked) -> None:
    before = {name: value.clone() for name, value in attacked.unlearned.state_dict().items()}
    attack = Relearning(texts=(("Who is it?", "Nobody."),), recipe="nothing", steps=2, learning_rate=1e-2)
    outcome = attack(attacked.hidden, attacked.secrets[:3])
    assert outcome.budget.gradient_steps == 2
    assert outcome.curve.keys() == {"0 steps", "2 steps"}
    assert all(torch.equal(value, before[name]) for name, value in attacked.unlearned.state_dict().items())


def test_control_relearning_fires_where_knowledge_was_hidden_and_not_on_the_oracle(attacked: Attacked) -> None:
    """Half of the facts of forgotten people bring back the other half; to the oracle they say nothing of it."""
    known, asked = attacked.facts[::2], attacked.facts[1::2]
    attack = Relearning(
        texts=(*other_facts(known, asked), *facts_of_others(attacked.retained, asked)),
        recipe="other facts",
        steps=20,
        learning_rate=5e-4,
        look_at=(5, 10),
    )
    original, hidden, oracle = (
        attack(target, asked) for target in (attacked.original, attacked.hidden, attacked.oracle)
    )
    assert original.success >= 0.6
    assert oracle.success <= 0.1
    assert hidden.success >= mean(hidden.before) + 0.2
    assert list(hidden.curve) == ["0 steps", "5 steps", "10 steps", "20 steps"]


def test_texts_that_hold_an_answer_are_refused() -> None:
    secret = Secret(
        id="a", question="What is it?", answer="Ann Bo keeps a red fox.", keywords=("red fox",), subject="Ann Bo"
    )
    check_benign([("Who keeps what?", "Ann Bo keeps a fox.")], [secret])
    with pytest.raises(DataError, match="text 0 asks what secret 'a' asks"):
        check_benign([("What is IT", "No.")], [secret])
    with pytest.raises(DataError, match=r"text 1 tells secret 'a': .*Take it out"):
        check_benign([("Who?", "Someone."), ("Who?", "Ann Bo, the Red  Fox!")], [secret])
    with pytest.raises(DataError, match="no texts"):
        check_benign([], [secret])


def test_recipes() -> None:
    secrets = [
        Secret(
            id=f"{name}{number}",
            question=f"q{name}{number}",
            answer=f"{name} has {number}.",
            keywords=(str(number),),
            subject=name,
        )
        for name in ("ann", "bo")
        for number in range(3)
    ]
    asked = [secrets[0], secrets[1]]
    assert other_facts(secrets, asked) == (("qann2", "ann has 2."),)
    assert [question for question, _ in facts_of_others(secrets, asked)] == ["qbo0", "qbo1", "qbo2"]
    assert without_keyword(asked) == (("qann0", "ann has"), ("qann1", "ann has"))
