"""Bootstrap intervals: how much a score would move with other examples of the same kind."""

from __future__ import annotations

import math

import numpy as np
from attrs import evolve
from scipy import stats

from unlearnkit.errors import DataError
from unlearnkit.protocols import Interval, Score


def with_interval(score: Score, *, level: float = 0.95, resamples: int = 1000, seed: int = 0) -> Score:
    """The score with a percentile bootstrap interval over its examples.

    Examples are drawn with replacement `resamples` times; the interval spans the middle `level` of the means. It holds
    the chance of drawing other examples, not that of training again with another seed.

    Only a mean over examples has such an interval: the score must hold at least two values in `per_example`, and its
    value must be their mean. Any other score (a p-value, a harmonic mean of means, "not measured") comes back as it is.

    Args:
        score: what to put an interval around; the order of its examples does not matter.
        level: share of the resampled means that lies inside, between 0 and 1.
        resamples: number of resampled means.
        seed: of the resampling; equal seeds give equal intervals.

    Raises:
        DataError: `level` is not between 0 and 1, or `resamples` is below 1.
    """
    if not 0 < level < 1:
        raise DataError(f"level is {level}; it is a share between 0 and 1, 0.95 for an interval of 95 %.")
    if resamples < 1:
        raise DataError(f"resamples is {resamples}; an interval needs at least one resampled mean, better 1000.")
    values = np.array([value for _, value in sorted(score.per_example.items())], dtype=np.float64)
    if score.value is None or len(values) < 2 or not math.isclose(score.value, values.mean(), abs_tol=1e-12):
        return score
    result = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    interval = result.confidence_interval
    return evolve(score, interval=Interval(float(interval.low), float(interval.high), level))
