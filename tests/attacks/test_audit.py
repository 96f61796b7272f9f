"""The audit's arithmetic against hand-made outcomes, and its table of a real one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from attrs import evolve, field, frozen
from hypothesis import given, strategies as st

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.attack import Asking, Budget, Outcome, Secret, Target, ThreatModel
from unlearnkit.attacks.audit import audit, compare
from unlearnkit.errors import DataError, NeedError

SECRETS = tuple(
    Secret(id=f"s{number}", question="?", answer=f"word{number}", subject=f"p{number // 2}") for number in range(12)
)


def outcome(before: Sequence[float], after: Sequence[float], chance: float = 0.0) -> Outcome:
    def of(values: Sequence[float]) -> dict[str, float]:
        return {secret.id: values[number % len(values)] for number, secret in enumerate(SECRETS)}

    return Outcome(attack="x", threat="text", budget=Budget(), before=of(before), after=of(after), chance=chance)


shares = st.lists(st.floats(0, 1), min_size=12, max_size=12)


def test_the_numbers_by_hand() -> None:
    """Gone was 0.8 - 0.2; the attack brings back 0.3 of it, and out of the oracle 0.1."""
    found = compare(
        {"a": outcome([0.2], [0.5])},
        SECRETS,
        oracle={"a": outcome([0.0], [0.1])},
        original={"a": outcome([0.8], [0.9])},
    ).findings["a"]
    assert found.exposed is not None
    assert found.recovery is not None
    assert found.excess is not None
    assert found.exposed.value == pytest.approx((0.5 - 0.1) / (0.9 - 0.1))
    assert found.recovery.value == pytest.approx(0.3 / 0.6)
    assert found.excess.value == pytest.approx(0.3 / 0.6 - 0.1 / 0.6)
    assert found.exposed.low == pytest.approx(0.5 - 3 / 6)  # nothing varies among six subjects: the rule of three
    assert found.exposed.high == pytest.approx(0.5 + 3 / 6)


@given(shares, shares)
def test_the_oracle_is_at_nothing_and_the_original_at_all(before: list[float], after: list[float]) -> None:
    oracle, original = outcome([0.0], [0.1]), outcome([1.0], [1.0])
    for model, expected in ((oracle, 0.0), (original, 1.0)):
        exposed = compare({"a": model}, SECRETS, oracle={"a": oracle}, original={"a": original}).findings["a"].exposed
        assert exposed is not None
        assert exposed.value == pytest.approx(expected)
    between = compare({"a": outcome(before, after)}, SECRETS, oracle={"a": oracle}, original={"a": original}).findings[
        "a"
    ]
    assert between.exposed is not None
    assert between.exposed.low is not None
    assert between.exposed.high is not None
    assert between.exposed.low - 1e-9 <= between.exposed.value <= between.exposed.high + 1e-9
    assert (between.recovery is None) == (sum(before) / 12 > 1 - 0.05)
    assert (between.excess is None) == (between.recovery is None)
    if between.recovery is not None and between.excess is not None:
        assert between.excess.value <= between.recovery.value + 1e-9


def test_no_recovery_is_read_off_two_measures() -> None:
    outcomes = [evolve(outcome([0.2], [0.5]), comparable=comparable) for comparable in (True, False)]
    one, other = (
        compare({"a": made}, SECRETS, oracle={"a": outcome([0.0], [0.1])}, original={"a": outcome([0.8], [0.9])})
        for made in outcomes
    )
    assert other.findings["a"].recovery is None
    assert other.findings["a"].excess is None
    assert other.findings["a"].exposed == one.findings["a"].exposed


def test_an_attack_that_puts_the_answer_in_exposes_nothing() -> None:
    """It forces the words out of every model, the oracle's included."""
    found = compare(
        {"a": outcome([0.0], [1.0])},
        SECRETS,
        oracle={"a": outcome([0.0], [1.0])},
        original={"a": outcome([1.0], [1.0])},
    ).findings["a"]
    assert found.exposed is None
    assert "does not tell the original from the oracle: 1.00 against 1.00" in found.reason
    assert found.excess is not None
    assert found.excess.value == pytest.approx(0)


def test_without_an_oracle_guessing_is_the_floor_and_without_an_original_nothing_is_said() -> None:
    model, original = outcome([0.25], [0.625], chance=0.25), outcome([1.0], [1.0], chance=0.25)
    found = compare({"a": model}, SECRETS, oracle={}, original={"a": original}).findings["a"]
    assert found.exposed is not None
    assert found.exposed.value == pytest.approx(0.5)
    assert found.excess is None
    assert compare({"a": model}, SECRETS, oracle={}, original={}).findings["a"].reason.startswith("no original")


def test_intervals_are_over_subjects() -> None:
    """Secrets of one subject move together: as many subjects as secrets give a narrower interval."""
    each = [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]
    oracle, original = outcome([0.0], [0.0]), outcome([1.0], [1.0])
    apart = tuple(Secret(id=one.id, question="?", answer=one.answer) for one in SECRETS)
    widths = []
    for secrets in (SECRETS, apart):
        exposed = (
            compare({"a": outcome([0.0], each)}, secrets, oracle={"a": oracle}, original={"a": original})
            .findings["a"]
            .exposed
        )
        assert exposed is not None
        assert exposed.value == pytest.approx(0.5)
        assert exposed.low is not None
        assert exposed.high is not None
        widths.append(exposed.high - exposed.low)
    assert widths[0] > widths[1]
    alone = tuple(evolve(one, subject="the only one") for one in SECRETS)
    only = compare({"a": outcome([0.0], each)}, alone, oracle={"a": oracle}, original={"a": original}).findings["a"]
    assert "too few subjects" in str(only.exposed)


def test_what_hardly_fires_and_what_was_hardly_gone_is_not_measured() -> None:
    found = compare(
        {"a": outcome([0.97], [0.1])},
        SECRETS,
        oracle={"a": outcome([0.0], [0.05])},
        original={"a": outcome([1.0], [0.2])},
    ).findings["a"]
    assert found.exposed is None
    assert "0.20 against 0.05 came out" in found.reason
    assert found.recovery is None


@frozen
class Demanding:
    """Needs what nobody gives it."""

    threat: ThreatModel = field(default="weights", init=False)

    def __call__(self, target: Target, secrets: Sequence[Secret]) -> Outcome:
        raise NeedError("it needs a key.")


def test_control_an_audit_tells_what_is_left(attacked: Attacked, tmp_path: Path) -> None:
    seen: list[str] = []
    found = audit(
        attacked.unlearned,
        {"plain question": Asking(), "key": Demanding()},
        attacked.secrets,
        tokenizer=attacked.tokenizer,
        oracle=attacked.stage.oracle,
        original=attacked.stage.original,
        retained=attacked.retained,
        template=attacked.template,
        progress=lambda what, done, total: seen.append(f"{what} {done}/{total}"),
    )
    exposed = found.findings["plain question"].exposed
    assert exposed is not None
    assert exposed.value < 0.3
    assert found.worst in (None, "plain question")
    assert found.refused == {"key": "it needs a key."}
    assert seen[:3] == ["plain question on model 0/2", "plain question on oracle 0/2", "plain question on original 0/2"]
    table = found.table()
    assert "| plain question | text |" in table
    assert "key was not run: it needs a key." in table
    found.save(tmp_path / "new" / "audit.json")
    content: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]]
    content = json.loads((tmp_path / "new" / "audit.json").read_text())
    assert content["findings"]["plain question"]["model"]["before"].keys() == {one.id for one in attacked.secrets}


def test_nothing_to_run_is_refused(attacked: Attacked) -> None:
    with pytest.raises(DataError, match="there are no attacks to run"):
        audit(attacked.unlearned, {}, attacked.secrets, tokenizer=attacked.tokenizer)
