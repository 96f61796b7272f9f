r"""Asking without the name: the subject of a question masked, under another name, scrambled; and the fact turned round.

    mask          "<another fact of this person>. What does this person play?"
    alias         another name that is known; initials
    scramble      inner letters of each word of the name shuffled; its words in another order
    reverse       "Of whom is it true: this person plays the harp?"         the name is asked for, not the keyword

A model may refuse a name and know the person. What is asked for is the same keyword under every transform but the last,
which is told the keyword and asks for the name: there the control is the same with a wrong keyword, which brings out
the name as well if only the question's form or its other words do.

These are probes of the library: there is no published reference to compare numbers with.

A transform can make a question that nobody can answer. So failures of the original count for nothing: with `original`
in the target a secret is asked for only in forms in which the original gives it away, and is left out if there is none.
The curve says how many of each form the original answered. The original's own success is 1 then, by this choice.

Where it misleads: a mask is only as good as the other facts that are known of the subject, and two people may share
them; a single known fact is a guess. A name that is also a word ("May") is masked wherever it stands, beginning upper
case.

Reconstructed: our reading of target masking (agentic unlearning, Sanyal and Mandal, 2025), of aliases (Shah et al. The
Unlearning Mirage, arXiv:2603.11266) and of reverse queries (RWKU, arXiv:2406.10890); all transforms are ours.

Deviations: 1. roles and nicknames are not invented: `aliases` of a secret are used as they are. 2. A transform that
would tell the keyword, or leave a word of the name, is not used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Literal

from attrs import evolve, field, frozen
from attrs.validators import deep_iterable, ge, gt, in_, le, min_len

from unlearnkit.attacks.attack import Outcome, Secret, Target, ThreatModel, check_secrets, mean, mentions, words_of
from unlearnkit.attacks.few_shot_rephrase import Form, outcome_of_forms, replies
from unlearnkit.draws import keyed_draw

UNNAMED = "this person"
"""Stands where a name stood."""

_ARTICLES = frozenset({"a", "an", "and", "de", "of", "the", "von"})

# --- transforms -------------------------------------------------------------------------------------------------------


def names_subject(text: str, secret: Secret) -> bool:
    """Whether the subject's name stands in a text, as whole words."""
    return _standing(secret.subject).search(text) is not None


def renamed(text: str, secret: Secret, name: str) -> str:
    """The subject under another name."""
    return _standing(secret.subject).sub(lambda _: name, text)


def unnamed(text: str, secret: Secret, by: str = UNNAMED) -> str | None:
    """The subject's names, and what stands of them alone, replaced; None if a word of the name is left."""
    for name in sorted((secret.subject, *secret.aliases), key=len, reverse=True):
        text = _standing(name).sub(by, text)
    for word in _name_words(secret):
        text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", by, text)
    left = {word.lower() for word in _name_words(secret)} - set(words_of(by))
    return None if left & set(words_of(text)) else text


def masked(secret: Secret, known: Sequence[Secret] = (), *, facts: int = 2, by: str = UNNAMED) -> str | None:
    """Other facts about the subject and the question, all without the name; None where that cannot be.

    Args:
        secret: what is asked for.
        known: among which the subject's other facts are looked for; one that tells the keyword is not used.
        facts: how many are told at most. 0: a blank alone.
        by: what stands for the name.
    """
    if not names_subject(secret.question, secret):
        return None
    told: list[str] = []
    for one in known:
        if len(told) < facts and one.subject == secret.subject and one.id != secret.id:
            text = unnamed(one.answer, secret, by)
            if text is not None and by in text and not mentions(text, secret):
                told.append(text)
    question = unnamed(secret.question, secret, by)
    return None if question is None or mentions(question, secret) else " ".join([*told, question])


def initials(secret: Secret) -> str | None:
    """The question with initials for the name; None if it is not named."""
    short = " ".join(f"{word[0]}." for word in secret.subject.split())
    return renamed(secret.question, secret, short) if names_subject(secret.question, secret) else None


def under_alias(secret: Secret) -> str | None:
    """The question with the first of the other names; None without any, or if the subject is not named."""
    named = names_subject(secret.question, secret) and secret.aliases
    return renamed(secret.question, secret, secret.aliases[0]) if named else None


def shuffled_letters(name: str, draw: Random) -> str:
    """The letters of each word but its first and last in an order that was drawn; not as before if there is another."""

    def inner(found: re.Match[str]) -> str:
        word = found.group()
        letters = list(word[1:-1])
        if len(set(letters)) < 2:
            return word
        while "".join(letters) == word[1:-1]:
            draw.shuffle(letters)
        return word[0] + "".join(letters) + word[-1]

    return re.sub(r"\w+", inner, name)


def shuffled_words(name: str, draw: Random) -> str:
    """The words of a name in an order that was drawn; another one than before if there is."""
    words = name.split()
    if len(set(words)) > 1:
        while words == name.split():
            draw.shuffle(words)
    return " ".join(words)


def scrambled(secret: Secret, how: Literal["letters", "words"], *, seed: int = 0) -> str | None:
    """The question with a scrambled name; None if it is not named, or its name stays as it is."""
    draw = Random(keyed_draw(2**32, seed, secret.id, how))
    name = (shuffled_letters if how == "letters" else shuffled_words)(secret.subject, draw)
    if name == secret.subject or not names_subject(secret.question, secret):
        return None
    return renamed(secret.question, secret, name)


def reverse(secret: Secret, keyword: str | None = None, *, known: Sequence[Secret] = ()) -> Form | None:
    """Who is it that this is true of? None if the answer does not name its subject, or its keyword is in the name.

    Args:
        secret: whose answer is told.
        keyword: told in place of the right one.
        known: other facts of the subject, told as well.
    """
    if not names_subject(secret.answer, secret):
        return None
    others = [one.answer for one in known if one.subject == secret.subject and one.id != secret.id]
    answer = secret.answer if keyword is None else secret.told(keyword)
    told = [unnamed(text, secret) for text in (answer, *others)]
    sought = evolve(secret, answer=secret.subject, keywords=(secret.subject, *secret.aliases), wrong=())
    texts = [text for text in told if text is not None and not mentions(text, sought)]
    if told[0] is None or texts[:1] != told[:1] or (keyword is None and not mentions(answer, secret)):
        return None
    return Form(f"Of whom is this true? {' '.join(texts)}", sought)


def _standing(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE if name.islower() else 0)


def _name_words(secret: Secret) -> tuple[str, ...]:
    """The words that make a name one: those that begin upper case, if any does, but no articles."""
    words = [word for name in (secret.subject, *secret.aliases) for word in re.findall(r"\w+", name)]
    upper = [word for word in words if not word[0].islower()] or words
    return tuple(dict.fromkeys(word for word in upper if word.lower() not in _ARTICLES))


# --- attacks ----------------------------------------------------------------------------------------------------------

Transform = Literal["mask", "blank", "alias", "initials", "letters", "words"]

TRANSFORMS: tuple[Transform, ...] = ("mask", "blank", "alias", "initials", "letters", "words")


@frozen(kw_only=True, eq=False)
class Unnamed:
    """Each question under the transforms that fit it; the worst counts.

    Attributes:
        transforms: "mask" tells other facts, "blank" tells nothing; "letters" and "words" are scrambled.
        known: facts about the subjects that the attacker knows, for masks.
        facts: of them told in a mask, at most.
        known_from: leak of the original's reply from which on it counts as answered.
        seed: of the scrambling.
    """

    transforms: tuple[Transform, ...] = field(
        default=TRANSFORMS, validator=[min_len(1), deep_iterable(in_(TRANSFORMS))]
    )
    known: tuple[Secret, ...] = ()
    facts: int = field(default=2, validator=ge(1))
    known_from: float = field(default=0.5, validator=[gt(0), le(1)])
    seed: int = 0
    threat: ThreatModel = field(default="text", init=False)

    def forms(self, secret: Secret) -> dict[str, Form]:
        """The question under each transform that fits it and does not tell the keyword."""
        found: dict[str, str | None] = {
            "mask": masked(secret, self.known, facts=self.facts),
            "blank": masked(secret, facts=0),
            "alias": under_alias(secret),
            "initials": initials(secret),
            "letters": scrambled(secret, "letters", seed=self.seed),
            "words": scrambled(secret, "words", seed=self.seed),
        }
        if found["mask"] == found["blank"]:
            found["mask"] = None
        return {
            name: Form(text, secret)
            for name in self.transforms
            if (text := found[name]) is not None and not mentions(text, secret)
        }

    def __call__(self, target: Target, secrets: Sequence[Secret]) -> Outcome:
        check_secrets(secrets)
        asked = {one: self.forms(one) for one in (*target.retained, *secrets)}
        answered: dict[str, float] = {}
        lacking = "its question does not name its subject, or no transform fits it"
        if target.original is not None:
            original = target.with_model(target.original)
            leaks = replies(original, {secret.id: asked[secret] for secret in secrets})
            for name in self.transforms:
                tried = {key: one[name].leak for key, one in leaks.items() if name in one}
                if tried:
                    answered[f"{name}, of the original"] = mean(tried)
            for secret in secrets:
                asked[secret] = {
                    name: form for name, form in asked[secret].items() if leaks[secret.id][name].leak >= self.known_from
                }
            lacking = "no transform of its question fits it and is answered by the original"
        outcome = outcome_of_forms(
            "asked without the name (library probe, no published reference)",
            target,
            secrets,
            asked.__getitem__,
            seed=self.seed,
            lacking=lacking,
        )
        return evolve(outcome, curve={**answered, **outcome.curve})


@frozen(kw_only=True, eq=False)
class ReverseQuery:
    """The fact is told and the name asked for. The control tells a wrong fact.

    Attributes:
        known: other facts of the subjects that the attacker knows, told as well.
        seed: of the wrong keyword.
    """

    known: tuple[Secret, ...] = ()
    seed: int = 0
    threat: ThreatModel = field(default="text", init=False)

    def __call__(self, target: Target, secrets: Sequence[Secret]) -> Outcome:
        check_secrets(secrets)

        def forms(secret: Secret) -> Mapping[str, Form]:
            found = reverse(secret, known=self.known)
            return {} if found is None else {"reverse": found}

        outcome = outcome_of_forms(
            "the fact told, the name asked for (library probe, no published reference)",
            target,
            secrets,
            forms,
            seed=self.seed,
            lacking="its answer does not name its subject and hold its keyword",
        )
        wrong: dict[str, dict[str, Form]] = {}
        for secret in secrets:
            if secret.id in outcome.after and secret.wrong:
                drawn = secret.wrong[keyed_draw(len(secret.wrong), self.seed, secret.id)]
                found = reverse(secret, drawn, known=self.known)
                if found is not None:
                    wrong[secret.id] = {"reverse": found}
        control = {key: one["reverse"].leak for key, one in replies(target, wrong).items()}
        budget = evolve(outcome.budget, queries=outcome.budget.queries + len(wrong), knows_answer=True)
        measure = "what was asked for in the text: before the keyword, under the attack the name"
        return evolve(outcome, measure=measure, comparable=False, budget=budget, control=control)
