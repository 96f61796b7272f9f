"""The catalog is complete and true: every row resolves, and every method's file has a row."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from attrs import evolve

import unlearnkit
from unlearnkit.catalog import CATALOG, Entry, load
from unlearnkit.verify import badge

every_entry = pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.key)


def module_of(entry: Entry) -> str:
    return entry.where.split(":")[0]


@pytest.mark.parametrize("field", ["key", "name", "where"])
def test_no_two_entries_share(field: str) -> None:
    values = [getattr(entry, field) for entry in CATALOG]
    assert len(set(values)) == len(values)


ROOT = Path(unlearnkit.__path__[0])
TESTS = Path(__file__).parent
MACHINERY = {
    *("intervals", "porter", "questions", "suite"),
    *("combined", "folders", "forced", "prompts"),
    *("attack", "audit", "secrets", "standard"),
}
"""Files beside methods that are none: what several are made of."""


@every_entry
def test_an_entry_leads_to_something_of_its_kind(entry: Entry) -> None:
    found = load(entry)
    assert callable(found)
    if entry.kind == "objective" or (entry.kind == "metric" and isinstance(found, type)):
        assert {"needs", "__call__"} <= set(dir(found))


@pytest.mark.parametrize(
    "path",
    sorted(
        path
        for folder in ("objectives", "metrics", "scorers", "procedures", "edits", "decoding", "attacks")
        for path in (ROOT / folder).glob("*.py")
        if path.stem not in MACHINERY | {"__init__", "validators"}
    ),
    ids=lambda path: f"{path.parent.name}.{path.stem}",
)
def test_every_file_of_methods_has_an_entry(path: Path) -> None:
    assert f"unlearnkit.{path.parent.name}.{path.stem}" in {module_of(entry) for entry in CATALOG}


CONTROLLED_ELSEWHERE = {
    "test_experiment": {"probability", "rouge", "truth_ratio", "model_utility", "forget_quality", "memorization"},
}
"""Metrics whose control is a trained model and its oracle, by test file."""


@pytest.mark.parametrize(
    "module",
    sorted(
        {module_of(entry) for entry in CATALOG if entry.kind in ("metric", "procedure", "meta_evaluation", "attack")}
    ),
)
def test_every_metric_has_a_negative_control(module: str) -> None:
    """A test that it fires where something is known and is silent where nothing is, by that name."""
    folder, name = module.split(".")[1:]
    if any(name in names for names in CONTROLLED_ELSEWHERE.values()):
        return
    tests = ast.parse((TESTS / folder / f"test_{name}.py").read_text())
    named = [node.name for node in tests.body if isinstance(node, ast.FunctionDef)]
    assert [one for one in named if one.startswith("test_control_")], f"{module} has no negative control"


@every_entry
def test_an_entry_says_what_it_was_checked_against(entry: Entry) -> None:
    assert entry.name
    assert entry.paper
    assert entry.verified or badge(entry)
    assert entry.arxiv is None or abs(entry.year - (2000 + int(entry.arxiv[:2]))) <= 1


def test_a_wrong_entry_is_refused_by_name() -> None:
    entry = CATALOG[0]
    with pytest.raises(ValueError, match="'key' must match"):
        evolve(entry, key="NPO!")
    with pytest.raises(ValueError, match="'where' must match"):
        evolve(entry, where="unlearnkit.objectives.npo.NPO")
    with pytest.raises(ValueError, match="'kind' must be in"):
        evolve(entry, kind="loss")  # type: ignore[arg-type]
