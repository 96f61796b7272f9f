"""What small runs really take, beside the estimate: the table "Measured" of docs/scale.md.

    python benchmarks/measured_memory.py

Each run is a process of its own (two for FSDP, and then the first one is looked at): three AdamW steps of NPO with a
retain NLL on 8 + 8 rows in the recorded lengths of TOFU, through `unlearn`, on the CPU in float32. A toy run goes first, so
that code is loaded and threads are started; the resident set then is the base. What is measured is the kernel's peak
mark (VmHWM) less the base.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping

import torch
from attrs import frozen
from baselines.rows import ROLES, random_rows
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

import unlearnkit as uk
from unlearnkit.batch import count_positions
from unlearnkit.memory import Shape, estimate, optimizer_bytes, readable
from unlearnkit.observe import HeadBudget
from unlearnkit.parallel import Strategy
from unlearnkit.plan import Sampler, share

ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
BUDGET = HeadBudget(chunk_bytes=16 * 2**20, kept_bytes=0)
MAX_TOKENS = 512


@frozen(kw_only=True)
class Run:
    """A run to be measured."""

    hidden: int
    layers: int
    vocabulary: int
    ranks: int = 1
    checkpointing: bool = False
    live: bool = False

    def build(self, seed: int) -> PreTrainedModel:
        """A random Llama with tied embeddings."""
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.hidden // 64,
            num_key_value_heads=self.hidden // 64,
            intermediate_size=5 * self.hidden // 2,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=None,
        )
        model: PreTrainedModel = LlamaForCausalLM(config)
        return model


RUNS: Mapping[str, Run] = {
    "17M, V = 49,152": Run(hidden=256, layers=6, vocabulary=49152),
    "17M, V = 49,152, live reference": Run(hidden=256, layers=6, vocabulary=49152, live=True),
    "55M, V = 8,192": Run(hidden=512, layers=16, vocabulary=8192),
    "55M, V = 8,192, blocks checkpointed": Run(hidden=512, layers=16, vocabulary=8192, checkpointing=True),
    "55M, V = 8,192, live reference": Run(hidden=512, layers=16, vocabulary=8192, live=True),
    "55M, V = 8,192, FSDP on 2 ranks, checkpointed": Run(
        hidden=512, layers=16, vocabulary=8192, ranks=2, checkpointing=True
    ),
}


def main() -> None:
    """Measure all runs, print a table."""
    if len(sys.argv) > 1:
        measure(RUNS[sys.argv[1]])
        return
    print("| run | estimate | measured | measured / estimate |\n|---|---|---|---|", flush=True)
    for name, run in RUNS.items():
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={run.ranks}"]
        command = [sys.executable, *(launcher if run.ranks > 1 else []), __file__, name]
        environment = {**os.environ, **ALLOCATOR, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        print(
            f"| {name} | {readable(found['estimate'])} | {readable(found['measured'])} | "
            f"{found['measured'] / found['estimate']:.2f} |",
            flush=True,
        )


def measure(run: Run) -> None:
    """Do a run in this process and print what it was expected to take and took."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    strategy: Strategy = uk.FSDP(activation_checkpointing=run.checkpointing) if run.ranks > 1 else uk.Single()
    train(Run(hidden=64, layers=1, vocabulary=512), uk.Single())
    base = resident("VmRSS")
    with open("/proc/self/clear_refs", "w") as marks:
        marks.write("5")
    expected = train(run, strategy)
    if strategy.rank == 0:
        print(json.dumps({"estimate": expected, "measured": resident("VmHWM") - base}), flush=True)


def train(run: Run, strategy: Strategy) -> int:
    """Three steps; what they were expected to take, in bytes."""
    data = {role: random_rows(role, run.vocabulary)[:24] for role in ROLES}
    objective = uk.NPO(beta=0.1) + uk.CrossEntropy("retain")
    model = run.build(0)
    reference = run.build(1) if run.live else uk.record(run.build(1), objective.needs, data)
    if run.checkpointing:
        model.activation_checkpointing_enable()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    rows = Sampler(data=data, primary="forget", batch_size=8).step(0)
    pieces = share(rows, MAX_TOKENS, strategy.size)[strategy.rank]
    largest = max(pieces, key=lambda piece: len(piece) * max(map(len, piece)))
    shape = Shape.of(model)
    expected = estimate(
        shape,
        trained=shape.parameters,
        tokens=len(largest) * max(map(len, largest)),
        width=max(map(len, largest)),
        positions=sum(count_positions(row, "answer") for row in largest),
        layout="fsdp" if strategy.size > 1 else "single",
        devices=strategy.size,
        state_bytes=optimizer_bytes(optimizer),
        checkpointing=run.checkpointing,
        references=int(run.live),
        budget=BUDGET,
    )
    uk.unlearn(
        model,
        objective,
        data,
        optimizer=optimizer,
        steps=3,
        models={"reference": reference},
        batch_size=8,
        max_tokens=MAX_TOKENS,
        budget=BUDGET,
        strategy=strategy,
    )
    return expected.total


def resident(mark: str) -> int:
    """Bytes of this process by a line of /proc/self/status."""
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith(f"{mark}:"))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    main()
