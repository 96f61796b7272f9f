r"""Alpha Excel: cases of the Financial Modeling World Cup, each with questions that earn points.

    case = points earned / points possible;   score = mean over cases;   and points per category

An answer is right if it is the key's number within 1 %, or else the key's text. Numbers are read without currency
signs, percent signs and separators of thousands. In [0, 1], higher is more useful.

Needs one answer per question. Known failure modes: a percent sign is dropped, so that 12 % is 12 and not 0.12; "(500)"
is no number; a key of 0 is met by 0 only.

Paper: Noever, McKee. Alpha Excel Benchmark. 2025, arXiv:2505.04110 (113 cases).

Checked: laws only.

Reconstructed: the paper says that cases became questions with keys in JSON; the form of the data, the tolerance and how
numbers are read are ours, and were compared with no code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from attrs import field, frozen
from attrs.validators import gt, min_len

from unlearnkit.errors import DataError
from unlearnkit.protocols import Score
from unlearnkit.scorers.item import Item

_NUMBER = re.compile(r"[-+]?(?=\.?\d)(\d{1,3}(,\d{3})+|\d+)?(\.\d*)?(e[-+]?\d+)?", re.ASCII | re.IGNORECASE)


@frozen
class CaseQuestion:
    """A question of a case: what is asked, the key, and what it earns."""

    prompt: str
    answer: str
    points: float = field(default=1.0, validator=gt(0))


@frozen(kw_only=True)
class Case:
    """A case.

    Attributes:
        id: unique.
        category: what points are summed over.
        questions: in order.
        level, instructions, tables: what a prompt is made of; not read here.
    """

    id: str
    category: str
    questions: tuple[CaseQuestion, ...] = field(validator=min_len(1))
    level: str = ""
    instructions: str = ""
    tables: Mapping[str, str] = field(factory=dict)


def read_number(text: str) -> float | None:
    """The number a text is, without currency and percent signs and separators of thousands; None if it is none."""
    bare = re.sub(r"[\s$€£¥%]", "", text)
    if not _NUMBER.fullmatch(bare):
        return None
    number = float(bare.replace(",", ""))
    return number if math.isfinite(number) else None


def is_right(key: str, answer: str, *, tolerance: float = 1e-2) -> bool:
    """Whether an answer is the key's number within a share `tolerance` of it, or the same text but for outer blanks."""
    right, given = read_number(key), read_number(answer)
    if right is None or given is None:
        return key.strip() == answer.strip()
    return abs(given - right) <= tolerance * abs(right)


def score_cell(item: Item, answer: str) -> float:
    """1 if the answer is right, else 0; a `Scorer`."""
    return float(is_right(item.gold, answer))


def case_score(case: Case, answers: Sequence[str]) -> float:
    """Share of a case's points that its answers earn, in [0, 1].

    Raises:
        DataError: another number of answers than questions.
    """
    if len(answers) != len(case.questions):
        raise DataError(
            f"case {case.id!r} has {len(case.questions)} questions and {len(answers)} answers. Where a model said "
            "nothing, give the empty text."
        )
    return _earned(case, answers) / math.fsum(question.points for question in case.questions)


def alpha_excel_score(cases: Iterable[Case], answers: Mapping[str, Sequence[str]]) -> Score:
    """Mean over cases; `parts` holds the share of points earned in each category.

    Raises:
        DataError: two cases share an id, or cases and answers differ.
    """
    listed = list(cases)
    by_id = {case.id: case for case in listed}
    if strangers := by_id.keys() ^ answers.keys():
        raise DataError(f"cases and answers differ in {sorted(strangers)[0]!r} and {len(strangers) - 1} other ids.")
    if len(by_id) < len(listed):
        raise DataError(f"{len(listed) - len(by_id)} of {len(listed)} cases share an id with another one.")
    scores = {key: case_score(case, answers[key]) for key, case in by_id.items()}
    mean = Score.mean(scores, "utility")
    if mean.value is None:
        return mean
    points: dict[str, list[tuple[float, float]]] = {}
    for key, case in by_id.items():
        possible = math.fsum(question.points for question in case.questions)
        points.setdefault(case.category, []).append((_earned(case, answers[key]), possible))
    parts = {
        category: math.fsum(earned for earned, _ in pairs) / math.fsum(possible for _, possible in pairs)
        for category, pairs in points.items()
    }
    return Score(mean.value, "utility", mean.per_example, n=mean.n, parts=parts)


def _earned(case: Case, answers: Sequence[str]) -> float:
    asked = zip(case.questions, answers, strict=True)
    return math.fsum(question.points for question, answer in asked if is_right(question.answer, answer))
