"""Build a `Seen` from plain tensors, to test an objective or a metric of your own without any model.

    logits = torch.randn(2, 5, 11, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[-100, 3, 4, 1, -100], [-100, -100, 2, 1, 7]])
    objective = NPO(beta=0.1)
    seen = seen_from_tables(objective.needs, {"model": {"forget": Table(logits, labels)},
                                              "reference": {"forget": Table(reference_logits, labels)}})
    total(objective(seen), {"forget": Table(logits, labels)}).backward()

Written apart from `observe` on purpose: the two are checked against each other.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from attrs import field, frozen
from torch import Tensor

from unlearnkit.batch import IGNORE
from unlearnkit.errors import MissingModelError
from unlearnkit.protocols import (
    Answer,
    Captured,
    Compared,
    Continuations,
    Flat,
    Generated,
    Loss,
    Need,
    Needs,
    RowTexts,
    Seen,
    Site,
    Texts,
    Tokens,
    Unit,
)
from unlearnkit.statistics import Given


@frozen(eq=False)
class Table:
    """What one model would say about a padded batch of one role.

    Attributes:
        logits: [B, T, V]; position t predicts `labels[:, t + 1]`.
        labels: [B, T], unshifted, `IGNORE` where not supervised.
        mask: [B, T] bool, real tokens. Default: all.
        sites: hidden states [B, T, ·] by site.
        ids, groups: of the rows. Default: "0", "1" …
        tokens: [B, T] input ids, for statistics of labels at "text" positions that are not supervised.
        given: [B, T] numbers by name, for `Given`; the one at t belongs to the token that position t predicts.
    """

    logits: Tensor
    labels: Tensor
    mask: Tensor = field()
    sites: Mapping[Site, Tensor] = field(factory=dict)
    ids: tuple[str, ...] = field()
    groups: tuple[str, ...] = field()
    tokens: Tensor = field()
    given: Mapping[str, Tensor] = field(factory=dict)

    @mask.default
    def _everything(self) -> Tensor:
        return torch.ones_like(self.labels, dtype=torch.bool)

    @ids.default
    def _numbers(self) -> tuple[str, ...]:
        return tuple(map(str, range(len(self.labels))))

    @groups.default
    def _alone(self) -> tuple[str, ...]:
        return self.ids

    @tokens.default
    def _supervised_ones(self) -> Tensor:
        return self.labels

    def at(self, kind: str) -> Tensor:
        """[B, T] bool: positions of a kind."""
        following = torch.zeros_like(self.mask)
        if kind == "answer":
            following[:, :-1] = self.labels[:, 1:] != IGNORE
            return following
        following[:, :-1] = self.mask[:, 1:]
        return self.mask & following if kind == "text" else self.mask

    def targets(self) -> Tensor:
        """[B, T]: the label that each position predicts, else the next token; 0 where there is none."""
        following = torch.where(self.labels != IGNORE, self.labels, self.tokens)[:, 1:]
        return torch.cat([following, torch.full_like(self.labels[:, :1], IGNORE)], 1).clamp(min=0)


Tables = Mapping[str, Mapping[str, Table]]
"""Model name -> role -> table."""


def seen_from_tables(
    needs: Needs, tables: Tables, texts: Mapping[Generated | Texts, Continuations | RowTexts] | None = None
) -> Seen:
    """Answer needs from tables of logits, {"model": {"forget": Table(...)}, "reference": {...}}, and given texts."""
    answers: dict[Need, Answer] = {need: given for need, given in (texts or {}).items()}  # noqa: C416
    roles: dict[str, Table] = {}
    for need in needs:
        if isinstance(need, Generated | Texts):
            if need not in answers:
                raise MissingModelError(
                    f"{need} asks for text: pass it as texts={{need: Continuations(...)}} or RowTexts(...)."
                )
            continue
        try:
            table = tables[need.of][need.role]
            live = tables["model"][need.role] if isinstance(need, Compared) else table
        except KeyError as missing:
            raise MissingModelError(f"{need} asks for {missing}, which is not among the tables given.") from None
        roles[need.role] = table
        where = table.at(need.positions)
        labels = table.targets()[where]
        match need:
            case Tokens(statistic=Given(name=name)):
                if name not in table.given:
                    raise MissingModelError(f"{need} asks for {name!r}: pass it to the table, given={{{name!r}: ...}}.")
                values = table.given[name][where]
            case Tokens():
                values = need.statistic(table.logits[where], labels)
            case Compared():
                values = need.comparison(live.logits[where], table.logits[where].detach(), labels)
            case Captured():
                values = table.sites[need.site][where]
        answers[need] = Flat(values, where.nonzero()[:, 0], len(table.labels))
    return Seen(
        answers,
        ids={role: table.ids for role, table in roles.items()},
        groups={role: table.groups for role, table in roles.items()},
    )


def total(loss: Loss, tables: Mapping[str, Table]) -> Tensor:
    """The number an engine would minimise on one global step: each term over its unit's count, weighted, added."""
    return torch.stack([term.weight * term.value / _count(term.per, tables) for term in loss]).sum()


def _count(unit: Unit | None, tables: Mapping[str, Table]) -> int:
    if unit is None:
        return 1
    if unit.kind == "sequence":
        return sum(int(tables[role].at("answer").any(1).sum()) for role in unit.roles)
    return sum(int(tables[role].at(unit.kind).sum()) for role in unit.roles)
