"""Starts several processes with torchrun, as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def torchrun(ranks: int, module: str, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a module on several ranks of this machine; what they print is in the result."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)),
            *("-m", module, *arguments),
        ],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
