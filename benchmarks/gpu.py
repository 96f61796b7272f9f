"""A 1B-parameter Llama on one GPU: tokens per second, peak memory, and how much of the card's arithmetic is used.

    python benchmarks/gpu.py                        a GPU, if there is one; else a toy on the CPU, to see that it runs
    python benchmarks/gpu.py --batch 64 --compile   more rows a step; blocks compiled

The model is random, in bfloat16, in the shape of Llama-3.2-1B (V = 128,256, tied). A step is NPO with a retain NLL on
`--batch` forget and as many retain rows in the recorded lengths of TOFU; forward and backward pass, without the update,
which is the same on all sides. The ceiling is measured first: bfloat16 products of square matrices.

Model FLOPs are those that the gradient of the step cannot do without: six for each weight of a block and each real
token, six for each weight of the head and each answer token, none for padding, recomputation, prompts at the head, or a
reference. Utilisation is model FLOPs per second by the ceiling. The common way is `baselines/common_way.py`, with a live
reference; ours has a recording.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from attrs import asdict, frozen
from baselines import common_way
from baselines.rows import ROLES, random_rows
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

import unlearnkit as uk
from unlearnkit.batch import collate_packed, collate_text, count_positions
from unlearnkit.models.anatomy import anatomy
from unlearnkit.models.causal import compile_blocks
from unlearnkit.observe import HeadBudget
from unlearnkit.plan import Sampler
from unlearnkit.train import Engine

BETA = 0.1
OBJECTIVE = uk.NPO(beta=BETA) + uk.CrossEntropy("retain")
GPU = {"vocab_size": 128256, "hidden_size": 2048, "num_hidden_layers": 16, "intermediate_size": 8192}
GPU |= {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64}
CPU = {"vocab_size": 4096, "hidden_size": 128, "num_hidden_layers": 2, "intermediate_size": 256}
CPU |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}

Step = Callable[[Sequence[uk.Row]], object]


@frozen
class Result:
    """Of one variant: seconds of each step, and bytes above what lay in memory before."""

    seconds: list[float]
    peak: int


def main() -> None:
    """Measure all variants, print a table, write the numbers."""
    options = parse()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sizes = GPU if device.type == "cuda" else CPU
    ceiling = matmul_ceiling(device, 8192 if device.type == "cuda" else 512)
    data = {role: random_rows(role, sizes["vocab_size"]) for role in ROLES}
    sampler = Sampler(data=data, primary="forget", batch_size=options.batch)
    batches = [sampler.step(number) for number in range(options.steps + 2)]
    model, reference = (build(sizes, seed, device) for seed in (0, 1))
    reference.requires_grad_(False)
    recording = uk.record(reference, OBJECTIVE.needs, data)

    variants: dict[str, Step] = {"common way": lambda rows: common_step(model, reference, rows)}
    for name, collate, kept in (
        ("ours, kept", collate_text, 2**60),
        ("ours, recomputed", collate_text, 0),
        ("ours, packed", collate_packed, 2**60),
    ):
        engine = Engine(
            models={"model": uk.CausalLM(model), "reference": recording},
            max_tokens=options.max_tokens,
            collate=collate,
            budget=HeadBudget(kept_bytes=kept),
        )
        variants[name] = lambda rows, engine=engine: engine.backward(OBJECTIVE, rows, adds_up=True)  # type: ignore[misc]
    results = {name: measure(step, model, batches, device) for name, step in variants.items()}
    if options.compile:
        compile_blocks(model)
        results["ours, kept, compiled"] = measure(variants["ours, kept"], model, batches, device)
    flops, tokens = (
        statistics.mean([model_flops(model, rows) for rows in batches[2:]]),
        statistics.mean([sum(map(len, rows)) for rows in batches[2:]]),
    )
    where = torch.cuda.get_device_name() if device.type == "cuda" else "the CPU, a toy model: nothing about a GPU"
    lines = [
        f"{where}; {sum(p.numel() for p in model.parameters()) / 1e6:.0f}M parameters, {options.batch} + {options.batch} rows, "
        f"{tokens:.0f} real tokens a step; ceiling {ceiling / 1e12:.3g} TFLOP/s in bfloat16",
        "",
        "| | ms per step, median (range) | against the common way | tokens/s | peak above weights, MiB | of the ceiling |",
        "|---|---|---|---|---|---|",
    ]
    slow = statistics.median(results["common way"].seconds)
    for name, result in results.items():
        seconds = statistics.median(result.seconds)
        lines.append(
            f"| {name} | {1e3 * seconds:.1f} ({1e3 * min(result.seconds):.1f} … {1e3 * max(result.seconds):.1f}) | "
            f"{slow / seconds:.2f}x | {tokens / seconds:,.0f} | {f'{result.peak / 2**20:,.0f}' if result.peak else 'not measured'} | "
            f"{flops / seconds / ceiling:.0%} |"
        )
    print("\n".join(lines))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(
        json.dumps(
            {"device": where, "ceiling": ceiling, "results": {k: asdict(v) for k, v in results.items()}}, indent=1
        )
    )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32, help="forget rows a step, and as many retain rows")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--max-tokens", type=int, default=16384, help="padded tokens of a micro-batch")
    parser.add_argument("--compile", action="store_true", help="also with compiled blocks")
    parser.add_argument("--out", type=Path, default=Path("results/gpu.json"))
    return parser.parse_args()


def build(sizes: dict[str, int], seed: int, device: torch.device) -> PreTrainedModel:
    """A random Llama in bfloat16, in training mode."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=sizes["vocab_size"],
        hidden_size=sizes["hidden_size"],
        num_hidden_layers=sizes["num_hidden_layers"],
        intermediate_size=sizes["intermediate_size"],
        num_attention_heads=sizes["num_attention_heads"],
        num_key_value_heads=sizes["num_key_value_heads"],
        head_dim=sizes["head_dim"],
        tie_word_embeddings=True,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=None,
    )
    with device:
        model: PreTrainedModel = LlamaForCausalLM(config)
    nn.Module.to(model, torch.bfloat16)
    model.train()
    return model


def common_step(model: PreTrainedModel, reference: PreTrainedModel, rows: Sequence[uk.Row]) -> None:
    """Forget and retain rows apart, a live reference, full logits."""
    forget, retain = (
        {name: value.to(model.device) for name, value in common_way.collate(of_role).items()}
        for of_role in ([row for row in rows if row.role == role] for role in ROLES)
    )
    loss: Tensor = common_way.npo(model, reference, forget, beta=BETA) + common_way.retain_nll(model, retain)
    loss.backward()


def measure(step: Step, model: PreTrainedModel, batches: Sequence[Sequence[uk.Row]], device: torch.device) -> Result:
    """Time each batch but the first two; the peak is the device's."""
    seconds = []
    base = 0
    for number, rows in enumerate(batches):
        model.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()
            if number == 2:
                base = torch.cuda.memory_allocated()
                torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        step(rows)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() - base if device.type == "cuda" else 0
    return Result(seconds[2:], peak)


def model_flops(model: PreTrainedModel, rows: Sequence[uk.Row]) -> float:
    """What the gradient of a step cannot do without."""
    parts = anatomy(model)
    blocks = sum(parameter.numel() for parameter in parts.blocks.parameters())
    head = sum(parameter.numel() for parameter in parts.head.parameters())
    return 6.0 * (blocks * sum(map(len, rows)) + head * sum(count_positions(row, "answer") for row in rows))


def matmul_ceiling(device: torch.device, size: int) -> float:
    """FLOP/s of square bfloat16 products, the best of a few."""
    one, other = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = 0.0
    for _ in range(10):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(10):
            one @ other
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = max(best, 10 * 2.0 * size**3 / (time.perf_counter() - start))
    return best


if __name__ == "__main__":
    main()
