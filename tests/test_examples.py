"""The examples run. The slow ones run on toys here."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from unlearnkit.checkpoint import save_model
from unlearnkit.data.fictitious import build_tokenizer, build_world
from unlearnkit.models.tiny import tiny_model

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_own_method(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run("own_method.py", monkeypatch)
    assert capsys.readouterr().out.startswith("loss ")


@pytest.mark.filterwarnings("ignore")  # a toy forgets nothing it never knew, and says so
def test_the_real_models_example_on_a_toy(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = build_tokenizer(build_world())
    save_model(tmp_path / "toy", tiny_model("llama", vocabulary=len(tokenizer)), tokenizer)
    tofu = str(shared / "data" / "tofu")
    few = ("--forget", "2", "--retain", "2", "--learn-epochs", "1", "--unlearn-epochs", "1")
    out = tmp_path / "out"
    run("tofu_real_model.py", monkeypatch, "--model", str(tmp_path / "toy"), "--tofu", tofu, "--out", str(out), *few)
    printed = capsys.readouterr().out
    assert "| forget_truth_ratio | 0." in printed
    assert printed.count("   says: ") == 2
    assert (out / "model.safetensors").is_file()
