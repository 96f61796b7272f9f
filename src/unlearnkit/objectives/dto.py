r"""Direct Token Optimization (DTO): ascend on the tokens that carry an answer, hold all others at the reference.

    L = mean_b [ (1/|T_b|) sum_{t in T_b} log p(y_t) + kl_weight * (1/|N_b|) sum_{t in N_b} KL(p_ref,t || p_t) ]

T_b are the target tokens of answer b, N_b all its others. Targets are known beforehand, as a mask that is 1 at targets
and 0 elsewhere: `unlearnkit.procedures.delta_scores` finds those that change the loss of the rest of the answer most
when they are replaced. A target's gradient is gradient ascent's, that of any other token zero at the reference, so that
the first step moves targets only. Nothing bounds the first term from below. Needs no retain data.

    targets = dto_targets(delta_scores(reference, rows, replacements=[tokenizer.pad_token_id]), rows)
    unlearn(model, DTO(), {"forget": rows}, models={"reference": reference, "weights": targets}, ...)

Aliases:
    kl_weight: lambda (paper notes)

Paper: Lee, Liu, Xiong. Direct Token Optimization. Findings of ACL 2026, arXiv:2510.00125.

Reconstructed: known at second hand are the split of an answer into prefix and suffix, the score of a prefix token, and
the two parts of the loss. Ours are the reduction (means over each answer's targets and over its others, then over
answers, so that it is a sum over answers), that tokens of the suffix count among the others, and kl_weight = 1. An
answer without targets, or without others, has a term of 0 and counts in the mean all the same.

Checked: laws only; no code was to be had.

Deviations: the paper's projection of one gradient on the other (an ablation) is left out. None other that could be
known.
"""

from __future__ import annotations

import torch
from attrs import field, frozen
from attrs.validators import ge
from torch import Tensor

from unlearnkit.objectives.retain_kl import ForwardKL
from unlearnkit.objectives.validators import finite
from unlearnkit.protocols import Additive, Compared, Loss, Needs, Seen, Term, Tokens, Unit
from unlearnkit.statistics import Given, LabelLogProb


def masked_means(values: Tensor, mask: Tensor, row: Tensor, *, rows: int) -> Tensor:
    """Mean over the chosen tokens of each answer, unreduced over answers: flat [N], [N], [N] -> [rows].

    Args:
        values: [N] of the answers' tokens.
        mask: [N] bool, the tokens that are chosen.
        row: [N] int64, the answer each token belongs to.
        rows: number of answers; one without a chosen token gets 0.
    """
    sums = values.new_zeros(rows).index_add(0, row, torch.where(mask, values, 0.0))
    counts = values.new_zeros(rows).index_add(0, row, mask.to(values.dtype))
    return sums / counts.clamp(min=1)


@frozen(kw_only=True)
class DTO(Additive):
    """`masked_means` of log-probs over targets and of the KL to the reference over the rest, averaged over answers.

    Terms "dto" and "dto_kl"; the logged value of the first is the log-likelihood of targets, in nats per token.

    Attributes:
        kl_weight: of the KL on the tokens that are no targets.
        role: whose answers are unlearned.
        name: what the ascent is logged as; the KL is that and "_kl".
    """

    kl_weight: float = field(default=1.0, validator=[ge(0.0), finite])
    role: str = "forget"
    name: str = "dto"

    @property
    def tokens(self) -> Tokens:
        return Tokens(LabelLogProb(), self.role)

    @property
    def target(self) -> Tokens:
        """1 at target tokens, 0 elsewhere."""
        return Tokens(Given("target"), self.role, of="weights")

    @property
    def divergence(self) -> Compared:
        return Compared(ForwardKL(), self.role, of="reference", positions="answer")

    @property
    def needs(self) -> Needs:
        return frozenset({self.tokens, self.target, self.divergence})

    def __call__(self, seen: Seen) -> Loss:
        flat = seen[self.tokens]
        target = seen[self.target].values > 0.5
        ascent = masked_means(flat.values, target, flat.row, rows=flat.rows)
        held = masked_means(seen[self.divergence].values, ~target, flat.row, rows=flat.rows)
        unit = Unit("sequence", self.role)
        return Loss(
            Term(self.name, ascent.sum(), per=unit),
            Term(f"{self.name}_kl", held.sum(), per=unit, weight=self.kl_weight),
        )
