"""Comparisons here find their numbers beside the tests where nothing else holds them."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared(losses: Path) -> Path:
    """The folder of recorded numbers."""
    return losses
