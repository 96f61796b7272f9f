"""Rows from a JSONL file: questions with answers, or plain text."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from unlearnkit.batch import Row, Template, tokenize, tokenize_text
from unlearnkit.errors import DataError

KEYS: tuple[tuple[str, ...], ...] = (
    ("question", "answer"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("text",),
)
"""The field names that are understood without being told."""


def fields_of(path: Path) -> frozenset[str]:
    """Field names of a JSONL file's first line; none if it has no object there."""
    first = next((line for line in _content(path).split("\n") if line.strip()), "{}")
    try:
        content = json.loads(first)
    except json.JSONDecodeError:
        return frozenset()
    return frozenset(content) if isinstance(content, dict) else frozenset()


def _content(path: Path) -> str:
    """A whole file.

    Raises:
        DataError: there is none, or it is not UTF-8.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as broken:
        line = path.read_bytes()[: broken.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: not UTF-8 ({broken.reason}). Save the file as UTF-8.") from broken


def _text(where: str, key: str, value: object) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: field {key!r} is {type(value).__name__}, not a string.")
    return value


def read_jsonl(
    path: Path,
    *,
    role: str,
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    keys: Sequence[str] | None = None,
    max_length: int = 512,
    answer: Callable[[str], str] | None = None,
) -> tuple[Row, ...]:
    """Read and tokenise a whole file. The id of a row is its line number (or its "id" field, if there is one); its
    group is the line of that file, so that rows read twice from it, with other answers, belong together.

    Args:
        path: one JSON object per line; blank lines are skipped. The answer may be a list of texts (TOFU's
            "perturbed_answer"): each becomes a row, "7/0", "7/1" …, of the line's group.
        role: what the rows are for.
        tokenizer, template, max_length: see `tokenize`.
        answer: gives another answer to each prompt, by example id: a refusal, say.
        keys: field names of prompt and answer, or of the text. Default: the first of `KEYS` that the first line has.

    Raises:
        DataError: names the file and the line: no object, a field that is missing or no text, no answer token.
    """
    if keys is not None and len(keys) not in (1, 2):
        raise DataError(f"keys are {list(keys)}; name one field (text) or two (prompt and answer).")
    rows: list[Row] = []
    for number, line in enumerate(_content(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            content = json.loads(line)
        except json.JSONDecodeError as broken:
            raise DataError(f"{where}: not JSON ({broken.msg} at column {broken.colno}).") from broken
        if not isinstance(content, dict):
            raise DataError(f"{where}: a JSON {type(content).__name__}, not an object. Each line has to be an object.")
        if keys is None:
            keys = next((known for known in KEYS if all(key in content for key in known)), None)
            if keys is None:
                known = ", ".join("/".join(known) for known in KEYS)
                raise DataError(
                    f"{where}: has the fields {sorted(content)}, but none of {known}. Name them with keys=."
                )
        for key in keys:
            if key not in content:
                raise DataError(f"{where}: lacks the field {key!r}; it has {sorted(content)}.")
        texts = [_text(where, key, content[key]) for key in keys[:-1]]
        last = content[keys[-1]]
        several = len(keys) == 2 and isinstance(last, list)
        answers = [_text(where, keys[-1], one) for one in (last if several else [last])]
        if not answers:
            raise DataError(f"{where}: field {keys[-1]!r} is an empty list; a question needs an answer at least.")
        name = str(content.get("id", number))
        try:
            if not texts and answer is not None:
                raise DataError("plain text has no answer that could be replaced. Give prompts with answers.")
            if not texts:
                rows += tokenize_text(tokenizer, answers[0], id=name, role=role, max_length=max_length, group=where)
                continue
            if answer is not None:
                answers, several = [answer(name)], False
            # Line 3 of one file and line 3 of another are not the same question: the group names the file.
            rows += [
                tokenize(
                    tokenizer,
                    texts[0],
                    said,
                    id=f"{name}/{place}" if several else name,
                    role=role,
                    template=template,
                    max_length=max_length,
                    group=where,
                )
                for place, said in enumerate(answers)
            ]
        except DataError as refused:
            raise DataError(f"{where}: {refused}") from refused
    if not rows:
        raise DataError(f"{path} has no rows, so the {role} set would be empty.")
    return tuple(rows)
