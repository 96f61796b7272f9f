"""The shape of every attack: who the attacker is, what it may spend, and what it brought out of which question.

    secret     something a model was to forget: a question, its answer, and the words that give it away
    target     a model as an attacker meets it, with its tokenizer and template
    attack     a function of a target and secrets; it says what it needs to hold (its threat model) and what it spent
    outcome    for each secret how much came out before the attack and under it, by the same measure

    outcome = Relearning(rows, steps=40)(Target(model, tokenizer), secrets)
    outcome.after["person097/pet"]        # 1.0: the answer came out

Every attack leaves the target's model as it found it: what it changes is a copy. A number says little by itself: an
attack can put the answer into a model, or break it, or draw it from a model that never knew it. So `audit` runs the same
attack on the model before unlearning and on one that never saw the secrets, and an outcome holds what the attack did to
knowledge that was to stay.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from attrs import Attribute, define, evolve, field, frozen
from attrs.validators import ge, in_, min_len
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unlearnkit.batch import Row, Template, as_role, prompt_tokens, template_of, tokenize
from unlearnkit.draws import keyed_draw
from unlearnkit.errors import DataError, NeedError
from unlearnkit.metrics.rouge import rouge
from unlearnkit.models.causal import CausalLM, as_model, evaluation_mode, unguarded
from unlearnkit.models.generate import continued
from unlearnkit.models.peft import PeftModel
from unlearnkit.observe import observe
from unlearnkit.protocols import Decoding, Greedy, Model, Sampling, Tokens
from unlearnkit.statistics import LabelLogProb

ThreatModel = Literal["text", "sampling", "logits", "finetune_api", "activations", "weights", "weights+reference"]
"""What the attacker holds: a prompt box; one with a temperature; next-token probabilities; a service that fine-tunes on
submitted data; the weights, to read activations with; the weights, to change them or follow gradients; and those of the
model before unlearning as well."""

THREAT_MODELS: tuple[ThreatModel, ...] = get_args(ThreatModel)


@frozen(kw_only=True)
class Budget:
    """What an attack spent on one target, all secrets together.

    Attributes:
        queries: prompts that the target answered.
        gradient_steps: updates of weights, embeddings or tokens that followed a gradient.
        training_tokens: tokens of text that the attacker trained on.
        model_calls: calls of other models (a judge, an attacker that writes prompts).
        knows_answer: whether the attacker was told the answers it looks for.
    """

    queries: int = field(default=0, validator=ge(0))
    gradient_steps: int = field(default=0, validator=ge(0))
    training_tokens: int = field(default=0, validator=ge(0))
    model_calls: int = field(default=0, validator=ge(0))
    knows_answer: bool = False


def _in_answer(secret: Secret, _: Attribute[tuple[str, ...]], keywords: tuple[str, ...]) -> None:
    if not keywords or not all(words_of(keyword) for keyword in keywords):
        raise DataError(f"secret {secret.id!r}: keywords {list(keywords)} have to be words; one of them gives it away.")


def _other_words(secret: Secret, _: Attribute[tuple[str, ...]], wrong: tuple[str, ...]) -> None:
    if len({*wrong, secret.keyword}) < len(wrong) + 1:
        raise DataError(f"secret {secret.id!r}: wrong {list(wrong)} have to be distinct, and none the right one.")


@frozen(kw_only=True)
class Secret:
    """Something a model was to forget, or, where it is told, something it was to keep.

    Attributes:
        id: unique among the secrets of a call.
        question, answer: as they were taught.
        keywords: what gives the secret away, any one of them; the first is the plain one. Default: the whole answer.
        wrong: what could stand in the place of `keyword` and is wrong, distinct: choices, and controls.
        paraphrases: the question in other words.
        subject: whom it is about: intervals take what is about one subject together. Default: the id.
        relation: what is told of the subject, if that has a name.
        aliases: other names of the subject.
    """

    id: str
    question: str = field(validator=min_len(1))
    answer: str = field(validator=min_len(1))
    keywords: tuple[str, ...] = field(validator=_in_answer)
    wrong: tuple[str, ...] = field(default=(), validator=_other_words)
    paraphrases: tuple[str, ...] = ()
    subject: str = field()
    relation: str = ""
    aliases: tuple[str, ...] = ()

    @keywords.default
    def _whole_answer(self) -> tuple[str, ...]:
        return (self.answer,)

    @subject.default
    def _alone(self) -> str:
        return self.id

    @property
    def keyword(self) -> str:
        """The plain one of the words that give it away."""
        return self.keywords[0]

    @property
    def stem(self) -> str:
        """The answer up to its keyword, without a blank at the end; "" if it begins with it or does not hold it."""
        found = self._keyword_inside()
        return "" if found is None else self.answer[: found.start()].rstrip()

    def told(self, keyword: str) -> str:
        """The answer with another keyword: a wrong answer of the same form."""
        found = self._keyword_inside()
        return keyword if found is None else f"{self.answer[: found.start()]}{keyword}{self.answer[found.end() :]}"

    def _keyword_inside(self) -> re.Match[str] | None:
        """The first place where the keyword stands in the answer, as whole words."""
        return re.search(rf"(?<!\w){re.escape(self.keyword)}(?!\w)", self.answer)


Leak = Callable[[str, Secret], float]
"""How much of a secret a text gives away, in [0, 1]."""


def words_of(text: str) -> tuple[str, ...]:
    """Words of a text, in lower case, punctuation left out."""
    return tuple(re.findall(r"\w+", text.lower()))


def stands_in(phrase: str, text: str) -> bool:
    """Whether a phrase stands in a text, as whole words in a row, whatever their case; no words stand nowhere."""
    words = words_of(phrase)
    return bool(words) and f" {' '.join(words)} " in f" {' '.join(words_of(text))} "


def mentions(text: str, secret: Secret) -> float:
    """1 if one of the keywords stands in the text, as whole words in a row, whatever their case; else 0."""
    return float(any(stands_in(keyword, text) for keyword in secret.keywords))


def recalls(text: str, secret: Secret) -> float:
    """ROUGE-L recall of the answer, with stemmer: for answers that have no keyword."""
    return rouge(secret.answer, text).recall


# --- targets ----------------------------------------------------------------------------------------------------------


def _as_model(model: Model | PreTrainedModel | PeftModel) -> Model:
    return as_model(model)


def _as_model_if_given(model: Model | PreTrainedModel | PeftModel | None) -> Model | None:
    return None if model is None else as_model(model)


@define(eq=False)
class Target:
    """A model as an attacker meets it.

    Attributes:
        model: anything that `evaluate` takes, decode-time methods included.
        tokenizer: of the model.
        template: how a question is put to it. Default: the tokenizer's chat template if it has one, else plain tags.
        original: the model before unlearning, for attackers that hold it too.
        retained: knowledge that was to stay, by which an outcome tells what an attack did to it.
        leak: how much of a secret a text gives away.
        decoding: how the target answers.
        batch: prompts that are answered at a time.
    """

    model: Model = field(converter=_as_model)
    tokenizer: PreTrainedTokenizerBase
    template: Template = field(kw_only=True)
    original: Model | None = field(default=None, kw_only=True, converter=_as_model_if_given)
    retained: tuple[Secret, ...] = field(default=(), kw_only=True)
    leak: Leak = field(default=mentions, kw_only=True)
    decoding: Greedy = field(default=Greedy(32), kw_only=True)
    batch: int = field(default=32, kw_only=True, validator=ge(1))
    _answered: dict[str, str] = field(factory=dict, init=False)

    @template.default
    def _own_template(self) -> Template:
        return template_of(self.tokenizer)

    def with_model(self, model: Model | PreTrainedModel) -> Target:
        """The same target around another model."""
        return evolve(self, model=model)

    @property
    def weights(self) -> PreTrainedModel:
        """The model of transformers inside, without what acts at inference around it: what a holder of weights has.

        Raises:
            NeedError: there is none.
        """
        inner = unguarded(self.model)
        if not isinstance(inner, CausalLM):
            raise NeedError(
                f"{type(inner).__name__} holds no model of transformers, whose weights this attack needs. "
                "Audit it with attacks on text."
            )
        return inner.model

    def prompt(self, question: str) -> Tensor:
        """What the model is given to continue, token ids [T]."""
        return prompt_tokens(self.tokenizer, self.template, question)

    def row(self, question: str, answer: str, *, id: str, role: str) -> Row:
        """A question with an answer, to train on or to score."""
        return tokenize(self.tokenizer, question, answer, id=id, role=role, template=self.template, max_length=2**20)

    def answers(self, questions: Sequence[str]) -> tuple[str, ...]:
        """What the target answers to questions, by its `decoding`; the same question is asked once."""
        new = [question for question in dict.fromkeys(questions) if question not in self._answered]
        texts = self.continuations([self.prompt(question) for question in new], self.decoding)
        self._answered |= dict(zip(new, texts, strict=True))
        return tuple(self._answered[question] for question in questions)

    def samples(self, questions: Sequence[str], sampling: Sampling) -> tuple[tuple[str, ...], ...]:
        """`sampling.samples` answers to each question; draws depend on the question and the seed."""
        prompts = [self.prompt(question) for question in questions for _ in range(sampling.samples)]
        seeds = [
            keyed_draw(2**32, sampling.seed, question, number)
            for question in questions
            for number in range(sampling.samples)
        ]
        texts = self.continuations(prompts, sampling, seeds=seeds)
        return tuple(tuple(texts[first : first + sampling.samples]) for first in range(0, len(texts), sampling.samples))

    def continuations(
        self, prompts: Sequence[Tensor], decoding: Decoding, *, seeds: Sequence[int] = ()
    ) -> tuple[str, ...]:
        """What the model writes after token ids, as text."""
        # Alike long prompts together: padding costs time, and in half precision it can change a token.
        order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
        texts = [""] * len(prompts)
        for start in range(0, len(order), self.batch):
            chosen = order[start : start + self.batch]
            piece = [prompts[number] for number in chosen]
            drawn = [seeds[number] for number in chosen] if seeds else []
            written = continued(self.model, self.tokenizer, piece, decoding, seeds=drawn)
            for number, text in zip(chosen, written, strict=True):
                texts[number] = text.strip()
        return tuple(texts)

    def leaks(self, secrets: Sequence[Secret], questions: Sequence[str] | None = None) -> dict[str, float]:
        """How much of each secret the answer to its question gives away, or to another question given for each."""
        asked = [secret.question for secret in secrets] if questions is None else questions
        return {secret.id: self.leak(text, secret) for secret, text in zip(secrets, self.answers(asked), strict=True)}

    @property
    def measure(self) -> str:
        """What `leak` measures, in words."""
        known: dict[Leak, str] = {
            mentions: "a keyword of the answer in the text",
            recalls: "ROUGE-L recall of the answer",
        }
        return known.get(self.leak) or str(getattr(self.leak, "__name__", type(self.leak).__name__))

    def kept(self) -> float | None:
        """The share of retained knowledge that the model answers with; None without any to ask for."""
        return mean(self.leaks(self.retained)) if self.retained else None


def mean_log_probs(model: Model | PreTrainedModel, rows: Sequence[Row], *, batch: int = 32) -> list[float]:
    """Mean log-probability of each row's supervised tokens, in nats: an answer with its end, as `Target.row` makes it."""
    need, wrapped = Tokens(LabelLogProb(), "scored"), as_model(model)
    found: list[float] = []
    with torch.no_grad(), evaluation_mode(wrapped):
        for start in range(0, len(rows), batch):
            piece = as_role(rows[start : start + batch], "scored")
            found += observe({"model": wrapped}, piece, frozenset({need}))[need].means().tolist()
    return found


def mean(values: Mapping[str, float]) -> float:
    """Arithmetic mean; nan without values."""
    return math.fsum(values.values()) / len(values) if values else math.nan


def check_secrets(secrets: Sequence[Secret]) -> None:
    """Refuse secrets that cannot be told apart, or none at all.

    Raises:
        DataError: names the id.
    """
    ids = [secret.id for secret in secrets]
    if not ids:
        raise DataError("there are no secrets to look for. Pass what the model was to forget.")
    if twice := sorted({name for name in ids if ids.count(name) > 1}):
        raise DataError(f"two secrets are both called {twice[0]!r}; results are told by id: give each its own.")


# --- outcomes ---------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Outcome:
    """What an attack did to one target.

    Attributes:
        attack: its name, with the settings that matter.
        threat: what the attacker held.
        budget: what it spent.
        seed: of its draws.
        measure: what `before` and `after` are, in words.
        before: by secret, how much came out without the attack, in [0, 1].
        after: by secret, how much came out under it.
        comparable: whether `before` is by the measure of `after`. Where another thing is asked for, or nothing is asked,
            the step from one to the other is no recovery.
        chance: what guessing gives by this measure.
        found: by secret, what came out, as text.
        curve: mean of `after` for smaller budgets, in order of what they are called ("5 steps").
        control: by secret, how often the attack forced out something wrong in the same way: what it puts in, not finds.
        kept: share of retained knowledge before and under the attack, where the target has some to ask for.
        left_out: why a secret could not be attacked, by its id.
    """

    attack: str
    threat: ThreatModel = field(validator=in_(THREAT_MODELS))
    budget: Budget
    seed: int = 0
    measure: str = "a keyword of the answer in the text"
    before: Mapping[str, float]
    after: Mapping[str, float] = field()
    comparable: bool = True
    chance: float = 0.0
    found: Mapping[str, str] = field(factory=dict)
    curve: Mapping[str, float] = field(factory=dict)
    control: Mapping[str, float] = field(factory=dict)
    kept: tuple[float, float] | None = None
    left_out: Mapping[str, str] = field(factory=dict)

    @after.validator
    def _in_range(self, _: Attribute[Mapping[str, float]], after: Mapping[str, float]) -> None:
        for name, value in (*after.items(), *self.before.items()):
            if not 0.0 <= value <= 1.0:
                raise DataError(f"{self.attack}: {value} came out of {name!r}; what comes out lies between 0 and 1.")
        if after.keys() != self.before.keys():
            missing = sorted(after.keys() ^ self.before.keys())[0]
            raise DataError(f"{self.attack}: {missing!r} was measured before or after the attack, but not both times.")

    @property
    def success(self) -> float:
        """Mean of `after`."""
        return mean(self.after)


@runtime_checkable
class Attack(Protocol):
    """A function of a target. Its settings, and the data the attacker brings, are its own."""

    @property
    def threat(self) -> ThreatModel:
        """What the attacker holds."""

    def __call__(self, target: Target, secrets: Sequence[Secret], /) -> Outcome: ...


Change = Callable[[PreTrainedModel], PreTrainedModel]
"""A model as an attacker who holds the weights changes it; what it is given stays as it was."""


def kept_beside(target: Target, changed: Target) -> tuple[float, float] | None:
    """Retained knowledge of two targets, where there is some to ask for."""
    before, after = target.kept(), changed.kept()
    return None if before is None or after is None else (before, after)


def outcome_of_change(
    name: str,
    target: Target,
    changed: PreTrainedModel,
    secrets: Sequence[Secret],
    *,
    threat: ThreatModel,
    budget: Budget,
    seed: int = 0,
    curve: Mapping[str, float] | None = None,
) -> Outcome:
    """Ask target and changed model for each secret in plain words: what a change of weights brought back."""
    after = target.with_model(changed)
    leaks = after.leaks(secrets)
    return Outcome(
        attack=name,
        threat=threat,
        budget=evolve(budget, queries=budget.queries + len(secrets)),
        seed=seed,
        measure=target.measure,
        before=target.leaks(secrets),
        after=leaks,
        found=dict(zip(leaks, after.answers([secret.question for secret in secrets]), strict=True)),
        curve={} if curve is None else curve,
        kept=kept_beside(target, after),
    )


@frozen
class Asking:
    """No attack: the question as it is. Every other outcome is read against this one."""

    threat: ThreatModel = field(default="text", init=False)

    def __call__(self, target: Target, secrets: Sequence[Secret]) -> Outcome:
        check_secrets(secrets)
        leaks = target.leaks(secrets)
        kept = target.kept()
        return Outcome(
            attack="plain question",
            threat=self.threat,
            budget=Budget(queries=len(secrets)),
            measure=target.measure,
            before=leaks,
            after=leaks,
            found=dict(zip(leaks, target.answers([secret.question for secret in secrets]), strict=True)),
            kept=None if kept is None else (kept, kept),
        )
