r"""Adaptive RMU: RMU whose target is as long as the forget text's own hidden states, times a factor, at any layer.

    L = mean_t |h_t - v_t|^2 / D  +  retain_weight * mean_t |h_t - h_ref,t|^2 / D
    v_t = scale * n_t * u,    u uniform in [0, 1)^D, drawn once and normalised

    norm_source="per_token"      n_t = |h_ref,t|                              the paper
    norm_source="first_batch"    n_t = mean over the first step of |h_t|      the code: one number for the whole run

Hidden states grow with depth, so that RMU's one coefficient fits few layers; scale * n takes its place. The target is a
constant: its length sends no gradient. If scale * n is RMU's coefficient, this is RMU. Multiplying all hidden states by
s multiplies the target by s as well. What is trained, and several topics: as in rmu.py.

With "first_batch" the objective changes once: after the first step it keeps that step's mean norm in its field `norm`.
In the first step itself the forget term is no sum over tokens, for its target depends on all of them, and it is
evaluated on the whole step; the gradient is the same however the step is cut.

Paper: Huu-Tien et al. On Effects of Steering Latent Representation for Large Language Model Unlearning. AAAI 2025,
arXiv:2408.06223.

Aliases:
    scale: beta (paper)
    retain_weight: alpha (paper, code)
    layer: l (paper), layer_id (code)

Checked: RebelsNLU-jaist/llm-unlearning@0da98e5, whole runs on a small network with two topics in turn: losses, norms,
gradients and final weights to 1e-9.

Deviations:
1. The paper takes the norm of each forget sample under the frozen model, the code one mean norm per topic under the
   trained model. The default is the paper's, which is a sum over tokens and knows no first step; the norm is read at
   each token. `norm_source="first_batch"` is the code. The authors' second topic has its first batch one step later,
   when the weights have already moved: two objectives that are stepped in turn do the same, their sum does not.
2. As in RMU: the paper sums over the D entries, the code averages, and is followed; the code averages over padding too,
   here means, that of the norm included, run over real tokens, or over `positions`.
3. The code does not stop at the end of short corpora (it raises an error). How many steps there are is up to the loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from attrs import evolve, field, frozen
from attrs.validators import ge, in_, optional
from torch import Tensor

from unlearnkit.objectives.rmu import RMU, hidden_distance
from unlearnkit.objectives.validators import finite
from unlearnkit.protocols import POSITIONS, Additive, Captured, Loss, Needs, Positions, Seen, Term, Unit

NormSource = Literal["per_token", "first_batch"]
"""Whose length the target follows: each token's under the reference, or the mean of the first step."""


def adaptive_target(norms: Tensor, direction: Tensor, *, scale: float) -> Tensor:
    """Where hidden states are steered to, a constant: [N] or one number, [D] -> [N, D] or [D].

    Args:
        norms: [N] length of each token's hidden state, or a mean of them.
        direction: [D] of length 1.
        scale: how many times longer than the hidden states the target is.
    """
    return scale * norms.detach()[..., None] * direction


@frozen(kw_only=True)
class AdaptiveRMU(Additive):
    """`hidden_distance` to `adaptive_target` on forget text and to the reference on retain text, averaged over tokens.

    Terms: "adaptive_rmu_forget" and "adaptive_rmu_retain"; with `norm_source="first_batch"` also "adaptive_rmu_norm",
    the mean norm of forget tokens under the model, which has weight 0.

    Attributes:
        layer: the block whose output is steered, counted from 0.
        hidden_size: its width D.
        scale: how many times longer than the hidden states the target is.
        retain_weight: of the retain term.
        norm_source: "per_token" each token's norm under the reference; "first_batch" the mean norm of the first step.
        norm: with "first_batch": the mean norm of the first step, once that is over.
        seed: of the target's direction.
        positions: "non_pad" every real token, "text" those with a next token, "answer" those that predict an answer.
        forget, retain: the roles.
        name: what the terms' names begin with.
    """

    layer: int = field(validator=ge(0))
    hidden_size: int = field(validator=ge(1))
    scale: float = field(default=5.0, validator=[ge(0.0), finite])
    retain_weight: float = field(default=1200.0, validator=finite)
    norm_source: NormSource = field(default="per_token", validator=in_(get_args(NormSource)))
    norm: float | None = field(default=None, validator=optional([ge(0.0), finite]))
    seed: int = 42
    positions: Positions = field(default="non_pad", validator=in_(POSITIONS))
    forget: str = "forget"
    retain: str = "retain"
    name: str = "adaptive_rmu"

    @classmethod
    def released(
        cls, code: Literal["adaptive-rmu"], *, layer: int = 7, hidden_size: int = 4096, seed: int = 42
    ) -> AdaptiveRMU:
        """The authors' settings for Zephyr-7B, and where their code takes the norm from."""
        return {"adaptive-rmu": cls(layer=layer, hidden_size=hidden_size, norm_source="first_batch", seed=seed)}[code]

    @property
    def unit_rmu(self) -> RMU:
        """RMU to a target of length 1: the same hidden states, direction and retain term."""
        return RMU(
            layer=self.layer,
            hidden_size=self.hidden_size,
            coefficient=1.0,
            retain_weight=self.retain_weight,
            seed=self.seed,
            positions=self.positions,
            forget=self.forget,
            retain=self.retain,
            name=self.name,
        )

    @property
    def reference(self) -> Captured:
        return self.unit_rmu.hidden_states(self.forget, of="reference")

    @property
    def needs(self) -> Needs:
        of_rmu = self.unit_rmu.needs
        return of_rmu | {self.reference} if self.norm_source == "per_token" else of_rmu

    def direction(self) -> Tensor:
        """Where the target points: [D] float64, of length 1."""
        return self.unit_rmu.control()

    def __call__(self, seen: Seen) -> Loss:
        forget, retain = self.unit_rmu(seen)
        hidden = seen[self.unit_rmu.hidden_states(self.forget)].values
        per = Unit(self.positions, self.forget)
        if self.norm_source == "per_token":
            norms = torch.linalg.vector_norm(seen[self.reference].values, dim=-1)
            return Loss(Term(forget.name, self.distances(hidden, norms).sum(), per=per), retain)
        norms = torch.linalg.vector_norm(hidden, dim=-1)
        logged = Term(f"{self.name}_norm", norms.sum(), per=per, weight=0.0)
        if self.norm is not None:
            frozen_norm = hidden.new_tensor(self.norm)
            return Loss(Term(forget.name, self.distances(hidden, frozen_norm).sum(), per=per), retain, logged)
        tokens = max(1, len(hidden))
        first = self.distances(hidden, norms.sum() / tokens).sum() / tokens
        return Loss(Term(forget.name, first), retain, logged)

    def distances(self, hidden: Tensor, norms: Tensor) -> Tensor:
        """`hidden_distance` from the target for hidden states as long as these: [N, D], [N] or one number -> [N]."""
        return hidden_distance(hidden, adaptive_target(norms, self.direction().to(hidden), scale=self.scale))

    @property
    def settled(self) -> bool:
        """Whether the norm is known, or none has to be."""
        return self.norm_source == "per_token" or self.norm is not None

    def after_step(self, means: Mapping[str, float]) -> AdaptiveRMU:
        """Keep the mean norm of the first step."""
        if self.settled:
            return self
        return evolve(self, norm=means[f"{self.name}_norm"])
