r"""Exact memorization and extraction strength: is the answer's next token the model's first choice?

    EM = share of the T scored tokens that are the most likely one, given the true answer so far
    ES = 1 - k/T,  k: the shortest prefix of the answer after which all scored tokens are the most likely one

The last supervised token, taken to be the end token, is not scored. Both are in [0, 1]; higher: more is known. Needs to
know, at each token of an answer, whether it was the first choice: one pass, nothing generated.

Where they mislead: the opening words that all such answers share are hit without any knowledge, and raise EM; ES of
short answers takes few values; neither sees an answer that is the second choice everywhere.

Papers: EM: Tirumala, Markosyan, Zettlemoyer, Aghajanyan. Memorization Without Overfitting. NeurIPS 2022,
arXiv:2205.10770. ES: Carlini et al. Extracting Training Data from Large Language Models. USENIX Security 2021,
arXiv:2012.07805; in this form Wang et al. Towards Effective Evaluations and Comparisons for LLM Unlearning Methods.
ICLR 2025, arXiv:2406.09179.

Checked: locuslab/open-unlearning@d3d7cf9 (per example, 1e-9).

Deviations: the paper's prefix may be the whole answer (ES = 0 if the last scored token is missed); the released code
stops one token before (ES = 1/T), and so do we by default: `empty_suffix=True` is the paper's. With T = 1 the released
form gives 1 to a miss. Where no token is left to score, OpenUnlearning gives no EM but an ES of 0; here neither is
measured. The last token is dropped even where an answer does not end in an end token: `drop_last=False` keeps it.
"""

from __future__ import annotations

import torch
from attrs import field, frozen
from torch import Tensor

from unlearnkit.protocols import Flat, Needs, Score, Seen, Tokens
from unlearnkit.statistics import TopHit


def exact_memorization(hits: Tensor, row: Tensor, *, rows: int) -> Tensor:
    """Share of each answer's tokens that are hit: flat [N], [N] -> [rows] float64, in [0, 1].

    Args:
        hits: [N] 1 where the token is the model's most likely one, else 0.
        row: [N] int64, the answer each token belongs to.
        rows: number of answers; one without tokens is nan.
    """
    hit = torch.zeros(rows, dtype=torch.float64, device=hits.device).index_add(0, row, hits.double())
    return hit / torch.bincount(row, minlength=rows)  # 0/0 = nan


def extraction_strength(hits: Tensor, row: Tensor, *, rows: int, empty_suffix: bool = False) -> Tensor:
    """Share of each answer that its shortest sufficient prefix leaves: flat [N], [N] -> [rows] float64, in [0, 1].

    Args:
        hits: [N] 1 where the token is the model's most likely one, else 0; in order of the answer.
        row: [N] int64, ascending, the answer each token belongs to.
        rows: number of answers; one without tokens is nan.
        empty_suffix: whether the prefix may be the whole answer. If not, at least the last token counts as extracted.
    """
    length = torch.bincount(row, minlength=rows)
    first = length.cumsum(0) - length
    up_to_here = torch.arange(len(row), device=row.device) - first[row] + 1  # tokens of the answer, this one included
    missed = torch.where(hits > 0, 0, up_to_here)
    prefix = torch.zeros_like(length).scatter_reduce(0, row, missed, "amax")
    if not empty_suffix:
        prefix = torch.minimum(prefix, (length - 1).clamp(min=0))
    return (length - prefix).double() / length  # 0/0 = nan


def without_last(flat: Flat) -> Flat:
    """All but the last value of each row."""
    keep = torch.ones_like(flat.row, dtype=torch.bool)
    keep[:-1] = flat.row[1:] == flat.row[:-1]
    keep[-1:] = False
    return Flat(flat.values[keep], flat.row[keep], flat.rows)


@frozen
class ExactMemorization:
    """Mean `exact_memorization` over answers. Higher: the model knows more of them.

    Attributes:
        role: the data set.
        drop_last: whether the last supervised token of each answer is left out.
        of: the model that is measured.
    """

    role: str = "forget"
    drop_last: bool = field(default=True, kw_only=True)
    of: str = field(default="model", kw_only=True)

    @property
    def tokens(self) -> Tokens:
        return Tokens(TopHit(), self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.tokens})

    def __call__(self, seen: Seen) -> Score:
        flat = without_last(seen[self.tokens]) if self.drop_last else seen[self.tokens]
        each = exact_memorization(flat.values, flat.row, rows=flat.rows)
        return Score.mean(dict(zip(seen.ids[self.role], each.tolist(), strict=True)), "knowledge")


@frozen
class ExtractionStrength:
    """Mean `extraction_strength` over answers. Higher: the model knows more of them.

    Attributes:
        role: the data set.
        drop_last: whether the last supervised token of each answer is left out.
        empty_suffix: whether the prefix may be the whole answer (as in the paper).
        of: the model that is measured.
    """

    role: str = "forget"
    drop_last: bool = field(default=True, kw_only=True)
    empty_suffix: bool = field(default=False, kw_only=True)
    of: str = field(default="model", kw_only=True)

    @property
    def tokens(self) -> Tokens:
        return Tokens(TopHit(), self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.tokens})

    def __call__(self, seen: Seen) -> Score:
        flat = without_last(seen[self.tokens]) if self.drop_last else seen[self.tokens]
        each = extraction_strength(flat.values, flat.row, rows=flat.rows, empty_suffix=self.empty_suffix)
        return Score.mean(dict(zip(seen.ids[self.role], each.tolist(), strict=True)), "knowledge")
