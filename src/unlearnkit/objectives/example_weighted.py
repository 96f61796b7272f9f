r"""Weighted examples: any objective in which some rows count more than others.

    L = L(without the role) + sum_i w_i * [ L(row i and its group) - L(its group without it) ]

w_i is given for each row of one role, a constant. The bracket is what row i adds to the loss. Since the terms of an
objective add up over rows, weights of 1 give back the objective itself, and the loss is linear in the weights. Units
are left alone: a mean is still divided by the number of answers or tokens, so that weights of mean 1 keep the scale.

A row is taken together with the rows of its group in the objective's other roles: the preferred answer of a DPO pair,
say. Only terms that count the role are weighted. A retain term stays as it is, paired with the forget rows or not.

    models = {"model": model, "weights": given("weight", {"row id": 1.5}, forget_rows)}

Paper: none of its own; data attribution says how much each example is to be unlearned and leaves the objective open.

Checked: by its laws: weights of 1, linearity, zero weights, for losses and gradients of several objectives.

Deviations: none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from attrs import evolve, frozen
from torch import Tensor

from unlearnkit.errors import LossError
from unlearnkit.protocols import (
    Additive,
    Flat,
    Loss,
    Needs,
    Objective,
    Seen,
    Stateful,
    Term,
    TokenNeed,
    Tokens,
    changes,
)
from unlearnkit.statistics import Given

RowsOf = Mapping[str, Sequence[int]]
"""Role -> the places of some of its rows."""


@frozen
class ExampleWeighted(Additive):
    """An objective, the rows of one of its roles weighted.

    A row's weight is the mean of the numbers given for its answer tokens; a row without answer tokens has weight 1.

    Attributes:
        objective: whose terms are weighted; each has to be a sum over rows.
        role: whose rows have weights.
        of: the name of the recording, made by `given("weight", …)`, that holds them.
    """

    objective: Objective
    role: str = "forget"
    of: str = "weights"

    @property
    def weights(self) -> Tokens:
        return Tokens(Given("weight"), self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return self.objective.needs | {self.weights}

    def __call__(self, seen: Seen) -> Loss:
        whole = self.objective(seen)
        self._refuse_what_has_no_parts(whole)
        weighted: dict[str, list[Tensor]] = {term.name: [] for term in whole if self._counts(term)}
        cut = _cutter(seen, self.objective.needs)

        def add(rows: RowsOf, weight: Tensor | float) -> None:
            for term in self.objective(cut(rows)):
                if term.name in weighted:
                    weighted[term.name].append((weight * term.value).to(term.value.dtype))

        add({**{role: range(len(ids)) for role, ids in seen.ids.items()}, self.role: ()}, 1.0)
        for place, weight in enumerate(self._row_weights(seen)):
            mates = _members(seen, seen.groups[self.role][place])
            add({**mates, self.role: (place,)}, weight)
            if any(places for role, places in mates.items() if role != self.role):
                add({**mates, self.role: ()}, -weight)
        return Loss(
            *(
                evolve(term, value=torch.stack(weighted[term.name]).sum()) if term.name in weighted else term
                for term in whole
            )
        )

    def after_step(self, means: Mapping[str, float]) -> ExampleWeighted:
        """The same weights around the successor of an objective that changes between steps."""
        inner = self.objective
        return evolve(self, objective=inner.after_step(means)) if isinstance(inner, Stateful) else self

    @property
    def settled(self) -> bool:
        """Whether the weighted objective does not change between steps."""
        return not changes(self.objective)

    def _counts(self, term: Term) -> bool:
        return term.per is not None and self.role in term.per.roles

    def _refuse_what_has_no_parts(self, whole: Loss) -> None:
        for term in whole:
            if term.per is None:
                raise LossError(
                    f"term {term.name!r} of {self.objective} is no sum over rows (a ratio of means, say), so that no "
                    "part of it belongs to a row and could be weighted. Weight the other objectives, and add this one."
                )
        if not any(self._counts(term) for term in whole):
            counted = sorted({role for term in whole if term.per is not None for role in term.per.roles})
            raise LossError(
                f"no term of {self.objective} is counted over {self.role!r}, so that its rows cannot be weighted; "
                f"its terms are counted over {counted}. Pass one of these as `role`."
            )

    def _row_weights(self, seen: Seen) -> tuple[Tensor, ...]:
        given = seen[self.weights]
        counts = given.counts()
        means = given.sums() / counts.clamp(min=1)
        return torch.where(counts > 0, means, 1.0).detach().unbind()


def _members(seen: Seen, group: str) -> dict[str, tuple[int, ...]]:
    """The places of a group's rows in each role."""
    return {
        role: tuple(place for place, each in enumerate(groups) if each == group) for role, groups in seen.groups.items()
    }


def _cutter(seen: Seen, needs: Needs) -> Callable[[RowsOf], Seen]:
    """What makes, of some rows, the `Seen` they would have had by themselves."""
    parts: dict[TokenNeed, tuple[Tensor, ...]] = {}
    for need in needs:
        if not isinstance(need, TokenNeed):
            raise LossError(f"rows can be weighted where values of positions are read, but {need} asks for text.")
        parts[need] = seen[need].split()

    def cut(rows: RowsOf) -> Seen:
        return Seen(
            {need: _chosen(seen[need], of_rows, rows[need.role]) for need, of_rows in parts.items()},
            ids={role: tuple(seen.ids[role][place] for place in places) for role, places in rows.items()},
            groups={role: tuple(seen.groups[role][place] for place in places) for role, places in rows.items()},
        )

    return cut


def _chosen(whole: Flat, parts: Sequence[Tensor], places: Sequence[int]) -> Flat:
    """Some rows, renumbered; `parts` are the values of all, row by row."""
    numbers = [whole.row.new_full((len(parts[place]),), number) for number, place in enumerate(places)]
    values = [parts[place] for place in places]
    return Flat(torch.cat([whole.values[:0], *values]), torch.cat([whole.row[:0], *numbers]), len(places))
