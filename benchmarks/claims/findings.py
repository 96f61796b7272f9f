"""What the scripts beside this file share: a claim of the literature, what was found, and how both are written down."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from attrs import asdict, frozen

Cell = str | int | float | None
"""A cell of a table; None where there is nothing to say."""


@frozen
class Check:
    """One statement of the literature beside what was found here.

    Attributes:
        expected: the statement.
        found: the same in numbers.
        holds: whether they agree.
    """

    expected: str
    found: str
    holds: bool


@frozen(kw_only=True)
class Finding:
    """The outcome of an experiment.

    Attributes:
        name: of the file.
        claim: what is said, and by whom.
        setting: what was run here, and where it departs from the paper.
        columns, rows: of the table.
        checks: the claim's statements.
        remark: how to read it, if that needs to be said.
        seconds: how long it took.
    """

    name: str
    claim: str
    setting: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    checks: Sequence[Check]
    remark: str = ""
    seconds: float = 0.0


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    def seconds(self) -> float:
        """Rounded to tenths."""
        return round(time.perf_counter() - self.start, 1)


def parser_of(documentation: str | None, *, seeds: int | None = 3) -> argparse.ArgumentParser:
    """A parser with what all scripts take: `--out`, `--threads` and, unless it draws nothing, `--seeds`."""
    parser = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/claims"), help="folder of the JSON file")
    parser.add_argument("--threads", type=int, default=1)
    if seeds is not None:
        parser.add_argument("--seeds", type=int, default=seeds, help="how many, from 0")
    return parser


def started(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, with torch's threads set."""
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    return options


def publish(finding: Finding, folder: Path) -> None:
    """Print the table and the checks, and write all of it to `<folder>/<name>.json`."""
    print(f"claim: {finding.claim}\nhere:  {finding.setting}\n")
    print(table(finding.columns, finding.rows))
    print()
    print(
        table(
            ("expected", "found", "holds"), [(c.expected, c.found, "yes" if c.holds else "NO") for c in finding.checks]
        )
    )
    if finding.remark:
        print(f"\n{finding.remark}")
    print(f"\n{finding.seconds:.0f} seconds")
    folder.mkdir(parents=True, exist_ok=True)
    made_with = {package: version(package) for package in ("torch", "transformers")}
    content = {
        **asdict(finding),
        "made_with": {**made_with, "python": platform.python_version(), "cores": os.cpu_count()},
    }
    (folder / f"{finding.name}.json").write_text(json.dumps(content, indent=1) + "\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Markdown, with aligned columns."""
    cells = [list(columns), *([shown(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def shown(cell: Cell) -> str:
    """A cell as it is printed."""
    if cell is None:
        return "-"
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell)


def spread(values: Sequence[float]) -> str:
    """Mean (smallest … largest)."""
    return f"{statistics.mean(values):.3g} ({min(values):.3g} … {max(values):.3g})"
