"""Pages are made of docstrings: all of them build, they are valid Markdown, and the committed table is not stale."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import attrs
import pytest

from unlearnkit.benchmarks.named import SHELF
from unlearnkit.catalog import CATALOG, Entry, load
from unlearnkit.verify import Comparison, Verification

ROOT = Path(__file__).parents[1]


def loaded(path: Path, name: str) -> ModuleType:
    """A script as a module of this name."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


docs = loaded(ROOT / "docs" / "build.py", "docs_build")

METHODS = [entry for entry in CATALOG if docs.folder_of(entry) in docs.METHODS]
BY_MODULE = {entry.where.split(":")[0]: entry for entry in METHODS}

every_entry = pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.key)
every_file = pytest.mark.parametrize("entry", BY_MODULE.values(), ids=lambda entry: entry.where.split(":")[0])


@cache
def page(entry: Entry) -> str:
    return str(docs.document(docs.page(entry)))


def without_code(markdown: str) -> str:
    """All but fenced blocks, which are shown as they are."""
    return re.sub(r"^```.*?^```$", "", markdown, flags=re.MULTILINE | re.DOTALL)


def assert_valid(markdown: str) -> None:
    """Blocks and code are closed, and the rows of a table have the columns of its head."""
    assert len(re.findall(r"^```", markdown, re.MULTILINE)) % 2 == 0
    head: str | None = None
    for line in without_code(markdown).splitlines():
        assert line.count("`") % 2 == 0, line
        if not line.startswith("|"):
            head = None
            continue
        head = head or line
        assert line.endswith("|"), line
        assert len(re.findall(r"(?<!\\)\|", line)) == len(re.findall(r"(?<!\\)\|", head)), line


@every_entry
def test_a_page_tells_what_it_is_and_how_it_was_checked(entry: Entry) -> None:
    found = page(entry)
    lines = found.splitlines()
    assert lines[0] == f"# {entry.name}"
    assert lines[2].startswith(entry.kind)
    assert lines[4] == f"Checked: **{docs.status(entry)}**"
    assert "\nNone\n" not in found  # a function or class without a docstring
    assert_valid(found)


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{3,}", text.lower()))


@every_entry
def test_nothing_of_a_docstring_is_lost(entry: Entry) -> None:
    """Every word of module and class, headings apart, is on the page."""
    told = words(f"{inspect.getdoc(docs.module_of(entry))} {inspect.getdoc(load(entry))}")
    assert not told - {"papers", "attributes"} - words(page(entry))


@every_file
def test_every_method_says_what_deviates(entry: Entry) -> None:
    sections = docs.parsed(docs.module_of(entry)).sections
    assert sections.get("Deviations"), f"{entry.where} has no section of deviations; if there are none, it says so"


@every_file
def test_reconstructed_methods_say_what_is_reconstructed(entry: Entry) -> None:
    of_file = [one for one in METHODS if one.where.split(":")[0] == entry.where.split(":")[0]]
    if any(one.confidence == "reconstructed" for one in of_file):
        text = (inspect.getdoc(docs.module_of(entry)) or "").lower()
        assert "reconstructed:" in text or "our reading" in text, entry.where


def names_of(module: ModuleType) -> set[str]:
    """The fields of the module's classes, and the parameters of what it has public."""
    own = [thing for thing in vars(module).values() if getattr(thing, "__module__", None) == module.__name__]
    fields = {field.name for thing in own if attrs.has(thing) for field in attrs.fields(thing)}
    return fields | {name for thing in own if callable(thing) for name in inspect.signature(thing).parameters}


@every_file
def test_aliases_are_of_real_fields(entry: Entry) -> None:
    module = docs.module_of(entry)
    aliases = docs.aliases(module)
    assert set(aliases) <= names_of(module)
    assert bool(aliases) == ("Aliases:" in (inspect.getdoc(module) or ""))
    for name, elsewhere in aliases.items():
        assert f"| `{name}` | {docs.cell(docs.inline(elsewhere))} |" in page(entry)


def test_an_alias_without_its_source_is_refused() -> None:
    module = ModuleType("method")
    module.__doc__ = "M.\n\nAliases:\n    beta: tau (paper)\n    margin: gamma"
    with pytest.raises(ValueError, match="method has the alias 'margin: gamma'"):
        docs.aliases(module)


def test_the_table_of_deviations_is_current() -> None:
    wanted = docs.document(docs.deviations())
    committed = (ROOT / "docs" / "deviations.md").read_text()
    assert committed == wanted, "stale: run `python docs/build.py --deviations docs/deviations.md`"


def test_the_table_of_deviations_has_every_method() -> None:
    table = docs.document(docs.deviations())
    assert_valid(table)
    for entry in METHODS:
        assert docs.inline(entry.name) in table, entry.key
    points = sum(
        len(docs.items(docs.parsed(docs.module_of(entry)).sections["Deviations"])) for entry in BY_MODULE.values()
    )
    rows = len(re.findall(r"^\| ", table, re.MULTILINE)) - 2
    without = {entry.where.split(":")[0] for entry in METHODS if docs.inline(entry.name) in table.splitlines()[-1]}
    assert rows == points - len(without)


def test_points_of_a_list_become_lines() -> None:
    assert docs.items("\n1. one\nand more\n2. two `a |\nb`") == ["one and more", "two `a | b`"]
    assert docs.items("    1. one\n       and more\n    2. two") == ["one and more", "two"]
    assert docs.items("prose, with 2. in it\nand more") == ["prose, with 2. in it and more"]


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("B*T of B*(T-1)", r"B\*T of B\*(T-1)"),
        ("the *retain* term", "the *retain* term"),
        ("`a * b < c_` and < d_ >", r"`a * b < c_` and &lt; d\_ >"),
        ("W_b = S_b", "W_b = S_b"),
        ("wrapped\nlines", "wrapped lines"),
    ],
)
def test_formulas_between_words_are_not_read_as_markdown(text: str, markdown: str) -> None:
    assert docs.inline(text) == markdown


def test_a_bar_does_not_end_a_cell() -> None:
    assert docs.table(("a", "b"), [("|h|", "`x | y`")]) == "| a | b |\n| --- | --- |\n| \\|h\\| | `x \\| y` |"


@pytest.mark.parametrize("known", [False, True])
def test_what_verification_found_is_on_the_page(monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    """Comparisons with one repository are one row; without any the row of the catalog speaks."""
    (entry,) = (entry for entry in CATALOG if entry.key == "npo")
    comparisons: dict[str, Comparison] = {
        "npo": {"repository": "one/code@1234567", "cases": 3, "difference": 2e-16},
        "npo_more": {"repository": "one/code@1234567", "cases": 2, "difference": 1e-12},
    }
    found = {"npo": Verification("npo", "verified", comparisons)} if known else {}
    monkeypatch.setattr(docs, "recorded", lambda: found)
    monkeypatch.setattr(docs, "badge", lambda entry: found[entry.key].badge if entry.key in found else "")
    lines = docs.document(docs.page(attrs.evolve(entry, verified="a table of numbers"))).splitlines()
    row = "| [one/code@1234567](https://github.com/one/code/tree/1234567) | 5 | 1.0e-12 |"
    assert lines[4] == f"Checked: **{'verified' if known else 'a table of numbers'}**"
    assert (row in lines) == known


def test_settings_of_official_code_are_beside_the_defaults() -> None:
    (entry,) = (entry for entry in CATALOG if entry.key == "npo")
    assert "| `beta` | `float` | `0.1` |  |  | `0.5` | inverse temperature, > 0. |" in page(entry)
    assert '`released("muse")` is another objective: `RawLogitNPO(' in page(entry)


def test_python_that_uses_the_library_is_told_from_equations() -> None:
    load(CATALOG[0])
    assert docs.paragraph('    NPO() + CrossEntropy("retain")').startswith("```python\n")
    assert docs.paragraph("    L = -NLL(forget) + retain_weight * NLL(retain)").startswith("```text\n")
    assert docs.paragraph("    theta <- theta - lr * sign(m)").startswith("```text\n")


def test_the_index_has_every_entry_under_its_kind() -> None:
    index = docs.document(docs.index())
    assert_valid(index)
    of_kind = dict(re.findall(r"^## (.+)\n\n((?:\|.*\n)+)", index, re.MULTILINE))
    for entry in CATALOG:
        assert f"({entry.key}.md)" in of_kind[docs.HEADINGS[entry.kind]]


def test_every_attack_and_guard_is_on_its_page() -> None:
    page = (ROOT / "docs" / "attacks.md").read_text()
    for entry in CATALOG:
        if entry.kind in ("attack", "decoding") and not entry.where.startswith("unlearnkit.decoding.logit_arithmetic"):
            assert f"`{entry.where.partition(':')[2]}`" in page, entry.key


def test_every_benchmark_is_on_its_page() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    for one in SHELF:
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{one.name}` | {one.paper} |")]
        assert all(f"`{source.hub}`" in row for source in one.sources if source.hub)
        assert one.sources[0].licence in row
        assert one.invented is None or f"\n| `{one.name}` | {len(one.invented(0).taught)} |" in page
