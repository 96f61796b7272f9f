"""Run the comparisons with official code again, and say per method what was compared and how far it agrees.

The comparisons are tests (`test_official_…`) with recorded numbers beside them, so this needs the source checkout. What a
method is called in catalog, pages and tables ("verified", "law-checked", "reconstructed") is read from the file that
`python -m unlearnkit verify --write` writes, never typed.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, TypedDict

from attrs import frozen

from unlearnkit.catalog import CATALOG, Entry, load
from unlearnkit.errors import DataError

Badge = Literal["verified", "law-checked", "reconstructed", "checked by closed forms"]
"""Compared with numbers of the authors' code; held to the laws every objective obeys; filled in where the source is
silent; or, where it is no objective, held to what its formula implies."""

FILE = "verification.json"


class Comparison(TypedDict):
    """With one official code base: its repository and commit, how many recorded cases, and the largest difference.

    A difference is relative to max(1, |recorded number|).
    """

    repository: str
    cases: int
    difference: float


@frozen
class Verification:
    """What is known of a method.

    Attributes:
        key: of the catalog.
        badge: what it may be called.
        comparisons: by the name of the recorded file.
    """

    key: str
    badge: Badge
    comparisons: Mapping[str, Comparison]


def entries(names: Sequence[str] = ()) -> list[Entry]:
    """The rows of the catalog that do not say themselves what they were compared with, or those of these names.

    Raises:
        DataError: no method has that name.
    """
    known = {entry.key: entry for entry in CATALOG if not entry.verified}
    for name in names:
        if name not in known:
            raise DataError(f"there is no method {name!r} to verify; the methods are {', '.join(known)}.")
    return [known[name] for name in names] if names else list(known.values())


def own_tests(entry: Entry) -> str:
    """Where a method's own tests lie, below the tests' folder."""
    folder, module = entry.where.split(":")[0].split(".")[1:]
    return f"{folder}/test_{module}.py"


def checkout() -> Path:
    """The tests' folder of the source checkout.

    Raises:
        DataError: the library was installed without it, or without pytest.
    """
    tests = Path(__file__).parents[2] / "tests"
    if not (tests / "recorded").is_dir() or importlib.util.find_spec("pytest") is None:
        raise DataError(
            "the recorded numbers lie beside the tests of the source checkout, and pytest compares with them. Clone the "
            "repository, install it with its test packages (pip install -e . --group test), and verify there."
        )
    return tests


def verify(names: Sequence[str] = ()) -> tuple[list[Verification], str]:
    """Run the comparisons and laws of some methods, or of all: what came out, and what failed (pytest's words).

    Raises:
        DataError: an unknown name, or no source checkout.
    """
    chosen, tests = entries(names), checkout()
    wanted = {f"tests/{own_tests(entry)}" for entry in chosen if (tests / own_tests(entry)).is_file()}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "agreements.json"
        laws = " or ".join(f"{entry.key}-" for entry in chosen if entry.kind == "objective")
        runs = [[*sorted(wanted), "-k", "official"]] if wanted else []
        runs += [["tests/laws", *(["-k", laws] if names else [])]] if laws else []
        failures = []
        seen: list[Mapping[str, object]] = []
        for arguments in runs:
            command = [sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider"]
            done = subprocess.run(
                [*command, f"--agreements={out}", *arguments], cwd=tests.parent, capture_output=True, text=True
            )
            if done.returncode not in (0, 5):  # 5: no such test
                failures.append(done.stdout[-4000:] + done.stderr[-2000:])
            elif out.is_file():
                seen += json.loads(out.read_text())
    return [_verified(entry, seen) for entry in chosen], "\n".join(failures)


def _verified(entry: Entry, seen: Iterable[Mapping[str, object]]) -> Verification:
    comparisons: dict[str, Comparison] = {}
    cases: dict[str, set[str]] = {}
    for one in seen:
        methods = one["methods"]
        assert isinstance(methods, list)
        named = entry.where.split(":")[1] in methods
        if not named and (methods or not str(one["test"]).startswith(f"tests/{own_tests(entry)}::")):
            continue
        source = str(one["source"])
        cases.setdefault(source, set()).add(str(one["case"]))
        before = comparisons.get(source, {"difference": 0.0})["difference"]
        difference = max(before, float(str(one["difference"])))
        comparisons[source] = {
            "repository": str(one["repository"]),
            "cases": len(cases[source]),
            "difference": float(f"{difference:.1e}"),
        }
    return Verification(entry.key, _badge(entry, bool(comparisons)), comparisons)


def _badge(entry: Entry, compared: bool) -> Badge:
    if compared:
        return "verified"
    if entry.confidence == "reconstructed":
        return "reconstructed"
    return "law-checked" if entry.kind == "objective" else "checked by closed forms"


@cache
def recorded() -> Mapping[str, Verification]:
    """What `verify --write` found last, by the catalog's keys."""
    content = json.loads((files("unlearnkit") / FILE).read_text())
    return {key: Verification(key, one["badge"], one["comparisons"]) for key, one in content.items()}


def badge(entry: Entry) -> str:
    """What a method may be called, from the last verification; empty for what is not verified here."""
    known = recorded().get(entry.key)
    return known.badge if known is not None else ""


def write(found: Iterable[Verification]) -> Path:
    """Keep what was found, over what was known of these methods before; rows that left the catalog are dropped."""
    path = Path(__file__).with_name(FILE)
    keys = {entry.key for entry in entries()}
    known = {**(recorded() if path.is_file() else {}), **{one.key: one for one in found}}
    content = {
        key: {"badge": one.badge, "comparisons": dict(sorted(one.comparisons.items()))}
        for key, one in sorted(known.items())
        if key in keys
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
    recorded.cache_clear()
    return path


def deviations(entry: Entry) -> str:
    """Where authors' code, paper and this library differ: that section of the method's page."""
    module = sys.modules[getattr(load(entry), "__module__", "")]
    _, _, text = (inspect.getdoc(module) or "").partition("Deviations:")
    return text.strip().split("\n\n")[0]


def numbered(entry: Entry) -> str:
    """How many deviations a page tells of; "none" where it says so."""
    text = deviations(entry)
    if not text or re.match(r"none\b", text, re.IGNORECASE):
        return "none"
    return str(len(re.findall(r"^\s*\d+\.", text, re.MULTILINE)) or 1)


def table(found: Sequence[Verification]) -> Iterator[str]:
    """Lines to print: a method with its official sources, how many cases agree and how far, and its deviations."""
    of_key = {entry.key: entry for entry in entries()}
    yield f"{'method':<22}{'badge':<25}{'cases':>6}{'largest difference':>20}  {'deviations':<12}compared with"
    for one in found:
        cases = sum(comparison["cases"] for comparison in one.comparisons.values())
        largest = max((comparison["difference"] for comparison in one.comparisons.values()), default=None)
        shown = "" if largest is None else f"{largest:.1e}"
        sources = ", ".join(comparison["repository"] for comparison in one.comparisons.values())
        yield f"{one.key:<22}{one.badge:<25}{cases or '':>6}{shown:>20}  {numbered(of_key[one.key]):<12}{sources}".rstrip()
