r"""Weight averaging (WA) for unlearning: the running mean of the weights over all steps is the model that is kept.

    mean_n = (n * mean_{n-1} + theta_n) / (n + 1)

    average_weights(optimizer)                        before the run: each step adds to the mean
    unlearn(model, NPO() + CrossEntropy("retain"), data, optimizer=optimizer, ...)
    take_average(optimizer)                           the parameters become their means

The mean is part of the optimizer's state: in float32 for models in half precision, sharded like its parameter, and saved
and restored with a run.

Papers: Izmailov et al. Averaging Weights Leads to Wider Optima and Better Generalization. UAI 2018, arXiv:1803.05407. For
unlearning: Fan et al. Towards LLM Unlearning Resilient to Relearning Attacks: A Sharpness-Aware Minimization Perspective
and Beyond. ICML 2025, arXiv:2502.05374.

Checked: the closed form, and that an interrupted run ends with the same mean.

Deviations: none.
"""

from __future__ import annotations

import torch
from torch.optim import Optimizer

HALF = (torch.float16, torch.bfloat16)


def average_weights(optimizer: Optimizer) -> None:
    """Keep the mean of the parameters after each step of this optimizer, from the next on."""
    optimizer.register_step_post_hook(_add)


def take_average(optimizer: Optimizer) -> None:
    """Set every parameter to its mean; one that was never stepped stays as it is."""
    with torch.no_grad():
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if "average" in optimizer.state.get(parameter, {}):
                    parameter.copy_(optimizer.state[parameter]["average"])


@torch.no_grad()
def _add(optimizer: Optimizer, *_: object) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            value = parameter.detach().float() if parameter.dtype in HALF else parameter.detach()
            steps = state.get("averaged_steps", 0)
            state["average"] = state["average"].lerp_(value, 1 / (steps + 1)) if steps else value.clone()
            state["averaged_steps"] = steps + 1
