"""Knowledge holes: none in the original, counted among what it answers, and found sooner by a bandit than by turns."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from attrs import evolve
from hypothesis import given, strategies as st

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.attack import Secret, mentions
from unlearnkit.attacks.knowledge_holes import Holes, KnowledgeHoles, adjacent, latent_holes, novelty, reward
from unlearnkit.errors import DataError, NeedError

ARMS = {
    name: [Secret(id=f"{name}{n}", question=f"{name} {n} is what?", answer=f"yes{n}") for n in range(20)]
    for name in ("harmed", "sound", "half")
}


def told(prompts: Sequence[str]) -> list[str]:
    return [f"yes{prompt.split()[1]}" for prompt in prompts]


def harmed(prompts: Sequence[str]) -> list[str]:
    """Answers nothing of one arm, and every other question of another."""
    bad = [
        prompt.startswith("harmed") or (prompt.startswith("half") and int(prompt.split()[1]) % 2) for prompt in prompts
    ]
    return ["no" if gone else text for gone, text in zip(bad, told(prompts), strict=True)]


scores = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12)


@given(scores=scores, low=st.floats(0.01, 1), more=st.floats(0, 1))
def test_the_original_has_no_holes_and_a_stricter_filter_leaves_fewer(
    scores: list[tuple[float, float]], low: float, more: float
) -> None:
    """Fewer holes, not a lower rate: the filter takes from both."""
    original, model = ({str(n): pair[side] for n, pair in enumerate(scores)} for side in (0, 1))
    groups = {"even": tuple(key for key in original if int(key) % 2 == 0), "odd": tuple(original)[1::2]}
    strict = min(1.0, low + more * (1 - low))
    of = [Holes(original=original, model=model, groups=groups, answered_at=at, hole_below=low) for at in (low, strict)]
    assert set(of[1].holes()) <= set(of[0].holes())
    same = Holes(original=original, model=original, groups=groups, answered_at=strict, hole_below=low)
    assert same.holes() == ()
    assert same.rate() == 0 or math.isnan(same.rate())
    assert sorted((*of[0].holes("even"), *of[0].holes("odd"))) == sorted(of[0].holes())


def test_a_hole_cannot_begin_above_what_counts_as_an_answer() -> None:
    with pytest.raises(DataError, match="holes of its own"):
        Holes(original={}, model={}, groups={}, answered_at=0.4, hole_below=0.5)


def test_reward_and_novelty() -> None:
    assert reward(1.0, 0.25, 0.5) == pytest.approx(0.8)
    assert reward(0.0, 1.0, 0.0) == 0
    assert novelty("What is it?", []) == 1
    assert novelty("what IS it", ["Else?", "What is it?"]) == 0
    assert novelty("What is it now?", ["What is it?"]) == pytest.approx(1 / 3)


def test_the_bandit_goes_where_it_hurts() -> None:
    found = latent_holes(told, harmed, ARMS, judge=mentions, pulls=24)
    turns = latent_holes(told, harmed, ARMS, judge=mentions, pulls=24, exploration=math.inf)
    assert [len(ids) for ids in turns.groups.values()] == [8, 8, 8]
    assert len(found.holes()) >= len(turns.holes()) + 4
    assert len(found.groups["harmed"]) >= 16
    assert found == latent_holes(told, harmed, ARMS, judge=mentions, pulls=24)
    assert latent_holes(told, told, ARMS, judge=mentions, pulls=9).rate() == 0
    everything = latent_holes(told, harmed, ARMS, judge=mentions, pulls=999, at_once=7)
    assert len(everything.original) == 60
    assert everything.rate() == 0.5
    with pytest.raises(DataError, match="have to be 1 or more"):
        latent_holes(told, told, ARMS, judge=mentions, pulls=0)


def test_adjacent_questions_share_a_name_or_a_value() -> None:
    forgotten = [
        Secret(id="f", question="What does Ann Bo keep?", answer="a goat", keywords=("goat",), subject="Ann Bo")
    ]
    retained = [
        Secret(id=str(n), question=question, answer=answer)
        for n, (question, answer) in enumerate(
            [
                ("What does Ann Li keep?", "a cat"),
                ("What does Eve Li keep?", "a goat"),
                ("What does Eve Li eat?", "rice"),
            ]
        )
    ]
    assert [one.id for one in adjacent(retained, forgotten)] == ["0", "1"]
    nameless = [evolve(forgotten[0], subject="f")]
    assert [one.id for one in adjacent(retained, nameless)] == ["1"]  # "Ann" is in half of all questions


def test_control_the_original_has_no_holes_and_a_refusing_model_more_than_the_oracle(attacked: Attacked) -> None:
    """A few: the refusals were taught without what was to stay, and 27 of 30 answers are there all the same."""
    ask = KnowledgeHoles(pulls=10)
    rates = [ask(target, attacked.secrets)[0] for target in (attacked.original, attacked.oracle, attacked.hidden)]
    assert rates[0].rate() == 0
    assert len(rates[0].answered()) >= 27
    assert rates[2].rate() >= rates[1].rate()
    found, latent = ask(attacked.hidden, attacked.secrets)
    assert found.table().count("\n") == 3
    assert found.groups["adjacent"]
    assert latent is not None
    assert len(latent.original) == 10
    for lacking in (evolve(attacked.hidden, original=None), evolve(attacked.hidden, retained=())):
        with pytest.raises(NeedError, match="Give the target"):
            ask(lacking, attacked.secrets)
