r"""MemoryBench: scores of many data sets with scales of their own, brought to one scale by stored constants.

    one data set       mean of each metric over its items
    several            s' = (s - min) / (max - min) per item;  mean per data set;  then
                       average    mean over data sets          each weighs the same
                       weighted   mean over all items          a large data set weighs more
                       z_score    mean over all items of (s - mean) / std

The constants belong to the benchmark and are stored with it: taken from the scores at hand they would make two models
incomparable. Higher is more useful. 0 and 1 are the worst and the best score seen when the constants were made, so that
a model can lie outside. Its stream of user feedback, data set after data set, is also a source of requests that arrive
one after the other.

Needs one number per item; where an item has several metrics, a judge merges them first, which is not done here.

Paper: Ai, Tang, Wang, Long, Su, Liu. MemoryBench: A Benchmark for Memory and Continual Learning in LLM Systems. 2025,
arXiv:2510.17281.

Checked: laws only; written from the aggregation of LittleDinoC/MemoryBench@9a33aae.

Deviations: a metric that an item lacks is left out of the mean; the released code counts 0 (`missing=0.0`). It gives 0
where constants have no spread; ours are refused. What is neither number nor truth value counts 0 there, and is refused
here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from attrs import Attribute, field, frozen

from unlearnkit.errors import DataError
from unlearnkit.protocols import Score


def _above_min(scale: Scale, _: Attribute[float], value: float) -> None:
    if not scale.min < value < math.inf or not -math.inf < scale.min:
        raise DataError(f"min is {scale.min} and max is {value}; a data set's scale needs finite min < max.")


def _spread(_: Scale, __: Attribute[float], value: float) -> None:
    if not 1e-6 < value < math.inf:
        raise DataError(f"std is {value}; a data set's scale needs a finite standard deviation above 1e-6.")


@frozen(kw_only=True)
class Scale:
    """Constants of a data set: the extremes, mean and standard deviation of scores when the benchmark was made."""

    min: float
    max: float = field(validator=_above_min)
    mean: float
    std: float = field(validator=_spread)

    def between_extremes(self, score: float) -> float:
        """0 at the minimum, 1 at the maximum."""
        return (score - self.min) / (self.max - self.min)

    def z_score(self, score: float) -> float:
        """Standard deviations above the mean."""
        return (score - self.mean) / self.std


def metric_means(items: Sequence[Mapping[str, float | bool]], *, missing: float | None = None) -> dict[str, float]:
    """Mean of each metric over the items of one data set; a metric that no item has is not in the result.

    Args:
        items: the metrics of each item; a truth value is 1 or 0.
        missing: what an item that lacks a metric counts. None: it is left out.

    Raises:
        DataError: something else than a number.
    """
    values: dict[str, list[float]] = {name: [] for item in items for name in item}
    for place, item in enumerate(items):
        for name, numbers in values.items():
            value = item.get(name, missing)
            if value is None:
                continue
            if not isinstance(value, int | float):
                raise DataError(f"metric {name!r} of item {place} is {value!r}; a number is needed.")
            numbers.append(float(value))
    return {name: math.fsum(numbers) / len(numbers) for name, numbers in values.items() if numbers}


def memorybench_score(scores: Mapping[str, Mapping[str, float]], scales: Mapping[str, Scale]) -> Score:
    """The "average" over data sets; `parts` also holds "weighted", "z_score" and each data set.

    Args:
        scores: by data set and item id; nan was not measured.
        scales: constants by data set.

    Raises:
        DataError: a data set without constants.
    """
    if unknown := scores.keys() - scales.keys():
        raise DataError(
            f"data set {sorted(unknown)[0]!r} has no scale; there are scales for {', '.join(sorted(scales)) or 'none'}."
        )
    measured = {
        name: kept
        for name, items in scores.items()
        if (kept := [score for score in items.values() if not math.isnan(score)])
    }
    left_out = tuple(f"{name}/{key}" for name, items in scores.items() for key in items if math.isnan(items[key]))
    if not measured:
        return Score(None, "utility", reason=f"none of {len(scores)} data sets could be measured", left_out=left_out)
    between = {name: [scales[name].between_extremes(score) for score in kept] for name, kept in measured.items()}
    n = sum(map(len, measured.values()))
    means = {name: math.fsum(kept) / len(kept) for name, kept in between.items()}
    weighted = math.fsum(score for kept in between.values() for score in kept) / n
    z_score = math.fsum(scales[name].z_score(score) for name, kept in measured.items() for score in kept) / n
    return Score(
        math.fsum(means.values()) / len(means),
        "utility",
        n=n,
        parts=means | {"weighted": weighted, "z_score": z_score},
        left_out=left_out,
    )
