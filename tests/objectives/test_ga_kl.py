"""GA + KL: gradient ascent at the reference, official numbers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from attrs import evolve

from tests.objectives.conformance import Supervised, assert_reproduces, loss_of
from tests.tables import random_table, recorded
from unlearnkit.objectives.ga_kl import GradientAscentKL
from unlearnkit.objectives.grad_diff import GradDiff
from unlearnkit.objectives.gradient_ascent import GradientAscent
from unlearnkit.objectives.retain_kl import forward_kl
from unlearnkit.protocols import Objective
from unlearnkit.testing import Table


@pytest.mark.parametrize("objective", [GradientAscentKL(), GradientAscentKL(kl_role="forget", retain_weight=3.0)])
def test_gradient_is_that_of_ascent_at_the_reference(objective: GradientAscentKL) -> None:
    model = {"forget": random_table(1, [(2, 3), (1, 1)]), "retain": random_table(2, [(1, 4)])}
    reference = {role: evolve(table, logits=table.logits.detach()) for role, table in model.items()}
    (grad,) = torch.autograd.grad(loss_of(objective, model, reference), model["forget"].logits)
    (ascent,) = torch.autograd.grad(loss_of(GradientAscent(), model), model["forget"].logits)
    torch.testing.assert_close(grad, ascent)


def test_options_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'kl_role' must be in"):
        GradientAscentKL(kl_role="idk")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'retain_weight' must be a finite number: inf"):
        GradientAscentKL(retain_weight=math.inf)


@pytest.mark.parametrize(
    ("source", "case", "objective", "supervised"),
    [
        ("npo", "KL", GradientAscentKL(), "labels"),
        ("npo", "grad_ascent_forgetKL", GradientAscentKL(kl_role="forget"), "labels"),
        ("tofu", "KL", GradientAscentKL(), "labels"),
        ("altpo", "KL", GradientAscentKL(), "labels"),
        ("altpo", "grad_diff_retainKL", GradientAscentKL(), "labels"),
        ("closer_look", "GA+KL", GradientAscentKL(), "labels"),
        ("g_effect", "ga_kl", GradientAscentKL(), "labels"),
        ("g_effect", "KL_h1.0", GradientAscentKL(), "labels"),
        ("uld", "ga_kl", GradientAscentKL(), "labels"),
        ("muse", "ga_klr__paper", GradientAscentKL(), "all ids"),
    ],
)
def test_official_numbers(
    shared: Path, source: str, case: str, objective: GradientAscentKL, supervised: Supervised
) -> None:
    assert_reproduces(shared, source, case, objective, supervised=supervised)


def _answers(table: Table) -> torch.Tensor:
    return table.logits[table.at("answer")]


@pytest.mark.parametrize(
    ("case", "objective", "role"),
    [("synthetic_kl", GradientAscent(), "retain"), ("synthetic_grad_diff_kl_forget", GradDiff(), "forget")],
)
def test_synthetic_experiment_sums_the_kl_of_an_answer(
    shared: Path, case: str, objective: Objective, role: str
) -> None:
    file = recorded(shared, "simnpo")
    divergence = forward_kl(_answers(file.model[role]), _answers(file.reference[role])).sum() / 3
    loss = loss_of(objective, file.model) + divergence
    assert loss.item() == pytest.approx(file.cases[case].loss, rel=1e-9)
    for name, expected in file.cases[case].grad.items():
        (grad,) = torch.autograd.grad(loss, file.model[name].logits, retain_graph=True)
        torch.testing.assert_close(grad, expected, rtol=1e-9, atol=1e-9)
