"""Looking at an objective from somewhere else: parameters moved for a while, gradients taken there, parts of a sum."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from unlearnkit.errors import LossError
from unlearnkit.gradient import At, Means
from unlearnkit.protocols import Objective, WeightedSum

Slopes = Sequence[Tensor | None]
"""A tensor for each parameter; None where an objective does not reach it."""


@contextmanager
def moved(parameters: Sequence[nn.Parameter], by: Iterable[Tensor | None]) -> Iterator[None]:
    """Parameters shifted by these tensors; afterwards they are what they were, bit by bit (a copy is kept)."""
    before = [parameter.detach().clone() for parameter in parameters]
    try:
        with torch.no_grad():
            for parameter, shift in zip(parameters, by, strict=True):
                if shift is not None:
                    parameter.add_(shift)
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, before, strict=True):
                parameter.copy_(value)


def gradient_of(at: At, objective: Objective) -> tuple[list[Tensor | None], Means]:
    """The exact gradient where the parameters are now, taken out of `.grad`.

    Copies: under DDP `.grad` lies in memory that the next backward pass writes to.
    """
    means = at.backward(objective)
    found: list[Tensor | None] = []
    for parameter in at.parameters:
        found.append(None if parameter.grad is None else parameter.grad.clone())
        parameter.grad = None
    return found, means


def put(at: At, gradient: Slopes) -> None:
    """Add to `.grad`."""
    for parameter, of_parameter in zip(at.parameters, gradient, strict=True):
        if of_parameter is not None:
            parameter.grad = of_parameter if parameter.grad is None else parameter.grad + of_parameter


def summed(first: Slopes, second: Slopes, weight: float = 1.0) -> list[Tensor | None]:
    """The first plus a multiple of the second, parameter by parameter."""
    found: list[Tensor | None] = []
    for one, other in zip(first, second, strict=True):
        scaled = None if other is None else weight * other
        found.append(scaled if one is None else one if scaled is None else one + scaled)
    return found


def scaled(slopes: Slopes, weight: float) -> list[Tensor | None]:
    """A multiple of these."""
    return [None if slope is None else weight * slope for slope in slopes]


def norm(slopes: Slopes) -> Tensor:
    """L2 norm over all entries of all tensors."""
    return nn.utils.get_total_norm([slope for slope in slopes if slope is not None])


def unit(slopes: Slopes) -> list[Tensor | None]:
    """The direction of these tensors taken together; zeros stay zeros."""
    length = norm(slopes)
    return [None if slope is None else torch.where(length > 0, slope / length, 0.0) for slope in slopes]


def split(objective: Objective, role: str) -> tuple[Objective, Objective | None]:
    """The summands that read a role, and the rest of them.

    A summand that reads partners of the role beside it (its refusals, alternates) goes along as a whole.

    Raises:
        LossError: none does, or one reads "retain" as well, so that it cannot be taken apart.
    """
    summands = objective.summands if isinstance(objective, WeightedSum) else ((1.0, objective),)
    mine, others = list[tuple[float, Objective]](), list[tuple[float, Objective]]()
    for weight, part in summands:
        roles = {need.role for need in part.needs}
        if role in roles and "retain" in roles - {role}:
            raise LossError(
                f"{part} reads {sorted(roles)} at once, so that its {role!r} part cannot be treated apart. Write it as a "
                "sum, GradientAscent() + CrossEntropy('retain') for instance."
            )
        (mine if role in roles else others).append((weight, part))
    if not mine:
        raise LossError(f"no part of {objective} reads the role {role!r}. Name the role that is to be forgotten.")
    return WeightedSum(tuple(mine)), WeightedSum(tuple(others)) if others else None


def together(*means: Means) -> Means:
    """The means of several objectives as those of their sum."""
    terms = {name: value for each in means for name, value in each.terms.items()}
    return Means(terms, torch.stack([each.loss for each in means]).sum())
