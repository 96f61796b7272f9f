r"""Truth ratio distance: how far the truth ratios of a model are from the oracle's, as a distance and not a p-value.

    wasserstein      W1 = integral |F_model - F_oracle|            0 for equal samples, unbounded
    jensen_shannon   1 - JS / ln 2,  JS = KL(p||m)/2 + KL(q||m)/2,  m = (p + q)/2, p, q: shares of 20 equal bins
    kolmogorov       1 - sup |F_model - F_oracle|                  the D of Forget Quality, without its p-value

W1 is a distance (lower: closer to the oracle), the other two are likenesses in [0, 1] (higher: closer). All are taken
on log truth ratios (in nats) by default, else on the ratios or on min(tr, 1/tr). Unlike a p-value none of them shrinks
by orders of magnitude as questions are added. Needs right and wrong answers under the model and under an oracle
retrained without the forget set.

Far and near say nothing of the direction: W1 of a model that knows too much and of one that was driven below ignorance
can be equal. JS depends on its bins, which span both samples: one outlier leaves nearly all values in one bin. On the
"ratio" scale a few large ratios decide W1.

Paper: none defines it. Replacements of the p-value of Maini, Feng, Schwarzschild, Lipton, Kolter. TOFU: A Task of
Fictitious Unlearning for LLMs. COLM 2024, arXiv:2401.06121, whose truth ratios these are.

Checked: scipy 1.17.1 (Wasserstein and Jensen-Shannon distances); by laws, and on recorded TOFU evaluation logs of four
Llama-2-7b models, where the retrained one is the closest to itself.

Deviations: reconstructed from how the field speaks of them. Scale, 20 bins, natural logarithm, the closed last bin and
turning JS into 1 - JS/ln 2 are our reading.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from attrs import evolve, field, frozen
from attrs.validators import ge, in_
from scipy import stats

from unlearnkit.errors import DataError
from unlearnkit.metrics.forget_quality import ks_test
from unlearnkit.metrics.truth_ratio import TruthRatio
from unlearnkit.protocols import Direction, Needs, Score, Seen

Measure = Literal["wasserstein", "jensen_shannon", "kolmogorov"]
"""W1, 1 - JS/ln 2, or 1 - D."""

Scale = Literal["log", "ratio", "closeness"]
"""What is compared: log tr, tr, or min(tr, 1/tr)."""


def wasserstein(first: Sequence[float], second: Sequence[float]) -> float:
    """Area between two empirical distribution functions; of samples of one size, the mean gap of sorted values.

    Raises:
        DataError: an empty sample, or a value that is not finite.
    """
    _finite(first, second)
    return float(stats.wasserstein_distance(first, second))


def jensen_shannon(first: Sequence[float], second: Sequence[float], *, bins: int = 20) -> float:
    """Jensen-Shannon divergence of two histograms over the range of both, in nats, in [0, ln 2].

    Args:
        first, second: the samples.
        bins: number of equal bins, the last one closed. Samples that hold one and the same value only are equal: 0.

    Raises:
        DataError: an empty sample, or a value that is not finite.
    """
    _finite(first, second)
    low, high = min(*first, *second), max(*first, *second)
    if low == high:
        return 0.0
    edges = np.linspace(low, high, bins + 1)  # not np.histogram, which refuses a range of few representable numbers
    places = [np.searchsorted(edges, sample, side="right") - 1 for sample in (first, second)]
    counts = [np.bincount(np.clip(place, 0, bins - 1), minlength=bins) for place in places]
    p, q = (count / count.sum() for count in counts)
    terms = [side[side > 0] * np.log(2 * side[side > 0] / (side + other)[side > 0]) for side, other in ((p, q), (q, p))]
    return max(math.fsum(value for term in terms for value in term.tolist()) / 2, 0.0)


def scaled(log_ratios: Sequence[float], scale: Scale) -> list[float]:
    """log tr on the scale asked for; a ratio too large for a float is inf."""
    if scale == "log":
        return list(log_ratios)
    if scale == "closeness":
        return [math.exp(-abs(value)) for value in log_ratios]
    return [math.exp(value) if value < _LARGEST else math.inf for value in log_ratios]


_LARGEST = math.log(np.finfo(np.float64).max)


def _finite(*samples: Sequence[float]) -> None:
    for name, sample in zip(("first", "second"), samples, strict=True):
        if odd := [value for value in sample if not math.isfinite(value)]:
            raise DataError(
                f"`{name}` holds {len(odd)} values that are not finite ({odd[0]}). A distance between values needs "
                "finite ones: compare min(tr, 1/tr), or use `ks_test`, which reads their order only."
            )
        if not len(sample):
            raise DataError(f"`{name}` is empty; a distance between samples needs at least one value in each.")


@frozen
class TruthRatioDistance:
    """Distance or likeness of the truth ratios of a model and of the oracle, on the same questions.

    "wasserstein": lower is closer to the oracle. "jensen_shannon" and "kolmogorov": higher is closer, better forgotten.
    Parts: the plain `distance` (W1, JS in nats, D). Questions that one of the models could not be measured on are in
    `left_out` and not compared.

    Attributes:
        role: the forget set.
        measure: which of the three.
        scale: what is compared.
        truth_ratio: roles of right and wrong answers, and the model that is measured. Default: those of
            `TruthRatio(role)`. Its aggregator is not used.
        oracle: the model that was retrained without the forget set.
        bins: of "jensen_shannon".
    """

    role: str = "forget"
    measure: Measure = field(default="wasserstein", validator=in_(get_args(Measure)), kw_only=True)
    scale: Scale = field(default="log", validator=in_(get_args(Scale)), kw_only=True)
    truth_ratio: TruthRatio = field(kw_only=True)
    oracle: str = field(default="oracle", kw_only=True)
    bins: int = field(default=20, validator=ge(1), kw_only=True)

    @truth_ratio.default
    def _of_role(self) -> TruthRatio:
        return TruthRatio(self.role)

    @property
    def oracle_truth_ratio(self) -> TruthRatio:
        return evolve(self.truth_ratio, of=self.oracle)

    @property
    def needs(self) -> Needs:
        return self.truth_ratio.needs | self.oracle_truth_ratio.needs

    def __call__(self, seen: Seen) -> Score:
        higher: Direction = "knowledge" if self.measure == "wasserstein" else "forgetting"
        model, oracle = self.truth_ratio.log_ratios(seen), self.oracle_truth_ratio.log_ratios(seen)
        left_out = tuple(sorted({name for each in (model, oracle) for name in each if math.isnan(each[name])}))
        both = sorted((model.keys() & oracle.keys()) - set(left_out))
        ours, theirs = (scaled([each[name] for name in both], self.scale) for each in (model, oracle))
        if not both:
            measured = [sum(not math.isnan(value) for value in each.values()) for each in (model, oracle)]
            reason = (
                f"the truth ratio could be measured on {measured[0]} questions of the model and {measured[1]} of the "
                f"oracle {self.oracle!r}, none of them the same"
            )
            return Score(None, higher, reason=reason, left_out=left_out)
        if self.measure != "kolmogorov" and not all(map(math.isfinite, ours + theirs)):
            reason = (
                "some answer has probability 0, so that a truth ratio is 0 or infinite and its distance to others is "
                'not a number: use scale="closeness" or measure="kolmogorov"'
            )
            return Score(None, higher, reason=reason, left_out=left_out)
        match self.measure:
            case "wasserstein":
                value = distance = wasserstein(ours, theirs)
            case "jensen_shannon":
                distance = jensen_shannon(ours, theirs, bins=self.bins)
                value = 1 - distance / math.log(2)
            case "kolmogorov":
                distance = ks_test(ours, theirs).statistic
                value = 1 - distance
        return Score(value, higher, n=len(ours), parts={"distance": distance}, left_out=left_out)
