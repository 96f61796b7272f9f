r"""JEEBench: entrance-exam questions with one right option, several, or a number; partial credit and negative marks.

    one option    1 if right                              marks  +3, wrong -1, abstained 0
    several       1 if the same set; 0.25 per right one   marks  +4, or +1 per right one; any wrong one -2
                  if none is wrong, else 0
    number        1 if |gold - answer| <= 0.01            marks  +3, wrong 0

Self-consistency takes one answer from many samples, and abstains where they agree too little: that is what pays under
negative marks. Scores are in [0, 1], higher is more useful. The random baseline is what a uniform choice among the
options (among all 16 subsets, where several may be right) scores on average; a random number scores 0.

Needs extracted answers: letters, a number, or `ABSTAIN`; every capital A to D in the text of a choice counts as chosen.
Known failure modes: a sentence given as an answer ("Both are wrong") holds capital letters; numbers are compared by an
absolute tolerance, whatever their size.

Paper: Arora, Singh, Mausam. Have LLMs Advanced Enough? A Challenging Problem Solving Benchmark For Large Language
Models. EMNLP 2023, arXiv:2305.15074.

Checked: dair-iitd/jeebench@a9af8bf, scores and self-consistency (exact). Marks and the tuning of thresholds are the
paper's and have no released code; what a mark is for an abstained part is our reading.

Deviations: if all samples abstain on a question with one option, the released code answers "A" unless a threshold is
set; we abstain (`abstain_together=False` is theirs). It removes abstentions from the caller's list, ours leaves it as
it is. A number that cannot be read raises there and scores 0 here. Letters beyond D raise there and are no votes here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from unlearnkit.errors import DataError
from unlearnkit.scorers.item import Item

QuestionType = Literal["MCQ", "MCQ(multiple)", "Integer", "Numeric"]
"""One option, several, or a number; the data set's own words."""

ABSTAIN = "None"
"""The data set's word for no answer."""

_OPTIONS = "ABCD"
_RANDOM = {1: 0.0625, 2: 0.09375, 3: 0.203125, 4: 0.5}


def jeebench_score(gold: str, answer: str, question: QuestionType) -> float:
    """Credit for an extracted answer, in [0, 1].

    Raises:
        DataError: the gold answer fits no question of this type.
    """
    _check_gold(gold, question)
    if question in ("Integer", "Numeric"):
        return float(_close(gold, answer))
    right, chosen = _letters(gold), _letters(answer)
    if chosen == right:
        return 1.0
    if question == "MCQ" or chosen - right:
        return 0.0
    return 0.25 * len(chosen)


def negative_marks(gold: str, answer: str, question: QuestionType, *, number: float = 3.0) -> float:
    """Marks of an extracted answer under the exam's rules, in [-2, 4].

    Args:
        number: marks of a right number, 3 or 4 by year.

    Raises:
        DataError: the gold answer fits no question of this type.
    """
    _check_gold(gold, question)
    if question in ("Integer", "Numeric"):
        return number if _close(gold, answer) else 0.0
    right, chosen = _letters(gold), _letters(answer)
    if not chosen:
        return 0.0
    if question == "MCQ":
        return 3.0 if chosen == right else -1.0
    if chosen - right:
        return -2.0
    return 4.0 if chosen == right else float(len(chosen))


def random_score(gold: str, question: QuestionType) -> float:
    """Mean score of an answer chosen blindly."""
    _check_gold(gold, question)
    if question == "MCQ":
        return 0.25
    return _RANDOM[len(_letters(gold))] if question == "MCQ(multiple)" else 0.0


def self_consistency(
    answers: Sequence[str],
    question: QuestionType,
    *,
    single_threshold: float | None = None,
    multiple_threshold: float = 0.5,
    abstain_together: bool = True,
) -> str:
    """The answer that samples agree on, or `ABSTAIN`.

    Args:
        answers: extracted answers, those of abstaining samples included.
        question: of one option: the letter with most votes, the first of equals. Of several: every letter with enough
            votes. A number: the text given most often, the smallest of equals as text; "2" and "2.0" differ.
        single_threshold: least share of samples that must name the winning letter. None: any.
        multiple_threshold: least share of samples that must name a letter; with 0 all letters qualify.
        abstain_together: whether a question of one option without any vote is left unanswered, or (without a
            threshold, or with 0) answered "A".

    A letter written twice in one answer has two votes.

    Raises:
        DataError: there are no answers.
    """
    if not answers:
        raise DataError("answers is empty; self-consistency needs at least one sample. Give `ABSTAIN` for no answer.")
    if question in ("Integer", "Numeric"):
        numbers = Counter(answer for answer in answers if answer != ABSTAIN)
        return min(numbers, key=lambda text: (-numbers[text], text), default=ABSTAIN)
    votes = {letter: sum(answer.count(letter) for answer in answers if answer != ABSTAIN) for letter in _OPTIONS}
    if question == "MCQ(multiple)":
        agreed = [letter for letter in _OPTIONS if votes[letter] >= len(answers) * multiple_threshold]
        return "".join(agreed) or ABSTAIN
    winner = max(_OPTIONS, key=lambda letter: votes[letter])
    if not votes[winner] and abstain_together:
        return ABSTAIN
    kept = single_threshold is None or votes[winner] / len(answers) >= single_threshold
    return winner if kept else ABSTAIN


def best_threshold(
    samples: Mapping[str, Sequence[str]],
    golds: Mapping[str, str],
    question: Literal["MCQ", "MCQ(multiple)"],
    candidates: Sequence[float],
) -> float:
    """The agreement to ask for that earns most negative marks in total, the smallest of equals.

    Args:
        samples: extracted answers by question id, from a year that is not the one to be reported.
        golds: right answers by question id.
        question: the type that all of them have.
        candidates: thresholds to choose from, as `self_consistency` takes them.

    Raises:
        DataError: no candidates, or other questions in `golds` than in `samples`.
    """
    if not candidates:
        raise DataError("candidates is empty; give the thresholds to choose from.")
    if strangers := samples.keys() ^ golds.keys():
        raise DataError(f"samples and golds differ in {sorted(strangers)[0]!r} and {len(strangers) - 1} other ids.")

    def marks(threshold: float) -> float:
        answers = {
            key: self_consistency(drawn, question, single_threshold=threshold, multiple_threshold=threshold)
            for key, drawn in samples.items()
        }
        return sum(negative_marks(golds[key], answer, question) for key, answer in answers.items())

    return max(sorted(candidates), key=marks)


def score_jeebench(item: Item, answer: str) -> float:
    """`jeebench_score` of an item by its kind: "mc", "multi_mc" or "numeric"; a `Scorer`."""
    match item.kind:
        case "mc":
            return jeebench_score(item.gold, answer, "MCQ")
        case "multi_mc":
            return jeebench_score(item.gold, answer, "MCQ(multiple)")
        case "numeric":
            return jeebench_score(item.gold, answer, "Numeric")
        case _:
            raise DataError(f"item {item.id!r} is of kind {item.kind!r}; JEEBench has 'mc', 'multi_mc' and 'numeric'.")


def _check_gold(gold: str, question: QuestionType) -> None:
    if question not in get_args(QuestionType):
        raise DataError(f"question is {question!r}; JEEBench has {', '.join(get_args(QuestionType))}.")
    if question in ("Integer", "Numeric"):
        if not _close(gold, gold):
            raise DataError(f"gold is {gold!r}; a question of type {question!r} has a finite number.")
    elif not _letters(gold):
        raise DataError(f"gold is {gold!r}; a question of type {question!r} has letters from A to D.")


def _letters(answer: str) -> set[str]:
    return set(_OPTIONS) & set(answer)


def _close(gold: str, answer: str) -> bool:
    try:
        return abs(float(gold) - float(answer)) <= 0.01  # nan: no
    except ValueError:
        return False
