r"""ERU: prefer refusals to the answers to be forgotten, by a margin that follows the reference, pair by pair.

    L = -mean_b log sigmoid(beta * (d_b - m_b)),      d_b = s(idk_b) - s(forget_b)
    m_b = sg[margin + elasticity * z_b],              z_b = (g_b - mu) / sigma,    g_b = d_b - d_ref,b

s is a log-prob, summed over the answer (or averaged over its tokens), d_ref the same under the reference. mu and sigma
are running averages of the mean and standard deviation of g over the pairs of a step, updated before they are used:
mu <- decay * mu + (1 - decay) * mean_b g_b. A pair that is already further from the reference than others gets a larger
margin. No gradient flows through the margin; the gradient with respect to d_b is -beta * sigmoid(-beta (d_b - m_b)).

elasticity=0 is SimPO, the margin inside beta; with mean log-probs and without a margin, DPO without a reference. `DPO`
with scale="dpo" is what the code calls "sigmoid"; its "ipo" is the square of g_b - 1 / (2 beta).

The loss depends on the statistics of the whole step: it is no sum over pairs, and is evaluated on whole steps. mu and
sigma are fields, which the objective of the next step inherits.

Paper: Sui et al. Elastic Robust Unlearning. NeurIPS 2025.

Aliases:
    elasticity: alpha (code)
    margin: gamma (code)

Reconstructed: only the reward is here, as the authors' code has it; that it is the reward of the paper is our reading.
The paper's ablation of refusal features while training is an adversary, not a loss, and its code was not released.

Checked: wuxingywa/ERU@fad5dac (the reward; its log-probs given), four steps in turn and its SimPO, sigmoid and IPO
losses, losses and gradients to 1e-9.

Deviations:
1. In the code mu and sigma start at 0 and are averaged from there, which makes the first z large. Here averages are
   over the steps there were, as Adam's are after its correction; `cold_start=True` is the code.
2. At the reference all g_b are 0, and z is 0/0 in the code. Here z is 0 while sigma is below 1e-6. A step of one pair,
   whose standard deviation is not defined, leaves sigma as it is.
3. The code takes mean and deviation of one micro-batch of all ranks, here they are those of the step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from attrs import evolve, field, frozen
from attrs.validators import ge, gt, lt
from torch import Tensor

from unlearnkit.objectives.dpo import pairs
from unlearnkit.objectives.validators import finite
from unlearnkit.protocols import Additive, Flat, Loss, Needs, Seen, Term, Tokens
from unlearnkit.statistics import LabelLogProb


def elastic_loss(difference: Tensor, margin: Tensor, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """Per-pair preference loss with a margin of its own for each pair, unreduced: [B], [B] -> [B].

    Args:
        difference: [B] log-prob of the refusal minus that of the answer to be forgotten, in nats.
        margin: [B] how large the difference should be, in nats; a constant. That of the reference makes this DPO.
        beta: inverse temperature, > 0.
        label_smoothing: share of the loss that is that of the opposite preference, in [0, 1/2).
    """
    reward = beta * (difference - margin.detach())
    preferred = -torch.nn.functional.logsigmoid(reward)
    return (1 - label_smoothing) * preferred - label_smoothing * torch.nn.functional.logsigmoid(-reward)


def elastic_margin(gap: Tensor, mean: Tensor, deviation: Tensor, *, margin: float, elasticity: float) -> Tensor:
    """The margin of each pair, a constant: [B], two numbers -> [B], in nats.

    Args:
        gap: [B] log-prob differences under the model minus those under the reference, in nats.
        mean: 0-d, typical gap.
        deviation: 0-d, by how much gaps differ; below 1e-6 they count as equal.
        margin: of a pair with the typical gap.
        elasticity: what one standard deviation adds to it.
    """
    z = torch.where(deviation > 1e-6, (gap - mean) / deviation.clamp(min=1e-6), torch.zeros_like(gap))
    return (margin + elasticity * z).detach()


@frozen(kw_only=True)
class ElasticReward(Additive):
    """`elastic_loss` averaged over the pairs of the global step; its margins by `elastic_margin`.

    Each answer to be forgotten needs exactly one refusal in its group; an answer without supervised tokens is neither
    paired nor counted. Terms: "eru", and with weight 0 "eru_gap_mean" and "eru_gap_deviation".

    Attributes:
        beta: inverse temperature, > 0.
        margin: of a pair with the typical gap, in nats.
        elasticity: what one standard deviation of the gap adds to the margin; 0: the reference does not matter.
        decay: how much of mu and sigma is kept at each step.
        cold_start: average from 0 on, as released, without correcting for it.
        length_normalise: mean log-probs per token instead of sums over the answer.
        label_smoothing: share of the loss that is that of the opposite preference.
        gap_mean, gap_deviation: mu and sigma after the steps so far.
        steps: how many those were.
        win: the role of the refusals.
        lose: the role of the answers to be forgotten.
        name: what the term is logged as.
    """

    beta: float = field(default=0.5, validator=gt(0.0))
    margin: float = field(default=0.3, validator=finite)
    elasticity: float = field(default=0.1, validator=finite)
    decay: float = field(default=0.9, validator=[ge(0.0), lt(1.0)])
    cold_start: bool = False
    length_normalise: bool = False
    label_smoothing: float = field(default=0.0, validator=[ge(0.0), lt(0.5)])
    gap_mean: float = field(default=0.0, validator=finite)
    gap_deviation: float = field(default=0.0, validator=[ge(0.0), finite])
    steps: int = field(default=0, validator=ge(0))
    win: str = "idk"
    lose: str = "forget"
    name: str = "eru"

    @classmethod
    def released(cls, code: Literal["eru"]) -> ElasticReward:
        """How the authors' code begins; it leaves the numbers to the command line."""
        return {"eru": cls(cold_start=True)}[code]

    def log_probs(self, role: str, of: str) -> Tokens:
        return Tokens(LabelLogProb(), role, of=of)

    @property
    def needs(self) -> Needs:
        return frozenset(self.log_probs(role, of) for role in (self.win, self.lose) for of in ("model", "reference"))

    def __call__(self, seen: Seen) -> Loss:
        difference, reference_difference = self.differences(seen, "model"), self.differences(seen, "reference")
        gap = (difference - reference_difference).detach()
        pairs = len(gap)
        mean = self.followed(self.gap_mean, gap.mean() if pairs else gap.new_zeros(()), known=pairs > 0)
        deviation = self.followed(self.gap_deviation, gap.std() if pairs > 1 else gap.new_zeros(()), known=pairs > 1)
        margin = elastic_margin(gap, mean, deviation, margin=self.margin, elasticity=self.elasticity)
        each = elastic_loss(difference, margin, beta=self.beta, label_smoothing=self.label_smoothing)
        return Loss(
            Term(self.name, each.sum() / max(1, pairs)),
            Term(f"{self.name}_gap_mean", mean, weight=0.0),
            Term(f"{self.name}_gap_deviation", deviation, weight=0.0),
        )

    def differences(self, seen: Seen, of: str) -> Tensor:
        """Log-prob of the refusal minus that of the answer to be forgotten, for each pair: [pairs]."""
        win, lose = seen[self.log_probs(self.win, of)], seen[self.log_probs(self.lose, of)]
        wins, loses = pairs(win, seen.groups[self.win], lose, seen.groups[self.lose])
        return self.scores(win)[wins] - self.scores(lose)[loses]

    def scores(self, flat: Flat) -> Tensor:
        """Log-prob of each answer, a sum or a mean over its tokens: [rows]."""
        return flat.means() if self.length_normalise else flat.sums()

    def followed(self, before: float, now: Tensor, *, known: bool) -> Tensor:
        """A running average after this step, 0-d."""
        if not known:
            return torch.full_like(now, before)
        if self.cold_start:
            return self.decay * before + (1 - self.decay) * now
        if self.steps == 0 or before == 0:
            return now
        so_far, then = 1 - self.decay**self.steps, 1 - self.decay ** (self.steps + 1)
        return (self.decay * so_far * before + (1 - self.decay) * now) / then

    def after_step(self, means: Mapping[str, float]) -> ElasticReward:
        """Keep mu and sigma."""
        return evolve(
            self,
            gap_mean=means[f"{self.name}_gap_mean"],
            gap_deviation=means[f"{self.name}_gap_deviation"],
            steps=self.steps + 1,
        )
