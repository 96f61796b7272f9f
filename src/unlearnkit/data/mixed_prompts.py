r"""Mixed prompts: a question to be forgotten and one to be kept in one prompt, in both orders, with both answers.

    forget_retain   "1.{forget question}\n2. {retain question}"   ->  "1.{forget answer}\n2. {retain answer}"
    retain_forget   "1. {retain question}\n2.{forget question}"   ->  "1. {retain answer}\n2.{forget answer}"

With `refusals` the forget answer is a refusal: rows for MP-IDK, `CrossEntropy` on both roles. Without, the answers are
the original ones, and `uniform_segments` says which tokens belong to the forget question and answer: what
`MixedPromptKL` (MP-ME) reads. Segments are found by character offsets, so any tokenizer and template will do.

Paper: Jeung, Yoon, No. SEPS: A Separability Measure for Robust Unlearning in LLMs. EMNLP 2025, arXiv:2505.14832.

Checked: laws only (the texts are those of AI-ISL/SEPS@2d36ecf; its losses are checked in objectives/mixed_prompt.py).

Deviations:
1. The code draws the retain partner and the refusal once per forget question, so that they stay over all epochs:
`draws=1`. With more draws, and another role as the primary of the sampler, each epoch draws one of them anew.
2. The code finds segments by tokens of Llama-2 and offsets set by hand; see objectives/mixed_prompt.py.

As in the code, no space follows the number of a forget question or answer, and one follows that of a retain one. A
model can tell them by it, and some tokenizers split a word differently without the space: `forget_gap=" "` treats both
alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from attrs import field, frozen
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from unlearnkit.batch import IGNORE, Row, Template, tokenize
from unlearnkit.draws import keyed_draw
from unlearnkit.errors import DataError
from unlearnkit.recording import Recording, given


class Fact(NamedTuple):
    """A question and its answer."""

    question: str
    answer: str


@frozen(eq=False)
class MixedRow:
    """A row of two questions, and which of its tokens belong to the one to be forgotten.

    Attributes:
        row: both questions and both answers.
        forget: [T] bool, tokens with a character of the forget question or of its answer.
    """

    row: Row
    forget: Tensor = field()


@frozen
class _Part:
    """A text that is put together, with the places [start, end) of what is to be forgotten in it."""

    text: str
    forget: tuple[int, int]


def _joined(forget: str, retain: str, gap: str, forget_first: bool) -> _Part:
    first, second = (gap + forget, f" {retain}") if forget_first else (f" {retain}", gap + forget)
    text = f"1.{first}\n2.{second}"
    end = 2 + len(first) if forget_first else len(text)
    return _Part(text, (end - len(forget), end))


def mixed_rows(
    tokenizer: PreTrainedTokenizerBase,
    forget: Mapping[str, Fact],
    retain: Mapping[str, Fact],
    *,
    template: Template,
    refusals: Sequence[str] = (),
    draws: int = 1,
    seed: int = 0,
    forget_gap: str = "",
    forget_first: str = "forget_retain",
    retain_first: str = "retain_forget",
    max_length: int = 512,
) -> tuple[MixedRow, ...]:
    """Both orders of each forget question beside a retain question drawn for it.

    Args:
        tokenizer, template, max_length: see `tokenize`.
        forget: what is to be forgotten, by id.
        retain: what partners are drawn from, uniformly, by id.
        refusals: what forget answers are replaced by, one drawn for each row pair. Default: they stay.
        draws: partners of each forget question, drawn one by one.
        seed: of the draws, which depend on the ids of the forget question and of all retain ones.
        forget_gap: what is written between the number and a forget question or answer.
        forget_first, retain_first: the roles of the two orders.

    Returns:
        Rows with ids "forget id/draw" (the forget id, if there is one draw); the group of a row is its forget id, so
        that the two orders stay together.

    Raises:
        DataError: no retain question, fewer than one draw, an empty question, or a row without answer tokens.
    """
    if not retain or draws < 1:
        raise DataError(f"there are {len(retain)} retain questions and {draws} draws; both have to be at least 1.")
    for kind, facts in (("forget", forget), ("retain", retain)):
        for name, fact in facts.items():
            if not fact.question.strip() or not fact.answer.strip():
                raise DataError(f"the question or the answer of {kind} example {name!r} is empty. Drop it.")
    partners = [retain[name] for name in sorted(retain)]
    rows = []
    for name, fact in forget.items():
        for draw in range(draws):
            partner = partners[keyed_draw(len(partners), seed, "mixed partner", name, draw)]
            answer = fact.answer
            if refusals:
                answer = refusals[keyed_draw(len(refusals), seed, "mixed refusal", name, draw)]
            rows += [
                _tokenized(
                    tokenizer,
                    _joined(fact.question.strip(), partner.question.strip(), forget_gap, role == forget_first),
                    _joined(answer.strip(), partner.answer.strip(), forget_gap, role == forget_first),
                    template=template,
                    id=f"{name}/{draw}" if draws > 1 else name,
                    role=role,
                    group=name,
                    max_length=max_length,
                )
                for role in (forget_first, retain_first)
            ]
    return tuple(rows)


def _tokenized(
    tokenizer: PreTrainedTokenizerBase,
    question: _Part,
    answer: _Part,
    *,
    template: Template,
    id: str,
    role: str,
    group: str,
    max_length: int,
) -> MixedRow:
    row = tokenize(
        tokenizer,
        question.text,
        answer.text,
        id=id,
        role=role,
        template=template,
        group=group,
        max_length=max_length,
    )
    before, after = template(question.text, answer.text)
    places = (before.rfind(question.text), after.find(answer.text))
    if min(places) < 0:
        raise DataError(
            f"the template changes the text of example {id!r} of {role!r}, so the forget question cannot be located. "
            "Use a PlainTemplate, or a Template that leaves prompt and answer as they are."
        )
    encoded = tokenizer(
        before + after,
        add_special_tokens=template.special_tokens,
        return_offsets_mapping=True,
        return_attention_mask=False,
    )
    starts = (places[0], len(before) + places[1])
    segments = [
        (start + part.forget[0], start + part.forget[1]) for start, part in zip(starts, (question, answer), strict=True)
    ]
    forget = torch.zeros(len(row), dtype=torch.bool)
    # A row may be cut, or end with a token that the text does not have.
    for place, (start, end) in enumerate(encoded["offset_mapping"][: len(row)]):
        forget[place] = start < end and any(start < last and end > first for first, last in segments)
    return MixedRow(row, forget)


def rows_of(mixed: Sequence[MixedRow], role: str) -> tuple[Row, ...]:
    """The rows of one order, to train on."""
    return tuple(one.row for one in mixed if one.row.role == role)


def uniform_segments(mixed: Sequence[MixedRow], *, positions: Literal["text", "answer"] = "text") -> Recording:
    """1 where the next token is of the forget question or answer, 0 elsewhere: what `Given("uniform")` reads.

    Args:
        mixed: of one role or of both.
        positions: those of the objective.

    Raises:
        DataError: there are no rows.
    """
    if not mixed:
        raise DataError("there are no rows, so there is nothing to mark.")
    recording: Recording | None = None
    for role in sorted({one.row.role for one in mixed}):
        values = {one.row.id: _next(one, positions) for one in mixed if one.row.role == role}
        of_role = given("uniform", values, rows_of(mixed, role), positions=positions)
        recording = of_role if recording is None else recording.with_entries_of(of_role)
    assert recording is not None
    return recording


def _next(one: MixedRow, positions: Literal["text", "answer"]) -> Tensor:
    """[n] numbers, one for each token that is predicted."""
    following = one.forget[1:].to(torch.float32)
    return following if positions == "text" else following[one.row.labels[1:] != IGNORE]
