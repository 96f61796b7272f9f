r"""pass@k: is at least one of k programs right? Programs are run by the caller's own sandbox; nothing is executed here.

    pass@k of a problem = 1 - C(n - c, k) / C(n, k)      n: programs drawn, c: those that pass;  mean over problems

Unbiased for the chance that k fresh programs hold a right one. In [0, 1], higher is more useful; it grows with k.

Needs a `RunCode`: it executes a program and says whether it passes the problem's tests. A model's programs are foreign
code, and this library has no sandbox: without one the score is "not measured". EvoEval (828 problems that evolve those
of HumanEval: difficult, creative, subtle, combine, tool_use, verbose, concise) runs a problem's inputs through the
canonical solution and compares; problems with extra tests need all of them passed.

Known failure modes: with n = k the estimate is 0 or 1, and noisy. Programs that never end are the sandbox's affair.

Paper: Xia, Deng, Zhang. Top Leaderboard Ranking = Top Coding Proficiency, Always? EvoEval: Evolving Coding Benchmarks
via LLM. COLM 2024, arXiv:2403.19114. Estimator: Chen et al. Evaluating Large Language Models Trained on Code. 2021,
arXiv:2107.03374.

Checked: the estimator of evo-eval/evoeval@d5ca310 (1e-12).

Deviations: with k > n the released estimator gives 1, even if no program passes; ours refuses.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from unlearnkit.errors import DataError
from unlearnkit.protocols import Score
from unlearnkit.scorers.item import Item


class RunCode(Protocol):
    """Runs a program against an item's tests, safely: True if it passes all of them, in time."""

    def __call__(self, item: Item, program: str, /) -> bool: ...


def pass_at_k(n: int, passed: int, k: int) -> float:
    """Chance that k of n programs, drawn without replacement, hold one of those that passed; in [0, 1].

    Raises:
        DataError: not 1 <= k <= n, or not 0 <= passed <= n.
    """
    if not 1 <= k <= n or not 0 <= passed <= n:
        raise DataError(
            f"pass@{k} of {n} programs with {passed} passed: k is from 1 to n, and no more than n can pass."
        )
    return 1 - math.comb(n - passed, k) / math.comb(n, k)


def code_score(
    items: Iterable[Item], programs: Mapping[str, Sequence[str]], run: RunCode | None = None, *, k: int = 1
) -> Score:
    """Mean pass@k over problems; not measured without a sandbox to run programs in.

    Args:
        items: the problems, of kind "code"; `meta` holds what `run` needs.
        programs: by item id, whole programs, at least k of each.
        run: the sandbox.
        k: how many programs one may hand in.

    Raises:
        DataError: a problem without programs or with too few, or programs of no problem; before anything is run.
    """
    by_id = {item.id: item for item in items}
    if strangers := by_id.keys() ^ programs.keys():
        raise DataError(f"items and programs differ in {sorted(strangers)[0]!r} and {len(strangers) - 1} other ids.")
    for key, item in by_id.items():
        if item.kind != "code":
            raise DataError(f"item {key!r} is of kind {item.kind!r}; pass@k is for items of kind 'code'.")
        if not 1 <= k <= len(programs[key]):
            raise DataError(f"item {key!r} has {len(programs[key])} programs; pass@{k} needs at least {max(k, 1)}.")
    if run is None:
        return Score.not_measured("no sandbox was given to run programs in; pass `run`", "utility")
    shares = {}
    for key, item in by_id.items():
        passed = sum(bool(run(item, program)) for program in programs[key])
        shares[key] = pass_at_k(len(programs[key]), passed, k)
    return Score.mean(shares, "utility")
