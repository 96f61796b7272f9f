"""Curriculum by drawing: an epoch's rows are drawn with replacement, each with a probability proportional to its score.

    for epoch in range(epochs):
        scores = removal_difficulty(model, rows)               # MRD; high: easy to unlearn, hence drawn first and often
        drawn = drawn_rows(rows, scores, epoch=epoch)
        unlearn(model, NPO(), {"forget": drawn}, optimizer=optimizer, steps=-(-len(drawn) // 8), seed=epoch, ...)

With `GradientAscent()` this is curriculum gradient ascent (CGA) of the paper on memory removal difficulty; the scores
are made anew every so many epochs. Any score that is 0 or above will do.

Paper: Feng, Li, Wang, Liu, Zhang, Chen. A Neuro-inspired Interpretation of Unlearning in Large Language Models through
Sample-level Unlearning Difficulty. 2025, arXiv:2504.06658.

Checked: laws only; no code of the authors was found.

Deviations: none that could be known. That an epoch has as many draws as there are rows is ours, as is drawing with
replacement.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate

from unlearnkit.batch import Row
from unlearnkit.draws import keyed_draw
from unlearnkit.errors import DataError


def drawn_rows(
    rows: Sequence[Row], scores: Mapping[str, float], *, epoch: int, size: int | None = None, seed: int = 0
) -> tuple[Row, ...]:
    """Rows of one epoch, in the order they were drawn; the same whatever order `rows` come in.

    A row drawn again is there again, under the id "name~1", "name~2" … and in its own group. Recordings know rows by
    id, so a recorded reference has to be made on the drawn rows.

    Args:
        rows: whose ids are all in `scores`.
        scores: what probabilities are proportional to, 0 or above; if all are 0, rows are drawn alike.
        epoch: its number; each draws anew.
        size: how many are drawn. Default: as many as there are rows.
        seed: of the draws.

    Raises:
        DataError: no rows, two of one id, a row without a score or with one that is negative or not finite, or a size
            below 1.
    """
    size = len(rows) if size is None else size
    if not rows or size < 1:
        raise DataError(f"{size} rows are to be drawn from {len(rows)}; at least one is needed of both.")
    of_id = {row.id: row for row in rows}
    if len(of_id) < len(rows):
        (twice,) = Counter(row.id for row in rows).most_common(1)
        raise DataError(f"{twice[1]} rows have the id {twice[0]!r}, so which one a score belongs to is not known.")
    for name in of_id:
        if name not in scores:
            raise DataError(f"row {name!r} has no score. Give every row one, 0 too.")
        if not (math.isfinite(scores[name]) and scores[name] >= 0):
            raise DataError(f"row {name!r} has the score {scores[name]}; it has to be a finite number, 0 or above.")
    names = sorted(name for name in of_id if scores[name] > 0) or sorted(of_id)
    up_to = list(accumulate(scores[name] or 1.0 for name in names))
    drawn = []
    copies = Counter[str]()
    for number in range(size):
        place = keyed_draw(2**53, seed, "curriculum", epoch, number) / 2**53 * up_to[-1]
        row = of_id[names[min(bisect_right(up_to, place), len(names) - 1)]]
        if copy := copies[row.id]:
            drawn.append(Row(f"{row.id}~{copy}", row.role, row.inputs, row.labels, row.group))
        else:
            drawn.append(row)
        copies[row.id] += 1
    return tuple(drawn)
