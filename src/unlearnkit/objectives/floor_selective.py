r"""Floor-aware selective unlearning of hardware code: ascend on content until it is unlikely enough, keep the syntax.

    L = mean_b [ -(1/Z_b) sum_{t in active_b} l_t + syntax_weight * (1/|S_b|) sum_{t in S_b} KL(p_ref,t || p_t) ]
    l_t = -log p(y_t),    active_b = content tokens of answer b with l_t < floor

S_b are the syntax tokens of answer b (keywords, operators, punctuation, white space), known beforehand as a mask that
is 1 at syntax; `unlearnkit.data.verilog_syntax` makes it. All other tokens are content. A content token has gradient
ascent's gradient until its NLL reaches the floor, then none: the method ends by itself, and the term never falls below
-floor. A syntax token is never pushed down by its own loss. With an infinite floor and no syntax it is gradient ascent
on the mean of each answer.

    FloorSelective() + CrossEntropy("retain")

Paper: Liang, Li, Wang, Cao. When Forgetting Builds Reliability. 2025, arXiv:2512.05341.

Reconstructed: the paper's are the two parts, syntax that is preserved and a loss that knows a floor, and one epoch over
proprietary or contaminated hardware code. The formulae are ours, and so are all defaults (floor 5 nats, weights 1).

Checked: laws only; no code was to be had.

Deviations: none that could be known. `normalise="active"` keeps the push on an answer as strong as ever until its last
token crosses the floor; "content" lets it fade with the share of tokens still active, and is the safer one for long
files.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from attrs import field, frozen
from attrs.validators import ge, gt, in_
from torch import Tensor

from unlearnkit.objectives.dto import masked_means
from unlearnkit.objectives.retain_kl import ForwardKL
from unlearnkit.objectives.validators import finite
from unlearnkit.protocols import Additive, Compared, Loss, Needs, Seen, Term, Tokens, Unit
from unlearnkit.statistics import Given, LabelLogProb

Normalise = Literal["active", "content"]
"""What an answer's ascent is divided by: its tokens still below the floor, or all its content."""


def floor_selective_loss(
    log_probs: Tensor,
    syntax: Tensor,
    row: Tensor,
    *,
    rows: int,
    floor: float,
    normalise: Literal["active", "content"] = "active",
) -> Tensor:
    """Ascent of each answer on content below the floor, unreduced over answers: flat [N], [N], [N] -> [rows].

    In (-floor, 0]. Which tokens are active is a constant of the step.

    Args:
        log_probs: [N] of the answers' tokens, in nats.
        syntax: [N] bool, the tokens that are left alone.
        row: [N] int64, the answer each token belongs to.
        rows: number of answers; one without content, or with all of it above the floor, gets 0.
        floor: NLL from which a token is left alone, in nats.
        normalise: divide by the "active" tokens or by all "content".
    """
    content = ~syntax
    active = content & (-log_probs.detach() < floor)
    sums = log_probs.new_zeros(rows).index_add(0, row, torch.where(active, log_probs, 0.0))
    counted = active if normalise == "active" else content
    counts = log_probs.new_zeros(rows).index_add(0, row, counted.to(log_probs.dtype))
    return sums / counts.clamp(min=1)


@frozen(kw_only=True)
class FloorSelective(Additive):
    """`floor_selective_loss` and the KL to the reference on syntax, averaged over the forget answers of the step.

    Terms "floor_selective" and "floor_selective_kl".

    Attributes:
        floor: NLL from which a token is left alone, in nats; may be infinite.
        syntax_weight: of the KL on syntax tokens.
        normalise: divide an answer's ascent by its active tokens or by all its content.
        role: whose answers are unlearned.
        name: what the ascent is logged as; the KL is that and "_kl".
    """

    floor: float = field(default=5.0, validator=gt(0.0))
    syntax_weight: float = field(default=1.0, validator=[ge(0.0), finite])
    normalise: Normalise = field(default="active", validator=in_(get_args(Normalise)))
    role: str = "forget"
    name: str = "floor_selective"

    @property
    def tokens(self) -> Tokens:
        return Tokens(LabelLogProb(), self.role)

    @property
    def syntax(self) -> Tokens:
        """1 at syntax tokens, 0 at content."""
        return Tokens(Given("syntax"), self.role, of="weights")

    @property
    def divergence(self) -> Compared:
        return Compared(ForwardKL(), self.role, of="reference", positions="answer")

    @property
    def needs(self) -> Needs:
        return frozenset({self.tokens, self.syntax, self.divergence})

    def __call__(self, seen: Seen) -> Loss:
        flat = seen[self.tokens]
        syntax = seen[self.syntax].values > 0.5
        ascent = floor_selective_loss(
            flat.values, syntax, flat.row, rows=flat.rows, floor=self.floor, normalise=self.normalise
        )
        held = masked_means(seen[self.divergence].values, syntax, flat.row, rows=flat.rows)
        unit = Unit("sequence", self.role)
        return Loss(
            Term(self.name, ascent.sum(), per=unit),
            Term(f"{self.name}_kl", held.sum(), per=unit, weight=self.syntax_weight),
        )
