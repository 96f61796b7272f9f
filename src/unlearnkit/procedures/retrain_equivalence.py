r"""Retrain equivalence: does an unlearned model depend on the order in which its stages were learnt?

    d(theta, theta') = (1/m) sum_i |Pred(theta, x_i) - Pred(theta', x_i)|^2

A local method sees gradients of the forget set only. Two models that learnt the same stages in another order start it
from different weights, and it drives them apart: it cannot bring both to the one retrained model. `path_dependence` runs
the protocol with training, unlearning and scores injected: the stage that is unlearned is learnt at each place of the
order in turn, everything else alike. `ridge_stage`, `ascent_path` and `ascent_gap_bound` are the closed-form case of the
theorem: ridge regression in stages, then gradient ascent, where for all large t

    d(theta_AB(t), theta_BA(t)) >= sigma^2 |P Delta|^2 / (4 m) * (1 + rho)^(2t)

with Delta the gap before unlearning, P the projector on the row space of the forget inputs, rho the Rayleigh quotient of
M = (2 eta / k) X^T X on P Delta, and sigma the r-th singular value of the test inputs times P, r the rank of X.

Paper: Yu, He, Goyal, Arora. On the Impossibility of Retrain Equivalence in Machine Unlearning. 2025, arXiv:2510.16629.

Checked: the theorem's bound on random problems; losses and stages as in princeton-pli/impossibility-unlearning@de1cc83.

Deviations: sigma is the r-th singular value; read as the smallest one that is not zero the bound fails where test
inputs are orthogonal to the direction that grows fastest. The paper's stages are instruction, fiction, mathematics and
refusals on models of 1B to 14B; here they are whatever is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from attrs import frozen
from torch import Tensor

from unlearnkit.errors import DataError

ModelT = TypeVar("ModelT")


def prediction_distance(predictions: Tensor, others: Tensor) -> Tensor:
    """Mean over inputs of the squared distance of predictions: [m, ...], [m, ...] -> []."""
    return (predictions - others).reshape(len(predictions), -1).square().sum(1).mean()


def ridge_stage(inputs: Tensor, targets: Tensor, start: Tensor, *, penalty: float) -> Tensor:
    """Weights after a stage of ridge regression towards the weights before: [n, d], [n], [d] -> [d]."""
    gram = inputs.T @ inputs + penalty * torch.eye(inputs.shape[1], dtype=inputs.dtype)
    solved: Tensor = torch.linalg.solve(gram, inputs.T @ targets + penalty * start)
    return solved


def ascent_path(inputs: Tensor, targets: Tensor, start: Tensor, *, rate: float, steps: int) -> Tensor:
    """Weights on the way of gradient ascent on the mean squared error: [k, d], [k], [d] -> [steps + 1, d]."""
    path = [start]
    for _ in range(steps):
        residual = inputs @ path[-1] - targets
        path.append(path[-1] + rate * 2 / len(inputs) * (inputs.T @ residual))
    return torch.stack(path)


def ascent_gap_bound(inputs: Tensor, gap: Tensor, test_inputs: Tensor, *, rate: float, steps: int) -> Tensor:
    """The theorem's lower bound on the distance after each number of steps: [k, d], [d], [m, d] -> [steps + 1].

    It holds from some number of steps on, not from the first. 0 where it says nothing.

    Args:
        inputs: of the forget set.
        gap: difference of the weights before unlearning.
        test_inputs: where predictions are compared.
        rate, steps: of gradient ascent.
    """
    rank = int(torch.linalg.matrix_rank(inputs))
    projector = torch.linalg.pinv(inputs) @ inputs
    inside = projector @ gap
    growth = 2 * rate / len(inputs) * (inputs.T @ inputs)
    size = inside.square().sum()
    quotient = (inside @ growth @ inside) / size if size > 0 else size
    singular = torch.linalg.svdvals(test_inputs @ projector)
    smallest = singular[rank - 1] if 0 < rank <= len(singular) else torch.zeros_like(size)
    powers = torch.pow(1 + quotient, 2 * torch.arange(steps + 1, dtype=inputs.dtype))
    bound: Tensor = smallest.square() * size / (4 * len(test_inputs)) * powers
    return bound


@frozen
class Path:
    """One order of the stages.

    Attributes:
        order: names of the stages as they were learnt.
        before, after: scores by name, before and after unlearning.
    """

    order: tuple[str, ...]
    before: Mapping[str, float]
    after: Mapping[str, float]

    def change(self, score: str) -> float:
        """What unlearning did to a score."""
        return self.after[score] - self.before[score]


@frozen
class PathDependence:
    """What came of every order; retrain equivalence would make all of them alike."""

    paths: tuple[Path, ...]

    def spread(self, score: str) -> float:
        """Largest less smallest change of a score over the orders."""
        changes = [path.change(score) for path in self.paths]
        return max(changes) - min(changes)


def orders_of(stages: Sequence[str], unlearned: str) -> tuple[tuple[str, ...], ...]:
    """The stage that is unlearned at each place, the others in their order.

    Raises:
        DataError: it is not among the stages, or two are called alike.
    """
    if unlearned not in stages or len(set(stages)) < len(stages):
        raise DataError(f"stages are {list(stages)}, each once, and the one to unlearn among them; got {unlearned!r}.")
    rest = [stage for stage in stages if stage != unlearned]
    return tuple((*rest[:place], unlearned, *rest[place:]) for place in range(len(stages)))


def path_dependence(
    stages: Sequence[str],
    unlearned: str,
    *,
    start: Callable[[], ModelT],
    learn: Callable[[ModelT, str], ModelT],
    unlearn: Callable[[ModelT], ModelT],
    scores: Callable[[ModelT], Mapping[str, float]],
) -> PathDependence:
    """Learn the stages in every order of `orders_of`, unlearn one of them alike each time, and compare.

    Args:
        stages: names, in the order of the first path but for the one that moves.
        unlearned: the stage that moves and is unlearned.
        start: a fresh model, always the same.
        learn: the model after a stage; optimizer and schedule start anew in each.
        unlearn: the model after unlearning, with the same settings whatever the order.
        scores: of a model, by name.
    """
    paths = []
    for order in orders_of(stages, unlearned):
        model = start()
        for stage in order:
            model = learn(model, stage)
        before = dict(scores(model))
        paths.append(Path(order, before, dict(scores(unlearn(model)))))
    return PathDependence(tuple(paths))
