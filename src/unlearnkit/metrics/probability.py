r"""Probability: how likely a model finds the whole answer, per token, under teacher forcing.

    P(y|x) = exp( (1/T) * sum_t log p(y_t | x, y_<t) )        geometric mean over answer tokens and the end token
    probability = mean over examples;  probability_mc = P(correct) / (P(correct) + sum_j P(wrong_j))

Both are in [0, 1]; higher: more is known. A model that takes all V tokens for equally likely has 1/V, whatever the
length; among k wrong options chance is 1/(k + 1). Needs log-probs of the answers, one pass.

Where it misleads: it is the probability of one phrasing. Common words and the shape of such answers are likely without
the fact, and the same fact in other words is not asked for: compare with the retrained oracle.

Paper: Maini, Feng, Schwarzschild, Lipton, Kolter. TOFU: A Task of Fictitious Unlearning for LLMs.
COLM 2024, arXiv:2401.06121.

Checked: locuslab/open-unlearning@d3d7cf9 (per example, 1e-9); recorded logs of locuslab/tofu@bdc209e.

Deviations: OpenUnlearning adds 1e-10 to the denominator of `probability_mc`; the older code and ours add nothing.
Ours is computed from log-probs, so that a question whose answers are all too unlikely for a float still gets its value
where the authors' code divides 0 by 0. An answer without supervised tokens is "not measured" where it yields nan.
"""

from __future__ import annotations

import torch
from attrs import field, frozen
from torch import Tensor

from unlearnkit.metrics.questions import question_nlls
from unlearnkit.protocols import Needs, Score, Seen, Tokens
from unlearnkit.statistics import LabelLogProb


def answer_probability(log_probs: Tensor, row: Tensor, *, rows: int) -> Tensor:
    """Geometric-mean token probability of each answer: flat [N], [N] -> [rows] float64, in [0, 1].

    Args:
        log_probs: [N] log-probs of answer tokens, in nats.
        row: [N] int64, the answer each token belongs to.
        rows: number of answers; one without tokens is nan ("not measured"), never 0 ("forgotten").
    """
    nats = torch.zeros(rows, dtype=torch.float64, device=log_probs.device).index_add(0, row, log_probs.double())
    return (nats / torch.bincount(row, minlength=rows)).exp()  # 0/0 = nan


def probability_mc(correct: Tensor, wrong: Tensor) -> Tensor:
    """Probability of the right option among all options, each length-normalised: [Q], [Q, W] -> [Q], in [0, 1].

    Chance is 1 / (1 + number of wrong options).

    Args:
        correct: [Q] mean negative log-probability of the right option, in nats per token; nan gives nan.
        wrong: [Q, W] the same of the wrong options. nan: no such option; a question without any is nan.
    """
    absent = wrong.isnan()
    log_wrong = torch.logsumexp(-wrong.masked_fill(absent, torch.inf), dim=1)
    return torch.sigmoid(-correct - log_wrong).masked_fill(absent.all(1), torch.nan)


@frozen
class Probability:
    """Mean answer probability over a data set. Higher: the model knows more of it.

    Attributes:
        role: the data set.
        of: the model that is measured.
    """

    role: str = "forget"
    of: str = field(default="model", kw_only=True)

    @property
    def tokens(self) -> Tokens:
        return Tokens(LabelLogProb(), self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.tokens})

    def __call__(self, seen: Seen) -> Score:
        flat = seen[self.tokens]
        each = answer_probability(flat.values, flat.row, rows=flat.rows)
        return Score.mean(dict(zip(seen.ids[self.role], each.tolist(), strict=True)), "knowledge")


@frozen
class ProbabilityMC:
    """Mean `probability_mc` over questions. Higher: the model knows more of them.

    Attributes:
        role: the right answers; of several to one question, the geometric mean counts.
        wrong_role: the wrong ones, joined by `group`. Default: `role` followed by "_perturbed".
        of: the model that is measured.
    """

    role: str = "real_authors"
    wrong_role: str = field()
    of: str = field(default="model", kw_only=True)

    @wrong_role.default
    def _perturbed(self) -> str:
        return f"{self.role}_perturbed"

    @property
    def correct(self) -> Tokens:
        return Tokens(LabelLogProb(), self.role, of=self.of)

    @property
    def wrong(self) -> Tokens:
        return Tokens(LabelLogProb(), self.wrong_role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.correct, self.wrong})

    def __call__(self, seen: Seen) -> Score:
        questions = question_nlls(seen, self.correct, self.wrong)
        each = probability_mc(questions.correct.nanmean(1), questions.wrong)
        return Score.mean(dict(zip(questions.ids, each.tolist(), strict=True)), "knowledge")
