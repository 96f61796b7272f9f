"""Secrets of a file: questions with answers, and what is known about each beside.

    {"question": …, "answer": …, "keywords": ["red fox"], "wrong": ["cat"], "subject": "Ann Bo",
     "paraphrased_question": …, "aliases": […]}

Only question and answer have to be there, under any of the names that a user's own files may have them; JSON lines, a
JSON array, CSV or parquet. Without keywords an answer is its own keyword as a whole: measure such secrets by `recalls`.
Wrong answers as TOFU has them ("perturbed_answer") stand in the place of whole answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unlearnkit.attacks.attack import Secret, check_secrets
from unlearnkit.datasets.own import KEYS, id_of
from unlearnkit.datasets.reading import Entry, entries
from unlearnkit.datasets.records import PerturbedQA
from unlearnkit.errors import DataError


def read_secrets(path: Path, *, keys: Sequence[str] | None = None, limit: int | None = None) -> tuple[Secret, ...]:
    """Read a whole file.

    Args:
        path: see the top of the file.
        keys: field names of question and answer. Default: the first of `datasets.own.KEYS` that the first record has.
        limit: only the first so many.

    Raises:
        DataError: names the file and the line: a field that is missing, empty or of another type, an id that is taken.
    """
    if keys is not None and len(keys) != 2:
        raise DataError(f"keys are {list(keys)}; a secret has two: its question and its answer.")
    secrets = []
    for entry in entries(path, limit=limit):
        named = keys or next((pair for pair in KEYS if len(pair) == 2 and all(map(entry.has, pair))), KEYS[0])
        secrets.append(_secret(entry, named))
    try:
        check_secrets(secrets)
    except DataError as wrong:
        raise DataError(f"{path}: {wrong}") from wrong
    return tuple(secrets)


def secret_of(record: PerturbedQA) -> Secret:
    """A question with paraphrase and wrong answers as a secret: its answer as a whole."""
    own = (record.paraphrased_question,) if record.paraphrased_question != record.question else ()
    return Secret(
        id=record.id,
        question=record.question,
        answer=record.answer,
        wrong=record.perturbed_answers,
        paraphrases=own,
    )


def _secret(entry: Entry, keys: Sequence[str]) -> Secret:
    question, answer = (entry.text(key) for key in keys)
    wrong = next(
        (entry.texts(name) for name in ("wrong", "perturbed_answers", "perturbed_answer") if entry.has(name)), ()
    )
    keywords = entry.texts("keywords") if entry.has("keywords") else (answer,)
    known = entry.text("paraphrased_question", empty=True) if entry.has("paraphrased_question") else ""
    # Lines of two files have the same numbers, and are about somebody else.
    name = id_of(entry) if entry.has("id") else f"{entry.path.stem}/{id_of(entry)}"
    if keywords != (answer,) and wrong and not entry.has("wrong"):
        raise DataError(
            f"{entry.where}: wrong answers that are whole sentences cannot stand in the place of the keyword {keywords[0]!r}. "
            "Give other keywords as `wrong`, or leave `keywords` out."
        )
    try:
        return Secret(
            id=name,
            question=question,
            answer=answer,
            keywords=keywords,
            wrong=wrong,
            paraphrases=(known,) if known.strip() and known != question else (),
            subject=entry.text("subject") if entry.has("subject") else name,
            aliases=entry.texts("aliases") if entry.has("aliases") else (),
        )
    except DataError as wrong_secret:
        raise DataError(f"{entry.where}: {wrong_secret}") from wrong_secret
