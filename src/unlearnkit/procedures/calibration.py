r"""Unlearning with control (UWC): give back as much of the original as restores retention, then compare the forgetting.

    theta(a) = a * theta_original + (1 - a) * theta_unlearned,    a* = min { a in [0, 1] : R(theta(a)) >= tau * R(theta_original) }

Methods trade forgetting against retention at different exchange rates, so that two pairs of numbers cannot be ranked.
Mixed until the retain score R is back at the share tau of the original's, each model is left with one number: the forget
score of theta(a*). Lower a* means that less had to be given back. Retention need not rise with a; the search looks along
a grid from the unlearned end and refines the first bracket that meets the bar, whatever lies beyond.

Paper: Wang, Han, Zhang, Zhu, Liu, Zhou, Liu. Towards Effective Evaluations and Comparisons for LLM Unlearning Methods.
ICLR 2025, arXiv:2406.09179.

Checked: the mixing and the bar as in tmlr-group/Unlearning-with-Control, in closed forms; the repository has no search,
so that grid and bisection are our reading.

Deviations: the paper writes alpha = 1 - a, the weight of the unlearned model, and looks for the largest. tau is 0.9 in
the code. The mix is computed in float32 and rounded back once; buffers that are not trained come from the unlearned
model; tied weights stay tied. A score of which less is better (a loss, a perplexity) meets the bar at R <= R_original/tau.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from attrs import frozen
from transformers import PreTrainedModel

from unlearnkit.errors import DataError


@frozen
class Calibration:
    """What the search found.

    Attributes:
        weight: a*, of the original in the mix; 0 if the unlearned model meets the bar as it is.
        retain: R at a*.
        bar: what R had to reach.
        tried: (a, R) in the order they were evaluated.
    """

    weight: float
    retain: float
    bar: float
    tried: tuple[tuple[float, float], ...]


def mixed(original: PreTrainedModel, unlearned: PreTrainedModel, weight: float) -> PreTrainedModel:
    """A new model whose parameters are `weight` of the original's and 1 - `weight` of the unlearned one's.

    0 and 1 give back either's parameters bit by bit.

    Raises:
        DataError: a weight outside [0, 1], or models whose parameters differ in name or shape.
    """
    if not 0 <= weight <= 1:
        raise DataError(f"weight is {weight}; it is the original's share in the mix, from 0 to 1.")
    ours, theirs = dict(original.named_parameters()), dict(unlearned.named_parameters())
    if apart := sorted(
        name
        for name in ours.keys() | theirs.keys()
        if name not in ours or name not in theirs or ours[name].shape != theirs[name].shape
    ):
        raise DataError(
            f"the two models cannot be mixed: {len(apart)} parameters differ in name or shape, {apart[0]!r} among them. "
            "Mix a model with what it became by unlearning; merge adapters first."
        )
    between = copy.deepcopy(unlearned)
    with torch.no_grad():
        for name, parameter in between.named_parameters():
            if weight == 1:
                parameter.copy_(ours[name])
            elif weight > 0:
                share = weight * ours[name].float() + (1 - weight) * theirs[name].float()
                parameter.copy_(share)
    return between


def calibrate(
    original: PreTrainedModel,
    unlearned: PreTrainedModel,
    retain_score: Callable[[PreTrainedModel], float],
    *,
    share: float = 0.9,
    lower_is_better: bool = False,
    grid: int = 10,
    tolerance: float = 0.01,
) -> Calibration:
    """The smallest weight of the original at which the mix retains enough; `mixed` makes the model to report.

    Args:
        original: before unlearning.
        unlearned: after it.
        retain_score: R of a model, non-negative and finite.
        share: tau, of the original's score that has to be reached.
        lower_is_better: whether R is a loss or a perplexity.
        grid: steps of the coarse search, from the unlearned end.
        tolerance: width of the bracket at which bisection ends; the returned weight meets the bar.

    Raises:
        DataError: a share outside [0, 1], no grid or tolerance, a score that is negative or not finite.
    """
    if not 0 <= share <= 1:
        raise DataError(f"share is {share}; it is the part of the original's retain score to reach, from 0 to 1.")
    if grid < 1 or tolerance <= 0:
        raise DataError(f"grid is {grid} and tolerance {tolerance}; a search takes at least 1 step and ends above 0.")
    tried: list[tuple[float, float]] = []

    def score(weight: float) -> float:
        value = retain_score(mixed(original, unlearned, weight))
        if not (math.isfinite(value) and value >= 0):
            raise DataError(f"the retain score at weight {weight:g} is {value}; it has to be finite and not negative.")
        tried.append((weight, value))
        return value

    of_original = score(1.0)
    if lower_is_better:
        bar = of_original / share if share > 0 else math.inf
    else:
        bar = share * of_original

    def enough(value: float) -> bool:
        return value <= bar if lower_is_better else value >= bar

    below = 0.0
    for step in range(grid + 1):
        weight = step / grid
        value = of_original if step == grid else score(weight)
        if enough(value):
            break
        below = weight
    while weight - below > tolerance and step > 0:
        middle = (below + weight) / 2
        if enough(found := score(middle)):
            weight, value = middle, found
        else:
            below = middle
    return Calibration(weight, value, bar, tuple(tried))
