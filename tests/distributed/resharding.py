"""`torchrun -m tests.distributed.resharding STEPS FOLDER OUT`: goes on with a run, on however many ranks this is."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.distributed.victim import run
from unlearnkit.parallel import FSDP

if __name__ == "__main__":
    torch.set_num_threads(1)
    strategy = FSDP()
    weights = run(Path(sys.argv[2]), strategy=strategy, steps=int(sys.argv[1]), dropout=False, family="llama")
    if strategy.rank == 0:
        save_file({name: tensor.clone() for name, tensor in weights.items()}, sys.argv[3])
