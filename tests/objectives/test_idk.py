"""IDK fine-tuning: two means or one, official numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.objectives.conformance import assert_reproduces, loss_of
from tests.tables import random_table
from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.objectives.gradient_ascent import GradientAscent
from unlearnkit.objectives.idk import IdkNLL
from unlearnkit.objectives.retain_kl import RetainKL
from unlearnkit.protocols import Objective


def test_joint_mean_weighs_each_mean_by_its_tokens() -> None:
    tables = {"idk": random_table(1, [(2, 2), (1, 1)]), "retain": random_table(2, [(1, 4), (3, 5)])}
    idk, retain = (loss_of(CrossEntropy(role), tables).item() for role in ("idk", "retain"))
    assert loss_of(IdkNLL(joint_mean=True), tables).item() == pytest.approx((3 * idk + 9 * retain) / 12)
    assert loss_of(IdkNLL(retain_weight=2.0), tables).item() == pytest.approx(idk + 2 * retain)


def test_a_joint_mean_has_no_weight() -> None:
    with pytest.raises(ValueError, match=r"'retain_weight' has to be 1: 2\.0"):
        IdkNLL(joint_mean=True, retain_weight=2.0)


def test_released_reductions() -> None:
    assert [IdkNLL.released(code).joint_mean for code in ("tofu", "npo", "closer-look")] == [True, True, False]


@pytest.mark.parametrize(
    ("source", "case", "objective"),
    [
        ("npo", "idk", IdkNLL.released("npo")),
        ("tofu", "idk", IdkNLL.released("tofu")),
        ("closer_look", "IDK+GD", IdkNLL.released("closer-look")),
        ("closer_look", "IDK+KL", CrossEntropy("idk") + RetainKL()),
        ("g_effect", "idk", CrossEntropy("idk")),
        ("g_effect", "idk_kl", CrossEntropy("idk") + RetainKL()),
        ("altpo", "sub", IdkNLL()),
        ("altpo", "subdiff", 0.5 * GradientAscent() + IdkNLL()),
    ],
)
def test_official_numbers(shared: Path, source: str, case: str, objective: Objective) -> None:
    assert_reproduces(shared, source, case, objective)
