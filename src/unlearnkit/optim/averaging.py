r"""Weight averaging (WA) for unlearning: the running mean of the weights over all steps is the model that is kept.

    mean_n = (n * mean_{n-1} + theta_n) / (n + 1)

    averaged = average_weights(optimizer, model)      before the run
    unlearn(model, NPO() + CrossEntropy("retain"), data, optimizer=optimizer, ...)
    averaged.module                                   the unlearned model

Papers: Izmailov et al. Averaging Weights Leads to Wider Optima and Better Generalization. UAI 2018, arXiv:1803.05407. For
unlearning: Fan et al. Towards LLM Unlearning Resilient to Relearning Attacks. ICML 2025, arXiv:2502.05374.

Checked: the closed form. The averaging itself is torch's `AveragedModel`.

Deviations: none.
"""

from __future__ import annotations

from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel


def average_weights(optimizer: Optimizer, model: nn.Module) -> AveragedModel:
    """A copy of the model that holds the mean of its weights after each step of this optimizer, from the first on."""
    averaged = AveragedModel(model)
    optimizer.register_step_post_hook(lambda *_: averaged.update_parameters(model))
    return averaged
