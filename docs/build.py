"""Write a Markdown page for each method and metric from its module's docstring, and an index, into build/docs."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType

import attrs

from unlearnkit.catalog import CATALOG, Entry, load


def main() -> None:
    """Build all pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/docs"))
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for entry in CATALOG:
        (folder / f"{entry.key}.md").write_text("\n".join(page(entry)) + "\n")
    (folder / "index.md").write_text("\n".join(index()) + "\n")
    (folder / "deviations.md").write_text("\n".join(deviations()) + "\n")
    print(f"wrote {len(CATALOG)} pages, index.md and deviations.md to {folder}")


def page(entry: Entry) -> Iterator[str]:
    """Idea, equation, source, deviations (the docstring); then the class with its defaults, and the functions."""
    thing = load(entry)
    module = sys.modules[getattr(thing, "__module__", "")]
    yield f"# {entry.name}\n"
    yield f"`{entry.where}` · {entry.kind} · {cite(entry)} · written from: {entry.confidence}\n"
    yield f"Checked against: {entry.verified}.\n"
    yield f"```text\n{inspect.getdoc(module)}\n```\n"
    if inspect.isclass(thing):
        yield f"## {thing.__name__}\n\n```text\n{inspect.getdoc(thing)}\n```\n"
        if attrs.has(thing):
            yield from defaults(thing)
    for function in functions(module):
        yield f"## {function.__name__}\n\n```python\n{function.__name__}{inspect.signature(function)}\n```\n"
        yield f"```text\n{inspect.getdoc(function)}\n```\n"


def defaults(kind: type[attrs.AttrsInstance]) -> Iterator[str]:
    """A table of the fields."""
    yield "| field | type | default |\n|---|---|---|"
    for field in attrs.fields(kind):
        default = "required" if field.default is attrs.NOTHING else str(field.default)
        if isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]  # a class at run time
            default = "derived"
        yield f"| `{field.name}` | `{str(field.type).replace('|', '&#124;')}` | `{default}` |"
    yield ""


def functions(module: ModuleType) -> Iterator[FunctionType]:
    """The module's own public functions, in the order they are written."""
    for name, thing in vars(module).items():
        if isinstance(thing, FunctionType) and thing.__module__ == module.__name__ and not name.startswith("_"):
            yield thing


def index() -> Iterator[str]:
    """All pages in a table."""
    yield "# Methods and metrics\n\n| | kind | paper | written from |\n|---|---|---|---|"
    for entry in CATALOG:
        yield f"| [{entry.name}]({entry.key}.md) | {entry.kind} | {cite(entry)} | {entry.confidence} |"


def deviations() -> Iterator[str]:
    """Where authors' code, papers and this library differ, method by method."""
    yield "# Deviations\n\nWhere authors' code and papers differ, and what is done here: the end of each page's docstring.\n"
    told = set()
    for entry in CATALOG:
        module = sys.modules[getattr(load(entry), "__module__", "")]
        _, found, text = (inspect.getdoc(module) or "").partition("Deviations:")
        if found and module.__name__ not in told:
            told.add(module.__name__)
            yield f"## {entry.name}\n\n```text\n{text.strip()}\n```\n"


def cite(entry: Entry) -> str:
    """Paper with its link, where there is one."""
    return entry.paper if entry.arxiv is None else f"{entry.paper}, arXiv:{entry.arxiv}"


if __name__ == "__main__":
    main()
