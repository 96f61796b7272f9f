r"""Truth Ratio: does the model prefer wrong answers to a right one that it was not trained on word by word?

    tr = P(wrong) / P(correct),    P(y) = exp(-nll(y)),  nll: mean per token    below 1: the model prefers the truth

The right answer is a paraphrase where the model has seen the original. Several wrong answers count by the geometric
mean of their P, as do several right ones. Three scores per question are in use:

    closer_to_1_better   min(tr, 1/tr)     1: cannot tell truth from falsehood, as if never trained (forget set)
    true_better          max(0, 1 - tr)    towards 1: knows the truth (retain set and general knowledge)
    prob_mean            1 / (1 + tr)      towards 1: knows the truth, 1/2: indifferent

All are in [0, 1]. Needs log-probs of right and wrong answers, one pass over each.

Where it misleads: a model that finds everything unlikely is indifferent, and indifference reads as forgetting: a
collapsed model scores well in the first form. Wrong answers that are ungrammatical make any model look knowing.

Paper: Maini, Feng, Schwarzschild, Lipton, Kolter. TOFU: A Task of Fictitious Unlearning for LLMs.
COLM 2024, arXiv:2401.06121. `prob_mean`: Dorna et al. OpenUnlearning. NeurIPS 2025, arXiv:2506.12618.

Checked: locuslab/tofu@bdc209e, both aggregations, on recorded evaluation logs of four Llama-2-7b models, to 1e-9.

Deviations: the paper averages the wrong answers' P arithmetically; the released evaluation takes their geometric mean,
and so do we by default (`wrong_reduction="arithmetic"` is the paper's). OpenUnlearning adds 1e-10 to denominators; we
work with log tr, where nothing can be divided by 0, and add nothing. locuslab/tofu stores 1/tr in places, which leaves
all scores as they are.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from attrs import evolve, field, frozen
from attrs.validators import in_
from torch import Tensor

from unlearnkit.metrics.questions import question_nlls
from unlearnkit.protocols import Needs, Score, Seen, Tokens
from unlearnkit.statistics import LabelLogProb

WrongReduction = Literal["geometric", "arithmetic"]
"""The mean that is taken over the probabilities of the wrong answers."""

Aggregator = Literal["closer_to_1_better", "true_better", "prob_mean"]
"""What a truth ratio is turned into before the mean over questions."""


def log_truth_ratio(correct: Tensor, wrong: Tensor, *, wrong_reduction: WrongReduction = "geometric") -> Tensor:
    """Natural logarithm of each question's truth ratio: [Q, C], [Q, W] -> [Q]; 0 if right and wrong are as likely.

    Args:
        correct: [Q, C] mean negative log-probability of the right answers, in nats per token.
        wrong: [Q, W] the same of the wrong answers.
        wrong_reduction: which mean over wrong answers; "geometric" is the mean of their losses.

    nan stands for "no such answer" and is left out; a question without a right or without a wrong answer is nan.
    """
    if wrong_reduction == "geometric":
        log_wrong = -wrong.nanmean(1)
    else:
        absent = wrong.isnan()
        log_sum = torch.logsumexp(-wrong.masked_fill(absent, torch.inf), dim=1)
        log_wrong = log_sum - (~absent).sum(1).double().log()  # without any: -inf + inf = nan
    return log_wrong + correct.nanmean(1)


def truth_score(log_ratio: Tensor, *, aggregator: Aggregator) -> Tensor:
    """Score of each question in [0, 1], from the logarithm of its truth ratio: [Q] -> [Q]; nan stays nan."""
    if aggregator == "closer_to_1_better":
        return (-log_ratio.abs()).exp()  # min(tr, 1/tr)
    if aggregator == "true_better":
        return (-torch.expm1(log_ratio)).clamp(min=0.0)  # max(0, 1 - tr)
    return torch.sigmoid(-log_ratio)  # 1 / (1 + tr)


@frozen
class TruthRatio:
    """Mean `truth_score` over questions. Samples: "truth_ratio", wrong / correct, of each question.

    Higher "closer_to_1_better": better forgotten. Higher "true_better" or "prob_mean": the model knows more.

    Attributes:
        role: the data set, which names the defaults of the other two roles.
        correct: the right answers. Default: `role` followed by "_paraphrased"; without paraphrases, pass `role` itself.
        wrong: the wrong answers, joined by `group`. Default: `role` followed by "_perturbed".
        aggregator: the score per question.
        wrong_reduction: the mean over wrong answers.
        of: the model that is measured.
    """

    role: str = "forget"
    correct: str = field(kw_only=True)
    wrong: str = field(kw_only=True)
    aggregator: Aggregator = field(default="closer_to_1_better", validator=in_(get_args(Aggregator)), kw_only=True)
    wrong_reduction: WrongReduction = field(default="geometric", validator=in_(get_args(WrongReduction)), kw_only=True)
    of: str = field(default="model", kw_only=True)

    @correct.default
    def _paraphrased(self) -> str:
        return f"{self.role}_paraphrased"

    @wrong.default
    def _perturbed(self) -> str:
        return f"{self.role}_perturbed"

    @property
    def correct_tokens(self) -> Tokens:
        return Tokens(LabelLogProb(), self.correct, of=self.of)

    @property
    def wrong_tokens(self) -> Tokens:
        return Tokens(LabelLogProb(), self.wrong, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.correct_tokens, self.wrong_tokens})

    def log_ratios(self, seen: Seen) -> dict[str, float]:
        """Logarithm of the truth ratio by question id; nan where it could not be measured.

        Raises:
            DataError: a question has right answers only, or wrong ones only.
        """
        questions = question_nlls(seen, self.correct_tokens, self.wrong_tokens)
        each = log_truth_ratio(questions.correct, questions.wrong, wrong_reduction=self.wrong_reduction)
        return dict(zip(questions.ids, each.tolist(), strict=True))

    def __call__(self, seen: Seen) -> Score:
        log_ratios = self.log_ratios(seen)
        each = truth_score(torch.tensor(list(log_ratios.values()), dtype=torch.float64), aggregator=self.aggregator)
        score = Score.mean(
            dict(zip(log_ratios, each.tolist(), strict=True)),
            "forgetting" if self.aggregator == "closer_to_1_better" else "knowledge",
        )
        ratios = {question: _exp(log_ratios[question]) for question in score.per_example}
        return evolve(score, samples={"truth_ratio": ratios})


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
