r"""A few items that stand for a whole benchmark: chosen by what they demand, or by what past models' answers teach.

`select_by_demand` (Scales++): items are rated on demands (reasoning, knowledge ...), without any model's answers, and
clustered by k-means; the item nearest to each centre stands for its cluster.

    estimate = sum_c (items in c / n) * score of the item that stands for c

`TwoPL` (active acquisition): a logistic model of one ability, fitted on a table of past models and items, says which
items to ask next and predicts the rest.

    P(model j solves item i) = sigmoid(a_i theta_j + c_i),  a_i > 0,  theta ~ N(0, 1)
    next item: the one that most reduces the variance of the mean score, given all outcomes so far, in the best linear
    prediction;  predicted score = mean of acquired outcomes and predicted probabilities

Estimates are in [0, 1] where scores are. Asking all items gives the exact mean.

Needs ratings from outside (a judge's, from 0 to 5 on 16 scales in the paper); or a table of past outcomes. Known
failure modes: an estimate from few items is no measurement, least of all of an unlearned model, which fails in other
places than the models of the past; a wide cluster is stood for by one item as a narrow one is. `TwoPL` keeps a table of
items by items.

Papers: Bean, Seedat, Chen, Schwarz. Scales++: Compute Efficient Evaluation Subset Selection with Cognitive Scales
Embeddings. 2025, arXiv:2510.26384. Li, Ma, Ballesteros, Benajiba, Horwood. Active Evaluation Acquisition for Efficient
LLM Benchmarking. ICML 2025, arXiv:2410.05952.

Checked: laws only. Neither paper has released code. Of Scales++, ratings, clustering and cluster weights are the
paper's; its UMAP is an injected `reduce` here (none by default), and its blend with a predictor per item is left out.
Of active acquisition, the two steps (select, predict) are the paper's; its neural process and learned policy are
replaced by the logistic model and the greedy rule, which are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from attrs import frozen
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from scipy.special import expit, logsumexp

from unlearnkit.errors import DataError

Array = NDArray[np.float64]

_ABILITIES, _DENSITY = np.polynomial.hermite_e.hermegauss(41)
_LOG_WEIGHTS: Array = np.log(_DENSITY / _DENSITY.sum())


class Selection(NamedTuple):
    """Places of the items that stand for the benchmark, ascending, and what each weighs; weights sum to 1."""

    items: tuple[int, ...]
    weights: tuple[float, ...]

    def estimate(self, scores: Mapping[int, float]) -> float:
        """Estimated mean score of the whole benchmark, from the scores of the selected items by place.

        Raises:
            DataError: a selected item has no score.
        """
        if absent := set(self.items) - scores.keys():
            raise DataError(f"item {min(absent)} was selected and has no score, nor have {len(absent) - 1} others.")
        return math.fsum(weight * scores[item] for item, weight in zip(self.items, self.weights, strict=True))


def select_by_demand(
    ratings: ArrayLike, budget: int, *, seed: int = 0, reduce: Callable[[Array], Array] | None = None
) -> Selection:
    """Choose `budget` items that stand for all, by what they demand.

    Args:
        ratings: [n, d] finite, a row per item.
        budget: how many, from 1 to n. Items with equal ratings share a cluster; beyond one item per different rating,
            the largest clusters are stood for by several.
        seed: of the first centres. The order of items matters only to ties.
        reduce: maps ratings to fewer dimensions, [n, d] -> [n, e].

    Raises:
        DataError: ratings of another form, or a budget that cannot be.
    """
    rated = np.asarray(ratings, dtype=np.float64)
    if rated.ndim != 2 or not rated.size or not np.isfinite(rated).all():
        raise DataError(f"ratings have shape {rated.shape} and must be finite; a row of numbers per item is needed.")
    if not 1 <= budget <= len(rated):
        raise DataError(f"budget is {budget} of {len(rated)} items; choose from 1 to all of them.")
    points = rated if reduce is None else reduce(rated)
    distinct, place, sizes = np.unique(points, axis=0, return_inverse=True, return_counts=True)
    centres = _k_means(distinct, sizes, min(budget, len(distinct)), np.random.default_rng(seed))
    cluster = _nearest(distinct, centres)[place.reshape(-1)]
    distance = np.square(points - centres[cluster]).sum(1)
    members = [np.flatnonzero(cluster == number) for number in range(len(centres))]
    picks = [1] * len(centres)
    for _ in range(budget - len(centres)):
        shares = [
            len(inside) / picks[number] if picks[number] < len(inside) else 0 for number, inside in enumerate(members)
        ]
        picks[int(np.argmax(shares))] += 1
    chosen: dict[int, float] = {}
    for inside, count in zip(members, picks, strict=True):
        nearest = inside[np.argsort(distance[inside], kind="stable")[:count]]
        chosen |= {int(item): len(inside) / (count * len(points)) for item in nearest}
    return Selection(tuple(sorted(chosen)), tuple(chosen[item] for item in sorted(chosen)))


def _k_means(points: Array, sizes: NDArray[np.int64], k: int, random: np.random.Generator) -> Array:
    """Centres of k non-empty clusters: k-means++, then Lloyd's steps until nothing moves. Points are all different."""
    chosen = [int(random.choice(len(points), p=sizes / sizes.sum()))]
    while len(chosen) < k:
        gap = cdist(points, points[chosen], "sqeuclidean").min(1) * sizes
        chosen.append(int(random.choice(len(points), p=gap / gap.sum())))
    centres = points[chosen]
    for _ in range(300):
        cluster = _nearest(points, centres)
        for empty in set(range(k)) - set(cluster.tolist()):
            lonely = np.square(points - centres[cluster]).sum(1) * (np.bincount(cluster, minlength=k)[cluster] > 1)
            cluster[int(np.argmax(lonely))] = empty
        moved = np.stack([np.average(points[cluster == c], axis=0, weights=sizes[cluster == c]) for c in range(k)])
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def _nearest(points: Array, centres: Array) -> NDArray[np.int64]:
    nearest: NDArray[np.int64] = cdist(points, centres, "sqeuclidean").argmin(1)
    return nearest


@frozen(eq=False)
class TwoPL:
    """A two-parameter logistic model of n items; made by `fit_two_pl`.

    Attributes:
        slope: [n] > 0, how sharply an item tells abilities apart.
        intercept: [n] log-odds of a model of average ability.
    """

    slope: Array
    intercept: Array

    def probabilities(self) -> Array:
        """[n, G] chance that a model of each of G abilities solves each item."""
        return expit(np.outer(self.slope, _ABILITIES) + self.intercept[:, None])

    def select(self, budget: int) -> tuple[int, ...]:
        """Items to ask, most telling first.

        Raises:
            DataError: not 0 <= budget <= n.
        """
        n = len(self.slope)
        if not 0 <= budget <= n:
            raise DataError(f"budget is {budget} of {n} items; choose from none to all of them.")
        probabilities, weights = self.probabilities(), np.exp(_LOG_WEIGHTS)
        centred = probabilities - (probabilities @ weights)[:, None]
        noise = (probabilities * (1 - probabilities)) @ weights
        covariance = (centred * weights) @ centred.T + np.diag(noise)
        chosen: list[int] = []
        for _ in range(budget):
            variance = covariance.diagonal()
            explained = np.square(covariance.sum(1)) / np.maximum(variance, 1e-300)
            explained[chosen] = -1
            best = int(np.argmax(explained))
            column = covariance[:, best].copy()
            covariance -= np.outer(column, column) / max(float(column[best]), 1e-300)
            chosen.append(best)
        return tuple(chosen)

    def predict(self, acquired: Mapping[int, float]) -> Array:
        """[n] outcomes: those acquired as they are, and of the others the chance to be solved, given those.

        Args:
            acquired: outcomes in [0, 1] by item.

        Raises:
            DataError: no such item, or an outcome outside [0, 1].
        """
        for item, outcome in acquired.items():
            if not 0 <= item < len(self.slope) or not 0 <= outcome <= 1:
                raise DataError(
                    f"outcome of item {item} is {outcome}; there are {len(self.slope)}, with outcomes in [0, 1]."
                )
        asked, outcomes = list(acquired), np.array(list(acquired.values()), dtype=np.float64)
        logits = np.outer(self.slope, _ABILITIES) + self.intercept[:, None]
        log_posterior = (
            _LOG_WEIGHTS + outcomes @ _log_expit(logits[asked]) + (1 - outcomes) @ _log_expit(-logits[asked])
        )
        predicted: Array = expit(logits) @ np.exp(log_posterior - logsumexp(log_posterior))
        predicted[asked] = outcomes
        return predicted


def fit_two_pl(history: ArrayLike) -> TwoPL:
    """Fit the model to past outcomes, with N(0, 1) abilities integrated out; weak priors keep every item finite.

    Args:
        history: [models, n] outcomes in [0, 1], nan where a model was not asked.

    Raises:
        DataError: a table of another form.
    """
    table = np.asarray(history, dtype=np.float64)
    asked = ~np.isnan(table)
    if table.ndim != 2 or not table.size or not ((table[asked] >= 0) & (table[asked] <= 1)).all():
        raise DataError(f"history has shape {table.shape}; a row per model of outcomes in [0, 1] (or nan) is needed.")
    solved, failed = np.where(asked, table, 0.0), np.where(asked, 1 - table, 0.0)
    n = table.shape[1]

    def loss(parameters: Array) -> tuple[float, Array]:
        log_slope, intercept = parameters[:n], parameters[n:]
        slope = np.exp(log_slope)
        logits = np.outer(slope, _ABILITIES) + intercept[:, None]
        joint = _LOG_WEIGHTS + solved @ _log_expit(logits) + failed @ _log_expit(-logits)  # [models, G]
        evidence = logsumexp(joint, axis=1)
        posterior = np.exp(joint - evidence[:, None])
        residual = solved.T @ posterior - (asked.T @ posterior) * expit(logits)  # [n, G]
        prior = 2 * np.square(log_slope).sum() + np.square(intercept).sum() / 18  # std 1/2 and 3
        into_slope = 4 * log_slope - slope * (residual @ _ABILITIES)
        into_intercept = intercept / 9 - residual.sum(1)
        return float(prior - evidence.sum()), np.concatenate([into_slope, into_intercept])

    found = minimize(loss, np.zeros(2 * n), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    return TwoPL(np.exp(found[:n]), found[n:])


def _log_expit(logits: Array) -> Array:
    return -np.logaddexp(0.0, -logits)


def mean_absolute_error(estimates: Sequence[float], scores: Sequence[float]) -> float:
    """Mean gap between estimated and full scores over models.

    Raises:
        DataError: not one estimate per score, or none.
    """
    if len(estimates) != len(scores) or len(scores) == 0:
        raise DataError(f"{len(estimates)} estimates for {len(scores)} scores; give one per model, and at least one.")
    return math.fsum(abs(ours - theirs) for ours, theirs in zip(estimates, scores, strict=True)) / len(scores)
