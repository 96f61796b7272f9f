r"""AltPO: replace an answer by other plausible ones that the model wrote itself; with five related losses.

    dpo          DPO(alternate over forget)                           the paper's
    sub          NLL(alternate)
    subdiff      NLL(alternate) - forget_weight * NLL(forget)
    subnpo       NLL(alternate) + NPO(forget)
    subppo       L_up(alternate)
    subppo_npo   L_up(alternate) + NPO(forget)

    L_up = -(2/beta) * mean_b log sigmoid(beta * r_b),    r_b = log pi(y_b|x_b) - log pi_ref(y_b|x_b)

NLLs are token means, DPO, NPO and L_up are made of sequence sums. L_up is NPO with the sign of the log-ratio turned: it
raises an alternate with weight 2 sigmoid(-beta r_b), 1 at the reference and 0 once it is likely enough. subppo_npo has
two sigmoids where DPO couples both answers in one; as beta -> 0 their gradients agree.

A pair is two rows of one group, "forget" and "alternate": `unlearnkit.data.alternates` makes them, five per question.
To copy: all but `up_loss` is in dpo.py, npo.py, gradient_ascent.py and cross_entropy.py.

Aliases:
    forget_weight: alpha (code)

Paper: Mekala, Dorna et al. Alternate Preference Optimization for Unlearning Factual Knowledge in Large Language Models.
COLING 2025, arXiv:2409.13474.

Checked: molereddy/Alternate-Preference-Optimization@c9b78bd, losses and gradients to 1e-9.

Deviations: none. The authors add cross-entropy or the KL on retain data to each; so does the caller:
`AltPO() + CrossEntropy("retain")`.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from attrs import field, frozen
from attrs.validators import gt, in_
from torch import Tensor

from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.objectives.dpo import DPO
from unlearnkit.objectives.gradient_ascent import GradientAscent
from unlearnkit.objectives.npo import NPO
from unlearnkit.objectives.validators import finite
from unlearnkit.protocols import Additive, Loss, Needs, Objective, Seen, Term, Tokens, Unit
from unlearnkit.statistics import LabelLogProb

Form = Literal["dpo", "sub", "subdiff", "subnpo", "subppo", "subppo_npo"]
"""The losses of the authors' code, by its names."""


def up_loss(log_probs: Tensor, reference_log_probs: Tensor, *, beta: float) -> Tensor:
    """Per-sequence loss that raises answers above the reference, unreduced: [B], [B] -> [B].

    Args:
        log_probs: [B] summed (not averaged) log-probs of the alternates under the model, in nats.
        reference_log_probs: [B] the same under the reference; a constant.
        beta: inverse temperature, > 0; as beta -> 0 the gradient becomes that of the sequence sum's NLL.
    """
    # logsigmoid, not softplus: torch's softplus turns linear above 20, an error of 2e-9.
    return -(2.0 / beta) * torch.nn.functional.logsigmoid(beta * (log_probs - reference_log_probs.detach()))


@frozen(kw_only=True)
class Raise(Additive):
    """`up_loss` averaged over a role's sequences of the global step: the "ppo" of the authors' code.

    Attributes:
        beta: inverse temperature, > 0.
        role: whose answers are raised.
        name: what the term is logged as.
    """

    beta: float = field(default=0.1, validator=gt(0.0))
    role: str = "alternate"
    name: str = "raise"

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
        each = up_loss(log_probs.sums(), seen[self.reference].sums(), beta=self.beta)
        return Loss(Term(self.name, each[log_probs.counts() > 0].sum(), per=Unit("sequence", self.role)))


@frozen(kw_only=True)
class AltPO(Additive):
    """What is done to answers (role "forget") and alternates; the retain term is the caller's.

    Attributes:
        form: which of the losses above.
        beta: inverse temperature of DPO, NPO and `Raise`, > 0; "sub" and "subdiff" have none.
        forget_weight: of the ascent in "subdiff".
        alternates: the role of the alternates.
    """

    form: Form = field(default="dpo", validator=in_(get_args(Form)))
    beta: float = field(default=0.1, validator=gt(0.0))
    forget_weight: float = field(default=1.0, validator=finite)
    alternates: str = "alternate"

    @property
    def terms(self) -> Objective:
        learned, npo = CrossEntropy(self.alternates), NPO(beta=self.beta)
        raised = Raise(beta=self.beta, role=self.alternates)
        match self.form:
            case "dpo":
                return DPO(beta=self.beta, win=self.alternates)
            case "sub":
                return learned
            case "subdiff":
                return learned + self.forget_weight * GradientAscent()
            case "subnpo":
                return learned + npo
            case "subppo":
                return raised
            case "subppo_npo":
                return raised + npo

    @property
    def needs(self) -> Needs:
        return self.terms.needs

    def __call__(self, seen: Seen) -> Loss:
        return self.terms(seen)
