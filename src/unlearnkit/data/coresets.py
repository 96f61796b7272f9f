"""Coresets of a forget set: does unlearning a few of its examples do the same as unlearning all?

    coreset(rows, random_scores(rows), 0.05)                                       # random: nested for one seed
    coreset(rows, grand_scores(rows, gradient), 0.05)                              # large gradients first
    coreset(rows, moderate_scores(representations(model, rows)), 0.05)             # neither typical nor outlying
    coreset(rows, min_k_prob_scores(model, rows), 0.05)                            # best memorised first

A selector is nothing but a score per row, by id; `coreset` takes the rows with the highest. A share of 1 is the whole
set, in its order, so that the run is the same bit by bit. Train small sets for more epochs, and compare at an equal
number of updates. For GraNd, `gradient` is for instance

    lambda row: gradients({"model": model}, [row], CrossEntropy("forget", reduction="sequence_mean"))

Paper: Pal, Wang, Diffenderfer, Kailkhura, Liu. 2025, arXiv:2504.10185 (unlearning a random 5 % matches the whole set).

Reconstructed: the four selectors are the paper's, how each ranks is our reading: GraNd takes the largest norms of the
gradient at the original model, Moderate the examples whose distance to the centroid is nearest the median distance (one
centroid for the whole set), Min-K % Prob the examples whose least likely 20 % of tokens are the most likely on average.

Checked: laws only; no code was to be had.

Deviations: none that could be known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from unlearnkit.batch import Collate, Row, check_vocabulary, collate_text
from unlearnkit.draws import keyed_draw
from unlearnkit.errors import DataError
from unlearnkit.evaluate import gather
from unlearnkit.metrics.membership import lowest_mean
from unlearnkit.models.causal import as_model, evaluation_mode
from unlearnkit.models.peft import PeftModel
from unlearnkit.observe import observe
from unlearnkit.plan import check_data, cut
from unlearnkit.protocols import Captured, Model, Site, Tokens
from unlearnkit.statistics import LabelLogProb


def coreset(rows: Sequence[Row], scores: Mapping[str, float], share: float) -> tuple[Row, ...]:
    """The rows with the highest scores, in their own order: `share` of them, rounded up.

    Args:
        rows: whose ids are all in `scores`.
        scores: higher is taken first; of equal scores the smaller id. Minus infinity is taken last.
        share: in (0, 1].

    Raises:
        DataError: a share outside (0, 1], two rows of one id, or a row without a score or with nan.
    """
    if not 0 < share <= 1:
        raise DataError(f"share is {share}; it has to be above 0 and at most 1.")
    if len({row.id for row in rows}) < len(rows):
        raise DataError("two rows have the same id, so which one a score belongs to is not known.")
    for row in rows:
        if math.isnan(scores.get(row.id, math.nan)):
            what = f"the score {scores[row.id]}" if row.id in scores else "no score"
            raise DataError(f"row {row.id!r} has {what}. Give every row a number.")
    ranked = sorted(rows, key=lambda row: (-scores[row.id], row.id))
    taken = {row.id for row in ranked[: math.ceil(round(share * len(rows), 9))]}
    return tuple(row for row in rows if row.id in taken)


def random_scores(rows: Iterable[Row], *, seed: int = 0) -> dict[str, float]:
    """A random rank for each row that depends on its id and the seed only: smaller coresets lie in larger ones."""
    return {row.id: keyed_draw(2**53, seed, "coreset", row.id) / 2**53 for row in rows}


def gradient_size(gradients: Iterable[Tensor]) -> float:
    """2-norm of all tensors together, in double precision."""
    return math.sqrt(math.fsum(float(gradient.double().square().sum()) for gradient in gradients))


def grand_scores(rows: Iterable[Row], gradient: Callable[[Row], Mapping[str, Tensor]]) -> dict[str, float]:
    """GraNd: `gradient_size` of each row's own loss.

    Args:
        rows: to be scored.
        gradient: of one row's loss at the original model, by parameter name.
    """
    return {row.id: gradient_size(gradient(row).values()) for row in rows}


def representations(
    model: Model | PreTrainedModel | PeftModel,
    rows: Sequence[Row],
    *,
    site: Site = Site("final_hidden"),  # noqa: B008 (frozen)
    max_tokens: int = 8192,
    collate: Collate = collate_text,
) -> dict[str, Tensor]:
    """Mean state of each row's tokens at a site, [H] float64 by row id.

    Args:
        model: the model before unlearning.
        rows: of one role.
        site: where; the last states by default.
        max_tokens: padded tokens per batch.
        collate: see `observe`.

    Raises:
        DataError: no rows, rows of several roles, or two of one id.
        VocabularyError: tokens that the model does not have.
    """
    if not rows:
        raise DataError("there are no rows to represent.")
    role, wrapped = rows[0].role, as_model(model)
    check_data({role: rows})
    check_vocabulary(rows, wrapped.vocabulary)
    states = Captured(site, role)
    found = dict[str, Tensor]()
    with torch.no_grad(), evaluation_mode(wrapped):
        for piece in cut(rows, max_tokens):
            seen = observe({"model": wrapped}, piece, frozenset({states}), collate=collate)
            means = (each.double().mean(0).cpu() for each in seen[states].split())
            found.update(zip(seen.ids[role], means, strict=True))
    return {row.id: found[row.id] for row in rows}


def moderate_scores(states: Mapping[str, Tensor]) -> dict[str, float]:
    """Moderate: minus how far an example's distance to the centroid is from the median distance; at most 0.

    Args:
        states: [H] of each example, by row id.
    """
    if not states:
        return {}
    points = torch.stack([state.double() for state in states.values()])
    distances = torch.linalg.vector_norm(points - points.mean(0), dim=1)
    apart = (distances - distances.quantile(0.5)).abs()
    return dict(zip(states, (-apart).tolist(), strict=True))


def min_k_prob_scores(
    model: Model | PreTrainedModel | PeftModel,
    rows: Sequence[Row],
    *,
    k: float = 0.2,
    max_tokens: int = 8192,
    collate: Collate = collate_text,
) -> dict[str, float]:
    """Min-K % Prob: mean log-prob of each answer's least likely tokens, in nats; high: well memorised.

    Args:
        model: the model before unlearning.
        rows: of one role; one without answer tokens scores minus infinity.
        k: share of each answer's tokens, rounded down, at least one; in (0, 1].
        max_tokens: padded tokens per batch.
        collate: see `observe`.

    Raises:
        DataError: a k outside (0, 1], no rows, rows of several roles, or two of one id.
        VocabularyError: tokens that the model does not have.
    """
    if not 0 < k <= 1:
        raise DataError(f"k is {k}; it has to be above 0 and at most 1.")
    if not rows:
        raise DataError("there are no rows to score.")
    role = rows[0].role
    tokens = Tokens(LabelLogProb(), role)
    seen = gather({"model": as_model(model)}, frozenset({tokens}), {role: rows}, max_tokens=max_tokens, collate=collate)
    flat = seen[tokens]
    each = lowest_mean(flat.values, flat.row, rows=flat.rows, k=k).nan_to_num(nan=-torch.inf)
    return dict(zip(seen.ids[role], each.tolist(), strict=True))
