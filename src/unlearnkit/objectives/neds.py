r"""NEDS: take the object of a fact out of the distribution, keep the rest of it, and hold the facts around it.

    L = mean_t KL(u_t || p_t)  +  anchor_weight * mean_s KL(p_ref,s || p_s)
    u_t(v) = p_ref,t(v) / (1 - p_ref,t(y_t)) for v != y_t,    u_t(y_t) = 0

t runs over the tokens y of the objects to be forgotten, s over those of neighbouring facts, the anchors. The target is
what the reference would say if it could not say the object: its distribution is reshaped, not flattened. At the
reference the first term is -log(1 - p_ref(y)) and the second 0. With respect to a position's logits the gradients are
p - u, never longer than sqrt(2), and p - p_ref; both fade once the target is met.

Role "forget" holds prompts that state subject and relation, each with the object as its answer; role "anchor" the same
of facts near it: triples that touch the subject or the object, or are one edge further. Let the rows' labels be the
object's tokens only: whatever is supervised is suppressed, an end token too. Without anchors this is suppression alone.

Paper: Dahal, Balasubramaniam, Xiong. GONE: Graph Oblivion and Node Erasure (whose method is NEDS). 2026,
arXiv:2603.12275.

Reconstructed: the paper is known to us by its abstract, there is no code to compare with. Its own: a fact is
suppressed, and neighbours in the knowledge graph that are correlated with it serve as anchors, so that a boundary is
drawn between them. Our reading: both divergences and their direction, the target u, the token means, and
anchor_weight = 1. How anchors are chosen is left to the data.

Checked: closed forms, finite differences and the laws of this library; no official numbers exist.

Deviations: none are known.
"""

from __future__ import annotations

import torch
from attrs import field, frozen
from torch import Tensor

from unlearnkit.objectives.retain_kl import RetainKL
from unlearnkit.objectives.validators import finite
from unlearnkit.protocols import Additive, Compared, Loss, Needs, Seen, Term, Unit


def suppression_kl(logits: Tensor, reference_logits: Tensor, labels: Tensor) -> Tensor:
    """KL(u || model) at each position, u the reference without its label: [N, V], [N, V], [N] -> [N], in nats, >= 0.

    Args:
        logits: [N, V] under the model.
        reference_logits: [N, V] under the reference; a constant.
        labels: [N] the tokens to be suppressed.
    """
    without = reference_logits.detach().scatter(-1, labels[:, None], -torch.inf)
    target = torch.softmax(without, -1)
    difference = torch.log_softmax(without, -1) - torch.log_softmax(logits, -1)
    return (target * difference.masked_fill(target == 0, 0.0)).sum(-1)  # 0 log 0 = 0


@frozen
class WithoutLabel:
    """`suppression_kl` at each position."""

    uses_labels = True

    def __call__(self, logits: Tensor, reference_logits: Tensor, labels: Tensor) -> Tensor:
        return suppression_kl(logits, reference_logits, labels)


@frozen(kw_only=True)
class NEDS(Additive):
    """`suppression_kl` averaged over the tokens to be forgotten, plus `RetainKL` over those of the anchors.

    Terms: "neds_forget" and "neds_anchor".

    Attributes:
        anchor_weight: of the anchors' term.
        role: whose answers are suppressed.
        anchor: the role of neighbouring facts.
        name: what the terms' names begin with.
    """

    anchor_weight: float = field(default=1.0, validator=finite)
    role: str = "forget"
    anchor: str = "anchor"
    name: str = "neds"

    @property
    def suppression(self) -> Compared:
        return Compared(WithoutLabel(), self.role)

    @property
    def anchors(self) -> RetainKL:
        return RetainKL(self.anchor, positions="answer", name=f"{self.name}_anchor")

    @property
    def needs(self) -> Needs:
        return self.anchors.needs | {self.suppression}

    def __call__(self, seen: Seen) -> Loss:
        forget = Term(f"{self.name}_forget", seen[self.suppression].values.sum(), per=Unit("answer", self.role))
        return Loss(forget, *(self.anchor_weight * self.anchors)(seen))
