r"""Delta-scores (DTO): which tokens of an answer does the rest of it hang on?

    Delta_r = | mean_{t > q} l_t(answer with token r replaced) - mean_{t > q} l_t(answer) |,    r = 1 … q

l_t is the NLL of answer token t under the model before unlearning. The first q tokens of an answer are its prefix,
those after it the suffix. In [0, inf), in nats per token; high: without this token the model does not find the rest.
Zero for a token that the suffix does not attend to. The highest of each prefix are the targets of
`unlearnkit.objectives.dto.DTO`. Made once, of the original model: a pass over the answer for each prefix token.

Where it misleads: of two tokens that say the same neither is missed; the suffix itself has no scores.

Paper: Lee, Liu, Xiong. Direct Token Optimization. Findings of ACL 2026, arXiv:2510.00125.

Checked: laws only.

Reconstructed: known at second hand are prefix and suffix, that a score is the change of the suffix's loss when a token
is perturbed, and that the top k % are targets. Ours are the replacement by given tokens (an unknown or padding token,
or several drawn at random, whose changes are averaged), half of the answer as suffix, q rounded up, and a quarter of
the prefix as targets, rounded up. An answer without a suffix (of one token, or for suffix_share = 0) has nothing to
measure: all of its prefix is target.

Deviations: none that could be known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from unlearnkit.batch import IGNORE, Collate, Row, collate_text, count_positions
from unlearnkit.data.selection import top_share
from unlearnkit.errors import DataError
from unlearnkit.evaluate import gather
from unlearnkit.models.causal import as_model
from unlearnkit.models.peft import PeftModel
from unlearnkit.plan import check_data
from unlearnkit.procedures.gradient_norm import ROLE, measured
from unlearnkit.protocols import Model, Tokens
from unlearnkit.recording import Recording, given
from unlearnkit.statistics import LabelLogProb


def delta_score(suffix_nll: Tensor, replaced_suffix_nll: Tensor) -> Tensor:
    """Delta of each prefix token: [], [q, R] -> [q], >= 0, in nats per token.

    Args:
        suffix_nll: mean NLL of the suffix after the true prefix.
        replaced_suffix_nll: [q, R] the same with token r of the prefix replaced, by each of R tokens.
    """
    return (replaced_suffix_nll - suffix_nll).abs().mean(-1)


def delta_scores(
    model: Model | PreTrainedModel | PeftModel,
    rows: Sequence[Row],
    *,
    replacements: Sequence[int],
    suffix_share: float = 0.5,
    max_tokens: int = 8192,
    collate: Collate = collate_text,
) -> dict[str, tuple[float, ...]]:
    """`delta_score` of each prefix token of each answer, by row id; nan where there is no suffix to measure.

    Args:
        model: the model before unlearning.
        rows: whose answers are scored; one without answer tokens has no scores.
        replacements: token ids that take the place of a token, one after the other; changes are averaged.
        suffix_share: of each answer, in [0, 1); the prefix is the rest, rounded up.
        max_tokens: padded tokens per batch.
        collate: see `observe`.

    Raises:
        DataError: no rows, two of one id, no replacement, or a share outside [0, 1).
        VocabularyError: tokens or replacements that the model does not have.
    """
    if not 0 <= suffix_share < 1:
        raise DataError(f"suffix_share is {suffix_share}; it has to be at least 0 and below 1.")
    if not replacements:
        raise DataError("replacements is empty: name a token to put in the place of another, [tokenizer.unk_token_id].")
    wrapped, tokens = as_model(model), Tokens(LabelLogProb(), ROLE)
    scores = {}
    for row in measured(rows, wrapped.vocabulary):
        answer = 1 + (row.labels[1:] != IGNORE).nonzero()[:, 0]
        prefix = answer[: math.ceil(round((1 - suffix_share) * len(answer), 9))]
        if len(prefix) == len(answer):
            scores[row.id] = (math.nan,) * len(prefix)
            continue
        labels = row.labels.index_fill(0, prefix, IGNORE)
        variants = [Row("true", ROLE, row.inputs, labels)]
        for place in prefix.tolist():
            for token in replacements:
                ids = row.inputs["input_ids"].clone()
                ids[place] = token
                variants.append(Row(f"{place}~{len(variants)}", ROLE, {**row.inputs, "input_ids": ids}, labels))
        seen = gather({"model": wrapped}, frozenset({tokens}), {ROLE: variants}, max_tokens=max_tokens, collate=collate)
        nll = -seen[tokens].values.double().view(len(variants), -1).mean(1)
        scores[row.id] = tuple(delta_score(nll[0], nll[1:].view(len(prefix), -1)).tolist())
    return scores


def dto_targets(scores: Mapping[str, Sequence[float]], rows: Sequence[Row], *, share: float = 0.25) -> Recording:
    """The highest scores of each prefix as the mask `DTO` reads: 1 at targets, 0 at all other answer tokens.

    Args:
        scores: of `delta_scores`, for each row.
        rows: the same, of one role.
        share: of each prefix, rounded up; of equal scores the earlier tokens are taken. Where nothing could be measured,
            all of the prefix.

    Raises:
        DataError: no rows, two of one id or of several roles, a share outside [0, 1], or a row whose scores are missing
            or more than its answer tokens.
    """
    if not rows:
        raise DataError("there are no rows to find targets in.")
    check_data({rows[0].role: rows})
    masks = {}
    for row in rows:
        size = count_positions(row, "answer")
        if row.id not in scores or len(scores[row.id]) > size:
            found = f"{len(scores[row.id])} scores" if row.id in scores else "no scores"
            raise DataError(f"there are {found} for row {row.id!r}, which has {size} answer tokens. Score these rows.")
        each = scores[row.id]
        if all(map(math.isnan, each)):
            prefix: Sequence[bool] = (True,) * len(each)
        else:
            prefix = top_share({row.id: each}, share, ties="first")[row.id]
        mask = torch.zeros(size)
        mask[: len(each)] = torch.tensor(prefix, dtype=torch.float32)
        masks[row.id] = mask
    return given("target", masks, rows)
