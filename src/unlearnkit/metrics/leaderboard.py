r"""OpenUnlearning's ranking: has the model forgotten, can the forgetting be detected, and is the model still useful?

    Memorization = HM(1 - ES, 1 - EM, 1 - ParaProb, 1 - TruthRatio)        the names OpenUnlearning reports them by:
                   extraction_strength, exact_memorization, forget_Q_A_PARA_Prob, forget_truth_ratio
    Privacy      = HM of how close the model's membership-inference AUCs are to those of the retrained model
    Utility      = HM(Model Utility, Fluency), optionally over that of the model before unlearning
    aggregate    = HM(Memorization, Privacy, Utility)        HM: harmonic mean

All in [0, 1] (a relative Utility may exceed 1); higher is better. As soon as one pillar is 0, so is the aggregate.
ParaProb is the length-normalised probability of the paraphrased answer, and TruthRatio the "prob_mean" aggregation:
1/2 for a model that has no preference, so that a model that knows nothing does not get 1 for it.

Failure modes: the harmonic mean rewards balance, so that a rescaling of one pillar alone can change the order of
models; Memorization rewards destroying the answers as much as forgetting them, which the other two pillars have to
catch.

Paper: Dorna et al. OpenUnlearning: Accelerating LLM Unlearning via Unified Benchmarking of Methods and Metrics.
NeurIPS 2025, arXiv:2506.12618.

Checked: gnueaj/unlearning-depth-score@fc31639, a re-implementation: its functions, and 20 of the rows that it publishes
for 150 TOFU models (1e-9).

Deviations: the re-implementation gives no Memorization if one of its four is 0, and adds 1e-12 elsewhere; here the mean
is 0. Its page averages an activation-patching score into Privacy and reports Utility relative to the full model; by
default neither is done (`full_utility` does the latter). Several paraphrases of one answer count by the geometric mean
of their probabilities. OpenUnlearning's configurations of 2024 report a truth ratio with another aggregation under the
same name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from attrs import field, frozen
from attrs.validators import gt, optional

from unlearnkit.errors import DataError
from unlearnkit.metrics.memorization import ExactMemorization, ExtractionStrength
from unlearnkit.metrics.model_utility import ModelUtility, harmonic_mean
from unlearnkit.metrics.privacy import Privacy, s_mia
from unlearnkit.metrics.questions import answer_nlls
from unlearnkit.metrics.truth_ratio import TruthRatio
from unlearnkit.protocols import Checked, Direction, Metric, Needs, Score, Seen, Tokens, all_needs
from unlearnkit.statistics import LabelLogProb

MEMORIZATION = ("extraction_strength", "exact_memorization", "forget_Q_A_PARA_Prob", "forget_truth_ratio")
"""OpenUnlearning's names of what Memorization is made of; each in [0, 1], higher for more knowledge."""

PRIVACY = ("mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_plus_plus")
"""OpenUnlearning's names of the attacks whose AUC makes Privacy, by way of `s_mia`; 1: members stand out."""

UTILITY = ("model_utility", "forget_Q_A_gibberish")
"""OpenUnlearning's names of what Utility is made of; each in [0, 1], higher for more useful or fluent."""


def memorization(
    *, extraction_strength: float, exact_memorization: float, paraphrase_probability: float, truth_ratio: float
) -> float:
    """Harmonic mean of what is left of 1; in [0, 1], higher: less memorized, 0 if one of the four is 1.

    Raises:
        DataError: one of them is not between 0 and 1.
    """
    numbers = dict(
        zip(
            MEMORIZATION,
            (extraction_strength, exact_memorization, paraphrase_probability, truth_ratio),
            strict=True,
        )
    )
    return harmonic_mean(1 - _share(name, value) for name, value in numbers.items())


def utility(*, model_utility: float, fluency: float, full_utility: float | None = None) -> float:
    """Harmonic mean of Model Utility and fluency; divided by `full_utility`, the same of the full model, if given.

    Raises:
        DataError: one of the two is not between 0 and 1, or `full_utility` is not positive.
    """
    if full_utility is not None and not full_utility > 0:
        raise DataError(f"full_utility is {full_utility}; only a positive number can divide. Pass None for none.")
    both = (_share(name, value) for name, value in zip(UTILITY, (model_utility, fluency), strict=True))
    return harmonic_mean(both) / (1.0 if full_utility is None else full_utility)


class Pillars(NamedTuple):
    """The three pillars of one model, and their harmonic mean."""

    memorization: float
    privacy: float
    utility: float
    aggregate: float


def pillars(
    summary: Mapping[str, float], retrained: Mapping[str, float], *, full_utility: float | None = None
) -> Pillars:
    """The pillars of one model from the summaries OpenUnlearning writes.

    Args:
        summary: the model's numbers by OpenUnlearning's name, those of `MEMORIZATION`, `PRIVACY` and `UTILITY`.
            Its truth ratio has to be the "prob_mean" one.
        retrained: the summary of the retrained model; those of `PRIVACY` are read.
        full_utility: Utility of the model before unlearning, to report the share that is left.

    Raises:
        DataError: a name is missing, a number is not between 0 and 1, or an attack's AUC is 0 on the retrained model.
    """
    _check_names("summary", summary, (*MEMORIZATION, *PRIVACY, *UTILITY))
    _check_names("retrained", retrained, PRIVACY)
    first, second, third, fourth = (summary[name] for name in MEMORIZATION)
    forgotten = memorization(
        extraction_strength=first, exact_memorization=second, paraphrase_probability=third, truth_ratio=fourth
    )
    closeness = [s_mia(_share(name, summary[name]), _share(name, retrained[name])) for name in PRIVACY]
    if any(map(math.isnan, closeness)):
        raise DataError(f"an attack has an AUC of 0 on the retrained model, nothing to divide by: {retrained}.")
    private = harmonic_mean(closeness)
    useful = utility(model_utility=summary[UTILITY[0]], fluency=summary[UTILITY[1]], full_utility=full_utility)
    return Pillars(forgotten, private, useful, harmonic_mean((forgotten, private, useful)))


def _check_names(what: str, summary: Mapping[str, float], names: tuple[str, ...]) -> None:
    if missing := [name for name in names if name not in summary]:
        raise DataError(
            f"{what} has no {missing[0]!r} (missing: {len(missing)}); evaluate the model with it, or pass it under "
            f"that name. It has {sorted(summary)}."
        )


def _share(name: str, value: float) -> float:
    if not -1e-9 <= value <= 1 + 1e-9:
        raise DataError(f"{name} is {value}; it is a share between 0 and 1.")
    return min(max(value, 0.0), 1.0)


@frozen
class ParaphraseProbability:
    """Mean over questions of the geometric mean of their paraphrases' `Probability`. Higher: the model knows more.

    Attributes:
        role: the paraphrased answers, joined by `group`.
        of: the model that is measured.
    """

    role: str = "forget_paraphrased"
    of: str = field(default="model", kw_only=True)

    @property
    def tokens(self) -> Tokens:
        return Tokens(LabelLogProb(), self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.tokens})

    def __call__(self, seen: Seen) -> Score:
        each = answer_nlls(seen, self.tokens)
        return Score.mean({question: _geometric(nlls) for question, nlls in each.items()}, "knowledge")


def _geometric(nlls: list[float]) -> float:
    measured = [nll for nll in nlls if not math.isnan(nll)]
    return math.exp(-math.fsum(measured) / len(measured)) if measured else math.nan


@frozen
class Memorization:
    """`memorization` of a model. Higher: better forgotten. Parts, by OpenUnlearning's names: `MEMORIZATION`.

    Not measured as soon as one of the four is not: the reason names it.

    Attributes:
        role: the forget set; followed by "_paraphrased" and "_perturbed", its other answers.
        of: the model that is measured.
    """

    role: str = "forget"
    of: str = field(default="model", kw_only=True)

    @property
    def terms(self) -> Mapping[str, Metric]:
        """The four metrics by OpenUnlearning's names."""
        metrics: tuple[Metric, ...] = (
            ExtractionStrength(self.role, of=self.of),
            ExactMemorization(self.role, of=self.of),
            ParaphraseProbability(f"{self.role}_paraphrased", of=self.of),
            TruthRatio(self.role, aggregator="prob_mean", of=self.of),
        )
        return dict(zip(MEMORIZATION, metrics, strict=True))

    @property
    def needs(self) -> Needs:
        return all_needs(self.terms.values())

    def __call__(self, seen: Seen) -> Score:
        scores = {name: term(seen) for name, term in self.terms.items()}
        measured = _all_measured(scores, "forgetting")
        if isinstance(measured, Score):
            return measured
        first, second, third, fourth = measured.values()
        value = memorization(
            extraction_strength=first, exact_memorization=second, paraphrase_probability=third, truth_ratio=fourth
        )
        return Score(value, "forgetting", n=scores[MEMORIZATION[0]].n, parts=measured)


@frozen
class Utility:
    """`utility` of a model. Higher: more useful. Parts, by OpenUnlearning's names: `UTILITY`.

    Attributes:
        fluency: how fluent its forget answers are, in [0, 1]: the probability of clean text by an injected classifier.
        model_utility: what is left of it on the retain sets.
        full_utility: `utility` of the model before unlearning, to report the share that is left.
    """

    fluency: Metric
    model_utility: Metric = field(factory=ModelUtility)
    full_utility: float | None = field(default=None, validator=optional(gt(0)), kw_only=True)

    @property
    def needs(self) -> Needs:
        return self.model_utility.needs | self.fluency.needs

    def __call__(self, seen: Seen) -> Score:
        scores = dict(zip(UTILITY, (self.model_utility(seen), self.fluency(seen)), strict=True))
        measured = _all_measured(scores, "utility")
        if isinstance(measured, Score):
            return measured
        useful, fluent = measured.values()
        value = utility(model_utility=useful, fluency=fluent, full_utility=self.full_utility)
        return Score(value, "utility", n=scores[UTILITY[0]].n, parts=measured)


@frozen
class Leaderboard:
    """Harmonic mean of the three pillars, which are its `parts`. Higher: better unlearned.

    Not measured as soon as one of the pillars is not: the reason names it.

    Attributes:
        utility: the third pillar, `Utility` with a classifier of fluent text.
        memorization, privacy: the other two, in [0, 1].
    """

    utility: Metric
    memorization: Metric = field(factory=Memorization)
    privacy: Metric = field(factory=Privacy)

    @property
    def needs(self) -> Needs:
        return all_needs((self.memorization, self.privacy, self.utility))

    def __call__(self, seen: Seen) -> Score:
        scores = {
            "memorization": self.memorization(seen),
            "privacy": self.privacy(seen),
            "utility": self.utility(seen),
        }
        measured = _all_measured(scores, "forgetting")
        if isinstance(measured, Score):
            return measured
        return Score(harmonic_mean(measured.values()), "forgetting", n=scores["memorization"].n, parts=measured)

    def check(self, contents: Mapping[str, Mapping[str, str]]) -> None:
        """As that of `privacy`, if it has one."""
        if isinstance(self.privacy, Checked):
            self.privacy.check(contents)


def _all_measured(scores: Mapping[str, Score], higher: Direction) -> dict[str, float] | Score:
    """The values by name, or the score that says which of them is missing and why."""
    values: dict[str, float] = {}
    for name, score in scores.items():
        if score.value is None:
            return Score.not_measured(f"{name} was not measured: {score.reason}", higher)
        values[name] = score.value
    return values
