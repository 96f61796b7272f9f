"""Selective unlearning: what two assistants single out, and that it depends on them only."""

from __future__ import annotations

import pytest
import torch

from tests.toy import Toy, toy_rows
from unlearnkit.batch import IGNORE
from unlearnkit.data.selection import above, select
from unlearnkit.data.selective_unlearning import assistant_score, assistant_scores, selective_unlearning
from unlearnkit.errors import DataError, VocabularyError
from unlearnkit.evaluate import record
from unlearnkit.objectives import CrossEntropy, GradientAscent
from unlearnkit.procedures.g_effect import gradients
from unlearnkit.train import unlearn

ROWS = toy_rows("forget", [(2, 5), (1, 3), (3, 1)])


def test_scores_are_differences_of_log_probs() -> None:
    found = assistant_scores(ROWS, forget_assistant=Toy(1), retain_assistant=Toy(2), max_tokens=1)
    for row in ROWS:
        ids = row.inputs["input_ids"]
        each = []
        for model in (Toy(1), Toy(2)):
            log_probs = model.head(model.hidden({"input_ids": ids[None]}).final[0]).log_softmax(-1)
            each.append(log_probs[torch.arange(len(ids) - 1), ids[1:]][row.labels[1:] != IGNORE])
        assert found[row.id] == pytest.approx((each[0] - each[1]).tolist())
    assert assistant_score(torch.tensor([-1.0]), torch.tensor([-3.0])).tolist() == [2.0]


def test_recordings_are_as_good_as_assistants() -> None:
    needs = CrossEntropy("forget").needs
    recorded = [record(Toy(seed), needs, {"forget": ROWS}, of="model") for seed in (1, 2)]
    live = assistant_scores(ROWS, forget_assistant=Toy(1), retain_assistant=Toy(2))
    found = assistant_scores(ROWS[::-1], forget_assistant=recorded[0], retain_assistant=recorded[1])
    assert found.keys() == live.keys()
    assert all(found[name] == pytest.approx(live[name], rel=1e-9) for name in live)


def test_the_tokens_that_only_one_assistant_has_learned_are_kept() -> None:
    """F is fine-tuned on two tokens of an answer: these stand out against the model it started from."""
    row = ROWS[0]
    places = [True, False, False, True, False]
    (learned,) = select([row], {row.id: places})
    assistant = Toy(3)
    optimizer = torch.optim.Adam(assistant.parameters(), lr=0.05)
    unlearn(assistant, CrossEntropy("forget"), {"forget": [learned]}, optimizer=optimizer, steps=30)
    (kept,) = selective_unlearning([row], forget_assistant=assistant, retain_assistant=Toy(3))
    assert kept.labels.tolist() == learned.labels.tolist()
    scores = assistant_scores([row], forget_assistant=assistant, retain_assistant=Toy(3))
    (other,) = select([row], above(scores, min(scores[row.id][0], scores[row.id][3])))
    assert other.labels.tolist() == learned.labels.tolist()


def test_equal_assistants_keep_all_or_nothing() -> None:
    kept = selective_unlearning(ROWS, forget_assistant=Toy(1), retain_assistant=Toy(1))
    assert [row.labels.tolist() for row in kept] == [row.labels.tolist() for row in ROWS]
    kept = selective_unlearning(ROWS, forget_assistant=Toy(1), retain_assistant=Toy(1), ties="none")
    assert [row.id for row in kept] == ["forget2"]  # one token of one is no tie


def test_the_share_is_of_each_answer() -> None:
    kept = selective_unlearning(ROWS, forget_assistant=Toy(1), retain_assistant=Toy(2))
    assert [int((row.labels != IGNORE).sum()) for row in kept] == [2, 2, 1]
    everything = selective_unlearning(ROWS, forget_assistant=Toy(1), retain_assistant=Toy(2), share=1.0)
    whole, selected = (gradients({"model": Toy()}, rows, GradientAscent()) for rows in (ROWS, everything))
    assert all(torch.equal(whole[name], selected[name]) for name in whole)


def test_bad_input_is_refused() -> None:
    with pytest.raises(DataError, match="no rows to score"):
        assistant_scores([], forget_assistant=Toy(), retain_assistant=Toy())
    with pytest.raises(DataError, match="has role 'retain'"):
        assistant_scores([*ROWS, *toy_rows("retain", [(1, 1)])], forget_assistant=Toy(), retain_assistant=Toy())
    with pytest.raises(VocabularyError):
        assistant_scores(ROWS, forget_assistant=Toy(vocabulary=3), retain_assistant=Toy())
    with pytest.raises(DataError, match="share is 2"):
        selective_unlearning(ROWS, forget_assistant=Toy(), retain_assistant=Toy(), share=2)
