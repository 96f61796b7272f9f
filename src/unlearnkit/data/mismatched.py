"""Random mismatch: each prompt with answers that belong to other prompts, as LLMU teaches them to forget prompts.

Paper: Yao, Xu, Liu. Large Language Model Unlearning. NeurIPS 2024, arXiv:2310.10683.

Checked: laws only; what is trained with these rows is checked in objectives/llmu.py.

Deviations: the authors' code draws one set of random answers for a whole batch; here each prompt has its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from unlearnkit.batch import IGNORE, Row
from unlearnkit.draws import keyed_draw
from unlearnkit.errors import DataError


def mismatched(
    rows: Sequence[Row], answers: Sequence[Row], *, per_prompt: int = 5, seed: int = 0, role: str = "random_answers"
) -> tuple[Row, ...]:
    """Each row's prompt followed by `per_prompt` answers of other rows: rows "7/0", "7/1" … of the row's group.

    Answers are drawn uniformly and without repetition, for each prompt anew; an answer with the tokens of the prompt's
    own is not drawn. Prompt and answer are put together as tokens: nothing is tokenised again. A sampler whose primary role
    is that of `rows` meets each prompt with one of its random answers, drawn anew each epoch.

    Args:
        rows: whose prompts are used: what stands before the first supervised token.
        answers: whose answers are drawn from: first to last supervised token, with the labels they have.
        per_prompt: number of answers to each prompt.
        seed: of the draws, with the row's id.
        role: of the rows that are made.

    Raises:
        DataError: a row without prompt or answer, or fewer than `per_prompt` answers for a prompt.
    """
    if per_prompt < 1:
        raise DataError(f"per_prompt is {per_prompt}; each prompt needs at least one answer.")
    pool: dict[tuple[int, ...], tuple[torch.Tensor, torch.Tensor]] = {}
    for row in answers:
        said = _answer(row)
        pool.setdefault(tuple(said[0].tolist()), said)
    made = []
    for row in rows:
        own = tuple(_answer(row)[0].tolist())
        others = [said for tokens, said in pool.items() if tokens != own]
        if len(others) < per_prompt:
            raise DataError(
                f"row {row.id!r} of {row.role!r} is to get {per_prompt} random answers, but there are {len(others)} "
                "different ones beside its own. Give more rows to draw answers from, or lower per_prompt."
            )
        start = _span(row)[0]
        prompt = row.inputs["input_ids"][:start]
        for number in range(per_prompt):
            place = number + keyed_draw(len(others) - number, seed, "mismatched", row.id, number)
            others[number], others[place] = others[place], others[number]
            tokens, labels = others[number]
            made.append(
                Row(
                    f"{row.id}/{number}",
                    role,
                    {**row.inputs, "input_ids": torch.cat([prompt, tokens])},
                    torch.cat([torch.full_like(prompt, IGNORE), labels]),
                    row.group,
                )
            )
    return tuple(made)


def _span(row: Row) -> tuple[int, int]:
    """Where a row's answer begins and ends: its first supervised token and the one after its last.

    Raises:
        DataError: none is supervised, or nothing stands before the first.
    """
    supervised = (row.labels != IGNORE).nonzero()[:, 0].tolist()
    if not supervised or supervised[0] == 0:
        what = "supervised tokens" if not supervised else "prompt before its first supervised token"
        raise DataError(
            f"row {row.id!r} of {row.role!r} has no {what}, so that prompt and answer cannot be told apart."
        )
    return supervised[0], supervised[-1] + 1


def _answer(row: Row) -> tuple[torch.Tensor, torch.Tensor]:
    start, end = _span(row)
    return row.inputs["input_ids"][start:end], row.labels[start:end]
