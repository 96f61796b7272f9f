r"""DCUE: is the model as sure of the words that matter as one that never saw the data, general shifts taken out?

    core tokens   answer tokens that the question makes likelier: log p(y_t | question, …) - log p(y_t | …) > 0.5 nats
    confidence    c = geometric mean of the probabilities of an answer's core tokens
    correction    b = mean over a validation set of  logit c_model - logit c_reference
    score         p-value of a Kolmogorov-Smirnov test: logit c_model - b  against  logit c_reference, on the forget set

A high p-value is good forgetting: the model cannot be told from the reference. `statistic` (D, in [0, 1]) does not
depend on the number of examples as the p-value does. The reference is a model without the forget data: retrained, or
from before it was learnt. What unlearning, or later training on other data, does to all answers alike cancels.

It needs label log-probs of both models on forget and validation set, and of the measured model on the same answers
without their questions (`without_question`). Validation data has to be unseen by both models. Where it misleads: with
few validation examples b is noise; a model damaged on the validation set is "corrected" towards the reference; the test
says that models differ, not which of them knows more.

Paper: Miao, Hu, Li, Bao, Liu, Qin, Ren. Towards Evaluation for Real-World LLM Unlearning. 2025, arXiv:2508.01324.

Checked: laws only; there is no public code.

Reconstructed. The paper's: core tokens, their confidence, a correction by a validation set, and the KS test. Ours:
which tokens are core (the rule, its margin, that the measured model chooses, one per answer at least), the geometric
mean, the shift in logits, and that a reference model is compared with. `core` replaces our rule by positions of yours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from attrs import field, frozen
from attrs.validators import in_
from torch import Tensor

from unlearnkit.batch import IGNORE, Row
from unlearnkit.errors import DataError
from unlearnkit.metrics.forget_quality import ks_test
from unlearnkit.protocols import Flat, Needs, Score, Seen, Tokens
from unlearnkit.statistics import LabelLogProb

Correction = Literal["shift", "quantile", "none"]
"""What is taken out: the mean difference on the validation set, that of each quantile, or nothing."""


def core_tokens(log_probs: Tensor, alone_log_probs: Tensor, row: Tensor, *, rows: int, margin: float = 0.5) -> Tensor:
    """Which answer tokens the question makes likelier: flat [N], [N], [N] -> [N] bool; one of each answer at least.

    Args:
        log_probs: [N] log-probs of answer tokens after the question, in nats.
        alone_log_probs: [N] the same without the question.
        row: [N] int64, the answer each token belongs to.
        rows: number of answers.
        margin: what a token has to gain, in nats. Of an answer without such a token the one that gains most is core,
            the first of equals.
    """
    gain = torch.nan_to_num(log_probs.double() - alone_log_probs.double(), nan=0.0)  # both -inf: nothing is gained
    most = gain.new_full((rows,), -torch.inf).scatter_reduce(0, row, gain, "amax")
    place = torch.arange(len(row), device=row.device)
    best = torch.where(gain == most[row], place, len(row))
    first = row.new_full((rows,), len(row)).scatter_reduce(0, row, best, "amin")
    return (gain > margin) | (place == first[row])


def core_log_confidence(log_probs: Tensor, core: Tensor, row: Tensor, *, rows: int) -> Tensor:
    """Mean log-prob of each answer's core tokens, in nats, <= 0: flat [N], [N] bool, [N] -> [rows] float64.

    An answer without core tokens is nan.
    """
    chosen = core.double()
    total = chosen.new_zeros(rows).index_add(0, row, torch.where(core, log_probs.double(), 0.0))
    return total / chosen.new_zeros(rows).index_add(0, row, chosen)  # 0/0 = nan


def logit_of(log_probability: Tensor, *, limit: float = 50.0) -> Tensor:
    """log(p / (1 - p)) from log p, in nats, cut to ± `limit` so that p = 0 or 1 leaves means finite: [N] -> [N]."""
    return (log_probability - torch.log(-torch.expm1(log_probability))).clamp(-limit, limit)


def corrected(
    model: Sequence[float],
    model_validation: Sequence[float],
    reference_validation: Sequence[float],
    *,
    correction: Correction = "shift",
) -> list[float]:
    """A model's values without what moved on the validation set too.

    Args:
        model: logit confidences on the forget set.
        model_validation, reference_validation: those of both models on the validation set; if either is empty, nothing
            is taken out.
        correction: "shift" subtracts the difference of means. "quantile" maps each value to the reference's quantile
            of the same rank, in straight lines between them, and shifts values beyond the ends like these.
    """
    if correction == "none" or not len(model_validation) or not len(reference_validation):
        return list(model)
    if correction == "shift":
        shift = _mean(model_validation) - _mean(reference_validation)
        return [value - shift for value in model]
    theirs, ours = np.sort(reference_validation), np.sort(model_validation)
    knots = np.unique(ours)
    ranks = np.searchsorted(ours, knots, "left") + np.searchsorted(ours, knots, "right") - 1  # doubled; ties: the mean
    places = ranks * (len(theirs) - 1) / max(2 * (len(ours) - 1), 1)
    moved = np.interp(places, np.arange(len(theirs)), theirs) - knots
    return [value + float(np.interp(value, knots, moved)) for value in model]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def without_question(row: Row, *, role: str, start: Sequence[int]) -> Row:
    """The same answer after `start` instead of its question; id, group and supervised tokens stay.

    Args:
        row: a question and its answer.
        role: of the new row.
        start: what the answer follows, at least one token: the begin token, or an empty question's template.

    Raises:
        DataError: nothing is supervised, or `start` is empty.
    """
    supervised = (row.labels != IGNORE).nonzero()
    if not len(supervised) or not len(start):
        raise DataError(
            f"row {row.id!r} of {row.role!r} has {len(supervised)} supervised tokens, and `start` {len(start)} tokens; "
            "both need at least one. Drop the row, or pass the tokenizer's begin token as `start`."
        )
    first = int(supervised[0])
    before = torch.tensor(list(start), dtype=row.labels.dtype)
    input_ids = torch.cat([before, row.inputs["input_ids"][first:]])
    labels = torch.cat([torch.full_like(before, IGNORE), row.labels[first:]])
    return Row(row.id, role, {"input_ids": input_ids}, labels, group=row.group)


@frozen
class DCUE:
    """p-value of `ks_test` between the corrected core confidences of a model and a reference. Higher: better forgotten.

    Parts: `statistic` (D), `one_minus_d`, `log10_p` and `shift` (the difference of means on the validation set; 0 where
    nothing is corrected). Samples: both sides of the test, by example id.

    Attributes:
        role: the forget set. Its answers without questions are the role of this name followed by "_alone".
        validation: questions and answers that neither model was trained on; "_alone" as above.
        reference: the model without the forget data.
        margin: what a core token gains by the question, in nats.
        core: core tokens of each answer, by row id, counted from its first supervised token, in place of the rule;
            needs no "_alone" data.
        correction: what is taken out; "none" needs no validation data.
        of: the model that is measured; by the rule, it also says which tokens are core.
    """

    role: str = "forget"
    validation: str = field(default="validation", kw_only=True)
    reference: str = field(default="oracle", kw_only=True)
    margin: float = field(default=0.5, kw_only=True)
    core: Mapping[str, tuple[int, ...]] | None = field(default=None, kw_only=True)
    correction: Correction = field(default="shift", validator=in_(get_args(Correction)), kw_only=True)
    of: str = field(default="model", kw_only=True)

    @property
    def roles(self) -> tuple[str, ...]:
        return (self.role,) if self.correction == "none" else (self.role, self.validation)

    @property
    def needs(self) -> Needs:
        both = {self._tokens(role, of) for role in self.roles for of in (self.of, self.reference)}
        alone = set() if self.core is not None else {self._tokens(f"{role}_alone", self.of) for role in self.roles}
        return frozenset(both | alone)

    def __call__(self, seen: Seen) -> Score:
        model, reference = self._logits(seen, self.role)
        if not model:
            return Score.not_measured(f"no answer of {self.role!r} has a core token", "forgetting")
        model_validation, reference_validation = dict[str, float](), dict[str, float]()
        if self.correction != "none":
            model_validation, reference_validation = self._logits(seen, self.validation)
        sides = list(model_validation.values()), list(reference_validation.values())
        moved = corrected(list(model.values()), *sides, correction=self.correction)
        test = ks_test(moved, list(reference.values()))
        shift = (math.fsum(sides[0]) - math.fsum(sides[1])) / max(len(sides[0]), 1)
        return Score(
            test.p_value,
            "forgetting",
            n=len(model),
            parts={
                "statistic": test.statistic,
                "one_minus_d": 1.0 - test.statistic,
                "log10_p": math.log10(max(test.p_value, math.ulp(0.0))),
                "shift": shift,
            },
            left_out=tuple(example for example in seen.ids[self.role] if example not in model),
            samples={self.of: dict(zip(model, moved, strict=True)), self.reference: reference},
        )

    def _tokens(self, role: str, of: str) -> Tokens:
        return Tokens(LabelLogProb(), role, of=of)

    def _logits(self, seen: Seen, role: str) -> tuple[dict[str, float], dict[str, float]]:
        """Logit confidence of each answer by both models; answers without core tokens are left out."""
        model, reference = seen[self._tokens(role, self.of)], seen[self._tokens(role, self.reference)]
        core = self._chosen(seen, role, model)
        sides = []
        for flat in (model, reference):
            confidence = core_log_confidence(flat.values, core, flat.row, rows=flat.rows)
            logits = zip(seen.ids[role], logit_of(confidence).tolist(), strict=True)
            sides.append({example: value for example, value in logits if not math.isnan(value)})
        return sides[0], sides[1]

    def _chosen(self, seen: Seen, role: str, model: Flat) -> Tensor:
        """[N] bool: the core tokens of a role."""
        answers = list(zip(seen.ids[role], model.counts().tolist(), strict=True))
        if self.core is None:
            alone = dict(
                zip(seen.ids[f"{role}_alone"], seen[self._tokens(f"{role}_alone", self.of)].split(), strict=True)
            )
            for example, tokens in answers:
                if example not in alone or len(alone[example]) != tokens:
                    raise DataError(
                        f"example {example!r} of {role!r} has {tokens} answer tokens, but "
                        f"{len(alone[example]) if example in alone else 'no row'} in '{role}_alone'. Make the rows of "
                        "that role by `without_question`, of the same rows."
                    )
            return core_tokens(
                model.values,
                torch.cat([alone[example] for example, _ in answers]) if answers else model.values,
                model.row,
                rows=model.rows,
                margin=self.margin,
            )
        core = torch.zeros_like(model.row, dtype=torch.bool)
        first = 0
        for example, tokens in answers:
            if example not in self.core or any(not 0 <= place < tokens for place in self.core[example]):
                raise DataError(
                    f"core has {self.core.get(example)} for example {example!r} of {role!r}, whose answer has {tokens} "
                    "tokens. List the places of its core tokens, counted from 0 at the first supervised token."
                )
            core[[first + place for place in self.core[example]]] = True
            first += tokens
        return core
