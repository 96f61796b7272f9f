r"""MEOW: teach wrong answers to the questions to be forgotten, those that the model is closest to (or furthest from).

    1. a writer gives c answers to each question that contradict the true one
    2. each is scored with MEMO on the model to be unlearned: how much of it the model completes by itself
    3. the k with the largest (or smallest) scores are kept, or k at random
    4. L = mean_t -log p(kept answer): plain fine-tuning, `CrossEntropy("inverted")`

There is no retain data, no reference, and the true answer is never a target. The scores come from outside: make rows of
each candidate with `memo_rows` and measure them with `Memo` (stride 5, up to 200 new tokens); `Score.per_example` is
what `inverted_rows` wants. With k = c the scores do not matter.

Paper: Gu, Huang, Luo, Yao, Yang, Teng, Wang. MEOW: MEMOry Supervised LLM Unlearning Via Inverted Facts. 2024,
arXiv:2409.11844.

Checked: laws only (Carol-gutianle/MEOW@1ee8aef was read; its losses are those of cross_entropy.py).

Deviations:
1. The authors' code repeats the kept answers to 8 per question and its collator then drops half, so that an epoch
has ranks 1, 2, 3, 1. Here each of the k is there once.
2. With equal scores the code keeps one answer twice. Here they are told apart, and the earlier one goes first.
3. A candidate that equals the true answer or an earlier candidate is left out, and one whose score is nan (not
measured) comes last.
4. The question put to the writer is our own wording; the authors ask GPT-4 at temperature 0.9 for c = 4.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from attrs import field, frozen
from attrs.validators import deep_iterable, min_len
from transformers import PreTrainedTokenizerBase

from unlearnkit.batch import Row, Template, tokenize
from unlearnkit.draws import keyed_draw
from unlearnkit.errors import DataError
from unlearnkit.protocols import Judge

Which = Literal["largest", "smallest", "random"]
"""Which candidates are kept, by score."""


@frozen
class InvertedFact:
    """A question to be forgotten, with wrong answers to choose from.

    Attributes:
        question, answer: to be forgotten.
        candidates: answers that contradict `answer`, in order.
    """

    question: str
    answer: str
    candidates: tuple[str, ...] = field(validator=[min_len(1), deep_iterable(min_len(1))])


def writing_prompt(question: str, answer: str, count: int) -> str:
    """Asks for `count` answers that contradict the true one, a line each."""
    return (
        f"Question: {question}\nAnswer: {answer}\n\n"
        f"Write {count} other answers to the question. Each contradicts the answer above in what it claims, differs "
        "from the others, reads as if it were true, and has the same form and about the same length.\n"
        "Write one answer per line, and nothing else."
    )


def read_reply(reply: str) -> tuple[str, ...]:
    """The lines of a reply that are not blank, without a number ("1. ", "2) ") or dash before them."""
    lines = (re.sub(r"^\s*(?:\d+[.)]|[-*])\s+", "", line).strip() for line in reply.splitlines())
    return tuple(line for line in lines if line)


def write_candidates(writer: Judge, facts: Mapping[str, tuple[str, str]], *, count: int = 4) -> dict[str, InvertedFact]:
    """Have a language model write wrong answers.

    Args:
        writer: answers prompts; see `writing_prompt`.
        facts: question and true answer, by id.
        count: answers to ask for.

    Raises:
        DataError: a reply with another number of answers, or another number of replies.
    """
    replies = writer([writing_prompt(question, answer, count) for question, answer in facts.values()])
    if len(replies) != len(facts):
        raise DataError(f"the writer gave {len(replies)} replies to {len(facts)} prompts; it has to answer each.")
    written = {}
    for (name, (question, answer)), reply in zip(facts.items(), replies, strict=True):
        candidates = read_reply(reply)
        if len(candidates) != count:
            raise DataError(
                f"the writer's reply for example {name!r} has {len(candidates)} answers instead of {count} "
                f"({reply[:60]!r}). Ask again, or make an InvertedFact of what there is."
            )
        written[name] = InvertedFact(question, answer, candidates)
    return written


def candidate_id(example: str, number: int) -> str:
    """What a candidate is called in scores and rows: number 0 is the example's first."""
    return f"{example}/{number}"


def choose(
    scores: Sequence[float], count: int, *, which: Which = "largest", seed: int = 0, example: str = ""
) -> list[int]:
    """Places of the kept candidates, best first; equal scores in order, nan last.

    Args:
        scores: one per candidate; not read if `which` is "random".
        count: how many are kept.
        which: those with the largest or smallest scores, or `count` drawn without replacement.
        seed, example: the key of the draw.

    Raises:
        DataError: an unknown `which`, or more to be kept than there are.
    """
    if which not in get_args(Which):
        raise DataError(f"which is {which!r}; it is one of {', '.join(get_args(Which))}.")
    if not 1 <= count <= len(scores):
        raise DataError(f"{count} answers are to be kept of {len(scores)}; keep between 1 and all of them.")
    if which == "random":
        draws = [(keyed_draw(2**63, seed, "inverted fact", example, place), place) for place in range(len(scores))]
        return [place for _, place in sorted(draws)][:count]
    sign = -1.0 if which == "largest" else 1.0
    ranked = [
        (math.isnan(score), 0.0 if math.isnan(score) else sign * score, place) for place, score in enumerate(scores)
    ]
    return [place for _, _, place in sorted(ranked)][:count]


def inverted_rows(
    tokenizer: PreTrainedTokenizerBase,
    facts: Mapping[str, InvertedFact],
    scores: Mapping[str, float],
    *,
    template: Template,
    top: int = 3,
    which: Which = "largest",
    seed: int = 0,
    role: str = "inverted",
    max_length: int = 512,
) -> tuple[Row, ...]:
    """Rows of the kept wrong answers, best first; those of an example are of the group of its id.

    Args:
        tokenizer, template, max_length: see `tokenize`.
        facts: by example id.
        scores: MEMO of each candidate on the model to be unlearned, by `candidate_id`; may be empty for "random".
        top: how many answers each question keeps.
        which: those with the largest scores, with the smallest, or some drawn at random.
        seed: of the draw.
        role: what the rows are for.

    Raises:
        DataError: a candidate without a score, or an example with fewer than `top` distinct wrong answers.
    """
    rows = []
    for name, fact in facts.items():
        wrong = _distinct(fact)
        if len(wrong) < top:
            raise DataError(
                f"example {name!r} has {len(wrong)} distinct wrong answers, but {top} are to be kept. Write more, or "
                "lower `top`."
            )
        ids = [candidate_id(name, number) for number in wrong]
        if which != "random" and (absent := [each for each in ids if each not in scores]):
            raise DataError(
                f"candidate {absent[0]!r} ({fact.candidates[wrong[ids.index(absent[0])]][:40]!r}) has no score. Measure "
                "Memo on rows of every candidate, grouped by `candidate_id`."
            )
        measured = [scores.get(each, math.nan) for each in ids]
        rows += [
            tokenize(
                tokenizer,
                fact.question,
                fact.candidates[wrong[place]],
                id=ids[place],
                role=role,
                template=template,
                group=name,
                max_length=max_length,
            )
            for place in choose(measured, top, which=which, seed=seed, example=name)
        ]
    return tuple(rows)


def _distinct(fact: InvertedFact) -> list[int]:
    """Numbers of the candidates that are neither the true answer nor a repetition."""
    texts = [" ".join(text.split()) for text in fact.candidates]
    true = " ".join(fact.answer.split())
    return [number for number, text in enumerate(texts) if text != true and text not in texts[:number]]
