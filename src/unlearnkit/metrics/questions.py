"""Questions with several answers: joins the rows of a question over roles, and says how unlikely each answer is.

One role holds the right answers ("forget_paraphrased"), another the wrong ones ("forget_perturbed"). Rows belong to the
same question if they share a `group`, whose name is the question's id.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from unlearnkit.errors import DataError
from unlearnkit.protocols import Flat, Seen, Tokens


class QuestionNLLs(NamedTuple):
    """Mean negative log-probability of every answer, in nats per token.

    Attributes:
        ids: Q question ids.
        correct: [Q, C] float64, of the right answers.
        wrong: [Q, W] float64, of the wrong answers.

    nan stands for "no such answer": a question with fewer answers than the others, or an answer without any supervised
    token.
    """

    ids: tuple[str, ...]
    correct: Tensor
    wrong: Tensor


def question_nlls(seen: Seen, correct: Tokens, wrong: Tokens) -> QuestionNLLs:
    """Join the answers of two roles by question; both needs ask for label log-probs.

    Questions come in the order of the `correct` role.

    Raises:
        DataError: a question is in one of the roles only; names it.
    """
    right, other = answer_nlls(seen, correct), answer_nlls(seen, wrong)
    for role, present, missing_from, absent in ((correct, right, wrong, other), (wrong, other, correct, right)):
        if alone := sorted(present.keys() - absent.keys()):
            raise DataError(
                f"question {alone[0]!r} has answers in {role.role!r} but none in {missing_from.role!r}, and so have "
                f"{len(alone) - 1} others of {len(present)}. Give all rows of one question the same `group`, in both "
                "roles, or drop the questions that lack answers."
            )
    return QuestionNLLs(tuple(right), _matrix(right.values()), _matrix(other[question] for question in right))


def answer_nlls(seen: Seen, need: Tokens) -> dict[str, list[float]]:
    """Question id -> mean negative log-probability of each of its answers in one role, in nats per token.

    An answer without supervised tokens is nan.
    """
    flat = seen[need]
    nats = Flat(flat.values.double(), flat.row, flat.rows).sums()
    by_question: dict[str, list[float]] = {}
    for question, nll in zip(seen.groups[need.role], (-nats / flat.counts()).tolist(), strict=True):
        by_question.setdefault(question, []).append(nll)
    return by_question


def _matrix(answers: Iterable[list[float]]) -> Tensor:
    """Rows of unequal length as one float64 matrix, filled up with nan."""
    rows = list(answers)
    width = max(map(len, rows), default=0)
    filled = [row + [math.nan] * (width - len(row)) for row in rows]
    return torch.tensor(filled, dtype=torch.float64).reshape(len(rows), width)
