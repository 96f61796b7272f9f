r"""Exposure: how likely a model still finds a secret, by itself, among candidates, or beside models that never saw it.

    exposure_logprob     sum_t log p(a_t | prompt, a_<t)                                        nats, <= 0
    exposure_rank        log2 |C| - log2 rank,  C: the secret and its candidates                bits, in [0, log2 |C|]
    GenEx                |log mean_s p_s(x) - log mean_s' p_s'(x)|,  s: unlearned runs, s': oracles      nats, >= 0
    RelEx                log p(x) - log mean over unseen texts r of p(r)                        nats

Higher is more exposed. The first has no scale of its own: a rare string has a low one without unlearning, so compare it
with the original model and the oracle. Rank exposure does: 0 where the secret is the least likely candidate, 1.44 bits
on average where it is like any of many. GenEx does not say which of the two sides knows more. Whole-text probabilities
favour short texts: `per_token` where lengths differ.

Papers: rank: Carlini, Liu, Erlingsson, Kos, Song. The Secret Sharer. USENIX Security 2019, arXiv:1802.08232. Summed
log-prob: Kwon et al. Before Forgetting, Learn to Remember (ReMem). Findings of ACL 2026, arXiv:2605.03759, known from
notes on it. GenEx, RelEx: Baluta, Lamblin, Tarlow, Pedregosa, Dziugaite. Unlearning in- vs. out-of-distribution data in
LLMs under gradient-based methods. SafeGenAI at NeurIPS 2024, arXiv:2411.04388.

Checked: laws and closed forms only.

Deviations: ReMem calls the summed log-prob "Exposure" where everybody else means the rank: both names are kept apart
here. GenEx and RelEx are reconstructed. The paper's: two names, one that needs models without the forget set and one
that approximates it without, a log-difference of expected likelihoods, and strata by memorisation and difficulty. Our
reading: the expectation over seeds is inside the logarithm, the difference is absolute, a data set's value is the mean
(`max` is a part: the worst case), RelEx compares with unseen texts of the same distribution, memorisation is the
original's probability per token over the oracle's and difficulty the oracle's loss. Ties count against the secret, so
that a model without any preference exposes nothing; with texts it is not among as candidates, rank exposure is then
-log2 of the smoothed share (1 + number at least as likely) / (1 + number of candidates).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from attrs import evolve, field, frozen
from attrs.validators import ge, in_, le, min_len
from torch import Tensor

from unlearnkit.errors import DataError
from unlearnkit.metrics.membership import refuse_trained_on
from unlearnkit.metrics.memorization import exact_memorization
from unlearnkit.protocols import Metric, Needs, Score, Seen, Tokens
from unlearnkit.statistics import LabelLogProb, TopHit


def exposure_logprob(log_probs: Tensor, row: Tensor, *, rows: int, per_token: bool = False) -> Tensor:
    """Log-prob of each whole text under teacher forcing, in nats: flat [N], [N] -> [rows] float64, <= 0.

    Args:
        log_probs: [N] log-probs of the texts' tokens, in nats.
        row: [N] int64, the text each token belongs to.
        rows: number of texts; one without tokens is nan.
        per_token: whether the sum is divided by the number of tokens.
    """
    nats = torch.zeros(rows, dtype=torch.float64, device=log_probs.device).index_add(0, row, log_probs.double())
    length = torch.bincount(row, minlength=rows)
    return nats / length if per_token else nats.masked_fill(length == 0, torch.nan)


def exposure_rank(secrets: Tensor, candidates: Tensor) -> Tensor:
    """log2 |C| - log2 rank of each secret among itself and its candidates, in bits: [Q], [Q, R] -> [Q] float64.

    Args:
        secrets: [Q] log-probs (or anything that grows with them); nan gives nan.
        candidates: [Q, R] the same of other texts that could have stood there. nan: no such candidate; a secret without
            any is nan. One as likely as the secret ranks before it.
    """
    absent = candidates.isnan()
    others = (~absent).sum(1)
    rank = 1 + (candidates >= secrets[:, None]).sum(1)
    bits = (1 + others).double().log2() - rank.double().log2()
    return bits.masked_fill(secrets.isnan() | (others == 0), torch.nan)


def generalized_exposure(log_probs: Tensor, oracle_log_probs: Tensor) -> Tensor:
    """Distance of the logarithms of two mean probabilities, in nats: [S, X], [O, X] -> [X], >= 0.

    Args:
        log_probs: [S, X] log-probs of X texts under S runs of unlearning.
        oracle_log_probs: [O, X] the same under O models that were trained without them.
    """
    unlearned = log_probs.logsumexp(0) - math.log(len(log_probs))
    retrained = oracle_log_probs.logsumexp(0) - math.log(len(oracle_log_probs))
    return (unlearned - retrained).abs()


def relative_exposure(log_probs: Tensor, unseen: Tensor) -> Tensor:
    """Log-prob of each text over the mean probability of unseen ones, in nats: [X], [R] -> [X].

    Args:
        log_probs: [X] log-probs of texts; nan gives nan.
        unseen: [R] the same of texts like them that were not trained on; nan is left out, all nan gives nan.
    """
    found = unseen[~unseen.isnan()]
    return log_probs - (found.logsumexp(0) - math.log(len(found)) if len(found) else torch.nan)


class Stratum(NamedTuple):
    """Examples whose covariate lies in [low, high].

    Attributes:
        low, high: smallest and largest covariate among them.
        n: how many they are.
        mean: of their values.
    """

    low: float
    high: float
    n: int
    mean: float


def stratify(values: Mapping[str, float], covariate: Mapping[str, float], *, strata: int) -> tuple[Stratum, ...]:
    """Mean of values in groups of about equal size, cut at quantiles of a covariate; ascending in it.

    Examples with equal covariates share a stratum: there may be fewer strata then. An example that lacks a value or a
    finite covariate is left out.
    """
    points = sorted(
        (covariate[name], value)
        for name, value in values.items()
        if not math.isnan(value) and math.isfinite(covariate.get(name, math.nan))
    )
    if not points:
        return ()
    x = np.array([point[0] for point in points])
    edges = np.quantile(x, [number / strata for number in range(1, strata)])
    stratum = np.searchsorted(edges, x, side="right")
    groups = [
        [point for point, number in zip(points, stratum, strict=True) if number == wanted] for wanted in range(strata)
    ]
    return tuple(
        Stratum(group[0][0], group[-1][0], len(group), math.fsum(value for _, value in group) / len(group))
        for group in groups
        if group
    )


def _text_log_probs(seen: Seen, need: Tokens, per_token: bool) -> Tensor:
    """[rows] log-prob of each text of a role."""
    flat = seen[need]
    return exposure_logprob(flat.values, flat.row, rows=flat.rows, per_token=per_token)


@frozen
class KnownBefore:
    """Keeps to secrets that the original model knows: what was never learned cannot be unlearned.

    Attributes:
        accuracy: smallest share of a secret's tokens that has to be the original's first choice.
        of: the original model.
    """

    accuracy: float = field(default=1.0, validator=[ge(0.0), le(1.0)])
    of: str = "original"

    def needs(self, role: str) -> Needs:
        return frozenset({Tokens(TopHit(), role, of=self.of)})

    def unknown(self, seen: Seen, role: str) -> Tensor:
        """[rows] bool: the secrets to leave out."""
        flat = seen[Tokens(TopHit(), role, of=self.of)]
        return exact_memorization(flat.values, flat.row, rows=flat.rows) < self.accuracy


@frozen
class ExposureLogProb:
    """Mean `exposure_logprob` of secrets. Higher: the model knows more of them.

    Attributes:
        role: the secrets: rows whose supervised tokens are the secret string.
        per_token: whether each is divided by its number of tokens.
        known: leaves out, and names, secrets that the original model does not know. Default: none are.
        of: the model that is measured.
    """

    role: str = "forget"
    per_token: bool = field(default=False, kw_only=True)
    known: KnownBefore | None = field(default=None, kw_only=True)
    of: str = field(default="model", kw_only=True)

    @property
    def tokens(self) -> Tokens:
        return Tokens(LabelLogProb(), self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.tokens}) | (self.known.needs(self.role) if self.known else frozenset())

    def __call__(self, seen: Seen) -> Score:
        each = _text_log_probs(seen, self.tokens, self.per_token)
        if self.known:
            each = each.masked_fill(self.known.unknown(seen, self.role), torch.nan)
        return Score.mean(dict(zip(seen.ids[self.role], each.tolist(), strict=True)), "knowledge")


@frozen
class ExposureRank:
    """Mean `exposure_rank` of secrets, in bits. Higher: the model knows more of them.

    Attributes:
        role: the secrets.
        candidates: other strings that could have stood there, the secret not among them, joined by `group`. Default:
            `role` followed by "_candidates".
        shared: whether all candidates serve every secret, whatever their group.
        per_token: whether texts are compared by their log-prob per token; of candidates of one length it is the same.
        known: as in `ExposureLogProb`.
        of: the model that is measured.
    """

    role: str = "forget"
    candidates: str = field()
    shared: bool = field(default=False, kw_only=True)
    per_token: bool = field(default=False, kw_only=True)
    known: KnownBefore | None = field(default=None, kw_only=True)
    of: str = field(default="model", kw_only=True)

    @candidates.default
    def _of_role(self) -> str:
        return f"{self.role}_candidates"

    @property
    def secret_tokens(self) -> Tokens:
        return Tokens(LabelLogProb(), self.role, of=self.of)

    @property
    def candidate_tokens(self) -> Tokens:
        return Tokens(LabelLogProb(), self.candidates, of=self.of)

    @property
    def needs(self) -> Needs:
        tokens: Needs = frozenset({self.secret_tokens, self.candidate_tokens})
        return tokens | (self.known.needs(self.role) if self.known else frozenset())

    def __call__(self, seen: Seen) -> Score:
        secrets = _text_log_probs(seen, self.secret_tokens, self.per_token)
        others = _text_log_probs(seen, self.candidate_tokens, self.per_token)
        each = exposure_rank(secrets, torch.where(self._eligible(seen), others, torch.nan))
        if self.known:
            each = each.masked_fill(self.known.unknown(seen, self.role), torch.nan)
        return Score.mean(dict(zip(seen.ids[self.role], each.tolist(), strict=True)), "knowledge")

    def _eligible(self, seen: Seen) -> Tensor:
        """[Q, R] bool: which row of the candidates serves which secret."""
        groups, theirs = seen.groups[self.role], seen.groups[self.candidates]
        if self.shared:
            return torch.ones(len(groups), len(theirs), dtype=torch.bool)
        if alone := [group for group in groups if group not in set(theirs)]:
            raise DataError(
                f"secret {alone[0]!r} of {self.role!r} has no candidate in {self.candidates!r}, and so have "
                f"{len(alone) - 1} others of {len(groups)}. Give a secret's candidates its `group`, or pass "
                "shared=True if all candidates serve every secret."
            )
        number = {group: place for place, group in enumerate(dict.fromkeys((*groups, *theirs)))}
        ours = torch.tensor([number[group] for group in groups])
        return ours[:, None] == torch.tensor([number[group] for group in theirs])


@frozen
class GeneralizedExposure:
    """Mean `generalized_exposure` over texts, in nats. Higher: the unlearned model gives itself away; 0 at best.

    Parts: `max`, the most exposed text.

    Attributes:
        role: the texts.
        per_token: whether a text's probability is the geometric mean over its tokens.
        models: names of the unlearned models: several runs with other seeds, if there are.
        oracles: names of models that were trained without the texts.
    """

    role: str = "forget"
    per_token: bool = field(default=False, kw_only=True)
    models: tuple[str, ...] = field(default=("model",), validator=min_len(1), kw_only=True)
    oracles: tuple[str, ...] = field(default=("oracle",), validator=min_len(1), kw_only=True)

    def tokens(self, of: str) -> Tokens:
        return Tokens(LabelLogProb(), self.role, of=of)

    @property
    def needs(self) -> Needs:
        return frozenset(self.tokens(of) for of in (*self.models, *self.oracles))

    def __call__(self, seen: Seen) -> Score:
        unlearned, retrained = (
            torch.stack([_text_log_probs(seen, self.tokens(of), self.per_token) for of in names])
            for names in (self.models, self.oracles)
        )
        each = generalized_exposure(unlearned, retrained)
        score = Score.mean(dict(zip(seen.ids[self.role], each.tolist(), strict=True)), "knowledge")
        return evolve(score, parts={"max": max(score.per_example.values())}) if score.per_example else score


@frozen
class RelativeExposure:
    """Mean `relative_exposure` over texts, in nats. Higher: the model knows more; 0: as likely as unseen texts.

    Attributes:
        role: the texts.
        unseen: texts of the same distribution that no model was trained on.
        trained_on: other roles that were trained on; `check` compares the unseen texts with them too.
        per_token: whether a text's probability is the geometric mean over its tokens.
        of: the model that is measured.
    """

    role: str = "forget"
    unseen: str = field(default="holdout", kw_only=True)
    trained_on: tuple[str, ...] = field(default=("retain",), kw_only=True)
    per_token: bool = field(default=False, kw_only=True)
    of: str = field(default="model", kw_only=True)

    @property
    def tokens(self) -> Tokens:
        return Tokens(LabelLogProb(), self.role, of=self.of)

    @property
    def unseen_tokens(self) -> Tokens:
        return Tokens(LabelLogProb(), self.unseen, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.tokens, self.unseen_tokens})

    def __call__(self, seen: Seen) -> Score:
        each = relative_exposure(
            _text_log_probs(seen, self.tokens, self.per_token),
            _text_log_probs(seen, self.unseen_tokens, self.per_token),
        )
        return Score.mean(dict(zip(seen.ids[self.role], each.tolist(), strict=True)), "knowledge")

    def check(self, contents: Mapping[str, Mapping[str, str]]) -> None:
        """Raises a DataError if an unseen text holds the same tokens as a row that was trained on."""
        refuse_trained_on(contents, self.unseen, (self.role, *self.trained_on))


Covariate = Literal["memorization", "difficulty"]
"""What examples are sorted by. Memorization: the oracle's loss less the original's, the logarithm of the ratio of their
probabilities per token. Difficulty: the oracle's loss. Both in nats per token."""


@frozen
class Stratified:
    """A mean over examples, and beside it the means in groups of about equal size: easy to hard, little to well known.

    Value and direction are those of `metric`. Parts: its own, and "difficulty_1_of_3" … for the mean of each group.

    Attributes:
        metric: what is measured; its score has to be a mean over the rows of `role`.
        by: what the rows are sorted by.
        strata: how many groups; fewer appear if many rows are alike.
        role: the data set.
        original, oracle: the models before unlearning and retrained without the data set; the first for memorization.
    """

    metric: Metric
    by: Covariate = field(default="difficulty", validator=in_(get_args(Covariate)), kw_only=True)
    strata: int = field(default=3, validator=ge(2), kw_only=True)
    role: str = field(default="forget", kw_only=True)
    original: str = field(default="original", kw_only=True)
    oracle: str = field(default="oracle", kw_only=True)

    def tokens(self, of: str) -> Tokens:
        return Tokens(LabelLogProb(), self.role, of=of)

    @property
    def needs(self) -> Needs:
        of = (self.oracle, self.original) if self.by == "memorization" else (self.oracle,)
        return self.metric.needs | {self.tokens(name) for name in of}

    def covariate(self, seen: Seen) -> dict[str, float]:
        """Each row's covariate, in nats per token; nan for a row without tokens."""
        losses = -_text_log_probs(seen, self.tokens(self.oracle), True)
        if self.by == "memorization":
            losses = losses + _text_log_probs(seen, self.tokens(self.original), True)
        return dict(zip(seen.ids[self.role], losses.tolist(), strict=True))

    def groups(self, score: Score, seen: Seen) -> tuple[Stratum, ...]:
        """The groups of an already measured score, with the range of their covariate."""
        covariate = self.covariate(seen)
        if strangers := score.per_example.keys() - covariate.keys():
            raise DataError(
                f"{self.metric} measured {sorted(strangers)[0]!r}, which is no row of {self.role!r}. "
                "Pass as `role` the data set that its score is a mean over."
            )
        return stratify(score.per_example, covariate, strata=self.strata)

    def __call__(self, seen: Seen) -> Score:
        score = self.metric(seen)
        groups = self.groups(score, seen)
        means = {f"{self.by}_{place}_of_{len(groups)}": group.mean for place, group in enumerate(groups, 1)}
        return evolve(score, parts={**score.parts, **means})
