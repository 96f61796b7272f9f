"""Which rows make up a global step, and how it is cut into micro-batches.

Everything here is a pure function of the data, the seed and the step number: no generator state, no rank. So any
process can plan any step of a run by itself, and the same pairs meet whatever the batch size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal

import torch
from attrs import field, frozen
from attrs.validators import ge

from unlearnkit.batch import Row, all_rows, as_role
from unlearnkit.draws import keyed_draw
from unlearnkit.errors import DataError
from unlearnkit.protocols import Dataset

Pairing = Literal["uniform", "fixed_by_index", "cyclic", "same_group"]
"""Which partner row of another role meets a primary row.

uniform: drawn anew each epoch. fixed_by_index: drawn once per primary row (NPO's and SimNPO's code). cyclic: number i
meets number i modulo the partner's size (MUSE). same_group: one of the rows of the same group, drawn anew each epoch;
the group is the primary row's, or that of a partner before it (a retain question and its refusal stay together).
"""


@frozen(kw_only=True, eq=False, slots=False)
class Sampler:
    """The rows of each step: batches of the shuffled primary role, each row beside its partners of the other roles.

    Attributes:
        data: data sets by role.
        primary: the role whose passes are the epochs.
        batch_size: primary rows per step; the last step of an epoch has the rest.
        pairing: by partner role. Default: "same_group" where the role has every group of the primary role, or of a
            partner role before it; else "uniform".
        seed: of shuffling and pairing.
    """

    data: Mapping[str, Dataset[Row]]
    primary: str
    batch_size: int = field(validator=ge(1))
    pairing: Mapping[str, Pairing] = field(factory=dict)
    seed: int = 0

    def __attrs_post_init__(self) -> None:
        check_data(self.data)
        if self.primary not in self.data:
            raise DataError(f"the primary role {self.primary!r} has no data set; there are {sorted(self.data)}.")
        for role in self.pairing:
            if role not in self.data:
                raise DataError(
                    f"pairing names the role {role!r}, which has no data set; there are {sorted(self.data)}."
                )
        for role, groups in self._groups.items():
            followed = self._followed.get(role, self.primary)
            for row in all_rows(self.data[followed]) if self._pairings[role] == "same_group" else ():
                if row.group not in groups:
                    raise DataError(
                        f"row {row.id!r} of {followed!r} has group {row.group!r}, but {role!r} has no row of that "
                        "group to pair with it. Give partners the same group, or another pairing."
                    )

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.data[self.primary]) // self.batch_size)

    def step(self, number: int) -> tuple[Row, ...]:
        """The rows of global step `number`, counted from 0: each primary row followed by its partners.

        A "same_group" partner of several primary rows is there once.
        """
        epoch, place = divmod(number, self.steps_per_epoch)
        order = self._order(epoch)[place * self.batch_size : (place + 1) * self.batch_size]
        rows = []
        there: set[tuple[str, str]] = set()
        for index in order:
            primary = self.data[self.primary][index]
            rows.append(primary)
            chosen = {self.primary: primary}
            for role in self._pairings:
                leader = chosen[self._followed.get(role, self.primary)]
                partner = chosen[role] = self._partner(role, index, primary, leader, epoch)
                if self._pairings[role] != "same_group" or (role, partner.id) not in there:
                    rows.append(partner)  # two primaries can share a partner of their group: it is there once
                    there.add((role, partner.id))
        return tuple(rows)

    def _order(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(keyed_draw(2**63, self.seed, epoch, "order"))
        order: list[int] = torch.randperm(len(self.data[self.primary]), generator=generator).tolist()
        return order

    def _partner(self, role: str, index: int, primary: Row, leader: Row, epoch: int) -> Row:
        data = self.data[role]
        match self._pairings[role]:
            case "uniform":
                return data[keyed_draw(len(data), self.seed, epoch, role, primary.id)]
            case "fixed_by_index":
                return data[keyed_draw(len(data), self.seed, role, index)]
            case "cyclic":
                return data[index % len(data)]
            case "same_group":
                members = self._groups[role][leader.group]
                return data[members[keyed_draw(len(members), self.seed, epoch, role, primary.id)]]

    @cached_property
    def _pairings(self) -> dict[str, Pairing]:
        default: dict[str, Pairing] = {
            role: "same_group" if role in self._followed else "uniform" for role in self._groups
        }
        return default | dict(self.pairing)

    @cached_property
    def _followed(self) -> dict[str, str]:
        """By partner role, the first role before it all of whose groups it has."""
        before: dict[str, set[str]] = {self.primary: {row.group for row in all_rows(self.data[self.primary])}}
        found: dict[str, str] = {}
        for role, groups in self._groups.items():
            leader = next((other for other, of_other in before.items() if of_other <= groups.keys()), None)
            if leader is not None:
                found[role] = leader
            before[role] = set(groups)
        return found

    @cached_property
    def _groups(self) -> dict[str, dict[str, list[int]]]:
        found: dict[str, dict[str, list[int]]] = {}
        for role in self.data:
            if role != self.primary:
                groups = found.setdefault(role, {})
                for index, row in enumerate(all_rows(self.data[role])):
                    groups.setdefault(row.group, []).append(index)
        return found


def check_data(data: Mapping[str, Dataset[Row]]) -> None:
    """Refuse empty data sets, rows under another role than their data set's, and ids that occur twice.

    Raises:
        DataError: names the data set and the row.
    """
    for role, rows in data.items():
        if not len(rows):
            raise DataError(f"the {role} set is empty. Give it at least one row, or leave {role!r} out of the data.")
        ids = set()
        for row in all_rows(rows):
            if row.role != role:
                raise DataError(
                    f"row {row.id!r} in data[{role!r}] has role {row.role!r}; a data set's name is its rows' role. "
                    f"Use as_role(rows, {role!r})."
                )
            if row.id in ids:
                raise DataError(f"two rows of {role!r} have the id {row.id!r}. Recordings and reports are keyed by id.")
            ids.add(row.id)


CUT = 64
"""What one more micro-batch costs, in padded tokens, on the CPU: the price at which `cut` trades padding for pieces."""

GHOST = "(ghost)"
"""The role of rows that a process with nothing left to do runs in step with the others; no need ever names it."""


def cut(rows: Sequence[Row], max_tokens: int, *, cost: int = CUT) -> list[list[Row]]:
    """Micro-batches of at most `max_tokens` padded tokens, rows of similar length together, no group divided.

    Of all ways to cut the rows, sorted by length, the one with the fewest padded tokens, a micro-batch counted as `cost`
    tokens more. A group that is larger by itself is a micro-batch of its own. Deterministic, longest rows first.
    """
    groups = sorted(_groups_of(rows), key=_longest, reverse=True)
    best: list[tuple[int, int]] = [(0, 0)]  # for the first n groups: the price, and where their last piece begins
    for end in range(1, len(groups) + 1):
        found: tuple[int, int] | None = None
        size = 0
        for start in range(end - 1, -1, -1):
            size += len(groups[start])
            padded = size * _longest(groups[start])
            if padded > max_tokens and start < end - 1:
                break
            price = best[start][0] + padded + cost
            if found is None or price < found[0]:
                found = price, start
        assert found is not None
        best.append(found)
    pieces: list[list[Row]] = []
    end = len(groups)
    while end:
        start = best[end][1]
        pieces.append([row for group in groups[start:end] for row in group])
        end = start
    return pieces[::-1]


def share(rows: Sequence[Row], max_tokens: int, ranks: int, *, cost: int = CUT) -> list[list[list[Row]]]:
    """The micro-batches of each rank: every row on one rank, no group divided, equally many pieces on all ranks.

    Groups go to the rank with the fewest tokens so far, longest first. A rank with fewer pieces than another gets ghosts:
    the shortest row, under a role that no need names, so that all ranks run the same number of forward and backward
    passes. Every rank computes the whole of this by itself.
    """
    if not rows:
        return [[] for _ in range(ranks)]
    mine: list[list[Row]] = [[] for _ in range(ranks)]
    load = [0] * ranks
    for group in sorted(_groups_of(rows), key=lambda group: sum(map(len, group)), reverse=True):
        rank = load.index(min(load))
        mine[rank] += group
        load[rank] += sum(map(len, group))
    pieces = [cut(part, max_tokens, cost=cost) for part in mine]
    most = max(map(len, pieces))
    return [part + [[ghost(rows)]] * (most - len(part)) for part in pieces]


def ghost(rows: Sequence[Row]) -> Row:
    """The shortest of these rows, as one that nothing looks at."""
    (row,) = as_role([min(rows, key=len)], GHOST)
    return row


def _groups_of(rows: Sequence[Row]) -> list[list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return list(groups.values())


def _longest(group: Sequence[Row]) -> int:
    return max(map(len, group))
