r"""DPO for forgetting (IdkDPO, PO, AltPO): prefer a refusal, or another answer, to the one to be forgotten.

    L = -(2/beta) * mean_b log sigmoid(beta * d_b),    d_b = r(win_b) - r(lose_b),
    r(y) = log pi(y|x) - log pi_ref(y|x)               sequence sums over answer tokens and the end token

The factor 2/beta puts it on the scale of NPO, which is this loss without the winner; plain DPO has factor 1. The
gradient pulls win and lose apart with weight 2 sigmoid(-beta d_b): 1 at the reference, 0 once the preference is clear.

Papers: Rafailov et al. Direct Preference Optimization. NeurIPS 2023, arXiv:2305.18290. With refusals as winners:
Maini et al. TOFU. COLM 2024, arXiv:2401.06121; Zhang, Lin, Bai, Mei (NPO). COLM 2024, arXiv:2404.05868. With other
plausible answers: Mekala, Dorna et al. Alternate Preference Optimization. COLING 2025, arXiv:2409.13474.

Checked: licong-lin/negative-preference-optimization@1207bbe, locuslab/open-unlearning@d3d7cf9,
molereddy/Alternate-Preference-Optimization@c9b78bd, sail-sg/closer-look-LLM-unlearning@b622294 and
UCSB-NLP-Chang/ULD@858608c, losses and gradients to 1e-9.

Deviations: official code pairs wins and loses by their place in two batches; here a pair is two rows of one group, in
any order. TOFU's own DPO branch (factor 1) cannot run as released; `released("tofu")` is what it means to compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from attrs import field, frozen
from attrs.validators import gt, in_
from torch import Tensor

from unlearnkit.errors import DataError
from unlearnkit.protocols import Additive, Flat, Loss, Needs, Seen, Term, Tokens, Unit
from unlearnkit.statistics import LabelLogProb


def dpo_loss(
    win_log_probs: Tensor,
    lose_log_probs: Tensor,
    reference_win_log_probs: Tensor,
    reference_lose_log_probs: Tensor,
    *,
    beta: float,
    scale: Literal["npo", "dpo"] = "npo",
) -> Tensor:
    """Per-pair DPO loss, unreduced: four times [B] -> [B].

    Args:
        win_log_probs: [B] summed (not averaged) log-probs of the preferred answers under the model, in nats.
        lose_log_probs: [B] the same of the answers to be forgotten, pair by pair.
        reference_win_log_probs: [B] of the preferred answers under the reference; a constant.
        reference_lose_log_probs: [B] of the answers to be forgotten under the reference; a constant.
        beta: inverse temperature, > 0.
        scale: "npo" multiplies by 2 / beta, "dpo" by 1.
    """
    win_log_ratio = win_log_probs - reference_win_log_probs.detach()
    lose_log_ratio = lose_log_probs - reference_lose_log_probs.detach()
    factor = 2.0 / beta if scale == "npo" else 1.0
    return -factor * torch.nn.functional.logsigmoid(beta * (win_log_ratio - lose_log_ratio))


def win_of_each(lose_groups: Sequence[str], win_groups: Sequence[str]) -> list[int]:
    """For each lose row, the place of the one win row of its group.

    Raises:
        DataError: a lose row has no win row in its group, or several.
    """
    wins: dict[str, list[int]] = {}
    for place, group in enumerate(win_groups):
        wins.setdefault(group, []).append(place)
    for group in lose_groups:
        if (found := len(wins.get(group, []))) != 1:
            raise DataError(
                f"the answer to be forgotten in group {group!r} is paired with {found} preferred answers instead of 1. "
                "Give the two rows of a pair the same `group`, and each pair its own."
            )
    return [wins[group][0] for group in lose_groups]


@frozen(kw_only=True)
class DPO(Additive):
    """`dpo_loss` averaged over the answers to be forgotten of the global step.

    Each needs exactly one preferred answer in its group. A preferred answer without a partner is not used; an answer
    without supervised tokens is neither paired nor counted.

    Attributes:
        beta: inverse temperature, > 0.
        win: the role of the preferred answers: refusals, or alternates.
        lose: the role of the answers to be forgotten.
        scale: "npo" multiplies by 2 / beta, "dpo" by 1.
        name: what the term is logged as.
    """

    beta: float = field(default=0.1, validator=gt(0.0))
    win: str = "idk"
    lose: str = "forget"
    scale: Literal["npo", "dpo"] = field(default="npo", validator=in_(("npo", "dpo")))
    name: str = "dpo"

    @classmethod
    def released(cls, code: Literal["npo", "open-unlearning", "closer-look", "altpo", "tofu"]) -> DPO:
        """The defaults of an official code base; AltPO's preferred answers have the role "alternate"."""
        return cls(win="alternate" if code == "altpo" else "idk", scale="dpo" if code == "tofu" else "npo")

    def log_probs(self, role: str, of: str) -> Tokens:
        return Tokens(LabelLogProb(), role, of=of)

    @property
    def needs(self) -> Needs:
        return frozenset(self.log_probs(role, of) for role in (self.win, self.lose) for of in ("model", "reference"))

    def __call__(self, seen: Seen) -> Loss:
        model_win, model_lose = (seen[self.log_probs(role, "model")] for role in (self.win, self.lose))
        reference_win, reference_lose = (seen[self.log_probs(role, "reference")] for role in (self.win, self.lose))
        paired, loses = pairs(model_win, seen.groups[self.win], model_lose, seen.groups[self.lose])
        each = dpo_loss(
            model_win.sums()[paired],
            model_lose.sums()[loses],
            reference_win.sums()[paired],
            reference_lose.sums()[loses],
            beta=self.beta,
            scale=self.scale,
        )
        return Loss(Term(self.name, each.sum(), per=Unit("sequence", self.lose)))


def pairs(win: Flat, win_groups: Sequence[str], lose: Flat, lose_groups: Sequence[str]) -> tuple[list[int], list[int]]:
    """The rows of two roles that make pairs, in order: those of the winners, those of the losers.

    A loser and its winner are of one group; rows without supervised tokens are neither.
    """
    wins, loses = (flat.counts().nonzero()[:, 0].tolist() for flat in (win, lose))
    partner = win_of_each([lose_groups[b] for b in loses], [win_groups[b] for b in wins])
    return [wins[place] for place in partner], loses
