r"""Token confidence: how sure a model is of the tokens of an answer, one by one, under teacher forcing.

Per answer, over its tokens t, with p the model's distribution at t and y the answer:

    mean, min, p-th percentile of p(y_t)            towards 1: knows the answer; the last two find its weakest tokens
    mean entropy -sum_v p(v) log p(v)               nats, in [0, ln V]; towards 0: sure, rightly or wrongly
    mean margin log p(first) - log p(second)        nats, >= 0; the same
    mean rank of y_t                                1: always the first choice

Higher probability and margin, lower entropy and rank point to knowledge, but the margin and the entropy also of a wrong
answer or a refusal: read them beside the probability. Most tokens of an answer are easy from its own beginning, so that
means move little when only the fact is gone: `bearing` picks the tokens that carry it.

Paper: none; a summary in common use, e.g. with the probability of Maini et al., TOFU, COLM 2024, arXiv:2401.06121.

Checked: laws and closed forms only.

Deviations: reconstructed, there is no reference. Percentiles interpolate linearly between neighbours (numpy's default).
A rank counts tokens as likely as the answer's before it: a constant model does not get rank 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from attrs import field, frozen
from attrs.validators import ge, in_, le
from torch import Tensor

from unlearnkit.errors import DataError
from unlearnkit.protocols import Direction, Flat, Needs, Score, Seen, Tokens
from unlearnkit.statistics import LabelLogProb, LabelRank, LogProbMoments, TopTwo

Summary = Literal["mean", "min", "percentile", "entropy", "margin", "rank"]
"""What an answer's tokens are boiled down to; the first three are of the answer's own probabilities."""


def row_mean(values: Tensor, row: Tensor, *, rows: int) -> Tensor:
    """Mean of each row's values: flat [N], [N] -> [rows] float64; a row without values is nan."""
    total = torch.zeros(rows, dtype=torch.float64, device=values.device).index_add(0, row, values.double())
    return total / torch.bincount(row, minlength=rows)  # 0/0 = nan


def row_percentile(values: Tensor, row: Tensor, *, rows: int, percentile: float) -> Tensor:
    """Percentile of each row's values: flat [N], [N] -> [rows] float64; a row without values is nan.

    Args:
        values: [N].
        row: [N] int64, the row each value belongs to.
        rows: number of rows.
        percentile: in [0, 100], 0 the smallest value; between two values linear.
    """
    order = values.double().argsort()
    ordered = values.double()[order[row[order].argsort(stable=True)]]
    length = torch.bincount(row, minlength=rows)
    measured = length > 0
    first = (length.cumsum(0) - length)[measured]
    place = (length[measured] - 1).double() * (percentile / 100)
    below = place.long()
    above = torch.minimum(below + 1, length[measured] - 1)
    found = torch.full((rows,), torch.nan, dtype=torch.float64, device=values.device)
    found[measured] = torch.lerp(ordered[first + below], ordered[first + above], place - below)
    return found


@frozen
class TokenConfidence:
    """Mean of a summary of token confidence over answers; the mean of every other summary is among the parts.

    Higher "mean", "min", "percentile", "margin": the model knows more. Higher "entropy", "rank": better forgotten.

    Attributes:
        role: the data set.
        summary: what the value is.
        percentile: in [0, 100], for that summary.
        bearing: by example id, which of its supervised tokens count, from 0. An id that is not listed is left out.
            Default: all tokens of all answers.
        of: the model that is measured.
    """

    role: str = "forget"
    summary: Summary = field(default="mean", validator=in_(get_args(Summary)), kw_only=True)
    percentile: float = field(default=10.0, validator=[ge(0.0), le(100.0)], kw_only=True)
    bearing: Mapping[str, Sequence[int]] | None = field(default=None, kw_only=True)
    of: str = field(default="model", kw_only=True)

    @property
    def log_probs(self) -> Tokens:
        return Tokens(LabelLogProb(), self.role, of=self.of)

    @property
    def moments(self) -> Tokens:
        return Tokens(LogProbMoments(), self.role, of=self.of)

    @property
    def top_two(self) -> Tokens:
        return Tokens(TopTwo(), self.role, of=self.of)

    @property
    def ranks(self) -> Tokens:
        return Tokens(LabelRank(), self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.log_probs, self.moments, self.top_two, self.ranks})

    def summaries(self, seen: Seen) -> dict[Summary, dict[str, float]]:
        """Every summary by example id; nan for an answer without tokens that count.

        Raises:
            DataError: `bearing` names an example that is not there, or a token beyond its end.
        """
        flat, ids = seen[self.log_probs], seen.ids[self.role]
        counts = self._bearing(flat, ids)
        row, rows = flat.row[counts], flat.rows
        probs = flat.values[counts].double().exp()
        first, second = seen[self.top_two].values[counts].unbind(-1)
        each: dict[Summary, Tensor] = {
            "mean": row_mean(probs, row, rows=rows),
            "min": row_percentile(probs, row, rows=rows, percentile=0),
            "percentile": row_percentile(probs, row, rows=rows, percentile=self.percentile),
            "entropy": row_mean(-seen[self.moments].values[counts, 0], row, rows=rows),
            "margin": row_mean(first - second, row, rows=rows),
            "rank": row_mean(seen[self.ranks].values[counts], row, rows=rows),
        }
        return {name: dict(zip(ids, values.tolist(), strict=True)) for name, values in each.items()}

    def __call__(self, seen: Seen) -> Score:
        summaries = self.summaries(seen)
        higher: Direction = "forgetting" if self.summary in ("entropy", "rank") else "knowledge"
        score = Score.mean(summaries[self.summary], higher)
        if score.value is None:
            return score
        others = {str(name): Score.mean(each, higher).value for name, each in summaries.items() if name != self.summary}
        parts = {name: value for name, value in others.items() if value is not None}
        return Score(score.value, higher, score.per_example, n=score.n, parts=parts, left_out=score.left_out)

    def _bearing(self, flat: Flat, ids: Sequence[str]) -> Tensor:
        """[N] bool: which tokens count."""
        if self.bearing is None:
            return torch.ones_like(flat.row, dtype=torch.bool)
        if strangers := sorted(self.bearing.keys() - set(ids)):
            raise DataError(
                f"bearing: {strangers[0]!r} is no example of {self.role!r}, and neither are {len(strangers) - 1} "
                f"others of {len(self.bearing)}. Its keys are row ids, e.g. {ids[0] if ids else None!r}."
            )
        chosen = []
        for name, length in zip(ids, flat.counts().tolist(), strict=True):
            wanted = set(self.bearing.get(name, ()))
            if beyond := sorted(token for token in wanted if not 0 <= token < length):
                raise DataError(
                    f"bearing: {name!r} has {length} supervised tokens, numbered from 0, but token {beyond[0]} of it "
                    "was asked for."
                )
            chosen += [token in wanted for token in range(length)]
        return torch.tensor(chosen, dtype=torch.bool)
