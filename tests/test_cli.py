"""The command line, end to end on a toy model: what it writes, and what it says when refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from unlearnkit.__main__ import main
from unlearnkit.catalog import CATALOG
from unlearnkit.checkpoint import RECORD, save_model
from unlearnkit.data.fictitious import build_tokenizer, build_world
from unlearnkit.models.tiny import tiny_model
from unlearnkit.recipes import RECIPES

pytestmark = pytest.mark.filterwarnings("ignore::unlearnkit.errors.UnlearningWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy model and two JSONL files."""
    folder = tmp_path_factory.mktemp("cli")
    world = build_world()
    tokenizer = build_tokenizer(world)
    save_model(folder / "model", tiny_model("llama", vocabulary=len(tokenizer), layers=3), tokenizer)
    for role, questions in (("forget", world.forget(1)), ("retain", world.retain(1)[:8])):
        lines = (json.dumps({"question": q.question, "answer": q.answer}) for q in questions)
        (folder / f"{role}.jsonl").write_text("\n".join(lines))
    return folder


def arguments(folder: Path, command: str, *more: str) -> list[str]:
    files = ["--forget", str(folder / "forget.jsonl"), "--retain", str(folder / "retain.jsonl")]
    return [command, "--model", str(folder / "model"), "--device", "cpu", *files, *more]


@pytest.mark.parametrize("method", list(RECIPES))
def test_every_method_runs_and_leaves_a_model_and_its_record(folder: Path, method: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rate = ["--learning-rate", "1e-2", "--steps", "2", "--seed", "7"]
    assert main(arguments(folder, "unlearn", "--method", method, "--out", str(out), *rate)) == 0
    record = json.loads((out / RECORD).read_text())
    assert record["settings"]["seed"] == 7
    assert record["settings"]["effective_batch"] == 8
    assert set(record["hashes"]["data"]) >= {"forget", "retain"}
    assert record["hashes"]["weights_before"] != record["hashes"]["weights_after"]
    assert record["packages"]["torch"] == torch.__version__
    before, after = (AutoModelForCausalLM.from_pretrained(path) for path in (folder / "model", out))
    changed = {
        name
        for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True)
        if not torch.equal(old, new)
    }
    assert changed
    if method == "rmu":
        assert all("down_proj" in name for name in changed)


def test_evaluate_prints_a_table_and_writes_a_report(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(folder, "evaluate", "--generate", "4", "--out", str(tmp_path / "report.json"))) == 0
    printed = capsys.readouterr().out
    for name in ("forget_probability", "retain_rouge", "forget_extraction_strength"):
        assert f"| {name} | 0" in printed
    assert set(json.loads((tmp_path / "report.json").read_text())) >= {"forget_probability", "retain_rouge"}


def test_refusals_are_one_line_and_nothing_is_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    assert main(arguments(folder, "unlearn", "--method", "ga", "--out", str(tmp_path / "out"))) == 2
    assert "is not empty" in capsys.readouterr().err
    command = ["unlearn", "--model", str(folder / "model"), "--forget", str(folder / "forget.jsonl")]
    assert main([*command, "--method", "npo_nll", "--out", str(tmp_path / "new")]) == 2
    assert "reads the role 'retain', but the data has no such set" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("option", [["--steps", "0"], ["--batch-size", "-1"], ["--max-tokens", "0"]])
def test_numbers_that_make_no_sense_are_refused(
    folder: Path, tmp_path: Path, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments(folder, "unlearn", "--method", "ga", "--out", str(tmp_path / "new"), *option))
    assert "is not above 0" in capsys.readouterr().err


def test_nothing_to_evaluate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--model", str(folder / "model"), "--device", "cpu"]) == 2
    assert "Pass --forget, --retain or both" in capsys.readouterr().err


def test_plain_text_has_no_rouge(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.jsonl").write_text(json.dumps({"text": build_world().full[0].answer}))
    command = [
        "evaluate",
        "--model",
        str(folder / "model"),
        "--device",
        "cpu",
        "--forget",
        str(tmp_path / "text.jsonl"),
    ]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "| forget_probability |" in printed
    assert "rouge" not in printed


def test_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    for entry in CATALOG:
        assert entry.where in printed
