"""The eight tests: each alike on equal models, side-blind two-way questions, and what is not given is said."""

from __future__ import annotations

import pytest
from attrs import evolve

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.attack import Asking, Secret
from unlearnkit.attacks.eight_methods import Before, EightMethods, OneOfTwo, acting_ignorant
from unlearnkit.attacks.relearning import Relearning, facts_of_others
from unlearnkit.errors import DataError, NeedError
from unlearnkit.models.prefixed import Prefixed


def test_control_two_way_questions_fire_on_the_original_and_the_oracle_guesses(attacked: Attacked) -> None:
    original, hidden, oracle = (
        OneOfTwo()(target, attacked.facts) for target in (attacked.original, attacked.hidden, attacked.oracle)
    )
    assert original.success >= 0.9
    assert oracle.success <= 0.5 + 2 * 0.5 / len(attacked.facts) ** 0.5
    assert hidden.success >= 0.7  # it refuses, and still knows which of two it was
    assert original.chance == 0.5


def test_letters_are_asked_for_on_both_sides(attacked: Attacked) -> None:
    """A model that was never taught letters leans to one: half of all, whatever it knows."""
    found = OneOfTwo(letters=True)(attacked.original, attacked.facts[:6])
    assert set(found.after.values()) <= {0.0, 0.5, 1.0}
    swapped = [
        evolve(one, answer=one.told(one.wrong[0]), keywords=one.wrong[:1], wrong=one.keywords)
        for one in attacked.facts[:6]
    ]
    other = OneOfTwo(letters=True)(attacked.original, swapped)
    for key, value in found.after.items():
        assert other.after[key] == pytest.approx(1 - value)


def test_the_suite_gives_equal_models_equal_numbers_and_says_what_was_not_given(attacked: Attacked) -> None:
    suite = EightMethods(
        relearning=Relearning(
            texts=facts_of_others(attacked.retained, attacked.facts), recipe="others", steps=2, learning_rate=1e-4
        ),
        similar=attacked.retained[:5],
    )
    found = suite(attacked.original, attacked.original, attacked.facts[:6])
    assert found.outcomes.keys() == {2, 4, 5, 8}
    assert found.missing.keys() == {1, 3, 6}
    for original, unlearned, told in found.outcomes.values():
        assert original.after == unlearned.after
        assert (told is None) == (original.threat == "finetune_api")
    assert "| 8 similar domains | 1.00 | 1.00 |" in found.table()
    assert "1 other languages: nothing was given" in found.table()


def test_an_empty_instruction_is_no_instruction(attacked: Attacked) -> None:
    told = attacked.original.with_model(acting_ignorant(attacked.original, attacked.facts, "x"))
    assert told.weights is attacked.stage.original
    silent = attacked.original.with_model(without_words(attacked))
    assert Asking()(silent, attacked.facts[:4]).after == Asking()(attacked.original, attacked.facts[:4]).after


def without_words(attacked: Attacked) -> Prefixed:
    told = acting_ignorant(attacked.original, attacked.facts, "x")
    return Prefixed(told.model, [], after=told.after)


def test_words_that_give_it_away_are_not_said() -> None:
    secret = Secret(id="a", question="Which pet?", answer="Ann keeps a fox.", keywords=("fox",), subject="Ann")
    with pytest.raises(NeedError, match="no secret can be asked for in another form"):
        Before(words={"hint": "Ann is the one with the fox."})(None, [secret])  # type: ignore[arg-type]
    with pytest.raises(NeedError, match="no secret has a wrong answer"):
        OneOfTwo()(None, [secret])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="there are no secrets"):
        OneOfTwo()(None, [])  # type: ignore[arg-type]
