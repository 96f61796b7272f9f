r"""Privacy relative to an oracle: is a text as hard to recognise as for a model that never saw it?

    PrivLeak        = 100 ((1 - A) - (1 - A*)) / (1 - A*)      0 best; below: under-unlearned, above: over-unlearned
    rel_diff        = 100 (A - A*) / A*                        0 best; above: under-unlearned
    RetainDeviation = |rel_diff| of retain texts               0 best: retain texts are recognised as before
    s_mia           = 1 - min(|A - A*| / A*, 1)                1: as for the oracle
    Privacy         = harmonic mean of s_mia over four attacks

A is the AUC of `MembershipInference` on the model (1: members stand out) and A* on the oracle. PrivLeak lies in
[-100, 100 (1/(1 - A*) - 1)]. It is unstable where the oracle's AUC is near its end of the scale, and all of these
inherit what makes the AUC fail: non-members that differ from members in more than training.

Papers: PrivLeak: Shi et al. MUSE. ICLR 2025, arXiv:2407.06460 (Min-K 40 %). DUSK's PrivLeak (Min-K++ 40 %) and
RetainDeviation: Jeung et al. DUSK. 2025, arXiv:2505.15209. s_mia, Privacy: Dorna et al. OpenUnlearning. NeurIPS 2025,
arXiv:2506.12618, here after a re-implementation.

Checked: swj0419/muse_bench@fcd6651, AI-ISL/DUSK@129a0a5 (1e-9); gnueaj/unlearning-depth-score@fc31639 (s_mia 1e-9, the
harmonic mean to the 1e-12 that it adds to each value).

Deviations: MUSE's and DUSK's AUC is 1 - A: pass 1 - 0.4772 (News) or 1 - 0.5393 (Books) as `reference_auc`. MUSE's
released line fails with a KeyError before it divides. OpenUnlearning adds 1e-10 to denominators; we add nothing and do
not measure where one is 0. The re-implementation of Privacy skips an attack that could not be measured; ours is then
not measured, and says which. It scales s_mia by the oracle; `denominator="original_gap"` is the other reading,
|A - A*| / |A_original - A*|.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, get_args

from attrs import evolve, field, frozen
from attrs.validators import and_, ge, in_, le, min_len, optional

from unlearnkit.metrics.membership import Attack, Loss, MembershipInference, MinK, MinKPlusPlus, Zlib
from unlearnkit.metrics.model_utility import harmonic_mean
from unlearnkit.protocols import Direction, Needs, Score, Seen, all_needs

Denominator = Literal["oracle", "original_gap"]
"""What a gap to the oracle is divided by: the oracle's AUC, or the gap before unlearning."""

_TINY = 1e-12
_UNIT = optional(and_(ge(0.0), le(1.0)))


def priv_leak(auc: float, reference_auc: float) -> float:
    """PrivLeak, in percent, from the AUC of a model and of the oracle; nan if the oracle's is 1."""
    return rel_diff(1 - auc, 1 - reference_auc)


def rel_diff(auc: float, reference_auc: float) -> float:
    """Gap of an AUC to the oracle's, in percent of the oracle's; nan if that is 0."""
    return (auc - reference_auc) / reference_auc * 100 if reference_auc > _TINY else math.nan


def s_mia(auc: float, reference_auc: float, *, original_auc: float | None = None) -> float:
    """How close an AUC is to the oracle's, in [0, 1]; nan if there is nothing to divide by.

    Args:
        auc, reference_auc: of the model and of the oracle.
        original_auc: of the model before unlearning. If given, its gap to the oracle is the measure, not the oracle's
            AUC itself.
    """
    scale = reference_auc if original_auc is None else abs(original_auc - reference_auc)
    return 1 - min(abs(auc - reference_auc) / scale, 1.0) if scale > _TINY else math.nan


@frozen
class PrivLeak:
    """`priv_leak` of a model. Higher: less is recognised; 0 is best, and more than that is over-unlearned.

    Parts: `auc` and `reference_auc`.

    Attributes:
        inference: the attack, its data sets, and the model that is measured. DUSK: `MinKPlusPlus(0.4)`.
        oracle: the model that was retrained without the members.
        reference_auc: its AUC, if it is known from elsewhere (1: members stand out); the oracle is not needed then.
    """

    inference: MembershipInference = field(default=MembershipInference(MinK(0.4)))
    oracle: str = field(default="oracle", kw_only=True)
    reference_auc: float | None = field(default=None, validator=_UNIT, kw_only=True)

    @property
    def needs(self) -> Needs:
        return self.inference.needs | _oracle_needs(self)

    def __call__(self, seen: Seen) -> Score:
        return _gap(priv_leak, _against_oracle(self, seen), "forgetting")

    def check(self, contents: Mapping[str, Mapping[str, str]]) -> None:
        """As `MembershipInference.check`."""
        self.inference.check(contents)


@frozen
class RelDiff:
    """`rel_diff` of a model. Higher: the model knows more; 0 is best.

    Parts and attributes as in `PrivLeak`.
    """

    inference: MembershipInference = field(default=MembershipInference(MinK(0.4)))
    oracle: str = field(default="oracle", kw_only=True)
    reference_auc: float | None = field(default=None, validator=_UNIT, kw_only=True)

    @property
    def needs(self) -> Needs:
        return self.inference.needs | _oracle_needs(self)

    def __call__(self, seen: Seen) -> Score:
        return _gap(rel_diff, _against_oracle(self, seen), "knowledge")

    def check(self, contents: Mapping[str, Mapping[str, str]]) -> None:
        """As `MembershipInference.check`."""
        self.inference.check(contents)


@frozen
class RetainDeviation:
    """Absolute `rel_diff` on retain texts. It has no direction of its own: 0 is best, in percent.

    Parts and attributes as in `PrivLeak`; members are the retain texts.
    """

    inference: MembershipInference = field(
        default=MembershipInference(MinKPlusPlus(0.4), members="retain", trained_on=("forget",))
    )
    oracle: str = field(default="oracle", kw_only=True)
    reference_auc: float | None = field(default=None, validator=_UNIT, kw_only=True)

    @property
    def needs(self) -> Needs:
        return self.inference.needs | _oracle_needs(self)

    def __call__(self, seen: Seen) -> Score:
        return _gap(lambda auc, reference: abs(rel_diff(auc, reference)), _against_oracle(self, seen), None)

    def check(self, contents: Mapping[str, Mapping[str, str]]) -> None:
        """As `MembershipInference.check`."""
        self.inference.check(contents)


def _four_attacks() -> Mapping[str, Attack]:
    return {"loss": Loss(), "zlib": Zlib(), "min_k": MinK(0.4), "min_k_plus_plus": MinKPlusPlus(0.4)}


@frozen
class Privacy:
    """Harmonic mean of `s_mia` over attacks. Higher: closer to the oracle, 1 at best.

    Parts: each attack's `s_mia` by name. Not measured as soon as one of them is not: the reason names it.

    Attributes:
        attacks: by name.
        members, non_members, trained_on: as in `MembershipInference`.
        denominator: what the gap to the oracle is divided by.
        of, oracle: the model that is measured, and the one that was retrained without the members.
        original: the model before unlearning; needed if its gap is the denominator.
    """

    attacks: Mapping[str, Attack] = field(factory=_four_attacks, validator=min_len(1))
    members: str = field(default="forget", kw_only=True)
    non_members: str = field(default="holdout", kw_only=True)
    trained_on: tuple[str, ...] = field(default=("retain",), kw_only=True)
    denominator: Denominator = field(default="oracle", validator=in_(get_args(Denominator)), kw_only=True)
    of: str = field(default="model", kw_only=True)
    oracle: str = field(default="oracle", kw_only=True)
    original: str = field(default="original", kw_only=True)

    def inference(self, attack: str, of: str) -> MembershipInference:
        """One of the attacks on one of the models."""
        return MembershipInference(
            self.attacks[attack],
            members=self.members,
            non_members=self.non_members,
            trained_on=self.trained_on,
            of=of,
        )

    @property
    def models(self) -> tuple[str, ...]:
        """The model, the oracle, and, if its gap is the denominator, the original."""
        return (self.of, self.oracle) + ((self.original,) if self.denominator == "original_gap" else ())

    @property
    def needs(self) -> Needs:
        return all_needs(self.inference(attack, of) for attack in self.attacks for of in self.models)

    def __call__(self, seen: Seen) -> Score:
        parts: dict[str, float] = {}
        n = 0
        for attack in self.attacks:
            aucs: list[float] = []
            for of in self.models:
                inference = self.inference(attack, of)
                score = inference(seen) if inference.needs <= seen.answers.keys() else _no_model(of)
                if score.value is None:
                    return Score.not_measured(f"{attack} of {of!r} was not measured: {score.reason}", "forgetting")
                aucs.append(score.value)
                n = score.n
            parts[attack] = s_mia(aucs[0], aucs[1], original_auc=aucs[2] if len(aucs) > 2 else None)
            if math.isnan(parts[attack]):
                return Score.not_measured(f"{attack}: the {self.denominator} to divide by is 0", "forgetting")
        return Score(harmonic_mean(parts.values()), "forgetting", n=n, parts=parts)

    def check(self, contents: Mapping[str, Mapping[str, str]]) -> None:
        """As `MembershipInference.check`."""
        self.inference(next(iter(self.attacks)), self.of).check(contents)


def _oracle_inference(metric: PrivLeak | RelDiff | RetainDeviation) -> MembershipInference:
    return evolve(metric.inference, of=metric.oracle)


def _oracle_needs(metric: PrivLeak | RelDiff | RetainDeviation) -> Needs:
    return _oracle_inference(metric).needs if metric.reference_auc is None else frozenset()


def _no_model(of: str) -> Score:
    return Score.not_measured(f"{of!r} was not observed")


def _against_oracle(metric: PrivLeak | RelDiff | RetainDeviation, seen: Seen) -> Score:
    """The model's AUC, with `auc` and `reference_auc` as parts; not measured if either is not."""
    score = metric.inference(seen)
    if score.value is None:
        return evolve(score, reason=f"the AUC of {metric.inference.of!r} was not measured: {score.reason}")
    reference = metric.reference_auc
    if reference is None:
        oracle = _oracle_inference(metric)
        if not oracle.needs <= seen.answers.keys():
            return Score.not_measured(
                f"no oracle: {metric.oracle!r} was not observed. Give that model or its recording, or a `reference_auc`"
            )
        of_oracle = oracle(seen)
        if of_oracle.value is None:
            return evolve(of_oracle, reason=f"the AUC of {metric.oracle!r} was not measured: {of_oracle.reason}")
        reference = of_oracle.value
    return evolve(score, parts={"auc": score.value, "reference_auc": reference})


def _gap(formula: Callable[[float, float], float], aucs: Score, higher: Direction | None) -> Score:
    aucs = evolve(aucs, samples={})  # those of the attack, which has a score of its own
    if aucs.value is None:
        return evolve(aucs, higher=higher)
    value = formula(aucs.parts["auc"], aucs.parts["reference_auc"])
    if math.isnan(value):
        reason = f"an AUC of the oracle of {aucs.parts['reference_auc']:g} leaves nothing to divide by"
        return evolve(aucs, value=None, higher=higher, n=0, reason=reason)
    return evolve(aucs, value=value, higher=higher)
