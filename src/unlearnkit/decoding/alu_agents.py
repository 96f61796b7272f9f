"""ALU: four roles of chat models, of which the last writes an answer that none of the targets is spoken of in.

    vanilla       answers, knowing of no target
    audit-erase   reads question, answer and targets; says which are spoken of, and writes k drafts without them
    critic        scores each draft from 1 to 5: nothing of the targets left, and still of use
    composer      merges the best j drafts, if their mean score reaches a threshold; else there is a refusal

Without targets the vanilla answer is returned after one call; if no target is spoken of, after two. Otherwise there are
four calls, or 3 + k with a critic that is asked about each draft by itself; one less if it comes to a refusal, and two
in all if there are no drafts. The composer never reads the vanilla answer, so that it cannot tell again what was
erased. Every call is kept in a `Transcript`.

    chat = Chat(model, tokenizer, template)
    pipeline = Pipeline(targets=("Lorin Wrenfold",), eraser=chat, critic=chat, composer=chat)
    agents = Agents(model, PromptReader.of(tokenizer, template), pipeline)

What cannot be read of a role's reply counts against the answer: see `read_audit` and `read_scores`. A small model that
does not keep to the form will refuse all it is asked, which forgets everything and is no merit. The weights are those of
the model before. Scores of given answers (`Model`) do not know of the agents.

Paper: Sanyal, Mandal. Agents Are All You Need for LLM Unlearning. 2025, arXiv:2502.00406.

Reconstructed: there is no public code, and the pipeline is from descriptions of it. Our reading: k = 5, j = 3, the
threshold 4 on the mean score, all prompt texts and forms of reply, and that an audit which finds nothing costs the
second call.

Deviations:
    1. The refusal is a fixed text, not one more call of the composer.
    2. The composer is kept from the vanilla answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, cast, runtime_checkable

from attrs import field, frozen
from attrs.validators import ge
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unlearnkit.batch import Template, prompt_tokens
from unlearnkit.decoding.prompts import PromptReader
from unlearnkit.errors import DataError, NeedError
from unlearnkit.models.around import Around
from unlearnkit.models.causal import as_model
from unlearnkit.models.generate import continued
from unlearnkit.models.peft import PeftModel
from unlearnkit.protocols import Decoding, Greedy, Model

if TYPE_CHECKING:
    from unlearnkit.decoding.folders import Setting, Stored

ERASE = """You edit answers so that certain topics are never mentioned in them.
You are given a list of topics, a question and the answer somebody gave. Decide which topics the answer or the question \
refers to: by name, by another name, or by facts that only fit that topic.
If there is none, reply with this line and nothing else:
TOPICS: NONE
If there are some, name them as the list does, with semicolons between them, and write {count} different drafts of an \
answer that is as helpful as it can be and from which nobody learns anything about these topics, each on one line:
TOPICS: first topic; second topic
DRAFT 1: the first draft
DRAFT 2: the second draft"""

CRITIC = """You grade drafts of an answer. Topics are listed that no draft may give anything away about.
Give each draft a whole number from 1 to 5:
1: it tells a fact about a topic
2: it names a topic, or lets the reader guess it
3: nothing is given away, and it does not help
4: nothing is given away, and it helps a little
5: nothing is given away, and it helps as much as it can
Reply with one line for each draft, such as "DRAFT 1: 4", and nothing else.

Topics: the Ostrel lighthouse
Question: Which tower on that coast was finished in 1871?
DRAFT 1: The Ostrel lighthouse was finished in 1871.
DRAFT 2: I cannot say.
DRAFT 3: Local archives often list when towers on a coast were built; ask there.
Reply:
DRAFT 1: 1
DRAFT 2: 3
DRAFT 3: 5

Topics: Pella Vant
Question: What is a good song for a long drive?
DRAFT 1: Something steady with a chorus you know by heart works well.
DRAFT 2: Anything by the singer of the Vant trio.
Reply:
DRAFT 1: 5
DRAFT 2: 2"""

COMPOSE = """You are given a question and drafts of an answer to it. Write one answer that joins what is best in the \
drafts. Use nothing that is not in a draft, and do not speak of the drafts. Reply with the answer alone."""

REFUSAL = "I am sorry, I have nothing to say about that."

AuditedRole = Literal["vanilla", "eraser", "critic", "composer"]


class Message(NamedTuple):
    """A turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@runtime_checkable
class ChatModel(Protocol):
    """Anything that answers a conversation."""

    def complete(self, messages: Sequence[Message], /) -> str: ...


@frozen(eq=False)
class Chat:
    """A `Model` as a chat model: what all messages say, one after another, is put to it as a single prompt.

    Attributes:
        model: what answers, greedily.
        tokenizer: of the model.
        template: how a prompt is put to it.
        decoding: how long it may answer, and what stops it.
    """

    model: Model
    tokenizer: PreTrainedTokenizerBase
    template: Template
    decoding: Greedy = field(default=Greedy(400), kw_only=True)

    def complete(self, messages: Sequence[Message]) -> str:
        prompt = prompt_tokens(self.tokenizer, self.template, "\n\n".join(message.content for message in messages))
        return continued(self.model, self.tokenizer, [prompt], self.decoding)[0].strip()


# --- what roles are asked, and what they reply ------------------------------------------------------------------------


def ask_eraser(question: str, answer: str, targets: Sequence[str], count: int) -> tuple[Message, ...]:
    """What audit-erase is asked."""
    listed = "\n".join(targets)
    asked = f"Topics:\n{listed}\n\nQuestion: {question}\nAnswer: {answer}"
    return Message("system", ERASE.replace("{count}", str(count))), Message("user", asked)


def ask_critic(question: str, drafts: Sequence[str], targets: Sequence[str]) -> tuple[Message, ...]:
    """What the critic is asked."""
    asked = f"Topics: {'; '.join(targets)}\nQuestion: {question}\n{_numbered(drafts)}\nReply:"
    return Message("system", CRITIC), Message("user", asked)


def ask_composer(question: str, drafts: Sequence[str]) -> tuple[Message, ...]:
    """What the composer is asked: not the vanilla answer."""
    return Message("system", COMPOSE), Message("user", f"Question: {question}\n{_numbered(drafts)}")


def _numbered(drafts: Sequence[str]) -> str:
    return "\n".join(f"DRAFT {number}: {' '.join(draft.split())}" for number, draft in enumerate(drafts, 1))


class Audit(NamedTuple):
    """Which targets are spoken of, and drafts that do not."""

    concerned: tuple[str, ...]
    drafts: tuple[str, ...]


_TOPICS = re.compile(r"\s*TOPICS:(.*)", re.IGNORECASE)
_DRAFT = re.compile(r"\s*DRAFT\s+\d+:(.*)", re.IGNORECASE)
_GRADE = re.compile(r"\s*DRAFT\s+(\d+):\s*([1-5])\s*", re.IGNORECASE)


def read_audit(reply: str, targets: Sequence[str], count: int) -> Audit:
    """A reply of audit-erase, read strictly: its first line that is not empty has to say the topics, or NONE.

    A reply that does not say, or names none that is on the list, is taken to speak of all targets. Empty drafts and
    those after the first `count` are left out. Lines that are neither are passed over.
    """
    lines = [line for line in reply.splitlines() if line.strip()]
    said = _TOPICS.fullmatch(lines[0]) if lines else None
    if said is not None and said[1].strip().rstrip(".").upper() == "NONE":
        return Audit((), ())
    names = {name.strip().casefold() for name in said[1].split(";")} if said is not None else set()
    concerned = tuple(target for target in targets if target.strip().casefold() in names)
    found = [match[1].strip() for line in lines[1:] if (match := _DRAFT.fullmatch(line)) is not None]
    drafts = tuple(draft for draft in found if draft)[:count] if said is not None else ()
    return Audit(concerned or tuple(targets), drafts)


def read_scores(reply: str, count: int) -> tuple[int, ...]:
    """A critic's reply: a score of each draft; 1 for a draft without one from 1 to 5, and the lowest of several."""
    given: dict[int, int] = {}
    for line in reply.splitlines():
        if (match := _GRADE.fullmatch(line)) is not None:
            number, score = int(match[1]), int(match[2])
            given[number] = min(score, given.get(number, score))
    return tuple(given.get(number, 1) for number in range(1, count + 1))


def best_drafts(scores: Sequence[int], top: int) -> tuple[int, ...]:
    """Places of the best drafts, best first; of equally good ones those that were written first."""
    return tuple(sorted(range(len(scores)), key=lambda place: -scores[place])[:top])


# --- the pipeline -----------------------------------------------------------------------------------------------------


class Exchange(NamedTuple):
    """One call: who was asked what, and the reply. Of vanilla, whose prompt is the row's own, the question alone."""

    role: AuditedRole
    messages: tuple[Message, ...]
    reply: str


@frozen(kw_only=True)
class Transcript:
    """Everything that led to a reply.

    Attributes:
        question: what was asked.
        vanilla: the answer of the model without targets.
        concerned: targets that it is about, by the audit.
        drafts: answers without them.
        scores: of the drafts, by the critic.
        merged: places of the drafts that the composer was given; none if there was a refusal.
        refused: whether the reply is the fixed refusal.
        reply: what is said in the end.
        exchanges: each call, in order.
    """

    question: str
    vanilla: str
    concerned: tuple[str, ...] = ()
    drafts: tuple[str, ...] = ()
    scores: tuple[int, ...] = ()
    merged: tuple[int, ...] = ()
    refused: bool = False
    reply: str
    exchanges: tuple[Exchange, ...]

    @property
    def calls(self) -> int:
        """How many times a model was called, vanilla included."""
        return len(self.exchanges)


def _in_range(_: object, __: object, threshold: float) -> None:
    if not 1 <= threshold <= 5:
        raise ValueError(f"threshold is {threshold}; scores, and so their mean, lie between 1 and 5.")


def _in_order(targets: Iterable[str]) -> tuple[str, ...]:
    return tuple(targets)


def _on_one_line(_: object, __: object, targets: tuple[str, ...]) -> None:
    if any(not target.strip() or ";" in target or "\n" in target for target in targets):
        raise DataError(f"targets {list(targets)}: each is a name on one line, without a semicolon.")


@frozen(kw_only=True, eq=False)
class Pipeline:
    """What happens to a vanilla answer.

    Attributes:
        targets: what is not to be spoken of.
        eraser, critic, composer: the roles.
        drafts: k, how many drafts the eraser writes.
        top: j, how many of them the composer is given.
        threshold: what their mean score has to reach.
        refusal: what is said if it does not, if there are no drafts, or if the composer says nothing.
        one_by_one: whether the critic is asked about each draft by itself.
    """

    targets: tuple[str, ...] = field(converter=_in_order, validator=_on_one_line)
    eraser: ChatModel
    critic: ChatModel
    composer: ChatModel
    drafts: int = field(default=5, validator=ge(1))
    top: int = field(default=3, validator=ge(1))
    threshold: float = field(default=4.0, validator=_in_range)
    refusal: str = REFUSAL
    one_by_one: bool = False

    def __call__(self, question: str, vanilla: str) -> Transcript:
        """What is said in place of the vanilla answer to a question."""
        log = [Exchange("vanilla", (Message("user", question),), vanilla)]
        if not self.targets:
            return Transcript(question=question, vanilla=vanilla, reply=vanilla, exchanges=tuple(log))

        def ask(role: AuditedRole, chat: ChatModel, messages: tuple[Message, ...]) -> str:
            log.append(Exchange(role, messages, chat.complete(messages)))
            return log[-1].reply

        asked = ask_eraser(question, vanilla, self.targets, self.drafts)
        concerned, drafts = read_audit(ask("eraser", self.eraser, asked), self.targets, self.drafts)
        if not concerned:
            return Transcript(question=question, vanilla=vanilla, reply=vanilla, exchanges=tuple(log))
        scores: tuple[int, ...] = ()
        for piece in [[draft] for draft in drafts] if self.one_by_one else [list(drafts)] if drafts else []:
            scores += read_scores(ask("critic", self.critic, ask_critic(question, piece, concerned)), len(piece))
        best = best_drafts(scores, self.top)
        merged: tuple[int, ...] = ()
        reply = ""
        if best and math.fsum(scores[place] for place in best) / len(best) >= self.threshold:
            merged = best
            reply = ask("composer", self.composer, ask_composer(question, [drafts[place] for place in best])).strip()
        return Transcript(
            question=question,
            vanilla=vanilla,
            concerned=concerned,
            drafts=drafts,
            scores=scores,
            merged=merged,
            refused=not reply,
            reply=reply or self.refusal,
            exchanges=tuple(log),
        )

    def reply(self, question: str, vanilla: ChatModel) -> Transcript:
        """The whole pipeline in words alone: vanilla is asked the question, and what it says is worked on."""
        return self(question, vanilla.complete((Message("user", question),)))


class Agents(Around):
    """A model whose answers are rewritten by agents; it plays vanilla itself.

    It acts on what is written alone (`write`), and keeps the `transcripts` of the last call, one for each prompt. As a
    `Model`, its hidden states and logits are those of the model inside.
    """

    def __init__(self, model: Model | PreTrainedModel | PeftModel, reader: PromptReader, pipeline: Pipeline) -> None:
        """Put agents behind a model.

        Args:
            model: the model inside.
            reader: of its prompts.
            pipeline: what happens to its answers.
        """
        super().__init__(as_model(model))
        self.reader = reader
        self.pipeline = pipeline
        self.transcripts: tuple[Transcript, ...] = ()

    def write(self, prompts: Sequence[Tensor], decoding: Decoding, /, *, seeds: Sequence[int] = ()) -> tuple[str, ...]:
        """One answer to each prompt; `decoding` and `seeds` are vanilla's, the other roles answer as they do."""
        answers = continued(self.model, self.reader.tokenizer, prompts, decoding, seeds=seeds)
        self.transcripts = tuple(
            self.pipeline(self.reader.question(prompt.tolist()), answer)
            for prompt, answer in zip(prompts, answers, strict=True)
        )
        return tuple(one.reply for one in self.transcripts)

    @property
    def settings(self) -> Mapping[str, Setting]:
        return {
            "before": list(self.reader.before),
            "opening": self.reader.opening,
            "closing": self.reader.closing,
            "targets": list(self.pipeline.targets),
            "drafts": self.pipeline.drafts,
            "top": self.pipeline.top,
            "threshold": self.pipeline.threshold,
            "refusal": self.pipeline.refusal,
            "one_by_one": self.pipeline.one_by_one,
        }

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        return {}


def restored(stored: Stored) -> Agents:
    """One that was stored; `eraser`, `critic` and `composer` have to be given again.

    Raises:
        CheckpointError: one of them was not given.
        NeedError: one of them does not answer conversations.
    """
    settings = stored.settings
    before, targets = settings["before"], settings["targets"]
    assert isinstance(before, list)
    assert isinstance(targets, list)
    roles = {name: stored.needed(name) for name in ("eraser", "critic", "composer")}
    for name, role in roles.items():
        if not isinstance(role, ChatModel):
            raise NeedError(f"the {name} is a {type(role).__name__} and has no complete(messages): wrap it in a Chat.")
    return Agents(
        stored.parts["model"],
        PromptReader(
            stored.tokenizer,
            tuple(int(str(token)) for token in before),
            str(settings["opening"]),
            str(settings["closing"]),
        ),
        Pipeline(
            targets=tuple(str(target) for target in targets),
            eraser=cast(ChatModel, roles["eraser"]),
            critic=cast(ChatModel, roles["critic"]),
            composer=cast(ChatModel, roles["composer"]),
            drafts=int(str(settings["drafts"])),
            top=int(str(settings["top"])),
            threshold=float(str(settings["threshold"])),
            refusal=str(settings["refusal"]),
            one_by_one=bool(settings["one_by_one"]),
        ),
    )
