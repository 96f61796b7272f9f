r"""LAU: unlearn against a shift of hidden states that brings the forgotten answer back (AdvGA, AdvNPO, AdvRMU).

    min_theta  max_{|delta_b| <= radius}  L(theta; z + delta)
    delta_b <- P( delta_b - (radius / steps) * g_b / |g_b| ),    g_b = d NLL(answer_b | z_b + delta_b) / d delta_b

z is the residual stream entering one block, delta_b [T, D] one perturbation of a whole sequence, |.| its L2 norm over
all entries, P the projection to the ball, after which z + delta is clamped to the smallest and largest entry of z. The
adversary descends the answer's loss, so that the model recalls; the model is then trained by any objective with delta
held fixed. Other roles of the step stay clean, and so does the reference.

    unlearn(model, NPO(beta=0.1) + CrossEntropy("retain"), data, adversary=LatentAttack(layer=4, radius=8.0), ...)

is AdvNPO with a retain term; with `GradientAscent()` it is AdvGA, with `RMU(...)` of a later block AdvRMU.

Aliases:
    radius: epsilon (paper), perturb_norm (released code)
    steps: K (paper), PGD iterations (released code)
    layer: p (paper), perturb_layer (released code)

Paper: Yuan et al. Towards Robust Knowledge Unlearning: An Adversarial Framework for Assessing and Improving Unlearning
Robustness in Large Language Models. AAAI 2025, arXiv:2408.10682.

Checked: HongbangYuan/RobustUnlearning@70a85e8, perturbations, AdvNPO and AdvRMU losses and gradients to 1e-9. AdvGA is
the paper's alone; no code of it was released.

Deviations:
1. The release clamps to the smallest and largest entry of the whole batch's z, and takes the gradient of the batch's
   token mean; here both are of the row itself (its mean NLL), so that a step does not depend on how it is cut. The
   direction is the same up to the 1e-6 that is added to the norm.
2. The paper prints the NPO term with ratios of losses; the code is ordinary NPO on sums, and is followed.
3. AdvRMU's release reuses one perturbation for four backward passes of one step (the gradient is four times as long),
   draws the control vector anew each time, and normalises it over the whole [B, T, D] tensor. Here a step has one pass.

What the authors report: perturbing the input of block 0 does not work, and at deep blocks the method ends as plain NPO.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from attrs import field, frozen
from attrs.validators import ge
from torch import Tensor

from unlearnkit.adversaries.rows import clean_states, slopes
from unlearnkit.batch import Row
from unlearnkit.draws import keyed_draw
from unlearnkit.observe import Observe, Perturbation
from unlearnkit.protocols import Site


def descend(delta: Tensor, slope: Tensor, *, step_size: float) -> Tensor:
    """One step of length `step_size` against a slope, over all entries of one sequence: [T, D], [T, D] -> [T, D]."""
    length: Tensor = slope.norm() + 1e-6
    return delta - step_size * slope / length


def project(delta: Tensor, clean: Tensor, *, radius: float, low: Tensor, high: Tensor) -> Tensor:
    """To the L2 ball over all entries of one sequence, then z + delta into [low, high]: [T, D], [T, D] -> [T, D].

    Args:
        delta: the perturbation.
        clean: z, the unperturbed hidden states.
        radius: of the ball.
        low, high: smallest and largest value that z + delta may have.
    """
    norm: Tensor = delta.norm()
    inside = delta * (radius / norm.clamp(min=1e-12)).clamp(max=1.0)
    return torch.clamp(clean + inside, low, high) - clean


def random_start(clean: Tensor, *, radius: float, generator: torch.Generator) -> Tensor:
    """A Gaussian direction whose length is uniform in [0, radius]: [T, D] -> [T, D]."""
    direction = torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    length = radius * torch.rand((), generator=generator, dtype=torch.float64)
    start: Tensor = length * direction / direction.norm()
    return start.to(clean)


@frozen(kw_only=True)
class LatentAttack:
    """Projected descent on one block's input, the same number of steps for every row of a role.

    Attributes:
        layer: the block whose input is perturbed, counted from 0.
        radius: of the ball, for a whole sequence; 0 leaves everything as it is.
        steps: of the descent.
        start: "random" inside the ball, or "zero".
        role: whose rows are attacked.
        seed: of the random start, which depends on nothing else but the row.
    """

    layer: int = field(default=4, validator=ge(0))
    radius: float = field(default=8.0, validator=ge(0.0))
    steps: int = field(default=6, validator=ge(0))
    start: Literal["random", "zero"] = "random"
    role: str = "forget"
    seed: int = 0

    @classmethod
    def released(cls, code: Literal["adv_npo", "adv_rmu"]) -> LatentAttack:
        """The authors' settings: block 4, radius 8, six steps for AdvNPO; block 6, radius 4, three steps for AdvRMU."""
        if code == "adv_npo":
            return cls()
        return cls(layer=6, radius=4.0, steps=3)

    @property
    def site(self) -> Site:
        return Site("resid_pre", self.layer)

    def __call__(self, observe: Observe, rows: Sequence[Row]) -> Perturbation:
        clean = clean_states(observe, rows, self.role, self.site)
        bounds = {row: (states.min(), states.max()) for row, states in clean.items()}
        deltas = {row: self._bounded(self._first(row, states), states, *bounds[row]) for row, states in clean.items()}
        for _ in range(self.steps):
            found = slopes(observe, rows, self.role, self.site, deltas)
            for row, slope in found.items():
                moved = descend(deltas[row], slope, step_size=self.radius / self.steps)
                deltas[row] = self._bounded(moved, clean[row], *bounds[row])
        return {self.site: {row: delta for row, delta in deltas.items() if row.role == self.role}}

    def _first(self, row: Row, clean: Tensor) -> Tensor:
        if self.start == "zero":
            return torch.zeros_like(clean)
        generator = torch.Generator().manual_seed(keyed_draw(2**63, self.seed, "latent attack", row.role, row.id))
        return random_start(clean, radius=self.radius, generator=generator)

    def _bounded(self, delta: Tensor, clean: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return project(delta, clean, radius=self.radius, low=low, high=high)
