r"""Faithfulness of a metric: does it tell models that were taught the forget set from models that were not?

    faithfulness = P(m(with) > m(without)) + P(equal) / 2        m: the metric, turned so that higher is more knowledge

over two pools of models, those trained with the knowledge and those trained without it. 1: every model that knows
scores above every one that does not; 1/2: no better than a coin, as any constant metric. Below 1/2 the metric points
the wrong way. It sees the order of values only, so that any increasing transform of the metric leaves it as it is.

The value that separates the pools best is the metric's threshold: models below it count as unlearned, which is how
`unlearnkit.metrics.robustness` picks the models it looks at.

The published pools for TOFU forget10 have 30 models each: with the facts in their own words, as biographies or
paraphrased; and without, with false answers or with other biographies instead. With a pool of n models on each side
the result moves in steps of 1/n², and pools that differ in more than the knowledge (another learning rate, broken
models on one side) measure that as well.

Paper: Dorna et al. OpenUnlearning: Accelerating LLM Unlearning via Unified Benchmarking of Methods and Metrics.
NeurIPS 2025, arXiv:2506.12618.

Checked: gnueaj/unlearning-depth-score@fc31639, a re-implementation of the paper's meta-evaluation (1e-9); the paper's
own meta-evaluation code was not found.

Deviations: the criterion of the threshold is our reading. The paper speaks of the best separating threshold; here it
is the midpoint between two neighbouring values at which the share of models told right, averaged over the two pools, is
largest; among equals the one in the widest gap, then the lowest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from unlearnkit.errors import DataError
from unlearnkit.metrics.membership import auc
from unlearnkit.protocols import Direction, Score


class Threshold(NamedTuple):
    """Where a metric separates two pools best.

    Attributes:
        value: on the metric's own scale; it counts a model as knowing on the side of more knowledge, this value
            included. Infinite if no value separates the pools better than calling all models the same.
        accuracy: share of the models told right, averaged over the two pools; at least 1/2.
    """

    value: float
    accuracy: float


def towards_knowledge(value: float, higher: Direction, *, top: float = 1.0) -> float:
    """A metric's value on a scale where higher is more knowledge: itself, or `top` minus it.

    Args:
        value: what the metric gave.
        higher: what a higher value means; of "utility" nothing can be said about the forget set.
        top: the largest value of a metric of forgetting, 1 for shares and p-values.

    Raises:
        DataError: `higher` is "utility".
    """
    if higher == "utility":
        raise DataError(
            "a metric whose higher values mean utility does not measure knowledge of the forget set; pass one whose "
            "`higher` is 'knowledge' or 'forgetting'."
        )
    return value if higher == "knowledge" else top - value


def faithfulness(
    with_knowledge: Sequence[float], without_knowledge: Sequence[float], *, higher: Direction = "knowledge"
) -> float:
    """Chance that a model with the knowledge scores above one without, ties counted half; in [0, 1].

    Args:
        with_knowledge: the metric of each model that was trained on the forget set's facts.
        without_knowledge: the metric of each model that was not.
        higher: what a higher value means; for "forgetting" the order is turned around.

    Raises:
        DataError: an empty pool, nan, or a metric of utility.
    """
    _check(with_knowledge, without_knowledge)
    sign = towards_knowledge(1.0, higher, top=0.0)  # by sign: 1 - x would make small p-values equal
    return auc([sign * value for value in without_knowledge], [sign * value for value in with_knowledge])


def faithfulness_of_scores(with_knowledge: Sequence[Score], without_knowledge: Sequence[Score]) -> float:
    """`faithfulness` from one metric's scores of each model, turned by what they say of themselves.

    Raises:
        DataError: a score was not measured, or the scores do not all point the same way.
    """
    pools = {"with_knowledge": with_knowledge, "without_knowledge": without_knowledge}
    for name, pool in pools.items():
        for number, score in enumerate(pool):
            if score.value is None:
                raise DataError(
                    f"{name}[{number}] was not measured ({score.reason}); leave that model out, or measure it."
                )
    directions = {score.higher for pool in pools.values() for score in pool}
    if len(directions) != 1 or None in directions:
        raise DataError(
            f"the scores of the two pools point in {len(directions)} directions ({sorted(map(str, directions))}); pass "
            "the scores of one metric, each with its direction `higher`."
        )
    measured = [[score.value for score in pool if score.value is not None] for pool in pools.values()]
    higher = next(direction for direction in directions if direction is not None)
    return faithfulness(measured[0], measured[1], higher=higher)


def best_threshold(
    with_knowledge: Sequence[float], without_knowledge: Sequence[float], *, higher: Direction = "knowledge"
) -> Threshold:
    """The value of a metric that separates two pools of models best.

    Args:
        with_knowledge: the metric of each model that was trained on the forget set's facts.
        without_knowledge: the metric of each model that was not.
        higher: what a higher value means.

    Raises:
        DataError: an empty pool, nan, or a metric of utility.
    """
    _check(with_knowledge, without_knowledge)
    sign = towards_knowledge(1.0, higher, top=0.0)
    knowing = [sign * value for value in with_knowledge]
    ignorant = [sign * value for value in without_knowledge]
    best, widest, accuracy = math.inf, 0.0, 0.5
    for low, high in pairwise(sorted({*knowing, *ignorant})):
        middle = low / 2 + high / 2
        cut = middle if low < middle else high  # of neighbouring floats, or below infinity, there is no middle
        hits = sum(value >= cut for value in knowing) / len(knowing)
        rejections = sum(value < cut for value in ignorant) / len(ignorant)
        if hits + rejections > 1 and ((hits + rejections) / 2, high - low) > (accuracy, widest):
            best, widest, accuracy = cut, high - low, (hits + rejections) / 2
    return Threshold(sign * best, accuracy)


def _check(with_knowledge: Sequence[float], without_knowledge: Sequence[float]) -> None:
    for name, pool in (("with_knowledge", with_knowledge), ("without_knowledge", without_knowledge)):
        if not pool:
            raise DataError(f"{name} is empty; faithfulness compares models trained with the knowledge and without.")
        for number, value in enumerate(pool):
            if math.isnan(value):
                raise DataError(f"{name}[{number}] is nan; leave out a model that the metric could not measure.")
