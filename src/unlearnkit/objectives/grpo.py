r"""GRPO: reinforce completions that were rewarded more than the others drawn for the same prompt, and weaken the rest.

    L = mean_t [ -min(r_t A_b, clamp(r_t, 1 - clip, 1 + clip) A_b) + kl_weight * k_t ],    r_t = exp(log p_t - log p_old,t)
    A_b = (R_b - mean of its group) / (std of its group + 1e-4)
    k_t = exp(d_t) - d_t - 1,    d_t = log p_ref,t - log p_t

over all tokens t of all completions b of the step, end token included. "old" is the model that drew the completions. In
the first step after drawing r_t = 1 and the gradient is -A_b times that of log p_t: REINFORCE with the group's mean as
baseline. In later steps on the same completions, a token that has moved by more than `clip` the way its advantage wants
has no gradient. k_t estimates KL(model || reference) from the drawn token alone (called k3): never negative, and
unbiased where the tokens were drawn from the model itself. Where all rewards of a group are equal nothing is pushed.

    models = {"old": record(model, needs, data, of="old"), "advantages": given("advantage", {row id: A}, rows)}

`unlearnkit.procedures.purge` makes all of this, step by step.

Aliases:
    clip: epsilon (paper and trl)
    kl_weight: beta (paper and trl)

Papers: Shao et al. DeepSeekMath. 2024, arXiv:2402.03300. For unlearning: Zaradoukas, Prenkaj, Kasneci. PURGE
(reinforcement with rewards that need no model). ICLR 2026, arXiv:2601.20568.

Checked: laws and closed forms. strzar/purge@24d1a3f trains with GRPOTrainer of trl 0.18.1, which was read: its loss
"bnpo", its advantages (standard deviation with n - 1) and its k_t are those above.

Deviations:
1. The paper of GRPO averages over the tokens of each completion first, then over completions. trl's default, which
   PURGE uses, and ours is the mean over all tokens; trl takes it over a micro-batch, here it is over the global step.
2. kl_weight is 0 here. trl 0.18.1 has 0.04 unless told otherwise, and PURGE does not tell it: `released("purge")`.
3. trl divides logits by the temperature of drawing before it takes log-probs; here they are the model's own.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from attrs import field, frozen
from attrs.validators import ge, gt, lt
from torch import Tensor

from unlearnkit.objectives.validators import finite
from unlearnkit.protocols import Additive, Loss, Needs, Seen, Term, Tokens, Unit
from unlearnkit.statistics import Given, LabelLogProb


def group_advantages(rewards: Tensor, groups: Tensor, *, epsilon: float = 1e-4) -> Tensor:
    """How much better than its group each reward is, in standard deviations: [B], [B] -> [B].

    Args:
        rewards: [B].
        groups: [B] int64, from 0: the group each belongs to. A group of one, or of equal rewards, has advantages of 0.
        epsilon: added to the standard deviation, that of a sample (n - 1).
    """
    size = int(groups.max()) + 1 if len(groups) else 0
    zeros = rewards.new_zeros(size)
    counts = torch.bincount(groups, minlength=size).clamp(min=1)
    lowest = zeros.scatter_reduce(0, groups, rewards, "amin", include_self=False)
    above = rewards - lowest[groups]  # of equal rewards exactly 0, which those minus their mean need not be
    centred = above - (zeros.index_add(0, groups, above) / counts)[groups]
    deviation = (zeros.index_add(0, groups, centred.square()) / (counts - 1).clamp(min=1)).sqrt()
    return centred / (deviation[groups] + epsilon)


def clipped_surrogate(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, *, clip: float) -> Tensor:
    """-min(r A, clamp(r, 1 - clip, 1 + clip) A) of each token, unreduced: three times [N] -> [N].

    Args:
        log_probs: [N] of drawn tokens under the model, in nats.
        old_log_probs: [N] the same under the model that drew them; constants.
        advantages: [N] of the completion each token belongs to; constants.
        clip: how far the ratio r may move before it counts no more, in (0, 1).
    """
    advantages = advantages.detach().to(log_probs.dtype)
    log_ratio = log_probs - old_log_probs.detach()
    above = (advantages > 0) & (log_ratio > math.log1p(clip))
    below = (advantages < 0) & (log_ratio < math.log1p(-clip))
    constant = above | below | (advantages == 0)
    bound = 1.0 + clip * advantages.sign()
    ratio = torch.where(constant, bound, torch.where(constant, 0.0, log_ratio).exp())  # no inf * 0 in the gradient
    return -ratio * advantages


def sampled_kl(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """exp(d) - d - 1 of each drawn token, d = reference - model, unreduced: [N], [N] -> [N], in nats, >= 0.

    Args:
        log_probs: [N] of drawn tokens under the model, in nats.
        reference_log_probs: [N] the same under the reference; constants.
    """
    log_ratio = reference_log_probs.detach() - log_probs
    return torch.expm1(log_ratio) - log_ratio


@frozen(kw_only=True)
class GRPO(Additive):
    """`clipped_surrogate` averaged over the tokens of completions, and `sampled_kl` to the reference if it has a weight.

    Attributes:
        clip: how far a token's probability may move before it has no gradient, as a share of its old one, in (0, 1).
        kl_weight: of the KL to "reference"; with 0 none is asked for.
        role: of the completions.
        name: what the term is logged as; that of the KL has "_kl" added.
    """

    clip: float = field(default=0.2, validator=[gt(0.0), lt(1.0)])
    kl_weight: float = field(default=0.0, validator=[ge(0.0), finite])
    role: str = "completion"
    name: str = "grpo"

    @classmethod
    def released(cls, code: Literal["purge"]) -> GRPO:
        """What an official code base runs: PURGE takes the defaults of trl 0.18.1."""
        return {"purge": cls(kl_weight=0.04)}[code]

    def log_probs(self, of: str) -> Tokens:
        return Tokens(LabelLogProb(), self.role, of=of)

    @property
    def advantages(self) -> Tokens:
        return Tokens(Given("advantage"), self.role, of="advantages")

    @property
    def needs(self) -> Needs:
        models = ("model", "old", "reference") if self.kl_weight else ("model", "old")
        return frozenset({self.advantages, *map(self.log_probs, models)})

    def __call__(self, seen: Seen) -> Loss:
        log_probs = seen[self.log_probs("model")].values
        old, advantages = seen[self.log_probs("old")].values, seen[self.advantages].values
        unit = Unit("answer", self.role)
        surrogate = Term(self.name, clipped_surrogate(log_probs, old, advantages, clip=self.clip).sum(), per=unit)
        if not self.kl_weight:
            return Loss(surrogate)
        kl = sampled_kl(log_probs, seen[self.log_probs("reference")].values)
        return Loss(surrogate, Term(f"{self.name}_kl", kl.sum(), per=unit, weight=self.kl_weight))
