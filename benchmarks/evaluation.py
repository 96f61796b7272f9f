"""Time and memory of TOFU's suite in one pass, beside a pass per metric; and of generation, beside one prompt at a time.

    python benchmarks/evaluation.py --tofu FOLDER --tokenizer SmolLM2.gguf
    python benchmarks/evaluation.py --quick --out /tmp/evaluation.json        invented questions and a toy, to see it run

The model is a random Llama of 17M parameters with the vocabulary of SmolLM2 (49,152) in float32, on the CPU; the oracle
another one, of which there is a log on both sides. The questions are TOFU's: forget01, retain_perturbed, real_authors and
world_facts with their paraphrased and perturbed answers. TOFU's holdout questions are not among the files; forty of
forget05 that are not in forget01 stand for them, which is enough for time and memory.

Teacher-forced part: every metric of `tofu_metrics` that needs no generated text. What it is compared with is described in
benchmarks/baselines/metric_by_metric.py; its values agree, which is checked. One pass also answers memorization, privacy
and the truth ratio's distance, which the other side is spared. Runs alternate, and a ratio is the median
over rounds. Memory: each side in a process of its own that has run a few rows first; the resident set then is the base,
and the kernel's peak mark, reset there, less the base is what the suite took.

Generation: greedy, the same prompts in left-padded batches and one at a time; the texts are compared.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from attrs import asdict, frozen
from baselines.metric_by_metric import Suite, losses
from baselines.rows import load_tokenizer
from speed import FULL, MIB, QUICK, Size, environment, processor, status
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unlearnkit.batch import PlainTemplate, Row, as_role
from unlearnkit.benchmarks.tofu import tofu
from unlearnkit.data.files import read_rows
from unlearnkit.evaluate import evaluate, gather, record
from unlearnkit.metrics.suite import membership_metrics, tofu_metrics
from unlearnkit.models.causal import CausalLM
from unlearnkit.models.generate import decoder
from unlearnkit.protocols import Generated, Greedy, Metric, all_needs
from unlearnkit.recording import Recording
from unlearnkit.worlds.fictitious import build_tokenizer, build_world
from unlearnkit.worlds.tofu import tofu_of

FILES = {
    "forget": "forget01_perturbed.json",
    "retain": "retain_perturbed.json",
    "real_authors": "real_authors_perturbed.json",
    "world_facts": "world_facts_perturbed.json",
}
ANSWERS = {"_paraphrased": "paraphrased_answer", "_perturbed": "perturbed_answer"}
ROLES_WITH = {"_paraphrased": ("forget", "retain"), "_perturbed": tuple(FILES)}
COMMON, REUSE, OURS = "metric by metric", "metric by metric, parts reused", "one pass"

Data = dict[str, tuple[Row, ...]]


@frozen
class Stage:
    """What all sides are given."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    data: Data
    log: Recording
    oracle_losses: Mapping[str, Sequence[float]]
    oracle_aucs: Mapping[str, float]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print tables, write them and the numbers."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    stage = build(options)
    if options.memory_of is not None:
        print_memory(options.memory_of, stage, options.max_tokens)
        return
    said = describe(options, stage)
    print("\n".join(f"{name}: {value}" for name, value in said.items()), flush=True)
    timed, rows, apart = times(stage, options.rounds, options.max_tokens)
    assert apart < 1e-3, f"the sides do not agree: {apart}"
    used = {side: memory(side, sys.argv[1:] if arguments is None else arguments) for side in timed}
    table = teacher_forced(timed, used, rows)
    print(f"\nvalues differ by at most {apart:.1e}\n\n{table}", flush=True)
    generated = generation(stage, options)
    print(f"\n{generated}", flush=True)
    body = (
        f"# Time and memory of an evaluation\n\n## Teacher-forced metrics of TOFU's suite\n\n{table}\n\n"
        f"Values of the metrics differ by at most {apart:.1e}.\n\n## Generation\n\n{generated}\n\n"
        + "\n".join(f"- {name}: {value}" for name, value in said.items())
        + f"\n\n`{' '.join(['python', *sys.argv])}`\n"
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    content = {"settings": said, "seconds": timed, "memory": {name: asdict(one) for name, one in used.items()}}
    options.out.write_text(json.dumps(content, indent=1))
    options.out.with_suffix(".md").write_text(body)
    print(f"\nwritten: {options.out} and {options.out.with_suffix('.md')}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tofu", type=Path, help="folder with TOFU's JSON files")
    parser.add_argument("--tokenizer", type=Path, help="folder or GGUF file of SmolLM2")
    parser.add_argument("--retain", type=int, default=400, help="retain questions")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=4096, help="padded tokens per batch, ours")
    parser.add_argument("--prompts", type=int, default=32, help="prompts to generate from")
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="invented questions and a toy model")
    parser.add_argument("--out", type=Path, default=Path("results/evaluation.json"))
    parser.add_argument(
        "--memory-of", choices=[COMMON, REUSE, OURS], help="measure one side's memory, and nothing else"
    )
    options = parser.parse_args(arguments)
    if not options.quick and (options.tofu is None or options.tokenizer is None):
        parser.error("TOFU's files and a tokenizer are needed: --tofu and --tokenizer, or --quick")
    return options


def build(options: argparse.Namespace) -> Stage:
    """Models, rows, and the oracle's log."""
    size = QUICK if options.quick else FULL
    tokenizer: PreTrainedTokenizerBase
    if options.quick:
        world = build_world()
        tokenizer = build_tokenizer(world)
        data: Data = tofu(tofu_of(world, measured_retain=10)).rows(tokenizer, template=PlainTemplate())
        size = Size(**(asdict(size) | {"vocabulary": len(tokenizer)}))
    else:
        tokenizer = load_tokenizer(options.tokenizer)
        data = tofu_rows(options.tofu, tokenizer, options.retain)
    model, oracle = size.build(0).eval(), size.build(1).eval()
    log = record(oracle, all_needs(metrics().values()), data, of="oracle")
    of_oracle = {
        role: losses(oracle, data[role]) for role in ("forget", "holdout", "forget_paraphrased", "forget_perturbed")
    }
    attacks = {name: one for name, one in membership_metrics(oracle=None).items() if name != "mia_reference"}
    aucs = evaluate({"model": oracle}, attacks, data, tokenizer=tokenizer)
    known = {name: score.value for name, score in aucs.scores.items() if score.value is not None}
    return Stage(model, tokenizer, data, log, of_oracle, known)


def tofu_rows(folder: Path, tokenizer: PreTrainedTokenizerBase, retain: int) -> Data:
    """TOFU's rows by role."""

    def read(file: str, role: str, answer: str = "answer") -> tuple[Row, ...]:
        return read_rows(
            folder / file, role=role, tokenizer=tokenizer, template=PlainTemplate(), keys=("question", answer)
        )

    data = {role: read(file, role) for role, file in FILES.items()}
    for ending, roles in ROLES_WITH.items():
        data |= {role + ending: read(FILES[role], role + ending, ANSWERS[ending]) for role in roles}
    for role in ("retain", "retain_paraphrased", "retain_perturbed"):
        first = {row.group for row in data["retain"][:retain]}
        data[role] = tuple(row for row in data[role] if row.group in first)
    known = {tuple(row.inputs["input_ids"].tolist()) for row in data["forget"]}
    others = read("forget05_perturbed.json", "holdout")
    unseen = [row for row in others if tuple(row.inputs["input_ids"].tolist()) not in known]
    return data | {"holdout": as_role(unseen[:40], "holdout")}


def metrics() -> dict[str, Metric]:
    """The suite without what is generated; of model utility its teacher-forced terms."""
    return {
        name: metric
        for name, metric in tofu_metrics().items()
        if not any(isinstance(need, Generated) for need in metric.needs)
    }


def run(side: str, stage: Stage, max_tokens: int = 4096) -> tuple[dict[str, float], int]:
    """All values of one side, and the rows that went through the model."""
    if side == OURS:
        report = evaluate(
            {"model": stage.model, "oracle": stage.log},
            metrics(),
            stage.data,
            tokenizer=stage.tokenizer,
            max_tokens=max_tokens,
        )
        values = {name: score.value for name, score in report.scores.items() if score.value is not None}
        return values, sum(map(len, stage.data.values()))
    suite = Suite(
        stage.model,
        stage.data,
        stage.oracle_losses,
        stage.oracle_aucs,
        decoder(stage.tokenizer),
        reuse=side == REUSE,
    )
    return suite.run(), suite.passes


def times(stage: Stage, rounds: int, max_tokens: int) -> tuple[dict[str, list[float]], dict[str, int], float]:
    """Seconds of each side in each round, rows it ran, and the largest relative difference of a value."""
    seconds: dict[str, list[float]] = {side: [] for side in (COMMON, REUSE, OURS)}
    rows: dict[str, int] = {}
    apart = 0.0
    for number in range(rounds):
        found: dict[str, dict[str, float]] = {}
        sides = list(seconds)
        for side in sides[number % 3 :] + sides[: number % 3]:
            start = time.perf_counter()
            found[side], rows[side] = run(side, stage, max_tokens)
            seconds[side].append(time.perf_counter() - start)
            print(f"round {number}: {side} {seconds[side][-1]:.1f} s, {rows[side]} rows", flush=True)
        lacking = found[COMMON].keys() - found[OURS].keys() - {"teacher_forced_utility"}
        assert not lacking, f"not measured in one pass: {sorted(lacking)}"
        for name in found[COMMON].keys() & found[OURS].keys():
            expected = found[OURS][name]
            for side in (COMMON, REUSE):
                apart = max(apart, abs(found[side][name] - expected) / max(abs(expected), 1e-3))
    return seconds, rows, apart


@frozen
class Memory:
    """Of one process, in bytes: the resident set before, and how far it rose above it."""

    base: int
    above: int


def memory(side: str, arguments: Sequence[str]) -> Memory:
    """Peak of a process of its own that runs one side."""
    command = [sys.executable, __file__, *arguments, "--memory-of", side]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Memory(*json.loads(done.stdout.splitlines()[-1]))


def print_memory(side: str, stage: Stage, max_tokens: int) -> None:
    """What `memory` reads: the resident set before the suite, and how far it rose above it, in bytes."""
    losses(stage.model, stage.data["forget"][:2])
    gc.collect()
    base = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    run(side, stage, max_tokens)
    print(json.dumps([base, status("VmHWM") - base]))


def teacher_forced(timed: Mapping[str, Sequence[float]], used: Mapping[str, Memory], rows: Mapping[str, int]) -> str:
    """Markdown: a row per side; ratios are what one pass saves."""
    lines = [
        "| way | seconds: median (min … max) | times slower than one pass | peak above the base, MiB | of one pass's | rows run |",
        "|---|---|---|---|---|---|",
    ]
    for side, seconds in timed.items():
        slower = statistics.median(mine / ours for mine, ours in zip(seconds, timed[OURS], strict=True))
        spread = f"{statistics.median(seconds):.1f} ({min(seconds):.1f} … {max(seconds):.1f})"
        above = used[side].above / MIB
        lines.append(
            f"| {side} | {spread} | {slower:.1f} | {above:.0f} | {above / (used[OURS].above / MIB):.1f} | {rows[side]} |"
        )
    return "\n".join(lines)


def generation(stage: Stage, options: argparse.Namespace) -> str:
    """Markdown: batches beside one prompt at a time."""
    need = Generated(Greedy(options.new_tokens), "retain")
    data = {"retain": stage.data["retain"][: options.prompts]}
    seconds: dict[str, list[float]] = {"left-padded batches": [], "one prompt at a time": []}
    texts: dict[str, tuple[str, ...]] = {}
    model = CausalLM(stage.model)
    for _ in range(options.rounds):
        for side, tokens in (("left-padded batches", options.max_tokens), ("one prompt at a time", 1)):
            start = time.perf_counter()
            seen = gather({"model": model}, frozenset({need}), data, tokenizer=stage.tokenizer, max_tokens=tokens)
            seconds[side].append(time.perf_counter() - start)
            texts[side] = seen[need].texts
    batched, alone = seconds.values()
    ratio = statistics.median(slow / fast for fast, slow in zip(batched, alone, strict=True))
    same = sum(one == other for one, other in zip(*texts.values(), strict=True))
    lines = ["| way | seconds: median (min … max) |", "|---|---|"]
    for side, each in seconds.items():
        lines.append(f"| {side} | {statistics.median(each):.1f} ({min(each):.1f} … {max(each):.1f}) |")
    lines.append(
        f"\n{len(data['retain'])} prompts, {options.new_tokens} new tokens: {ratio:.1f} times faster in batches; "
        f"{same} of {len(data['retain'])} texts are identical."
    )
    return "\n".join(lines)


def describe(options: argparse.Namespace, stage: Stage) -> dict[str, object]:
    """What a reader has to know to believe or repeat the numbers."""
    parameters = sum(parameter.numel() for parameter in stage.model.parameters())
    return {
        "model": f"Llama, {parameters / 1e6:.1f}M parameters, V = {stage.model.config.vocab_size:,}, float32",
        "rows": ", ".join(f"{len(rows)} {role}" for role, rows in stage.data.items()),
        "metrics": ", ".join(metrics()),
        "rounds": options.rounds,
        "threads": options.threads,
        "allocator": environment() or "as glibc has it",
        "load average at the start": " ".join(f"{load:.1f}" for load in os.getloadavg()),
        "machine": processor(),
    }


if __name__ == "__main__":
    main()
