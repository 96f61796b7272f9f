r"""RMU: steer the hidden states of forget text to one fixed random vector, and hold those of retain text.

    L = mean_t |h_t - v|^2 / D  +  retain_weight * mean_t |h_t - h_ref,t|^2 / D
    v = coefficient * u / |u|,    u uniform in [0, 1)^D, drawn once

h is the output of one block (forget text left, retain text right), D its width; the means run over tokens. At the
reference the retain term and its gradient are 0; with zero activations the forget term is coefficient^2 / D. All
entries of v are >= 0: for large D its cosine with the vector of ones tends to sqrt(3)/2.

Only few weights are trained: the down-projections (`mlp_down`) of blocks layer-2, layer-1 and layer. The caller selects
them, by name: "parameter 6 of each block", as released, is another matrix in models with biases in their attention.
Of several topics each gets its own forget and retain roles, name and seed; the authors alternate topics by steps.

Aliases:
    coefficient: c (paper), steering_coeff (its code and OpenUnlearning)
    retain_weight: alpha (paper, its code and OpenUnlearning)

Paper: Li et al. The WMDP Benchmark: Measuring and Reducing Malicious Use With Unlearning. ICML 2024, arXiv:2403.03218.

Checked: sheepjun0330/wmdp-main@a3972fb, a fork that keeps the official loss (of the official repository no snapshot was
at hand), losses and gradients to 1e-9. `hidden_distance` also reproduces locuslab/open-unlearning@d3d7cf9 and
tmlr-group/G-effect@ef368ee once their ways of averaging, see below, are spelled out.

Deviations:
1. The paper sums over the D entries of a hidden state, the code averages, which makes the loss D times smaller. The
   code is followed.
2. The code averages over all B*T positions, padding included, so that the loss depends on how far the batch was
   padded. Here the mean is over real tokens, or over `positions`. The tests reproduce the released numbers with
   `hidden_distance` over all positions.
3. OpenUnlearning divides sums of shape [B] by token counts of shape [B, 1]. The result is a [B, B] table, whose mean is
   mean_b S_b * mean_b (1/n_b) instead of a mean of S_b / n_b: equal for B = 1 or equal lengths. It also scores the
   hidden states *of* answer tokens rather than those that predict them. Neither is copied.
4. G-effect does not normalise the uniform vector: its length grows with D. Not copied.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch
from attrs import field, frozen
from attrs.validators import ge, in_
from torch import Tensor

from unlearnkit.errors import LossError
from unlearnkit.objectives.validators import finite
from unlearnkit.protocols import POSITIONS, Additive, Captured, Loss, Needs, Positions, Seen, Term, Unit, resid_post


def control_vector(hidden_size: int, *, coefficient: float, generator: torch.Generator) -> Tensor:
    """Random direction with entries >= 0 and length `coefficient`: [D] float64.

    Args:
        hidden_size: D.
        coefficient: the vector's length.
        generator: of the uniform draw; on the CPU, so that a seed means the same vector everywhere.
    """
    uniform = torch.rand(hidden_size, generator=generator, dtype=torch.float64)
    return coefficient * torch.nn.functional.normalize(uniform, dim=0)


def hidden_distance(hidden: Tensor, target: Tensor) -> Tensor:
    """Mean squared entry of hidden state minus target, unreduced over tokens: [N, D], [D] or [N, D] -> [N].

    Args:
        hidden: [N, D] hidden states of the model.
        target: the control vector [D] on forget text, the reference's hidden states [N, D] on retain text; a constant.
    """
    return (hidden - target.detach()).square().mean(-1)


@frozen(kw_only=True)
class RMU(Additive):
    """`hidden_distance` to a control vector on forget text and to the reference on retain text, averaged over tokens.

    The control vector follows from `seed`, `hidden_size` and `coefficient`. Terms: "rmu_forget" and "rmu_retain".

    Attributes:
        layer: the block whose output is steered, counted from 0.
        hidden_size: its width D.
        coefficient: the length of the control vector.
        retain_weight: of the retain term.
        seed: of the control vector.
        positions: "non_pad" every real token, "text" those with a next token, "answer" those that predict an answer.
        forget, retain: the roles.
        name: what the terms' names begin with.
    """

    layer: int = field(validator=ge(0))
    hidden_size: int = field(validator=ge(1))
    coefficient: float = field(default=6.5, validator=[ge(0.0), finite])
    retain_weight: float = field(default=1200.0, validator=finite)
    seed: int = 42
    positions: Positions = field(default="non_pad", validator=in_(POSITIONS))
    forget: str = "forget"
    retain: str = "retain"
    name: str = "rmu"

    @classmethod
    def released(
        cls,
        code: Literal["wmdp-zephyr", "wmdp-cli", "open-unlearning"],
        *,
        layer: int = 7,
        hidden_size: int = 4096,
        seed: int = 42,
    ) -> RMU:
        """The authors' settings for Zephyr-7B, their command line's defaults, or OpenUnlearning's."""
        coefficient, retain_weight = {
            "wmdp-zephyr": (6.5, 1200.0),
            "wmdp-cli": (20.0, 100.0),
            "open-unlearning": (2.0, 1.0),
        }[code]
        return cls(
            layer=layer, hidden_size=hidden_size, coefficient=coefficient, retain_weight=retain_weight, seed=seed
        )

    def hidden_states(self, role: str, of: str = "model") -> Captured:
        return Captured(resid_post(self.layer), role, of=of, positions=self.positions)

    @property
    def needs(self) -> Needs:
        return frozenset(
            {
                self.hidden_states(self.forget),
                self.hidden_states(self.retain),
                self.hidden_states(self.retain, of="reference"),
            }
        )

    def control(self) -> Tensor:
        """The control vector: [D] float64."""
        return _control(self.hidden_size, self.coefficient, self.seed)

    def __call__(self, seen: Seen) -> Loss:
        hidden = seen[self.hidden_states(self.forget)].values
        if hidden.shape[-1] != self.hidden_size:
            raise LossError(
                f"RMU was made for hidden states of width {self.hidden_size}, but block {self.layer} puts out "
                f"{hidden.shape[-1]}. Pass hidden_size={hidden.shape[-1]}."
            )
        forget = hidden_distance(hidden, self.control().to(hidden))
        retain = hidden_distance(
            seen[self.hidden_states(self.retain)].values,
            seen[self.hidden_states(self.retain, of="reference")].values,
        )
        return Loss(
            Term(f"{self.name}_forget", forget.sum(), per=Unit(self.positions, self.forget)),
            Term(
                f"{self.name}_retain",
                retain.sum(),
                per=Unit(self.positions, self.retain),
                weight=self.retain_weight,
            ),
        )


@cache
def _control(hidden_size: int, coefficient: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return control_vector(hidden_size, coefficient=coefficient, generator=generator)
