r"""UNDIAL: distil from a frozen teacher whose logit of the token to be forgotten was lowered by a constant.

    L = mean_t -sum_v q_t(v) * log p_t(v),    q_t = softmax(z_ref,t - beta * onehot(y_t))

The mean runs over answer tokens. The target is fixed from the start, so that the loss has a minimum, the mean entropy
of q, and cannot run away as ascent does. The gradient with respect to the logits is (p - q) / N: at the reference it
takes from the label what the others get in proportion to their probability, and beta -> infinity there is CE-U without
skip. With beta = 0 nothing is forgotten; the gradient vanishes at the reference.

Names and nouns may count more than other tokens: with `focus` each token's loss is multiplied by a given number.
Soft focus gives 10 to focus tokens and 1 to the rest, hard focus 1 and 0. The mean still divides by all answer tokens.

Paper: Dong, Lin, Belkin, Huerta, Vulić. UNDIAL: Self-Distillation with Adjusted Logits for Robust Unlearning in Large
Language Models. NAACL 2025, arXiv:2402.10052 (first called Deliberate Imagination, DI).

Checked: dong-river/LLM_unlearning@89856dc (with either focus), locuslab/open-unlearning@d3d7cf9 and the distillation
branch of UCSB-NLP-Chang/causal_unlearn@cba1710, losses and gradients to 1e-9.

Aliases:
    beta: di_strength (the authors' code)

Deviations:
1. The authors average over every position of samples without prompt and padding. OpenUnlearning kept that mean although
   its labels know both: it divides by all shifted positions, distils the prompt and the padding as well, and lowers
   there the vocabulary's entry V - 100, which the ignored label -100 happens to index. Here only answer tokens count;
   the tests reproduce its numbers with `undial_loss` over all positions.
2. The authors' focus lists lose the last of their places, and focus on either of a sample's first two tokens.
   Given numbers have no places to lose; the tests spell the rule out.
"""

from __future__ import annotations

from typing import Literal

import torch
from attrs import field, frozen
from attrs.validators import ge
from torch import Tensor

from unlearnkit.objectives.validators import finite
from unlearnkit.protocols import Additive, Compared, Loss, Needs, Seen, Term, Tokens, Unit
from unlearnkit.statistics import Given


def undial_loss(logits: Tensor, reference_logits: Tensor, labels: Tensor, *, beta: float) -> Tensor:
    """Cross-entropy with the teacher's adjusted distribution, unreduced: [N, V], [N, V], [N] -> [N], in nats, >= 0.

    Args:
        logits: [N, V] under the model.
        reference_logits: [N, V] under the reference; a constant.
        labels: [N] int64, the tokens to be forgotten.
        beta: what is taken off the label's logit, >= 0.
    """
    reference_logits = reference_logits.detach()
    places = labels[:, None]
    lowered = reference_logits.scatter_add(-1, places, torch.full_like(places, -beta, dtype=reference_logits.dtype))
    return -(torch.softmax(lowered, -1) * torch.log_softmax(logits, -1)).sum(-1)


@frozen
class AdjustedTeacher:
    """`undial_loss` at each position."""

    beta: float
    uses_labels = True

    def __call__(self, logits: Tensor, reference_logits: Tensor, labels: Tensor) -> Tensor:
        return undial_loss(logits, reference_logits, labels, beta=self.beta)


@frozen(kw_only=True)
class UNDIAL(Additive):
    """`undial_loss` averaged over the answer tokens of the global step; the reference has to be a live model.

    Attributes:
        beta: what is taken off the label's logit, >= 0.
        focus: whether each token's loss is multiplied by the number given as "focus", from the recording bound to
            "weights"; it changes nothing about what the mean is divided by.
        role: whose answers are forgotten.
        name: what the term is logged as.
    """

    beta: float = field(default=10.0, validator=[ge(0.0), finite])
    focus: bool = False
    role: str = "forget"
    name: str = "undial"

    @classmethod
    def released(cls, code: Literal["undial", "open-unlearning"]) -> UNDIAL:
        """The default strength of an official code base; the authors' scripts pass 3 or 10."""
        return cls(beta={"undial": 5.0, "open-unlearning": 10.0}[code])

    @property
    def distance(self) -> Compared:
        return Compared(AdjustedTeacher(self.beta), self.role)

    @property
    def weights(self) -> Tokens:
        return Tokens(Given("focus"), self.role, of="weights")

    @property
    def needs(self) -> Needs:
        return frozenset({self.distance, self.weights} if self.focus else {self.distance})

    def __call__(self, seen: Seen) -> Loss:
        each = seen[self.distance].values
        if self.focus:
            each = each * seen[self.weights].values.to(each.dtype)
        return Loss(Term(self.name, each.sum(), per=Unit("answer", self.role)))
