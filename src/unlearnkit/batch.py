"""Rows, and the one place where they become a batch: shift, masks and position ids are decided here and nowhere else.

A row is one example of one role, unbatched. A step is a list of rows, a micro-batch a sub-list, collated when used:
rows are cut, tensors never. How text becomes rows is decided here too (`tokenize`): the prompt is masked by character
offsets, so that a token that merges across the boundary cannot miscount.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, Protocol

import torch
from attrs import Attribute, field, frozen
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from unlearnkit.errors import DataError, VocabularyError
from unlearnkit.protocols import Dataset, Positions, Unit

IGNORE = -100
"""The label of a position that is not supervised."""


@frozen(eq=False)
class Row:
    """One example of one role, unbatched.

    Attributes:
        id: stable name of the example; pairing, recordings and reports are keyed by it. Unique within a role.
        role: what it is for: "forget", "retain", "idk" …; a data set's name is its role.
        inputs: what the model reads, unbatched; a causal LM wants `input_ids` [T].
        labels: [T] int64, the token ids that are supervised, `IGNORE` elsewhere; not shifted.
        group: rows of a group are never separated: a preference pair, a question with its answers. Default: the id.
    """

    id: str
    role: str
    inputs: Mapping[str, Tensor]
    labels: Tensor = field()
    group: str = field()

    @labels.validator
    def _as_long_as_the_tokens(self, _: Attribute[Tensor], labels: Tensor) -> None:
        tokens = self.inputs.get("input_ids")
        if tokens is not None and tokens.shape != labels.shape:
            raise DataError(
                f"row {self.id!r} of {self.role!r} has input_ids of shape {tuple(tokens.shape)} and labels of shape "
                f"{tuple(labels.shape)}; both are unbatched and of one length. Mark what is not supervised by {IGNORE}."
            )

    @group.default
    def _own_group(self) -> str:
        return self.id

    def __len__(self) -> int:
        return len(self.labels)


@frozen(eq=False)
class Batch:
    """Collated rows, on the CPU: slot (b, t) predicts `targets[b, t]`.

    Attributes:
        rows: the rows, in order.
        inputs: what `Model.hidden` reads.
        targets: [B, T] int64: the supervised label if there is one, else the next token, else `IGNORE`.
        answer, text, non_pad: [B, T] bool, the positions of each kind.
        row: [B, T] int64, the row each slot belongs to (of pad slots it says nothing). Default: row b is line b.
        start: [rows] int64, the flat slot, b * T + t, of each row's first token. Default: line b starts at b * T.
    """

    rows: tuple[Row, ...]
    inputs: Mapping[str, Tensor]
    targets: Tensor
    answer: Tensor
    text: Tensor
    non_pad: Tensor
    row: Tensor = field()
    start: Tensor = field()

    @row.default
    def _lines(self) -> Tensor:
        return torch.arange(len(self.targets))[:, None].expand(self.targets.shape)

    @start.default
    def _line_starts(self) -> Tensor:
        return torch.arange(len(self.targets)) * self.targets.shape[1]

    def at(self, positions: Positions) -> Tensor:
        """The mask [B, T] of a kind of positions."""
        return {"answer": self.answer, "text": self.text, "non_pad": self.non_pad}[positions]


def all_rows(data: Dataset[Row]) -> list[Row]:
    """A whole data set, in order."""
    return [data[index] for index in range(len(data))]


class Collate(Protocol):
    """Rows of one model family to a batch on the CPU: inputs, shifted targets, masks, position ids."""

    def __call__(self, rows: Sequence[Row], /) -> Batch: ...


def collate_text(rows: Sequence[Row], /) -> Batch:
    """Right-padded batch of a causal language model; the shift by one happens here.

    Masks come from lengths, never from comparing ids with a pad id (which is often the end token's). The pad slots
    hold id 0 and target `IGNORE`. There is no attention mask: padding is on the right, where causal attention does not
    look, and kernels are faster without one.
    """
    size, longest = len(rows), max(map(len, rows))
    input_ids = torch.zeros(size, longest, dtype=torch.int64)
    targets = torch.full((size, longest), IGNORE)
    answer = torch.zeros(size, longest, dtype=torch.bool)
    lengths = torch.tensor([len(row) for row in rows])
    for b, row in enumerate(rows):
        ids, labels, last = row.inputs["input_ids"], row.labels, len(row) - 1
        input_ids[b, : len(row)] = ids
        answer[b, :last] = labels[1:] != IGNORE
        targets[b, :last] = torch.where(labels[1:] != IGNORE, labels[1:], ids[1:])
    positions = torch.arange(longest).expand(size, longest)
    non_pad = positions < lengths[:, None]
    return Batch(
        tuple(rows),
        inputs={"input_ids": input_ids, "position_ids": positions},
        targets=targets,
        answer=answer,
        text=positions < lengths[:, None] - 1,
        non_pad=non_pad,
    )


def collate_packed(rows: Sequence[Row], /) -> Batch:
    """Rows one after another in a single line without padding, position ids starting anew with each.

    For models of transformers whose attention keeps such documents apart: those that get no attention mask and see
    position ids restart ("sdpa", "flex_attention" and the flash kernels; a kernel of variable length does no work
    between documents, "sdpa" masks it). The same results as `collate_text`, which generation still wants.
    """
    lengths = torch.tensor([len(row) for row in rows])
    start = lengths.cumsum(0) - lengths
    row = torch.arange(len(rows)).repeat_interleave(lengths)
    position_ids = torch.arange(len(row)) - start[row]
    input_ids = torch.cat([row.inputs["input_ids"] for row in rows])
    labels = torch.cat([row.labels for row in rows])
    text = position_ids < lengths[row] - 1
    answer = text & (labels.roll(-1) != IGNORE)
    following = torch.where(answer, labels.roll(-1), input_ids.roll(-1))
    return Batch(
        tuple(rows),
        inputs={"input_ids": input_ids[None], "position_ids": position_ids[None]},
        targets=torch.where(text, following, IGNORE)[None],
        answer=answer[None],
        text=text[None],
        non_pad=torch.ones_like(text)[None],
        row=row[None],
        start=start,
    )


def count_positions(row: Row, positions: Positions) -> int:
    """How many positions of a kind a row has, without collating it."""
    if positions == "answer":
        return int((row.labels[1:] != IGNORE).sum())
    return len(row) - 1 if positions == "text" else len(row)


def count(rows: Iterable[Row], unit: Unit) -> int:
    """The number of units in these rows: what the engine divides a summed term by."""
    chosen = [row for row in rows if row.role in unit.roles]
    if unit.kind == "sequence":
        return sum(count_positions(row, "answer") > 0 for row in chosen)
    return sum(count_positions(row, unit.kind) for row in chosen)


# --- from text to rows ------------------------------------------------------------------------------------------------


class Template(Protocol):
    """Wraps prompt and answer into the text a model reads: (what precedes the answer, the answer with its end)."""

    def __call__(self, prompt: str, answer: str, /) -> tuple[str, str]: ...

    @property
    def special_tokens(self) -> bool:
        """Whether the tokenizer should add its own begin token (a chat template writes it itself)."""


@frozen
class PlainTemplate:
    """Tags around prompt and answer, TOFU's Phi style by default. The answer tag is not supervised."""

    question_tag: str = "Question: "
    answer_tag: str = "\nAnswer: "
    special_tokens = True

    def __call__(self, prompt: str, answer: str) -> tuple[str, str]:
        return f"{self.question_tag}{prompt}{self.answer_tag}", answer


@frozen(eq=False)
class ChatTemplate:
    """The tokenizer's own chat template: prompt as the user's turn, answer as the assistant's."""

    tokenizer: PreTrainedTokenizerBase
    system: str | None = None
    special_tokens = False

    def __call__(self, prompt: str, answer: str) -> tuple[str, str]:
        turns = [{"role": "system", "content": self.system}] if self.system is not None else []
        turns.append({"role": "user", "content": prompt})
        before = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        turns.append({"role": "assistant", "content": answer})
        whole = self.tokenizer.apply_chat_template(turns, tokenize=False)
        if not isinstance(before, str) or not isinstance(whole, str) or not whole.startswith(before):
            raise DataError(
                "this tokenizer's chat template does not write the prompt first and the answer after it, so the answer "
                "cannot be located. Use a PlainTemplate, or a Template of your own."
            )
        # Some templates write something (an empty thought) before the answer: it belongs to the prompt. What they write
        # after the end-of-turn token (a line break, mostly) is never generated: not supervised.
        start = whole.find(answer.strip(), len(before))
        if start < 0:
            raise DataError(f"this tokenizer's chat template changes the answer {answer[:40]!r}. Use a PlainTemplate.")
        return whole[:start], whole[start:].rstrip()


def template_of(tokenizer: PreTrainedTokenizerBase) -> Template:
    """The tokenizer's chat template if it has one, else plain question and answer tags."""
    return ChatTemplate(tokenizer) if tokenizer.chat_template else PlainTemplate()


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    answer: str,
    *,
    id: str,
    role: str,
    template: Template,
    group: str | None = None,
    max_length: int = 512,
    overlong: Literal["refuse", "cut"] = "cut",
) -> Row:
    """A row whose answer tokens and one end token are supervised.

    The text is tokenised as a whole; a token belongs to the answer if it covers any character of it. Rows of more than
    `max_length` tokens are cut on the right, or refused if `overlong` says so.

    Raises:
        DataError: no answer token is left (empty answer, or a prompt that fills `max_length`); a row that is too long.
    """
    before, after = template(prompt, answer)
    if not tokenizer.is_fast:
        raise DataError(
            f"{type(tokenizer).__name__} is a slow tokenizer and does not say which characters a token covers, so the "
            "answer cannot be located. Load the fast one: AutoTokenizer.from_pretrained(..., use_fast=True)."
        )
    encoded = tokenizer(
        before + after,
        add_special_tokens=template.special_tokens,
        return_offsets_mapping=True,
        return_attention_mask=False,
    )
    ids: list[int] = list(encoded["input_ids"])
    supervised = [end > len(before) for _, end in encoded["offset_mapping"]]
    end_token = tokenizer.eos_token_id
    special = tokenizer.added_tokens_decoder.get(ids[-1]) if ids else None
    if special is not None and special.special:
        supervised[-1] = True  # the template or the tokenizer has written an end token, the latter with an empty offset
    elif isinstance(end_token, int):
        ids.append(end_token)
        supervised.append(True)
    answered = any(end > len(before) for _, end in encoded["offset_mapping"][:max_length]) and answer.strip() != ""
    if not answered:
        raise DataError(
            f"example {id!r} of {role!r} has no answer token within max_length={max_length} tokens "
            f"(answer: {answer[:40]!r}, whole text: {len(ids)} tokens). "
            "Raise max_length, shorten the prompt, or drop it."
        )
    if overlong == "refuse" and len(ids) > max_length:
        raise DataError(
            f"example {id!r} of {role!r} has {len(ids)} tokens, and max_length is {max_length}. Raise it, drop the example, "
            "or let it be cut."
        )
    input_ids = torch.tensor(ids[:max_length])
    labels = torch.where(torch.tensor(supervised[:max_length]), input_ids, IGNORE)
    return Row(id, role, {"input_ids": input_ids}, labels, group=id if group is None else group)


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, template: Template, prompt: str) -> Tensor:
    """What a model is given to continue: the tokens before the answer, as in a row of `tokenize`, [T]."""
    row = tokenize(tokenizer, prompt, "yes", id=prompt[:40], role="prompt", template=template, max_length=2**20)
    return row.inputs["input_ids"][: int((row.labels != IGNORE).nonzero()[0])]


def tokenize_text(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    *,
    id: str,
    role: str,
    group: str | None = None,
    max_length: int = 512,
) -> tuple[Row, ...]:
    """Plain text, every token supervised but the first of each chunk: rows of at most `max_length` tokens, none lost.

    A chunk after the first repeats one token of context, so that each token of the text is predicted exactly once.
    """
    if max_length < 2:
        raise DataError(f"max_length is {max_length}; a text row needs at least 2 tokens, one to predict from.")
    ids: list[int] = list(tokenizer(text, return_attention_mask=False)["input_ids"])
    if len(ids) < 2:
        raise DataError(f"text {id!r} of {role!r} has {len(ids)} token(s); at least 2 are needed to predict one.")
    rows = []
    for number, start in enumerate(range(0, len(ids) - 1, max_length - 1)):
        input_ids = torch.tensor(ids[start : start + max_length])
        labels = input_ids.clone()
        labels[0] = IGNORE
        name = f"{id}#{number}" if len(ids) > max_length else id
        rows.append(Row(name, role, {"input_ids": input_ids}, labels, group=name if group is None else group))
    return tuple(rows)


def as_role(rows: Iterable[Row], role: str) -> tuple[Row, ...]:
    """The same rows under another role: one data set in two parts of a benchmark."""
    return tuple(Row(row.id, role, row.inputs, row.labels, row.group) for row in rows)


def check_vocabulary(rows: Iterable[Row], vocabulary: int) -> None:
    """Refuse rows with a token or label that the model does not have.

    Raises:
        VocabularyError: names the row and the id.
    """
    for row in rows:
        for name, ids in (("input id", row.inputs.get("input_ids")), ("label", row.labels[row.labels != IGNORE])):
            if ids is not None and len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < vocabulary:
                wrong = int(ids.max()) if int(ids.max()) >= vocabulary else int(ids.min())
                raise VocabularyError(
                    f"row {row.id!r} of {row.role!r} has {name} {wrong}, outside the model's vocabulary of "
                    f"{vocabulary}. The tokenizer does not belong to this model, or ignored labels are not {IGNORE}."
                )


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> None:
    """Refuse a tokenizer that can produce ids the model does not have (a model may have spare rows).

    Raises:
        VocabularyError: names both sizes.
    """
    if len(tokenizer) > vocabulary:
        raise VocabularyError(
            f"the tokenizer has {len(tokenizer)} tokens but the model's vocabulary is {vocabulary}. "
            "Load both from the same place, or resize the model's embeddings."
        )


Decode = Callable[[Sequence[int]], str]
"""Token ids to text, special tokens left out."""
