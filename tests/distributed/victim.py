"""A run that is killed: `python -m tests.distributed.victim KILLS SEED FOLDER` kills it at random moments until it is done.

The training happens in forked children, so that a start costs milliseconds. Each time a run comes to its end, its weights
are compared bit by bit with those of a run that nobody touched, and another begins, until KILLS children were killed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.distributed.cases import FORGET, RETAIN, RisingWeight
from tests.toy import VOCABULARY, toy_rows
from unlearnkit.models.tiny import tiny_model
from unlearnkit.objectives.npo import NPO
from unlearnkit.parallel import Single, Strategy
from unlearnkit.resume import Checkpoints
from unlearnkit.train import unlearn

STEPS = 20


def run(
    folder: Path,
    *,
    every: int = 3,
    strategy: Strategy = Single(),
    steps: int = STEPS,
    dropout: bool = True,
    family: str = "gpt2",
) -> dict[str, Tensor]:
    """Everything that has a state: Adam, a schedule, a dual variable, dropout."""
    model, reference = (tiny_model(family, vocabulary=VOCABULARY, seed=seed) for seed in (0, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a torn checkpoint is passed over; runs this short forget nothing
        unlearn(
            model,
            NPO(beta=0.5) + RisingWeight(),
            {"forget": toy_rows("forget", FORGET), "retain": toy_rows("retain", RETAIN, seed=1)},
            optimizer=optimizer,
            scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS),
            models={"reference": reference},
            steps=steps,
            batch_size=3,
            max_tokens=16,
            clip=0.5,
            dropout=dropout,
            strategy=strategy,
            checkpoints=Checkpoints(folder=folder, every=every),
        )
    return strategy.weights(model)


def main() -> None:
    torch.set_num_threads(1)
    kills, draw, folder = int(sys.argv[1]), random.Random(int(sys.argv[2])), Path(sys.argv[3])
    begun = time.monotonic()
    untouched = run(folder / "untouched")
    lasts = time.monotonic() - begun
    killed = finished = 0
    while killed < kills or not finished:
        child = os.fork()
        if not child:
            result = run(folder / "killed")
            save_file({name: tensor.clone() for name, tensor in result.items()}, folder / "result.safetensors")
            os._exit(0)
        if killed < kills:  # else it is left to come to its end
            time.sleep(draw.uniform(0, lasts / 2))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            killed += 1
            continue
        assert os.waitstatus_to_exitcode(status) == 0, "the run failed by itself"
        result = load_file(folder / "result.safetensors")
        for name, tensor in untouched.items():
            assert torch.equal(result[name], tensor), f"{name} differs after {killed} kills"
        finished += 1
        shutil.rmtree(folder / "killed")
    print(f"killed {killed} times, finished {finished} times, the same bits each time")


if __name__ == "__main__":
    main()
