r"""SophiaG, the second-order companion of SOUL: momentum over a running curvature, coordinate by coordinate, clipped.

    m <- beta1 m + (1 - beta1) g,    h <- beta2 h + (1 - beta2) g^2
    theta <- (1 - lr wd) theta - lr * sign(m) * min(1, |m| / (rho * batch * h + 1e-15))

No coordinate moves farther than lr in a step (before the decay). h stands for the diagonal of the Gauss-Newton matrix.

Aliases:
    batch: bs, 5120 (SOUL's code, whatever the real batch)
    rho: rho (paper and code)

Papers: Liu et al. Sophia: A Scalable Stochastic Second-order Optimizer for Language Model Pre-training. ICLR 2024,
arXiv:2305.14342. For unlearning: Jia et al. SOUL: Unlocking the Power of Second-Order Optimization for LLM Unlearning.
EMNLP 2024, arXiv:2404.18239.

Checked: closed forms, written from OPTML-Group/SOUL@30f7a41.

Deviations:
1. Sophia estimates the curvature every k steps from labels drawn from the model; SOUL's code squares the batch's
   gradient in every step. The code is followed.
2. SOUL's code moves the momentum twice in a step (`momentum_updates=2`); by default it is moved once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def sophia_step(momentum: Tensor, curvature: Tensor, *, rho: float, batch: float) -> Tensor:
    """The update for lr = 1: entries in [-1, 1], shaped like the momentum; where there is no curvature, its sign."""
    return momentum.sign() * (momentum.abs() / (rho * batch * curvature + 1e-15)).clamp(max=1.0)


class SophiaG(Optimizer):
    """`sophia_step` as a torch optimizer."""

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        *,
        lr: float = 1e-5,
        betas: tuple[float, float] = (0.9, 0.95),
        rho: float = 0.04,
        batch: float = 5120.0,
        weight_decay: float = 0.1,
        momentum_updates: Literal[1, 2] = 1,
    ) -> None:
        """`momentum_updates` is how often a step moves the momentum: 2 in SOUL's code."""
        for name, value in (("lr", lr), ("rho", rho), ("batch", batch), ("weight_decay", weight_decay)):
            if not value >= 0:
                raise ValueError(f"{name} has to be at least 0: {value}")
        if momentum_updates not in (1, 2):
            raise ValueError(f"momentum_updates has to be 1 or 2: {momentum_updates}")
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "rho": rho,
                "batch": batch,
                "weight_decay": weight_decay,
                "momentum_updates": momentum_updates,
            },
        )

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state.update(momentum=torch.zeros_like(parameter), curvature=torch.zeros_like(parameter))
                momentum, curvature = state["momentum"], state["curvature"]
                curvature.lerp_(parameter.grad.square(), 1 - group["betas"][1])
                for _ in range(group["momentum_updates"]):
                    momentum.lerp_(parameter.grad, 1 - group["betas"][0])
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                update = sophia_step(momentum, curvature, rho=group["rho"], batch=group["batch"])
                parameter.sub_(group["lr"] * update)
        return loss
