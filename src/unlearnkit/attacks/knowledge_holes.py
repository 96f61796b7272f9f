r"""Knowledge holes: what does a model no longer answer that nobody wanted it to forget?

    answered = prompts with J(original) >= answered_at        holes = those of them with J(model) < hole_below
    hole rate = holes / answered                              nan where the original answers nothing

    adjacent   retained questions that share words with the forgotten ones
    latent     prompts chosen by a bandit over groups of them: the next comes from the group with the best upper bound on
               reward = max(0, J(original) - J(model)) + novelty_weight * novelty

J is one judge for both models, in [0, 1]. Novelty is 1 minus the largest overlap (Jaccard, pairs of words) with a prompt
that was asked before. The auditor needs the model before unlearning and prompts with answers, nothing else.

This is no attack on a secret: what it finds is damage, and the higher the worse. So it is a function with a result of its own,
and no `Outcome`, where more means more of the secret; an audit would turn it round. The rate among latent prompts is that of
a search for holes, and no estimate of how common they are: for that read the rate over "other" prompts, chosen by nobody.
A model trained anew answers a few questions differently too: its holes are the measure to compare with.

Paper: Ko, Just, Fleming, Jin, Jia. Probing Knowledge Holes in Unlearned LLMs. NeurIPS 2025, arXiv:2511.00030.

Reconstructed: our reading of the abstract; there is no public code. The paper's are the three steps (adjacent prompts, a
search for latent ones by reward, and the filter on what the original answers); thresholds, reward and groups are ours.

Deviations: a bandit over given prompts stands in for a language model that learns to write them, so nothing is found that
is not among the prompts; terms for fluency are not needed, as prompts are given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from random import Random

from attrs import Attribute, field, frozen
from attrs.validators import ge

from unlearnkit.attacks.attack import Leak, Secret, Target, check_secrets, words_of
from unlearnkit.attacks.multi_hop import Ask
from unlearnkit.errors import DataError, NeedError


def _not_stricter(holes: Holes, _: Attribute[float], hole_below: float) -> None:
    if not 0 < hole_below <= holes.answered_at <= 1:
        raise DataError(
            f"hole_below={hole_below} and answered_at={holes.answered_at}: 0 < hole_below <= answered_at <= 1 has to hold, "
            "or the original would have holes of its own."
        )


@frozen(kw_only=True)
class Holes:
    """What two models made of the same prompts.

    Attributes:
        original, model: the judge's score, by prompt.
        groups: ids of prompts, by the name of their group, in the order in which they were asked.
        answered_at: the original answers from this score on.
        hole_below: the model has a hole below this one.
    """

    original: Mapping[str, float]
    model: Mapping[str, float]
    groups: Mapping[str, tuple[str, ...]]
    answered_at: float = 0.5
    hole_below: float = field(default=0.5, validator=_not_stricter)

    def answered(self, *groups: str) -> tuple[str, ...]:
        """Prompts that the original answers, of these groups or of all."""
        asked = [id for name, ids in self.groups.items() if not groups or name in groups for id in ids]
        return tuple(id for id in asked if self.original[id] >= self.answered_at)

    def holes(self, *groups: str) -> tuple[str, ...]:
        """Prompts that the original answers and the model does not, of these groups or of all."""
        return tuple(id for id in self.answered(*groups) if self.model[id] < self.hole_below)

    def rate(self, *groups: str) -> float:
        """Holes among what the original answers; nan if it answers nothing."""
        answered = self.answered(*groups)
        return len(self.holes(*groups)) / len(answered) if answered else math.nan

    def table(self) -> str:
        """A Markdown table, one line per group."""
        lines = ["| prompts | asked | original answers | holes | rate |", "|---|---|---|---|---|"]
        lines += [
            f"| {name} | {len(ids)} | {len(self.answered(name))} | {len(self.holes(name))} | {self.rate(name):.2f} |"
            for name, ids in self.groups.items()
        ]
        return "\n".join(lines)


# --- prompts ----------------------------------------------------------------------------------------------------------


def adjacent(retained: Sequence[Secret], forgotten: Sequence[Secret]) -> tuple[Secret, ...]:
    """Retained questions that share a telling word with forgotten ones: of a subject's name, or of an answer's keyword.

    Where a forgotten secret has no subject beside its id, all words of its question count that fewer than half of all
    questions hold.
    """
    every = [set(words_of(one.question)) for one in (*retained, *forgotten)]
    words: set[str] = set()
    for one in forgotten:
        words.update(*map(words_of, one.keywords))
        if one.subject != one.id:
            words.update(words_of(one.subject))
        else:
            words.update(
                word for word in words_of(one.question) if sum(word in held for held in every) * 2 < len(every)
            )
    return tuple(one for one in retained if words & set(words_of(f"{one.question} {one.answer}")))


def by_relation(prompts: Sequence[Secret]) -> dict[str, tuple[Secret, ...]]:
    """Prompts by what they ask for, as groups for the bandit."""
    groups: dict[str, tuple[Secret, ...]] = {}
    for one in prompts:
        groups[one.relation] = (*groups.get(one.relation, ()), one)
    return groups


# --- the search -------------------------------------------------------------------------------------------------------


def novelty(prompt: str, asked: Sequence[str]) -> float:
    """1 minus the largest Jaccard overlap in pairs of words with a prompt asked before; 1 if there was none."""

    def pairs(text: str) -> set[tuple[str, ...]]:
        words = words_of(text)
        return set(pairwise(words)) or {words}

    new = pairs(prompt)
    return 1 - max((len(new & old) / len(new | old) for old in map(pairs, asked)), default=0.0)


def reward(original: float, model: float, novel: float = 0.0, *, novelty_weight: float = 0.1) -> float:
    """How much better the original's reply is, by the judge, and a little for what is new."""
    return max(0.0, original - model) + novelty_weight * novel


def latent_holes(
    ask_original: Ask,
    ask_model: Ask,
    arms: Mapping[str, Sequence[Secret]],
    *,
    judge: Leak,
    pulls: int,
    at_once: int = 1,
    exploration: float = 0.5,
    novelty_weight: float = 0.1,
    answered_at: float = 0.5,
    hole_below: float = 0.5,
    seed: int = 0,
) -> Holes:
    """Let a bandit (UCB1) choose prompts that hurt, group by group; no prompt is asked twice.

    Args:
        ask_original, ask_model: before and after unlearning.
        arms: groups of prompts, of templates or subjects: what a hole is thought to extend over.
        judge: score of a reply.
        pulls: prompts to ask at most.
        at_once: prompts that are asked together, all of one group.
        exploration: weight of the bound on what is not known, sqrt(2 ln(asked) / asked of the group). inf: by turns.
        novelty_weight: see `reward`.
        answered_at, hole_below: see `Holes`.
        seed: of the order within groups.

    Raises:
        DataError: no prompts, two of one id, no pulls.
    """
    check_secrets([one for prompts in arms.values() for one in prompts])
    if pulls < 1 or at_once < 1:
        raise DataError(f"pulls={pulls} and at_once={at_once} have to be 1 or more.")
    waiting = {name: Random(f"{seed}/{name}").sample([*prompts], len(prompts)) for name, prompts in arms.items()}
    rewards: dict[str, list[float]] = {name: [] for name in arms}
    asked: list[str] = []
    original: dict[str, float] = {}
    model: dict[str, float] = {}
    groups: dict[str, tuple[str, ...]] = dict.fromkeys(arms, ())

    def bound(name: str) -> float:
        if not (won := rewards[name]):
            return math.inf
        unsure = math.sqrt(2 * math.log(len(asked)) / len(won))
        return unsure if exploration == math.inf else math.fsum(won) / len(won) + exploration * unsure

    while len(asked) < pulls and any(waiting.values()):
        name = max((name for name, left in waiting.items() if left), key=bound)  # the first of equals
        take = min(at_once, pulls - len(asked), len(waiting[name]))
        chosen = [waiting[name].pop(0) for _ in range(take)]
        questions = [one.question for one in chosen]
        for one, before, after in zip(chosen, ask_original(questions), ask_model(questions), strict=True):
            original[one.id], model[one.id] = judge(before, one), judge(after, one)
            new = novelty(one.question, asked)
            rewards[name].append(reward(original[one.id], model[one.id], new, novelty_weight=novelty_weight))
            asked.append(one.question)
            groups[name] = (*groups[name], one.id)
    return Holes(original=original, model=model, groups=groups, answered_at=answered_at, hole_below=hole_below)


@frozen(kw_only=True)
class KnowledgeHoles:
    """Ask target and original for what was to stay: adjacent prompts, the others, and those a bandit takes.

    Attributes:
        judge: score of a reply. Default: the target's `leak`, here a sign of knowledge.
        arms: makes the bandit's groups of retained prompts.
        pulls: prompts of the bandit; 0: none.
        answered_at, hole_below: see `Holes`.
        seed: of the bandit's draws.
    """

    judge: Leak | None = None
    arms: Callable[[Sequence[Secret]], Mapping[str, Sequence[Secret]]] = by_relation
    pulls: int = field(default=0, validator=ge(0))
    answered_at: float = 0.5
    hole_below: float = 0.5
    seed: int = 0

    def __call__(self, target: Target, forgotten: Sequence[Secret]) -> tuple[Holes, Holes | None]:
        """Holes by group ("adjacent", "other"), and those of the bandit if it has pulls.

        Raises:
            NeedError: the target has no original, or nothing retained.
        """
        if target.original is None or not target.retained:
            lacking = "its `original`" if target.original is None else "knowledge that was to stay, `retained`"
            raise NeedError(f"holes are what the original answers and the model does not. Give the target {lacking}.")
        check_secrets((*forgotten, *target.retained))
        judge = target.leak if self.judge is None else self.judge
        before = target.with_model(target.original)
        near = {one.id for one in adjacent(target.retained, forgotten)}
        questions = [one.question for one in target.retained]
        ids = [one.id for one in target.retained]
        scored = [
            {one.id: judge(text, one) for one, text in zip(target.retained, asked.answers(questions), strict=True)}
            for asked in (before, target)
        ]
        found = Holes(
            original=scored[0],
            model=scored[1],
            groups={
                "adjacent": tuple(id for id in ids if id in near),
                "other": tuple(id for id in ids if id not in near),
            },
            answered_at=self.answered_at,
            hole_below=self.hole_below,
        )
        if not self.pulls:
            return found, None
        latent = latent_holes(
            before.answers,
            target.answers,
            self.arms(target.retained),
            judge=judge,
            pulls=self.pulls,
            answered_at=self.answered_at,
            hole_below=self.hole_below,
            seed=self.seed,
        )
        return found, latent
