r"""CE-U: learn what the model itself would say if the true token were impossible. No reference, no retain data.

    L = mean_t -sum_v q_t(v) * log p_t(v),    q_t = softmax of z_t with the label's logit at -infinity, a constant

Since p(v) = q(v) * (1 - p(y)) for v != y, the loss has a closed form, which is what is computed here:

    -sum_v q(v) log p(v) = H(q) - log(1 - p(y)) = H(q) + log(1 + e^m),    m = z_y - logsumexp_{v != y} z_v

H(q) is constant too: it shows in the value and not in the gradient, which is that of token unlikelihood -log(1 - p(y)):
p(y) on the label, -p(y) q(j) on every other j. Its norm is at most sqrt(2) * p(y), largest where the model is certain
and gone where the token is forgotten, the opposite of ascent.

The first tokens of each answer are left out (`skip`), so that how answers begin is kept. They are not in the mean,
whose divisor no unit counts then: the term has no unit and is evaluated on whole steps, an extra forward pass where a
step is cut. Labels set to -100 in the data with `skip=0` give the same loss without.

Paper: Yang. CE-U: Cross Entropy Unlearning. 2025, arXiv:2503.01224.

Checked: locuslab/open-unlearning@d3d7cf9, where the author contributed it, loss and gradient to 1e-9.

Aliases:
    skip: ignore_first_n_answer_tokens (OpenUnlearning)

Deviations: none. The code's softmax with -infinity is replaced by the closed form: its 0 * log 0 is never met, and
-log(1 - p) stays finite where p rounds to 1.
"""

from __future__ import annotations

from typing import Literal

import torch
from attrs import field, frozen
from attrs.validators import ge
from torch import Tensor

from unlearnkit.protocols import Additive, Loss, Needs, Seen, Term, Tokens, Unit


def ce_u_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with the model's own distribution without the label, unreduced: [N, V], [N] -> [N], in nats, >= 0.

    The value is H(q) - log(1 - p(y)); H(q) has no gradient.

    Args:
        logits: [N, V] under the model, V >= 2.
        labels: [N] int64, the tokens to be forgotten.
    """
    others = logits.scatter(-1, labels[:, None], -torch.inf)
    log_odds = logits.gather(-1, labels[:, None])[:, 0] - others.logsumexp(-1)
    log_target = torch.log_softmax(others.detach(), -1)
    target = log_target.exp()
    entropy = -(target * torch.where(target > 0, log_target, 0.0)).sum(-1)  # 0 log 0 = 0
    # logsigmoid, not softplus: torch's softplus turns linear above 20, an error of 2e-9.
    return entropy - torch.nn.functional.logsigmoid(-log_odds)


def places_in_answers(row: Tensor, *, rows: int) -> Tensor:
    """The place of each token in its answer, from 0: flat [N] -> [N] int64.

    Args:
        row: [N] int64, ascending, the answer each token belongs to.
        rows: number of answers.
    """
    ones = torch.ones_like(row)
    counts = row.new_zeros(rows).index_add(0, row, ones)
    return ones.cumsum(0) - 1 - (counts.cumsum(0) - counts)[row]


@frozen
class LabelImpossible:
    """`ce_u_loss` at each position."""

    uses_labels = True

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return ce_u_loss(logits, labels)


@frozen(kw_only=True)
class CEU(Additive):
    """`ce_u_loss` averaged over the answer tokens of the global step, the first `skip` of each answer left out.

    Attributes:
        skip: how many tokens each answer keeps at its beginning; an answer without others neither counts nor breaks.
        role: whose answers are forgotten.
        name: what the term is logged as.
    """

    skip: int = field(default=1, validator=ge(0))
    role: str = "forget"
    name: str = "ce_u"

    @classmethod
    def released(cls, code: Literal["open-unlearning"]) -> CEU:
        """The default of the official code."""
        return cls(skip={"open-unlearning": 1}[code])

    @property
    def tokens(self) -> Tokens:
        return Tokens(LabelImpossible(), self.role)

    @property
    def needs(self) -> Needs:
        return frozenset({self.tokens})

    def __call__(self, seen: Seen) -> Loss:
        flat = seen[self.tokens]
        if self.skip == 0:
            return Loss(Term(self.name, flat.values.sum(), per=Unit("answer", self.role)))
        counted = places_in_answers(flat.row, rows=flat.rows) >= self.skip
        mean = torch.where(counted, flat.values, 0.0).sum() / counted.sum().clamp(min=1)
        return Loss(Term(self.name, mean))
