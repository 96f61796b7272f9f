"""`torchrun -m tests.distributed.leaving HOW FOLDER`: in the fourth step rank 1 vanishes, or is asked to stop."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from pathlib import Path

import torch

from tests.distributed.cases import FORGET, RETAIN
from tests.toy import Toy, toy_rows
from unlearnkit.objectives.npo import NPO
from unlearnkit.parallel import DDP
from unlearnkit.resume import Checkpoints
from unlearnkit.train import Step, unlearn

if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    strategy = DDP()

    def on_step(step: Step) -> None:
        if strategy.rank == 1 and step.number == 3:
            os.kill(os.getpid(), {"vanish": signal.SIGKILL, "stop": signal.SIGTERM}[sys.argv[1]])

    model = Toy(0)
    unlearn(
        model,
        NPO(beta=0.5),
        {"forget": toy_rows("forget", FORGET), "retain": toy_rows("retain", RETAIN, seed=1)},
        optimizer=torch.optim.AdamW(model.parameters(), lr=0.01),
        models={"reference": Toy(1)},
        steps=10,
        strategy=strategy,
        checkpoints=Checkpoints(folder=Path(sys.argv[2]), every=2),
        on_step=on_step,
    )
    print("came to its end")
