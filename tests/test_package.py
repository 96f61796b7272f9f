"""The package as users meet it: its names, its weight, its README, its pages."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import unlearnkit
from unlearnkit.catalog import CATALOG
from unlearnkit.checkpoint import save_model
from unlearnkit.models.tiny import tiny_model
from unlearnkit.worlds.fictitious import build_tokenizer, build_world

ROOT = Path(__file__).parents[1]


def test_exported_names_are_there_and_sorted() -> None:
    assert all(hasattr(unlearnkit, name) for name in unlearnkit.__all__)
    assert len(set(unlearnkit.__all__)) == len(unlearnkit.__all__)


def test_nothing_optional_is_imported() -> None:
    """Plotting, test oracles, GGUF and PEFT cost nothing to those who do not use them.

    (transformers imports accelerate by itself wherever it is installed, and its schedules import peft.)
    """
    heavy = ["matplotlib", "pytest", "hypothesis", "sklearn", "rouge_score", "nltk", "gguf", "pyarrow"]
    code = (
        f"import sys, unlearnkit; print([name for name in {[*heavy, 'peft']} if name in sys.modules])\n"
        f"import unlearnkit.__main__; print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]"]


@pytest.mark.filterwarnings("ignore::unlearnkit.errors.UnlearningWarning")
def test_the_readmes_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    world = build_world()
    tokenizer = build_tokenizer(world)
    save_model(tmp_path / "path" / "to" / "model", tiny_model("llama", vocabulary=len(tokenizer)), tokenizer)
    for role, questions in (("forget", world.forget(1)), ("retain", world.retain(1)[:8])):
        lines = (json.dumps({"question": q.question, "answer": q.answer}) for q in questions)
        (tmp_path / f"{role}.jsonl").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "readme.py").write_text(code)
    runpy.run_path("readme.py")
    assert "| forget | 0." in capsys.readouterr().out
    assert (tmp_path / "unlearned" / "model.safetensors").is_file()


def test_every_method_has_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["build.py", "--out", str(tmp_path)])
    runpy.run_path(str(ROOT / "docs" / "build.py"), run_name="__main__")
    for entry in CATALOG:
        page = (tmp_path / f"{entry.key}.md").read_text()
        assert page.startswith(f"# {entry.name}\n")
        assert "Checked" in page
        assert "None\n```" not in page  # a function or class without a docstring
    assert "## " in (tmp_path / "deviations.md").read_text()
