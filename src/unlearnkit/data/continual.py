"""Continual unlearning: requests arrive one after another, and each model is unlearned from the one before.

The requests are disjoint groups of rows, "tasks". At request k

    forget  = task k
    retain  = base retain rows, and every task not requested yet

Tasks already unlearned are in neither: they are not trained on again. At the first request this is the ordinary
benchmark; the retain set loses one task each time, and ends as the base retain rows. TOFU is cut this way into ten
tasks of 40 rows, ten of 200 or nine of 400, with retain90, retain50 and retain10 as base.

Use: start from the model of request k - 1, unlearn `forget` with `retain`, and evaluate on every `Request` so far.
A reference (NPO, DPO, KL) is the model before the request at hand, unless it is kept fixed as the original.

Paper: Yuan, Pang, Du, Chen, Zhang, Lin. A Closer Look at Machine Unlearning for Large Language Models. ICLR 2025,
arXiv:2410.08109.

Checked: closed forms, and the numbers of rows of the authors' three series.

Deviations: none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import frozen

from unlearnkit.batch import Row, as_role
from unlearnkit.errors import DataError


@frozen(eq=False)
class Task:
    """A group of rows that will be asked to be forgotten together."""

    name: str
    rows: tuple[Row, ...]


@frozen(eq=False)
class Request:
    """What unlearning one task works with; rows keep the order they were given in.

    Attributes:
        number: of the request, from 1.
        name: of its task.
        forget: the rows of the task.
        retain: base retain rows, and then the tasks not requested yet.
    """

    number: int
    name: str
    forget: tuple[Row, ...]
    retain: tuple[Row, ...]


def continual_requests(tasks: Sequence[Task], base_retain: Iterable[Row]) -> tuple[Request, ...]:
    """One request per task, in their order.

    Rows are known by their ids, whatever their roles, and returned with the roles "forget" and "retain".

    Args:
        tasks: disjoint groups, in the order in which they will be requested.
        base_retain: rows that are never forgotten; may be none.

    Raises:
        DataError: no tasks; an empty task; two tasks of one name; an id that occurs twice.
    """
    kept = tuple(base_retain)
    _check(tasks, kept)
    base = as_role(kept, "retain")
    return tuple(
        Request(
            number=place + 1,
            name=task.name,
            forget=as_role(task.rows, "forget"),
            retain=base + tuple(row for later in tasks[place + 1 :] for row in as_role(later.rows, "retain")),
        )
        for place, task in enumerate(tasks)
    )


def _check(tasks: Sequence[Task], base_retain: Sequence[Row]) -> None:
    if not tasks:
        raise DataError("there are no tasks; continual unlearning needs at least one group of rows to forget.")
    seen: dict[str, str] = {}
    for name, rows in (("base_retain", base_retain), *((task.name, task.rows) for task in tasks)):
        if not rows and name != "base_retain":
            raise DataError(f"the task {name!r} has no rows. Leave it out.")
        for row in rows:
            if row.id in seen:
                raise DataError(
                    f"the row {row.id!r} is in {seen[row.id]!r} and in {name!r}. A row is retained, or belongs to one "
                    "task: give different rows different ids."
                )
            seen[row.id] = name
    names = [task.name for task in tasks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"two tasks are called {twice[0]!r}; give each its own name.")
