"""A method of your own: a pure function, a class that says what it needs, and a test of it without any model.

The method: push the log-odds of each forget token below a margin, with a hinge, so that a token which is unlikely
already is left alone.

    python examples/own_method.py
"""

from __future__ import annotations

import torch
from attrs import field, frozen
from torch import Tensor

import unlearnkit as uk
from unlearnkit.protocols import Needs
from unlearnkit.testing import Table, seen_from_tables, total


def hinged_log_odds(logits: Tensor, labels: Tensor, *, margin: float) -> Tensor:
    """How far each label's log-odds lie above `margin`: [N, V], [N] -> [N], in nats, >= 0."""
    log_p = -torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    log_odds = log_p - torch.log1p(-log_p.exp().clamp(max=1 - 1e-7))
    return (log_odds - margin).clamp(min=0)


@frozen
class LogOddsHinge:
    """The statistic: computed chunk by chunk behind the head, so that whole-batch logits never exist."""

    margin: float
    uses_labels = True

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return hinged_log_odds(logits, labels, margin=self.margin)


@frozen
class HingedForgetting(uk.Additive):
    """`hinged_log_odds` averaged over forget tokens. Inheriting `Additive` gives it + and *; nothing else is needed."""

    margin: float = field(default=-4.0)

    @property
    def tokens(self) -> uk.Tokens:
        return uk.Tokens(LogOddsHinge(self.margin), "forget")

    @property
    def needs(self) -> Needs:
        return frozenset({self.tokens})

    def __call__(self, seen: uk.Seen) -> uk.Loss:
        return uk.Loss(uk.Term("hinge", seen[self.tokens].values.sum(), per=uk.Unit("answer", "forget")))


if __name__ == "__main__":
    objective = HingedForgetting() + uk.CrossEntropy("retain")
    labels = torch.tensor([[-100, -100, 3, 1], [-100, 2, 2, -100]])
    tables = {
        role: Table(torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True), labels)
        for role in ("forget", "retain")
    }
    loss = total(objective(seen_from_tables(objective.needs, {"model": tables})), tables)
    loss.backward()
    assert tables["forget"].logits.grad is not None
    print(f"loss {loss.item():.4f}; needs: {', '.join(sorted(map(str, objective.needs)))}")
