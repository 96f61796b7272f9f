"""Reports of several models as one HTML file that needs nothing else: a table, pictures, and what was not measured.

The pictures are forget against utility, the truth ratios of single questions, and the ROC curves of membership attacks,
each with one colour for each model. Drawn by matplotlib, the extra `plot`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from unlearnkit.errors import DataError
from unlearnkit.metrics.membership import auc, roc_curve
from unlearnkit.protocols import Score
from unlearnkit.report import Report, write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933")
"""One for each model, in order; told apart by readers with any kind of colour vision (Okabe and Ito's)."""

ARROWS = {"knowledge": "knows more ↑", "forgetting": "forgot more ↑", "utility": "more useful ↑"}

SIDES = ("members", "non_members")


def save_page(
    reports: Mapping[str, Report],
    path: Path,
    *,
    title: str = "Unlearning report",
    forget: str | None = None,
    utility: str | None = None,
) -> None:
    """Write the page, whole or not at all.

    Args:
        reports: of each model by name: "original", "unlearned", "oracle", or methods. The first eight have colours.
        path: ends in .html.
        title: heading of the page.
        forget, utility: metrics of the two axes of the first picture. Default: the first of the usual ones that at
            least one model was measured by.

    Raises:
        DataError: no reports, or matplotlib is not installed.
    """
    if not reports:
        raise DataError("there are no reports to show. Pass at least one, by the name of its model.")
    write_whole(path, page(reports, title=title, forget=forget, utility=utility))


USUAL_FORGET = ("forget_quality", "extraction_strength", "forget_probability", "forget_rouge")
USUAL_UTILITY = ("model_utility", "retain_rouge", "retain_probability")


def page(reports: Mapping[str, Report], *, title: str, forget: str | None = None, utility: str | None = None) -> str:
    """The page as text; see `save_page`."""
    forget = forget or _first_measured(reports, USUAL_FORGET)
    utility = utility or _first_measured(reports, USUAL_UTILITY)
    sections = [_table(reports), *_pictures(reports, forget, utility), _best_known(reports), _made(reports)]
    body = "\n".join(section for section in sections if section)
    return PAGE.format(title=escape(title), body=body)


PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; }} h2 {{ font-size: 1.2rem; margin-top: 2.2rem; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top; }}
th:first-child, td:first-child {{ text-align: left; }}
thead th {{ border-bottom: 2px solid #888; }}
.wide {{ overflow-x: auto; }}
.small {{ color: #666; font-size: .85em; }}
.none {{ color: #a33; }}
figure {{ margin: 1rem 0; }} figure svg {{ max-width: 100%; height: auto; }}
</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""


# --- the table --------------------------------------------------------------------------------------------------------


def _table(reports: Mapping[str, Report]) -> str:
    """Metrics by models; why something is missing stands below."""
    names = list(dict.fromkeys(name for report in reports.values() for name in report.scores))
    notes: dict[str, int] = {}
    heads = "".join(
        f'<th><span style="color:{colour}">●</span> {escape(name)}</th>' for name, colour in _coloured(reports)
    )
    rows = []
    for name in names:
        scores = [report.scores.get(name) for report in reports.values()]
        counts = {score.n for score in scores if score is not None and score.value is not None}
        higher = next((ARROWS[score.higher] for score in scores if score and score.higher), "")
        cells = "".join(f"<td>{_cell(score, notes, alike=len(counts) < 2)}</td>" for score in scores)
        count = str(max(counts)) if len(counts) == 1 and max(counts) else ""
        rows.append(f'<tr><td>{escape(name)}</td>{cells}<td>{count}</td><td class="small">{higher}</td></tr>')
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in notes)
    return (
        f"<h2>Scores</h2>\n<div class=wide><table><thead><tr><th>metric</th>{heads}<th>n</th><th></th></tr></thead>\n<tbody>"
        + "\n".join(rows)
        + "</tbody></table></div>\n"
        + '<p class="small">n: the examples behind a score. Below a value: its interval over examples, where one was '
        "asked for.</p>" + (f"\n<p>Not measured, and why:</p>\n<ol>{reasons}</ol>" if notes else "")
    )


def _cell(score: Score | None, notes: dict[str, int], *, alike: bool) -> str:
    """A score; `alike`: all models have it over as many examples, which is said once."""
    if score is None:
        return '<span class="none">not asked</span>'
    if score.value is None:
        number = notes.setdefault(str(score.reason), len(notes) + 1)
        return f'<span class="none">not measured <sup>{number}</sup></span>'
    parts = []
    if score.interval is not None:
        parts.append(f"{_shown(score.interval.low)} … {_shown(score.interval.high)}")
    if score.n and not alike:
        parts.append(f"n = {score.n}")
    if score.left_out:
        parts.append(f"{len(score.left_out)} left out")
    small = f'<br><span class="small">{", ".join(parts)}</span>' if parts else ""
    return f"{_shown(score.value)}{small}"


def _shown(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.3f}" if 1e-3 <= abs(value) < 1e4 else f"{value:.1e}"


def _best_known(reports: Mapping[str, Report], count: int = 10) -> str:
    """The forget examples that each model still finds most likely: where an auditor looks first."""
    blocks = []
    for name, report in reports.items():
        score = report.scores.get("forget_probability")
        if score is None or not score.per_example:
            continue
        best = sorted(score.per_example.items(), key=lambda item: (-item[1], item[0]))[:count]
        cells = ", ".join(f"{escape(example)} ({_shown(value)})" for example, value in best)
        blocks.append(f"<li><b>{escape(name)}</b>: {cells}</li>")
    if not blocks:
        return ""
    return (
        "<h2>Forget examples that are known best</h2>\n<p>By answer probability.</p>\n<ul>"
        + "\n".join(blocks)
        + "</ul>"
    )


def _made(reports: Mapping[str, Report]) -> str:
    """What the numbers were made of."""
    rows = []
    for name, report in reports.items():
        for kind, entries in report.made.items():
            for what, value in entries.items():
                rows.append(
                    f"<tr><td>{escape(name)}</td><td>{escape(kind)}</td><td>{escape(what)}</td>"
                    f'<td class="small">{escape(value[:40])}</td></tr>'
                )
    if not rows:
        return ""
    return (
        "<h2>Made from</h2>\n<details><summary>packages, digests of data and models</summary><table><tbody>"
        + "\n".join(rows)
        + "</tbody></table></details>"
    )


# --- the pictures -----------------------------------------------------------------------------------------------------


def _pictures(reports: Mapping[str, Report], forget: str | None, utility: str | None) -> list[str]:
    found = []
    if forget and utility and (points := _points(reports, forget, utility)):
        higher = next((ARROWS[score.higher] for score, _ in points.values() if score.higher), "0 is best")
        found.append(
            _figure(
                f"{forget} against {utility}",
                f"Vertical: {higher}. The retrained oracle, if it is here, is where a perfect method would be.",
                lambda axes: _draw_points(axes, points, reports, forget, utility),
            )
        )
    if ratios := _samples(reports, "forget_truth_ratio", ("truth_ratio",)):
        found.append(
            _figure(
                "Truth ratio of each forget question",
                "P(wrong) / P(right). Left of 1 the model prefers the truth; a model that forgot lies where the oracle "
                "lies, not further right.",
                lambda axes: _draw_histograms(axes, ratios, reports),
            )
        )
    attacks = dict.fromkeys(
        name
        for report in reports.values()
        for name, score in report.scores.items()
        if score.samples.keys() >= set(SIDES)
    )
    for attack in attacks:
        sides = _samples(reports, attack, SIDES)
        found.append(
            _figure(
                f"Membership attack {attack}",
                "How many forget texts are called members while this share of texts that no model has seen is. The "
                "diagonal is chance.",
                lambda axes, sides=sides: _draw_roc(axes, sides, reports),  # type: ignore[misc]  # bound now
            )
        )
    return found


def _points(reports: Mapping[str, Report], forget: str, utility: str) -> dict[str, tuple[Score, Score]]:
    return {
        name: (report[forget], report[utility])
        for name, report in reports.items()
        if _measured(report, forget) and _measured(report, utility)
    }


def _samples(reports: Mapping[str, Report], metric: str, sides: Sequence[str]) -> dict[str, tuple[list[float], ...]]:
    """By model, the samples of a metric side by side."""
    return {
        name: tuple(list(score.samples[side].values()) for side in sides)
        for name, report in reports.items()
        if (score := report.scores.get(metric)) is not None and all(score.samples.get(side) for side in sides)
    }


def _measured(report: Report, name: str) -> bool:
    return name in report.scores and report[name].value is not None


def _first_measured(reports: Mapping[str, Report], names: Sequence[str]) -> str | None:
    return next((name for name in names if any(_measured(report, name) for report in reports.values())), None)


def _coloured(reports: Mapping[str, Report]) -> list[tuple[str, str]]:
    return [(name, COLOURS[place % len(COLOURS)]) for place, name in enumerate(reports)]


def _draw_points(
    axes: Axes, points: Mapping[str, tuple[Score, Score]], reports: Mapping[str, Report], forget: str, utility: str
) -> None:
    for name, colour in _coloured(reports):
        if name in points:
            above, along = points[name]
            axes.plot([along.value or 0.0], [above.value or 0.0], "o", color=colour, label=_plain(name))
    axes.set_xlabel(_plain(utility))
    axes.set_ylabel(_plain(forget))
    if all(0 <= (along.value or 0) <= 1 for _, along in points.values()):
        axes.set_xlim(-0.03, 1.03)  # small differences should look small
    if forget == "forget_quality" and all(above.value for above, _ in points.values()):
        axes.set_yscale("log")
    elif all(0 <= (above.value or 0) <= 1 for above, _ in points.values()):
        axes.set_ylim(-0.03, 1.03)
    axes.legend(frameon=False)


def _draw_histograms(axes: Axes, ratios: Mapping[str, tuple[list[float], ...]], reports: Mapping[str, Report]) -> None:
    logs = {name: [math.log10(value) for value in of[0] if 0 < value < math.inf] for name, of in ratios.items()}
    everything = [value for of in logs.values() for value in of] or [0.0]
    low, high = min([*everything, -0.1]), max([*everything, 0.1])
    edges = [low + (high - low) * place / 20 for place in range(21)]
    for name, colour in _coloured(reports):
        if name in logs:
            axes.hist(logs[name], bins=edges, histtype="stepfilled", alpha=0.25, color=colour)
            axes.hist(logs[name], bins=edges, histtype="step", color=colour, linewidth=1.5, label=_plain(name))
    axes.axvline(0.0, color="#888888", linewidth=0.8, linestyle=":")
    axes.set_xlabel("log10 of the truth ratio")
    axes.set_ylabel("questions")
    axes.legend(frameon=False)


def _draw_roc(axes: Axes, sides: Mapping[str, tuple[list[float], ...]], reports: Mapping[str, Report]) -> None:
    axes.plot([0, 1], [0, 1], color="#888888", linewidth=0.8, linestyle=":")
    for name, colour in _coloured(reports):
        if name in sides:
            members, non_members = sides[name]
            curve = roc_curve(members, non_members)
            label = f"{_plain(name)}, AUC {auc(members, non_members):.3f}"
            axes.plot(curve.false_positive, curve.true_positive, color=colour, label=label, drawstyle="steps-post")
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    axes.legend(frameon=False, loc="lower right")


def _plain(name: str) -> str:
    """A name that matplotlib neither sets as a formula nor leaves out of the legend."""
    shown = name.replace("$", r"\$")
    return f"\u200b{shown}" if shown.startswith("_") else shown


def _figure(heading: str, caption: str, draw: Callable[[Axes], object]) -> str:
    """A heading, a picture as inline SVG, and its caption."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as missing:
        raise DataError(
            "a page's pictures are drawn by matplotlib, which is not installed. Install unlearnkit[plot]."
        ) from missing
    # The salt makes ids of marks and clips differ from picture to picture, and agree from run to run.
    with rc_context(
        {"svg.hashsalt": heading, "svg.fonttype": "none", "axes.spines.top": False, "axes.spines.right": False}
    ):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        draw(figure.add_subplot())
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    picture = drawn.getvalue()
    picture = picture[picture.index("<svg") :]
    return (
        f"<h2>{escape(heading)}</h2>\n<figure>{picture}<figcaption class=small>{escape(caption)}</figcaption></figure>"
    )
