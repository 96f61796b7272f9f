"""Estimates of a step's gradient: limits at which they are exact, closed forms, and parameters put back bit by bit."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.optim.steps import BOTH, FORGET, RETAIN, at_toy, exact_gradient, taken
from tests.toy import Toy
from unlearnkit.errors import CheckpointError, GradientError, LossError
from unlearnkit.gradient import At, Gradient, Means, exact
from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.objectives.grad_diff import GradDiff
from unlearnkit.objectives.gradient_ascent import GradientAscent
from unlearnkit.objectives.npo import NPO
from unlearnkit.optim import (
    Alternating,
    CurvaturePenalty,
    GradientPenalty,
    RandomizedSmoothing,
    SharpnessAware,
    ZerothOrder,
    average_weights,
    take_average,
)
from unlearnkit.optim.points import norm, split
from unlearnkit.protocols import Objective
from unlearnkit.resume import Checkpoints
from unlearnkit.train import unlearn

ESTIMATES: list[Gradient] = [
    SharpnessAware(rho=0.3),
    RandomizedSmoothing(sigma=0.1),
    GradientPenalty(rho=0.5),
    CurvaturePenalty(rho=0.5),
    ZerothOrder(mu=0.1, directions=3),
    ZerothOrder(mu=0.1, distribution="sphere"),
    Alternating(period=1),
]


@pytest.mark.parametrize("estimate", ESTIMATES, ids=lambda estimate: type(estimate).__name__)
def test_parameters_are_put_back_and_the_same_step_is_the_same(estimate: Gradient) -> None:
    model = Toy(0)
    before = copy.deepcopy(model.state_dict())
    found = []
    for _ in range(2):
        at = at_toy(model, step=1)
        means = estimate(at)
        found.append(taken(at))
        assert set(means.terms) == {"npo", "nll_retain"}
        assert means.loss.isfinite()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


@pytest.mark.parametrize(
    "estimate",
    [
        exact,
        SharpnessAware(rho=0.0),
        RandomizedSmoothing(sigma=0.0, draws=2),
        GradientPenalty(rho=0.0),
        CurvaturePenalty(rho=0.0),
        Alternating(phases=(exact,)),
    ],
)
def test_with_nothing_asked_for_the_gradient_is_exact(estimate: Gradient) -> None:
    model = Toy(0)
    at = at_toy(model)
    means = estimate(at)
    torch.testing.assert_close(taken(at), exact_gradient(model))
    torch.testing.assert_close(means.loss, at.value(BOTH).loss)


@pytest.mark.parametrize("estimate", [SharpnessAware(rho=0.3), RandomizedSmoothing(sigma=0.3), GradientPenalty()])
def test_the_retain_gradient_is_untouched(estimate: Gradient) -> None:
    """What differs from the exact gradient is what the forget terms alone differ by."""
    model = Toy(0)
    both, alone = at_toy(model), at_toy(model, NPO(beta=0.5))
    estimate(both)
    of_both = taken(both)
    estimate(alone)
    retain = exact_gradient(model, 0.7 * CrossEntropy("retain"))
    torch.testing.assert_close(of_both, [a + r for a, r in zip(taken(alone), retain, strict=True)])


def test_sharpness_looks_rho_away_along_the_forget_gradient() -> None:
    model = Toy(0)
    slope = exact_gradient(model, NPO(beta=0.5))
    elsewhere = Toy()
    elsewhere.load_state_dict(model.state_dict())
    length = torch.cat([part.flatten() for part in slope]).norm()
    with torch.no_grad():
        for parameter, part in zip(elsewhere.parameters(), slope, strict=True):
            parameter.add_(0.3 * part / length)
    at = at_toy(model, NPO(beta=0.5))
    SharpnessAware(rho=0.3)(at)
    torch.testing.assert_close(taken(at), exact_gradient(elsewhere, NPO(beta=0.5)))


def test_scaling_the_forget_loss_leaves_the_point_where_it_is() -> None:
    model = Toy(0)
    found = []
    for weight in (1.0, 7.0):
        at = at_toy(model, weight * NPO(beta=0.5))
        SharpnessAware(rho=0.3)(at)
        found.append([part / weight for part in taken(at)])
    torch.testing.assert_close(found[0], found[1])


def test_no_gradient_is_no_direction() -> None:
    model = Toy(0)
    at = at_toy(model, 0.0 * NPO(beta=0.5) + CrossEntropy("retain"))
    SharpnessAware(rho=0.3)(at)
    torch.testing.assert_close(taken(at), exact_gradient(model, CrossEntropy("retain")))


def test_what_cannot_be_taken_apart_is_refused() -> None:
    with pytest.raises(LossError, match="at once, so that its 'forget' part"):
        SharpnessAware()(at_toy(Toy(0), GradDiff()))
    with pytest.raises(LossError, match="reads the role 'elsewhere'"):
        split(BOTH, "elsewhere")


# --- a quadratic loss, whose Hessian is known -------------------------------------------------------------------------

HESSIAN = torch.tensor([[3.0, 1.0, 0.0], [1.0, 2.0, -1.0], [0.0, -1.0, 1.0]], dtype=torch.float64)


def quadratic(power: float = 1.0) -> At:
    """L = (x' H x / 2)^power at a fixed place; the objective asked for is only a name."""
    place = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))

    def loss() -> Tensor:
        return (0.5 * place @ HESSIAN @ place) ** power

    def backward(_: Objective) -> Means:
        value = loss()
        (slope,) = torch.autograd.grad(value, place)
        place.grad = slope if place.grad is None else place.grad + slope
        return Means({"quadratic": value.detach()}, value.detach())

    def value(_: Objective) -> Means:
        found = loss().detach()
        return Means({"quadratic": found}, found)

    return At(step=0, objective=NPO(), parameters=(place,), backward=backward, value=value)


def test_gradient_penalty_of_a_quadratic() -> None:
    at = quadratic()
    (place,) = at.parameters
    slope = HESSIAN @ place.detach()
    GradientPenalty(rho=0.4)(at)
    torch.testing.assert_close(taken(at)[0], slope + 0.4 * HESSIAN @ (slope / slope.norm()))


def test_curvature_penalty_of_a_quadratic_is_nothing() -> None:
    """Its gradient turns by the same amount everywhere."""
    at = quadratic()
    (place,) = at.parameters
    CurvaturePenalty(rho=0.4)(at)
    torch.testing.assert_close(taken(at)[0], HESSIAN @ place.detach())


def test_curvature_penalty_is_the_gradient_of_the_turn() -> None:
    """Against differentiating |grad L(x + w u) - grad L(x)| with u held fixed."""
    at = quadratic(1.5)
    (place,) = at.parameters
    x = place.detach().clone().requires_grad_()

    def slope(at_x: Tensor) -> Tensor:
        value = (0.5 * at_x @ HESSIAN @ at_x) ** 1.5
        return torch.autograd.grad(value, at_x, create_graph=True)[0]

    here = slope(x)
    ahead = 0.1 * (here / here.norm()).detach()
    (expected,) = torch.autograd.grad((slope(x + ahead) - here).norm(), x)
    CurvaturePenalty(rho=1.0, width=0.1, h=1e-5)(at)
    torch.testing.assert_close(taken(at)[0], here.detach() + expected, rtol=1e-4, atol=1e-4)


def test_two_points_are_exact_along_a_direction_of_a_quadratic() -> None:
    for mu in (1e-3, 0.7):
        at = quadratic()
        (place,) = at.parameters
        ZerothOrder(mu=mu)(at)
        (found,) = taken(at)
        direction = found / found.norm()
        slope = HESSIAN @ place.detach()
        # found = (u . slope) u: its length along the slope is |found|^2 / |u|^2
        scale = found @ slope / (direction @ slope) ** 2
        torch.testing.assert_close(found, scale * (direction @ slope) * direction)


@pytest.mark.parametrize("distribution", ["gaussian", "sphere"])
def test_many_directions_are_the_gradient(distribution: str) -> None:
    at = quadratic()
    (place,) = at.parameters
    ZerothOrder(mu=0.01, directions=4000, distribution=distribution)(at)  # type: ignore[arg-type]
    slope = HESSIAN @ place.detach()
    assert (taken(at)[0] - slope).norm() < 0.15 * slope.norm()


def test_on_the_sphere_without_the_dimension_it_is_d_times_smaller() -> None:
    scaled, plain = quadratic(), quadratic()
    ZerothOrder(distribution="sphere")(scaled)
    ZerothOrder(distribution="sphere", scale_by_dim=False)(plain)
    torch.testing.assert_close(taken(scaled)[0], 3 * taken(plain)[0])


def test_the_loss_at_both_sides_is_of_the_same_rows_without_a_graph() -> None:
    model = Toy(0)
    at = at_toy(model)
    assert not at.value(BOTH).loss.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    torch.testing.assert_close(at.value(BOTH).loss, at.backward(BOTH).loss)


# --- runs -------------------------------------------------------------------------------------------------------------


def trained(
    gradient: Gradient, *, steps: int = 8, max_tokens: int = 10_000, checkpoints: Checkpoints | None = None
) -> Toy:
    model = Toy(0)
    unlearn(
        model,
        BOTH,
        {"forget": FORGET, "retain": RETAIN},
        optimizer=torch.optim.SGD(model.parameters(), lr=0.01),
        models={"reference": Toy(0)},
        steps=steps,
        max_tokens=max_tokens,
        gradient=gradient,
        checkpoints=checkpoints,
    )
    return model


@pytest.mark.parametrize("estimate", ESTIMATES, ids=lambda estimate: type(estimate).__name__)
def test_a_run_does_not_depend_on_how_steps_are_cut(estimate: Gradient) -> None:
    whole, cut = trained(estimate), trained(estimate, max_tokens=8)
    torch.testing.assert_close(whole.state_dict(), cut.state_dict(), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("estimate", [SharpnessAware(rho=1.0), GradientPenalty(rho=0.5, h=0.5)])
def test_half_precision_models_are_looked_at_from_where_they_were_moved(estimate: Gradient) -> None:
    """Autocast keeps the weights that it has rounded once; those of another place are not those of this one."""
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        model = Toy(0).to(torch.bfloat16).to(dtype)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        optimizer.register_step_pre_hook(lambda *_, of=model: found.append(of.block.grad.clone()))
        data = {"forget": FORGET, "retain": RETAIN}
        objective = GradientAscent() + CrossEntropy("retain")
        unlearn(model, objective, data, optimizer=optimizer, steps=1, gradient=estimate)
    half, single = found
    assert (half - single).norm() < 0.05 * single.norm()


def test_alternating_takes_turns() -> None:
    seen: list[str] = []

    def noting(name: str) -> Gradient:
        def estimate(at: At) -> Means:
            seen.append(name)
            return exact(at)

        return estimate

    trained(Alternating(phases=(noting("first"), noting("zeroth")), period=2), steps=6)
    assert seen == ["first", "first", "zeroth", "zeroth", "first", "first"]


def test_a_run_that_is_gone_on_with_is_the_same_run(tmp_path: Path) -> None:
    whole = trained(Alternating(period=2), steps=5)
    for steps in (3, 5):
        resumed = trained(Alternating(period=2), steps=steps, checkpoints=Checkpoints(folder=tmp_path))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])
    with pytest.raises(CheckpointError, match="its gradient and adversary was"):
        trained(Alternating(period=3), steps=6, checkpoints=Checkpoints(folder=tmp_path))


def test_averaged_weights_are_the_mean_over_steps() -> None:
    model = Toy(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    average_weights(optimizer)
    seen: list[Tensor] = []
    optimizer.register_step_post_hook(lambda *_: seen.append(model.block.detach().clone()))
    data = {"forget": FORGET, "retain": RETAIN}
    unlearn(model, BOTH, data, optimizer=optimizer, models={"reference": Toy(0)}, steps=5)
    take_average(optimizer)
    torch.testing.assert_close(model.block.detach(), torch.stack(seen).mean(0))


class Idle(Toy):
    """A toy with a parameter that nothing reads."""

    def __init__(self) -> None:
        super().__init__(0)
        self.idle = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("estimate", [exact, SharpnessAware(), RandomizedSmoothing(), CurvaturePenalty()])
def test_a_parameter_that_is_not_reached_is_refused_as_ever(estimate: Gradient) -> None:
    model = Idle()
    data = {"forget": FORGET, "retain": RETAIN}
    with pytest.raises(GradientError, match="1 of 5 trainable tensors got no gradient, idle"):
        unlearn(
            model,
            BOTH,
            data,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            models={"reference": Toy(0)},
            steps=1,
            gradient=estimate,
        )


def test_an_interrupted_run_has_the_same_mean_of_weights(tmp_path: Path) -> None:
    def run(folder: Path, steps: int) -> Toy:
        model = Toy(0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        average_weights(optimizer)
        unlearn(
            model,
            BOTH,
            {"forget": FORGET, "retain": RETAIN},
            optimizer=optimizer,
            models={"reference": Toy(0)},
            steps=steps,
            checkpoints=Checkpoints(folder=folder, every=3),
        )
        take_average(optimizer)
        return model

    whole = run(tmp_path / "whole", 6)
    run(tmp_path / "cut", 3)
    resumed = run(tmp_path / "cut", 6)
    assert torch.equal(whole.block, resumed.block)


def test_options_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'rho' must be >= 0"):
        SharpnessAware(rho=-1.0)
    with pytest.raises(ValueError, match="'mu' must be > 0"):
        ZerothOrder(mu=0.0)
    with pytest.raises(ValueError, match="'draws' must be >= 1"):
        RandomizedSmoothing(draws=0)


def test_norm_is_over_everything() -> None:
    assert norm([torch.tensor([3.0]), torch.tensor([[4.0]])]).item() == 5.0
