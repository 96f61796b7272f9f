"""How the gradient of a global step is found: by differentiating it, or by an estimate that asks for more than one pass.

`unlearn(gradient=...)` takes one of the estimates of `unlearnkit.optim` (zeroth order, sharpness-aware, smoothed …), or
yours: a function that leaves the gradient in `.grad`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from attrs import frozen
from torch import Tensor, nn

from unlearnkit.protocols import Objective


class Means(NamedTuple):
    """Of one global step, on every rank: the unweighted mean of each term, and what was minimised; 0-d tensors.

    Tensors, because reading a number makes the host wait for the device.
    """

    terms: dict[str, Tensor]
    loss: Tensor


@frozen(kw_only=True, eq=False)
class At:
    """The global step at hand, as an estimate of its gradient sees it. Every rank asks the same in the same order.

    Attributes:
        step: its number.
        objective: what is minimised.
        parameters: that are trained. They may be changed between two questions, and have to be put back.
        backward: adds the exact gradient of an objective on this step's rows to `.grad`, where the parameters are now.
        value: the same without a gradient: forward passes only.
    """

    step: int
    objective: Objective
    parameters: Sequence[nn.Parameter]
    backward: Callable[[Objective], Means]
    value: Callable[[Objective], Means]


class Gradient(Protocol):
    """Leaves a step's gradient in `.grad`, which is empty before, and the parameters as they were."""

    def __call__(self, at: At, /) -> Means: ...


def exact(at: At) -> Means:
    """The gradient itself."""
    return at.backward(at.objective)
