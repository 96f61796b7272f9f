r"""Adversarial labels: answer each token to be forgotten by the best wrong one, as the model before unlearning sees it.

    label_t = argmax_{v != x_t} p_0(v | x_<t);    then L = mean_t -log p(label_t | x_<t)

Train it with `CrossEntropy("forget")`. A label is never the true token, and is what greedy decoding says wherever that
is wrong. Labels are made once, by the model as it is before unlearning, so they stay fluent where random ones do not.

Paper: Yao, Chien, Du et al. Machine Unlearning of Pre-trained Large Language Models. ACL 2024, arXiv:2402.15159.

Checked: yaojin17/Unlearning_LLM@d4b1287, the labels of the paper and those of the code, exactly.

Deviations:
1. The authors' code takes the label of token t from the logits that follow it, with x_t left out: the favourite
continuation one step late. The default is the paper's; `source_offset=1` is the code.
2. The code also never chooses the last token of the vocabulary: `never=(V - 1,)`.
3. The code can sample from the most likely wrong tokens; the paper takes the first, which is all there is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from attrs import frozen
from torch import Tensor
from transformers import PreTrainedModel

from unlearnkit.batch import IGNORE, Collate, Row, collate_text
from unlearnkit.errors import DataError
from unlearnkit.evaluate import gather
from unlearnkit.models.causal import as_model
from unlearnkit.protocols import Model, Tokens


def favourite_others(logits: Tensor, labels: Tensor, never: tuple[int, ...] = ()) -> Tensor:
    """The most likely token other than the label and those in `never` (the first of equals): [N, V], [N] -> [N] int64.

    Args:
        logits: [N, V].
        labels: [N] token ids that are left out.
        never: token ids that are left out everywhere.
    """
    others = logits.scatter(-1, labels[:, None], -torch.inf)
    if never:
        others[:, list(never)] = -torch.inf
    return others.argmax(-1)


ROLE = "asked"
"""What rows are called while the model is asked about them."""


@frozen
class FavouriteOther:
    """`favourite_others` at each position, as a number: exact up to 2^24 tokens in single precision.

    Attributes:
        never: tokens that are never chosen.
    """

    never: tuple[int, ...] = ()
    uses_labels = True

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return favourite_others(logits, labels, self.never).to(logits.dtype)


def adversarial_labels(
    model: Model | PreTrainedModel,
    rows: Sequence[Row],
    *,
    source_offset: Literal[0, 1] = 0,
    never: tuple[int, ...] = (),
    max_tokens: int = 8192,
    collate: Collate = collate_text,
) -> tuple[Row, ...]:
    """The same rows with the model's favourite wrong token as label wherever they are supervised.

    Args:
        model: the one to be unlearned, before that.
        rows: with `input_ids`; what is wrong is told by them, whatever the labels are.
        source_offset: 0: from the logits that predict the token. 1: from those that come after it, as released.
        never: tokens that are never chosen: special ones, say.
        max_tokens: real tokens of rows that are run together.
        collate: see `observe`.

    Raises:
        DataError: a `source_offset` other than 0 or 1, or nothing left to choose from.
    """
    if source_offset not in (0, 1):
        raise DataError(f"source_offset is {source_offset}; labels come from the logits before (0) or after (1) them.")
    wrapped = as_model(model)
    if len(set(never)) > wrapped.vocabulary - 2:
        raise DataError(f"never has {len(set(never))} of {wrapped.vocabulary} tokens, so there is none to choose.")
    asking = [
        _asking(row, str(number), source_offset)
        for number, row in enumerate(rows)
        if bool((row.labels != IGNORE).any())
    ]
    if not asking:
        return tuple(rows)
    need = Tokens(FavouriteOther(never), ROLE)
    seen = gather({"model": wrapped}, frozenset({need}), {ROLE: asking}, max_tokens=max_tokens, collate=collate)
    found = dict(zip(seen.ids[ROLE], seen[need].split(), strict=True))
    return tuple(
        Row(row.id, row.role, row.inputs, _answered(row, found.get(str(number)), source_offset), group=row.group)
        for number, row in enumerate(rows)
    )


def _asking(row: Row, id: str, source_offset: int) -> Row:
    """A row whose labels name the token that is left out where a label is wanted.

    A position's label is that of the place after it. So labels taken one step late are asked for in a row that is one
    token longer, which a causal model cannot see at the positions before.
    """
    ids = row.inputs["input_ids"]
    left_out = torch.where(row.labels != IGNORE, ids, IGNORE)
    if source_offset == 0:
        return Row(id, ROLE, {"input_ids": ids}, left_out)
    longer = torch.cat([ids, ids[-1:]])
    return Row(id, ROLE, {"input_ids": longer}, torch.cat([torch.full_like(ids[:1], IGNORE), left_out]))


def _answered(row: Row, favourites: Tensor | None, source_offset: int) -> Tensor:
    """[T] labels: the favourites at the supervised places, in order."""
    labels = torch.full_like(row.labels, IGNORE)
    if favourites is not None:
        where = row.labels != IGNORE
        if source_offset == 0:
            where[:1] = False  # nothing predicts the first token
        labels[where] = favourites.round().to(labels.dtype).to(labels.device)
    return labels
