"""Time and memory of an unlearning step, beside the way it is usually written and a hand-written lower bound.

    python benchmarks/speed.py                                    random tokens in the recorded lengths of TOFU rows
    python benchmarks/speed.py --tokenizer SmolLM2.gguf           the rows themselves; a folder will do too
    python benchmarks/speed.py --quick --out /tmp/speed.json      a toy, to see that it runs

A step is 8 forget and 8 retain rows of TOFU, from the rows in memory to the gradients: collating, forward and backward
passes, gradients allocated anew. The optimizer's update is the same on all sides and is not part of it. The model is a
random Llama of 17M parameters with the vocabulary of SmolLM2 (49,152) in float32, on the CPU. All variants compute the
same gradient, which is checked on the first batch.

Time: every variant does batch k before any does batch k + 1, and each batch begins with another variant, so that drift
hits all alike; the first batch is not counted. A ratio is the median over batches of a variant's time over the common
way's on the same batch. The bare minimum bounds the time of an engine that cuts a step in the same pieces; it does not
bound its memory, because it cuts no logits.

Memory: each variant runs in a process of its own, with the allocator settings that are printed. The models are built;
the variant runs once on two rows, so that code is loaded and threads are started; the gradients are dropped. The
resident set at this moment is the base (weights, those of a live reference too, code, rows). The kernel's peak mark
(VmHWM) is reset there by writing 5 to /proc/self/clear_refs, the steps are run, and the peak is VmHWM less the base.
Gradients, as large as the weights, are thus part of it on every line.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from attrs import asdict, evolve, frozen
from baselines import bare_minimum, common_way
from baselines.rows import ROLES, rows_of
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

import unlearnkit as uk
from unlearnkit.batch import count_positions
from unlearnkit.observe import HeadBudget
from unlearnkit.plan import Sampler, cut
from unlearnkit.train import Engine

BETA = 0.1
MAX_TOKENS = 8192
MIB = 2**20
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""glibc gives every tensor of 64 KiB and more back to the system when it is freed: the peak is what is in use."""

OBJECTIVES: dict[str, uk.Objective] = {
    "nll": uk.NPO(beta=BETA) + uk.CrossEntropy("retain"),
    "kl": uk.NPO(beta=BETA) + uk.RetainKL(),
}
TITLES = {"nll": "NPO + retain NLL", "kl": "NPO + retain KL, live reference"}
COMMON = "common way"
VARIANTS: dict[str, tuple[str, ...]] = {
    "nll": (COMMON, "ours, kept, live reference", "ours, kept", "ours, recomputed", "bare minimum"),
    "kl": (COMMON, "ours, kept, live reference", "ours, recomputed, live reference", "bare minimum, live reference"),
}
"""What is measured of each objective. Where no live reference is named, its log-probs come from a recording."""

Step = Callable[[Sequence[uk.Row]], float]
"""Adds the gradient of one step to `.grad` and returns its loss."""


@frozen(kw_only=True)
class Size:
    """The model that is measured."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    intermediate: int

    def build(self, seed: int) -> PreTrainedModel:
        """A random Llama with tied embeddings, in training mode; torch's random state is left as it was."""
        config = LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads,
            intermediate_size=self.intermediate,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
        )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model: PreTrainedModel = LlamaForCausalLM(config)
        model.train()
        return model


FULL = Size(vocabulary=49152, hidden=256, layers=6, heads=4, intermediate=640)
QUICK = Size(vocabulary=1024, hidden=64, layers=2, heads=2, intermediate=128)


@frozen(kw_only=True)
class Job:
    """What a process of its own measures the memory of; everything in it can be written as JSON."""

    size: Size
    objective: str
    variant: str
    threads: int
    chunk_mib: int
    rows: str
    recording: str


@frozen
class Memory:
    """Of one process, in bytes: the resident set before the steps, and how far it rose above it."""

    base: int
    above: int


@frozen
class Timed:
    """Seconds of each counted step, and (padded) positions that went through each body, per step."""

    seconds: Sequence[float]
    positions: float
    reference_positions: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print tables, and write them and the numbers."""
    options = parse(arguments)
    if options.jobs is not None:
        fork([Job(**job | {"size": Size(**job["size"])}) for job in json.loads(options.jobs)])
        return
    torch.set_num_threads(options.threads)
    size = QUICK if options.quick else FULL
    if options.quick:
        options.steps = options.memory_steps = 2
    data, said = rows_of(options.tofu, options.tokenizer, size.vocabulary)
    sampler = Sampler(data=data, primary="forget", batch_size=8)
    batches = [sampler.step(number) for number in range(options.steps + 1)]
    settings = describe(options, size, said, batches)
    print("\n".join(f"{name}: {value}" for name, value in settings.items()), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        results, parts = {}, []
        for objective in OBJECTIVES:
            timed, apart = times(size, objective, data, batches, options.chunk_mib, Path(folder))
            print(f"{TITLES[objective]}: gradients differ by at most {apart:.1e}", flush=True)
            write_rows(Path(folder) / "rows.json", [sampler.step(number) for number in range(options.memory_steps)])
            used = peaks(size, objective, VARIANTS[objective], options, Path(folder))
            parts.append(f"## {TITLES[objective]}\n\n{table(timed, used)}")
            print(f"\n{parts[-1]}\n", flush=True)
            results[objective] = {
                "largest relative difference of a gradient": apart,
                "variants": {name: {**asdict(timed[name]), **asdict(used[name])} for name in timed},
            }
        growth = vocabulary_growth(size, options, Path(folder))
    parts.append(f"## When the vocabulary grows eightfold\n\n{growth_table(growth, size, options.chunk_mib)}")
    print(f"\n{parts[-1]}", flush=True)
    content = {
        "command": " ".join(["python", *sys.argv]),
        "settings": settings,
        "size": asdict(size),
        "results": results,
        "growth": {
            vocabulary: {name: asdict(one) for name, one in used.items()} for vocabulary, used in growth.items()
        },
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(content, indent=1))
    listed = "\n".join(f"- {name}: {value}" for name, value in settings.items())
    body = "\n\n".join(parts)
    options.out.with_suffix(".md").write_text(
        f"# Time and memory of a step\n\n{body}\n\n{listed}\n\n`{content['command']}`\n"
    )
    print(f"\nwritten: {options.out} and {options.out.with_suffix('.md')}")


def describe(
    options: argparse.Namespace, size: Size, rows: str, batches: Sequence[Sequence[uk.Row]]
) -> dict[str, object]:
    """What a reader has to know to believe or repeat the numbers."""
    parameters = sum(parameter.numel() for parameter in size.build(0).parameters())
    counts = {
        f"{kind} tokens of {role} rows per step": round(
            statistics.mean(sum(of(row) for row in rows if row.role == role) for rows in batches[1:]), 1
        )
        for role in ROLES
        for kind, of in (("real", len), ("answer", partial(count_positions, positions="answer")))
    }
    return {
        "model": f"Llama, {parameters / 1e6:.1f}M parameters, V = {size.vocabulary:,}, tied embeddings, float32",
        "rows": f"8 forget + 8 retain a step; {rows}",
        **counts,
        "steps": f"{options.steps} timed, {options.memory_steps} for memory",
        "threads": options.threads,
        "head": f"ours: chunks of {options.chunk_mib} MiB of logits; kept: all of them, recomputed: none",
        "allocator": f"timing: {environment() or 'as glibc has it'}; memory: {ALLOCATOR}",
        "load average at the start": " ".join(f"{load:.1f}" for load in os.getloadavg()),
        "machine": f"{processor()}, Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "unlearnkit")),
    }


def environment() -> dict[str, str]:
    """Allocator settings in the environment."""
    return {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    shared = Path(os.environ.get("UNLEARNKIT_SHARED", Path(__file__).parents[2] / "shared"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer's folder or GGUF file; without: recorded lengths")
    parser.add_argument("--tofu", type=Path, default=shared / "data" / "tofu", help="folder of TOFU's JSON files")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each variant")
    parser.add_argument("--memory-steps", type=int, default=4, help="steps over which the peak is taken")
    parser.add_argument("--chunk-mib", type=int, default=HeadBudget().chunk_bytes // MIB, help="logits of one chunk")
    parser.add_argument("--quick", action="store_true", help="two steps of a toy model")
    parser.add_argument("--out", type=Path, default=Path("results/speed.json"))
    parser.add_argument("--jobs", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


# --- the variants -----------------------------------------------------------------------------------------------------


def step_of(
    objective: str,
    variant: str,
    model: PreTrainedModel,
    reference: PreTrainedModel | uk.Recording,
    chunk_mib: int,
) -> Step:
    """What a variant does in a step; the reference is live where `is_live` says so, else a recording."""
    if variant == COMMON:
        assert isinstance(reference, PreTrainedModel)
        return partial(common_step, COMMON_WAY[objective], model, reference)
    if variant.startswith("bare"):
        if isinstance(reference, PreTrainedModel):
            return lambda rows: bare_minimum.npo_retain_kl(model, reference, cut(rows, MAX_TOKENS), beta=BETA)
        (values,) = reference.values.values()
        recorded = {name: float(value.sum()) for name, value in values.items()}
        return lambda rows: bare_minimum.npo_retain_nll(model, recorded, cut(rows, MAX_TOKENS), beta=BETA)
    other = uk.CausalLM(reference) if isinstance(reference, PreTrainedModel) else reference
    budget = HeadBudget(chunk_bytes=chunk_mib * MIB, kept_bytes=0 if "recomputed" in variant else 2**60)
    engine = Engine(models={"model": uk.CausalLM(model), "reference": other}, budget=budget, max_tokens=MAX_TOKENS)
    # `unlearn` finds out once per run that these objectives are sums.
    return lambda rows: float(engine.backward(OBJECTIVES[objective], rows, adds_up=True)[1])


def common_step(
    loss_of: Callable[..., Tensor], model: PreTrainedModel, reference: PreTrainedModel, rows: Sequence[uk.Row]
) -> float:
    """Forget and retain rows apart, one backward pass."""
    forget, retain = ([row for row in rows if row.role == role] for role in ROLES)
    loss = loss_of(model, reference, forget, retain, beta=BETA)
    loss.backward()
    return float(loss.detach())


COMMON_WAY = {"nll": common_way.npo_retain_nll, "kl": common_way.npo_retain_kl}


def is_live(variant: str) -> bool:
    """Whether a variant holds the reference in memory."""
    return variant == COMMON or variant.endswith("live reference")


# --- time -------------------------------------------------------------------------------------------------------------


def times(
    size: Size,
    objective: str,
    data: Mapping[str, Sequence[uk.Row]],
    batches: Sequence[Sequence[uk.Row]],
    chunk_mib: int,
    folder: Path,
) -> tuple[dict[str, Timed], float]:
    """Each variant on each batch, and the largest relative difference of a gradient from the common way's.

    Leaves the recording of the reference in the folder, if there is one.
    """
    model, reference = size.build(0), size.build(1).requires_grad_(False)
    recording = None
    if objective == "nll":
        start = time.perf_counter()
        recording = uk.record(reference, OBJECTIVES[objective].needs, data)
        recording.save(folder / "recording.safetensors")
        print(f"recording {len(data['forget'])} forget rows, once: {time.perf_counter() - start:.1f} s", flush=True)
    names = VARIANTS[objective]
    steps = {
        name: step_of(objective, name, model, reference if recording is None or is_live(name) else recording, chunk_mib)
        for name in names
    }
    gradients = {}
    for name in names:
        model.zero_grad(set_to_none=True)
        steps[name](batches[0])
        gradients[name] = flat_gradient(model)
    common = gradients[COMMON]
    apart = max(float((one - common).norm() / common.norm()) for one in gradients.values())
    if not apart < 1e-3:
        raise SystemExit(f"{objective}: gradients differ by {apart:.1e}, so these are not the same computation.")
    del gradients, common
    seconds: dict[str, list[float]] = {name: [] for name in names}
    positions: dict[str, list[tuple[int, int]]] = {name: [] for name in names}
    with counted(model) as through_model, counted(reference) as through_reference:
        for number, rows in enumerate(batches):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                model.zero_grad(set_to_none=True)
                through_model.clear()
                through_reference.clear()
                gc.collect()
                start = time.perf_counter()
                steps[name](rows)
                seconds[name].append(time.perf_counter() - start)
                positions[name].append((sum(through_model), sum(through_reference)))
    return {
        name: Timed(seconds[name][1:], *map(statistics.mean, zip(*positions[name][1:], strict=True))) for name in names
    }, apart


@contextmanager
def counted(model: PreTrainedModel) -> Iterator[list[int]]:
    """Collects how many positions, padding included, each forward pass of the body has."""
    seen: list[int] = []
    with model.get_input_embeddings().register_forward_pre_hook(lambda _, args: seen.append(args[0].numel())):
        yield seen


def flat_gradient(model: nn.Module) -> Tensor:
    """All gradients as one vector."""
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


# --- memory -----------------------------------------------------------------------------------------------------------


def peaks(
    size: Size, objective: str, variants: Sequence[str], options: argparse.Namespace, folder: Path
) -> dict[str, Memory]:
    """Each variant's memory on the batches that lie in the folder, with its recording.

    One process with the allocator settings above loads the code, computes nothing, and forks for each variant.
    """
    jobs = [
        Job(
            size=size,
            objective=objective,
            variant=variant,
            threads=options.threads,
            chunk_mib=options.chunk_mib,
            rows=str(folder / "rows.json"),
            recording=str(folder / "recording.safetensors"),
        )
        for variant in variants
    ]
    command = [sys.executable, __file__, "--jobs", json.dumps([asdict(job) for job in jobs])]
    done = subprocess.run(command, env={**os.environ, **ALLOCATOR}, check=True, stdout=subprocess.PIPE, text=True)
    return {
        variant: Memory(**json.loads(line)) for variant, line in zip(variants, done.stdout.splitlines(), strict=True)
    }


def fork(jobs: Sequence[Job]) -> None:
    """Do each job in a process of its own, one after the other; each prints a line."""
    for job in jobs:
        if child := os.fork():
            _, failed = os.waitpid(child, 0)
            if failed:
                raise SystemExit(f"{job.variant}: its process ended with status {failed}.")
        else:
            print(json.dumps(asdict(memory(job))), flush=True)
            os._exit(0)


def memory(job: Job) -> Memory:
    """The peak of this process while it does a few steps."""
    torch.set_num_threads(job.threads)
    batches = read_rows(Path(job.rows))
    model = job.size.build(0)
    live = is_live(job.variant)
    reference = job.size.build(1).requires_grad_(False) if live else uk.Recording.load(Path(job.recording))
    step = step_of(job.objective, job.variant, model, reference, job.chunk_mib)
    step(batches[0][:2])  # a forget row and its partner
    model.zero_grad(set_to_none=True)
    gc.collect()
    base = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    for rows in batches:
        model.zero_grad(set_to_none=True)
        step(rows)
    return Memory(base, status("VmHWM") - base)


def status(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {name}: memory is measured on Linux only.")


def write_rows(path: Path, batches: Sequence[Sequence[uk.Row]]) -> None:
    """Batches as JSON, for a child."""
    content = [
        [(row.id, row.role, row.inputs["input_ids"].tolist(), row.labels.tolist()) for row in rows] for rows in batches
    ]
    path.write_text(json.dumps(content))


def read_rows(path: Path) -> list[list[uk.Row]]:
    """What `write_rows` wrote."""
    return [
        [uk.Row(name, role, {"input_ids": torch.tensor(ids)}, torch.tensor(labels)) for name, role, ids, labels in rows]
        for rows in json.loads(path.read_text())
    ]


def vocabulary_growth(size: Size, options: argparse.Namespace, folder: Path) -> dict[int, dict[str, Memory]]:
    """Peaks of NPO + retain NLL with an eighth of the vocabulary, and with all of it."""
    found: dict[int, dict[str, Memory]] = {}
    for vocabulary in (size.vocabulary // 8, size.vocabulary):
        small = evolve(size, vocabulary=vocabulary)
        data, _ = rows_of(options.tofu, options.tokenizer, vocabulary)
        sampler = Sampler(data=data, primary="forget", batch_size=8)
        write_rows(folder / "rows.json", [sampler.step(number) for number in range(options.memory_steps)])
        recording = uk.record(small.build(1), OBJECTIVES["nll"].needs, data)
        recording.save(folder / "recording.safetensors")
        found[vocabulary] = peaks(small, "nll", (COMMON, "ours, kept", "ours, recomputed"), options, folder)
    return found


# --- tables -----------------------------------------------------------------------------------------------------------


def table(timed: Mapping[str, Timed], used: Mapping[str, Memory]) -> str:
    """Markdown: a row per variant, ratios to the common way."""
    lines = [
        "| variant | s per step: median (min … max) | ratio | peak above the base, MiB | ratio | base, MiB "
        "| positions through the model | through the reference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, one in timed.items():
        ratio = statistics.median(
            mine / theirs for mine, theirs in zip(one.seconds, timed[COMMON].seconds, strict=True)
        )
        spread = f"{statistics.median(one.seconds):.3f} ({min(one.seconds):.3f} … {max(one.seconds):.3f})"
        lines.append(
            f"| {name} | {spread} | {ratio:.2f} | {used[name].above / MIB:.0f} "
            f"| {used[name].above / used[COMMON].above:.2f} | {used[name].base / MIB:.0f} "
            f"| {one.positions:.0f} | {one.reference_positions:.0f} |"
        )
    lines.append("\nPositions include padding and are means per step, as they are counted at the embedding.")
    return "\n".join(lines)


def growth_table(growth: Mapping[int, Mapping[str, Memory]], size: Size, chunk_mib: int) -> str:
    """Markdown: peaks less one gradient of the head, and how they grow."""
    few, many = growth
    head = {vocabulary: 4 * vocabulary * size.hidden for vocabulary in growth}
    lines = [
        "Peak above the base in MiB, less one gradient of the (tied) head "
        f"({head[few] / MIB:.0f} and {head[many] / MIB:.0f} MiB). NPO + retain NLL.\n",
        f"| variant | V = {few:,} | V = {many:,} | growth |",
        "|---|---|---|---|",
    ]
    for name in growth[few]:
        rest = [growth[vocabulary][name].above - head[vocabulary] for vocabulary in growth]
        lines.append(f"| {name} | {rest[0] / MIB:.0f} | {rest[1] / MIB:.0f} | {(rest[1] - rest[0]) / MIB:.0f} |")
    lines.append(f"\nOne chunk of logits: {chunk_mib} MiB.")
    return "\n".join(lines)


def processor() -> str:
    """Its name, where Linux says it."""
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.is_file() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


if __name__ == "__main__":
    main()
