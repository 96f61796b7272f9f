"""NPO: worked numbers, the paper's gradient, limits, and the authors' numbers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.tables import recorded
from unlearnkit.objectives.npo import NPO, npo_loss
from unlearnkit.testing import seen_from_tables, total

nats = st.floats(-60, -1e-3)
"""Log-prob of a whole answer."""


@given(pairs=st.lists(st.tuples(nats, nats), min_size=1, max_size=6), beta=st.floats(0.02, 5))
def test_gradient_is_ascent_times_the_papers_weight(pairs: list[tuple[float, float]], beta: float) -> None:
    log_p, log_ref = torch.tensor(pairs, dtype=torch.float64).unbind(1)
    log_p.requires_grad_()
    (grad,) = torch.autograd.grad(npo_loss(log_p, log_ref, beta=beta).sum(), log_p)
    torch.testing.assert_close(grad, 2 * torch.sigmoid(beta * (log_p.detach() - log_ref)))


@given(log_p=nats, log_ref=nats)
def test_small_beta_is_gradient_ascent_on_the_sequence_sum(log_p: float, log_ref: float) -> None:
    beta = 1e-7
    model, reference = (torch.tensor([x], dtype=torch.float64) for x in (log_p, log_ref))
    shifted = npo_loss(model, reference, beta=beta) - (2 / beta) * math.log(2)
    assert shifted.item() == pytest.approx(log_p - log_ref, abs=1e-3)


def test_worked_numbers() -> None:
    log_ratio = torch.tensor([1.5, 2.0], dtype=torch.float64).log()
    loss = npo_loss(log_ratio, torch.zeros_like(log_ratio), beta=1.0).mean()
    assert loss.item() == pytest.approx(math.log(2.5) + math.log(3.0))


def test_beta_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'beta' must be > 0"):
        NPO(beta=0.0)


@pytest.mark.parametrize(
    ("source", "case"),
    [
        ("npo", "npo_beta0.1"),
        ("npo", "npo_beta1.0"),
        ("open_unlearning", "npo_beta0.1"),
        ("open_unlearning", "npo_beta0.5"),
        ("simnpo", "npo_beta0.1"),
        ("g_effect", "npo_h4.0"),
    ],
)
def test_authors_numbers(shared: Path, source: str, case: str) -> None:
    file = recorded(shared, source)
    expected = file.cases[case]
    objective = NPO(beta=expected.hyper["beta"])
    seen = seen_from_tables(objective.needs, {"model": file.model, "reference": file.reference})
    loss = total(objective(seen), file.model)
    assert loss.item() == pytest.approx(expected.loss, rel=1e-9)
    (grad,) = torch.autograd.grad(loss, file.model["forget"].logits)
    torch.testing.assert_close(grad, expected.grad["forget"], rtol=1e-9, atol=1e-9)
