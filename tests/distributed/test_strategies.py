"""The first promise: the same step on one process and on several, under DDP and FSDP."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file
from torch import Tensor

from tests.distributed.cases import CASES, Result, run_all
from tests.distributed.launch import torchrun
from tests.distributed.worker import STRATEGIES
from unlearnkit.parallel import Single

RANKS = (2, 4)


@pytest.fixture(scope="module")
def alone() -> dict[str, Result]:
    return run_all(Single)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], dict[str, Tensor]]:
    """What came out on each number of ranks under each strategy; all cases of one number in one launch."""
    found = {}
    for ranks in RANKS:
        folder = tmp_path_factory.mktemp(f"ranks{ranks}")
        done = torchrun(ranks, "tests.distributed.worker", str(folder))
        assert done.returncode == 0, done.stdout + done.stderr
        for name in STRATEGIES:
            found[ranks, name] = load_file(folder / f"{name}.safetensors")
    return found


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("case", CASES)
def test_the_same_as_on_one_process(
    case: str,
    ranks: int,
    strategy: str,
    alone: dict[str, Result],
    together: dict[tuple[int, str], dict[str, Tensor]],
) -> None:
    expected = alone[case]
    got = {
        key.split("|", 1)[1]: value for key, value in together[ranks, strategy].items() if key.startswith(f"{case}|")
    }
    assert got.keys() == expected.keys()
    assert expected
    for key, value in expected.items():
        distance = float((got[key].double() - value.double()).norm())
        assert distance <= CASES[case].tolerance * max(1.0, float(value.double().norm())), key
