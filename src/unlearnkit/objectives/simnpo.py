r"""SimNPO: NPO without a reference; an answer is pushed down until its mean log-prob per token is low.

    L = -(2/beta) * mean_b log sigmoid(beta * (A_b - margin)),    A_b = -(1/T_b) log pi(y_b|x_b)

A_b is the mean NLL of the T_b answer tokens, so that short and long answers are forgotten at the same pace. The
gradient is ascent's on A_b with weight W_b = 2 sigmoid(-beta (A_b - margin)); without margin,
W_b = 2 q^beta / (1 + q^beta) with q = exp(-A_b), at most 1.

Aliases:
    margin: gamma (paper and its code), delta (OpenUnlearning)

Paper: Fan, Liu, Lin, Jia, Zhang, Mei, Liu. Simplicity Prevails: Rethinking Negative Preference Optimization for LLM
Unlearning. NeurIPS 2025, arXiv:2410.07163.

Checked: OPTML-Group/Unlearn-Simple@f1a355d (TOFU and synthetic folders), locuslab/open-unlearning@d3d7cf9 and
princeton-pli/impossibility-unlearning@de1cc83 (sequence sums), losses and gradients to 1e-9.

Deviations:
1. The paper writes the margin outside beta, its code has it inside, where the effective margin is beta * margin; equal
   if the margin is 0 or beta is 1. The default follows the code; `margin_position="outside_beta"` is the paper.
2. The code's MUSE folder takes raw logits of the whole vocabulary for A_b (they change when a constant is added to all
   logits): `released("muse")` is that other loss, from raw_logits.py.
3. The code's WMDP folder takes the token mean of a whole micro-batch for A_b. Not offered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args, overload

import torch
from attrs import field, frozen
from attrs.validators import gt, in_
from torch import Tensor

from unlearnkit.objectives.cross_entropy import sequence_nll
from unlearnkit.objectives.validators import finite
from unlearnkit.protocols import Additive, Loss, Needs, Seen, Term, Tokens, Unit
from unlearnkit.statistics import LabelLogProb

if TYPE_CHECKING:
    from unlearnkit.objectives.raw_logits import RawLogitSimNPO

MarginPosition = Literal["inside_beta", "outside_beta"]
"""Whether beta multiplies the margin."""


def simnpo_loss(
    nll: Tensor,
    *,
    beta: float,
    margin: float = 0.0,
    margin_position: Literal["inside_beta", "outside_beta"] = "inside_beta",
) -> Tensor:
    """Per-sequence SimNPO loss, unreduced: [B] -> [B].

    Args:
        nll: [B] negative log-likelihood of each answer, averaged over its tokens, in nats per token.
        beta: inverse temperature, > 0.
        margin: how far the NLL has to rise before the pull fades, in nats per token.
        margin_position: "inside_beta": beta * (nll - margin); "outside_beta": beta * nll - margin.
    """
    reward = beta * (nll - margin) if margin_position == "inside_beta" else beta * nll - margin
    # logsigmoid, not softplus: torch's softplus turns linear above 20, an error of 2e-9.
    return -(2.0 / beta) * torch.nn.functional.logsigmoid(reward)


@frozen(kw_only=True)
class SimNPO(Additive):
    """`simnpo_loss` averaged over the forget sequences of the global step.

    The weights belong to the caller: the authors' objective on TOFU is `0.125 * SimNPO() + CrossEntropy("retain")` for
    forget10, with 0.1375 for forget05.

    Attributes:
        beta: inverse temperature, > 0.
        margin: how far the NLL has to rise before the pull fades.
        margin_position: whether beta multiplies the margin (the code) or not (the paper).
        length_normalise: mean NLL per token. False: the sum over the answer.
        role: whose answers are pushed down.
        name: what the term is logged as.
    """

    beta: float = field(default=4.5, validator=gt(0.0))
    margin: float = field(default=0.0, validator=finite)
    margin_position: MarginPosition = field(default="inside_beta", validator=in_(get_args(MarginPosition)))
    length_normalise: bool = True
    role: str = "forget"
    name: str = "simnpo"

    @overload
    @classmethod
    def released(
        cls, code: Literal["simnpo-forget05", "simnpo-forget10", "open-unlearning", "impossibility"]
    ) -> SimNPO: ...
    @overload
    @classmethod
    def released(cls, code: Literal["muse"]) -> RawLogitSimNPO: ...
    @classmethod
    def released(
        cls, code: Literal["simnpo-forget05", "simnpo-forget10", "open-unlearning", "impossibility", "muse"]
    ) -> SimNPO | RawLogitSimNPO:
        """The settings of an official code base; its forget weight (0.1375, 0.125, 0.125, 1, 1) is left to the caller.

        What the authors' code calls SimNPO on MUSE is another loss (here with the settings for News; Books has beta
        0.75).
        """
        if code == "muse":
            from unlearnkit.objectives.raw_logits import RawLogitSimNPO

            return RawLogitSimNPO(beta=0.7, margin=0.1)
        if code == "impossibility":
            return cls(beta=1.0, length_normalise=False)
        return cls(beta={"simnpo-forget05": 2.5, "simnpo-forget10": 4.5, "open-unlearning": 4.5}[code])

    @property
    def tokens(self) -> Tokens:
        return Tokens(LabelLogProb(), self.role)

    @property
    def needs(self) -> Needs:
        return frozenset({self.tokens})

    def __call__(self, seen: Seen) -> Loss:
        flat = seen[self.tokens]
        nll = sequence_nll(flat.values, flat.row, rows=flat.rows, length_normalise=self.length_normalise)
        each = simnpo_loss(nll, beta=self.beta, margin=self.margin, margin_position=self.margin_position)
        return Loss(Term(self.name, each[flat.counts() > 0].sum(), per=Unit("sequence", self.role)))
