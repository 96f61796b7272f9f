r"""Forget Quality: can the unlearned model be told from one that never saw the forget set?

A two-sided two-sample Kolmogorov-Smirnov test between the truth ratios of the model and of a retrained oracle on the
same forget questions:

    D = sup_x |F_model(x) - F_oracle(x)|,    forget quality = P(D' >= D) if both samples came from one distribution

In [0, 1]. Needs the truth ratio's pass over model and oracle. A high p-value is good forgetting (above 0.05 is read as success); a low one says that the models differ, not which of
them knows more. It falls by orders of magnitude as questions are added: compare equal numbers only.

Paper: Maini, Feng, Schwarzschild, Lipton, Kolter. TOFU: A Task of Fictitious Unlearning for LLMs.
COLM 2024, arXiv:2401.06121.

Checked: locuslab/tofu@bdc209e on recorded evaluation logs of four Llama-2-7b models (D and p, to 1e-9); scipy 1.17.1.

Deviations: none in the definition. The authors test correct/wrong, OpenUnlearning wrong/correct plus 1e-10, we
log(wrong/correct): the test depends on the order of values only. Where rounding makes the exact p-value 1 + 2e-16,
scipy, and with it the authors' code and ours, gives the asymptotic one (0.99996 in one case of 7 values). The oracle has
to be trained on the matching retain set.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from attrs import evolve, field, frozen
from scipy import stats

from unlearnkit.errors import DataError
from unlearnkit.metrics.truth_ratio import TruthRatio
from unlearnkit.protocols import Needs, Score, Seen


class KSTest(NamedTuple):
    """The largest distance of two empirical distribution functions, and how probable one as large is by chance."""

    statistic: float
    p_value: float


def ks_test(first: Sequence[float], second: Sequence[float], *, exact_up_to: int = 10_000) -> KSTest:
    """Two-sided two-sample Kolmogorov-Smirnov test.

    Args:
        first, second: the samples; their order does not matter.
        exact_up_to: values per sample up to which the p-value is exact, and asymptotic beyond. Pinned, so that a number
            does not depend on which of the two a library picks: they differ by a factor of two and more at small p.

    The p-value underflows to 0 below 5e-324.

    Raises:
        DataError: a sample is empty or holds nan.
    """
    for name, sample in (("first", first), ("second", second)):
        unordered = sum(map(math.isnan, sample))
        if unordered or not len(sample):
            what = f"{unordered} of {len(sample)} values are nan" if len(sample) else "it is empty"
            raise DataError(
                f"two samples are compared by rank, but {what} in `{name}`. Leave out what was not measured."
            )
    method: Literal["exact", "asymp"] = "exact" if max(len(first), len(second)) <= exact_up_to else "asymp"
    with (
        warnings.catch_warnings()
    ):  # scipy says that it takes the asymptotic p where rounding lifts the exact one above 1
        warnings.simplefilter("ignore", RuntimeWarning)
        found = stats.ks_2samp(first, second, alternative="two-sided", method=method)
    return KSTest(float(found.statistic), float(found.pvalue))


@frozen
class ForgetQuality:
    """p-value of `ks_test` between the truth ratios of a model and of the oracle. Higher: better forgotten.

    Parts: `statistic` (D, in [0, 1]) and `log10_p`. A p-value that underflows counts there as the smallest float.

    Attributes:
        role: the forget set.
        truth_ratio: roles of its right and wrong answers, and the model that is measured. Default: those of
            `TruthRatio(role)`. Its aggregator is not used.
        oracle: the model that was retrained without the forget set.
    """

    role: str = "forget"
    truth_ratio: TruthRatio = field(kw_only=True)
    oracle: str = field(default="oracle", kw_only=True)

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
        return forget_quality_of_samples(self.truth_ratio.log_ratios(seen), self.oracle_truth_ratio.log_ratios(seen))


def forget_quality_of_samples(model: Mapping[str, float], oracle: Mapping[str, float]) -> Score:
    """Forget quality of truth ratios (or any increasing function of them) by question; nan was not measured.

    A question that either side lacks is left out of both.

    Raises:
        DataError: the questions differ; names some.
    """
    if apart := sorted(model.keys() ^ oracle.keys()):
        raise DataError(
            f"the truth ratios are of different questions: {len(apart)} are in one of the two only, {apart[0]!r} among "
            f"them ({len(model)} of the model, {len(oracle)} of the oracle). Forget quality falls by orders of magnitude "
            "with the number of questions: measure both models on the same ones."
        )
    left_out = tuple(name for name in model if math.isnan(model[name]) or math.isnan(oracle[name]))
    if len(left_out) == len(model):
        measured = [sum(not math.isnan(value) for value in ratios.values()) for ratios in (model, oracle)]
        reason = (
            f"the truth ratio could be measured on {measured[0]} questions of the model and {measured[1]} of the oracle, "
            "none of them the same"
        )
        return Score(None, "forgetting", reason=reason, left_out=left_out)
    absent = set(left_out)
    ours, theirs = ({name: value for name, value in each.items() if name not in absent} for each in (model, oracle))
    test = ks_test(list(ours.values()), list(theirs.values()))
    return Score(
        test.p_value,
        "forgetting",
        n=len(ours),
        parts={"statistic": test.statistic, "log10_p": math.log10(max(test.p_value, math.ulp(0.0)))},
        left_out=left_out,
        samples={"model": ours, "oracle": theirs},
    )
