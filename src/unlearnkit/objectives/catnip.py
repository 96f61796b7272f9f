r"""CATNIP: NPO token by token, with the model's own doubt for a reference; the surer of a token, the harder the push.

    L = mean_b (1/T_b) sum_t -(2/beta) log sigmoid(-beta * r_t),    r_t = log p_t - log(1 - p_t)

p_t is the probability of answer token t. The reference 1 - p_t is a constant (default): the gradient is that of ascent
with each token weighted by w_t = 2 p^beta / (p^beta + (1 - p)^beta): 1 at p = 1/2, rising with p, and 2 p_t if beta
is 1. For beta -> 0 all weights are 1 (ascent on the sequence mean). A forgotten token has no gradient left. The mean
within each answer makes long and short ones weigh the same, and no second model is run.

r_t is taken from the logits, as z_y - logsumexp of the others: p_t itself rounds to 1.

Paper: Yang, Zhong, Hong, Zhu. CATNIP: LLM Unlearning via Calibrated and Tokenized Negative Preference Alignment. 2026,
arXiv:2602.02824.

Reconstructed: that the reference is 1 - p, that tokens are weighted in proportion to confidence and averaged, and the
ablation with a static reference are the paper's. No code is public, and these are our reading: the factor 2/beta, kept
from NPO; the mean over tokens within an answer, then over answers; a reference without gradient. The last makes weights
proportional to confidence at beta 1; `ref_grad=True` differentiates it as well, which divides each token's gradient in
log p by 1 - p. The paper's beta is not known to us.

Checked: laws and closed forms only.

Deviations: none that are known, see above.
"""

from __future__ import annotations

from typing import Literal

import torch
from attrs import Attribute, evolve, field, frozen
from attrs.validators import gt, in_
from torch import Tensor

from unlearnkit.objectives.npo import npo_loss
from unlearnkit.objectives.validators import finite
from unlearnkit.protocols import Additive, Loss, Needs, Seen, Term, Tokens, Unit
from unlearnkit.statistics import LabelLogProb, LabelMargin


def catnip_loss(log_odds: Tensor, *, beta: float, ref_grad: bool = False) -> Tensor:
    """Per-token CATNIP loss, unreduced: [N] -> [N], >= 0.

    Args:
        log_odds: [N] log p - log(1 - p) of each answer token, in nats.
        beta: inverse temperature, > 0.
        ref_grad: whether the gradient flows through 1 - p too; the value is the same.
    """
    doubt = torch.nn.functional.logsigmoid(-log_odds)
    log_ratio = log_odds if ref_grad else torch.nn.functional.logsigmoid(log_odds) - doubt.detach()
    return -(2.0 / beta) * torch.nn.functional.logsigmoid(-beta * log_ratio)


@frozen(kw_only=True)
class CATNIP(Additive):
    """`catnip_loss` averaged over the tokens of each forget answer, then over the answers of the global step.

    Attributes:
        beta: inverse temperature, > 0.
        reference: "reverse" the model's own 1 - p; "static" a frozen model's p: NPO token by token, the ablation.
        ref_grad: whether the gradient flows through 1 - p too; of "reverse" only.
        role: whose answers are pushed down.
        name: what the term is logged as.
    """

    beta: float = field(default=1.0, validator=[gt(0.0), finite])
    reference: Literal["reverse", "static"] = field(default="reverse", validator=in_(("reverse", "static")))
    ref_grad: bool = field(default=False)
    role: str = "forget"
    name: str = "catnip"

    @ref_grad.validator
    def _a_static_reference_has_no_gradient(self, _: Attribute[bool], ref_grad: bool) -> None:
        if ref_grad and self.reference == "static":
            raise ValueError("'ref_grad' belongs to reference='reverse': a static reference is a constant.")

    @property
    def log_odds(self) -> Tokens:
        return Tokens(LabelMargin(), self.role)

    def log_probs(self, of: str) -> Tokens:
        return Tokens(LabelLogProb(), self.role, of=of)

    @property
    def needs(self) -> Needs:
        if self.reference == "static":
            return frozenset({self.log_probs("model"), self.log_probs("reference")})
        return frozenset({self.log_odds})

    def __call__(self, seen: Seen) -> Loss:
        if self.reference == "static":
            flat = seen[self.log_probs("model")]
            each = npo_loss(flat.values, seen[self.log_probs("reference")].values, beta=self.beta)
        else:
            flat = seen[self.log_odds]
            each = catnip_loss(flat.values, beta=self.beta, ref_grad=self.ref_grad)
        means = evolve(flat, values=each).means()
        return Loss(Term(self.name, means.sum(), per=Unit("sequence", self.role)))
