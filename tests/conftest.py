"""Hypothesis profiles, and where the recorded numbers and data sets are found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# torch's first call of an operation can take a second; a deadline would make the first example flaky.
settings.register_profile("default", deadline=None, max_examples=30)
settings.register_profile("ci", deadline=None, max_examples=30, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

SHARED = Path(os.environ.get("UNLEARNKIT_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recorded conformance numbers and benchmark data; tests that use it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no recorded numbers at {SHARED}: set UNLEARNKIT_SHARED to the folder that holds them")
    return SHARED
