r"""WideDeep: several judges in two layers compare two answers, each judge from its own point of view, in both orders.

    aspects   the judge names what to look at; each aspect becomes a neuron
    layer 1   every neuron scores both answers, once in each order
    layer 2   every neuron scores again, given its own reviews and those of its neighbours (window of 1)
    score     of an answer: the mean over all layers, neurons and orders; the higher one is preferred, equals tie

Showing both orders cancels what a judge gives to the first place: swapping the answers swaps the scores exactly if the
judge is deterministic and the aspects are the same. Reviews are shown in the order of the answers at hand, with the
names exchanged where it differs.

Failure modes: all neurons are one model, and share its taste. Replies that cannot be read are asked for again, which
helps with sampled replies only.

Paper: Zhang et al. Wider and Deeper LLM Networks are Fairer LLM Evaluators. 2023, arXiv:2308.01862.

Checked: AlibabaResearch/DAMO-ConvAI@483554e: reading of aspects and scores, and the mean of scores. Prompts are our own
words, and hold what the authors' put into a system message.

Deviations: a review that stays unreadable after all tries counts as 0 for both answers in the released code; here it is
left out (`unreadable="zero"` is theirs). The released mean divides by the number of scores plus 1e-5, which no
comparison can see: `smoothing=1e-5`. It joins the aspects of a window in the order of a hash; here in theirs. Of the
two reviews of one judge it shows the first-order one first whatever the order of the answers; here the one of the
order at hand, without which swapping the answers would not swap the scores. A score followed by a full stop ("8.5.") is
unreadable there and here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from attrs import evolve, field, frozen
from attrs.validators import ge, in_, optional

from unlearnkit.errors import DataError
from unlearnkit.protocols import Continuations, Generated, Greedy, Judge, Needs, Score, Seen, Texts

Unreadable = Literal["left_out", "zero"]
"""What becomes of a review without two scores: it is not counted, or counts as 0 for both answers."""

FALLBACK_ASPECTS = ("Accuracy", "Relevance")
"""What is looked at if the judge names nothing."""


class Pair(NamedTuple):
    """Scores of the first and the second answer."""

    first: float
    second: float

    @property
    def swapped(self) -> Pair:
        return Pair(self.second, self.first)


@frozen
class Verdict:
    """What the judges found.

    Attributes:
        mean: of all scores; nan if none could be read.
        scores: layer -> neuron -> its scores, first in the order given, then with the answers swapped (scores are
            swapped back); None for a review that could not be read.
        aspects: of the neurons.
    """

    mean: Pair
    scores: tuple[tuple[tuple[Pair | None, Pair | None], ...], ...]
    aspects: tuple[str, ...]

    @property
    def preferred(self) -> Literal["first", "second", "tie"] | None:
        """The answer with the higher mean; None if no score could be read."""
        if math.isnan(self.mean.first):
            return None
        if self.mean.first == self.mean.second:
            return "tie"
        return "first" if self.mean.first > self.mean.second else "second"


def parse_aspects(reply: str, *, end: str = "&") -> list[str]:
    """The names between "$" and `end`, in order, without line breaks and outer blanks; may be none.

    Args:
        reply: what the judge wrote.
        end: what closes a name; "@" for tasks about code, where "&" occurs in text.
    """
    return [name.strip().replace("\n", "") for name in re.findall(rf"\$(.*?){re.escape(end)}", reply, re.DOTALL)]


def parse_scores(reply: str) -> Pair | None:
    """The first score of each assistant; None if one is missing or no number."""
    found = [re.search(rf"Score of (?:the )?Assistant {number}:\s*([\d.]+)", reply) for number in (1, 2)]
    try:
        first, second = (float(match.group(1)) for match in found if match is not None)
    except ValueError:  # fewer than two, or "8.5."
        return None
    return Pair(first, second)


def mean_scores(scores: Sequence[Sequence[float]], *, smoothing: float = 0.0) -> Pair:
    """Mean score of both answers over all reviews; nan for none.

    Args:
        scores: (first, second) of each review.
        smoothing: added to the number of reviews; the released code has 1e-5.
    """
    count = len(scores) + smoothing
    if count == 0:
        return Pair(math.nan, math.nan)
    return Pair(math.fsum(pair[0] for pair in scores) / count, math.fsum(pair[1] for pair in scores) / count)


def aspect_prompt(question: str, first: str, second: str) -> str:
    """Asks for the points of view from which to compare two answers."""
    return (
        f"Two answers to a question are to be compared.\n\n{_shown(question, first, second)}\n\n"
        "From which points of view should they be compared to say which is better? Name the most important ones, one "
        "a line, each name between $ and &, for example $Accuracy&."
    )


def review_prompt(
    question: str,
    first: str,
    second: str,
    aspects: Sequence[str],
    *,
    own: Sequence[str] = (),
    others: Sequence[str] = (),
) -> str:
    """Asks for a review of two answers with a score for each.

    Args:
        question, first, second: what is reviewed.
        aspects: points of view to take.
        own, others: earlier reviews by the same judge and by its neighbours, in the order of the answers shown.
    """
    earlier = ""
    if own or others:
        earlier = (
            "You and your colleagues have reviewed these answers before.\n\n[Your reviews]\n"
            + "\n\n".join(own)
            + "\n[End of your reviews]\n\n[Reviews by colleagues]\n"
            + "\n\n".join(others)
            + "\n[End of reviews by colleagues]\n\n"
        )
    return (
        f"You check the quality of answers. Decide which of two answers serves the question better.\n\n"
        f"{_shown(question, first, second)}\n\n{earlier}Take this point of view: {', '.join(aspects)}. Give both "
        "assistants a score from 1 to 10, higher is better. First explain your judgement; the order in which the "
        "answers are shown must not influence it. End with two lines of this form:\n"
        "Score of Assistant 1: <score>\nScore of Assistant 2: <score>"
    )


def judge_pair(
    judge: Judge,
    question: str,
    first: str,
    second: str,
    *,
    aspects: Sequence[str] | None = None,
    most_aspects: int | None = None,
    layers: int = 2,
    tries: int = 10,
    unreadable: Unreadable = "left_out",
    smoothing: float = 0.0,
) -> Verdict:
    """Compare two answers to a question.

    Args:
        judge: the language model that reviews; asked once per layer for all neurons, and again for unreadable replies.
        question, first, second: what is compared.
        aspects: the neurons' points of view. Default: those the judge names.
        most_aspects: how many of those it names are used at most. Default: all; the authors' cheap setting has 2.
        layers: how often each neuron reviews.
        tries: how often a reply is asked for until it can be read.
        unreadable: what becomes of a review that cannot.
        smoothing: as in `mean_scores`.

    Raises:
        DataError: `layers`, `tries` or `most_aspects` below 1, an empty list of aspects, or a judge that gives other
            than one reply per prompt.
    """
    for name, value in (("layers", layers), ("tries", tries), ("most_aspects", most_aspects)):
        if value is not None and value < 1:
            raise DataError(f"{name} is {value}; at least 1 is needed.")
    if aspects is not None and not aspects:
        raise DataError("aspects is empty; name at least one, or pass None to let the judge name them.")
    names = tuple(aspects) if aspects is not None else _asked_aspects(judge, question, first, second, tries)
    names = names[:most_aspects]
    seen: list[tuple[str, str]] = []  # of each neuron: its reviews in both orders, named as in the order given
    points = [[name] for name in names]
    scores: list[tuple[tuple[Pair | None, Pair | None], ...]] = []
    for _ in range(layers):
        prompts: list[str] = []
        windows = [range(max(0, i - 1), min(len(names), i + 2)) for i in range(len(names))]
        if seen:
            points = [list(dict.fromkeys(name for j in window for name in points[j])) for window in windows]
        for i, window in enumerate(windows):
            own = list(seen[i]) if seen else []
            others = [review for j in window if j != i for review in seen[j]] if seen else []
            prompts.append(review_prompt(question, first, second, points[i], own=own, others=others))
            prompts.append(review_prompt(question, second, first, points[i], own=_turned(own), others=_turned(others)))
        replies, found = _reviews(judge, prompts, tries)
        pairs = [pair if pair is None or i % 2 == 0 else pair.swapped for i, pair in enumerate(found)]
        scores.append(tuple(zip(pairs[::2], pairs[1::2], strict=True)))
        seen = [(replies[i], swap_names(replies[i + 1])) for i in range(0, len(replies), 2)]
    missing = [] if unreadable == "left_out" else [Pair(0.0, 0.0)]
    counted = [pair for layer in scores for both in layer for each in both for pair in ([each] if each else missing)]
    return Verdict(mean_scores(counted, smoothing=smoothing if counted else 0.0), tuple(scores), names)


def swap_names(review: str) -> str:
    """The review with "Assistant 1" and "Assistant 2" exchanged."""
    return re.sub("Assistant ([12])", lambda match: f"Assistant {3 - int(match.group(1))}", review)


def _turned(reviews: Sequence[str]) -> list[str]:
    """Pairs of reviews as the judge has to see them when the answers are shown the other way round."""
    return [swap_names(reviews[i ^ 1]) for i in range(len(reviews))]


def _shown(question: str, first: str, second: str) -> str:
    return (
        f"[Question]\n{question}\n[End of question]\n\n[Answer of Assistant 1]\n{first}\n[End of answer of Assistant 1]"
        f"\n\n[Answer of Assistant 2]\n{second}\n[End of answer of Assistant 2]"
    )


def _asked(judge: Judge, prompts: Sequence[str]) -> Sequence[str]:
    replies = judge(prompts)
    if len(replies) != len(prompts):
        raise DataError(f"the judge gave {len(replies)} replies to {len(prompts)} prompts; one for each is needed.")
    return replies


def _asked_aspects(judge: Judge, question: str, first: str, second: str, tries: int) -> tuple[str, ...]:
    for _ in range(tries):
        (reply,) = _asked(judge, [aspect_prompt(question, first, second)])
        if named := tuple(dict.fromkeys(filter(None, parse_aspects(reply)))):
            return named
    return FALLBACK_ASPECTS


def _reviews(judge: Judge, prompts: Sequence[str], tries: int) -> tuple[list[str], list[Pair | None]]:
    """The last reply to each prompt, and the scores it holds."""
    replies, scores = [""] * len(prompts), list[Pair | None]([None] * len(prompts))
    for _ in range(tries):
        todo = [i for i, pair in enumerate(scores) if pair is None]
        if not todo:
            break
        for i, reply in zip(todo, _asked(judge, [prompts[i] for i in todo]), strict=True):
            replies[i], scores[i] = reply, parse_scores(reply)
    return replies, scores


@frozen
class WideDeepPreference:
    """How often the judge prefers what a model writes to what another one does, ties counted half. Higher: more useful.

    Parts: `wins`, `ties` and `losses`. A question of which no review could be read is left out.

    Attributes:
        judge: the language model that reviews.
        role: the questions.
        decoding: how both models write.
        aspects: as in `judge_pair`.
        most_aspects: as in `judge_pair`.
        layers: as in `judge_pair`.
        tries: as in `judge_pair`.
        unreadable: as in `judge_pair`.
        of, against: the model that is measured, and the one it is compared with.
    """

    judge: Judge
    role: str = "retain"
    decoding: Greedy = field(default=Greedy(max_new_tokens=200))
    aspects: tuple[str, ...] | None = field(default=None, kw_only=True)
    most_aspects: int | None = field(default=None, validator=optional(ge(1)), kw_only=True)
    layers: int = field(default=2, validator=ge(1), kw_only=True)
    tries: int = field(default=10, validator=ge(1), kw_only=True)
    unreadable: Unreadable = field(default="left_out", validator=in_(get_args(Unreadable)), kw_only=True)
    of: str = field(default="model", kw_only=True)
    against: str = field(default="original", kw_only=True)

    @property
    def questions(self) -> Texts:
        return Texts(self.role)

    def generated(self, of: str) -> Generated:
        """What one of the two models writes."""
        return Generated(self.decoding, self.role, of=of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.questions, self.generated(self.of), self.generated(self.against)})

    def __call__(self, seen: Seen) -> Score:
        ours: Continuations = seen[self.generated(self.of)]
        theirs: Continuations = seen[self.generated(self.against)]
        each: dict[str, float] = {}
        rows = zip(seen.ids[self.role], seen[self.questions].prompts, ours.texts, theirs.texts, strict=True)
        for row, question, our_text, their_text in rows:
            each[row] = _OUTCOME[self._verdict(question, our_text, their_text).preferred]
        score = Score.mean(each, "utility")
        outcomes = list(each.values())
        counts = {name: float(outcomes.count(worth)) for name, worth in (("wins", 1.0), ("ties", 0.5), ("losses", 0.0))}
        return evolve(score, parts=counts)

    def _verdict(self, question: str, first: str, second: str) -> Verdict:
        return judge_pair(
            self.judge,
            question,
            first,
            second,
            aspects=self.aspects,
            most_aspects=self.most_aspects,
            layers=self.layers,
            tries=self.tries,
            unreadable=self.unreadable,
        )


_OUTCOME: Mapping[str | None, float] = {"first": 1.0, "tie": 0.5, "second": 0.0, None: math.nan}
