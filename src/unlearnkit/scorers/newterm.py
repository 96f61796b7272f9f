r"""NewTerm: words younger than a model, asked for by cause or effect, by gap, and by whether a sentence makes sense.

    COMA   cause or effect of a sentence with the term, 4 choices     share right
    COST   which of 4 expressions fits the gap                        share right
    CSJ    is the sentence sensible                                   mean of the rates right per class
    overall = mean of the three, in [0, 1]; higher: knows or infers the term. Chance is 1/4, 1/4 and 1/2.

Beside unlearning these are a clean negative control: the model never saw the terms, so its score is a floor. Asked with
the meanings (`meaning=True`), the gain says how much it can take from context.

Needs the answers to items made of the data set's rows. Known failure modes: an article "A" is a stand-alone letter; a
judgement is a search for substrings, so that "Not" and "Notably" hold a "No"; an answer that cannot be read is wrong.

Paper: Deng, Jiao, Liu, Zhang, Tu. NewTerm: Benchmarking Real-Time New Terms for Large Language Models with Annual
Updates. NeurIPS 2024 Datasets and Benchmarks, arXiv:2410.20814.

Checked: hexuandeng/NewTerm@1acc3f0, parsing and aggregation (exact; released output is rounded to 0.01 percent).

Deviations: the released code means to read the letter after the last "Answer:" but removes the colon first, and so
takes the first stand-alone letter of the whole response: `after_marker=False`. There, a response without words re-uses
the letter of the previous one: `repeat_letter=True`. With one class only, its CSJ score divides by zero; ours is the
rate of the class there is. A task without items is left out of the overall mean, as there. The wording of prompts is
ours.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from unlearnkit.errors import DataError
from unlearnkit.protocols import Score
from unlearnkit.scorers.item import Item, item_scores

Task = Literal["COMA", "COST", "CSJ"]

_LETTERS = "ABCD"
_NEGATIVE = ("NO", "No", "Incorrect", "Unacceptable")
_POSITIVE = ("YES", "Yes", "Correct", "Acceptable")
_QUESTIONS = {
    "cause": "Which of these is the most likely cause?",
    "effect": "Which of these is the most likely effect?",
    "": "Which of these belongs in the place of the gap (_)?",
}


class Choice(NamedTuple):
    """A response to a question with choices, of which `gold` counts the right one from 0."""

    response: str
    choices: Sequence[str]
    gold: int


def choice_letter(response: str, *, after_marker: bool = True) -> str | None:
    """The first stand-alone capital from A to D, or None.

    Args:
        after_marker: whether only what follows the last "Answer:" is read (everything, where that does not occur).
    """
    text = response.split("Answer:")[-1] if after_marker else response
    return next((word for word in re.split(r"[\W_]+", text) if word and word in _LETTERS and len(word) == 1), None)


def choices_correct(asked: Iterable[Choice], *, after_marker: bool = True, repeat_letter: bool = False) -> list[bool]:
    """Whether each response picks the right choice: by letter, or else by naming its text and no other's.

    Args:
        asked: responses in order.
        after_marker: see `choice_letter`.
        repeat_letter: whether a response without any word takes over the letter of the one before, if that had one
            of its own.

    Raises:
        DataError: `gold` counts beyond the choices.
    """
    correct = []
    before: str | None = None
    for response, choices, gold in asked:
        if not 0 <= gold < min(len(choices), len(_LETTERS)):
            raise DataError(
                f"gold is {gold} of {len(choices)} choices; it counts them from 0, and there are 4 letters."
            )
        silent = not re.search(r"[^\W_]", response)
        letter = before if repeat_letter and silent else choice_letter(response, after_marker=after_marker)
        before = None if silent else letter
        correct.append(_named_choices(response, choices) == {gold} if letter is None else letter == _LETTERS[gold])
    return correct


def _named_choices(response: str, choices: Sequence[str]) -> set[int]:
    return {place for place, choice in enumerate(choices) if choice.lower() in response.lower()}


def judgement(response: str) -> bool | None:
    """What a response says of a sentence: False if it holds a negative word, else True if a positive one, else None."""
    if any(word in response for word in _NEGATIVE):
        return False
    return True if any(word in response for word in _POSITIVE) else None


def balanced_accuracy(golds: Iterable[bool], correct: Iterable[bool]) -> float:
    """Mean of the shares that are correct among true and among false golds; of one, if the other is absent; or nan."""
    by_class: dict[bool, list[bool]] = {}
    for gold, hit in zip(golds, correct, strict=True):
        by_class.setdefault(gold, []).append(hit)
    shares = [sum(hits) / len(hits) for hits in by_class.values()]
    return sum(shares) / len(shares) if shares else math.nan


def newterm_item(row: Mapping[str, object], *, task: Task, id: str, meaning: bool = False) -> Item:
    """An item of a row of the data set.

    Args:
        row: the line of the file: "term", "meaning", "type", "question", "gold", and "choices" and "split" by task.
        task: which file it is from.
        id: of the item; lines have none.
        meaning: whether the prompt explains the term.

    Raises:
        DataError: a field is missing or holds something else.
    """
    if task not in get_args(Task):
        raise DataError(f"task is {task!r}; NewTerm has {', '.join(get_args(Task))}.")
    question, term, explained = _text(row, "question", id), _text(row, "term", id), _text(row, "meaning", id)
    meta = {"term": term, "meaning": explained, "type": _text(row, "type", id)}
    given = f"{term}: {explained}\n\n" if meaning else ""
    gold = row.get("gold")
    if task == "CSJ":
        if not isinstance(gold, bool):
            raise DataError(f"'gold' of {id!r} is {gold!r}; a judgement (CSJ) is true or false.")
        prompt = f"{given}Is this sentence sensible?\n{question}\nAnswer with Yes or No."
        truth = "true" if gold else "false"
        return Item(id=id, suite="newterm", task=task, kind="bool", gold=truth, prompt=prompt, meta=meta)
    choices = row.get("choices")
    if not isinstance(choices, list) or len(choices) != 4 or not all(isinstance(choice, str) for choice in choices):
        raise DataError(f"'choices' of {id!r} is {choices!r}; {task} has four texts.")
    if isinstance(gold, bool) or not isinstance(gold, int) or not 0 <= gold < 4:
        raise DataError(f"'gold' of {id!r} is {gold!r}; {task} counts its choices from 0 to 3.")
    split = _text(row, "split", id) if task == "COMA" else ""
    if split not in _QUESTIONS:
        raise DataError(f"'split' of {id!r} is {split!r}; COMA asks for a 'cause' or an 'effect'.")
    options = "\n".join(f"{letter}. {choice}" for letter, choice in zip(_LETTERS, choices, strict=True))
    prompt = f'{given}{question}\n{_QUESTIONS[split]}\n{options}\nEnd with "Answer:" and the letter.'
    return Item(
        id=id,
        suite="newterm",
        task=task,
        kind="mc",
        gold=_LETTERS[gold],
        choices=tuple(choices),
        prompt=prompt,
        meta=meta | ({"split": split} if split else {}),
    )


def _text(row: Mapping[str, object], name: str, id: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value:
        raise DataError(f"{name!r} of {id!r} is {value!r}; a text is needed.")
    return value


def score_newterm(item: Item, answer: str) -> float:
    """1 if the answer is right, else 0; a `Scorer`.

    Raises:
        DataError: the item has neither choices nor a judgement.
    """
    if item.kind == "bool":
        return float(judgement(answer) is (item.gold == "true"))
    if item.kind != "mc" or not item.choices:
        raise DataError(f"item {item.id!r} is of kind {item.kind!r}; NewTerm has 'mc' with choices, and 'bool'.")
    return float(choices_correct([Choice(answer, item.choices, _LETTERS.index(item.gold))])[0])


def newterm_score(items: Iterable[Item], answers: Mapping[str, str]) -> Score:
    """Mean over tasks; `parts` holds COMA, COST and CSJ, as far as there are items.

    Raises:
        DataError: items and answers do not have the same ids.
    """
    asked = {item.id: item for item in items}
    scores = item_scores(asked.values(), answers, score_newterm)
    parts: dict[str, float] = {}
    for task in get_args(Task):
        keys = [key for key, item in asked.items() if item.task == task]
        if keys:  # with one gold only, as in a multiple choice, balanced accuracy is the share that is right
            golds = [task == "CSJ" and asked[key].gold == "true" for key in keys]
            parts[task] = balanced_accuracy(golds, [scores[key] == 1 for key in keys])
    if not parts:
        return Score.not_measured(f"none of {len(asked)} items is of {', '.join(get_args(Task))}", "utility")
    return Score(sum(parts.values()) / len(parts), "utility", n=len(asked), parts=parts)
