r"""Is one model better than another on the same examples, or were they lucky?

    difference d_i = first_i - second_i,    mean(d)
    interval   percentile bootstrap of mean(d): examples are drawn with replacement, both models' values together
    p-value    P(|mean(s d)| >= |mean(d)|),  s_i = ±1 at random: two-sided sign-flip permutation test

The test is exact, over all 2^n sign patterns, as long as n is small; else it draws patterns and counts the observed one
with them, p = (1 + hits) / (1 + draws), which cannot be 0. Pairing removes how hard an example is: two models whose
separate intervals overlap can differ beyond doubt.

Failure modes: both speak of other examples of the same kind, not of training again with another seed; examples that
belong together (paraphrases of one question) count as if they were independent. Many metrics compared at once need a
correction.

Methods: Efron, Tibshirani. An Introduction to the Bootstrap, 1993. Phipson, Smyth. Permutation P-values Should Never Be
Zero. SAGMB 2010. Dror, Baumer, Shlomov, Reichart. The Hitchhiker's Guide to Testing Statistical Significance in NLP.
ACL 2018.

Checked: scipy 1.17.1, `bootstrap` (paired) and `permutation_test` (exact, and within Monte Carlo error).

Deviations: none.
"""

from __future__ import annotations

import math

import numpy as np
from attrs import frozen
from scipy import stats

from unlearnkit.errors import DataError
from unlearnkit.protocols import Direction, Interval, Score


@frozen
class PairedComparison:
    """What two models' scores on the same examples say about their difference.

    Attributes:
        difference: mean of the first minus the second.
        interval: bootstrap interval of `difference`; of no width for a single example.
        p_value: two-sided sign-flip test; 1 if no example differs.
        better, equal, worse: examples on which the first is above, at and below the second.
        higher: what a higher value means: with "knowledge", a `better` example is one the first knows more of.
        n: examples compared.
        left_out: ids of examples that either score could not measure.
    """

    difference: float
    interval: Interval
    p_value: float
    better: int
    equal: int
    worse: int
    higher: Direction | None
    n: int
    left_out: tuple[str, ...] = ()


def compare_paired(
    first: Score,
    second: Score,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    exact_up_to: int = 14,
    seed: int = 0,
) -> PairedComparison:
    """Compare what one metric gave for two models on the same examples.

    Examples are matched by id; their order does not matter.

    Args:
        first, second: scores that hold a value per example.
        level: share of the resampled mean differences that lies in the interval, between 0 and 1.
        resamples: number of resampled means, and of sign patterns drawn where they are not all taken.
        exact_up_to: number of examples that differ up to which all sign patterns are taken.
        seed: of both; equal seeds give equal results.

    Raises:
        DataError: no values per example, other examples in one score than in the other, metrics that point in different
            directions, or a level, `resamples` or `exact_up_to` that cannot be.
    """
    if not 0 < level < 1:
        raise DataError(f"level is {level}; it is a share between 0 and 1, 0.95 for an interval of 95 %.")
    if resamples < 1 or not 0 <= exact_up_to <= 20:
        raise DataError(
            f"resamples is {resamples} and exact_up_to {exact_up_to}; at least 1, and between 0 and 20, are possible."
        )
    if first.higher != second.higher:
        raise DataError(
            f"a higher value means {first.higher!r} in the first score and {second.higher!r} in the second: these are "
            "two metrics. Compare the same metric of two models."
        )
    left_out = _check_ids(first, second)
    ids = sorted(first.per_example.keys() & second.per_example.keys())
    if not ids:
        raise DataError(
            "the scores share no measured example. Only a mean over examples can be compared example by example; "
            f"reasons given: {first.reason!r}, {second.reason!r}."
        )
    one = np.array([first.per_example[key] for key in ids], dtype=np.float64)
    other = np.array([second.per_example[key] for key in ids], dtype=np.float64)
    finite = np.isfinite(one) & np.isfinite(other)
    if not finite.all():
        key = ids[int(finite.argmin())]
        raise DataError(
            f"example {key!r} has values {first.per_example[key]} and {second.per_example[key]}, which have no "
            "difference. A metric gives nan to an example that it could not measure."
        )
    differences = one - other
    return PairedComparison(
        difference=math.fsum(differences) / len(ids),
        interval=_interval(differences, level, resamples, seed),
        p_value=_sign_flip(differences, resamples, exact_up_to, seed),
        better=int((differences > 0).sum()),
        equal=int((differences == 0).sum()),
        worse=int((differences < 0).sum()),
        higher=first.higher,
        n=len(ids),
        left_out=left_out,
    )


def _check_ids(first: Score, second: Score) -> tuple[str, ...]:
    """Ids that either score could not measure; an error if one of them never saw an example of the other."""
    known = first.per_example.keys() | set(first.left_out), second.per_example.keys() | set(second.left_out)
    only = {"first": sorted(known[0] - known[1]), "second": sorted(known[1] - known[0])}
    if any(only.values()):
        told = "; ".join(
            f"{len(ids)} only in the {name}: {', '.join(ids[:5])}" + (" …" if len(ids) > 5 else "")
            for name, ids in only.items()
            if ids
        )
        raise DataError(f"the scores are of different examples ({told}). Evaluate both models on the same rows.")
    return tuple(sorted(set(first.left_out) | set(second.left_out)))


_Values = np.ndarray[tuple[int], np.dtype[np.float64]]


def _interval(differences: _Values, level: float, resamples: int, seed: int) -> Interval:
    if len(differences) == 1 or np.ptp(differences) == 0:
        return Interval(float(differences[0]), float(differences[0]), level)
    found = stats.bootstrap(
        (differences,),
        np.mean,
        n_resamples=resamples,
        confidence_level=level,
        method="percentile",
        batch=max(1, 4_000_000 // len(differences)),
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(found.low), float(found.high), level)


def _sign_flip(differences: _Values, resamples: int, exact_up_to: int, seed: int) -> float:
    """Share of sign patterns whose sum is at least as far from 0 as the observed one."""
    sizes = np.abs(differences[differences != 0])  # a flipped 0 changes nothing
    if len(sizes) == 0:
        return 1.0
    observed = abs(math.fsum(differences)) - 1e-12 * float(sizes.sum())  # patterns that tie but for rounding count
    if len(sizes) <= exact_up_to:
        sums = np.zeros(1)
        for size in sizes:
            sums = np.concatenate([sums + size, sums - size])
        return float((np.abs(sums) >= observed).mean())
    generator = np.random.default_rng(seed)
    hits, block = 0, max(1, 4_000_000 // len(sizes))
    for start in range(0, resamples, block):
        signs = generator.integers(0, 2, (min(block, resamples - start), len(sizes)), dtype=np.int8) * 2 - 1
        hits += int((np.abs(signs @ sizes) >= observed).sum())
    return (1 + hits) / (1 + resamples)
