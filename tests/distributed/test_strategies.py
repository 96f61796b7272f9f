"""The first promise: the same step on one process and on several, under DDP and FSDP."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from tests.distributed.cases import CASES, Result, run_all
from tests.distributed.launch import torchrun
from tests.distributed.worker import STRATEGIES
from unlearnkit.parallel import Single

RANKS = (2, pytest.param(4, marks=pytest.mark.slow))

Launched = Callable[[int], Mapping[str, Mapping[str, Tensor]]]
"""Number of ranks -> what came out there, by strategy."""


@pytest.fixture(scope="module")
def alone() -> dict[str, Result]:
    return run_all(Single)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Launched:
    """What came out on a number of ranks under each strategy; all cases of one number in one launch."""

    @cache
    def launched(ranks: int) -> dict[str, dict[str, Tensor]]:
        folder = tmp_path_factory.mktemp(f"ranks{ranks}")
        done = torchrun(ranks, "tests.distributed.worker", str(folder))
        assert done.returncode == 0, done.stdout + done.stderr
        return {name: load_file(folder / f"{name}.safetensors") for name in STRATEGIES}

    return launched


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("case", CASES)
def test_the_same_as_on_one_process(
    case: str,
    ranks: int,
    strategy: str,
    alone: dict[str, Result],
    together: Launched,
) -> None:
    expected = alone[case]
    came_out = together(ranks)[strategy]
    got = {key.split("|", 1)[1]: value for key, value in came_out.items() if key.startswith(f"{case}|")}
    assert got.keys() == expected.keys()
    assert expected
    for key, value in expected.items():
        distance = float((got[key].double() - value.double()).norm())
        assert distance <= CASES[case].tolerance * max(1.0, float(value.double().norm())), key


def test_fsdp_moves_each_parameter_once_forward_once_backward_and_each_gradient_once(tmp_path: Path) -> None:
    done = torchrun(2, "tests.distributed.traffic", str(tmp_path / "traffic.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "traffic.json").read_text())
    assert found["left over"] == 0
    whole, root = found["sizes"]["whole"], found["sizes"]["root"]
    # Three blocks: gathered forward and backward; the root once, it stays. One reduction each. The means of two terms
    # and their sum, in double precision or single, is all that travels beside.
    blocks = whole - root
    assert found["one piece"]["calls"] == {"allgather_base": 7, "reduce_scatter_base": 4, "allreduce": 1}
    assert found["one piece"]["bytes"]["allgather_base"] == root + 2 * blocks
    assert found["one piece"]["bytes"]["reduce_scatter_base"] == whole
    assert found["one piece"]["bytes"]["allreduce"] <= 24
    # A head that is cut into chunks gathers nothing more; each further micro-batch gathers all of it again.
    assert found["small chunks"] == found["one piece"]
    assert found["pieces"]["calls"]["allgather_base"] == 3 * 7
    # A live reference: its blocks forward, in the same root; and one block that torch fetches ahead for nothing.
    assert found["live reference"]["calls"]["allgather_base"] == 7 + 3 + 1
