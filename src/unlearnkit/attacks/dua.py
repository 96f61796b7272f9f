r"""DUA: one suffix for several questions that makes the model write the forgotten answers, tried out of its own reach.

    q* = argmin_q  sum over pairs (x, y) of  -log p(y | x + q)        one q for all pairs, by greedy coordinate descent

Where the gradients come from, and how far the questions it is tried on lie from those it was made on, are two settings
each reported by itself:

    searched_on     "unlearned"      gradients and losses of the model that is attacked
                    "original"       of the model before unlearning; the other one is only sent text
    tried_on        "within_query"   the questions it was made on
                    "cross_query"    it was made on paraphrases, and is tried on the questions as they were taught
                    "cross_target"   it was made on other subjects, and is tried on these

Within and across questions the suffix is made for one subject, with its answers: such an attacker knows what it looks
for, and can force it. `control` is the same search with random wrong answers. Across subjects nothing is known of what
is looked for, so there is nothing to force. In all of them a retrained oracle is searched in the same way (one that is
searched on the original takes the same suffixes).

`StaticAttack` asks given questions without a search: what the gradients are to be compared with.

Paper: Yuan, Jin, Cao, Chen, Liu, Zhao. Towards Robust Knowledge Unlearning: An Adversarial Framework for Assessing and
Improving Unlearning Robustness in Large Language Models. AAAI 2025, arXiv:2408.10682.

Reconstructed: from the paper; the released code holds only the training method of the same paper. Ours: the search is
that of `gcg`, with its defaults; a subject's suffix is made from the secrets that are about it.

Deviations: the paper measures ROUGE-L recall; here it is what the target's `leak` says (pass `leak=recalls`). The
paper's cross-query questions are written by a language model; here they are the secrets' paraphrases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from attrs import evolve, field, frozen
from attrs.validators import ge, in_

from unlearnkit.attacks.attack import (
    Budget,
    Outcome,
    Secret,
    Target,
    ThreatModel,
    check_secrets,
    mean,
    mentions,
    words_of,
)
from unlearnkit.attacks.gcg import (
    Found,
    allowed_tokens,
    find_slot,
    first_tokens,
    misled,
    one_hot_gradient,
    search,
    summed_loss,
)
from unlearnkit.draws import keyed_draw
from unlearnkit.errors import DataError, NeedError
from unlearnkit.models.causal import CausalLM, unguarded

SearchedOn = Literal["unlearned", "original"]
TriedOn = Literal["within_query", "cross_query", "cross_target"]


@frozen(eq=False)
class Suffix:
    """Text that is put after questions, and the search that found it."""

    text: str
    found: Found

    def asked(self, question: str) -> str:
        """A question with it; with an empty suffix the question as it is."""
        return f"{question}{self.text}"


def universal_suffix(
    target: Target,
    model: CausalLM,
    pairs: Sequence[tuple[str, str]],
    *,
    length: int,
    steps: int,
    candidates: int = 512,
    top: int = 256,
    seed: int = 0,
) -> Suffix:
    """One suffix for all of some questions with the answers they are to get.

    Args:
        target: gives prompts their form; its model is not asked.
        model: whose losses and gradients are followed.
        pairs: questions and answers.
        length: tokens of the suffix; 0 is none.
        steps, candidates, top: see `gcg.search`.
        seed: of the draws.

    Raises:
        DataError: no pairs.
    """
    if not pairs:
        raise DataError("there are no questions to make a suffix for.")
    if length == 0:
        return Suffix("", Found(torch.empty(0, dtype=torch.int64), 0.0, (), 0, 0))
    allowed = allowed_tokens(target.tokenizer, model.vocabulary)
    slots = [find_slot(target, question, allowed) for question, _ in pairs]
    prompts = [slot.forcing(answer) for slot, (_, answer) in zip(slots, pairs, strict=True)]
    generator = torch.Generator().manual_seed(keyed_draw(2**62, seed, *(question for question, _ in pairs)))
    found = search(
        first_tokens(slots[0], allowed, length, generator)[None],
        partial(summed_loss, model, prompts, loss="nll", batch=target.batch),
        partial(one_hot_gradient, model, prompts, loss="nll"),
        allowed,
        steps=steps,
        candidates=candidates,
        top=top,
        generator=generator,
        keep=slots[0].survives,
    )
    # Each candidate and each gradient is of all prompts.
    spent = evolve(found, scored=found.scored * len(prompts), gradients=found.gradients * len(prompts))
    return Suffix(slots[0].asked_ids(found.ids)[len(slots[0].question) :], spent)


def check_disjoint(made_on: Sequence[Secret], asked: Sequence[str], tried_on: Sequence[Secret], scope: TriedOn) -> None:
    """Refuse a suffix that was made on what it is tried on, where it should not have been.

    Args:
        made_on: what it was made on.
        asked: in which words.
        tried_on: what it is tried on, in the words they were taught in.
        scope: "within_query" lets everything pass.

    Raises:
        DataError: names the question or the subject.
    """
    if scope == "within_query":
        return
    own = {words_of(secret.question): secret.id for secret in tried_on}
    for question in asked:
        if (found := own.get(words_of(question))) is not None:
            raise DataError(f"{question!r} is what the suffix is made on, and it is tried on it as {found!r}: {scope}.")
    subjects = {secret.subject for secret in tried_on}
    if scope == "cross_target" and (both := sorted(subjects & {secret.subject for secret in made_on})):
        raise DataError(f"the suffix is made on {both[0]!r} and tried on it: give `others` about other subjects.")


@frozen(kw_only=True, eq=False)
class DUA:
    """A suffix for each subject, or one made on others.

    Attributes:
        searched_on, tried_on: see the top of the file.
        others: what the suffix is made on, if that is other subjects.
        length, steps, candidates, top, seed: see `universal_suffix`.
    """

    searched_on: SearchedOn = field(default="unlearned", validator=in_(("unlearned", "original")))
    tried_on: TriedOn = field(default="within_query", validator=in_(("within_query", "cross_query", "cross_target")))
    others: tuple[Secret, ...] = ()
    length: int = field(default=20, validator=ge(0))
    steps: int = field(default=250, validator=ge(0))
    candidates: int = field(default=512, validator=ge(1))
    top: int = field(default=256, validator=ge(1))
    seed: int = 0

    @property
    def threat(self) -> ThreatModel:
        """What the attacker has of the target: "weights", or "text" if it has the original to search on."""
        return "weights" if self.searched_on == "unlearned" else "text"

    def __call__(self, target: Target, secrets: Sequence[Secret]) -> Outcome:
        check_secrets(secrets)
        # Who has the weights asks the model without a guard; who has not meets it as it is.
        asked = target.with_model(target.weights) if self.searched_on == "unlearned" else target
        model = asked.model if self.searched_on == "unlearned" else original_of(target)
        assert isinstance(model, CausalLM)
        able = [one for one in secrets if self.tried_on != "cross_query" or one.paraphrases]
        left_out = {one.id: "it has no paraphrases" for one in secrets if one not in able}
        if not able:
            raise NeedError("no secret has paraphrases to make a suffix on. Give some, or try it within the questions.")
        knows = self.tried_on != "cross_target"
        questions: dict[str, str] = {}
        misleading: dict[str, tuple[str, Secret]] = {}
        suffixes: list[Suffix] = []
        for group in self._groups(able):
            own = self._suffix(target, model, group)
            questions |= {one.id: own.asked(one.question) for one in group}
            suffixes.append(own)
            wrong = [other for one in group if (other := misled(one, self.seed)) is not None]
            if knows and wrong:
                forcing = self._suffix(target, model, wrong)
                misleading |= {one.id: (forcing.asked(one.question), one) for one in wrong}
                suffixes.append(forcing)
        after = asked.leaks(able, [questions[one.id] for one in able])
        said = asked.answers([question for question, _ in misleading.values()])
        kept = target.kept()
        with_it = None
        if kept is not None:
            with_it = mean(asked.leaks(target.retained, [suffixes[0].asked(one.question) for one in target.retained]))
        return Outcome(
            attack=f"dua searched on the {self.searched_on}, {self.tried_on}, {self.length} tokens, {self.steps} steps",
            threat=self.threat,
            budget=Budget(
                queries=len(able)
                + len(said)
                + (sum(one.found.scored for one in suffixes) if self.searched_on == "unlearned" else 0),
                gradient_steps=sum(one.found.gradients for one in suffixes),
                model_calls=0 if self.searched_on == "unlearned" else sum(one.found.scored for one in suffixes),
                knows_answer=knows,
            ),
            seed=self.seed,
            before=target.leaks(able),
            after=after,
            found=dict(zip(after, asked.answers([questions[one.id] for one in able]), strict=True)),
            control={one.id: mentions(text, one) for text, (_, one) in zip(said, misleading.values(), strict=True)},
            kept=None if kept is None or with_it is None else (kept, with_it),
            left_out=left_out,
        )

    def _groups(self, secrets: Sequence[Secret]) -> list[list[Secret]]:
        """What one suffix is tried on: the secrets of a subject, or all."""
        if self.tried_on == "cross_target":
            return [list(secrets)]
        subjects = dict.fromkeys(secret.subject for secret in secrets)
        return [[one for one in secrets if one.subject == subject] for subject in subjects]

    def _suffix(self, target: Target, model: CausalLM, tried_on: Sequence[Secret]) -> Suffix:
        """The same code whichever model it is searched on."""
        made_on = self.others if self.tried_on == "cross_target" else tried_on
        pairs = [
            (question, one.answer)
            for one in made_on
            for question in (one.paraphrases if self.tried_on == "cross_query" else (one.question,))
        ]
        check_disjoint(made_on, [question for question, _ in pairs], tried_on, self.tried_on)
        return universal_suffix(
            target,
            model,
            pairs,
            length=self.length,
            steps=self.steps,
            candidates=self.candidates,
            top=self.top,
            seed=self.seed,
        )


def original_of(target: Target) -> CausalLM:
    """The model before unlearning, to follow gradients of.

    Raises:
        NeedError: none was given, or it is no model of transformers.
    """
    original = None if target.original is None else unguarded(target.original)
    if not isinstance(original, CausalLM):
        raise NeedError("this attack follows the model before unlearning: pass it as `original`, one of transformers.")
    return original


@frozen(kw_only=True, eq=False)
class StaticAttack:
    """Questions that are given, asked as they are; what comes out is their mean.

    Attributes:
        questions: of each secret, by its id. Default: its paraphrases.
    """

    questions: Mapping[str, tuple[str, ...]] = field(factory=dict)
    threat: ThreatModel = field(default="text", init=False)

    def __call__(self, target: Target, secrets: Sequence[Secret]) -> Outcome:
        check_secrets(secrets)
        given = {one.id: self.questions.get(one.id, one.paraphrases) for one in secrets}
        able = [one for one in secrets if given[one.id]]
        if not able:
            raise NeedError(
                "there are no questions to ask: give some by the secrets' ids, or secrets with paraphrases."
            )
        answers = {one.id: target.answers(given[one.id]) for one in able}
        leaks = {one.id: [target.leak(text, one) for text in answers[one.id]] for one in able}
        return Outcome(
            attack="static questions",
            threat=self.threat,
            budget=Budget(queries=sum(map(len, answers.values()))),
            measure="a keyword of the answer in the text, mean over questions",
            before=target.leaks(able),
            after={name: sum(values) / len(values) for name, values in leaks.items()},
            found={name: answers[name][values.index(max(values))] for name, values in leaks.items()},
            left_out={one.id: "no question was given for it" for one in secrets if one not in able},
        )
