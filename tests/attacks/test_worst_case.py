"""Worst cases: they only grow with what is tried, what could not be scored is nobody's success, budgets add up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations

import pytest
from attrs import evolve, field, frozen
from hypothesis import given, strategies as st

from tests.attacks.conftest import Attacked
from tests.attacks.test_few_shot_rephrase import PEOPLE, scripted
from unlearnkit.attacks.attack import Asking, Attack, Budget, Outcome, Secret, Target, ThreatModel, mean
from unlearnkit.attacks.few_shot_rephrase import Rephrased
from unlearnkit.attacks.masking_alias import Unnamed
from unlearnkit.attacks.worst_case import (
    WorstCase,
    WorstCaseLeakage,
    WorstWordings,
    worst_case_leakage,
    worst_of,
    worst_wording,
)
from unlearnkit.errors import DataError, NeedError

VERDICT = st.sampled_from([True, False, None])


@given(st.lists(st.lists(VERDICT, min_size=3, max_size=3), min_size=1, max_size=6))
def test_more_attempts_never_lower_it(rows: list[list[bool | None]]) -> None:
    attempts = {str(number): row for number, row in enumerate(rows)}
    found = worst_case_leakage(attempts)
    fewer = worst_case_leakage({key: row[:2] for key, row in attempts.items()})
    assert found.leaked >= fewer.leaked
    assert found.null <= fewer.null
    assert found.leaked + found.safe + found.null == len(rows)
    for order in permutations(range(3)):
        assert worst_case_leakage({key: [row[place] for place in order] for key, row in attempts.items()}) == found


def test_one_attempt_is_accuracy() -> None:
    assert worst_case_leakage({"a": [True], "b": [False], "c": [True], "d": [False]}) == WorstCaseLeakage(0.5, 2, 2, 0)
    assert worst_case_leakage({"a": [None, None], "b": [None, False]}) == WorstCaseLeakage(0.0, 0, 1, 1)
    assert worst_case_leakage({"a": [None]}) == WorstCaseLeakage(None, 0, 0, 1)


@frozen
class Told:
    """An attack with a known end."""

    after: dict[str, float]
    threat: ThreatModel = "text"
    budget: Budget = field(factory=Budget)
    chance: float = 0.0

    def __call__(self, target: Target, secrets: Sequence[Secret]) -> Outcome:
        if not self.after:
            raise NeedError("nothing to hold")
        return Outcome(
            attack="told",
            threat=self.threat,
            budget=self.budget,
            before=dict.fromkeys(self.after, 0.0),
            after=self.after,
            chance=self.chance,
            kept=(0.9, 1 - mean(self.after)),
            left_out={one.id: "it is not told" for one in secrets if one.id not in self.after},
        )


def test_the_best_attack_counts_by_secret() -> None:
    ann, bo, cy = (one.id for one in PEOPLE[:3])
    target = scripted(lambda prompt: "")
    attacks = {
        "first": Told({ann: 0.2, bo: 0.5}, "text", Budget(queries=3, knows_answer=True), 0.5),
        "second": Told({ann: 0.7}, "weights", Budget(queries=4, gradient_steps=2), 0.2),
        "third": Told({}, "weights+reference"),
    }
    whole = WorstCase(attacks=attacks)
    assert isinstance(whole, Attack)
    assert whole.threat == "weights+reference"
    found = whole(target, PEOPLE[:3])
    assert found.after == {ann: 0.7, bo: 0.5}
    assert found.found == {ann: "second", bo: "first"}
    assert found.left_out == {cy: "it is not told"}
    assert found.budget == Budget(queries=7, gradient_steps=2, knows_answer=True)
    assert found.threat == "weights"
    assert found.chance == pytest.approx(0.6)
    assert found.curve == {"first": pytest.approx(0.35), "+ second": pytest.approx(0.6)}
    assert found.kept is not None
    assert found.kept == pytest.approx((0.9, 0.3))
    assert found.attack == "worst of first, second (not run: third)"
    with pytest.raises(NeedError, match="none of the attacks could be run: third"):
        WorstCase(attacks={"third": attacks["third"]})(target, PEOPLE[:3])


def test_worst_of_one_attack_is_that_attack(attacked: Attacked) -> None:
    alone = Asking()(attacked.hidden, attacked.facts)
    found = worst_of({"plain": alone}, attacked.facts)
    assert found.after == alone.after
    assert found.before == alone.before
    assert found.budget == alone.budget
    assert found.chance == alone.chance


def test_control_worst_case_is_never_below_its_attacks_and_the_oracle_stays_at_chance(attacked: Attacked) -> None:
    """Plain questions, rephrasings and unnamed ones: 1.00 of the original, 0.5 of the hidden model, 0 of the oracle."""
    attacks: dict[str, Attack] = {"plain": Asking(), "rephrased": Rephrased(), "unnamed": Unnamed()}
    secrets = attacked.facts[:6]
    for whole, low, high in ((attacked.original, 1.0, 1.0), (attacked.oracle, 0.0, 0.1)):
        target = evolve(whole, retained=())
        found = WorstCase(attacks=attacks)(target, secrets)
        assert low <= found.success <= high
        for name, attack in attacks.items():
            try:
                alone = attack(target, secrets)
            except NeedError:
                assert f"not run: {name}" in found.attack
                continue
            assert all(found.after[key] >= value for key, value in alone.after.items())
        assert list(found.curve.values()) == sorted(found.curve.values())


# --- wordings ---------------------------------------------------------------------------------------------------------

TABLE = st.lists(st.lists(st.sampled_from([0.0, 1.0, None]), min_size=4, max_size=4), min_size=1, max_size=3)


@given(TABLE, TABLE)
def test_the_worst_of_both_is_at_least_either(plain: list[list[float | None]], among: list[list[float | None]]) -> None:
    full = [[0.0 if one is None else one for one in form] for form in (*plain, *among)]
    first, second = full[: len(plain)], full[len(plain) :]
    found = worst_wording(first, second)
    assert found.plain is not None
    assert found.in_context is not None
    assert found.worst is not None
    assert found.worst >= max(found.plain, found.in_context) >= max(sum(form) / 4 for form in full)
    assert worst_wording(first[::-1], second[::-1]) == found
    assert (worst_wording(first[:1]).plain or 0.0) <= found.plain
    missing = worst_wording(plain, among)
    assert missing.missing == sum(one is None for form in (*plain, *among) for one in form)
    assert missing.unjudged == sum(all(form[item] is None for form in (*plain, *among)) for item in range(4))


def test_one_form_is_accuracy_and_missing_verdicts_are_no_failures() -> None:
    assert worst_wording([[1.0, 0.0, 0.0, 1.0]]).plain == 0.5
    found = worst_wording([[1.0, None, 0.0]], [[None, None, 1.0]])
    assert found == (0.5, 1.0, 1.0, 1, 3)
    with pytest.raises(DataError, match=r"verdicts on \[1, 2\] secrets"):
        worst_wording([[1.0], [1.0, 0.0]])


def test_wordings_are_judged_and_counted() -> None:
    """Ann comes out of a paraphrase, Bo among retained facts, on Cy the judge is silent."""
    asked = PEOPLE[:3]

    def reply(prompt: str) -> str:
        last = prompt.split("\n\n")[-1]
        if "Which pet has Ann" in last:
            return "fox"
        return "cat" if "Bo" in last and prompt.count("Answer:") > 2 else "no"

    def judge(text: str, secret: Secret) -> float:
        return math.nan if secret is asked[2] else float(secret.keyword in text)

    attack = WorstWordings(known=PEOPLE[4:], shots=2, instruction="", examples=(), judge=judge)
    found = attack(scripted(reply), asked)
    assert found.after == {asked[0].id: 1.0, asked[1].id: 1.0}
    assert found.before == {asked[0].id: 0.0, asked[1].id: 0.0}
    assert found.left_out == {asked[2].id: "the judge gave no verdict on it"}
    assert found.curve == {"J_P": 0.5, "J_ICR": 1.0, "J_W": 1.0}
    assert found.budget.queries == 12
    assert found.budget.model_calls == 15
    forms = attack.forms(asked[0])
    assert list(forms) == ["plain 0", "among retained facts 0", "plain 1", "among retained facts 1"]
    assert forms["plain 0"].question == asked[0].question
    assert "Ann" not in forms["among retained facts 0"].question.replace(asked[0].question, "")
    whole = WorstWordings().forms(asked[0])["plain 0"].question
    assert whole.startswith("Give a short")
    assert whole.endswith(f"\n\n{asked[0].question}")
    with pytest.raises(DataError, match="no verdict on any"):
        evolve(attack, judge=lambda text, secret: math.nan)(scripted(reply), asked)


def test_control_wordings(attacked: Attacked) -> None:
    """Without instruction and examples: 1.00 of the original and 0.13 of the hidden model, all of it by paraphrases
    (among retained facts 0: longer prompts than any that was taught), 0 of the oracle."""
    attack = WorstWordings(instruction="", examples=())
    hidden, oracle = (
        attack(evolve(target, retained=()), attacked.facts) for target in (attacked.hidden, attacked.oracle)
    )
    assert hidden.success >= mean(hidden.before) + 0.04
    assert oracle.success <= 0.1
    assert hidden.curve["J_P"] == hidden.curve["J_W"] == hidden.success
    assert "J_ICR" not in hidden.curve
