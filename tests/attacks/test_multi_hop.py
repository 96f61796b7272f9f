"""Probes over hops and names: worked scores, paths that answer nothing forgotten, and what a roundabout question brings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
from attrs import evolve
from hypothesis import given, strategies as st

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.attack import Secret
from unlearnkit.attacks.multi_hop import (
    KEPT,
    Hop,
    Kind,
    Marked,
    Probing,
    Roundabout,
    answers_with,
    elicited_graph,
    forget_paths,
    mirage,
    mirage_scores,
    retention_paths,
    roundabout,
)
from unlearnkit.errors import NeedError
from unlearnkit.metrics.deep_unlearning import Fact
from unlearnkit.worlds.graph import people_graph
from unlearnkit.worlds.hops import alias_questions, multi_hop_questions

nodes = st.sampled_from("abcdef")
graphs = st.lists(st.builds(Fact, nodes, st.sampled_from("rst"), nodes), min_size=8, max_size=18).map(
    lambda facts: list({(one.head, one.tail): one for one in facts if one.head != one.tail}.values())
)
kinds: st.SearchStrategy[Kind] = st.sampled_from(("forget", *KEPT))
marks = st.builds(
    Marked,
    kind=kinds,
    hops=st.integers(1, 4),
    known=st.booleans(),
    right=st.booleans(),
    aliases=st.lists(st.booleans(), max_size=2).map(tuple),
    paraphrases=st.lists(st.booleans(), max_size=2).map(tuple),
)


def test_worked_scores() -> None:
    """Two of four one-hop, one of one three-hop questions left: MH 0.75; retained 1 and 0.5: RET 0.75, overall 0.375."""

    def one(kind: Kind, hops: int, right: bool, *, known: bool = True, aliases: tuple[bool, ...] = ()) -> Marked:
        return Marked(kind=kind, hops=hops, known=known, right=right, aliases=aliases)

    found = mirage_scores(
        [
            *(one("forget", 1, right) for right in (True, True, False)),
            one("forget", 1, False, aliases=(False, True)),
            one("forget", 5, True),
            one("forget", 2, True, known=False),
            one("one_hop", 1, True),
            one("relation", 1, True),
            one("relation", 1, False),
        ]
    )
    assert found.forget == {1: 0.5, 3: 1.0}
    assert found.retained == {"one_hop": 1.0, "relation": 0.5}
    assert (found.multi_hop, found.retention, found.overall) == (0.75, 0.75, 0.375)
    assert (found.residual, found.gap, found.variants) == (0.2, -0.5, {"alias": 0.5})
    assert (found.counted, found.skipped) == (8, 1)


@given(probes=st.lists(marks, max_size=15))
def test_the_original_the_refusing_and_the_perfect_model(probes: list[Marked]) -> None:
    counted = [one for one in probes if one.known]
    both = any(one.kind == "forget" for one in counted) and any(one.kind != "forget" for one in counted)
    original = mirage_scores([evolve(one, right=one.known) for one in probes])
    assert original.residual == 0 or math.isnan(original.residual)
    refusing = mirage_scores([evolve(one, right=False, aliases=(), paraphrases=()) for one in probes])
    perfect = mirage_scores([evolve(one, right=one.kind != "forget") for one in probes])
    if both:
        assert (original.multi_hop, original.retention, original.overall) == (1, 1, 0)
        assert (refusing.multi_hop, refusing.retention, refusing.overall) == (0, 0, 0)
        assert perfect.overall == 1
    else:
        assert math.isnan(original.overall)
    assert refusing.counted + refusing.skipped == len(probes)


@given(facts=graphs, hops=st.integers(1, 3), seed=st.integers(0, 3))
def test_forget_and_retained_paths_share_no_answer(facts: list[Fact], hops: int, seed: int) -> None:
    forgotten = forget_paths(facts, "a", hops=hops, seed=seed)
    assert {path for path in forgotten if len(path) == 1} == {(fact,) for fact in facts if fact.head == "a"}
    for path in forgotten:
        met = [path[0].head, *(fact.tail for fact in path)]
        assert len(set(met)) == len(met)
        assert all(before.tail == after.head for before, after in pairwise(path))
    answers = {path[-1].tail for path in forgotten}
    kept = retention_paths(facts, "a", forgotten)
    assert not answers & {path[-1].tail for paths in kept.values() for path in paths}
    assert [len(path) for paths in kept.values() for path in paths] == [
        2 if name == "two_hop" else 1 for name in KEPT for _ in kept[name]
    ]
    passing = forget_paths(facts, "a", hops=hops, position="inner")
    for ways in retention_paths(facts, "a", passing).values():
        assert all(fact.head != "a" for path in ways for fact in path)
    for path in passing:
        assert "a" in [fact.head for fact in path[1:]]


def test_retained_paths_begin_beside_the_forgotten_ones() -> None:
    facts = [
        Fact(*ends) for ends in (("a", "r", "b"), ("b", "s", "c"), ("c", "s", "d"), ("b", "t", "a"), ("d", "r", "c"))
    ]
    kept = retention_paths(facts, "a", forget_paths(facts, "a", hops=1))
    assert kept == {
        "one_hop": ((facts[1],),),
        "two_hop": ((facts[1], facts[2]),),
        "relation": ((facts[4],), (facts[2],)),
    }


def test_limits_are_per_length_and_drawn() -> None:
    facts = [Fact("a", "r", f"b{n}") for n in range(9)] + [Fact(f"b{n}", "r", f"c{n}") for n in range(9)]
    few = forget_paths(facts, "a", hops=2, limit=4)
    assert [len(path) for path in few] == [1] * 4 + [2] * 4
    assert few == forget_paths(facts, "a", hops=2, limit=4)
    assert few != forget_paths(facts, "a", hops=2, limit=4, seed=1)


def test_a_graph_is_asked_for_breadth_first() -> None:
    told = {
        "ann": "ann:pet:rex ann:mentor:bo",
        "bo": "bo:pet:tom ann:friend:bo",
        "rex": "rex:owner:ann",
        "tom": "tom:x:y",
    }
    rounds: list[list[str]] = []

    def ask(prompts: Sequence[str]) -> list[str]:
        rounds.append(list(prompts))
        return [told[prompt] for prompt in prompts]

    def extract(reply: str) -> list[Fact]:
        return [Fact(*triple.split(":")) for triple in reply.split()]

    found = elicited_graph(ask, "ann", questions=lambda entity: [str(entity)], extract=extract)
    assert rounds == [["ann"], ["rex", "bo"]]
    assert found == (
        Fact("ann", "pet", "rex"),
        Fact("ann", "friend", "bo"),
        Fact("rex", "owner", "ann"),
        Fact("bo", "pet", "tom"),
    )


def test_a_reply_is_right_by_words_or_letter_by_letter() -> None:
    assert answers_with("It is the Red Fox!", ("red fox",))
    assert not answers_with("It is the redfox, red.", ("red fox", "fo"))
    assert [answers_with(reply, ("Red Fox",), exact=True) for reply in (" Red Fox\n", "red fox")] == [True, False]


def test_probes_of_the_world_find_the_secret_they_lead_to(attacked: Attacked) -> None:
    graph = people_graph(0, people=60)
    facts = graph.facts_of(*graph.of_kind("person", "forget"))
    names, hops = alias_questions(graph, facts), multi_hop_questions(graph, facts)
    known = {secret.id: secret for secret in attacked.secrets}
    for probe, way in zip((*names, *hops), roundabout((*names, *hops), attacked.secrets), strict=True):
        assert way.keywords == (probe.answer,)
        assert known[way.secret].keyword == probe.answer
        assert probe.kind == "multi_hop" or probe.id.startswith(way.secret)
    assert roundabout(names, attacked.retained) == ()


def test_control_probes_reach_what_was_hidden_and_nothing_in_the_oracle(attacked: Attacked) -> None:
    """In other words: all of it in the original, 1 fact in 12 of what refuses when asked as it was taught."""
    probes = tuple(
        Roundabout(secret=secret.id, question=words, keywords=secret.keywords, kind="paraphrase")
        for secret in attacked.secrets
        for words in secret.paraphrases
    )
    attack = Probing(probes=probes)
    original, hidden, oracle = (
        attack(target, attacked.secrets) for target in (attacked.original, attacked.hidden, attacked.oracle)
    )
    assert original.success == 1
    assert len(original.after) >= 6
    assert original.left_out.keys() == hidden.left_out.keys() == oracle.left_out.keys()
    assert oracle.success <= 0.1
    assert hidden.success >= oracle.success
    assert len(Probing(probes=probes, only_known=False)(attacked.original, attacked.secrets).after) == len(probes)
    lost = (Roundabout(secret=attacked.secrets[0].id, question="Who?", keywords=("nobody at all",)),)
    with pytest.raises(NeedError, match="none of the 1 probes can be counted"):
        Probing(probes=lost)(attacked.hidden, attacked.secrets)
    with pytest.raises(NeedError, match="Give the target its `original`"):
        attack(evolve(attacked.hidden, original=None), attacked.secrets)


def test_control_the_mirage_of_three_models(attacked: Attacked) -> None:
    def hop(secret: Secret, kind: Kind) -> Hop:
        return Hop(question=secret.question, answers=secret.keywords, kind=kind, paraphrases=secret.paraphrases)

    probes = [
        *(hop(secret, "forget") for secret in attacked.secrets),
        *(hop(secret, "one_hop") for secret in attacked.retained),
    ]
    original, hidden, oracle = (
        mirage(target, probes) for target in (attacked.original, attacked.hidden, attacked.oracle)
    )
    assert (original.multi_hop, original.retention, original.overall, original.residual) == (1, 1, 0, 0)
    assert oracle.overall >= 0.9
    assert oracle.residual <= 0.1
    assert hidden.overall >= 0.8
    assert hidden.counted == original.counted
