r"""Forget Degree and Retain Utility: how near a model is to where it should be after n of N deletion requests.

    C = 100 * (probability * ROUGE-L * accuracy)^(1/3)                 of one model on one set, in [0, 100]
    C_target(n) = C_original + (n/N) * (C_oracle - C_original)         a straight line from start to goal
    F.D. = R.U. = max(0, 1 - |C / C_target - 1|)                       on requested items; on all others

In [0, 1], higher is better, 1 only on the line: forgetting too much costs what forgetting too little does. Probability
is the mean answer probability, ROUGE-L the mean F-measure with stemmer, accuracy the mean share of next tokens of the
raw texts that are the most likely one. Needs the model, the original (fine-tuned on everything) and an oracle (the
others only), on questions with answers and on the raw texts behind them.

The line is an assumption: no model was trained for the n between. A geometric mean is 0 as soon as one factor is, and a
target of 0 gives 0 whatever the model does. C mixes questions and raw texts, so that it is no mean over examples.

Paper: Xu, Du, Fang, Liang, Xiao, Huang, Hong, Ye, Hu. FIT (continual unlearning of many requests). 2026,
arXiv:2601.21682.

Checked: read beside XiaoyuXU1/FIT@360a77b; by laws only, as no numbers of it are recorded.

Deviations: the released caller swaps the accuracies of the two sets: `texts="retain_texts"` on the forget set, and the
other way round, does the same. It scores ROUGE on prompt and continuation together; here on the continuation. It draws
the retain curve on the final retain set and compares it with a score that also holds items not yet requested; here
model, original and oracle are scored on the same items, those of the role.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve, field, frozen
from attrs.validators import ge

from unlearnkit.errors import DataError
from unlearnkit.metrics.memorization import exact_memorization
from unlearnkit.metrics.probability import Probability
from unlearnkit.metrics.rouge import Rouge
from unlearnkit.protocols import Direction, Greedy, Metric, Needs, Score, Seen, Tokens, all_needs
from unlearnkit.statistics import TopHit


def combined_score(probability: float, rouge: float, accuracy: float) -> float:
    """C: 100 times the geometric mean of three shares, in [0, 100].

    Raises:
        DataError: a number outside [0, 1]; names it.
    """
    for name, value in (("probability", probability), ("rouge", rouge), ("accuracy", accuracy)):
        if not 0 <= value <= 1:
            raise DataError(f"`{name}` is {value}; the three are shares in [0, 1] (divide percentages by 100).")
    return float(100 * (probability * rouge * accuracy) ** (1 / 3))


def target_score(original: float, oracle: float, *, requested: int, total: int) -> float:
    """C_target: where C should be after `requested` of `total` requests, between the original and the oracle.

    Args:
        original: C of the model before the first request.
        oracle: C of the model that was trained without any item of the `total`.
        requested: n, from 0 to `total`.
        total: N, at least 1.

    Raises:
        DataError: `requested` is not between 0 and `total`.
    """
    if not 0 <= requested <= total or total < 1:
        raise DataError(f"`requested` is {requested} of `total` {total}; it counts requests, from 0 to `total` >= 1.")
    share = requested / total
    return (1 - share) * original + share * oracle


def degree(score: float, target: float) -> float:
    """max(0, 1 - |score / target - 1|), in [0, 1]; 0 where the target is 0.

    Raises:
        DataError: a score or target that is negative or nan; names it.
    """
    for name, value in (("score", score), ("target", target)):
        if not value >= 0:
            raise DataError(f"`{name}` is {value}; C and its target are never negative.")
    return max(0.0, 1 - abs(score / target - 1)) if target > 0 else 0.0


@frozen
class _Accuracy:
    """Mean share of next tokens of a text that are the most likely one."""

    role: str
    of: str

    @property
    def tokens(self) -> Tokens:
        return Tokens(TopHit(), self.role, of=self.of, positions="text")

    @property
    def needs(self) -> Needs:
        return frozenset({self.tokens})

    def __call__(self, seen: Seen) -> Score:
        flat = seen[self.tokens]
        each = exact_memorization(flat.values, flat.row, rows=flat.rows)
        return Score.mean(dict(zip(seen.ids[self.role], each.tolist(), strict=True)), "knowledge")


@frozen
class CombinedScore:
    """C of one model on one set, in [0, 100]. Higher: the model knows more of it.

    Parts: `probability`, `rouge`, `accuracy`. Not measured as soon as one of them is not: the reason names it.

    Attributes:
        role: questions and answers.
        texts: the raw texts behind them, for accuracy. Default: `role` followed by "_texts".
        decoding: how the model writes the answers that ROUGE reads.
        of: the model that is measured.
    """

    role: str = "forget"
    texts: str = field(kw_only=True)
    decoding: Greedy = field(default=Greedy(max_new_tokens=128), kw_only=True)
    of: str = field(default="model", kw_only=True)

    @texts.default
    def _beside_role(self) -> str:
        return f"{self.role}_texts"

    @property
    def terms(self) -> Mapping[str, Metric]:
        """The three factors by name."""
        return {
            "probability": Probability(self.role, of=self.of),
            "rouge": Rouge(self.role, self.decoding, measure="fmeasure", of=self.of),
            "accuracy": _Accuracy(self.texts, self.of),
        }

    @property
    def needs(self) -> Needs:
        return all_needs(self.terms.values())

    def __call__(self, seen: Seen) -> Score:
        parts: dict[str, float] = {}
        n = 0
        left_out: dict[str, None] = {}
        for name, term in self.terms.items():
            score = term(seen)
            if score.value is None:
                return Score.not_measured(f"{name} was not measured: {score.reason}", "knowledge")
            parts[name] = score.value
            n = max(n, score.n)
            left_out |= dict.fromkeys(score.left_out)
        value = combined_score(parts["probability"], parts["rouge"], parts["accuracy"])
        return Score(value, "knowledge", n=n, parts=parts, left_out=tuple(left_out))


@frozen
class ForgetDegree:
    """`degree` of the items that were requested so far. Higher: nearer to the target, from either side.

    Parts: C of the model (`score`), of `original` and `oracle`, and the `target`. Not measured if one of them is not.

    Attributes:
        requested: n, how many of `total` items were requested so far.
        total: N, how many items will be requested.
        scored: the set, what C is made of, and the model that is measured.
        original: the model before the first request.
        oracle: the model trained without any of the `total`.
    """

    requested: int = field(validator=ge(0))
    total: int = field(default=300, validator=ge(1))
    scored: CombinedScore = field(default=CombinedScore("forget"))
    original: str = field(default="original", kw_only=True)
    oracle: str = field(default="oracle", kw_only=True)

    @property
    def needs(self) -> Needs:
        return all_needs(_three(self).values())

    def __call__(self, seen: Seen) -> Score:
        return _degree(self, seen, "forgetting")


@frozen
class RetainUtility:
    """`degree` of all other items: those not requested yet, and those to be retained. Higher: nearer to the target.

    Parts and attributes: as of `ForgetDegree`, on the other set. Its target moves less: the oracle was trained on most.
    """

    requested: int = field(validator=ge(0))
    total: int = field(default=300, validator=ge(1))
    scored: CombinedScore = field(default=CombinedScore("retain"))
    original: str = field(default="original", kw_only=True)
    oracle: str = field(default="oracle", kw_only=True)

    @property
    def needs(self) -> Needs:
        return all_needs(_three(self).values())

    def __call__(self, seen: Seen) -> Score:
        return _degree(self, seen, "utility")


def _three(metric: ForgetDegree | RetainUtility) -> dict[str, CombinedScore]:
    """C of the model, of the original and of the oracle on the same items."""
    original, oracle = (evolve(metric.scored, of=of) for of in (metric.original, metric.oracle))
    return {"score": metric.scored, "original": original, "oracle": oracle}


def _degree(metric: ForgetDegree | RetainUtility, seen: Seen, higher: Direction) -> Score:
    parts: dict[str, float] = {}
    left_out: dict[str, None] = {}
    n = 0
    for name, scored in _three(metric).items():
        score = scored(seen)
        if score.value is None:
            return Score.not_measured(f"C of {scored.of!r} was not measured: {score.reason}", higher)
        parts[name] = score.value
        left_out |= dict.fromkeys(score.left_out)
        n = max(n, score.n)
    requested, total = metric.requested, metric.total
    parts["target"] = target_score(parts["original"], parts["oracle"], requested=requested, total=total)
    return Score(degree(parts["score"], parts["target"]), higher, n=n, parts=parts, left_out=tuple(left_out))
