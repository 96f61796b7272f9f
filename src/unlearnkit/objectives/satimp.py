r"""SatImp: ascend most on tokens that are neither forgotten yet (saturation) nor known for certain (importance).

    L = (1/M) * sum_t w_t * log p_t,    w_t = p_t^beta1 * (1 - p_t)^beta2, a constant of the step

p_t is the probability of answer token t, M the number of answer tokens. p^beta1 spares what is forgotten already,
(1 - p)^beta2 spares what any fluent model is sure of; the weight is largest at p = beta1 / (beta1 + beta2). SimSat has
the first factor only and is WGA, SimImp the second only; with both powers 0 it is gradient ascent.

How finely weights are told apart is the paper's other question:

    token       a weight for each token, as above
    group       inside each answer, tokens are sorted by weight and cut into groups of `group_size`, heaviest first;
                each token gets the mean weight of its group
    instance    L = mean_b w_b S_b: S_b is the log-probability of answer b, w_b the weight of exp(S_b)
    batch       L = mean_b w_b * mean_b S_b: the answers of a step share a weight. Not a sum over answers.

Paper: Yang, Wang, Huang, Liu, Zhang, Han. Exploring Criteria of Loss Reweighting to Enhance LLM Unlearning. ICML 2025,
arXiv:2505.11953.

Checked: tmlr-group/SatImp@51314c0 (SatImp, SimSat, SimImp, all granularities) and locuslab/open-unlearning@d3d7cf9,
losses and gradients to 1e-9.

Aliases:
    beta1: hyper_param (SatImp)
    beta2: beta_param (SatImp)
    group_size: hyper_param (SatImp's group losses)

Deviations:
1. The authors' README has beta2 = 0.1, OpenUnlearning 1 "as in the paper"; ours is 1.
2. The retain weight belongs to the caller: the code's coefficient (0.1) multiplies the *retain* term of SatImp, the
   *forget* term of SimSat, and nothing in the others. OpenUnlearning's file and its README swap the two weights.
3. The code's SimSat without a retain term ignores beta and always uses 1: `SatImp.simsat(1.0)`.
4. The code takes tokens whose loss is exactly 0 for padding when it groups. Such tokens are grouped here.
5. The code's batch weight is that of a micro-batch, here that of the whole step.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from attrs import field, frozen
from attrs.validators import ge, in_
from torch import Tensor

from unlearnkit.objectives.validators import finite
from unlearnkit.objectives.weighted_ascent import weighted_ascent
from unlearnkit.protocols import Additive, Loss, Needs, Seen, Term, Tokens, Unit
from unlearnkit.statistics import LabelLogProb

Granularity = Literal["token", "group", "instance", "batch"]
"""What has a weight of its own."""


def satimp_weights(log_probs: Tensor, *, beta1: float, beta2: float) -> Tensor:
    """p^beta1 * (1 - p)^beta2: [N] -> [N], in [0, 1], without gradient.

    Args:
        log_probs: [N] of answer tokens (or [B] of whole answers), in nats.
        beta1: power of saturation, >= 0. 0: what is forgotten weighs as much as the rest.
        beta2: power of importance, >= 0. 0: what is certain weighs as much as the rest.
    """
    known = log_probs.detach()
    # expm1 keeps the digits of 1 - p where p is nearly 1; clamped, for a log-prob may exceed 0 by a rounding error.
    return torch.exp(beta1 * known) * (-torch.expm1(known)).clamp(min=0.0) ** beta2


def group_means(weights: Tensor, row: Tensor, *, size: int) -> Tensor:
    """Each weight replaced by the mean of its group, the groups being cut from each row's sorted weights: [N] -> [N].

    Args:
        weights: [N], without gradient. Of equal ones the earlier comes first.
        row: [N] int64, >= 0, the answer each token belongs to.
        size: tokens of a group, heaviest first; the last of a row may be smaller.
    """
    heaviest = torch.argsort(weights, descending=True, stable=True)
    order = heaviest[torch.argsort(row[heaviest], stable=True)]
    counts = torch.bincount(row)
    start = counts.cumsum(0) - counts
    place = torch.ones_like(row).cumsum(0) - 1 - start[row[order]]
    group = (place % size == 0).cumsum(0) - 1
    sums = torch.zeros_like(weights).index_add(0, group, weights[order])
    sizes = torch.zeros_like(weights).index_add(0, group, torch.ones_like(weights))
    return torch.empty_like(weights).index_copy(0, order, (sums / sizes.clamp(min=1))[group])


@frozen(kw_only=True)
class SatImp(Additive):
    """`weighted_ascent` with `satimp_weights`; a mean over answer tokens, or over answers (`instance`, `batch`).

    Weights being constants, the gradient is not that of the logged value. The settings of OpenUnlearning's README
    are `SatImp() + 0.1 * CrossEntropy("retain")`, those of the authors' have `beta2=0.1`.

    Attributes:
        beta1: power of saturation, >= 0.
        beta2: power of importance, >= 0.
        granularity: what has a weight of its own. `batch` is no sum over rows and is evaluated on whole steps.
        group_size: tokens that share a weight, with `granularity="group"`.
        role: whose answers are unlearned.
        name: what the term is logged as.
    """

    beta1: float = field(default=5.0, validator=[ge(0.0), finite])
    beta2: float = field(default=1.0, validator=[ge(0.0), finite])
    granularity: Granularity = field(default="token", validator=in_(get_args(Granularity)))
    group_size: int = field(default=10, validator=ge(1))
    role: str = "forget"
    name: str = "satimp"

    @classmethod
    def simsat(cls, beta: float = 5.0) -> SatImp:
        """Saturation only."""
        return cls(beta1=beta, beta2=0.0, name="simsat")

    @classmethod
    def simimp(cls, beta: float = 5.0) -> SatImp:
        """Importance only."""
        return cls(beta1=0.0, beta2=beta, name="simimp")

    @classmethod
    def released(cls, code: Literal["satimp", "open-unlearning"]) -> SatImp:
        """The settings of an official code base; its retain weight (0.1) is left to the caller."""
        return cls(beta1=5.0, beta2={"satimp": 0.1, "open-unlearning": 1.0}[code])

    @property
    def tokens(self) -> Tokens:
        return Tokens(LabelLogProb(), self.role)

    @property
    def needs(self) -> Needs:
        return frozenset({self.tokens})

    def weights(self, log_probs: Tensor) -> Tensor:
        """`satimp_weights` of tokens or answers."""
        return satimp_weights(log_probs, beta1=self.beta1, beta2=self.beta2)

    def __call__(self, seen: Seen) -> Loss:
        flat = seen[self.tokens]
        if self.granularity in ("token", "group"):
            weights = self.weights(flat.values)
            if self.granularity == "group":
                weights = group_means(weights, flat.row, size=self.group_size)
            each = weighted_ascent(flat.values, weights)
            return Loss(Term(self.name, each.sum(), per=Unit("answer", self.role)))
        answers = flat.sums()[flat.counts() > 0]
        weights = self.weights(answers)
        if self.granularity == "instance":
            each = weighted_ascent(answers, weights)
            return Loss(Term(self.name, each.sum(), per=Unit("sequence", self.role)))
        several = max(1, len(answers))
        return Loss(Term(self.name, weighted_ascent(answers.sum() / several, weights.sum() / several)))
