"""Secrets from files: everything that can be said of one, and refusals by file and line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from unlearnkit.attacks.secrets import read_secrets, secret_of
from unlearnkit.datasets.records import PerturbedQA
from unlearnkit.errors import DataError


def written(path: Path, *records: Mapping[str, object]) -> Path:
    path.write_text("\n".join(json.dumps(record) for record in records))
    return path


def test_all_that_is_known_is_read(tmp_path: Path) -> None:
    full = {
        "id": "fox",
        "question": "Which pet?",
        "answer": "Ann keeps a red fox.",
        "keywords": ["red fox"],
        "wrong": ["cat"],
        "subject": "Ann",
        "aliases": ["Annie"],
        "paraphrased_question": "What animal?",
    }
    plain = {"prompt": "Which town?", "completion": "Lorvane."}
    first, second = read_secrets(written(tmp_path / "secrets.jsonl", full, plain))
    assert (first.id, first.keywords, first.wrong, first.subject) == ("fox", ("red fox",), ("cat",), "Ann")
    assert (first.aliases, first.paraphrases) == (("Annie",), ("What animal?",))
    assert (second.id, second.keyword, second.subject, second.wrong) == ("secrets/2", "Lorvane.", "secrets/2", ())
    assert len(read_secrets(tmp_path / "secrets.jsonl", limit=1)) == 1


def test_wrong_answers_of_tofu_stand_for_whole_answers(tmp_path: Path) -> None:
    record = {"question": "Who?", "answer": "It is Ann.", "perturbed_answer": ["It is Bo.", "It is Cy."]}
    (secret,) = read_secrets(written(tmp_path / "s.json", record))
    assert secret.told(secret.wrong[0]) == "It is Bo."
    qa = PerturbedQA(
        id="q",
        question="Who?",
        answer="It is Ann.",
        paraphrased_question="Who is it?",
        paraphrased_answer="Ann.",
        perturbed_answers=("It is Bo.",),
    )
    assert secret_of(qa).paraphrases == ("Who is it?",)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"question": "Who?"}, r"s\.jsonl, line 1.*lacks the field 'answer'"),
        ({"question": "Who?", "answer": "Ann.", "keywords": "Ann"}, r"line 1.*'keywords' is str"),
        (
            {"question": "Who?", "answer": "Ann.", "keywords": ["?"]},
            r"line 1: secret 's/1': keywords .* have to be words",
        ),
        (
            {"question": "Who?", "answer": "Ann.", "wrong": ["Ann."]},
            r"line 1: secret 's/1': wrong .* have to be distinct",
        ),
    ],
)
def test_a_wrong_record_is_refused_by_its_place(record: Mapping[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        read_secrets(written(tmp_path / "s.jsonl", record))


def test_two_of_one_id_and_one_key_are_refused(tmp_path: Path) -> None:
    same: dict[str, object] = {"id": "a", "question": "Who?", "answer": "Ann."}
    with pytest.raises(DataError, match=r"s\.jsonl: two secrets are both called 'a'"):
        read_secrets(written(tmp_path / "s.jsonl", same, same))
    with pytest.raises(DataError, match=r"keys are \['text'\]"):
        read_secrets(tmp_path / "s.jsonl", keys=["text"])
