"""Unequal unlearning: its terms, the question term that is left out at weight 0, official numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from attrs import evolve

from tests.objectives.conformance import assert_agrees, loss_of
from tests.tables import random_table, recorded
from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.objectives.gradient_ascent import GradientAscent
from unlearnkit.objectives.simnpo import SimNPO
from unlearnkit.objectives.unequal import Form, UnequalUnlearning
from unlearnkit.protocols import Objective
from unlearnkit.testing import Table

ROLES = ("forget", "forget_question", "idk", "retain")

ANSWERS: dict[Form, Objective] = {
    "ga": GradientAscent(),
    "idk": CrossEntropy("idk"),
    "simnpo": SimNPO(beta=1.5, margin=0.3),
}


def tables() -> dict[str, Table]:
    return {role: random_table(place, [(2, 2), (1, 3), (1, 1)]) for place, role in enumerate(ROLES)}


@pytest.mark.parametrize("form", ANSWERS)
def test_three_terms_with_their_weights(form: Form) -> None:
    found = UnequalUnlearning(
        form=form, forget_weight=0.3, question_weight=2.0, retain_weight=5.0, beta=1.5, margin=0.3
    )
    expected = (
        0.3 * loss_of(ANSWERS[form], tables())
        + 2 * loss_of(CrossEntropy("forget_question"), tables())
        + 5 * loss_of(CrossEntropy("retain"), tables())
    )
    torch.testing.assert_close(loss_of(found, tables()), expected)


def test_questions_are_not_asked_for_at_weight_zero() -> None:
    roles = {need.role for need in UnequalUnlearning().needs if hasattr(need, "role")}
    assert roles == {"forget", "retain"}


def test_alone_it_is_gradient_ascent() -> None:
    alone = UnequalUnlearning(forget_weight=1.0, retain_weight=0.0)
    torch.testing.assert_close(loss_of(alone, tables()), loss_of(GradientAscent(), tables()))


def test_options_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'form' must be in"):
        UnequalUnlearning(form="GA")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'question_weight' must be a finite number: nan"):
        UnequalUnlearning(question_weight=math.nan)
    with pytest.raises(ValueError, match="'beta' must be > 0"):
        UnequalUnlearning(beta=0.0)


FORMS: dict[str, Form] = {"GA_GD": "ga", "IDK_GD": "idk", "SIMNPO_GD": "simnpo"}


def test_official_numbers(shared: Path) -> None:
    """Questions are the real tokens outside the answer; retain questions are supervised; answers stand for refusals."""
    file = recorded(shared, "unequal")
    forget, retain = file.model["forget"], file.model["retain"]
    whole = supervised(shared, forget, "forget"), supervised(shared, retain, "retain")
    question = evolve(whole[0], labels=whole[0].labels.masked_fill(forget.labels != -100, -100))
    model = {"forget": forget, "idk": forget, "forget_question": question, "retain": whole[1]}
    for name, case in file.cases.items():
        hyper = case.hyper
        objective = UnequalUnlearning(
            form=FORMS[str(hyper["loss_type"])],
            forget_weight=hyper["lambda_forget"],
            question_weight=hyper["lambda_question"],
            retain_weight=hyper["lambda_retain"],
            beta=hyper["beta"],
            margin=hyper["gamma"],
        )
        loss = loss_of(objective, model)
        assert_agrees("unequal", name, loss, case.loss)
        assert case.grad.keys() == {"forget", "retain"}
        for role, expected in case.grad.items():
            (grad,) = torch.autograd.grad(loss, file.model[role].logits, retain_graph=True)
            assert_agrees("unequal", name, grad, expected)
    assert {str(case.hyper["loss_type"]) for case in file.cases.values()} == FORMS.keys()


def supervised(shared: Path, table: Table, name: str) -> Table:
    """A recorded table with every real token supervised."""
    batch = json.loads((shared / "conformance" / "unequal_a.json").read_text())["batches"][name]
    return evolve(table, labels=torch.tensor(batch["input_ids"]).masked_fill(~table.mask, -100))


def test_official_parts(shared: Path) -> None:
    """The question term by itself: its recorded weight is 0."""
    file = recorded(shared, "unequal")
    content = json.loads((shared / "conformance" / "unequal_a.json").read_text())["objectives"]
    forget = file.model["forget"]
    whole = supervised(shared, forget, "forget")
    question = evolve(whole, labels=whole.labels.masked_fill(forget.labels != -100, -100))
    objective = UnequalUnlearning(forget_weight=0.0, question_weight=1.0, retain_weight=0.0)
    loss = loss_of(objective, {"forget": forget, "forget_question": question, "retain": file.model["retain"]})
    for case in content:
        assert_agrees("unequal", case, loss, content[case]["parts"]["question"])
