"""The catalog is complete and true: every row resolves, and every method's file has a row."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from attrs import evolve

import unlearnkit
from unlearnkit.catalog import CATALOG, Entry, load

every_entry = pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.key)


def module_of(entry: Entry) -> str:
    return entry.where.split(":")[0]


@pytest.mark.parametrize("field", ["key", "name", "where"])
def test_no_two_entries_share(field: str) -> None:
    values = [getattr(entry, field) for entry in CATALOG]
    assert len(set(values)) == len(values)


@every_entry
def test_an_entry_leads_to_a_class_of_its_kind(entry: Entry) -> None:
    found = load(entry)
    assert isinstance(found, type)
    if entry.kind != "decoding":
        assert {"needs", "__call__"} <= set(dir(found))


@pytest.mark.parametrize(
    "path", sorted((Path(unlearnkit.__path__[0]) / "objectives").glob("*.py")), ids=lambda p: p.stem
)
def test_every_objective_has_an_entry(path: Path) -> None:
    if any(isinstance(node, ast.ClassDef) for node in ast.parse(path.read_text()).body):
        assert f"unlearnkit.objectives.{path.stem}" in {module_of(entry) for entry in CATALOG}


@every_entry
def test_an_entry_says_what_it_was_checked_against(entry: Entry) -> None:
    assert entry.name
    assert entry.paper
    assert entry.verified
    assert entry.arxiv is None or abs(entry.year - (2000 + int(entry.arxiv[:2]))) <= 1


def test_a_wrong_entry_is_refused_by_name() -> None:
    entry = CATALOG[0]
    with pytest.raises(ValueError, match="'key' must match"):
        evolve(entry, key="NPO!")
    with pytest.raises(ValueError, match="'where' must match"):
        evolve(entry, where="unlearnkit.objectives.npo.NPO")
    with pytest.raises(ValueError, match="'kind' must be in"):
        evolve(entry, kind="loss")  # type: ignore[arg-type]
