"""Write a Markdown page for each entry of the catalog from its docstrings, and an index, into build/docs.

`--deviations FILE` writes one table instead: every place where paper, released code and this library differ.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import get_args

import attrs
from attrs import frozen

import unlearnkit
from unlearnkit.catalog import CATALOG, Entry, Kind, load
from unlearnkit.verify import badge, recorded

METHODS = ("objectives", "adversaries", "optim", "data", "procedures")
"""The folders of what unlearns, and of what is done around it."""

WRITTEN_FROM = {
    "code": "written from the authors' code",
    "reimpl": "written from somebody else's code",
    "paper": "written from the paper",
    "reconstructed": "reconstructed where the sources are silent",
}

HEADINGS: dict[Kind, str] = {
    "objective": "Objectives",
    "adversary": "Adversaries",
    "optimizer": "Optimizers",
    "data": "Data",
    "procedure": "Procedures",
    "metric": "Metrics",
    "meta_evaluation": "Evaluation of metrics",
    "scorer": "Scorers of benchmark items",
    "edit": "Edits of weights",
    "decoding": "Decoding",
    "attack": "Attacks",
}

SECTION = re.compile(r"(Aliases|Papers?|Checked|To copy|Reconstructed|Deviations)\b([^:.\n]{0,40})[:.](?=\s|$)\s*")
"""What begins a section of a module's docstring, at the start of a paragraph."""


def main() -> None:
    """Build all pages, or the table of deviations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/docs"), metavar="FOLDER")
    parser.add_argument("--deviations", type=Path, metavar="FILE", help="write only this table")
    arguments = parser.parse_args()
    if arguments.deviations is not None:
        arguments.deviations.write_text(document(deviations()))
        return
    folder = arguments.out
    folder.mkdir(parents=True, exist_ok=True)
    for entry in CATALOG:
        (folder / f"{entry.key}.md").write_text(document(page(entry)))
    (folder / "index.md").write_text(document(index()))
    (folder / "deviations.md").write_text(document(all_deviations()))
    print(f"wrote {len(CATALOG)} pages, index.md and deviations.md to {folder}")


def document(blocks: Iterable[str]) -> str:
    """Blocks with an empty line between them."""
    return "\n\n".join(blocks) + "\n"


# --- a docstring ------------------------------------------------------------------------------------------------------


@frozen
class Docstring:
    """A module's docstring, taken apart.

    Attributes:
        body: idea, equation, gradient, usage: the paragraphs that belong to no section.
        sections: text by heading: Aliases, Paper, Checked, To copy, Reconstructed, Deviations.
    """

    body: tuple[str, ...]
    sections: dict[str, str]


def parsed(module: ModuleType) -> Docstring:
    """A section is one paragraph that begins with its heading."""
    body: list[str] = []
    sections: dict[str, str] = {}
    for paragraph in re.split(r"\n\s*\n", inspect.getdoc(module) or ""):
        found = SECTION.match(paragraph)
        if found is None:
            body.append(paragraph)
            continue
        heading = found[1].removesuffix("s") if found[1] == "Papers" else found[1]
        if heading in sections:
            raise ValueError(f"{module.__name__} has two sections {heading!r}: a page has one.")
        sections[heading] = f"({found[2].strip(' ,')}) " * bool(found[2].strip()) + paragraph[found.end() :]
    return Docstring(tuple(body), sections)


def aliases(module: ModuleType) -> dict[str, str]:
    """Names used here, each with what it is called elsewhere.

    Raises:
        ValueError: a line is not of the form "name: alpha (source), gamma (other source)".
    """
    found: dict[str, str] = {}
    for line in textwrap.dedent(parsed(module).sections.get("Aliases", "")).splitlines():
        match = re.fullmatch(r"(\w+): (\S.*\(.+\))", line.strip())
        if match is None:
            raise ValueError(f"{module.__name__} has the alias {line.strip()!r}; wanted: name: other (source), ...")
        found[match[1]] = match[2]
    return found


def items(text: str) -> list[str]:
    """The numbered points of a section, lines joined; of prose without numbers, all of it as one point."""
    lead, *points = re.split(r"^\s*\d+\. ", text, flags=re.MULTILINE)
    return [joined(point) for point in ([lead] if lead.strip() else []) + points]


def module_of(entry: Entry) -> ModuleType:
    """Where an entry is written, imported."""
    load(entry)
    return sys.modules[entry.where.split(":")[0]]


def folder_of(entry: Entry) -> str:
    """Such as "objectives"."""
    return entry.where.split(".")[1]


# --- Markdown ---------------------------------------------------------------------------------------------------------


def joined(text: str) -> str:
    """One line of it."""
    return " ".join(text.split())


def inline(text: str) -> str:
    """Prose in one line, with formulas between its words kept from being read as Markdown."""
    parts = re.split(r"(`[^`]*`)", joined(text))
    return "".join(part if number % 2 else escaped(part) for number, part in enumerate(parts))


def sentence(text: str) -> str:
    """Prose that begins with a capital."""
    return inline(text[:1].upper() + text[1:])


def numbered(points: Iterable[str]) -> str:
    """A list of Markdown, which has been escaped."""
    return "\n".join(f"{number}. {point}" for number, point in enumerate(points, 1))


def escaped(text: str) -> str:
    """Stars that are no emphasis, underscores at the edge of a word, and "<"."""
    text = re.sub(r"(?<![\w*])\*(\w[\w ]*\w)\*(?![\w*])", "\0\\1\0", text)
    text = text.replace("*", r"\*").replace("\0", "*").replace("<", "&lt;")
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\_", text)


def linked(text: str) -> str:
    """Prose, with arXiv numbers and repositories at a commit as links."""
    text = re.sub(r"arXiv:(\d{4}\.\d{5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", inline(text))
    return re.sub(r"([\w.-]+/[\w.-]+)@([0-9a-f]{7,40})\b", r"[\1@\2](https://github.com/\1/tree/\2)", text)


def cell(text: str) -> str:
    """What a table's cell takes: a bar ends it, in code as well."""
    return text.replace("|", r"\|")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Rows of Markdown, which has been escaped, as a table."""
    names = list(head)
    lines = [names, ["---"] * len(names), *([cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def paragraph(text: str) -> str:
    """Prose; indented: an equation, kept as it is, or Python that uses the library; with numbers: a list."""
    lines = text.splitlines()
    if all(line.startswith("    ") for line in lines):
        code = textwrap.dedent(text)
        return f"```{'python' if is_usage(code) else 'text'}\n{code}\n```"
    if re.match(r"\d+\. ", text):
        return numbered(inline(point) for point in items(text))
    if any(line.startswith("    ") for line in lines):
        return f"```text\n{text}\n```"
    return inline(text)


def is_usage(code: str) -> bool:
    """Whether this is Python that calls something of the library's."""
    try:
        tree = ast.parse(code.replace(", ...", ""))  # no Python after a keyword
    except SyntaxError:
        return False
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    ours = (module for name, module in list(sys.modules.items()) if name.split(".")[0] == unlearnkit.__name__)
    return any(name in vars(module) for module in ours for name in called)


# --- pages ------------------------------------------------------------------------------------------------------------


def page(entry: Entry) -> Iterator[str]:
    """What it is and how it was checked; the docstring; the class with its defaults, and the functions."""
    module = module_of(entry)
    docstring = parsed(module)
    yield f"# {entry.name}"
    yield f"{entry.kind} · {cite(entry)} · {WRITTEN_FROM[entry.confidence]}"
    yield f"Checked: **{status(entry)}**"
    if comparisons(entry):
        yield table(("official code", "cases", "largest relative difference"), comparisons(entry))
    yield f"File: `src/{module.__name__.replace('.', '/')}.py`. {others(entry)}".strip()
    for text in docstring.body:
        yield paragraph(text)
    yield from sections(module)
    yield from things(entry, module)


def sections(module: ModuleType) -> Iterator[str]:
    """The sections of the docstring."""
    found = parsed(module).sections
    if "Aliases" in found:
        yield "## Aliases"
        yield table(("here", "elsewhere"), ((f"`{name}`", inline(text)) for name, text in aliases(module).items()))
    sources = [heading for heading in ("Paper", "Checked", "To copy") if heading in found]
    if sources:
        yield "## Sources"
        for heading in sources:
            yield f"**{heading}:** {linked(found[heading])}"
    if "Reconstructed" in found:
        yield "## Reconstructed"
        yield sentence(found["Reconstructed"])
    if "Deviations" in found:
        yield "## Deviations"
        points = [sentence(point) for point in items(found["Deviations"])]
        yield points[0] if len(points) == 1 else numbered(points)


def things(entry: Entry, module: ModuleType) -> Iterator[str]:
    """The class or function that the entry names, and the module's public functions."""
    thing = load(entry)
    if inspect.isclass(thing):
        prose, meanings = attributes(inspect.getdoc(thing) or "")
        yield f"## {thing.__name__}"
        yield f"```python\nfrom {module.__name__} import {thing.__name__}\n```"
        for text in re.split(r"\n\s*\n", prose):
            yield paragraph(text)
        if attrs.has(thing):
            yield from defaults(thing, meanings)
        else:
            begin = vars(thing)["__init__"]
            yield signature(begin)
            yield paragraph(inspect.getdoc(begin) or "")
    for function in sorted(functions(module), key=lambda function: function is not thing):
        yield f"## {function.__name__}"
        yield signature(function)
        yield f"```text\n{inspect.getdoc(function)}\n```"


def signature(function: FunctionType) -> str:
    """How it is called, as it is written."""
    source = textwrap.dedent(inspect.getsource(function))
    definition = ast.parse(source).body[0]
    assert isinstance(definition, ast.FunctionDef)
    lines = source.splitlines()[definition.lineno - 1 : definition.body[0].lineno - 1]
    return "```python\n" + "\n".join(lines) + " ...\n```"


def attributes(text: str) -> tuple[str, dict[str, str]]:
    """A class's docstring without its section of attributes, and what that says of each."""
    before, _, rest = text.partition("\nAttributes:\n")
    section, _, after = rest.partition("\n\n")
    meanings: dict[str, str] = {}
    for item in re.split(r"\n(?=    \w)", section):
        names, _, meaning = item.strip().partition(":")
        meanings |= dict.fromkeys(names.split(", "), joined(meaning))
    return "\n\n".join(part.strip("\n") for part in (before, after) if part.strip()), meanings


def defaults(kind: type[attrs.AttrsInstance], meanings: dict[str, str]) -> Iterator[str]:
    """A table of the fields, with the settings of official code where they differ from ours."""
    settings, elsewhere = released(kind)
    yield "### Defaults"
    rows = []
    for field in attrs.fields(kind):
        ours = "derived" if isinstance(field.default, attrs.Factory) else repr(field.default)  # type: ignore[arg-type]
        row = [f"`{field.name}`", f"`{options(kind, str(field.type))}`"]
        row.append("required" if field.default is attrs.NOTHING else f"`{ours}`")
        for setting in settings.values():
            value = getattr(setting, field.name)
            row.append("" if value == field.default else f"`{value!r}`")
        rows.append([*row, inline(meanings.get(field.name, ""))])
    yield table(("field", "type", "default", *(f"`{code}`" for code in settings), ""), rows)
    if settings:
        yield f"`{kind.__name__}.released(...)` has the settings of official code by its name; an empty cell is the default."
    for code, thing in elsewhere.items():
        yield f'`released("{code}")` is another objective: `{thing!r}`.'


def released(kind: type) -> tuple[dict[str, object], dict[str, object]]:
    """The settings of official code by its name: those of this class, and those that lead to another one."""
    if "released" not in vars(kind):
        return {}, {}
    function = getattr(kind, "released")  # noqa: B009  # not every class has it
    code, *more = inspect.signature(function).parameters.values()
    if any(parameter.default is parameter.empty for parameter in more):  # of the model or the run: not known here
        return {}, {}
    found = {name: function(name) for name in re.findall(r"'([^']+)'", code.annotation)}
    same = {name: thing for name, thing in found.items() if type(thing) is kind}
    return same, {name: thing for name, thing in found.items() if name not in same}


def options(kind: type, annotation: str) -> str:
    """A type as written, or the options that its name stands for."""
    named = vars(sys.modules[kind.__module__]).get(annotation)
    return " | ".join(map(repr, get_args(named))) if get_args(named) else annotation


def functions(module: ModuleType) -> Iterator[FunctionType]:
    """The module's own public functions, in the order they are written."""
    for name, thing in vars(module).items():
        if isinstance(thing, FunctionType) and thing.__module__ == module.__name__ and not name.startswith("_"):
            yield thing


def status(entry: Entry) -> str:
    """What the entry may be called; without verification what its row says."""
    return badge(entry) or entry.verified or "not verified yet"


def comparisons(entry: Entry) -> list[tuple[str, str, str]]:
    """With each official repository: the cases, and the largest difference in any of them."""
    known = recorded().get(entry.key)
    cases: dict[str, int] = {}
    largest: dict[str, float] = {}
    for one in known.comparisons.values() if known is not None else ():
        name = one["repository"]
        cases[name] = cases.get(name, 0) + one["cases"]
        largest[name] = max(largest.get(name, 0.0), one["difference"])
    return [(linked(name), str(cases[name]), f"{largest[name]:.1e}") for name in cases]


def cite(entry: Entry) -> str:
    """Paper with its link, where there is one."""
    return linked(entry.paper if entry.arxiv is None else f"{entry.paper}, arXiv:{entry.arxiv}")


def others(entry: Entry) -> str:
    """Links to the entries that the same file holds."""
    found = [f"[{one.name}]({one.key}.md)" for one in CATALOG if module_of(one) is module_of(entry) and one != entry]
    return f"The same file holds {', '.join(found)}." if found else ""


def index() -> Iterator[str]:
    """All pages, by kind."""
    yield "# Methods and metrics"
    yield (
        "How each was checked: **verified** against recorded numbers of official code; **law-checked**, held to the laws "
        "that every objective obeys; **checked by closed forms**; **reconstructed** where the sources are silent; or what "
        "its numbers were compared with. Differences are relative to max(1, |recorded number|)."
    )
    for kind in get_args(Kind):
        rows = [
            (f"[{inline(entry.name)}]({entry.key}.md)", inline(status(entry)), cite(entry))
            for entry in CATALOG
            if entry.kind == kind
        ]
        if rows:
            yield f"## {HEADINGS[kind]}"
            yield table(("", "checked", "paper"), rows)


# --- deviations -------------------------------------------------------------------------------------------------------


def deviations() -> Iterator[str]:
    """The table of all methods."""
    yield "# Deviations"
    yield (
        "Where a paper, its authors' code and other released code differ, and what is done here, for everything that "
        "unlearns or is done around it. Written by `python docs/build.py --deviations docs/deviations.md` from the "
        "docstrings; those of metrics, edits, decoding and attacks are on their pages (`python -m nox -s docs`)."
    )
    yield from deviations_of(entry for entry in CATALOG if folder_of(entry) in METHODS)


def all_deviations() -> Iterator[str]:
    """Two tables: methods, and what measures them."""
    yield "# Deviations"
    yield "Where papers, released code and this library differ, and what is done here."
    yield "## Methods"
    yield from deviations_of(entry for entry in CATALOG if folder_of(entry) in METHODS)
    yield "## Metrics, edits, decoding and attacks"
    yield from deviations_of(entry for entry in CATALOG if folder_of(entry) not in METHODS)


def deviations_of(entries: Iterable[Entry]) -> Iterator[str]:
    """A row for each point of each file, and a closing sentence on those that have none."""
    of_module: dict[ModuleType, list[str]] = {}
    for entry in entries:
        of_module.setdefault(module_of(entry), []).append(entry.name)
    rows, none, unknown = [], [], []
    for module, names in of_module.items():
        text = joined(parsed(module).sections.get("Deviations", ""))
        if text in ("none", "none."):
            none += names
        elif re.fullmatch(r"none\b[^.]*\bknown\b[^.]*\.?", text):
            unknown += names
        elif text:
            method = inline("; ".join(names))
            rows += [(method, sentence(point)) for point in items(parsed(module).sections["Deviations"])]
    yield table(("method", "paper, code and what is done here"), rows)
    if none or unknown:
        yield " ".join(
            f"{what}: {inline('; '.join(names))}."
            for what, names in (("No deviations", none), ("None are known, for want of code or formulas", unknown))
            if names
        )


if __name__ == "__main__":
    main()
