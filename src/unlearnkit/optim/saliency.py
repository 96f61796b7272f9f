r"""SURE: update only the rows of the weights that matter most for what is forgotten, and these by a large learning rate.

    s_i   = |g_f[i]|                             g_f = grad L_f(theta), row i of any trained tensor, L2 norm
    gamma = the p-th percentile of all s_i       p = 90: a tenth of the rows
    theta[i] <- theta[i] + [s_i >= gamma] * update_i,    update of the optimizer for grad (L_f + L_r)

A small learning rate moves weights by less than a quantization step, so that quantizing the model undoes unlearning. A
large one damages the rest of the model; here it acts on few rows, chosen anew in each step. The choice costs no
pass: L_f and L_r are differentiated one after the other.

    optimizer = AdamW(model.parameters(), lr=1e-4)
    unlearn(model, NPO() + CrossEntropy("retain"), data, optimizer=optimizer, gradient=SalientUpdates(optimizer), ...)

A row is an entry of the first dimension: an output of a linear layer, a token of an embedding, an entry of a bias.
`SalientGradient` masks the gradient instead of the update: momentum and weight decay then still move every row.

Aliases:
    percentile: gamma (paper), threshold (released code)

Paper: Zhang et al. Catastrophic Failure of LLM Unlearning via Quantization. ICLR 2025, arXiv:2410.16454.

Checked: zzwjames/FailureLLMUnlearning@10131ae, by reading; closed forms and laws, no recorded numbers.

Deviations:
1. The release masks gradients, in a method its trainer never calls: it trains every row. Here the update is masked.
2. It leaves the forget gradient behind when it adds that of the whole loss, so that it counts twice (2.0 * the forget
   objective would do so here), and drops the gradients of earlier micro-batches. Here a step is whole, each part once.
3. Its NPO is on differences of raw logits; the objective is yours to choose here.
4. Tensors that the forget loss does not reach count among the units, with a saliency of 0; the release leaves them out.
5. Its scripts train with a learning rate of 1e-5 and its class has a percentile of 99; the paper asks for a large rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from attrs import Factory, field, frozen
from attrs.validators import ge, le
from torch import Tensor, nn
from torch.optim import Optimizer

from unlearnkit.errors import GradientError
from unlearnkit.gradient import At, Means
from unlearnkit.optim.points import gradient_of, put, split, together


def unit_saliency(gradients: Sequence[Tensor]) -> list[Tensor]:
    """L2 norm of each row of each tensor: [rows, ...] -> [rows], at least float32; of a scalar, [1]."""
    rows = [torch.atleast_1d(gradient).unsqueeze(-1).flatten(1) for gradient in gradients]
    return [torch.linalg.vector_norm(row, dim=1, dtype=torch.promote_types(row.dtype, torch.float32)) for row in rows]


def saliency_threshold(saliencies: Sequence[Tensor], percentile: float) -> Tensor:
    """What this percentage of all units together does not exceed; between two units, linearly. A scalar.

    Args:
        saliencies: [rows] of each tensor.
        percentile: in [0, 100].
    """
    ordered = torch.cat(list(saliencies)).sort().values
    place = percentile / 100 * (len(ordered) - 1)
    return torch.lerp(ordered[math.floor(place)], ordered[math.ceil(place)], place - math.floor(place))


def salient_rows(gradients: Sequence[Tensor], percentile: float = 90.0) -> list[Tensor]:
    """Which rows of each tensor reach the threshold: [rows, ...] -> [rows] bool. A factor on all gradients changes nothing.

    Args:
        gradients: of the forget loss.
        percentile: in [0, 100]. 0: every row; 100: the largest alone, and its ties.
    """
    saliencies = unit_saliency(gradients)
    threshold = saliency_threshold(saliencies, percentile)
    return [saliency >= threshold for saliency in saliencies]


@frozen
class SalientUpdates:
    """The exact gradient; rows that are not salient are put back, bit by bit, after the optimizer's step.

    Moments of the optimizer go on for all rows. With `average_weights`, make this one first.

    Attributes:
        optimizer: the one that is given to `unlearn`.
        percentile: of saliency, above which rows are updated, in [0, 100].
        role: what is forgotten; the summands that read it make saliency.
    """

    optimizer: Optimizer = field(eq=False)
    percentile: float = field(default=90.0, validator=[ge(0.0), le(100.0)], kw_only=True)
    role: str = field(default="forget", kw_only=True)
    _rest: _Rest = field(default=Factory(lambda self: _Rest(self.optimizer), takes_self=True), init=False, eq=False)

    def __call__(self, at: At) -> Means:
        """Leave the gradient, and mask the update that follows.

        Raises:
            GradientError: the optimizer does not hold what is trained.
        """
        held = {id(parameter) for group in self.optimizer.param_groups for parameter in group["params"]}
        if any(id(parameter) not in held for parameter in at.parameters):
            raise GradientError(
                "the optimizer of SalientUpdates does not hold what is trained, so that no update would be masked. Give it "
                "the optimizer that is given to unlearn()."
            )
        rows, means = _gradient_and_rows(at, self.percentile, self.role)
        self._rest.keep(at.parameters, rows)
        return means


@frozen(kw_only=True)
class SalientGradient:
    """The exact gradient of salient rows, and 0 for all others, which momentum and weight decay still move.

    Attributes:
        percentile: of saliency, above which rows have a gradient, in [0, 100].
        role: what is forgotten; the summands that read it make saliency.
    """

    percentile: float = field(default=90.0, validator=[ge(0.0), le(100.0)])
    role: str = "forget"

    def __call__(self, at: At) -> Means:
        rows, means = _gradient_and_rows(at, self.percentile, self.role)
        for parameter, salient in zip(at.parameters, rows, strict=True):
            if parameter.grad is not None:
                parameter.grad = torch.where(_beside(salient, parameter), parameter.grad, 0.0)
        return means


def _gradient_and_rows(at: At, percentile: float, role: str) -> tuple[list[Tensor], Means]:
    """Leave the gradient of the objective in `.grad`; which rows are salient in that of its forget terms."""
    forget, rest = split(at.objective, role)
    slopes, means = gradient_of(at, forget)
    reached = [torch.zeros_like(p) if slope is None else slope for p, slope in zip(at.parameters, slopes, strict=True)]
    rows = salient_rows(reached, percentile)
    put(at, slopes)
    return rows, means if rest is None else together(means, at.backward(rest))


def _beside(rows: Tensor, parameter: Tensor) -> Tensor:
    """[rows] -> [rows, 1, ...], with as many dimensions as the parameter."""
    return rows.reshape(parameter.shape[:1] + (1,) * (parameter.dim() - 1))


class _Rest:
    """Rows that stay what they are through the next step of an optimizer."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._moving: list[tuple[nn.Parameter, Tensor]] = []
        self._before: list[Tensor] = []
        optimizer.register_step_pre_hook(self._remember)
        optimizer.register_step_post_hook(self._put_back)

    def keep(self, parameters: Sequence[nn.Parameter], moving: Sequence[Tensor]) -> None:
        self._moving = list(zip(parameters, moving, strict=True))

    def _remember(self, *_: object) -> None:
        self._before = [parameter.detach().clone() for parameter, _ in self._moving]

    @torch.no_grad()
    def _put_back(self, *_: object) -> None:
        for (parameter, rows), before in zip(self._moving, self._before, strict=True):
            parameter.copy_(torch.where(_beside(rows, parameter), parameter, before))
        self._moving, self._before = [], []
