r"""Benchmark²: is a benchmark any good? Agreement with its peers, discrimination, and order within model families.

    CBRC(i) = mean over peers j of Kendall's tau-b between the models' scores on i and on j           in [-1, 1]
    DS      = (sigma / mean) * sqrt(share of pairs of models whose scores differ by more than eps)    at least 0
    CAD     = exp(-12 inv)    inv: share of items, over pairs (stronger, weaker) of one model family, that the stronger
                              model fails and the weaker one solves                                   in (0, 1]
    BQS     = 0.3 DS + 0.4 CAD + 0.3 (CBRC + 1) / 2

Higher is better in all. Benchmarks can be metrics of unlearning, and models the full, the retrained and the unlearned
ones: CBRC then says which metric orders methods as its peers do.

Failure modes: sigma / mean grows without bound where all scores are near 0, so that a score where lower is better, or
one of a benchmark nobody solves, looks discriminating: turn it around first, and look at the two factors. With few
models tau moves in coarse steps.

Paper: Qian et al. Benchmark²: Systematic Evaluation of LLM Benchmarks. 2026, arXiv:2601.03986.

Checked: laws, and a fixture of an independent re-implementation (DS, 1e-9). No code of the authors was found: CBRC is
the paper's as summarised; DS agrees in two re-implementations; the map of CAD and the weights of BQS are from one.

Deviations: eps is not settled (0.02 here). The paper's stability score is left out: its definition was not found.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from scipy import stats

from unlearnkit.errors import DataError


class Discriminability(NamedTuple):
    """How well scores separate models.

    Attributes:
        value: the product of the next and the square root of the last.
        spread: population standard deviation of the scores over their mean; 0 if the mean is 0.
        separated: share of pairs of models that differ by more than eps.
    """

    value: float
    spread: float
    separated: float


class Alignment(NamedTuple):
    """How often a stronger model of a family fails where a weaker one succeeds.

    Attributes:
        value: exp(-12 `inversion`); 1: never.
        inversion: share of items and pairs.
        per_item: number of inversions of each item, by its id; those with many are candidates for removal.
    """

    value: float
    inversion: float
    per_item: Mapping[str, int]


def cross_benchmark_consistency(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """CBRC of each benchmark: mean Kendall's tau-b with its peers; nan without any peer to compare with.

    Args:
        scores: benchmark -> model -> score, higher is better; all benchmarks score the same models. A benchmark on
            which all models tie has no tau, and is left out of its peers' means.

    Raises:
        DataError: benchmarks with different models, or a score that is not finite.
    """
    models = _models(scores)
    values = {name: [row[model] for model in models] for name, row in scores.items()}
    taus = {name: list[float]() for name in scores}
    for one, other in combinations(scores, 2):
        if any(len(set(values[name])) < 2 for name in (one, other)):
            continue
        tau = float(stats.kendalltau(values[one], values[other]).statistic)
        taus[one].append(tau)
        taus[other].append(tau)
    return {name: math.fsum(found) / len(found) if found else math.nan for name, found in taus.items()}


def discriminability(scores: Sequence[float], *, eps: float = 0.02) -> Discriminability | None:
    """DS of a benchmark from one score per model; None for fewer than two models.

    Args:
        scores: at least 0, higher is better.
        eps: difference above which two models count as separated.

    Raises:
        DataError: a score below 0 or not finite, or a negative `eps`.
    """
    if not all(0 <= score < math.inf for score in scores) or eps < 0:
        raise DataError(
            f"discriminability needs finite scores and eps of at least 0; got {list(scores)} and eps {eps}. Turn a "
            "score where lower is better around first."
        )
    if len(scores) < 2:
        return None
    mean = math.fsum(scores) / len(scores)
    spread = statistics.pstdev(scores) / mean if mean > 0 else 0.0
    pairs = [abs(one - other) > eps for one, other in combinations(scores, 2)]
    separated = sum(pairs) / len(pairs)
    return Discriminability(spread * math.sqrt(separated), spread, separated)


def capability_alignment(correct: Mapping[str, Mapping[str, bool]], families: Sequence[Sequence[str]]) -> Alignment:
    """CAD of a benchmark.

    Args:
        correct: model -> item id -> whether it was solved; all models answer the same items.
        families: the models of each family, from the weakest to the strongest; every pair of one family is compared.

    Raises:
        DataError: no pair of models, a model without answers, or models that answered different items.
    """
    pairs = [pair for family in families for pair in combinations(family, 2)]
    if not pairs:
        raise DataError(
            "families holds no two models of one family; capability alignment compares weaker and stronger."
        )
    if unknown := sorted({model for pair in pairs for model in pair} - correct.keys()):
        raise DataError(f"model {unknown[0]!r} is in a family but has no answers; `correct` has {sorted(correct)}.")
    items = correct[pairs[0][0]].keys()
    for model in {model for pair in pairs for model in pair}:
        if differing := sorted(correct[model].keys() ^ items):
            raise DataError(f"item {differing[0]!r} was not answered by all models of the families; {model!r} differs.")
    if not items:
        raise DataError("no items; capability alignment is a share of items.")
    per_item = {
        item: sum(correct[weaker][item] and not correct[stronger][item] for weaker, stronger in pairs) for item in items
    }
    inversion = sum(per_item.values()) / (len(pairs) * len(per_item))
    return Alignment(math.exp(-12 * inversion), inversion, per_item)


def benchmark_quality(*, discriminability: float, alignment: float, consistency: float) -> float:
    """BQS from DS, CAD and CBRC.

    Raises:
        DataError: DS is negative, CAD not in [0, 1], or CBRC not in [-1, 1].
    """
    if not (discriminability >= 0 and 0 <= alignment <= 1 and -1 - 1e-9 <= consistency <= 1 + 1e-9):
        raise DataError(
            f"benchmark quality needs discriminability >= 0, alignment in [0, 1] and consistency in [-1, 1]; got "
            f"{discriminability}, {alignment}, {consistency}."
        )
    return 0.3 * discriminability + 0.4 * alignment + 0.3 * (consistency + 1) / 2


def best_items(correct: Mapping[str, Mapping[str, bool]], alignment: Alignment, *, keep: float = 0.35) -> list[str]:
    """The share of items with the fewest inversions, of equals those that split the models most evenly.

    Args:
        correct: model -> item id -> whether it was solved.
        alignment: what `capability_alignment` found on the same items.
        keep: share of items, above 0 and up to 1; at least one is kept.

    Raises:
        DataError: `keep` is no such share, or there are no models.
    """
    if not 0 < keep <= 1 or not correct:
        raise DataError(f"keep is {keep} of {len(correct)} models' answers; it is a share above 0, of items answered.")
    solved = {item: sum(row[item] for row in correct.values()) / len(correct) for item in alignment.per_item}
    order = sorted(alignment.per_item, key=lambda item: (alignment.per_item[item], abs(solved[item] - 0.5)))
    return order[: max(1, round(keep * len(order)))]


def _models(scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    models = list(next(iter(scores.values()), {}))
    for name, row in scores.items():
        if differing := sorted(row.keys() ^ set(models)):
            raise DataError(
                f"model {differing[0]!r} is not scored by all benchmarks; {name!r} differs. Score it, or drop it."
            )
        if not all(map(math.isfinite, row.values())):
            raise DataError(f"benchmark {name!r} has a score that is not finite; leave out the model or the benchmark.")
    return models
