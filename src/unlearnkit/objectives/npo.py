r"""NPO: push forget answers below a frozen reference, with a pull that fades once they are there.

    L = -(2/beta) * mean_b log sigmoid(-beta * r_b),    r_b = log pi(y_b|x_b) - log pi_ref(y_b|x_b)

Sequence sums over answer tokens and the end token, averaged over sequences. The gradient is gradient ascent's, each
sequence weighted by W_b = 2 pi^beta / (pi^beta + pi_ref^beta): 1 at the reference, 0 once forgotten.

Paper: Zhang, Lin, Bai, Mei. Negative Preference Optimization: From Catastrophic Collapse to Effective Unlearning.
COLM 2024, arXiv:2404.05868.

Checked: licong-lin/negative-preference-optimization@1207bbe, locuslab/open-unlearning@d3d7cf9,
OPTML-Group/Unlearn-Simple@f1a355d, sail-sg/closer-look-LLM-unlearning@b622294, tmlr-group/G-effect@ef368ee,
molereddy/Alternate-Preference-Optimization@c9b78bd, UCSB-NLP-Chang/ULD@858608c and
princeton-pli/impossibility-unlearning@de1cc83, losses and gradients to 1e-9.

Deviations:
1. MUSE's code of the same name compares raw logits of the whole vocabulary, without labels or softmax (it changes when a
   constant is added to all logits). `released("muse")` is that other loss, from raw_logits.py. On question answering
   there are no deviations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

import torch
from attrs import field, frozen
from attrs.validators import gt
from torch import Tensor

from unlearnkit.protocols import Additive, Loss, Needs, Seen, Term, Tokens, Unit
from unlearnkit.statistics import LabelLogProb

if TYPE_CHECKING:
    from unlearnkit.objectives.raw_logits import RawLogitNPO


def npo_loss(log_probs: Tensor, reference_log_probs: Tensor, *, beta: float) -> Tensor:
    """Per-sequence NPO loss, unreduced: [B], [B] -> [B].

    Args:
        log_probs: [B] summed (not averaged) answer log-probs under the model, in nats.
        reference_log_probs: [B] the same under the reference; a constant.
        beta: inverse temperature, > 0; as beta -> 0 the gradient becomes that of ascent on the sequence sum.
    """
    log_ratio = log_probs - reference_log_probs.detach()
    # logsigmoid, not softplus: torch's softplus turns linear above 20, an error of 2e-9.
    return -(2.0 / beta) * torch.nn.functional.logsigmoid(-beta * log_ratio)


@frozen(kw_only=True)
class NPO(Additive):
    """`npo_loss` averaged over the forget sequences of the global step.

    Alone it is the paper's NPO; `NPO() + CrossEntropy("retain")` is NPO+RT, `NPO() + RetainKL()` NPO+KL.

    Attributes:
        beta: inverse temperature, > 0.
        role: whose answers are pushed down.
        name: what the term is logged as.
    """

    beta: float = field(default=0.1, validator=gt(0.0))
    role: str = "forget"
    name: str = "npo"

    @overload
    @classmethod
    def released(cls, code: Literal["npo", "open-unlearning", "g-effect"]) -> NPO: ...
    @overload
    @classmethod
    def released(cls, code: Literal["muse"]) -> RawLogitNPO: ...
    @classmethod
    def released(cls, code: Literal["npo", "open-unlearning", "g-effect", "muse"]) -> NPO | RawLogitNPO:
        """The defaults of an official code base. What MUSE's calls NPO is another loss."""
        if code == "muse":
            from unlearnkit.objectives.raw_logits import RawLogitNPO

            return RawLogitNPO(beta=0.1)
        return cls(beta={"npo": 0.1, "open-unlearning": 0.1, "g-effect": 0.5}[code])

    @property
    def model(self) -> Tokens:
        return Tokens(LabelLogProb(), self.role)

    @property
    def reference(self) -> Tokens:
        return Tokens(LabelLogProb(), self.role, of="reference")

    @property
    def needs(self) -> Needs:
        return frozenset({self.model, self.reference})

    def __call__(self, seen: Seen) -> Loss:
        log_probs = seen[self.model]
        each = npo_loss(log_probs.sums(), seen[self.reference].sums(), beta=self.beta)
        return Loss(Term(self.name, each[log_probs.counts() > 0].sum(), per=Unit("sequence", self.role)))
