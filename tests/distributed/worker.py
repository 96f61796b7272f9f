"""One process of several: `torchrun -m tests.distributed.worker OUT` runs all cases and writes what came out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from tests.distributed.cases import run_all
from unlearnkit.parallel import DDP, FSDP, Strategy

STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "ddp": DDP,
    "fsdp": lambda: FSDP(activation_checkpointing=False),
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    for name, strategy in STRATEGIES.items():
        found = run_all(strategy)
        if dist.get_rank() == 0:
            flat = {
                f"{case}|{key}": value.contiguous() for case, result in found.items() for key, value in result.items()
            }
            save_file(flat, folder / f"{name}.safetensors")
