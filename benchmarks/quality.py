"""Every method by every metric on the fictitious world, beside the original and the retrained oracle.

    python benchmarks/quality.py              all methods, three seeds of world, training and run; minutes on two cores
    python benchmarks/quality.py --seeds 1    a third of it

Writes results.json (every score and the settings), table.md (headline columns with intervals over seeds, then every
metric), pareto.png (forgetting against utility) and page.html (seed 0: truth ratios, ROC curves, what is still known).
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import matplotlib as mpl
import torch
from attrs import asdict
from matplotlib import pyplot
from scipy import stats
from transformers.utils.logging import disable_progress_bar

from unlearnkit.experiment import (
    COLUMNS,
    HERE,
    TITLE,
    Budget,
    Result,
    Settings,
    build_stage,
    controls,
    header,
    line,
    run_recipe,
    run_uld,
    shown,
)
from unlearnkit.oracle import cache_folder
from unlearnkit.progress import Bars
from unlearnkit.report import Report
from unlearnkit.report_page import save_page

FIRST = ("ga", "npo_nll", "simnpo")
"""Shown first: collapse, slow decay, and between."""
METHODS = (*FIRST, *(name for name in HERE if name not in FIRST), "uld")
FLOOR = 1e-12
"""Where the picture cuts p-values off."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, print rows as they are ready, and write the three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0")
    parser.add_argument("--steps", type=int, default=Budget().steps)
    parser.add_argument("--learning-rate", type=float, default=Budget().learning_rate)
    parser.add_argument("--out", type=Path, default=Path("results/quality"))
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="where trained models are kept")
    options = parser.parse_args(arguments)
    disable_progress_bar()  # transformers' own, in the middle of ours
    budget = Budget(steps=options.steps, learning_rate=options.learning_rate)
    start = time.perf_counter()
    runs = {seed: list(run(seed, options.methods, budget, options.cache)) for seed in range(options.seeds)}
    title = f"{TITLE}: {options.seeds} seed(s), {budget.steps} steps at {budget.learning_rate:g}"
    write(options.out, title, budget, runs, time.perf_counter() - start)


def run(seed: int, methods: Sequence[str], budget: Budget, cache: Path) -> Iterator[Result]:
    """Results of one seed, printed as they come."""
    # One seed shows the way there; the others only where it ends.
    look_at = [round(budget.steps * part) for part in (0.2, 0.4, 0.6, 0.8)] if seed == 0 else []
    with Bars() as bars:
        stage = build_stage(Settings(seed=seed), cache=cache, progress=bars)
        bars.say(f"\n{TITLE}, seed {seed}: {len(stage.rows['forget'])} forget questions\n{header()}")
        for result in controls(stage):
            bars.say(line(result))
            yield result
        for name in methods:
            if name == "uld":
                result = run_uld(stage, budget, seed=seed, progress=bars)
            else:
                result = run_recipe(stage, HERE[name], budget, seed=seed, look_at=look_at, progress=bars)
            bars.say(line(result))
            for message in result.warnings:
                bars.say(f"    {message}")
            yield result


def write(folder: Path, title: str, budget: Budget, runs: Mapping[int, Sequence[Result]], seconds: float) -> None:
    """results.json, table.md and pareto.png."""
    folder.mkdir(parents=True, exist_ok=True)
    command = " ".join(["python", *sys.argv])
    content = {
        "title": title,
        "command": command,
        "seconds": round(seconds, 1),
        "budget": asdict(budget),
        "settings": asdict(Settings()),
        "packages": {name: version(name) for name in ("unlearnkit", "torch", "transformers")},
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "runs": {seed: [as_json(result) for result in results] for seed, results in runs.items()},
    }
    (folder / "results.json").write_text(json.dumps(content, indent=1))
    spread = f"Mean, and half of the 95 % interval (Student's t) over {len(runs)} seeds." if len(runs) > 1 else ""
    every = f"## Every metric\n\nMeans over seeds.\n\n{full_table(runs)}"
    (folder / "table.md").write_text(
        f"# {title}\n\n{spread}\n\n{table(runs)}\n\n{every}\n\n`{command}`, {seconds:.0f} s\n"
    )
    picture(folder / "pareto.png", title, runs)
    first = {result.name: result.report for result in next(iter(runs.values()))}
    save_page({name: first[name] for name in ON_PAGE if name in first}, folder / "page.html", title=title)
    print(f"\n{table(runs)}\n{spread}\n" if len(runs) > 1 else "")
    print(full_table(runs))
    print(
        f"\n{seconds:.0f} s. Tables, picture, page and every score: " + ", ".join(str(folder / name) for name in FILES)
    )


FILES = ("table.md", "pareto.png", "page.html", "results.json")
ON_PAGE = ("original", "retrained oracle", "npo_nll", "simnpo", "ga", "idk_nll", "rmu", "uld")
"""As many as there are colours."""


def as_json(result: Result) -> dict[str, object]:
    """A result with its way there, without per-example values."""
    return {
        "name": result.name,
        "seconds": round(result.seconds, 2),
        "warnings": result.warnings,
        "scores": json.loads(result.report.as_json(per_example=False))["scores"],
        "path": {step: {name: report[name].value for name in COLUMNS} for step, report in result.path.items()},
    }


def table(runs: Mapping[int, Sequence[Result]]) -> str:
    """Markdown: a row per method; mean ± half of the 95 % interval over seeds if there are several."""
    lines = ["| method | " + " | ".join(COLUMNS.values()) + " |", "|---|" + "---|" * len(COLUMNS)]
    for results in zip(*runs.values(), strict=True):
        cells = (_cell([result.report for result in results], name) for name in COLUMNS)
        lines.append(f"| {results[0].name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(reports: Sequence[Report], name: str) -> str:
    values = [report[name].value for report in reports]
    if len(reports) == 1:
        return shown(reports[0], name)
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return f"not measured in {len(values) - len(known)} of {len(values)}"
    if name == "forget_quality":  # p-values span decades: mean and spread of their logarithm
        logs = [math.log10(max(value, 1e-300)) for value in known]
        return f"10^({statistics.mean(logs):.1f} ± {half_interval(logs):.1f})"
    digits = 0 if name == "privleak" else 3  # in percent
    return f"{statistics.mean(known):.{digits}f} ± {half_interval(known):.{digits}f}"


def half_interval(values: Sequence[float]) -> float:
    """Half of the 95 % confidence interval of a mean, by Student's t: wide where there are few seeds."""
    return float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))


def full_table(runs: Mapping[int, Sequence[Result]]) -> str:
    """Markdown: a row per metric, a column per method; means over seeds, and what could not be measured."""
    methods = list(zip(*runs.values(), strict=True))
    lines = [
        "| metric | " + " | ".join(results[0].name for results in methods) + " |",
        "|---" * (len(methods) + 1) + "|",
    ]
    for name in methods[0][0].report.scores:
        cells = (_mean([result.report for result in results], name) for results in methods)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _mean(reports: Sequence[Report], name: str) -> str:
    known = [value for report in reports if (value := report[name].value) is not None]
    if not known:
        return "not measured"
    if name == "forget_quality":
        return f"10^{statistics.mean(math.log10(max(value, 1e-300)) for value in known):.1f}"
    missing = f" ({len(known)} of {len(reports)})" if len(known) < len(reports) else ""
    return f"{statistics.mean(known):.3g}{missing}"


def picture(path: Path, title: str, runs: Mapping[int, Sequence[Result]]) -> None:
    """Forget quality against utility: where methods end (mean and range over seeds), and seed 0's way there."""
    mpl.use("Agg")
    figure, axes = pyplot.subplots(figsize=(10, 6.5), layout="constrained")
    first = next(iter(runs.values()))
    for number, results in enumerate(zip(*runs.values(), strict=True)):
        control = number < 2
        colour = ("grey", "black")[number] if control else f"C{(number - 2) % 10}"
        marker = "*" if control else "osD^vP"[(number - 2) % 6]
        points = [_point(result.report) for result in results]
        utility = statistics.mean(x for x, _ in points)
        quality = 10 ** statistics.mean(math.log10(y) for _, y in points)
        axes.hlines(quality, min(x for x, _ in points), max(x for x, _ in points), color=colour, alpha=0.6)
        axes.vlines(utility, min(y for _, y in points), max(y for _, y in points), color=colour, alpha=0.6)
        size = 20 if control else 9
        axes.plot(utility, quality, marker, color=colour, markersize=size, label=results[0].name, linestyle="none")
        if results[0].path:
            way = [_point(report) for report in (first[0].report, *results[0].path.values(), results[0].report)]
            axes.plot(
                [x for x, _ in way], [y for _, y in way], ".-", color=colour, markersize=3, linewidth=0.8, alpha=0.4
            )
    axes.set_yscale("log")
    axes.axhline(0.05, color="grey", linestyle=":", linewidth=1)
    axes.set_xlabel("model utility (higher is better)")
    axes.set_ylabel("forget quality: p-value against the retrained oracle (higher is better)")
    axes.set_title(f"Forgetting against utility\n{title}", fontsize=10)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9, frameon=False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _point(report: Report) -> tuple[float, float]:
    utility, quality = report["model_utility"].value, report["forget_quality"].value
    return (0.0 if utility is None else utility, FLOOR if quality is None else max(quality, FLOOR))


if __name__ == "__main__":
    main()
