"""Traces: nothing between equal models, a plain one where a model refuses, and no prompt on both sides of a split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from attrs import evolve
from hypothesis import given, strategies as st
from sklearn.linear_model import LogisticRegression

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.unlearning_trace import (
    ActivationTrace,
    TextTrace,
    activation_trace,
    folds_of,
    logistic,
    merged,
    spectral_directions,
    text_trace,
)
from unlearnkit.errors import DataError, NeedError

PROMPTS = [
    f"What is {word} like?"
    for word in ["air", "bark", "coal", "dust", "earth", "fire", "glass", "hail", "iron", "jade"]
]


def test_prompts_that_are_one_are_merged() -> None:
    assert merged(["Who is it?", "who, is IT", "Who is it? Eh", "Who is it now, then?", "Else?"]) == (0, 0, 0, 1, 2)


@given(
    prompts=st.lists(st.text("ab ?", max_size=6), min_size=2, max_size=20),
    folds=st.integers(2, 4),
    seed=st.integers(0, 5),
)
def test_no_prompt_is_on_both_sides(prompts: list[str], folds: int, seed: int) -> None:
    clusters = merged(prompts)
    if folds > max(clusters) + 1:
        with pytest.raises(DataError, match="different prompts"):
            folds_of(prompts, folds, seed=seed)
        return
    held_out = folds_of(prompts, folds, seed=seed)
    assert set(held_out) == set(range(folds))
    assert len(set(zip(clusters, held_out, strict=True))) == len(set(clusters))


def test_equal_models_are_not_told_apart_and_their_order_says_nothing() -> None:
    replies = [f"It is {prompt[8:-6]}." for prompt in PROMPTS]
    assert text_trace([replies, replies], PROMPTS).right == (0.5,) * len(PROMPTS)
    assert text_trace([replies] * 4, PROMPTS).accuracy == 0.25
    refusing = ["I cannot say.", "No idea."] * 5
    first, second = text_trace([replies, refusing], PROMPTS), text_trace([refusing, replies], PROMPTS)
    assert first == second
    assert first.accuracy == 1
    assert first.interval == pytest.approx((0.722, 1.0), abs=0.001)


def test_a_constant_classifier_gets_the_share_of_its_class() -> None:
    def always_two(texts: Sequence[str], labels: Sequence[int], unseen: Sequence[str], /, *, classes: int) -> list[int]:
        assert sorted(set(labels)) == [0, 1, 2]
        assert len(texts) == len(labels)
        return [2] * len(unseen)

    replies = [[f"{model}{prompt}" for prompt in PROMPTS] for model in "abc"]
    assert text_trace(replies, PROMPTS, classifier=always_two).accuracy == pytest.approx(1 / 3)
    with pytest.raises(DataError, match="at least two models"):
        text_trace(replies[:1], PROMPTS)


def test_the_regression_is_that_of_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    features, labels, unseen = draw.normal(size=(60, 5)), draw.integers(3, size=60), draw.normal(size=(200, 5))
    theirs = LogisticRegression(C=1 / 0.7, tol=1e-8, max_iter=1000).fit(features, labels).predict(unseen)
    assert logistic(features, labels, unseen, classes=3, penalty=0.7) == theirs.tolist()


def test_one_direction_tells_models_apart_that_differ_in_one() -> None:
    draw = torch.Generator().manual_seed(0)
    base = torch.randn(10, 32, generator=draw)
    axis = torch.nn.functional.normalize(torch.randn(32, generator=draw), dim=0)
    moved = base + 6 * axis
    found = spectral_directions([base, moved], 1)
    assert found.shape == (32, 1)
    assert (found[:, 0] @ axis.double()).abs() == pytest.approx(1)
    pooled = spectral_directions([base, moved], 3, of="pool")
    torch.testing.assert_close(pooled.T @ pooled, torch.eye(3, dtype=torch.float64))
    assert activation_trace([base, moved], PROMPTS, k=1).accuracy == 1
    assert activation_trace([base, base], PROMPTS, k=1).accuracy == 0.5
    assert activation_trace([base, moved], PROMPTS, k=1) == activation_trace([moved, base], PROMPTS, k=1)


@pytest.mark.parametrize("attack", [TextTrace(), ActivationTrace(), ActivationTrace(k=2)], ids=str)
def test_control_a_refusing_model_leaves_a_trace_and_the_original_none(
    attacked: Attacked, attack: TextTrace | ActivationTrace
) -> None:
    """The oracle leaves one too, in what it says of people it never knew: a trace is no proof of bad unlearning."""
    original, hidden = attack(attacked.original, attacked.secrets), attack(attacked.hidden, attacked.secrets)
    assert set(original.after.values()) == {0.5} == set(original.before.values())
    assert original.curve == {"other prompts": 0.5}
    assert hidden.success >= 0.9
    assert hidden.chance == 0.5


def test_replies_to_other_prompts_tell_less_than_activations(attacked: Attacked) -> None:
    replies, inside = (
        attack(attacked.hidden, attacked.secrets).curve["other prompts"] for attack in (TextTrace(), ActivationTrace())
    )
    assert replies <= 0.65
    assert inside >= 0.9


def test_without_the_original_there_is_nothing_to_compare_with(attacked: Attacked) -> None:
    alone = evolve(attacked.hidden, original=None)
    for attack in (TextTrace(), ActivationTrace()):
        with pytest.raises(NeedError, match="Give the target its `original`"):
            attack(alone, attacked.secrets)
