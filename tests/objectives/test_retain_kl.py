"""Retain KL: worked numbers, closed-form gradient, its minimum, where it is averaged, official numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.objectives.conformance import assert_reproduces, loss_of, worked_example
from tests.tables import random_table, recorded
from unlearnkit.objectives.retain_kl import ForwardKL, RetainKL, forward_kl
from unlearnkit.protocols import Positions


@pytest.mark.parametrize(("positions", "expected"), [("non_pad", 0.0829627), ("answer", 0.1659254)])
def test_worked_numbers(positions: Positions, expected: float) -> None:
    model, reference = worked_example()
    loss = loss_of(RetainKL(positions=positions), {"retain": model}, {"retain": reference})
    assert loss.item() == pytest.approx(expected, abs=1e-7)


def test_gradient_is_model_minus_reference_over_the_number_of_positions() -> None:
    model, reference = worked_example()
    loss = loss_of(RetainKL(), {"retain": model}, {"retain": reference})
    (grad,) = torch.autograd.grad(loss, model.logits)
    torch.testing.assert_close(grad, (model.logits.detach().exp() - reference.logits.exp()) / 8)


def test_zero_with_zero_gradient_at_the_reference() -> None:
    logits = random_table(0, [(2, 3)]).logits[0].detach().requires_grad_()
    each = forward_kl(logits, logits)
    (grad,) = torch.autograd.grad(each.sum(), logits)
    torch.testing.assert_close(each.detach(), torch.zeros(5, dtype=torch.float64))
    torch.testing.assert_close(grad, torch.zeros_like(logits))


@pytest.mark.parametrize("seed", range(5))
def test_never_negative_and_not_symmetric(seed: int) -> None:
    one, other = torch.randn(2, 20, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    forward, backward = forward_kl(one, other), forward_kl(other, one)
    assert (forward > 0).all()
    assert not torch.isclose(forward, backward).any()


def test_the_reference_is_a_constant() -> None:
    model, reference = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    each = forward_kl(model.requires_grad_(), reference.requires_grad_())
    each.sum().backward()
    assert reference.grad is None


def test_needs_no_labels() -> None:
    assert not ForwardKL().uses_labels
    assert RetainKL(of="oracle").divergence.of == "oracle"


def test_positions_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'positions' must be in"):
        RetainKL(positions="all")  # type: ignore[arg-type]


def test_released_average_is_over_every_position(shared: Path) -> None:
    file = recorded(shared, "open_unlearning")
    model, reference = file.model["retain"].logits, file.reference["retain"].logits
    loss = forward_kl(model.flatten(0, 1), reference.flatten(0, 1)).mean()
    (grad,) = torch.autograd.grad(loss, model)
    assert loss.item() == pytest.approx(file.cases["retain_kl"].loss, rel=1e-9)
    torch.testing.assert_close(grad, file.cases["retain_kl"].grad["retain"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("source", "case", "positions", "padding_is_text"),
    [
        ("open_unlearning", "retain_kl", "non_pad", True),
        ("npo", "retain_kl_non_pad_positions__paper", "non_pad", False),
        ("npo", "retain_kl_answer_positions__paper", "answer", False),
    ],
)
def test_official_numbers(shared: Path, source: str, case: str, positions: Positions, padding_is_text: bool) -> None:
    assert_reproduces(shared, source, case, RetainKL(positions=positions), padding_is_text=padding_is_text)
