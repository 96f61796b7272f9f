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
        path: one JSON object per line; blank lines are skipped.
        role: what the rows are for.
        tokenizer, template, max_length: see `tokenize`.
        answer: gives another answer to each prompt, by example id: a refusal, say.
        keys: field names of prompt and answer, or of the text. Default: the first of `KEYS` that the first line has.

    Raises:
        DataError: names the file and the line: no object, a field that is missing or no text, no answer token.
    """
    if keys is not None and len(keys) not in (1, 2):
        raise DataError(f"keys are {list(keys)}; name one field (text) or two (prompt and answer).")
    if not path.is_file():
        raise DataError(f"there is no file {path}.")
    rows: list[Row] = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
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
        texts = []
        for key in keys:
            if key not in content:
                raise DataError(f"{where}: lacks the field {key!r}; it has {sorted(content)}.")
            if not isinstance(content[key], str):
                raise DataError(f"{where}: field {key!r} is {type(content[key]).__name__}, not a string.")
            texts.append(content[key])
        name = str(content.get("id", number))
        try:
            if len(texts) == 1 and answer is not None:
                raise DataError("plain text has no answer that could be replaced. Give prompts with answers.")
            if len(texts) == 1:
                rows += tokenize_text(tokenizer, texts[0], id=name, role=role, max_length=max_length, group=where)
            else:
                prompt, given = texts
                said = given if answer is None else answer(name)
                # Line 3 of one file and line 3 of another are not the same question: the group names the file.
                rows.append(
                    tokenize(
                        tokenizer,
                        prompt,
                        said,
                        id=name,
                        role=role,
                        template=template,
                        max_length=max_length,
                        group=where,
                    )
                )
        except DataError as refused:
            raise DataError(f"{where}: {refused}") from refused
    if not rows:
        raise DataError(f"{path} has no rows, so the {role} set would be empty.")
    return tuple(rows)
