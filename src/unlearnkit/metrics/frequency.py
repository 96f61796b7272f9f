r"""Unequal unlearning: report a score by how often each fact was seen in training, and where two kinds of score disagree.

    forgetting(m) = 1 - m_after / m_before,    gap = forgetting(probability) - forgetting(generation)

Facts that were seen often are harder to unlearn, and an evaluation of probabilities may call a fact forgotten that is
still generated, or the other way round: both are averaged away in one number over the forget set. A bucket is a range of
frequencies (counts in the training corpus, or repetitions in a synthetic one). The mean over buckets, weighted by their
sizes, is the overall score.

`forgetting` is 0 for a model that knows as much as before, 1 for one that knows nothing, negative for one that knows more;
it is not measured where nothing was known before. A gap above 0: probabilities fell further than generations.

Paper: Krishnan, Reddy, Mosbach. Not All Data Are Unlearned Equally. 2025, arXiv:2504.05058.

Reconstructed: buckets and the two kinds of evaluation are the paper's; that forgetting is normalised by the score before
unlearning, and the difference of the two, are our reading.

Checked: closed forms.

Deviations: the paper's generation score is ROUGE-L recall, its probability score a choice between True and False; any two
scores of examples can be passed here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from attrs import frozen

from unlearnkit.errors import DataError
from unlearnkit.protocols import Score


@frozen(order=True)
class Bucket:
    """Frequencies from `low` on, and below `high`."""

    low: float
    high: float

    def __contains__(self, frequency: float) -> bool:
        return self.low <= frequency < self.high

    def __str__(self) -> str:
        if math.isinf(self.low):
            return f"below {self.high:g}"
        return f"{self.low:g} or more" if math.isinf(self.high) else f"{self.low:g} to below {self.high:g}"


def buckets_of(bounds: Sequence[float]) -> tuple[Bucket, ...]:
    """The ranges between these bounds, and those below the first and from the last on.

    Raises:
        DataError: bounds that do not ascend.
    """
    if any(one >= other for one, other in pairwise(bounds)) or not all(map(math.isfinite, bounds)):
        raise DataError(f"bounds are {list(bounds)}; they have to be finite and ascend.")
    return tuple(Bucket(low, high) for low, high in pairwise([-math.inf, *bounds, math.inf]))


def by_frequency(score: Score, frequency: Mapping[str, float], bounds: Sequence[float]) -> dict[Bucket, Score]:
    """A mean over examples, bucket by bucket.

    Args:
        score: of a metric that is a mean over examples.
        frequency: of each example's fact, by id.
        bounds: between buckets, ascending.

    Raises:
        DataError: the score has no examples, or one has no frequency.
    """
    if not score.per_example or score.higher is None:
        raise DataError("this score is no mean over examples, so it has no parts. Pass one with per_example values.")
    missing = [key for key in score.per_example if not math.isfinite(frequency.get(key, math.nan))]
    if missing:
        raise DataError(f"{len(missing)} examples have no frequency, {missing[0]!r} among them. Give each a number.")
    found = {}
    for bucket in buckets_of(bounds):
        mine = {key: value for key, value in score.per_example.items() if frequency[key] in bucket}
        found[bucket] = Score.mean(mine, score.higher)
    return found


def forgetting(before: Score, after: Score) -> Score:
    """What share of a score is gone: 1 - after / before."""
    if before.value is None or after.value is None:
        return Score.not_measured(before.reason or after.reason or "a score is missing", "forgetting")
    if before.value <= 0:
        return Score.not_measured(f"the score before was {before.value:g}: nothing was known", "forgetting")
    return Score(1 - after.value / before.value, "forgetting", n=after.n)


def probability_generation_gap(probability: Score, generation: Score) -> Score:
    """By how much more of the probability is gone than of what is generated; both as `forgetting` gives them."""
    if probability.value is None or generation.value is None:
        return Score.not_measured(probability.reason or generation.reason or "a score is missing")
    gap = probability.value - generation.value
    return Score(gap, None, n=generation.n, parts={"probability": probability.value, "generation": generation.value})
