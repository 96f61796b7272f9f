"""What averaging the shards' mean losses does to a gradient, and that the engine does not do it.

    python benchmarks/shard_means.py                              random tokens in the recorded lengths of TOFU answers
    python benchmarks/shard_means.py --tokenizer SmolLM2.gguf     the answers themselves; a folder will do too

Eight TOFU answers are dealt to 1, 2, 4 or 8 shards: ranks, or micro-batches of gradient accumulation. Data-parallel
training usually averages the gradients of each shard's mean loss per token; with answers of different lengths this is
another gradient than that of the mean over all tokens. Each shard is run as it would be there, with plain transformers;
the engine gets the same shards as micro-batches. Errors are relative L2 distances from the gradient of one undivided
batch, over several draws of the eight answers, for a random model and one that has learned for a few steps.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from attrs import evolve, frozen
from baselines import common_way
from baselines.rows import ROLES, rows_of
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

import unlearnkit as uk
from unlearnkit.batch import IGNORE
from unlearnkit.train import Engine

SHARDS = (1, 2, 4, 8)
ANSWERS = 8
ROLE = "retain"
OBJECTIVE = uk.CrossEntropy(ROLE)


@frozen
class Errors:
    """Relative L2 distance from the undivided gradient, for one draw, by number of shards."""

    averaged: dict[int, float]
    engine: dict[int, float]


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw, compare, and write the table."""
    shared = Path(os.environ.get("UNLEARNKIT_SHARED", Path(__file__).parents[2] / "shared"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer's folder or GGUF file; without: recorded lengths")
    parser.add_argument("--tofu", type=Path, default=shared / "data" / "tofu", help="folder of TOFU's JSON files")
    parser.add_argument("--draws", type=int, default=20, help="how many times eight answers are drawn")
    parser.add_argument("--learn", type=int, nargs="+", default=[0, 50], help="training steps before, ascending")
    parser.add_argument("--vocabulary", type=int, default=49152)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("results/shard_means.md"))
    options = parser.parse_args(arguments)
    data, said = rows_of(options.tofu, options.tokenizer, options.vocabulary)
    rows = [evolve(row, id=f"{role}{row.id}", role=ROLE) for role in ROLES for row in data[role]]
    model = small_llama(options.vocabulary, options.hidden)
    found: dict[int, list[Errors]] = {}
    learned = 0
    for steps in sorted(options.learn):
        learn(model, rows, range(learned, steps))
        learned = steps
        found[steps] = [compare(model, answers) for answers in draws(rows, range(options.draws))]
        print(f"{table({steps: found[steps]})}\n", flush=True)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    about = (
        f"Mean (range) of {options.draws} draws of {ANSWERS} from {len(rows)} answers: {said}. Llama of "
        f"{parameters / 1e6:.1f}M parameters, V = {options.vocabulary:,}, float64."
    )
    written = f"{table(found)}\n\n{about}\n\n`{' '.join(['python', *sys.argv])}`\n"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(written)
    print(written)


def small_llama(vocabulary: int, hidden: int) -> PreTrainedModel:
    """A random Llama in float64, always the same."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=2 * hidden,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model: PreTrainedModel = LlamaForCausalLM(config)
    nn.Module.to(model, torch.float64)
    model.train()
    return model


def learn(model: PreTrainedModel, rows: Sequence[uk.Row], steps: range) -> None:
    """Plain training on 16 rows a step, so that gradients are those of a model that knows something."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for batch in draws(rows, steps, size=16, seed=10_000):
        optimizer.zero_grad(set_to_none=True)
        token_mean(model, batch).backward()
        optimizer.step()


def token_mean(model: PreTrainedModel, rows: Sequence[uk.Row]) -> Tensor:
    """Mean NLL over the answer tokens of these rows, as one padded batch, a scalar.

    It is the loss of transformers, which would compute it in float32 whatever the model's type.
    """
    batch = common_way.collate(rows)
    nll = common_way.sequence_nll(common_way.full_logits(model, batch), batch["labels"])
    return nll.sum() / (batch["labels"][:, 1:] != IGNORE).sum()


def draws(rows: Sequence[uk.Row], which: range, *, size: int = ANSWERS, seed: int = 0) -> Iterator[list[uk.Row]]:
    """`size` different rows each time; draw i has seed + i."""
    for draw in which:
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed + draw))
        yield [rows[index] for index in order[:size].tolist()]


def compare(model: PreTrainedModel, rows: Sequence[uk.Row]) -> Errors:
    """Both ways of putting shards together, against the gradient of all rows at once."""
    whole = averaged(model, [rows])
    cut = {number: deal(rows, number) for number in SHARDS}
    return Errors(
        {number: distance(averaged(model, shards), whole) for number, shards in cut.items()},
        {number: distance(by_engine(model, shards), whole) for number, shards in cut.items()},
    )


def deal(rows: Sequence[uk.Row], shards: int) -> list[Sequence[uk.Row]]:
    """Equally many rows to each shard, in order."""
    each = len(rows) // shards
    return [rows[start : start + each] for start in range(0, len(rows), each)]


def averaged(model: PreTrainedModel, shards: Sequence[Sequence[uk.Row]]) -> Tensor:
    """The usual way: the mean over shards of the gradient of the shard's mean loss per token."""
    model.zero_grad(set_to_none=True)
    for rows in shards:
        (token_mean(model, rows) / len(shards)).backward()
    return gradient(model)


def by_engine(model: PreTrainedModel, shards: Sequence[Sequence[uk.Row]]) -> Tensor:
    """The same shards as micro-batches of the engine: a group is never divided, and none has room for two."""
    rows = [evolve(row, group=f"shard{number}") for number, shard in enumerate(shards) for row in shard]
    passes: list[int] = []
    model.zero_grad(set_to_none=True)
    with model.get_input_embeddings().register_forward_hook(lambda _, args, __: passes.append(args[0].numel())):
        Engine(models={"model": uk.CausalLM(model)}, max_tokens=1).backward(OBJECTIVE, rows, adds_up=True)
    if len(passes) != len(shards):
        raise SystemExit(f"the engine made {len(passes)} micro-batches of {len(shards)} shards.")
    return gradient(model)


def gradient(model: nn.Module) -> Tensor:
    """All gradients as one vector."""
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


def distance(one: Tensor, other: Tensor) -> float:
    """Relative to the other's norm."""
    return float((one - other).norm() / other.norm())


def table(found: Mapping[int, Sequence[Errors]]) -> str:
    """Markdown: a row per number of shards, two columns per training state."""
    states = ["random model" if not steps else f"after {steps} steps" for steps in found]
    heads = [head for state in states for head in (f"averaged means, {state}", f"engine, {state}")]
    lines = ["| shards | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for number in SHARDS:
        cells = []
        for errors in found.values():
            theirs = [each.averaged[number] for each in errors]
            ours = [each.engine[number] for each in errors]
            cells.append(f"{statistics.mean(theirs):.1%} ({min(theirs):.1%} … {max(theirs):.1%})")
            cells.append(f"at most {max(ours):.0e}")
        lines.append(f"| {number} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
