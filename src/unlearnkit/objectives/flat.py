r"""FLAT: forget with forget questions alone, by teaching a template answer and unteaching the true one.

The two are weighed against each other by the variational form of an f-divergence. Neither retain data nor a reference.

    L = -g*(P_e) + f*(g*(P_f))
    P = mean over answers of the mean probability (not log-probability) of their tokens

P_e is of the template answers (refusals, or other answers to the same questions), P_f of the answers to be forgotten.
f* is the convex conjugate of f, g* maps probabilities into its domain; the loss falls with P_e and rises with P_f:

    divergence         -g*(P_e)                    f*(g*(P_f))
    total_variation    -tanh(P_e) / 2              tanh(P_f) / 2
    kl                 -P_e                        exp(P_f - 1)
    pearson            -P_e                        P_f + P_f^2 / 4
    jensen_shannon     log((1 + exp(-P_e)) / 2)    log((1 + exp(P_f)) / 2)
    jeffrey            -P_e                        P_f + P_f^2 / 4 + P_f^3 / 16        (f* to third order)

Probabilities keep it bounded (total variation: within tanh(1) / 2 of 0). A token of probability p has a gradient of p
times that of its log-probability: what is unlikely already is hardly pushed on, and the template is hardly learned as
long as it is unlikely.

Paper: Wang, Wei, Liu, Pang, et al. LLM Unlearning via Loss Adjustment with Only Forget Data. ICLR 2025,
arXiv:2410.11143.

Checked: UCSC-REAL/FLAT@bf2ef07, losses and gradients to 1e-9.

Deviations:
1. The paper averages probabilities over an answer's tokens, the code over all B*(T-1) positions, where masked ones
   count 0: P shrinks with the padding. Here it is the answer's tokens. The tests reproduce the released numbers with
   `flat_parts` of the code's averages.
2. An f-divergence has its expectations outside of g* and f*; the code applies these to the two averages of a batch,
   which differs for all but the linear ones. The default follows the code, on the global step, which takes a second
   forward pass where the step is cut; `applied_to="sequences"` has the expectations outside.
3. The code has three further pairs, "Reverse-KL", "Squared-Hellinger" and "Neyman", whose loss rises with P_e, so that
   they unteach the template as well. They are not offered.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from attrs import field, frozen
from attrs.validators import in_
from torch import Tensor

from unlearnkit.protocols import Additive, Flat, Loss, Needs, Seen, Term, Tokens, Unit
from unlearnkit.statistics import LabelLogProb

Divergence = Literal["total_variation", "kl", "pearson", "jensen_shannon", "jeffrey"]
"""Which f: what the template's and the forget answers' probabilities are mapped through."""

AppliedTo = Literal["means", "sequences"]
"""What g* and f* are applied to: the two means of a step, or each sequence before averaging."""


def mean_probability(log_probs: Tensor, row: Tensor, *, rows: int) -> Tensor:
    """Mean probability of each answer's tokens, unreduced over answers: flat [N], [N] -> [rows], in [0, 1].

    Args:
        log_probs: [N] log-probs of answer tokens, in nats.
        row: [N] int64, the answer each token belongs to.
        rows: number of answers; one without tokens gets 0.
    """
    sums = log_probs.new_zeros(rows).index_add(0, row, log_probs.exp())
    counts = row.new_zeros(rows).index_add(0, row, torch.ones_like(row))
    return sums / counts.clamp(min=1)


def flat_parts(
    template: Tensor,
    forget: Tensor,
    *,
    divergence: Literal["total_variation", "kl", "pearson", "jensen_shannon", "jeffrey"],
) -> tuple[Tensor, Tensor]:
    """The two summands of FLAT's loss, -g*(P_e) and f*(g*(P_f)), entry by entry: any two shapes -> the same two.

    Args:
        template: mean probability of template answers, in [0, 1].
        forget: mean probability of the answers to be forgotten, in [0, 1].
        divergence: the f-divergence; all vanish together with P_e and P_f, but "kl", which starts at 1/e.
    """
    if divergence == "total_variation":
        return -torch.tanh(template) / 2, torch.tanh(forget) / 2
    if divergence == "kl":
        return -template, torch.exp(forget - 1)
    if divergence == "pearson":
        return -template, forget + forget.square() / 4
    if divergence == "jensen_shannon":
        return torch.log1p(torch.expm1(-template) / 2), torch.log1p(torch.expm1(forget) / 2)
    return -template, forget + forget.square() / 4 + forget.pow(3) / 16


@frozen(kw_only=True)
class FLAT(Additive):
    """`flat_parts` of the answers of two roles; terms "flat_template" and "flat_forget".

    Attributes:
        divergence: the f-divergence.
        applied_to: "means": to the means over each role's answers in the global step; these terms are no sums.
            "sequences": to each answer, averaged afterwards.
        forget: the role of the answers to be forgotten.
        template: the role of those taught instead, "idk" for refusals.
        name: what the terms' names begin with.
    """

    divergence: Divergence = field(default="total_variation", validator=in_(get_args(Divergence)))
    applied_to: AppliedTo = field(default="means", validator=in_(get_args(AppliedTo)))
    forget: str = "forget"
    template: str = "idk"
    name: str = "flat"

    def log_probs(self, role: str) -> Tokens:
        return Tokens(LabelLogProb(), role)

    @property
    def needs(self) -> Needs:
        return frozenset({self.log_probs(self.template), self.log_probs(self.forget)})

    def __call__(self, seen: Seen) -> Loss:
        probabilities = [_of_supervised(seen[self.log_probs(role)]) for role in (self.template, self.forget)]
        if self.applied_to == "means":
            # Over no row at all the mean is 0.
            template, forget = (each.sum() / max(1, len(each)) for each in probabilities)
            parts = flat_parts(template, forget, divergence=self.divergence)
            return Loss(Term(f"{self.name}_template", parts[0]), Term(f"{self.name}_forget", parts[1]))
        template, forget = flat_parts(*probabilities, divergence=self.divergence)
        return Loss(
            Term(f"{self.name}_template", template.sum(), per=Unit("sequence", self.template)),
            Term(f"{self.name}_forget", forget.sum(), per=Unit("sequence", self.forget)),
        )


def _of_supervised(flat: Flat) -> Tensor:
    """Mean probability of each answer that has tokens."""
    return mean_probability(flat.values, flat.row, rows=flat.rows)[flat.counts() > 0]
