r"""Robustness of a metric: does what it calls forgotten stay forgotten when the model is relearned or quantized?

With m the metric turned so that higher is more knowledge, u the unlearned and r the retrained model, before and after:

    relearning     R = min( (m_r,after - m_r,before) / (m_u,after - m_u,before), 1 ), at least 0    one epoch on the
                   forget set, both models: a metric is fooled if the unlearned model recovers faster than r learns
    quantization   Q = min( m_u,before / m_u,after, 1 )                4 bits: knowledge must not re-appear
    robustness = HM(mean R, mean Q)        overall = HM(faithfulness, robustness)        HM: harmonic mean

Means are taken over unlearned models that are still useful and that the metric calls unlearned. All in [0, 1], higher
is more robust. The symmetric variant counts a loss of knowledge as much as a gain:

    R = 1 - |Du - Dr| / (|Du| + |Dr|),  D = after - before        Q = 1 - |after - before| / (|after| + |before|)

with 1e-12 added to both denominators, so that two zeros agree.

Failure mode: the one-sided Q of a metric that collapses under quantization is 1, so that a metric which only ever
falls looks robust. Report both.

Paper: Dorna et al. OpenUnlearning: Accelerating LLM Unlearning via Unified Benchmarking of Methods and Metrics.
NeurIPS 2025, arXiv:2506.12618. Symmetric: Lee et al. Unlearning Depth Score, 2026, arXiv:2605.24614.

Checked: gnueaj/unlearning-depth-score@fc31639, the symmetric formulas as published and the aggregates of its 22 metrics
(1e-9 and the four printed digits). No released function computes R or Q: the one-sided form is taken from the paper's
equations as that repository quotes them.

Deviations: where the paper is silent. An unlearned model that gains nothing by relearning has R = 1 (a quotient of two
falls says nothing of recovery), and m_u,after = 0 has Q = 1. The re-implementation has at times computed Q as
after/before, which rewards what the paper punishes. If one of the two means is 0 the harmonic mean is 0; it has none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

from attrs import frozen

from unlearnkit.errors import DataError
from unlearnkit.metrics.model_utility import harmonic_mean

Variant = Literal["one_sided", "symmetric"]
"""Whether only knowledge that comes back counts, or any change."""


class BeforeAfter(NamedTuple):
    """A metric of one model before and after a stress, higher for more knowledge."""

    before: float
    after: float


@frozen
class Stressed:
    """What was measured of one unlearned model, the metric turned so that higher is more knowledge.

    Attributes:
        before: the metric of the model as it is.
        relearned: the metric after relearning.
        quantized: the metric after quantization.
        utility: the model's utility before either.
    """

    before: float
    relearned: float
    quantized: float
    utility: float


class Robustness(NamedTuple):
    """Means over the models that a metric was tried on.

    Attributes:
        relearning, quantization: the means of R and Q.
        robustness: their harmonic mean; 0 if either is 0.
        kept: names of those models.
    """

    relearning: float
    quantization: float
    robustness: float
    kept: tuple[str, ...]


def relearning_robustness(unlearned: BeforeAfter, retrained: BeforeAfter, *, variant: Variant = "one_sided") -> float:
    """R of one unlearned model, in [0, 1]; 1: it learns the forget set no faster than the retrained model.

    Args:
        unlearned: the metric of the unlearned model before and after relearning.
        retrained: the same of the model that was retrained without the forget set.
        variant: "symmetric" lowers R also where the unlearned model learns more slowly.

    Raises:
        DataError: a value that is not finite.
    """
    _check_finite("unlearned", unlearned)
    _check_finite("retrained", retrained)
    ours, theirs = unlearned.after - unlearned.before, retrained.after - retrained.before
    if variant == "symmetric":
        return _agreement(ours, theirs)
    return 1.0 if ours <= max(theirs, 0.0) else max(theirs, 0.0) / ours


def quantization_robustness(unlearned: BeforeAfter, *, variant: Variant = "one_sided") -> float:
    """Q of one unlearned model, in [0, 1]; 1: no knowledge re-appears in the quantized model.

    Args:
        unlearned: the metric of the model as it is and quantized.
        variant: "symmetric" lowers Q also where knowledge is lost.

    Raises:
        DataError: a value that is not finite, or one below 0, of which a quotient says nothing (one-sided only).
    """
    _check_finite("unlearned", unlearned)
    if variant == "symmetric":
        return _agreement(unlearned.before, unlearned.after)
    if min(unlearned) < 0:
        raise DataError(
            f"unlearned is {tuple(unlearned)}; the quotient before/after needs a metric that is 0 without knowledge, "
            "and positive with it. Turn or shift the metric, or use variant='symmetric'."
        )
    return 1.0 if unlearned.after <= unlearned.before else unlearned.before / unlearned.after


def metric_robustness(
    models: Mapping[str, Stressed],
    retrained: BeforeAfter,
    *,
    full_utility: float | None,
    threshold: float | None,
    min_utility: float = 0.8,
    variant: Variant = "one_sided",
) -> Robustness | None:
    """R and Q of a metric, averaged over the unlearned models it is fair to try it on; None if there are none.

    Args:
        models: what was measured of each unlearned model, by name.
        retrained: the metric of the retrained model before and after relearning.
        full_utility: utility of the model before unlearning. None: no model is too useless.
        threshold: the metric has to be below it before the stress: it calls the model unlearned. The value of
            `best_threshold`, on the scale where higher is more knowledge. None: whatever the metric says.
        min_utility: smallest share of `full_utility` that a model has to keep.
        variant: "one_sided" as in OpenUnlearning, or "symmetric".

    Raises:
        DataError: `full_utility` is not positive, or values that R or Q cannot be computed from.
    """
    if full_utility is not None and not full_utility > 0:
        raise DataError(
            f"full_utility is {full_utility}; utility is compared with that of the model before unlearning, a positive "
            "number. Pass None to keep all models."
        )
    kept = {
        name: model
        for name, model in models.items()
        if (full_utility is None or model.utility / full_utility >= min_utility)
        and (threshold is None or model.before < threshold)
    }
    if not kept:
        return None
    relearned = {name: BeforeAfter(model.before, model.relearned) for name, model in kept.items()}
    quantized = {name: BeforeAfter(model.before, model.quantized) for name, model in kept.items()}
    relearning = math.fsum(relearning_robustness(each, retrained, variant=variant) for each in relearned.values())
    quantization = math.fsum(quantization_robustness(each, variant=variant) for each in quantized.values())
    means = relearning / len(kept), quantization / len(kept)
    return Robustness(*means, harmonic_mean(means), tuple(kept))


def overall(faithfulness: float, robustness: float) -> float:
    """Harmonic mean of how faithful and how robust a metric is: what metrics are ranked by."""
    return harmonic_mean((faithfulness, robustness))


def _agreement(first: float, second: float) -> float:
    """1 if equal, about 0 if of opposite sign or one of them is 0; two zeros agree."""
    return 1 - min(abs(first - second) / (abs(first) + abs(second) + 1e-12), 1.0)


def _check_finite(name: str, values: BeforeAfter) -> None:
    if not all(map(math.isfinite, values)):
        raise DataError(f"{name} is {tuple(values)}; leave out a model that the metric could not measure.")
