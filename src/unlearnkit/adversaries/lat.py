r"""Targeted latent adversarial training (LAT): Adam shifts one MLP's output so that the forgotten answer comes back.

    min_theta L(theta; delta),    delta = argmin_{|delta_t| <= radius}  NLL(answer | delta)

delta_t is the shift at one token, added to the output of one block's MLP at the row's prompt tokens (at all tokens of
text without a prompt), found by `steps` steps of Adam from zero; after each one every token's shift is put back into
its own L2 ball. The model is then trained by any objective with delta held fixed. The authors' outer loss "away" is
`unlearnkit.objectives.Unlikelihood`.

    unlearn(model, Unlikelihood() + CrossEntropy("retain"), data, adversary=TargetedLatentAttack(layer=7), ...)

Aliases:
    radius: epsilon (paper and code)
    steps: pgd_iterations_per_layer (released code)
    learning_rate: inner_learning_rate (released code)

Paper: Sheshadri et al. Latent Adversarial Training Improves Robustness to Persistent Harmful Behaviors in LLMs. 2024,
arXiv:2407.15549.

Checked: aengusl/latent-adversarial-training@53ac752: the projection, the masked addition, and the "away" loss with its
gradient to 1e-9.

Deviations:
1. The authors take four model steps on one batch for each attack; here each step is attacked anew.
2. Their clip divides 0 by 0 at radius 0 and fills the shift with nan; here radius 0 is training without an adversary.
3. Their adversary may also flee from a second answer (the refusal the model is to give). Only the first half is here:
   unlearning has no such answer.
4. AdamW's weight decay of the shift (torch's default 0.01, times the learning rate) is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import field, frozen
from attrs.validators import ge, gt
from torch import Tensor

from unlearnkit.adversaries.rows import clean_states, slopes
from unlearnkit.batch import Row
from unlearnkit.observe import Observe, Perturbation
from unlearnkit.protocols import Site


def clip_tokens(delta: Tensor, *, radius: float) -> Tensor:
    """Each token's shift into its own L2 ball: [..., D] -> [..., D]."""
    norm: Tensor = delta.norm(dim=-1, keepdim=True)
    return delta * (radius / norm.clamp(min=1e-30)).clamp(max=1.0)


def prompt_mask(labels: Tensor) -> Tensor:
    """1 at the tokens before the first supervised one; at all tokens of a text that has no such prompt: [T] -> [T]."""
    supervised = (labels != -100).cumsum(0) > 0
    prompt = ~supervised
    return torch.where(prompt[1:].any(), prompt, torch.ones_like(prompt))


@frozen(kw_only=True)
class TargetedLatentAttack:
    """Adam on the shift of one MLP's output, token by token in a ball.

    Attributes:
        layer: the block whose MLP output is shifted, counted from 0.
        radius: of each token's ball.
        steps: of Adam.
        learning_rate: of Adam.
        role: whose rows are attacked.
    """

    layer: int = field(default=7, validator=ge(0))
    radius: float = field(default=2.0, validator=ge(0.0))
    steps: int = field(default=16, validator=ge(0))
    learning_rate: float = field(default=5e-2, validator=gt(0.0))
    role: str = "forget"

    @property
    def site(self) -> Site:
        return Site("mlp_out", self.layer)

    def __call__(self, observe: Observe, rows: Sequence[Row]) -> Perturbation:
        clean = clean_states(observe, rows, self.role, self.site)
        masks = {row: prompt_mask(row.labels).to(states)[:, None] for row, states in clean.items()}
        deltas = {row: torch.zeros_like(states) for row, states in clean.items()}
        adam = torch.optim.Adam(list(deltas.values()), lr=self.learning_rate)
        for _ in range(self.steps):
            found = slopes(observe, rows, self.role, self.site, deltas)
            for row, delta in deltas.items():
                delta.grad = found[row] * masks[row]
            adam.step()
            for delta in deltas.values():
                delta.copy_(clip_tokens(delta, radius=self.radius))
        return {self.site: {row: delta for row, delta in deltas.items() if row.role == self.role}}
