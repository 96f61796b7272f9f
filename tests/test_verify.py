"""The comparisons as a user runs them: what is said of a method, what is kept, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.test_walls import ROOT
from unlearnkit.__main__ import main
from unlearnkit.catalog import CATALOG
from unlearnkit.errors import DataError
from unlearnkit.verify import badge, entries, numbered, own_tests, recorded

HERE = Path(__file__).parent


def test_a_method_is_compared_again_and_its_deviations_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "wga"]) == 0
    printed = capsys.readouterr().out
    assert "verified" in printed
    assert "tmlr-group/G-effect@ef368ee" in printed
    assert "wga" in printed


def test_an_unknown_method_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="there is no method 'wgaa' to verify"):
        entries(["wgaa"])
    assert main(["verify", "wgaa"]) == 2
    assert "there is no method 'wgaa'" in capsys.readouterr().err


def test_what_is_kept_is_of_the_methods_there_are() -> None:
    """Run `python -m unlearnkit verify --write` where this fails."""
    assert set(recorded()) == {entry.key for entry in entries()}
    assert json.loads((ROOT / "verification.json").read_text()).keys() == recorded().keys()


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.key)
def test_a_method_is_called_verified_where_official_numbers_are_compared(entry: object) -> None:
    (found,) = [one for one in CATALOG if one is entry]
    known = recorded()[found.key]
    assert (badge(found) == "verified") == bool(known.comparisons)
    for comparison in known.comparisons.values():
        assert "@" in comparison["repository"]
        assert comparison["cases"] > 0
        assert comparison["difference"] <= 1e-4
    if found.confidence == "reconstructed":
        assert badge(found) == "reconstructed"
    assert (HERE / own_tests(found)).is_file() or found.kind == "optimizer"


def test_twice_as_many_objectives_are_verified_as_the_largest_framework_has() -> None:
    verified = [entry for entry in entries() if entry.kind == "objective" and badge(entry) == "verified"]
    assert len(verified) >= 24


def test_deviations_are_counted() -> None:
    of_key = {entry.key: entry for entry in entries()}
    assert numbered(of_key["grad_diff"]) == "none"
    assert int(numbered(of_key["lau"])) == 3
