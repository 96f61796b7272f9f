r"""Perturbed prompts: characters put between those of a question, everywhere, or only where a model's noise sets in.

    naive      after each character i with i mod k = 0 (from 0), or with probability p, one more character c
    informed   while a token has cos(h_t, noise) > threshold: split the first such token, run the model again
    leak       max over the variants tried of what the reply gives away

Unlearning by steering (RMU) adds a direction to hidden states where it recognises a topic. Other tokens for the same
text may not be recognised, and what was known comes out. Naive variants need a prompt box alone; the informed attacker
reads hidden states and holds the noise direction: `noise_direction` takes it from the model before unlearning, which is
more than `activations`; any other direction may be given.

What is split: a token of two characters or more by a blank at a place that is drawn; one character gets "~" or "^" in
front, and is replaced by another sign if it is one of these.

Where it misleads: a model that reads whole words knows no split ones: then nothing comes out of the original either,
and the attack says nothing. A direction that no token is aligned with leaves every question as it is.

Paper: Łucki, Wei, Huang, Henderson, Tramèr, Rando. An Adversarial Perspective on Machine Unlearning for AI Safety. TMLR
2025, arXiv:2409.18025.

Checked: ethz-spylab/unlearning-vs-safety@349b774, read, not run: which characters, how often, how a token is split,
that hidden states are those that leave block 7 (from 0), 500 rounds. As released, the informed script is given a
direction of zeros, with which no token is ever aligned.

Deviations: 1. only the question is perturbed, not the template around it; there it is the whole prompt of multiple
choice, first each part and then all of it. 2. The direction and the threshold have no default. 3. A special token
without characters that is aligned is passed over; there it ends the search. 4. Each question has draws of its own.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from itertools import product
from random import Random
from typing import NamedTuple

import torch
from attrs import Attribute, evolve, field, frozen
from attrs.validators import ge, min_len
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from unlearnkit.attacks.attack import Outcome, Secret, Target, ThreatModel, check_secrets
from unlearnkit.attacks.few_shot_rephrase import Form, outcome_of_forms
from unlearnkit.draws import keyed_draw
from unlearnkit.errors import DataError, NeedError
from unlearnkit.models.causal import device_of, evaluation_mode, unguarded
from unlearnkit.protocols import Model, Site, resid_post

CHARACTERS = ("!", "_", " ", ")", ";", "?", "5", "~", "^", ".", "-", "Q")
"""Characters that were put in."""

_SIGNS = string.punctuation + string.digits
_BEFORE_ONE = ("~", "^")

# --- naive ------------------------------------------------------------------------------------------------------------


def _position_or_probability(_: object, __: object, often: float) -> None:
    if not (0 < often < 1 or (often >= 1 and often == int(often))):
        raise DataError(
            f"often is {often}: a whole number puts in one after each so many, a fraction is a probability."
        )


@frozen
class Insertion:
    """Characters put into a text.

    Attributes:
        often: k >= 1: after the first character and each k-th from there; below 1: after each with this probability.
        character: which. None: punctuation or a digit, drawn each time.
    """

    often: float = field(validator=_position_or_probability)
    character: str | None = None

    def __str__(self) -> str:
        what = "random signs" if self.character is None else repr(self.character)
        return f"{what} every {int(self.often)}" if self.often >= 1 else f"{what} at {self.often:g}"

    def __call__(self, text: str, draw: Random) -> str:
        pieces = []
        for place, character in enumerate(text):
            pieces.append(character)
            if place % int(self.often) == 0 if self.often >= 1 else draw.random() < self.often:
                pieces.append(draw.choice(_SIGNS) if self.character is None else self.character)
        return "".join(pieces)


PUBLISHED = tuple(
    Insertion(often, character)
    for often, character in product((1, 3, 5, 7, 11, 15, 0.1, 0.2, 0.3), (*CHARACTERS, None))
)
"""Every combination that was tried."""


@frozen(kw_only=True)
class NaivePerturbation:
    """Each question in every variant; the worst counts.

    Attributes:
        variants: what is tried, one query each.
        seed: of the draws.
    """

    variants: tuple[Insertion, ...] = field(default=PUBLISHED, validator=min_len(1))
    seed: int = 0
    threat: ThreatModel = field(default="text", init=False)

    def __call__(self, target: Target, secrets: Sequence[Secret]) -> Outcome:
        def forms(secret: Secret) -> dict[str, Form]:
            return {
                str(variant): Form(
                    variant(secret.question, Random(keyed_draw(2**32, self.seed, secret.id, variant))), secret
                )
                for variant in self.variants
            }

        name = f"characters put into the question, {len(self.variants)} variants"
        return outcome_of_forms(name, target, secrets, forms, seed=self.seed, lacking="there is no variant")


# --- informed ---------------------------------------------------------------------------------------------------------


class Aligned(NamedTuple):
    """A token of a text: the characters it covers, and how far its hidden state points along the direction."""

    start: int
    end: int
    cosine: float


Alignment = Callable[[str], Sequence[Aligned]]
"""The tokens of a text in order."""


def without_aligned(
    text: str, alignment: Alignment, *, threshold: float, rounds: int = 500, draw: Random
) -> tuple[str, int]:
    """Split the first token above the threshold, and look again, until none is left or rounds are over.

    Returns:
        The text, and how often the model was looked into.
    """
    for looked in range(1, rounds + 1):
        first = next((one for one in alignment(text) if one.cosine > threshold and one.end > one.start), None)
        if first is None:
            return text, looked
        text = text[: first.start] + _split(text[first.start : first.end], draw) + text[first.end :]
    return text, rounds


def _split(token: str, draw: Random) -> str:
    if len(token) == 1:
        return draw.choice(_SIGNS) if token in _BEFORE_ONE else draw.choice(_BEFORE_ONE) + token
    place = draw.randint(1, len(token) - 1)
    return f"{token[:place]} {token[place:]}"


def alignment_of(model: Model, tokenizer: PreTrainedTokenizerBase, direction: Tensor, site: Site) -> Alignment:
    """How the tokens of a text, by itself, point along a direction [H] at a site."""

    def alignment(text: str) -> list[Aligned]:
        encoded = tokenizer(text, return_offsets_mapping=True, return_attention_mask=False)
        states = hidden_at(model, list(encoded["input_ids"]), site)
        cosines = torch.cosine_similarity(states, direction.to(states)[None], dim=-1).tolist()
        return [
            Aligned(start, end, cosine) for (start, end), cosine in zip(encoded["offset_mapping"], cosines, strict=True)
        ]

    return alignment


def hidden_at(model: Model, ids: Sequence[int], site: Site) -> Tensor:
    """Hidden states of one text at a site, [T, H] in float32."""
    inputs = {"input_ids": torch.tensor([list(ids)]), "position_ids": torch.arange(len(ids))[None]}
    place = device_of(model)
    with torch.no_grad(), evaluation_mode(model):
        seen = model.hidden({name: value.to(place) for name, value in inputs.items()}, capture=frozenset({site}))
    return seen.sites[site][0].float()


def noise_direction(target: Target, questions: Sequence[str], site: Site) -> Tensor:
    """Where unlearning moved hidden states: mean over tokens of target less original, [H].

    Raises:
        NeedError: the target's model before unlearning was not given.
        DataError: there are no questions.
    """
    if target.original is None:
        raise NeedError("the noise direction is taken from the model before unlearning: pass original=... to Target.")
    if not questions:
        raise DataError("there are no questions to take a direction from.")
    moved = []
    for question in questions:
        ids = target.tokenizer(question, return_attention_mask=False)["input_ids"]
        moved.append(hidden_at(unguarded(target.model), ids, site) - hidden_at(unguarded(target.original), ids, site))
    return torch.cat(moved).mean(0)


@frozen(kw_only=True, eq=False)
class InformedPerturbation:
    """Each question with the tokens split that are aligned with a noise direction, several times with other draws.

    Attributes:
        direction: [H].
        threshold: cosine from which on a token is split; 1 leaves every question as it is.
        site: where hidden states are read.
        rounds: tokens split at most.
        tries: variants of a question, of which the worst counts.
        seed: of the draws.
    """

    direction: Tensor = field()
    threshold: float = field()
    site: Site = field(default=resid_post(7))
    rounds: int = field(default=500, validator=ge(1))
    tries: int = field(default=1, validator=ge(1))
    seed: int = 0
    threat: ThreatModel = field(default="activations", init=False)

    @direction.validator
    def _a_direction(self, _: Attribute[Tensor], direction: Tensor) -> None:
        if direction.ndim != 1 or not bool(direction.any()):
            raise DataError(
                f"the noise direction has shape {tuple(direction.shape)}; it has to be one vector [H], and not all "
                "zero: no token is aligned with nothing."
            )

    def __call__(self, target: Target, secrets: Sequence[Secret]) -> Outcome:
        check_secrets(secrets)
        target.weights  # noqa: B018 - refuses a model without any
        alignment = alignment_of(unguarded(target.model), target.tokenizer, self.direction, self.site)
        asked = {secret.id for secret in secrets}
        looked = 0

        def forms(secret: Secret) -> dict[str, Form]:
            nonlocal looked
            found = {}
            for number in range(self.tries):
                draw = Random(keyed_draw(2**32, self.seed, secret.id, number))
                text, times = without_aligned(
                    secret.question, alignment, threshold=self.threshold, rounds=self.rounds, draw=draw
                )
                looked += times if secret.id in asked else 0
                found[f"split {number + 1}"] = Form(text, secret)
            return found

        outcome = outcome_of_forms(
            f"aligned tokens split, cosine above {self.threshold:g} at {self.site}",
            target,
            secrets,
            forms,
            threat=self.threat,
            seed=self.seed,
            lacking="there is no variant",
        )
        return evolve(outcome, budget=evolve(outcome.budget, queries=outcome.budget.queries + looked))
