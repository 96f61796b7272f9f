r"""Low-bit optimizers for unlearning: only the sign of an update, or a few levels of it.

    theta <- theta - lr * Q(m; bits),    Q(m; 1) = sign(m),    Q(m; b) = s * round(m / s),  s = max|m| / (2^(b-1) - 1)

m is the gradient (`SignSGD`, one bit) or Adam's direction (`LowBitAdam`). With one bit every coordinate moves by
exactly lr, or not at all where m is 0. Coarse updates end where small changes of the weights matter less: what is
forgotten so comes back less when the model is quantized or trained again.

Aliases:
    bits: b (paper)

Reconstructed: the sign forms are the paper's. It gives no formula for more than one bit; symmetric uniform levels per
tensor are our reading.

Papers: Bernstein et al. signSGD: Compressed Optimisation for Non-Convex Problems. ICML 2018, arXiv:1802.04434. For
unlearning: Lang et al. Downgrade to Upgrade: Optimizer Simplification Enhances Robustness in LLM Unlearning. ICLR 2026,
arXiv:2510.00761.

Checked: closed forms; with many bits LowBitAdam is torch's AdamW.

Deviations: none known; no code was released.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def quantize_update(update: Tensor, bits: int) -> Tensor:
    """An update in 2^bits - 1 symmetric levels, its sign for one bit; same shape."""
    if bits == 1:
        return update.sign()
    step = update.abs().max() / (2 ** (bits - 1) - 1)
    return torch.where(step > 0, step * torch.round(update / step), 0.0)


class SignSGD(Optimizer):
    """Each coordinate moves by `lr` against the sign of its gradient (of its momentum, if there is one)."""

    def __init__(
        self, params: Iterable[nn.Parameter], *, lr: float = 1e-5, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        """`momentum` in [0, 1): how much of the running mean of gradients is kept in a step."""
        _refuse(lr=lr, weight_decay=weight_decay)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum has to be in [0, 1): {momentum}")
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update."""
        loss = _evaluated(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                direction = parameter.grad
                if group["momentum"]:
                    state = self.state[parameter]
                    mean = state.setdefault("momentum", torch.zeros_like(parameter))
                    direction = mean.lerp_(parameter.grad, 1 - group["momentum"])
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(group["lr"] * quantize_update(direction, 1))
        return loss


class LowBitAdam(Optimizer):
    """AdamW whose direction is written with a few bits before it is applied; signAdam with one."""

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        *,
        lr: float = 1e-5,
        bits: int = 1,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        """`bits` >= 1 of each update; the rest as in torch's AdamW."""
        _refuse(lr=lr, weight_decay=weight_decay)
        if bits < 1:
            raise ValueError(f"bits has to be at least 1: {bits}")
        super().__init__(params, {"lr": lr, "bits": bits, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update."""
        loss = _evaluated(closure)
        for group in self.param_groups:
            first_decay, second_decay = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state.update(step=0, exp_avg=torch.zeros_like(parameter), exp_avg_sq=torch.zeros_like(parameter))
                state["step"] += 1
                mean = state["exp_avg"].lerp_(parameter.grad, 1 - first_decay) / (1 - first_decay ** state["step"])
                square = state["exp_avg_sq"].lerp_(parameter.grad.square(), 1 - second_decay)
                direction = mean / ((square / (1 - second_decay ** state["step"])).sqrt() + group["eps"])
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(group["lr"] * quantize_update(direction, group["bits"]))
        return loss


def _refuse(*, lr: float, weight_decay: float) -> None:
    for name, value in (("lr", lr), ("weight_decay", weight_decay)):
        if not value >= 0:
            raise ValueError(f"{name} has to be at least 0: {value}")


def _evaluated(closure: Callable[[], float] | None) -> float | None:
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()
