"""SURE: which rows are salient, that the others stay bit by bit, and what masking the gradient instead would move."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor, nn
from torch.optim import AdamW

from tests.optim.steps import BOTH, FORGET, RETAIN, at_toy, exact_gradient, taken
from tests.toy import Toy
from unlearnkit.errors import GradientError, LossError
from unlearnkit.gradient import At, Means, exact
from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.objectives.gradient_ascent import GradientAscent
from unlearnkit.objectives.npo import NPO
from unlearnkit.optim.saliency import (
    SalientGradient,
    SalientUpdates,
    saliency_threshold,
    salient_rows,
    unit_saliency,
)
from unlearnkit.protocols import Objective, WeightedSum
from unlearnkit.resume import Checkpoints
from unlearnkit.train import Step, unlearn

DATA = {"forget": FORGET, "retain": RETAIN}
seeds = st.integers(0, 2**31)
percentiles = st.floats(0, 100)


def tables(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((30, 4), (11,), (9, 2, 3), ())]


def copies(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


# --- which rows -------------------------------------------------------------------------------------------------------


def test_a_row_is_a_unit() -> None:
    gradients = [torch.tensor([[3.0, 4.0], [0.0, -1.0]]), torch.tensor([-2.0, 0.5, 0.0]), torch.tensor(-7.0)]
    found = unit_saliency(gradients)
    assert [each.tolist() for each in found] == [[5.0, 1.0], [2.0, 0.5, 0.0], [7.0]]
    # sorted: 0, .5, 1, 2, 5, 7; the 90th percentile is place 4.5
    assert float(saliency_threshold(found, 90.0)) == 6.0
    rows = salient_rows(gradients, 60.0)  # place 3: it reaches the threshold itself
    assert [each.tolist() for each in rows] == [[True, False], [True, False, False], [True]]


def test_half_precision_is_summed_in_float32() -> None:
    (found,) = unit_saliency([torch.full((1, 4096), 300.0, dtype=torch.float16)])  # the square of one overflows
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(300.0 * 64)


@given(seed=seeds, percentile=percentiles)
def test_the_percentile_is_that_of_all_units_together(seed: int, percentile: float) -> None:
    saliencies = unit_saliency(tables(seed))
    expected = torch.quantile(torch.cat(saliencies), percentile / 100)
    torch.testing.assert_close(saliency_threshold(saliencies, percentile), expected, rtol=1e-12, atol=0)


@given(seed=seeds, percentile=percentiles, factor=st.floats(1e-3, 1e3))
def test_the_scale_of_the_forget_loss_does_not_matter(seed: int, percentile: float, factor: float) -> None:
    gradients = tables(seed)
    for one, other in zip(
        salient_rows(gradients, percentile),
        salient_rows([factor * gradient for gradient in gradients], percentile),
        strict=True,
    ):
        assert torch.equal(one, other)


@given(seed=seeds)
def test_how_many_rows(seed: int) -> None:
    gradients = tables(seed)
    units = 30 + 11 + 9 + 1
    assert sum(int(rows.sum()) for rows in salient_rows(gradients, 0.0)) == units
    assert sum(int(rows.sum()) for rows in salient_rows(gradients, 90.0)) == 6  # places 45 to 50 of 0 to 50
    assert sum(int(rows.sum()) for rows in salient_rows(gradients, 100.0)) == 1
    tied = [torch.cat([gradients[0], 9 * torch.ones(2, 4)])]
    assert salient_rows(tied, 100.0)[0].nonzero().flatten().tolist() == [30, 31]


# --- what is updated --------------------------------------------------------------------------------------------------


def forget_rows(model: Toy, percentile: float) -> list[Tensor]:
    return salient_rows(exact_gradient(model, NPO(beta=0.5)), percentile)


@pytest.mark.parametrize("fused", [False, True])
def test_rows_that_are_not_salient_stay_bit_by_bit(fused: bool) -> None:
    model = Toy(0)
    optimizer = AdamW(model.parameters(), lr=0.05, weight_decay=0.1, fused=fused)
    sure = SalientUpdates(optimizer, percentile=70.0)
    ever = [torch.zeros(len(parameter), dtype=torch.bool) for parameter in model.parameters()]
    for step in range(4):
        before, rows = copies(model), forget_rows(model, 70.0)
        sure(at_toy(model, step=step))
        optimizer.step()
        optimizer.zero_grad()
        for old, new, moving in zip(before, model.parameters(), rows, strict=True):
            assert torch.equal(old[~moving], new[~moving])
            assert bool((old[moving] != new[moving]).flatten(1).all() if old.dim() > 1 else True)
        ever = [one | moving for one, moving in zip(ever, rows, strict=True)]
    # Momentum and decay had something to move: some rows were salient in one step and not in another.
    assert any(bool((one & ~moving).any()) for one, moving in zip(ever, rows, strict=True))


def test_salient_rows_move_as_without_a_mask() -> None:
    model, plain = Toy(0), Toy(0)
    rows = forget_rows(model, 70.0)
    for twin, masked in ((model, True), (plain, False)):
        optimizer = AdamW(twin.parameters(), lr=0.05, weight_decay=0.1)
        way = SalientUpdates(optimizer, percentile=70.0) if masked else exact
        way(at_toy(twin))
        optimizer.step()
        moments = [optimizer.state[parameter]["exp_avg"] for parameter in twin.parameters()]
        if masked:
            mine = moments
        else:
            torch.testing.assert_close(mine, moments, rtol=1e-12, atol=1e-15)
    for one, other, moving in zip(model.parameters(), plain.parameters(), rows, strict=True):
        torch.testing.assert_close(one[moving], other[moving], rtol=1e-12, atol=0)


def test_a_masked_gradient_lets_decay_and_momentum_through() -> None:
    model = Toy(0)
    optimizer = AdamW(model.parameters(), lr=0.05, weight_decay=0.1)
    rows, before = forget_rows(model, 90.0), copies(model)
    at = at_toy(model)
    SalientGradient(percentile=90.0)(at)
    whole = exact_gradient(model)
    for parameter, slope, moving in zip(at.parameters, whole, rows, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad[moving], slope[moving], rtol=1e-9, atol=1e-12)
        assert not parameter.grad[~moving].any()
    optimizer.step()
    for old, new, moving in zip(before, model.parameters(), rows, strict=True):
        torch.testing.assert_close(new[~moving], (1 - 0.05 * 0.1) * old[~moving])  # 0 in the update mask


def test_the_forget_gradient_counts_once() -> None:
    model = Toy(0)
    at = at_toy(model)
    means = SalientUpdates(AdamW(model.parameters()))(at)
    torch.testing.assert_close(taken(at), exact_gradient(model), rtol=1e-9, atol=1e-12)
    plain = at.value(BOTH)
    torch.testing.assert_close(means.loss, plain.loss)
    assert means.terms.keys() == plain.terms.keys()


def test_percentile_zero_is_the_plain_run() -> None:
    def run(percentile: float | None) -> Toy:
        model = Toy(0)
        optimizer = AdamW(model.parameters(), lr=0.01)
        way = exact if percentile is None else SalientUpdates(optimizer, percentile=percentile)
        unlearn(model, BOTH, DATA, optimizer=optimizer, models={"reference": Toy(0)}, steps=5, gradient=way)
        return model

    plain, none_masked, masked = run(None), run(0.0), run(90.0)
    torch.testing.assert_close(copies(none_masked), copies(plain), rtol=1e-9, atol=1e-12)
    first = Toy(0)
    still = [
        (one == other).reshape(len(one), -1).all(1)
        for one, other in zip(masked.parameters(), first.parameters(), strict=True)
    ]
    assert 0.5 < torch.cat(still).double().mean() < 0.95
    assert not any((one == other).any() for one, other in zip(plain.parameters(), first.parameters(), strict=True))


def test_a_tensor_that_the_forget_loss_does_not_reach_is_not_salient() -> None:
    reached, other = nn.Parameter(torch.ones(10, 2)), nn.Parameter(torch.ones(4, 2))

    def backward(objective: Objective) -> Means:
        assert isinstance(objective, WeightedSum)
        forgets = "forget" in {need.role for need in objective.needs}
        parameter = reached if forgets else other
        loss = (parameter * torch.arange(1.0, 1 + len(parameter))[:, None]).sum()
        loss.backward()
        return Means({"forget" if forgets else "retain": loss.detach()}, loss.detach())

    at = At(
        step=0,
        objective=GradientAscent() + CrossEntropy("retain"),
        parameters=(reached, other),
        backward=backward,
        value=backward,
    )
    optimizer = torch.optim.SGD([reached, other], lr=0.1)
    SalientUpdates(optimizer, percentile=50.0)(at)
    assert other.grad is not None
    optimizer.step()
    assert torch.equal(other, torch.ones(4, 2))
    assert (reached != 1).all(1).nonzero().flatten().tolist() == list(range(3, 10))  # 4 zeros and 3 more are below


def test_one_step_is_masked_and_not_the_next_one_of_somebody_else() -> None:
    model = Toy(0)
    optimizer = AdamW(model.parameters(), lr=0.05)
    SalientUpdates(optimizer)(at_toy(model))
    optimizer.step()
    before = copies(model)
    optimizer.zero_grad()
    exact(at_toy(model))
    optimizer.step()
    assert not any((old == new).any() for old, new in zip(before, model.parameters(), strict=True))


def test_a_run_that_was_interrupted_ends_with_the_same_bits(tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def run(folder: Path, stop_at: int | None = None) -> Toy:
        def stop(step: Step) -> None:
            if step.number == stop_at:
                raise Interrupted

        model = Toy(0)
        optimizer = AdamW(model.parameters(), lr=0.01)
        unlearn(
            model,
            BOTH,
            DATA,
            optimizer=optimizer,
            models={"reference": Toy(0)},
            steps=6,
            gradient=SalientUpdates(optimizer, percentile=60.0),
            checkpoints=Checkpoints(folder=folder, every=2),
            on_step=stop,
        )
        return model

    whole = run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", stop_at=4)
    assert all(torch.equal(one, other) for one, other in zip(copies(whole), copies(run(tmp_path / "cut")), strict=True))


def test_what_cannot_be_is_refused() -> None:
    model = Toy(0)
    optimizer = AdamW(model.parameters())
    for make in (lambda p: SalientUpdates(optimizer, percentile=p), lambda p: SalientGradient(percentile=p)):
        for wrong in (-1.0, 100.5, float("nan")):
            with pytest.raises(ValueError, match=r"'percentile' must be"):
                make(wrong)
    with pytest.raises(GradientError, match=r"does not hold what is trained.*Give it the optimizer that is given to"):
        SalientUpdates(AdamW(Toy(1).parameters()))(at_toy(model))
    with pytest.raises(LossError, match=r"no part of .* reads the role 'forget'"):
        SalientUpdates(optimizer)(at_toy(model, CrossEntropy("retain")))
