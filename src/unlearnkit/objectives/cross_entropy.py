r"""Cross-entropy: fine-tune on a role's answers. On retain data it is the field's usual counterweight (RT, GD, GDR).

    token           L = sum_b S_b / sum_b T_b       nats per token; a long answer weighs more
    sequence_mean   L = mean_b S_b / T_b            nats per token; every answer weighs the same
    sequence_sum    L = mean_b S_b                  nats per answer

S_b is the negative log-likelihood of answer b, summed over its T_b supervised tokens (the end token included); means
are over answers with at least one. `token` is what transformers calls the loss of a causal model.

Papers: Maini, Feng, Schwarzschild, Lipton, Kolter. TOFU: A Task of Fictitious Unlearning for LLMs. COLM 2024,
arXiv:2401.06121. Zhang, Lin, Bai, Mei (NPO), COLM 2024, arXiv:2404.05868, call the retain term RT.

Checked: locuslab/open-unlearning@d3d7cf9 and sheepjun0330/wmdp-main@a3972fb (every real token supervised), losses and
gradients to 1e-9; princeton-pli/impossibility-unlearning@de1cc83, which computes in float32, to 1e-6.

Deviations: the official loops average the token means of their micro-batches, so that a step's gradient depends on
how it was cut. Here numerator and denominator are summed over the whole step and divided once.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from attrs import field, frozen
from attrs.validators import in_
from torch import Tensor

from unlearnkit.protocols import Additive, Loss, Needs, Seen, Term, Tokens, Unit
from unlearnkit.statistics import LabelLogProb

Reduction = Literal["token", "sequence_mean", "sequence_sum"]
"""What is averaged: tokens, the mean NLL of each answer, or its sum."""


def sequence_nll(log_probs: Tensor, row: Tensor, *, rows: int, length_normalise: bool = False) -> Tensor:
    """Negative log-likelihood of each answer, unreduced over answers: flat [N], [N] -> [rows], >= 0.

    Args:
        log_probs: [N] log-probs of answer tokens, in nats.
        row: [N] int64, the answer each token belongs to.
        rows: number of answers; one without tokens gets 0.
        length_normalise: mean over the answer's tokens (nats per token) instead of their sum (nats per answer).
    """
    sums = log_probs.new_zeros(rows).index_add(0, row, -log_probs)
    return sums / torch.bincount(row, minlength=rows).clamp(min=1) if length_normalise else sums


@frozen
class CrossEntropy(Additive):
    """Negative log-likelihood of a role's answers, averaged over the global step as `reduction` says.

    Attributes:
        role: whose answers are learned.
        reduction: what is averaged; with `token`, long answers weigh more.
        name: what the term is logged as. Default: "nll_" and the role.
    """

    role: str = "retain"
    reduction: Reduction = field(default="token", kw_only=True, validator=in_(get_args(Reduction)))
    name: str = field(kw_only=True)

    @name.default
    def _named_after_the_role(self) -> str:
        return f"nll_{self.role}"

    @property
    def tokens(self) -> Tokens:
        return Tokens(LabelLogProb(), self.role)

    @property
    def needs(self) -> Needs:
        return frozenset({self.tokens})

    def __call__(self, seen: Seen) -> Loss:
        flat = seen[self.tokens]
        nll = sequence_nll(flat.values, flat.row, rows=flat.rows, length_normalise=self.reduction == "sequence_mean")
        # A mean over tokens and a mean of sequence sums share their numerator and differ in what divides it.
        unit = Unit("answer" if self.reduction == "token" else "sequence", self.role)
        return Loss(Term(self.name, nll.sum(), per=unit))
