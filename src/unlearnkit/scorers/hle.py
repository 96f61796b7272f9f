r"""Humanity's Last Exam: hard questions, an answer with a stated confidence, and a judge who compares it with the key.

    accuracy = right / all questions,   +- 1.96 * sqrt(a (1 - a) / n)                                (Wald, 95 %)
    calibration error = sqrt( sum_b n_b / N * (accuracy_b - confidence_b)^2 ),  b: 100 answers of like confidence

Accuracy is in [0, 1], higher is more useful. Calibration error is in [0, 1], lower is better; 0 if stated confidence is
the share that is right in every bin. A question left unanswered is wrong and has no confidence.

Needs a judge: a model that reads the answer, since "exactly the key" has many spellings. Known failure modes: the Wald
interval has no width at 0 and 1, where most models stand; with less than two full bins the error is that of the means.

Paper: Phan et al. Humanity's Last Exam. 2025, arXiv:2501.14249.

Checked: laws only. Written from the paper; the wording of the judge's task and how its reply is read are ours.

Deviations: sorted answers fill bins of 100, and the rest joins the last bin. Released code in circulation builds the
same bins and then does not count the last one: `skip_last=True`. An answer without a confidence, or one that the judge
did not read, is left out of the calibration error; one that the judge did not judge is not measured.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from unlearnkit.errors import DataError
from unlearnkit.protocols import Interval, Judge, Score
from unlearnkit.scorers.item import Item

_TASK = """Compare an answer with the key.

Question: {question}

Answer: {answer}

Key: {gold}

Take the final answer and nothing else; a small numerical error is right, anything ambiguous is wrong. Reply with two
lines:
correct: yes or no
confidence: the confidence that the answer states, from 0 to 100, or none"""


class Verdict(NamedTuple):
    """What a judge says of an answer; the confidence it states, in [0, 1], None if it states none."""

    correct: bool
    confidence: float | None


def read_verdict(reply: str) -> Verdict | None:
    """Read a judge's reply; None if it does not say whether the answer is correct. The last statement counts."""
    said = re.findall(r"(?im)^\W*correct\W*:\W*(yes|no)\b", reply)
    if not said:
        return None
    stated = re.findall(r"(?im)^\W*confidence\W*:\W*?(\d+(?:\.\d+)?)", reply)
    confidence = float(stated[-1]) / 100 if stated else None
    usable = confidence is not None and confidence <= 1
    return Verdict(said[-1].lower() == "yes", confidence if usable else None)


def judge_answers(items: Iterable[Item], answers: Mapping[str, str], judge: Judge) -> dict[str, Verdict | None]:
    """A verdict per item id; wrong, and unasked, where the answer is empty; None where the judge did not say.

    Raises:
        DataError: an item has no answer, or a judge that gives other than one reply per prompt.
    """
    asked = {item.id: item for item in items}
    if missing := asked.keys() - answers.keys():
        raise DataError(
            f"item {sorted(missing)[0]!r} has no answer, and neither have {len(missing) - 1} others of {len(asked)}. "
            "Where a model said nothing, give the empty text: it counts as wrong."
        )
    verdicts: dict[str, Verdict | None] = {key: Verdict(False, None) for key in asked}
    judged = [key for key in asked if answers[key].strip()]
    tasks = [_TASK.format(question=_question(asked[key]), answer=answers[key], gold=asked[key].gold) for key in judged]
    replies = judge(tasks) if tasks else ()
    if len(replies) != len(tasks):
        raise DataError(f"the judge gave {len(replies)} replies to {len(tasks)} prompts; it has to answer each.")
    return verdicts | {key: read_verdict(reply) for key, reply in zip(judged, replies, strict=True)}


def _question(item: Item) -> str:
    return item.prompt or "\n".join(message.content for message in item.messages)


def wald_interval(accuracy: float, n: int) -> Interval:
    """95 % interval of a share in [0, 1] that was measured on n questions; it may reach beyond [0, 1].

    Raises:
        DataError: no questions, or a share outside [0, 1].
    """
    if n < 1 or not 0 <= accuracy <= 1:
        raise DataError(f"accuracy is {accuracy} of n = {n} questions; a share of at least one question is needed.")
    half = 1.96 * math.sqrt(accuracy * (1 - accuracy) / n)
    return Interval(accuracy - half, accuracy + half, 0.95)


def calibration_error(
    confidence: Sequence[float], correct: Sequence[bool], *, bin_size: int = 100, skip_last: bool = False
) -> float:
    """Root mean square gap between confidence and accuracy over bins, in [0, 1]; nan without answers.

    Args:
        confidence: stated confidence of each answer, in [0, 1].
        correct: whether it is right. Of equal confidences, those given first are binned first.
        bin_size: answers in a bin; the last has up to twice as many, less one.
        skip_last: whether the last bin adds nothing.

    Raises:
        DataError: numbers that do not belong together, or lie outside [0, 1].
    """
    if len(confidence) != len(correct) or bin_size < 1:
        raise DataError(
            f"{len(confidence)} confidences for {len(correct)} answers in bins of {bin_size}; one confidence per "
            "answer and at least one answer per bin are needed."
        )
    if outside := [value for value in confidence if not 0 <= value <= 1]:
        raise DataError(f"confidence {outside[0]} is outside [0, 1]; divide percentages by 100.")
    if not confidence:
        return math.nan
    pairs = sorted(zip(confidence, correct, strict=True), key=lambda pair: pair[0])
    bins = max(len(pairs) // bin_size, 1)
    edges = [number * bin_size for number in range(bins)] + [len(pairs)]
    squares = 0.0
    for start, end in pairwise(edges[:-1] if skip_last else edges):
        gap = math.fsum(stated - hit for stated, hit in pairs[start:end])  # n_b (confidence_b - accuracy_b)
        squares += gap * gap / (end - start)
    return math.sqrt(squares / len(pairs))


def hle_score(verdicts: Mapping[str, Verdict | None], *, skip_last: bool = False) -> Score:
    """Accuracy over all questions with its Wald interval; "calibration_error" is in `parts`, if any was stated.

    Args:
        verdicts: by question id, from `judge_answers`; None was not measured.
        skip_last: see `calibration_error`.
    """
    score = Score.mean(
        {key: math.nan if verdict is None else float(verdict.correct) for key, verdict in verdicts.items()}, "utility"
    )
    if score.value is None:
        return score
    stated = [(each.confidence, each.correct) for each in verdicts.values() if each and each.confidence is not None]
    parts = {}
    if stated:
        confidence, correct = zip(*stated, strict=True)
        parts["calibration_error"] = calibration_error(confidence, correct, skip_last=skip_last)
    return Score(
        score.value,
        "utility",
        score.per_example,
        n=score.n,
        interval=wald_interval(score.value, score.n),
        parts=parts,
        left_out=score.left_out,
    )


def text_only(items: Iterable[Item]) -> tuple[Item, ...]:
    """Items that no image belongs to (`meta["image"]` absent or empty)."""
    return tuple(item for item in items if not item.meta.get("image"))
