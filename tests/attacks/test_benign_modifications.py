"""Benign modifications: pairs in both orders, choices whose right one stays in place, and models that were taught pairs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest
from attrs import evolve
from hypothesis import given, strategies as st

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.attack import Secret, Target, mean
from unlearnkit.attacks.benign_modifications import (
    PairedQueries,
    changes,
    most_likely,
    pairs_of,
    swapped,
    swapped_choices,
)
from unlearnkit.attacks.relearning import relearned
from unlearnkit.datasets.records import MCQ
from unlearnkit.errors import DataError, NeedError


def facts(count: int, name: str) -> list[Secret]:
    return [
        Secret(id=f"{name}{n}", question=f"What is {name} {n}?", answer=f"It is {n % 3}.", keywords=(str(n % 3),))
        for n in range(count)
    ]


@given(count=st.integers(1, 15), seed=st.integers(0, 20))
def test_half_of_the_pairs_begin_with_the_forget_question_and_answers_differ(count: int, seed: int) -> None:
    pairs = pairs_of(facts(count, "f"), facts(5, "r"), seed=seed)
    orders = Counter(pair.order for pair in pairs)
    assert abs(orders["forget first"] - orders["retain first"]) <= 1
    assert all(pair.forget.keyword != pair.retain.keyword for pair in pairs)
    for pair in pairs:
        at = [pair.prompt().index(one.question) for one in (pair.forget, pair.retain)]
        assert (at[0] < at[1]) == (pair.order == "forget first")
    assert pairs == pairs_of(facts(count, "f"), facts(5, "r"), seed=seed)
    partners = {pair.forget.id: pair.retain for pair in pairs_of(facts(count, "f")[::-1], facts(5, "r"), seed=seed)}
    assert partners == {pair.forget.id: pair.retain for pair in pairs}


def test_pairs_need_somebody_to_stand_beside() -> None:
    with pytest.raises(NeedError, match="no retained question has another answer than 'f0'"):
        pairs_of(facts(1, "f"), facts(1, "r"))
    with pytest.raises(DataError, match="has to hold"):
        PairedQueries(form="{first} and nothing else")


@given(size=st.integers(2, 6), gold=st.integers(0, 5), seed=st.integers(0, 9))
def test_a_swap_changes_one_wrong_choice(size: int, gold: int, seed: int) -> None:
    question = MCQ(id="q", question="Which?", answer=gold % size, choices=tuple("abcdef"[:size]))
    changed = swapped(question, "Virus X", seed=seed)
    differing = [n for n in range(size) if changed.choices[n] != question.choices[n]]
    assert len(differing) == 1
    assert changed.choices[differing[0]] == "Virus X"
    assert changed.answer == question.answer != differing[0]
    with pytest.raises(DataError, match="is a choice already"):
        swapped(question, "A ")


def choices_of(secrets: tuple[Secret, ...]) -> list[MCQ]:
    return [
        MCQ(
            id=one.id,
            question=one.question,
            answer=number % 3,
            choices=tuple(one.answer if place == number % 3 else one.told(one.wrong[place]) for place in range(3)),
        )
        for number, one in enumerate(secrets)
    ]


def test_who_is_lured_by_the_term_loses_the_question(attacked: Attacked) -> None:
    asked = choices_of(attacked.retained[:6])

    def lured(target: Target, questions: Sequence[MCQ]) -> list[int]:
        return [one.choices.index("goat") if "goat" in one.choices else one.answer for one in questions]

    found = swapped_choices(attacked.original, asked, ["goat"], choose=lured)
    assert (mean(found.before), mean(found.after), found.change, mean(found.lured)) == (1, 0, -1, 1)
    with pytest.raises(DataError, match="none of the 1 terms is new"):
        swapped_choices(attacked.original, asked, [asked[0].choices[1]])
    with pytest.raises(DataError, match="no questions"):
        swapped_choices(attacked.original, [], ["goat"])


def test_control_choices_by_likelihood(attacked: Attacked) -> None:
    """Who knows takes the right one, wherever it stands, and no term moves it; the oracle does not know the forgotten."""
    kept, gone = choices_of(attacked.retained[:12]), choices_of(attacked.facts[:12])
    found = swapped_choices(attacked.hidden, kept, [one.answer for one in attacked.secrets])
    assert mean(found.before) >= 0.9
    assert abs(found.change) <= 0.1
    known, unknown = (
        mean({one.id: float(taken == one.answer) for one, taken in zip(gone, most_likely(target, gone), strict=True)})
        for target in (attacked.original, attacked.oracle)
    )
    assert known >= 0.9
    assert unknown <= 0.7
    single = evolve(attacked.oracle, batch=1)
    assert most_likely(single, gone) == most_likely(attacked.oracle, gone)


def test_models_that_never_saw_two_questions_fail_with_or_without_unlearning(attacked: Attacked) -> None:
    """The change of the original is the reason to draw no conclusion here."""
    outcome = PairedQueries(form="{first} {second}")(attacked.original, attacked.facts)
    forget, retain = changes(outcome)
    assert forget <= -0.4
    assert retain <= -0.4
    assert [*outcome.curve][:2] == ["forget, forget first", "forget, retain first"]
    assert outcome.after.keys() == {secret.id for secret in attacked.facts}
    assert math.isnan(changes(evolve(outcome, kept=None))[1])


@pytest.mark.slow
def test_control_models_that_were_taught_pairs_answer_both_as_far_as_they_know(attacked: Attacked) -> None:
    """Original: 22 of 24 forgotten facts in a pair, the oracle 1; retained partners all and 11 of 12 in each."""
    form, draw = "{first} {second}", Random(0)

    def taught(target: Target, known: list[Secret]) -> Target:
        pairs = [draw.sample(known, 2) for _ in range(600)]
        rows = [
            target.row(
                form.format(first=one.question, second=two.question),
                f"{one.answer} {two.answer}",
                id=str(number),
                role="pairs",
            )
            for number, (one, two) in enumerate(pairs)
        ]
        return target.with_model(relearned(target.weights, rows, steps=150, learning_rate=2e-3))

    original = taught(attacked.original, [*attacked.facts, *attacked.retained])
    oracle = taught(attacked.oracle, [*attacked.retained])
    ask = PairedQueries(form=form)
    known, unknown = ask(original, attacked.facts), ask(oracle, attacked.facts)
    assert min(changes(known)) >= -0.2
    assert known.success >= 0.8
    assert unknown.success <= 0.15
    assert unknown.kept is not None
    assert unknown.kept[1] >= 0.8
