"""The least that plain torch has to do for the gradient of an NPO step with a retain term: an engine's lower bound.

Each piece of a step is one batch of forget and retain rows; the body runs once; final hidden states are taken at the
positions the loss reads, and only these go through the head. Nothing is recomputed or checked, and there is no
attention mask: in a causal model nothing real looks at padding on its right. Given the engine's own micro-batches, what
is left between the two is what the engine costs. For models whose logits are their head's output and nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from unlearnkit.batch import IGNORE, Row

Pieces = Sequence[Sequence[Row]]
"""A step in micro-batches; the roles are "forget" and "retain"."""


def npo_retain_nll(
    model: PreTrainedModel, reference_log_probs: Mapping[str, float], pieces: Pieces, *, beta: float
) -> float:
    """Add the gradient of `NPO(beta=beta) + CrossEntropy("retain")` on one step to `.grad`, and return the loss.

    Args:
        model: what is trained.
        reference_log_probs: the answer's summed log-prob under the reference, by id of each forget row.
        pieces: the rows of the step.
        beta: NPO's.
    """
    forgotten = len(_rows(pieces, "forget"))
    retained = sum(int((row.labels[1:] != IGNORE).sum()) for row in _rows(pieces, "retain"))
    total = 0.0
    for piece in pieces:
        forget, retain = _rows([piece], "forget"), _rows([piece], "retain")
        ids, targets = _stack(forget, retain)
        supervised = targets != IGNORE
        logits = _head(model, _hidden(model, ids)[supervised])
        nll = F.cross_entropy(logits, targets[supervised], reduction="none")
        row = supervised[: len(forget)].nonzero()[:, 0]
        reference = nll.new_tensor([reference_log_probs[row.id] for row in forget])
        loss = _npo(nll[: len(row)], row, reference, beta) / forgotten + nll[len(row) :].sum() / retained
        loss.backward()
        total += float(loss.detach())
    return total


def npo_retain_kl(model: PreTrainedModel, reference: PreTrainedModel, pieces: Pieces, *, beta: float) -> float:
    """Add the gradient of `NPO(beta=beta) + RetainKL()` on one step to `.grad`, and return the loss.

    The reference is live, for both terms.
    """
    forgotten = len(_rows(pieces, "forget"))
    retained = sum(map(len, _rows(pieces, "retain")))
    total = 0.0
    for piece in pieces:
        forget, retain = _rows([piece], "forget"), _rows([piece], "retain")
        ids, targets = _stack(forget, retain)
        supervised = targets[: len(forget)] != IGNORE
        row, labels = supervised.nonzero()[:, 0], targets[: len(forget)][supervised]
        real = torch.arange(ids.shape[1]) < torch.tensor([len(row) for row in retain], dtype=torch.int64)[:, None]

        hidden = _hidden(model, ids)
        nll = F.cross_entropy(_head(model, hidden[: len(forget)][supervised]), labels, reduction="none")
        logits = _head(model, hidden[len(forget) :][real])
        with torch.no_grad():
            hidden = _hidden(reference, ids)
            answers = _head(reference, hidden[: len(forget)][supervised])
            reference_nll = F.cross_entropy(answers, labels, reduction="none")
            reference_log_probs = F.log_softmax(_head(reference, hidden[len(forget) :][real]), dim=-1)
            sums = reference_nll.new_zeros(len(forget)).index_add(0, row, -reference_nll)
            log_probs = F.log_softmax(logits, dim=-1)
            divergence = F.kl_div(log_probs, reference_log_probs, reduction="sum", log_target=True)
            slope = log_probs.exp_().sub_(reference_log_probs.exp_()).div_(retained)  # of the divergence, by hand
        loss = _npo(nll, row, sums, beta) / forgotten
        torch.autograd.backward([loss, logits], [None, slope])
        total += float(loss.detach()) + float(divergence) / retained
    return total


def _npo(nll: Tensor, row: Tensor, reference_log_probs: Tensor, beta: float) -> Tensor:
    """NPO summed over the sequences of a piece: flat [N], [N] and [B] -> scalar."""
    sums = nll.new_zeros(len(reference_log_probs)).index_add(0, row, nll)
    return -(2.0 / beta) * F.logsigmoid(beta * (sums + reference_log_probs)).sum()


def _rows(pieces: Pieces, role: str) -> list[Row]:
    return [row for piece in pieces for row in piece if row.role == role]


def _stack(forget: Sequence[Row], retain: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """Token ids and shifted targets, [B, T] each, forget rows first."""
    rows = [*forget, *retain]
    ids = pad_sequence([row.inputs["input_ids"] for row in rows], batch_first=True)
    labels = pad_sequence([row.labels for row in rows], batch_first=True, padding_value=IGNORE)
    return ids, F.pad(labels[:, 1:], (0, 1), value=IGNORE)


def _hidden(model: PreTrainedModel, ids: Tensor) -> Tensor:
    hidden: Tensor = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    return hidden


def _head(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    head = model.get_output_embeddings()
    assert head is not None
    logits: Tensor = head(hidden)
    return logits
