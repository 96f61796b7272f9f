"""Alternate answers, as AltPO teaches them: a model is asked for other plausible answers to questions it should forget.

The model to be unlearned writes them itself, so that they are in its own style. The procedure is the paper's: five
alternates per question, drawn at temperature 1 with at most 200 new tokens, none filtered out.

Paper: Mekala, Dorna et al. Alternate Preference Optimization for Unlearning Factual Knowledge in Large Language Models.
COLING 2025, arXiv:2409.13474.

Checked: laws only.

Deviations: the words of the prompt are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from attrs import frozen
from transformers import PreTrainedTokenizerBase

from unlearnkit.batch import Row, Template, tokenize
from unlearnkit.errors import DataError

PROMPT = (
    "Question: {question}\n"
    "Answer: {answer}\n"
    "Write another answer to this question. Keep the form and the length, and invent different facts.\n"
    "Other answer:"
)
"""What the model reads; `{question}` and `{answer}` are filled in."""

STOP = ("Question:", "Q:")
"""Where an alternate ends: the model has gone on to a next question."""


class Answered(Protocol):
    """A question with the answer to be forgotten."""

    @property
    def id(self) -> str: ...

    @property
    def question(self) -> str: ...

    @property
    def answer(self) -> str: ...


@frozen(kw_only=True)
class Alternate:
    """An answer to be forgotten beside another one; `id` is the question's, with the number of the alternate."""

    id: str
    question: str
    answer: str
    alternate: str


def alternates(
    questions: Iterable[Answered],
    write: Callable[[Sequence[str]], Sequence[str]],
    *,
    per_question: int = 5,
    prompt: str = PROMPT,
    stop: Sequence[str] = STOP,
) -> tuple[Alternate, ...]:
    """Ask for other answers: `per_question` of each question, in order, with ids "7/0", "7/1" …

    Nothing is filtered: an alternate may repeat another, or the answer itself.

    Args:
        questions: what is to be forgotten.
        write: continues prompts; each is given `per_question` times, one after another. It has to draw (temperature 1
            in the paper), for greedy continuations of one prompt are all the same.
        per_question: alternates of each question.
        prompt: what the model reads, with `{question}` and `{answer}`.
        stop: a reply ends before the first of these; spaces around it are dropped.

    Raises:
        DataError: another number of replies than of prompts.
    """
    asked = [(one, number) for one in questions for number in range(per_question)]
    prompts = [prompt.format(question=one.question, answer=one.answer) for one, _ in asked]
    replies = write(prompts)
    if len(replies) != len(prompts):
        raise DataError(f"{len(prompts)} prompts were answered by {len(replies)} replies; `write` owes one to each.")
    return tuple(
        Alternate(id=f"{one.id}/{number}", question=one.question, answer=one.answer, alternate=_until(reply, stop))
        for (one, number), reply in zip(asked, replies, strict=True)
    )


def _until(text: str, stop: Sequence[str]) -> str:
    """The text before the earliest stop string, without spaces around it."""
    return min((text.split(string, 1)[0] for string in stop), key=len, default=text).strip()


def preference_pairs(
    found: Iterable[Alternate],
    *,
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    max_length: int = 512,
    lose: str = "forget",
    win: str = "alternate",
) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Rows to be forgotten and rows to be preferred, pair by pair: of one id, which is the group of both.

    A question's answer is there once for each of its alternates, as DPO wants exactly two rows in a pair.

    Args:
        found: the alternates.
        tokenizer, template, max_length: see `tokenize`.
        lose: role of the answers to be forgotten.
        win: role of the alternates.

    Raises:
        DataError: an empty alternate, or one that `max_length` cuts off entirely; names it.
    """
    pairs = [
        tuple(
            tokenize(tokenizer, one.question, said, id=one.id, role=role, template=template, max_length=max_length)
            for said, role in ((one.answer, lose), (one.alternate, win))
        )
        for one in found
    ]
    return tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)
