r"""GONE: is an edge of a knowledge graph gone, can it be reached by reasoning, and is its neighbourhood unharmed?

    efficacy   = 1 - share of direct questions about forgotten facts that are answered, also per kind of template
    leakage    = share of questions over several hops that are answered, where the only way leads over a forgotten edge
    locality   = share of questions about neighbouring facts to which the model answers as it did before unlearning

All lie in [0, 1]. Efficacy and locality: higher is better; leakage: lower is. An untouched model has locality 1.

Needs generated answers. Questions come from the graph: `distances` says how far a fact is from the forgotten ones,
`chains` which facts to compose into a question of several hops.

Known failure modes: a right answer in other words counts as forgotten, and a changed wording of the same answer as
damage; locality says nothing about whether the neighbours were known in the first place, so read an accuracy beside it.

Paper: Dahal, Balasubramaniam, Xiong. GONE: Structural Knowledge Unlearning via Neighborhood-Expanded Distribution
Shaping. 2026, arXiv:2603.12275.

Confidence: reconstructed from the abstract and the names of the columns; no code is public. The paper's are the three
effects that are told apart (removal of the fact itself, leakage by reasoning, loss around it), the name "direct success
rate" for question and fill-in templates, and "locality". Our reading is everything else: what counts as an answer, that
locality compares with the model before unlearning instead of with the truth, distance as the number of shared-entity
steps, and which compositions count as leading over a forgotten edge.

Checked: laws and brute force on small graphs only. Its numbers are not comparable with published ones.

Deviations: unknown.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from attrs import evolve, field, frozen

from unlearnkit.errors import DataError
from unlearnkit.metrics.deep_unlearning import Entity, Fact
from unlearnkit.protocols import Generated, Greedy, Needs, Score, Seen

_WORD = re.compile(r"\w+")
_DECODING = Greedy(max_new_tokens=32, stop=("\n",))


# --- the graph --------------------------------------------------------------------------------------------------------


def distances(facts: Iterable[Fact], forgotten: Collection[Fact]) -> dict[Fact, int]:
    """How many steps each fact is away from the nearest forgotten one; a step leads to a fact that shares an entity.

    0 for the forgotten facts themselves; a fact that cannot be reached from them is left out.
    """
    touching: dict[Entity, set[Fact]] = defaultdict(set)
    every = [*dict.fromkeys(facts)]
    for fact in {*every, *forgotten}:
        touching[fact.head].add(fact)
        touching[fact.tail].add(fact)
    found, ring = dict.fromkeys(forgotten, 0), set(forgotten)
    while ring:
        ring = {near for fact in ring for end in (fact.head, fact.tail) for near in touching[end]} - found.keys()
        step = max(found.values(), default=0) + 1
        found |= dict.fromkeys(ring, step)
    return {fact: found[fact] for fact in every if fact in found}


def chains(facts: Iterable[Fact], forgotten: Collection[Fact], *, hops: int) -> tuple[tuple[Fact, ...], ...]:
    """Shortest ways of `hops` facts, tail to head, that need a forgotten one. Sorted; no entity is visited twice.

    Left out are ways whose ends are connected by fewer facts, or by as many without a forgotten one among them.

    Raises:
        DataError: fewer than 2 hops.
    """
    if hops < 2:
        raise DataError(f"hops={hops} is not a composition: use 2 or more; one hop is the direct question.")
    every = sorted({*facts, *forgotten})
    leaving: dict[Entity, list[Fact]] = defaultdict(list)
    for fact in every:
        leaving[fact.head].append(fact)
    ways: list[tuple[Fact, ...]] = [(fact,) for fact in every if fact.head != fact.tail]
    connected = set[tuple[Entity, Entity]]()
    for _ in range(hops - 1):
        connected |= {_ends(way) for way in ways}
        ways = [(*way, fact) for way in ways for fact in leaving[way[-1].tail] if fact.tail not in _visited(way)]
    connected |= {_ends(way) for way in ways if not _uses(way, forgotten)}
    return tuple(way for way in ways if _ends(way) not in connected)


def _ends(way: tuple[Fact, ...]) -> tuple[Entity, Entity]:
    return way[0].head, way[-1].tail


def _uses(way: tuple[Fact, ...], forgotten: Collection[Fact]) -> bool:
    return any(fact in forgotten for fact in way)


def _visited(way: tuple[Fact, ...]) -> set[Entity]:
    return {way[0].head} | {fact.tail for fact in way}


# --- answers ----------------------------------------------------------------------------------------------------------


def normalised(text: str) -> str:
    """The words of a text with single blanks: compatibility forms resolved, case folded, punctuation left out."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def is_answer(references: Iterable[str], text: str) -> bool:
    """Whether one of the references occurs in a text, word by word ("Paris" does not occur in "comparison").

    Raises:
        DataError: no reference has a word.
    """
    given = tuple(references)
    wanted = [found for found in map(normalised, given) if found]
    if not wanted:
        raise DataError(f"none of the references {given} has a word to look for. Give the row an answer.")
    written = f" {normalised(text)} "
    return any(f" {reference} " in written for reference in wanted)


def same_answer(first: str, second: str) -> bool:
    """Whether two texts have the same words in the same order."""
    return normalised(first) == normalised(second)


def _answered(seen: Seen, need: Generated, aliases: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """1 or 0 for each example, nan for one without a reference."""
    written = seen[need]
    each = dict[str, float]()
    for key, reference, text in zip(seen.ids[need.role], written.references, written.texts, strict=True):
        references = (reference, *aliases.get(key, ()))
        measurable = any(map(normalised, references))
        each[key] = float(is_answer(references, text)) if measurable else math.nan
    return each


def _by_kind(name: str, each: Mapping[str, float], kinds: Mapping[str, str | int]) -> dict[str, float]:
    """Mean of the measured examples of each kind, named `name`_`kind`."""
    sorted_out: dict[str, list[float]] = defaultdict(list)
    for key, value in each.items():
        if key in kinds:
            sorted_out[f"{name}_{kinds[key]}"].append(value)
    return {kind: math.fsum(values) / len(values) for kind, values in sorted(sorted_out.items())}


def _checked(role: str, what: str, ids: Iterable[str], kinds: Mapping[str, str | int]) -> None:
    if kinds and (missing := [key for key in ids if key not in kinds]):
        raise DataError(
            f"`{what}` lacks {missing[0]!r} and {len(missing) - 1} other examples of role {role!r}. Its keys are "
            "example ids: name all of them, or none for no parts."
        )


# --- metrics ----------------------------------------------------------------------------------------------------------


@frozen
class UnlearningEfficacy:
    """Share of direct questions about forgotten facts, paraphrases included, that are not answered.

    Higher: better forgotten. Parts: the same for each kind of template, "direct_success_qa" and so on.

    Attributes:
        role: the questions.
        kinds: the kind of template ("qa", "fb") of each example, by id. Empty: no parts.
        aliases: other right answers, by example id.
        decoding: how the model writes.
        of: the model that is measured.
    """

    role: str = "forget"
    kinds: Mapping[str, str] = field(factory=dict, kw_only=True)
    aliases: Mapping[str, Sequence[str]] = field(factory=dict, kw_only=True)
    decoding: Greedy = field(default=_DECODING, kw_only=True)
    of: str = field(default="model", kw_only=True)

    @property
    def generated(self) -> Generated:
        return Generated(self.decoding, self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.generated})

    def __call__(self, seen: Seen) -> Score:
        _checked(self.role, "kinds", seen.ids[self.role], self.kinds)
        each = {key: 1 - known for key, known in _answered(seen, self.generated, self.aliases).items()}
        score = Score.mean(each, "forgetting")
        return evolve(score, parts=_by_kind("direct_success", score.per_example, self.kinds))


@frozen
class ReasoningLeakage:
    """Share of questions over several hops, made from `chains`, that are still answered.

    Higher: the model knows more. Parts: the same for each number of hops, "leakage_2" and so on.

    Attributes:
        role: the questions.
        hops: number of hops of each example, by id. Empty: no parts.
        aliases: other right answers, by example id.
        decoding: how the model writes.
        of: the model that is measured.
    """

    role: str = "multi_hop"
    hops: Mapping[str, int] = field(factory=dict, kw_only=True)
    aliases: Mapping[str, Sequence[str]] = field(factory=dict, kw_only=True)
    decoding: Greedy = field(default=_DECODING, kw_only=True)
    of: str = field(default="model", kw_only=True)

    @property
    def generated(self) -> Generated:
        return Generated(self.decoding, self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.generated})

    def __call__(self, seen: Seen) -> Score:
        _checked(self.role, "hops", seen.ids[self.role], self.hops)
        score = Score.mean(_answered(seen, self.generated, self.aliases), "knowledge")
        return evolve(score, parts=_by_kind("leakage", score.per_example, self.hops))


@frozen
class Locality:
    """Share of questions about facts near the forgotten ones that are answered as before unlearning.

    Higher: the model is still useful there. Right answers play no part. Parts: the same for each distance, "locality_1"
    and so on. On a role of far facts this is generality.

    Attributes:
        role: the questions.
        distance: `distances` of each example's fact, by id. Empty: no parts.
        decoding: how both models write.
        of: the model that is measured.
        original: the model before unlearning.
    """

    role: str = "neighbor"
    distance: Mapping[str, int] = field(factory=dict, kw_only=True)
    decoding: Greedy = field(default=_DECODING, kw_only=True)
    of: str = field(default="model", kw_only=True)
    original: str = field(default="original", kw_only=True)

    @property
    def generated(self) -> Generated:
        return Generated(self.decoding, self.role, of=self.of)

    @property
    def before(self) -> Generated:
        return Generated(self.decoding, self.role, of=self.original)

    @property
    def needs(self) -> Needs:
        return frozenset({self.generated, self.before})

    def __call__(self, seen: Seen) -> Score:
        _checked(self.role, "distance", seen.ids[self.role], self.distance)
        pairs = zip(seen[self.generated].texts, seen[self.before].texts, strict=True)
        agreement = (float(same_answer(after, before)) for after, before in pairs)
        score = Score.mean(dict(zip(seen.ids[self.role], agreement, strict=True)), "utility")
        return evolve(score, parts=_by_kind("locality", score.per_example, self.distance))
