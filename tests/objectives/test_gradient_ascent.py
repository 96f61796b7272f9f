"""Gradient ascent: the fine-tuning loss turned around, unbounded, official numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.objectives.conformance import Supervised, assert_reproduces, loss_of, worked_example
from unlearnkit.objectives.cross_entropy import CrossEntropy, Reduction
from unlearnkit.objectives.gradient_ascent import GradientAscent
from unlearnkit.testing import Table


def test_worked_number() -> None:
    model, _ = worked_example()
    assert loss_of(GradientAscent(), {"forget": model}).item() == pytest.approx(-0.765068, abs=1e-6)


@pytest.mark.parametrize("reduction", ["token", "sequence_mean", "sequence_sum"])
def test_gradient_is_minus_the_fine_tuning_gradient(reduction: Reduction) -> None:
    model, _ = worked_example()
    ascent = loss_of(GradientAscent(reduction=reduction), {"forget": model})
    descent = loss_of(CrossEntropy("forget", reduction=reduction), {"forget": model})
    (up,), (down,) = (torch.autograd.grad(loss, model.logits) for loss in (ascent, descent))
    assert up.equal(-down)


def test_the_logged_value_is_a_log_likelihood_of_weight_one() -> None:
    model, _ = worked_example()
    assert loss_of(2 * GradientAscent(), {"forget": model}).item() == pytest.approx(2 * -0.765068, abs=1e-6)


@pytest.mark.parametrize(("logit", "gradient"), [(60.0, 0.0), (-60.0, 1.0)])
def test_pull_is_gone_where_the_token_is_certain_and_stays_where_it_is_forgotten(logit: float, gradient: float) -> None:
    logits = torch.tensor([[[logit, 0.0], [0.0, 0.0]]], dtype=torch.float64, requires_grad=True)
    loss = loss_of(GradientAscent(), {"forget": Table(logits, torch.tensor([[-100, 0]]))})
    (grad,) = torch.autograd.grad(loss, logits)
    assert grad[0, 0, 0].item() == pytest.approx(gradient, abs=1e-12)


@pytest.mark.parametrize(
    ("source", "case", "supervised", "tolerance"),
    [
        ("open_unlearning", "gradient_ascent", "labels", 1e-9),
        ("npo", "grad_ascent", "labels", 1e-9),
        ("tofu", "grad_ascent", "labels", 1e-9),
        ("g_effect", "ga", "labels", 1e-9),
        ("altpo", "grad_ascent", "labels", 1e-9),
        ("muse", "ga", "all ids", 1e-9),
        ("impossibility", "ga", "labels", 1e-6),  # computed in float32
    ],
)
def test_official_numbers(shared: Path, source: str, case: str, supervised: Supervised, tolerance: float) -> None:
    assert_reproduces(shared, source, case, GradientAscent(), supervised=supervised, tolerance=tolerance)
