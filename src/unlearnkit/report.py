"""Reports: the scores of one model by metric name, read and written as JSON and Markdown.

The JSON has a versioned schema; a field is added without raising the version, and changed or removed only with it:

    {"schema": "unlearnkit.report", "version": 1,
     "made": {"packages": {...}, "data": {role: digest}, "models": {name: fingerprint}},
     "scores": {name: {"value": number or null, "higher_means_more": "knowledge" | "forgetting" | "utility" | null,
                       "n": int, "reason": text or null, "interval": {"low", "high", "level"} or null,
                       "parts": {name: number}, "per_example": {id: number}, "left_out": [id],
                       "samples": {side: {id: number}}}}}

Numbers that JSON has no word for are the texts "nan", "inf" and "-inf".
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import cast, get_args

from attrs import field, frozen

from unlearnkit.errors import DataError
from unlearnkit.protocols import Direction, Interval, Score

SCHEMA, VERSION = "unlearnkit.report", 1


@frozen
class Report:
    """Scores by metric name, and what they were made of.

    Attributes:
        scores: by the name they are reported under.
        made: package versions, digests of the data by role, fingerprints of the models by name, as far as known.
    """

    scores: Mapping[str, Score]
    made: Mapping[str, Mapping[str, str]] = field(factory=dict)

    def __getitem__(self, name: str) -> Score:
        return self.scores[name]

    def markdown(self) -> str:
        """A table: one row per metric; what was not measured says why."""
        lines = ["| metric | value | n | higher means | interval |", "|---|---|---|---|---|"]
        for name, score in self.scores.items():
            value = f"{score.value:.4g}" if score.value is not None else f"not measured: {score.reason}"
            count = f"{score.n} ({len(score.left_out)} left out)" if score.left_out else f"{score.n}"
            higher = f"more {score.higher}" if score.higher else ""
            interval = f"{score.interval.low:.4g} … {score.interval.high:.4g}" if score.interval else ""
            cells = (name, value, count, higher, interval)
            lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
        return "\n".join(lines)

    def as_json(self, *, per_example: bool = True) -> str:
        """All scores; with `per_example=False` without the numbers of single examples."""
        content = {
            "schema": SCHEMA,
            "version": VERSION,
            "made": {kind: dict(entries) for kind, entries in self.made.items()},
            "scores": {
                name: {
                    "value": _number_out(score.value),
                    "higher_means_more": score.higher,
                    "n": score.n,
                    "reason": score.reason,
                    "interval": score.interval and _numbers_out(score.interval._asdict()),
                    "parts": _numbers_out(score.parts),
                    "per_example": _numbers_out(score.per_example) if per_example else {},
                    "left_out": list(score.left_out),
                    "samples": {side: _numbers_out(of) for side, of in score.samples.items()} if per_example else {},
                }
                for name, score in self.scores.items()
            },
        }
        return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The report that `as_json` wrote.

        Raises:
            DataError: not a report, of a newer version, or with a field that is not what it should be.
        """
        try:
            content = json.loads(text)
        except json.JSONDecodeError as broken:
            raise DataError(f"this is no JSON ({broken}). Pass a file that save_report wrote.") from broken
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise DataError(
                f'this is no report: its "schema" is not {SCHEMA!r}. Pass a file that save_report wrote; logs of '
                "OpenUnlearning are read by unlearnkit.open_unlearning."
            )
        if content.get("version") != VERSION:
            raise DataError(
                f"this report has version {content.get('version')}, and version {VERSION} is read here. "
                "Use the release of unlearnkit that wrote it."
            )
        try:
            scores = {name: _score(entry) for name, entry in content["scores"].items()}
            made = {
                str(kind): {str(name): str(value) for name, value in entries.items()}
                for kind, entries in content["made"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError) as wrong:
            raise DataError(
                f"this report is damaged: {type(wrong).__name__}, {wrong}. Measure the model again."
            ) from wrong
        return cls(scores, made)


def _score(entry: Mapping[str, object]) -> Score:
    """The score of its JSON object."""
    given = cast(dict[str, dict[str, object]], entry)  # checked by what is done with it
    higher, interval = entry["higher_means_more"], cast(dict[str, object] | None, entry["interval"])
    if higher is not None and higher not in get_args(Direction):
        raise ValueError(f"higher_means_more is {higher!r}")
    return Score(
        _number_in(entry["value"]),
        cast(Direction | None, higher),
        _numbers_in(given["per_example"]),
        n=int(str(entry["n"])),
        reason=None if entry["reason"] is None else str(entry["reason"]),
        interval=None if interval is None else Interval(*(float(str(interval[name])) for name in Interval._fields)),
        parts=_numbers_in(given["parts"]),
        left_out=tuple(map(str, given["left_out"])),
        samples={side: _numbers_in(cast(dict[str, object], of)) for side, of in given["samples"].items()},
    )


def _number_out(number: float | None) -> float | str | None:
    return number if number is None or math.isfinite(number) else str(float(number))


def _numbers_out(numbers: Mapping[str, float]) -> dict[str, float | str | None]:
    return {name: _number_out(number) for name, number in numbers.items()}


def _number_in(number: object) -> float | None:
    return None if number is None else float(str(number))


def _numbers_in(numbers: Mapping[str, object]) -> dict[str, float]:
    return {name: float(str(number)) for name, number in numbers.items()}


def save_report(report: Report, path: Path) -> None:
    """Write a report as JSON, or as Markdown where the name ends in .md; whole or not at all."""
    write_whole(path, report.markdown() if path.suffix == ".md" else report.as_json())


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that it is there complete or not at all; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def load_report(path: Path) -> Report:
    """Read a report that `save_report` wrote as JSON.

    Raises:
        DataError: names the file and what is wrong with it.
    """
    if not path.is_file():
        raise DataError(f"there is no report {path}.")
    try:
        return Report.from_json(path.read_text(encoding="utf-8"))
    except (DataError, UnicodeDecodeError) as refused:
        raise DataError(f"{path}: {refused}") from refused
