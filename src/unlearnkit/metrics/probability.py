r"""Probability: how likely a model finds the whole answer, per token, under teacher forcing.

    P(y|x) = exp( (1/T) * sum_t log p(y_t | x, y_<t) )        geometric mean over answer tokens and the end token
    probability = mean over examples;  probability_mc = P(correct) / (P(correct) + sum_j P(wrong_j))

Paper: Maini, Feng, Schwarzschild, Lipton, Kolter. TOFU: A Task of Fictitious Unlearning for LLMs.
COLM 2024, arXiv:2401.06121.

Checked: locuslab/open-unlearning@d3d7cf9 (per example, 1e-9); recorded logs of locuslab/tofu@bdc209e.

Deviations: OpenUnlearning adds 1e-10 to the denominator of `probability_mc`; the older code and ours add nothing.
An answer without supervised tokens is "not measured" where the authors' code yields nan.
"""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from unlearnkit.protocols import Needs, Score, Seen, Tokens
from unlearnkit.statistics import LabelLogProb


def answer_probability(log_probs: Tensor, row: Tensor, *, rows: int) -> Tensor:
    """Geometric-mean token probability of each answer: flat [N], [N] -> [rows] float64, in [0, 1].

    Args:
        log_probs: [N] log-probs of answer tokens, in nats.
        row: [N] int64, the answer each token belongs to.
        rows: number of answers; one without tokens is nan ("not measured"), never 0 ("forgotten").
    """
    nats = torch.zeros(rows, dtype=torch.float64, device=log_probs.device).index_add(0, row, log_probs.double())
    return (nats / torch.bincount(row, minlength=rows)).exp()  # 0/0 = nan


@frozen
class Probability:
    """Mean answer probability over a data set. Higher: the model knows more of it."""

    role: str = "forget"

    @property
    def tokens(self) -> Tokens:
        return Tokens(LabelLogProb(), self.role)

    @property
    def needs(self) -> Needs:
        return frozenset({self.tokens})

    def __call__(self, seen: Seen) -> Score:
        flat = seen[self.tokens]
        each = answer_probability(flat.values, flat.row, rows=flat.rows)
        return Score.mean(dict(zip(seen.ids[self.role], each.tolist(), strict=True)), "knowledge")
