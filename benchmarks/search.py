"""The small search behind the benchmark's settings: every candidate of every method, on a world of its own.

    python benchmarks/search.py                   all methods not in the log yet; minutes on two cores
    python benchmarks/search.py --methods wga     these again

Each candidate of `methods.METHODS` is run once on a world, original and oracle with another seed (100) than those the
table is made with; the log, search.json, holds what came out. `methods.chosen` reads it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from attrs import asdict
from methods import LOG, METHODS, Method, Tried, read_log
from transformers.utils.logging import disable_progress_bar

from unlearnkit.errors import NonFiniteError
from unlearnkit.experiment import Budget, Settings, Stage, build_stage, measure
from unlearnkit.oracle import cache_folder

SEED = 100


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not in the log, and write it after every method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=[method.name for method in METHODS])
    parser.add_argument(
        "--part", nargs=2, type=int, default=(0, 1), metavar=("I", "N"), help="every N-th, from the I-th"
    )
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="where trained models are kept")
    parser.add_argument("--out", type=Path, default=LOG)
    options = parser.parse_args(arguments)
    disable_progress_bar()
    stage = build_stage(Settings(seed=SEED), cache=options.cache)
    original = measure(stage, stage.original)["model_utility"].value
    assert original is not None
    log = read_log(options.out)
    first, step = options.part
    for method in METHODS[first::step]:
        if method.name in (options.methods or ()) or (options.methods is None and method.name not in log):
            log[method.name] = [attempt(stage, method, number, original) for number in range(len(method.grid))]
            content = {"seed": SEED, "tried": {name: [asdict(one) for one in tried] for name, tried in log.items()}}
            options.out.write_text(json.dumps(content, indent=1) + "\n")


def attempt(stage: Stage, method: Method, number: int, original: float) -> Tried:
    """One candidate: its settings, and what the model was worth."""
    settings = method.grid[number]
    start = time.perf_counter()
    try:
        result = method.run(stage, settings, Budget())
        utility, quality = result.report["model_utility"].value, result.report["forget_quality"].value
    except NonFiniteError:
        utility, quality = 0.0, 0.0
    found = Tried(
        settings,
        utility=0.0 if utility is None else round(utility, 4),
        forget_quality=0.0 if quality is None else float(f"{quality:.3g}"),
        original_utility=round(original, 4),
    )
    kept = "" if found.merit[0] else "(utility lost)"
    print(
        f"{method.name:<24} {dict(settings)} utility {found.utility:.3f} forget quality {found.forget_quality:.1e} {kept} "
        f"{time.perf_counter() - start:.0f} s",
        flush=True,
    )
    return found


if __name__ == "__main__":
    main()
