r"""BenTo: which few of many tasks stand for all of them, by how well one task's examples teach another.

    A[i, j] = score on task j with in-context examples of task i;  columns centred (MMLU), or also scaled to unit
              variance (FLAN)
    S       = 1.5 max(d) - d,    d[a, b]: Euclidean distance of rows a and b
    X       = argmax_{|X| = k} f(X),    f(X) = sum_i max_{j in X} S[i, j]        facility location, greedily

The estimate of the score on all tasks is the mean over X, optionally weighted by how many tasks each stands for. f is
monotone and submodular, so that the greedy choice reaches at least 1 - 1/e of the optimum; the first pick is the column
of S with the largest sum.

Failure modes: tasks as far from everything as from each other leave nearly equal gains, and the choice to rounding. The
unweighted estimate is off where the picks stand for groups of unequal size.

Paper: Zhao et al. BenTo: Benchmark Task Reduction with In-Context Transferability. 2024, arXiv:2410.13804.

Checked: tianyi-lab/BenTo@8aeb758 with submodlib 0.0.3: choices and f on its MMLU matrix and on random ones (1e-9; gains
to the solver's float32).

Deviations: for MMLU the authors do not use S: all eigenvectors of its normalised graph Laplacian are features, between
which the solver takes the cosine. Rows of an orthogonal matrix are orthonormal, so that all similarities are 0 up to
rounding, which decides their choice. Here S itself is used for both; `spectral_similarity` with the leading ones only
is the nearest form that means something. Of equal gains the first task is taken. Their solver needs k < n.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from unlearnkit.errors import DataError


def task_similarity(scores: Tensor, *, unit_variance: bool = False) -> Tensor:
    """S from A: [n, m] -> [n, n] float64, symmetric, positive; the larger, the more alike two tasks teach.

    Args:
        scores: [n, m] score on task j with examples of task i.
        unit_variance: whether columns are divided by their standard deviation (FLAN) or only centred (MMLU). A constant
            column stays 0.
    """
    centred = scores.double() - scores.double().mean(0)
    if unit_variance:
        deviation = centred.square().mean(0).sqrt()
        centred = centred / torch.where(deviation > 1e-12 * scores.double().abs().amax(0), deviation, 1.0)
    distance = (centred[:, None] - centred[None]).square().sum(-1).sqrt()
    return 1.5 * distance.max() - distance


def spectral_similarity(similarity: Tensor, *, components: int) -> Tensor:
    """Cosine between rows of the leading eigenvectors of the normalised graph Laplacian: [n, n] -> [n, n].

    Args:
        similarity: [n, n] symmetric, at least 0; its diagonal is not read.
        components: how many eigenvectors, those of the smallest eigenvalues. With all n the result is the identity.
    """
    weights = similarity.double().clone()
    weights.fill_diagonal_(0)
    degree = weights.sum(1)
    scale = torch.where(degree > 0, degree, 1.0).rsqrt()
    laplacian = torch.diag((degree > 0).double()) - scale[:, None] * weights * scale[None]
    features = torch.linalg.eigh(laplacian).eigenvectors[:, :components]
    features = features / features.norm(dim=1, keepdim=True).clamp(min=1e-300)
    return torch.matmul(features, features.T)


def coverage(similarity: Tensor, chosen: list[int]) -> float:
    """f of a choice of columns: sum over tasks of the similarity to the nearest chosen one; 0 for none."""
    return float(similarity[:, chosen].amax(1).sum()) if chosen else 0.0


def greedy_tasks(similarity: Tensor, *, k: int) -> list[int]:
    """The k columns that facility location takes one by one, in order; of equal gains the first.

    Args:
        similarity: [n, n], at least 0.
        k: how many, from 0 to n.

    Raises:
        ValueError: `k` is none of these.
    """
    if not 0 <= k <= len(similarity):
        raise ValueError(f"k is {k}; of {len(similarity)} tasks, 0 to {len(similarity)} can be chosen.")
    values = similarity.double()
    covered = torch.zeros_like(values[:, 0])
    free = torch.ones_like(covered, dtype=torch.bool)
    chosen: list[int] = []
    for _ in range(k):
        gains = (values - covered[:, None]).clamp(min=0).sum(0)
        best = int(gains.masked_fill(~free, -torch.inf).argmax())
        chosen.append(best)
        free[best] = False
        covered = torch.maximum(covered, values[:, best])
    return chosen


def lazy_greedy_tasks(similarity: Tensor, *, k: int) -> list[int]:
    """`greedy_tasks`, computing a gain anew only while an old one, which bounds it, is the largest.

    Args:
        similarity: [n, n], at least 0.
        k: how many, from 0 to n.

    Raises:
        ValueError: `k` is none of these.
    """
    if not 0 <= k <= len(similarity):
        raise ValueError(f"k is {k}; of {len(similarity)} tasks, 0 to {len(similarity)} can be chosen.")
    values = similarity.double()
    covered = torch.zeros_like(values[:, 0])
    bounds = values.clamp(min=0).sum(0).tolist()
    chosen: list[int] = []
    fresh = set(range(len(bounds)))
    while len(chosen) < k:
        best = max(range(len(bounds)), key=lambda task: bounds[task])  # of equals the first
        if best not in fresh:
            bounds[best] = float((values[:, best] - covered).clamp(min=0).sum())
            fresh.add(best)
            continue
        chosen.append(best)
        bounds[best] = -math.inf
        covered = torch.maximum(covered, values[:, best])
        fresh = set()
    return chosen


def represented(similarity: Tensor, chosen: list[int]) -> list[int]:
    """How many tasks each chosen one is nearest to, in the order chosen; of equally near ones the first counts."""
    nearest = similarity[:, chosen].argmax(1).tolist() if chosen else []
    return [nearest.count(position) for position in range(len(chosen))]


def estimated_score(scores: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """Score on all tasks from those of the chosen ones: their mean, or the mean weighted by `represented`.

    Raises:
        DataError: no scores, or weights that do not match them or do not add up to anything.
    """
    given = [1.0] * len(scores) if weights is None else list(weights)
    if not scores or len(given) != len(scores) or min(given) < 0 or not sum(given) > 0:
        raise DataError(
            f"the estimate needs one weight of at least 0 per chosen task, not all 0; got {len(scores)} scores and "
            f"weights {given}."
        )
    return sum(weight * score for weight, score in zip(given, scores, strict=True)) / sum(given)
