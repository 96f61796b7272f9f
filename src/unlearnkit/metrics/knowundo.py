r"""KnowUnDo: how many tokens of the answers are still first choice, where they should be forgotten and where not.

    acc = 100 · mean over answers of the share of tokens that are the model's most likely one, given the answer so far
    unlearn success = 100 - acc on what is to be forgotten,    retention success = acc on what is to be kept
    perplexity = exp of the mean over answers of the mean negative log-probability per token

Success in [0, 100]: higher, better forgotten or more useful. Teacher-forced: needs the most likely token and the
log-probability at each token of the answers, the end token included if it is supervised. "answers" (macro) weighs short
answers as much as long ones; "tokens" (micro) pools all tokens, as a loss averaged over a batch does.

A model that was damaged beyond use has a high unlearn success: read it only beside the retention success. Function
words are easily predicted, so that accuracy stays far above 0 on a model that never saw the answers.

Paper: Tian et al. To Forget or Not? Towards Practical Knowledge Unlearning for Large Language Models. Findings of EMNLP
2024, arXiv:2407.01920.

Checked: zjunlp/KnowUnDo@92aea2b, accuracy and perplexity over answers (6 recorded batches, 1e-5: float32 there). Over
tokens: against an independent computation on the same batches. The mean of the two successes is not in their code.

Deviations: none. The released code logs a second perplexity from the trainer's loss, a mean of batch means: over
tokens, where one batch holds all. ROUGE and general tasks are reported beside and not in this file.
"""

from __future__ import annotations

import math
from typing import get_args

from attrs import field, frozen
from attrs.validators import in_

from unlearnkit.errors import DataError
from unlearnkit.metrics.fluency import AnswerPerplexity, Averaging
from unlearnkit.metrics.memorization import exact_memorization
from unlearnkit.protocols import Direction, Flat, Metric, Needs, Score, Seen, Tokens
from unlearnkit.statistics import TopHit


def mean_success(unlearn: float, retention: float) -> float:
    """Arithmetic mean of unlearn success and retention success, both in [0, 100]."""
    if not (0 <= unlearn <= 100 and 0 <= retention <= 100):
        raise DataError(f"successes are in [0, 100]; got unlearn={unlearn} and retention={retention}.")
    return (unlearn + retention) / 2


@frozen
class UnlearnSuccess:
    """100 - accuracy on answers to be forgotten. Higher: better forgotten.

    Attributes:
        role: the data set.
        over: what the mean is taken over.
        of: the model that is measured.
    """

    role: str = "forget"
    over: Averaging = field(default="answers", validator=in_(get_args(Averaging)), kw_only=True)
    of: str = field(default="model", kw_only=True)

    @property
    def tokens(self) -> Tokens:
        return Tokens(TopHit(), self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.tokens})

    def __call__(self, seen: Seen) -> Score:
        flat = seen[self.tokens]
        missed = Flat(1 - flat.values, flat.row, flat.rows)
        return _percentage(missed, seen.ids[self.role], self.over, "forgetting")


@frozen
class RetentionSuccess:
    """Accuracy on answers to be kept. Higher: more useful.

    Attributes:
        role: the data set.
        over: what the mean is taken over.
        of: the model that is measured.
    """

    role: str = "retain"
    over: Averaging = field(default="answers", validator=in_(get_args(Averaging)), kw_only=True)
    of: str = field(default="model", kw_only=True)

    @property
    def tokens(self) -> Tokens:
        return Tokens(TopHit(), self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.tokens})

    def __call__(self, seen: Seen) -> Score:
        return _percentage(seen[self.tokens], seen.ids[self.role], self.over, "utility")


def _percentage(hits: Flat, ids: tuple[str, ...], over: Averaging, higher: Direction) -> Score:
    """100 times the mean of hits: over answers, each by its own mean, or over all tokens."""
    shares = exact_memorization(hits.values, hits.row, rows=hits.rows).tolist()
    per_answer = {key: 100 * share for key, share in zip(ids, shares, strict=True)}
    score = Score.mean(per_answer, higher)
    if over == "answers" or score.value is None:
        return score
    pooled = 100 * math.fsum(hits.values.tolist()) / len(hits.values)
    return Score(pooled, higher, n=score.n, left_out=score.left_out)


def knowundo_metrics(forget: str = "forget", retain: str = "retain", *, of: str = "model") -> dict[str, Metric]:
    """The benchmark's metrics by name: both successes, and the perplexity of both sets. One pass over each role."""
    return {
        "unlearn_success": UnlearnSuccess(forget, of=of),
        "retention_success": RetentionSuccess(retain, of=of),
        "forget_perplexity": AnswerPerplexity(forget, of=of),
        "retain_perplexity": AnswerPerplexity(retain, of=of),
    }
