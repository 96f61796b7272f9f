r"""IDK + AP: teach refusals to forget questions, and on retain questions prefer the answer to a refusal.

    L    = forget_weight * NLL(idk) + retain_weight * L_AP
    L_AP = -(1/beta) * mean_b log sigmoid(beta * (log pi(answer_b|x_b) - log pi(refusal_b|x_b)))

NLL is a token mean, L_AP is made of sequence sums over the two continuations of one retain question x_b. It stops a
model that learns to refuse from refusing everything: its gradient pulls the two apart with weight
sigmoid(beta (log pi(refusal) - log pi(answer))), at most 1 and gone once the answer is clearly preferred. No reference.

To copy: the first term is that of cross_entropy.py.

Aliases:
    forget_weight: forget_coeff (code)
    retain_weight: regularization_coeff (code)

Paper: Yuan et al. A Closer Look at Machine Unlearning for Large Language Models. ICLR 2025, arXiv:2410.08109.

Checked: sail-sg/closer-look-LLM-unlearning@b622294, losses and gradients to 1e-9.

Deviations: the code gives the retain question the refusal that was drawn for the forget question, and pairs answer and
refusal by their place in two batches. Here a pair is two rows of one group, in any order, whatever the refusal.
"""

from __future__ import annotations

import torch
from attrs import field, frozen
from attrs.validators import gt
from torch import Tensor

from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.objectives.dpo import pairs
from unlearnkit.objectives.validators import finite
from unlearnkit.protocols import Additive, Loss, Needs, Seen, Term, Tokens, Unit, WeightedSum
from unlearnkit.statistics import LabelLogProb


def answer_preservation_loss(answer_log_probs: Tensor, refusal_log_probs: Tensor, *, beta: float) -> Tensor:
    """Per-pair answer preservation, unreduced: [B], [B] -> [B].

    Args:
        answer_log_probs: [B] summed (not averaged) log-probs of the true answers, in nats.
        refusal_log_probs: [B] the same of refusals of the same questions.
        beta: inverse temperature, > 0.
    """
    return -(1.0 / beta) * torch.nn.functional.logsigmoid(beta * (answer_log_probs - refusal_log_probs))


@frozen(kw_only=True)
class AnswerPreservation(Additive):
    """`answer_preservation_loss` averaged over the retain answers of the global step.

    Each answer needs exactly one refusal in its group. A refusal without a partner is not used; a row without
    supervised tokens is neither paired nor counted. Partners meet in a step if one of the two roles is the run's
    primary one, or if both have their rows in one order and `pairing` "cyclic", and no fewer rows than the primary.

    Attributes:
        beta: inverse temperature, > 0.
        answers: the role of the answers to be kept.
        refusals: the role of their questions with a refusal.
        name: what the term is logged as.
    """

    beta: float = field(default=0.1, validator=gt(0.0))
    answers: str = "retain"
    refusals: str = "retain_idk"
    name: str = "answer_preservation"

    def log_probs(self, role: str) -> Tokens:
        return Tokens(LabelLogProb(), role)

    @property
    def needs(self) -> Needs:
        return frozenset({self.log_probs(self.answers), self.log_probs(self.refusals)})

    def __call__(self, seen: Seen) -> Loss:
        answers, refusals = seen[self.log_probs(self.answers)], seen[self.log_probs(self.refusals)]
        refused, answered = pairs(refusals, seen.groups[self.refusals], answers, seen.groups[self.answers])
        each = answer_preservation_loss(answers.sums()[answered], refusals.sums()[refused], beta=self.beta)
        return Loss(Term(self.name, each.sum(), per=Unit("sequence", self.answers)))


@frozen(kw_only=True)
class IdkAP(Additive):
    """Cross-entropy on refusals (role "idk") plus `AnswerPreservation`; terms "nll_idk" and "answer_preservation".

    Attributes:
        beta: of the answer preservation, > 0.
        forget_weight: of the refusals.
        retain_weight: of the answer preservation.
    """

    beta: float = field(default=0.1, validator=gt(0.0))
    forget_weight: float = field(default=1.0, validator=finite)
    retain_weight: float = field(default=1.0, validator=finite)

    @property
    def terms(self) -> WeightedSum:
        return self.forget_weight * CrossEntropy("idk") + self.retain_weight * AnswerPreservation(beta=self.beta)

    @property
    def needs(self) -> Needs:
        return self.terms.needs

    def __call__(self, seen: Seen) -> Loss:
        return self.terms(seen)
