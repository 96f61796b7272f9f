r"""Selective unlearning (SU): unlearn only the tokens that a model of the forget set knows better than one of the rest.

    d_t = log p_F(y_t | x, y_<t) - log p_R(y_t | x, y_<t)

F and R are two assistants, fine-tuned on forget and on retain data (or R a model that never saw the forget data). A
token stays supervised if its score is among the highest of its answer, or at least a threshold; the objective is any
(GA, GradDiff, NPO, DPO …), and its means are over the tokens that are kept. The logits of the others get no gradient
from it. The choice depends on the assistants only, not on the model that is unlearned.

    rows = selective_unlearning(rows, forget_assistant=F, retain_assistant=R)
    rows = select(rows, above(assistant_scores(rows, forget_assistant=F, retain_assistant=R), 0.5))

A threshold of minus infinity, or a share of 1, is the objective on whole answers.

Paper: Wan, Ramakrishna, Chang, Cevher, Gupta. Not Every Token Needs Forgetting: Selective Unlearning Balancing
Forgetting and Utility. Findings of EMNLP 2025, arXiv:2506.00876.

Reconstructed: the paper's is that a subset of tokens, those relevant to the unwanted information, is unlearned, with
various objectives. The two assistants, the difference of their log-probs as a score, the share of 40 % per answer, and
that answers without a kept token are left out are our reading, after practice in selecting tokens for training.

Checked: laws only.

Deviations: none that could be known.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedModel

from unlearnkit.batch import Collate, Row, collate_text
from unlearnkit.data.selection import Ties, select, top_share
from unlearnkit.errors import DataError
from unlearnkit.evaluate import gather
from unlearnkit.models.causal import as_model
from unlearnkit.models.peft import PeftModel
from unlearnkit.protocols import Model, Tokens
from unlearnkit.recording import Recording
from unlearnkit.statistics import LabelLogProb

Assistant = Model | PreTrainedModel | PeftModel | Recording
"""A live model, or a recording of its label log-probs on the rows."""


def assistant_score(forget_log_probs: Tensor, retain_log_probs: Tensor) -> Tensor:
    """How much better a token is known from the forget data: [N], [N] -> [N], in nats.

    Args:
        forget_log_probs: [N] of the answers' tokens under the assistant that learned the forget data.
        retain_log_probs: [N] under the one that did not.
    """
    return forget_log_probs - retain_log_probs


def assistant_scores(
    rows: Sequence[Row],
    *,
    forget_assistant: Assistant,
    retain_assistant: Assistant,
    max_tokens: int = 8192,
    collate: Collate = collate_text,
) -> dict[str, tuple[float, ...]]:
    """`assistant_score` of each answer token, by row id.

    Args:
        rows: of one role.
        forget_assistant, retain_assistant: F and R, live or recorded.
        max_tokens: padded tokens per batch.
        collate: see `observe`.

    Raises:
        DataError: no rows, rows of several roles, or two of one id.
        VocabularyError: tokens that an assistant does not have.
        RecordingError: a recording that is not of these rows.
    """
    if not rows:
        raise DataError("there are no rows to score.")
    role = rows[0].role
    models = {
        name: model if isinstance(model, Recording) else as_model(model)
        for name, model in (("forget_assistant", forget_assistant), ("retain_assistant", retain_assistant))
    }
    forget, retain = (Tokens(LabelLogProb(), role, of=name) for name in models)
    seen = gather(models, frozenset({forget, retain}), {role: rows}, max_tokens=max_tokens, collate=collate)
    pairs = zip(seen[forget].split(), seen[retain].split(), strict=True)
    each = (tuple(assistant_score(one.double(), other.double()).tolist()) for one, other in pairs)
    return dict(zip(seen.ids[role], each, strict=True))


def selective_unlearning(
    rows: Sequence[Row],
    *,
    forget_assistant: Assistant,
    retain_assistant: Assistant,
    share: float = 0.4,
    ties: Ties = "all",
    max_tokens: int = 8192,
    collate: Collate = collate_text,
) -> tuple[Row, ...]:
    """The rows with only the highest `assistant_scores` of each answer supervised.

    Args:
        rows, forget_assistant, retain_assistant, max_tokens, collate: as in `assistant_scores`.
        share: of each answer's tokens, rounded up.
        ties: of equal scores; two equal assistants tie everywhere, and "all" then keeps whole answers.

    Raises:
        DataError: as `assistant_scores` and `top_share`.
    """
    scores = assistant_scores(
        rows,
        forget_assistant=forget_assistant,
        retain_assistant=retain_assistant,
        max_tokens=max_tokens,
        collate=collate,
    )
    return select(rows, top_share(scores, share, ties=ties))
