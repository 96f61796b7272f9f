"""Every method by every metric on the fictitious world, beside the original and the retrained oracle.

    python benchmarks/quality.py              all methods, three seeds of world, training and run; half an hour on two cores
    python benchmarks/quality.py --seeds 1 --methods npo_nll simnpo wga

Writes results.json (every score and the settings), table.md (headline columns with intervals over seeds, methods by
rank, then every metric), pareto.png (forgetting against utility) and page.html (seed 0: truth ratios, ROC curves, what is
still known). The settings of methods in `methods.py` were chosen by `search.py` on a world of another seed.

Rank: first the methods that keep nine tenths of the original's utility, by the mean logarithm of their forget quality;
then the others, by utility.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import matplotlib as mpl
import torch
from attrs import asdict
from matplotlib import pyplot
from methods import METHODS, chosen
from scipy import stats
from transformers.utils.logging import disable_progress_bar

from unlearnkit.experiment import (
    COLUMNS,
    HERE,
    TITLE,
    Budget,
    Result,
    Settings,
    Stage,
    build_stage,
    controls,
    header,
    line,
    run_recipe,
    run_uld,
    shown,
)
from unlearnkit.oracle import cache_folder
from unlearnkit.report import Report
from unlearnkit.report_page import save_page

FIRST = ("ga", "npo_nll", "simnpo")
"""Shown with their way there: collapse, slow decay, and between."""
CONTROLS = ("original", "retrained oracle")
FOUND = {method.name: method for method in METHODS}
NAMES = (*FIRST, *(name for name in HERE if name not in {*FIRST, *FOUND}), "uld", *FOUND)
FLOOR = 1e-12
"""Where the picture cuts p-values off."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, print rows as they are ready, and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0")
    parser.add_argument("--steps", type=int, default=Budget().steps)
    parser.add_argument("--learning-rate", type=float, default=Budget().learning_rate)
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--out", type=Path, default=Path("results/quality"))
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="where trained models are kept")
    options = parser.parse_args(arguments)
    budget = Budget(steps=options.steps, learning_rate=options.learning_rate)
    start = time.perf_counter()
    runs = run(options.seeds, options.methods, budget, options.cache, options.jobs)
    title = f"{TITLE}: {options.seeds} seed(s), {budget.steps} steps at {budget.learning_rate:g}"
    write(options.out, title, budget, runs, time.perf_counter() - start)


def run(seeds: int, methods: Sequence[str], budget: Budget, cache: Path, jobs: int) -> dict[int, list[Result]]:
    """Results by seed, printed as they come, in the order of controls and methods."""
    tasks = [(seed, name, budget, cache) for seed in range(seeds) for name in (*CONTROLS, *methods)]
    runs: dict[int, list[Result]] = {seed: [] for seed in range(seeds)}
    print(f"{TITLE}\n{'seed':<5}{header()}", flush=True)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for seed in range(seeds):  # trained once, before several processes want it
            pool.submit(ready, seed, cache).result()
        for (seed, _, _, _), result in zip(tasks, pool.map(one, tasks), strict=True):
            print(f"{seed:<5}{line(result)}", flush=True)
            for message in result.warnings:
                print(f"         {message}", flush=True)
            runs[seed].append(result)
    return runs


def ready(seed: int, cache: Path) -> None:
    """Train a seed's original and oracle, or find them on disk."""
    stage_of(seed, cache)


@cache
def stage_of(seed: int, cache: Path) -> Stage:
    torch.set_num_threads(1)
    disable_progress_bar()  # transformers' own, in the middle of ours
    return build_stage(Settings(seed=seed), cache=cache)


def one(task: tuple[int, str, Budget, Path]) -> Result:
    """One method on one seed, or a control."""
    seed, name, budget, cache = task
    stage = stage_of(seed, cache)
    # One seed shows the way there; the others only where it ends.
    look_at = [round(budget.steps * part) for part in (0.2, 0.4, 0.6, 0.8)] if seed == 0 and name in FIRST else []
    if name in CONTROLS:
        return dict(zip(CONTROLS, controls(stage), strict=True))[name]
    if name == "uld":
        return run_uld(stage, budget, seed=seed)
    if name in HERE and name not in FOUND:
        return run_recipe(stage, HERE[name], budget, seed=seed, look_at=look_at)
    return FOUND[name].run(stage, chosen(FOUND[name]), budget, seed=seed)


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
        "chosen": {method.name: dict(chosen(method)) for method in METHODS},
        "ranks": {name: number for number, name in enumerate(ranked(runs), 1)},
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


def by_name(runs: Mapping[int, Sequence[Result]]) -> dict[str, list[Report]]:
    """Each line's reports, one per seed."""
    return {results[0].name: [one.report for one in results] for results in zip(*runs.values(), strict=True)}


def ranked(runs: Mapping[int, Sequence[Result]]) -> list[str]:
    """The methods, best first."""
    reports = by_name(runs)
    original = statistics.mean(_point(report)[0] for report in reports[CONTROLS[0]])

    def merit(name: str) -> tuple[bool, float]:
        utility = statistics.mean(_point(report)[0] for report in reports[name])
        quality = statistics.mean(math.log10(_point(report)[1]) for report in reports[name])
        keeps = utility >= 0.9 * original
        return keeps, quality if keeps else utility

    return sorted((name for name in reports if name not in CONTROLS), key=merit, reverse=True)


def table(runs: Mapping[int, Sequence[Result]]) -> str:
    """Markdown: a row per method, by rank; mean ± half of the 95 % interval over seeds if there are several."""
    lines = ["| | method | " + " | ".join(COLUMNS.values()) + " |", "|---|---|" + "---|" * len(COLUMNS)]
    reports = by_name(runs)
    numbers = {name: str(number) for number, name in enumerate(ranked(runs), 1)}
    for name in (*CONTROLS, *numbers):
        cells = (_cell(reports[name], column) for column in COLUMNS)
        lines.append(f"| {numbers.get(name, '')} | {name} | " + " | ".join(cells) + " |")
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
    """Markdown: a row per method, a column per metric; means over seeds, and what could not be measured."""
    reports = by_name(runs)
    metrics = list(next(iter(reports.values()))[0].scores)
    lines = ["| method | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
    for name in (*CONTROLS, *ranked(runs)):
        cells = [_mean(reports[name], metric) for metric in metrics]
        lines += [f"| {name} | " + " | ".join(cells) + " |"]
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
    """Forget quality against utility, all of it and the part where utility is kept: each method's rank at its mean over
    seeds, its range, and some ways there."""
    mpl.use("Agg")
    figure, (whole, near) = pyplot.subplots(
        1, 2, figsize=(17, 9), width_ratios=(1, 2), sharey=True, layout="constrained"
    )
    reports = by_name(runs)
    first = {result.name: result for result in next(iter(runs.values()))}
    for axes in (whole, near):
        for number, name in enumerate(ranked(runs), 1):
            points = [_point(report) for report in reports[name]]
            utility, quality = _centre(points)
            colour = f"C{(number - 1) % 10}"
            axes.hlines(quality, min(x for x, _ in points), max(x for x, _ in points), color=colour, alpha=0.25)
            axes.vlines(utility, min(y for _, y in points), max(y for _, y in points), color=colour, alpha=0.25)
            label = f"{number}  {name}"
            axes.plot(utility, quality, "o", color=colour, markersize=13, alpha=0.7, label=label, linestyle="none")
            axes.annotate(str(number), (utility, quality), ha="center", va="center", fontsize=7, annotation_clip=True)
            if first[name].path:
                way = [_point(one) for one in (reports[CONTROLS[0]][0], *first[name].path.values(), reports[name][0])]
                axes.plot(
                    [x for x, _ in way], [y for _, y in way], ".-", color=colour, markersize=3, linewidth=0.8, alpha=0.5
                )
        for name, colour in zip(CONTROLS, ("grey", "black"), strict=True):
            utility, quality = _centre([_point(report) for report in reports[name]])
            axes.plot(utility, quality, "*", color=colour, markersize=20, label=name, linestyle="none")
        axes.set_yscale("log")
        axes.axhline(0.05, color="grey", linestyle=":", linewidth=1)
        axes.set_xlabel("model utility (higher is better)")
    original = _centre([_point(report) for report in reports[CONTROLS[0]]])[0]
    near.set_xlim(0.85 * original, 1.03 * original)
    near.axvline(0.9 * original, color="grey", linestyle=":", linewidth=1)
    whole.set_ylabel("forget quality: p-value against the retrained oracle (higher is better)")
    figure.suptitle(f"Forgetting against utility; right: where utility is kept\n{title}", fontsize=10)
    near.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7, frameon=False, ncols=2, markerscale=0.5)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def _centre(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Mean utility, and forget quality by its mean logarithm."""
    return statistics.mean(x for x, _ in points), 10 ** statistics.mean(math.log10(y) for _, y in points)


def _point(report: Report) -> tuple[float, float]:
    utility, quality = report["model_utility"].value, report["forget_quality"].value
    return (0.0 if utility is None else utility, FLOOR if quality is None else max(quality, FLOOR))


if __name__ == "__main__":
    main()
