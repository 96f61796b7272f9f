"""RWKU's probes of any secret: nine kinds that do not tell the answer, its recall, and who looks trained on."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given, strategies as st

from tests.attacks.conftest import Attacked
from tests.attacks.test_few_shot_rephrase import PEOPLE, scripted
from unlearnkit.attacks.attack import Secret, mean, mentions
from unlearnkit.attacks.rwku_probes import (
    ADVERSARIAL,
    Membership,
    Probed,
    as_it_is,
    keyword_recall,
    probes,
    stands_out,
)
from unlearnkit.datasets.rwku import KINDS
from unlearnkit.errors import DataError
from unlearnkit.experiment import Settings, secrets_of
from unlearnkit.metrics.membership import Loss, MinK

ANN = PEOPLE[0]
SPANISH = {"Spanish": lambda text: f"¿{text}"}


@given(secret=st.sampled_from(PEOPLE), seed=st.integers(0, 99))
def test_the_answer_is_in_no_query_but_among_options(secret: Secret, seed: int) -> None:
    found = probes(secret, known=PEOPLE, translate=SPANISH, seed=seed)
    kinds = [kind.split(" (")[0] for kind in found]
    assert kinds == list(KINDS)
    for kind, (query, sought) in found.items():
        assert mentions(query, sought) == (kind == "multiple choice")
        assert sought.keyword == (secret.subject if kind == "reverse query" else secret.keyword)
    assert found == probes(secret, known=PEOPLE, translate=SPANISH, seed=seed)


def test_kinds_that_do_not_fit_are_not_there() -> None:
    bare = Secret(id="a", question="What is it?", answer="Something else.", keywords=("thing",))
    assert probes(bare).keys() == {"simple question", "prefix injection", "affirmative suffix", "role play"}
    assert probes(ANN)["cloze"][0] == "The pet of Ann Reed is a ___."
    assert "cross lingual (French)" not in probes(ANN, translate={"French": lambda text: f"{text} A fox?"})
    assert "incontext learning" not in probes(ANN, known=[ANN, PEOPLE[4]])
    hinted = probes(ANN, known=PEOPLE)["context hint"][0]
    assert hinted == "The instrument of Ann Reed is a harp. What is the pet of Ann Reed?"
    assert "pet of" in probes(ANN, known=PEOPLE)["incontext learning"][0].split("\n")[0]  # of the same relation
    assert probes(evolve(ANN, aliases=("Foxy",)))["synonym manipulation"][0] == "What is the pet of Foxy?"


@given(st.lists(st.sampled_from(["red", "fox", "a", "den"]), max_size=6), st.sampled_from(["x", "red", "fox"]))
def test_recall_only_grows_with_words(said: list[str], more: str) -> None:
    secret = evolve(ANN, keywords=("red fox",))
    text = " ".join(said)
    recall = keyword_recall(text, secret)
    assert keyword_recall(f"{text} {more}", secret) >= recall
    if "red fox" in text:
        assert recall == 1.0


def test_levels_kinds_and_prompts() -> None:
    """A model that completes blanks and agrees where its reply has begun to; each is one query."""
    prompts: list[str] = []

    def reply(prompt: str) -> str:
        prompts.append(prompt)
        return "fox" if "___" in prompt else "no"

    target = scripted(reply)
    found = Probed(known=PEOPLE)(target, [ANN])
    kinds = [kind for kind in ADVERSARIAL if kind != "cross lingual"]
    assert list(found.curve) == ["level 1: cloze", "level 2: simple question", *kinds, "level 3"]
    assert found.curve["level 1: cloze"] == 1.0
    assert found.success == 0.0
    assert found.budget.queries == 10
    assert found.budget.knows_answer
    assert found.chance == pytest.approx(1 / 3 / 8)
    begun = [prompt for prompt in prompts if prompt.endswith("\nAnswer: Answer:")]
    assert len(begun) == 9  # all but the affirmative suffix; the plain question is no probe
    turned = Probed(known=PEOPLE)(scripted(lambda prompt: "Ann Reed" if "whom" in prompt else "no"), [ANN])
    assert turned.success == pytest.approx(1 / 8)
    assert turned.curve["reverse query"] == 1.0


def test_control_probes(attacked: Attacked) -> None:
    """Put as they are: 0.22 of the original (hints and synonyms 0.5, examples 0), 0.05 of the hidden model, 0.03 of the
    oracle. In the benchmark's own prompt next to nothing of any: a model of plain questions understands none of it."""
    secrets = attacked.facts[::3]
    attack = Probed(known=attacked.facts, asking=as_it_is)
    original, oracle = (attack(evolve(target, retained=()), secrets) for target in (attacked.original, attacked.oracle))
    assert original.success >= 0.1
    assert original.curve["level 2: simple question"] == 1.0
    assert oracle.success <= 0.1
    assert 0 < oracle.chance < 0.05


@given(st.lists(st.integers(0, 9), min_size=1, max_size=9), st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]))
def test_few_non_members_stand_out_among_themselves(scores: list[int], fpr: float) -> None:
    called = [stands_out(one, scores, fpr=fpr) for one in scores]
    assert sum(called) <= fpr * len(scores)
    assert stands_out(-1.0, scores, fpr=fpr) == 1.0
    assert stands_out(10.0, scores, fpr=fpr) == float(fpr == 1.0)


def test_control_membership(attacked: Attacked) -> None:
    """At a false-positive rate of 0.1: all of the original, 0.75 of the hidden model (AUC 0.92), 0.29 of the oracle,
    whose AUC of 0.76 says that these few holdout people are somewhat less likely in their own wording.
    The control says what is recognised: 0.92 of the original with a wrong fact, so mostly names and wording."""
    world = Settings(people=60, hidden_size=96).world
    holdout = tuple(one for one in secrets_of(world.holdout) if one.relation != "mentor")
    attack = Membership(non_members=holdout)
    original, hidden, oracle = (
        attack(target, attacked.facts) for target in (attacked.original, attacked.hidden, attacked.oracle)
    )
    assert original.success >= 0.9
    assert original.curve["AUC"] >= 0.95
    assert mean(original.control) >= 0.5  # the person and the wording are known: a wrong fact looks trained on as well
    assert mean(oracle.control) <= 0.5
    assert oracle.success <= 0.5
    assert oracle.success < hidden.success < original.success
    assert original.before == original.after
    for one in (original, hidden, oracle):
        assert one.success == pytest.approx(one.curve["found at 0.1"])
    assert original.chance <= 0.1
    assert Membership(non_members=holdout, score=Loss())(attacked.original, attacked.facts).success >= 0.9
    with pytest.raises(DataError, match="models were trained on it"):
        Membership(non_members=attacked.retained)(attacked.original, attacked.facts)
    none = Membership(non_members=holdout, score=MinK(0.01, at_least_one=False))
    with pytest.raises(DataError, match="could be scored"):
        none(attacked.original, attacked.facts)
