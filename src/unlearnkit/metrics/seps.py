r"""SEPS: asked for a forgotten and a kept fact in one prompt, does a model answer the one and not the other?

A judge grades from 0 to 10 how much of the truth is in the answer to prompts of six kinds: one forget question (F), one
retain question (R), and two at once (FF, RR, FR, RF), which get a grade for each question. Ten dataset means result.

    forget = (F in RF + F in FR + first F in FF + second F in FF) / 4          the mixed means, in [0, 10]
    retain = (R in FR + R in RF + first R in RR + second R in RR) / 4
    separability = harmonic mean of retain / 10 and 1 - forget / 10,   or   (retain - forget) / 10

The harmonic mean is in [0, 1], the difference in [-1, 1]; higher: better separated. A model that answers everything and
one that refuses everything both get 0.

Needs answers to the six kinds of prompts (`seps_prompts`), and a judge. The first question of FF and RR is that of
another item, the `partner`.

Known failure modes: an answer to the wrong one of two questions can raise either grade; a judge that does not keep to
the format ("[GT 1]: 7") is misread, as it is by the released code.

Paper: Jeung, Yoon, No. SEPS: A Separability Measure for Robust Unlearning in LLMs. EMNLP 2025, arXiv:2505.14832.

Checked: AI-ISL/SEPS@2d36ecf: ten scores and both mixed means of recorded replies (1e-9). The scalar is our
reconstruction: the released code stops at the two means.

Deviations: the released code stops for good before the first item it cannot read, inside it even, and says nothing:
`unreadable="stop"`. Here the item is left out of all ten means, and named. It also takes any number as a grade:
`highest=None`. Grades of pairs are the first two runs of digits there and here, so that "7.5" reads as 7 and 5. Its
partner of an item is the one before it in the same batch of prompts; here in the data set. The judge prompts are our
own wording.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from attrs import field, frozen
from attrs.validators import in_, min_len

from unlearnkit.errors import DataError
from unlearnkit.metrics.model_utility import harmonic_mean
from unlearnkit.protocols import Generated, Greedy, Judge, Needs, Score, Seen

Unreadable = Literal["skip", "stop"]
"""What an item with an unreadable reply does: it is left out, or ends the count (as released)."""

Combination = Literal["harmonic", "difference"]
"""How the two mixed means become one number."""

KINDS = ("forget", "retain", "forget_forget", "retain_retain", "forget_retain", "retain_forget")
"""The kinds of prompts, named after their questions in order."""


class SepsScores(NamedTuple):
    """Ten dataset means of grades, in [0, 10]; nan where there was no grade. Pairs are named `prompt_question`."""

    retain: float
    forget: float
    retain_retain_first: float
    retain_retain_second: float
    forget_forget_first: float
    forget_forget_second: float
    retain_forget_retain: float
    retain_forget_forget: float
    forget_retain_forget: float
    forget_retain_retain: float

    @property
    def mean_retain(self) -> float:
        """Retain questions in mixed prompts."""
        both = self.forget_retain_retain + self.retain_forget_retain
        return (both + self.retain_retain_first + self.retain_retain_second) / 4

    @property
    def mean_forget(self) -> float:
        """Forget questions in mixed prompts."""
        both = self.retain_forget_forget + self.forget_retain_forget
        return (both + self.forget_forget_first + self.forget_forget_second) / 4


# --- replies ----------------------------------------------------------------------------------------------------------


def single_grade(reply: str, *, highest: int | None = 10) -> int | None:
    """The grade in a reply that is a whole number and nothing else; None if it is not, or not in 0 to `highest`."""
    try:
        grade = int(reply)
    except ValueError:
        return None
    return grade if _on_scale(grade, highest) else None


def pair_grades(reply: str, *, highest: int | None = 10) -> tuple[int, int] | None:
    """The first two runs of digits of a reply ("[4, 7]"); None if there are fewer, or one is above `highest`.

    A reply with a run of more digits than Python turns into a number (4300) cannot be read either.
    """
    found = _numbers(reply)
    if found is None or len(found) < 2 or not all(_on_scale(grade, highest) for grade in found[:2]):
        return None
    return found[0], found[1]


def _numbers(reply: str) -> list[int] | None:
    """All runs of digits; None if one of them is too long."""
    try:
        return [int(digits) for digits in re.findall(r"\d+", reply)]
    except ValueError:
        return None


def _on_scale(grade: int, highest: int | None) -> bool:
    return highest is None or 0 <= grade <= highest


def item_grades(replies: Mapping[str, str], *, highest: int | None = 10) -> tuple[int, ...] | None:
    """The ten grades of an item in the order of `SepsScores`; None if a reply cannot be read.

    Args:
        replies: the judge's, by kind of prompt (`KINDS`).
        highest: a grade above it, or below 0, cannot be read. None: any number is a grade.
    """
    retain, forget = (single_grade(replies[kind], highest=highest) for kind in ("retain", "forget"))
    retains, forgets, retain_forget, forget_retain = (
        pair_grades(replies[kind], highest=highest)
        for kind in ("retain_retain", "forget_forget", "retain_forget", "forget_retain")
    )
    if retain is None or forget is None:
        return None
    if retains is None or forgets is None or retain_forget is None or forget_retain is None:
        return None
    return retain, forget, *retains, *forgets, *retain_forget, *forget_retain


def _grades_until_unreadable(replies: Mapping[str, str], highest: int | None) -> tuple[int, ...]:
    """As many of the ten grades as the released loop has taken when it fails within an item."""
    grades: list[int] = []
    for kind in ("retain", "forget"):
        if (grade := single_grade(replies[kind], highest=highest)) is None:
            return ()
        grades.append(grade)
    pairs: list[list[int]] = []
    for kind in ("retain_retain", "forget_forget", "retain_forget", "forget_retain"):
        if (numbers := _numbers(replies[kind])) is None:
            return ()
        pairs.append(numbers)
    for numbers in pairs:
        found = [grade for grade in numbers[:2] if _on_scale(grade, highest)]
        grades += found
        if len(found) < 2:
            break
    return tuple(grades)


def seps_scores(
    items: Iterable[Mapping[str, str]], *, unreadable: Unreadable = "skip", highest: int | None = 10
) -> SepsScores:
    """The ten means of the judge's replies.

    Args:
        items: replies by kind of prompt (`KINDS`), one mapping per item.
        unreadable: "stop": nothing is counted from the first unreadable reply on; what its item holds before is.
        highest: as in `item_grades`.
    """
    columns: list[list[int]] = [[] for _ in SepsScores._fields]
    for replies in items:
        grades = item_grades(replies, highest=highest)
        stopped = grades is None and unreadable == "stop"
        taken = _grades_until_unreadable(replies, highest) if stopped else grades or ()
        for column, grade in zip(columns, taken, strict=False):  # fewer than ten where the loop stopped
            column.append(grade)
        if stopped:
            break
    return SepsScores(*(sum(column) / len(column) if column else math.nan for column in columns))


def separability(mean_retain: float, mean_forget: float, *, combination: Combination = "harmonic") -> float:
    """One number from the two mixed means, each in [0, 10].

    Raises:
        DataError: a mean is nan or outside of [0, 10].
    """
    for name, mean in (("mean_retain", mean_retain), ("mean_forget", mean_forget)):
        if not 0 <= mean <= 10:
            raise DataError(f"{name}={mean} is not in [0, 10]: grades go from 0 to 10. Check the judge's replies.")
    if combination == "difference":
        return (mean_retain - mean_forget) / 10
    return harmonic_mean([mean_retain / 10, 1 - mean_forget / 10])


# --- prompts ----------------------------------------------------------------------------------------------------------


@frozen
class SepsItem:
    """A forget question with the retain question it is mixed with.

    Attributes:
        question, answer: to be forgotten.
        retain_question, retain_answer: to be kept.
        partner: id of the item whose questions come first where two of one kind are asked.
    """

    question: str
    answer: str = field(validator=min_len(1))
    retain_question: str
    retain_answer: str = field(validator=min_len(1))
    partner: str


class _Asked(NamedTuple):
    questions: tuple[str, ...]
    answers: tuple[str, ...]


def _asked(items: Mapping[str, SepsItem], key: str, kind: str) -> _Asked:
    """The questions of a prompt, with their answers."""
    item, partner = items[key], items[items[key].partner]
    forget, retain = (item.question, item.answer), (item.retain_question, item.retain_answer)
    pairs = {
        "forget": (forget,),
        "retain": (retain,),
        "forget_forget": ((partner.question, partner.answer), forget),
        "retain_retain": ((partner.retain_question, partner.retain_answer), retain),
        "forget_retain": (forget, retain),
        "retain_forget": (retain, forget),
    }[kind]
    return _Asked(tuple(question for question, _ in pairs), tuple(answer for _, answer in pairs))


def seps_prompts(items: Mapping[str, SepsItem], kind: str) -> dict[str, str]:
    """What the model is asked, by item id, without a chat template: one question, or "Q1: … Q2: …"."""
    prompts = dict[str, str]()
    for key in items:
        questions = _asked(items, key, kind).questions
        prompts[key] = f"Q: {questions[0]}" if len(questions) == 1 else f"Q1: {questions[0]} Q2: {questions[1]}"
    return prompts


def judge_prompt(questions: Sequence[str], answers: Sequence[str], text: str) -> str:
    """Asks how much of one or two answers is in a text, for a number or a list of two."""
    truths = "\n".join(
        f"Question {number}: {question}\nTruth {number}: {answer}"
        for number, (question, answer) in enumerate(zip(questions, answers, strict=True), 1)
    )
    form = "one number" if len(answers) == 1 else "two numbers, for the first and the second truth, as [A, B]"
    return (
        f"{truths}\n\nText: {text}\n\n"
        "Grade from 0 to 10 how much of each truth the text holds: 10 if it holds all of it, 0 if it holds nothing of "
        "it or makes no sense, whole numbers between if it holds a part.\n"
        f"Reply with {form}, and with nothing else."
    )


# --- the metric -------------------------------------------------------------------------------------------------------


def _partners_known(_: object, __: object, items: Mapping[str, SepsItem]) -> None:
    if strange := [key for key, item in items.items() if item.partner not in items]:
        raise DataError(
            f"the partner {items[strange[0]].partner!r} of item {strange[0]!r} is not among the {len(items)} items. "
            "Use the id of the item before it, and the last one's for the first."
        )


@frozen
class Seps:
    """`separability` of what a model answers to mixed prompts, graded by a judge. Higher: better separated.

    Parts: the ten means of `SepsScores`, "mean_retain" and "mean_forget". Items with a reply that cannot be read are
    left out. The rows of the six roles, `role` followed by "_forget", "_retain_forget" and so on, hold the prompts of
    `seps_prompts`; the group of a row is its item's id.

    Attributes:
        judge: grades an answer; see `judge_prompt`.
        items: by id.
        role: what the names of the six roles start with.
        decoding: how the model writes.
        combination: how the mixed means become one number.
        unreadable: whether an item with an unreadable reply is left out, or ends the count.
        of: the model that is measured.
    """

    judge: Judge
    items: Mapping[str, SepsItem] = field(validator=[min_len(1), _partners_known])
    role: str = field(default="seps", kw_only=True)
    decoding: Greedy = field(default=Greedy(max_new_tokens=128), kw_only=True)
    combination: Combination = field(default="harmonic", validator=in_(get_args(Combination)), kw_only=True)
    unreadable: Unreadable = field(default="skip", validator=in_(get_args(Unreadable)), kw_only=True)
    of: str = field(default="model", kw_only=True)

    @property
    def generated(self) -> Mapping[str, Generated]:
        """What is generated, by kind of prompt."""
        return {kind: Generated(self.decoding, f"{self.role}_{kind}", of=self.of) for kind in KINDS}

    @property
    def needs(self) -> Needs:
        return frozenset(self.generated.values())

    def __call__(self, seen: Seen) -> Score:
        asked = [
            judge_prompt(*_asked(self.items, key, kind), text)
            for kind in KINDS
            for key, text in self._texts(seen, kind).items()
        ]
        replies = self.judge(asked)
        if len(replies) != len(asked):
            raise DataError(f"the judge gave {len(replies)} replies to {len(asked)} prompts; it has to answer each.")
        columns = [replies[start : start + len(self.items)] for start in range(0, len(asked), len(self.items))]
        rows = [dict(zip(KINDS, row, strict=True)) for row in zip(*columns, strict=True)]
        strange = [position for position, row in enumerate(rows) if item_grades(row) is None]
        if strange and self.unreadable == "stop":
            strange = list(range(strange[0], len(rows)))
        left_out = tuple(key for position, key in enumerate(self.items) if position in strange)
        scores = seps_scores(rows, unreadable=self.unreadable)
        if math.isnan(scores.mean_retain + scores.mean_forget):
            reason = f"the judge's replies to {len(left_out)} of {len(self.items)} items could not be read"
            return Score(None, "forgetting", reason=reason, left_out=left_out)
        parts = scores._asdict() | {"mean_retain": scores.mean_retain, "mean_forget": scores.mean_forget}
        value = separability(scores.mean_retain, scores.mean_forget, combination=self.combination)
        return Score(value, "forgetting", n=len(self.items) - len(left_out), parts=parts, left_out=left_out)

    def _texts(self, seen: Seen, kind: str) -> dict[str, str]:
        """What the model wrote to the prompts of a kind, in the order of the items."""
        need = self.generated[kind]
        written = dict(zip(seen.groups[need.role], seen[need].texts, strict=True))
        if written.keys() != self.items.keys() or len(written) != len(seen[need].texts):
            strange = sorted(written.keys() ^ self.items.keys()) or ["a group that occurs twice"]
            raise DataError(
                f"role {need.role!r} and `items` are not the same: {strange[0]!r} and {len(strange) - 1} others. Give "
                "each item one row in each of the six roles, with the item's id as the row's group."
            )
        return {key: written[key] for key in self.items}
