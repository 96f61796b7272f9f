"""Selection: which answer tokens of a row are supervised. What is not selected counts in no loss and in no mean.

    rows = select(rows, top_share(scores, 0.4))            # the 40 % highest scores of each answer
    rows = select(rows, above(scores, 0.0))                # all tokens that score at least 0
    rows = select(rows, {row.id: touching(offsets[row.id], spans[row.id]) for row in rows})

`select` sets the labels of the other tokens to `IGNORE`, so that every objective works on what is left, unchanged, and
divides by it. The model still reads all tokens. A recording (a cached reference) has to be made on the selected rows:
it knows them by their labels, and refuses others.

Scores and choices are by row id, one entry for each token that is predicted: supervised, and not the first of the row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch
from transformers import PreTrainedTokenizerBase

from unlearnkit.batch import IGNORE, Row, Template, count_positions, tokenize
from unlearnkit.errors import DataError

Characters = tuple[int, int]
"""Part of an answer's text: its first character, and the first after it."""

Ties = Literal["all", "none", "first"]
"""What becomes of equal scores when the share ends among them: all are kept, none is, or the first ones of the answer.

If all scores of an answer are equal they say nothing: "all" keeps the whole answer, "none" leaves the row out.
"""


def select(rows: Iterable[Row], keep: Mapping[str, Sequence[bool]]) -> tuple[Row, ...]:
    """The rows with only some answer tokens supervised; those with none left are left out.

    Args:
        rows: each of them named in `keep`.
        keep: by row id, whether each of its answer tokens stays supervised.

    Raises:
        DataError: a row without choices, or with another number of them than it has answer tokens.
    """
    selected = []
    for row in rows:
        size = count_positions(row, "answer")
        if len(choices := _of(row, keep)) != size:
            raise DataError(
                f"{len(choices)} choices are given for row {row.id!r} of {row.role!r}, which has {size} answer tokens. "
                "Give one for each supervised token after the first position of the row."
            )
        if any(choices):
            where = 1 + (row.labels[1:] != IGNORE).nonzero()[:, 0]
            left_out = where[~torch.tensor(choices, dtype=torch.bool)]
            labels = row.labels.index_fill(0, left_out, IGNORE)
            selected.append(Row(row.id, row.role, row.inputs, labels, row.group))
    return tuple(selected)


def top_share(
    scores: Mapping[str, Sequence[float]], share: float, *, ties: Ties = "all"
) -> dict[str, tuple[bool, ...]]:
    """Keep the highest scores of each row: `share` of its tokens, rounded up.

    Args:
        scores: by row id, a number for each answer token.
        share: in [0, 1]; 0 keeps nothing, 1 everything, anything between at least one token of each row.
        ties: what becomes of scores equal to the lowest that is kept, if not all of them fit.

    Raises:
        DataError: a share outside [0, 1], or a score that is nan.
    """
    if not 0 <= share <= 1:
        raise DataError(f"share is {share}; it has to be between 0 and 1.")
    return {name: _highest(_numbers(name, each), _up(share * len(each)), ties) for name, each in scores.items()}


def above(scores: Mapping[str, Sequence[float]], threshold: float) -> dict[str, tuple[bool, ...]]:
    """Keep the tokens that score at least `threshold`; minus infinity keeps everything.

    Raises:
        DataError: a threshold or a score that is nan.
    """
    if math.isnan(threshold):
        raise DataError("threshold is nan; it has to be a number, or minus infinity to keep everything.")
    return {name: tuple(value >= threshold for value in _numbers(name, each)) for name, each in scores.items()}


def answer_offsets(
    tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str, *, template: Template, max_length: int = 512
) -> tuple[Characters, ...]:
    """Which characters of the answer each answer token covers, of the row that `tokenize` makes of the same arguments.

    A token that is no part of the answer's text (the end token) covers none.

    Raises:
        DataError: as `tokenize`, or a template that changes the answer.
    """
    row = tokenize(tokenizer, prompt, answer, id=answer[:40], role="", template=template, max_length=max_length)
    before, after = template(prompt, answer)
    if (start := after.find(answer)) < 0:  # a chat template may strip it
        start = after.find(answer.strip()) - (len(answer) - len(answer.lstrip()))
        if answer.strip() not in after:
            raise DataError(f"this template changes the answer {answer[:40]!r}, so its characters cannot be located.")
    first = len(before) + start
    encoded = tokenizer(
        before + after,
        add_special_tokens=template.special_tokens,
        return_offsets_mapping=True,
        return_attention_mask=False,
    )
    whole: list[Characters] = [*encoded["offset_mapping"], (len(before + after),) * 2]  # an end token may be added
    supervised = (row.labels[1:] != IGNORE).tolist()
    return tuple(
        (min(max(begin - first, 0), len(answer)), min(max(end - first, 0), len(answer)))
        for (begin, end), wanted in zip(whole[1 : len(row)], supervised, strict=True)
        if wanted
    )


def touching(offsets: Iterable[Characters], spans: Iterable[Characters]) -> tuple[bool, ...]:
    """Whether each token covers at least one character of a span.

    Args:
        offsets: of the tokens, see `answer_offsets`.
        spans: characters of the answer; they may overlap.

    Raises:
        DataError: a span that is empty or begins before the text.
    """
    wanted = list(spans)
    for begin, end in wanted:
        if not 0 <= begin < end:
            raise DataError(f"the span ({begin}, {end}) holds no character; spans are (first, first after), from 0.")
    return tuple(
        any(max(begin, first) < min(end, last) for first, last in wanted)  # an empty token touches nothing
        for begin, end in offsets
    )


def _of(row: Row, keep: Mapping[str, Sequence[bool]]) -> Sequence[bool]:
    if row.id not in keep:
        raise DataError(f"nothing is said of row {row.id!r} of {row.role!r}. Say of every row which tokens to keep.")
    return keep[row.id]


def _numbers(name: str, scores: Sequence[float]) -> Sequence[float]:
    for place, score in enumerate(scores):
        if math.isnan(score):
            raise DataError(f"the score of answer token {place} of row {name!r} is nan; it has to be a number.")
    return scores


def _up(count: float) -> int:
    """Rounded up, but not for a rounding error: 0.07 * 100 is 7."""
    return math.ceil(round(count, 9))


def _highest(scores: Sequence[float], wanted: int, ties: Ties) -> tuple[bool, ...]:
    if wanted == 0:
        return (False,) * len(scores)
    lowest = sorted(scores, reverse=True)[wanted - 1]
    higher = sum(score > lowest for score in scores)
    equal = sum(score == lowest for score in scores)
    if higher + equal > wanted and ties != "all":
        room = wanted - higher if ties == "first" else 0
    else:
        room = equal
    kept = []
    for score in scores:
        fits = score == lowest and room > 0
        room -= fits
        kept.append(score > lowest or fits)
    return tuple(kept)
