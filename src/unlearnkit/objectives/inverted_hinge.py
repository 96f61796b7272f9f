r"""IHL (inverted hinge loss): take probability from the true token and give it to the runner-up, until that one leads.

    L = mean_t (1 + p_t(y_t) - max_{v != y_t} p_t(v))            token mean, between 0 and 2; 1 where p is uniform

The gradient with respect to the logits, m being the runner-up: p(y) (1 - p(y) + p(m)) on the label,
-p(m) (1 + p(y) - p(m)) on the runner-up, p(v) (p(m) - p(y)) on every other v. It sums to 0, no entry exceeds 1/2, and
it vanishes once another token has all the mass; the rest of the vocabulary is hardly moved, unlike under ascent. Of
equally likely runners-up the first is taken.

The authors add cross-entropy on retain data, `IHL() + CrossEntropy("retain")`, and train low-rank adapters.

Paper: Cha, Cho, Hwang, Lee. Towards Robust and Parameter-Efficient Knowledge Unlearning for LLMs (LoKU). ICLR 2025,
arXiv:2408.06621.

Checked: csm9493/efficient-llm-unlearning@272484a, losses and gradients to 1e-9.

Deviations: the code takes its hinge from a metrics package, which applies the softmax only if some logit of the batch
lies outside [0, 1]; logits that all lie inside are read as probabilities. Here the softmax is always applied; the tests
reproduce the released number with `inverted_hinge` on logits. The clamp of a hinge at 0 is left out: 1 + p(y) - p(m)
is never negative.
"""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor

from unlearnkit.protocols import Additive, Loss, Needs, Seen, Term, Tokens, Unit


def inverted_hinge(probs: Tensor, labels: Tensor) -> Tensor:
    """1 + the label's probability - the largest among the others, unreduced: [N, V], [N] -> [N], in [0, 2].

    Args:
        probs: [N, V] next-token probabilities under the model.
        labels: [N] int64, the tokens to be forgotten.
    """
    runner_up = probs.detach().scatter(-1, labels[:, None], -torch.inf).argmax(-1, keepdim=True)
    return 1.0 + (probs.gather(-1, labels[:, None]) - probs.gather(-1, runner_up))[:, 0]


def inverted_hinge_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """`inverted_hinge` of the softmax of logits, unreduced: [N, V], [N] -> [N], in [0, 2]."""
    return inverted_hinge(torch.softmax(logits, -1), labels)


@frozen
class InvertedHinge:
    """`inverted_hinge_loss` at each position."""

    uses_labels = True

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return inverted_hinge_loss(logits, labels)


@frozen(kw_only=True)
class IHL(Additive):
    """`inverted_hinge_loss` averaged over the answer tokens of the global step.

    Attributes:
        role: whose answers are forgotten.
        name: what the term is logged as.
    """

    role: str = "forget"
    name: str = "ihl"

    @property
    def tokens(self) -> Tokens:
        return Tokens(InvertedHinge(), self.role)

    @property
    def needs(self) -> Needs:
        return frozenset({self.tokens})

    def __call__(self, seen: Seen) -> Loss:
        return Loss(Term(self.name, seen[self.tokens].values.sum(), per=Unit("answer", self.role)))
