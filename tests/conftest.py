"""Hypothesis profiles, where recorded numbers and data sets are found, and what comparisons with them found."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import pytest
from attrs import asdict
from hypothesis import settings

# Toy models are as fast on one thread as on all, and their numbers do not depend on how many there are. Set before torch
# is imported, and passed on to the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# torch's first call of an operation can take a second; a deadline would make the first example flaky.
settings.register_profile("default", deadline=None, max_examples=30)
settings.register_profile("ci", deadline=None, max_examples=30, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

SHARED = Path(os.environ.get("UNLEARNKIT_SHARED", Path(__file__).parents[2] / "shared"))
LOSSES = Path(__file__).parent / "recorded" / "losses.tar.xz"
"""Numbers recorded by running the official code of loss functions, attacks and optimizers."""


@pytest.fixture(scope="session")
def losses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the numbers that lie beside the tests."""
    folder = tmp_path_factory.mktemp("recorded")
    with tarfile.open(LOSSES) as archive:
        archive.extractall(folder / "conformance", filter="data")
    return folder


@pytest.fixture
def shared(request: pytest.FixtureRequest) -> Path:
    """The folder of recorded numbers and benchmark data; where it is absent, comparisons of losses find their numbers
    beside the tests, and other tests that use it skip."""
    if SHARED.is_dir():
        return SHARED
    if request.node.name.startswith("test_official"):
        found: Path = request.getfixturevalue("losses")
        return found
    pytest.skip(f"no recorded numbers at {SHARED}: set UNLEARNKIT_SHARED to the folder that holds them")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--agreements", type=Path, help="write what comparisons with recorded numbers found, as JSON")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the comparisons of this session, if asked."""
    path: Path | None = session.config.getoption("--agreements")
    if path is not None:
        from tests.objectives.conformance import AGREEMENTS

        of = {source: repository(source) for source in {one.source for one in AGREEMENTS}}
        path.write_text(json.dumps([{**asdict(one), "repository": of[one.source]} for one in AGREEMENTS]))


def repository(source: str) -> str:
    """Whose code a recorded file's numbers come from: owner/name@commit."""
    name = f"{source}_a.json"
    if (SHARED / "conformance" / name).is_file():
        content = (SHARED / "conformance" / name).read_bytes()
    else:
        with tarfile.open(LOSSES) as archive:
            file = archive.extractfile(name)
            assert file is not None
            content = file.read()
    found = json.loads(content)
    return str(found.get("source", "locuslab/open-unlearning@d3d7cf9")).split()[0]
