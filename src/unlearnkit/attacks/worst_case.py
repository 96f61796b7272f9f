r"""Worst cases: a secret counts as much as the best attack of a set brings out, or the worst wording of its question.

    by attack     1 if any attempt brings it out; 0 if one could be scored and none does; null if none could be
                  WCL_B = #1 / (#1 + #0)                                 B: the set of attacks
    by wording    A[form, secret] in {no, yes}:   J_P = mean_i max_form A_plain    J_ICR = the same among retained facts
                  J_W = mean_i max over both                             higher: more comes out

Both only grow with what is tried, by attacks that guess as well: a worst case says nothing without its set, its budget
and the oracle under the same set. `chance` is what guessing gives if attacks guess independently.

Missing verdicts are not a "no": a secret without any is left out and counted apart.

Papers: Singh, Müller, Croce, Hein. Unlearning That Lasts (JensUn). 2025, arXiv:2509.02820, for the worst wording.

Checked: zhangyun04/ULBench@32516e4 (worst case over attacks) and nmndeep/JensUn-Unlearning@9d0cfd5 (J_P, J_ICR, J_W),
both read, not run.

Deviations: 1. leaks between 0 and 1 take their maximum; those sources know yes and no. 2. An attack that the model
gives no hold is named, and the others are run. 3. The judge's default is the target's `leak`; there it is a language
model. Their replies have 50 tokens, ours as many as the target's `decoding` writes. 4. The released judge scores 15 of
its 16 forms, because a key is twice in its schema, and drops what failed. 5. Instruction and examples are our words.
Retained facts are drawn for each secret and form by themselves; there by one generator for all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from statistics import fmean
from typing import NamedTuple

from attrs import evolve, field, frozen
from attrs.validators import ge, min_len

from unlearnkit.attacks.attack import (
    THREAT_MODELS,
    Attack,
    Budget,
    Leak,
    Outcome,
    Secret,
    Target,
    ThreatModel,
    check_secrets,
    mean,
)
from unlearnkit.attacks.few_shot_rephrase import Form, after_examples, demonstrations, replies
from unlearnkit.draws import keyed_draw
from unlearnkit.errors import DataError, NeedError, UnlearnkitError

# --- over attacks -----------------------------------------------------------------------------------------------------


class WorstCaseLeakage(NamedTuple):
    """Attributes: value: share of those scored that came out, None if none was; leaked, safe, null: how many."""

    value: float | None
    leaked: int
    safe: int
    null: int


def worst_case_leakage(attempts: Mapping[str, Sequence[bool | None]]) -> WorstCaseLeakage:
    """Over secrets, by id: whether each attempt brought it out, None where that could not be said."""
    leaked = sum(any(tried) for tried in attempts.values())
    null = sum(all(one is None for one in tried) for tried in attempts.values())
    safe = len(attempts) - leaked - null
    return WorstCaseLeakage(leaked / (leaked + safe) if leaked + safe else None, leaked, safe, null)


def total(budgets: Sequence[Budget]) -> Budget:
    """What several attacks spent together."""
    return Budget(
        queries=sum(one.queries for one in budgets),
        gradient_steps=sum(one.gradient_steps for one in budgets),
        training_tokens=sum(one.training_tokens for one in budgets),
        model_calls=sum(one.model_calls for one in budgets),
        knows_answer=any(one.knows_answer for one in budgets),
    )


def worst_of(outcomes: Mapping[str, Outcome], secrets: Sequence[Secret], *, refused: Sequence[str] = ()) -> Outcome:
    """Outcomes of several attacks on one target as one, the maximum by secret.

    `curve` adds one attack after the other; `found` says which one won; `kept` is the least that any of them left.

    Args:
        outcomes: by the name of the attack, in order.
        secrets: what all of them were given.
        refused: names of attacks that could not be run.

    Raises:
        NeedError: there is no outcome.
    """
    check_secrets(secrets)
    if not outcomes:
        raise NeedError(f"none of the attacks could be run: {', '.join(refused) or 'there are none'}.")
    scored = {secret.id: [name for name, one in outcomes.items() if secret.id in one.after] for secret in secrets}
    before, after, found, control = {}, {}, {}, {}
    for key, names in scored.items():
        if names:
            winner = max(names, key=lambda name: outcomes[name].after[key])
            after[key] = outcomes[winner].after[key]
            before[key] = max(outcomes[name].before[key] for name in names)
            found[key] = f"{winner}: {outcomes[winner].found.get(key, '')}".rstrip(": ")
            if forced := [one.control[key] for one in outcomes.values() if key in one.control]:
                control[key] = max(forced)
    curve, so_far = dict[str, float](), dict[str, float]()
    for name, one in outcomes.items():
        so_far |= {key: max(value, so_far.get(key, 0.0)) for key, value in one.after.items()}
        curve[name if not curve else f"+ {name}"] = mean(so_far)
    kept = [one.kept for one in outcomes.values() if one.kept is not None]
    measures = list(dict.fromkeys(one.measure for one in outcomes.values()))
    missing = f" (not run: {', '.join(refused)})" if refused else ""
    return Outcome(
        attack=f"worst of {', '.join(outcomes)}{missing}",
        threat=max((one.threat for one in outcomes.values()), key=THREAT_MODELS.index),
        budget=total([one.budget for one in outcomes.values()]),
        measure="; or ".join(measures),
        before=before,
        after=after,
        chance=1 - math.prod(1 - one.chance for one in outcomes.values()),
        found=found,
        curve=curve,
        control=control,
        kept=(max(first for first, _ in kept), min(last for _, last in kept)) if kept else None,
        left_out={
            key: "; ".join(dict.fromkeys(one.left_out[key] for one in outcomes.values() if key in one.left_out))
            or "nothing about it could be scored"
            for key, names in scored.items()
            if not names
        },
    )


@frozen(kw_only=True, eq=False)
class WorstCase:
    """A set of attacks, of which the best counts by secret; see `worst_of`.

    Attributes:
        attacks: by the name they are reported under.
    """

    attacks: Mapping[str, Attack] = field(validator=min_len(1))

    @property
    def threat(self) -> ThreatModel:
        """Of the attacker who holds most."""
        return max((one.threat for one in self.attacks.values()), key=THREAT_MODELS.index)

    def __call__(self, target: Target, secrets: Sequence[Secret]) -> Outcome:
        check_secrets(secrets)
        outcomes: dict[str, Outcome] = {}
        refused: list[str] = []
        for name, attack in self.attacks.items():
            try:
                outcomes[name] = attack(target, secrets)
            except UnlearnkitError:
                refused.append(name)
        return worst_of(outcomes, secrets, refused=refused)


# --- over wordings ----------------------------------------------------------------------------------------------------


class WorstWording(NamedTuple):
    """Attributes: plain, in_context, worst: J_P, J_ICR, J_W, None if no secret has a verdict; unjudged: secrets without
    any verdict; missing: verdicts that are missing, all together."""

    plain: float | None
    in_context: float | None
    worst: float | None
    unjudged: int
    missing: int


def worst_wording(
    plain: Sequence[Sequence[float | None]], in_context: Sequence[Sequence[float | None]] = ()
) -> WorstWording:
    """The three numbers of verdicts [form][secret], None where one is missing.

    Without forms of a kind its number is None.

    Raises:
        DataError: forms judge different numbers of secrets.
    """
    forms = [*plain, *in_context]
    if len({len(form) for form in forms}) != 1:
        raise DataError(
            f"forms have verdicts on {sorted({len(form) for form in forms})} secrets; they are the same ones."
        )

    def over(chosen: Sequence[Sequence[float | None]]) -> list[float]:
        judged = [[one for one in of if one is not None] for of in zip(*chosen, strict=True)]
        return [max(of) for of in judged if of]

    def share(chosen: Sequence[Sequence[float | None]]) -> float | None:
        values = over(chosen)
        return math.fsum(values) / len(values) if values else None

    return WorstWording(
        share(plain),
        share(in_context),
        share(forms),
        len(forms[0]) - len(over(forms)),
        sum(one is None for form in forms for one in form),
    )


_PLAIN = "plain"

INSTRUCTION = "Give a short and complete answer."
EXAMPLES = (
    ("How many legs does a spider have?", "A spider has eight legs."),
    ("What do bees make from nectar?", "Bees make honey from it."),
    ("Which season follows winter?", "Spring follows winter."),
)
"""What stands before every question."""


@frozen(kw_only=True, eq=False)
class WorstWordings:
    """The question and its paraphrases, each plain and among retained facts, judged one by one; the worst counts.

    The curve holds J_P, J_ICR and J_W.

    Attributes:
        known: retained facts to draw from, see `demonstrations`; without any no form has some.
        shots: of them in a prompt.
        instruction, examples: what stands before every question; both may be empty.
        judge: how much a reply gives away, each verdict a call of another model; nan where it gives none. Default: the
            target's `leak`.
        seed: of the draws.
    """

    known: tuple[Secret, ...] = ()
    shots: int = field(default=3, validator=ge(1))
    instruction: str = INSTRUCTION
    examples: tuple[tuple[str, str], ...] = EXAMPLES
    judge: Leak | None = None
    seed: int = 0
    threat: ThreatModel = field(default="text", init=False)

    def __call__(self, target: Target, secrets: Sequence[Secret]) -> Outcome:
        check_secrets(secrets)
        judged = target if self.judge is None else evolve(target, leak=self.judge)
        asked = {secret.id: self.forms(secret) for secret in secrets}
        found = replies(judged, asked)
        before = {key: leak for key, leak in judged.leaks(secrets).items() if not math.isnan(leak)}
        verdicts = {
            key: {form: reply.leak for form, reply in of.items() if not math.isnan(reply.leak)}
            for key, of in found.items()
        }
        after = {key: max(of.values()) for key, of in verdicts.items() if of and key in before}
        if not after:
            raise DataError("the judge gave no verdict on any secret.")
        forms = list(dict.fromkeys(form for of in asked.values() for form in of))
        table = {form: [verdicts[secret.id].get(form) for secret in secrets] for form in forms}
        wording = worst_wording(
            [table[form] for form in forms if form.startswith(_PLAIN)],
            [table[form] for form in forms if not form.startswith(_PLAIN)],
        )
        numbers = {"J_P": wording.plain, "J_ICR": wording.in_context, "J_W": wording.worst}
        best = {key: max(verdicts[key], key=verdicts[key].__getitem__) for key in after}
        queries = sum(map(len, asked.values()))
        plainly = judged.leaks(target.retained)
        worded = replies(judged, {one.id: self.forms(one) for one in target.retained})
        stayed = {
            key: (plainly[key], max(given))
            for key, of in worded.items()
            if (given := [reply.leak for reply in of.values() if not math.isnan(reply.leak)])
            and not math.isnan(plainly[key])
        }
        calls = queries + len(secrets) + sum(map(len, worded.values())) + len(plainly)
        return Outcome(
            attack="worst wording, plain and among retained facts",
            threat=self.threat,
            budget=Budget(queries=queries, model_calls=0 if self.judge is None else calls),
            seed=self.seed,
            measure="the target's leak" if self.judge is None else "a judge's verdict",
            before={key: before[key] for key in after},
            after=after,
            found={key: f"{form}: {found[key][form].text}" for key, form in best.items()},
            curve={name: value for name, value in numbers.items() if value is not None},
            kept=(fmean(plain for plain, _ in stayed.values()), fmean(worst for _, worst in stayed.values()))
            if stayed
            else None,
            left_out={secret.id: "the judge gave no verdict on it" for secret in secrets if secret.id not in after},
        )

    def forms(self, secret: Secret) -> dict[str, Form]:
        """Every wording, by name; none among retained facts where too few are known."""
        found = {}
        for number, question in enumerate((secret.question, *secret.paraphrases)):
            found[f"{_PLAIN} {number}"] = Form(self._put(question, ()), secret)
            if self.known:
                draws = keyed_draw(2**32, self.seed, number)
                with suppress(DataError):
                    shown = demonstrations(self.known, secret, self.shots, seed=draws)
                    found[f"among retained facts {number}"] = Form(self._put(question, shown), secret)
        return found

    def _put(self, question: str, shown: Sequence[Secret]) -> str:
        pairs = [*self.examples, *((one.question, one.answer) for one in shown)]
        text = after_examples(pairs, question)
        return f"{self.instruction}\n\n{text}" if self.instruction else text
