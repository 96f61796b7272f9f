"""NPO with a retain term the way it is usually written: separate padded batches, full logits, a live reference.

The computation is that of the released trainers (licong-lin/negative-preference-optimization and
locuslab/open-unlearning): forget and retain batch each have a forward pass of their own, the reference runs beside the
model, every pass makes logits [B, T, V], and sequence sums come from a transposed, shifted cross-entropy.

Left out, so that the comparison is fair, is what they compute without using it: a second loss where labels are passed
along to the forget pass, a second retain pass in front of the KL term, a second log-softmax of the reference. The KL
term is averaged over real tokens, not over padding too, so that it is the same number as `RetainKL()`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from unlearnkit.batch import IGNORE, Row


def collate(rows: Sequence[Row]) -> dict[str, Tensor]:
    """Right-padded to the longest row: input_ids, attention_mask and labels (not shifted), [B, T] each."""
    labels = [row.labels for row in rows]
    return {
        "input_ids": pad_sequence([row.inputs["input_ids"] for row in rows], batch_first=True),
        "attention_mask": pad_sequence([torch.ones_like(each) for each in labels], batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORE),
    }


def full_logits(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> Tensor:
    """Logits of every position, padding included: [B, T, V]."""
    logits: Tensor = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
    return logits


def sequence_nll(logits: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood of each answer, summed over its tokens: [B, T, V], [B, T] -> [B]."""
    shifted = logits[..., :-1, :].contiguous()
    targets = labels[..., 1:].contiguous()
    return F.cross_entropy(shifted.transpose(-1, -2), targets, ignore_index=IGNORE, reduction="none").sum(-1)


def npo(model: PreTrainedModel, reference: PreTrainedModel, forget: Mapping[str, Tensor], *, beta: float) -> Tensor:
    """NPO on a batch, mean over its sequences: scalar."""
    nll = sequence_nll(full_logits(model, forget), forget["labels"])
    with torch.no_grad():
        reference_nll = sequence_nll(full_logits(reference, forget), forget["labels"])
    return -(2.0 / beta) * F.logsigmoid(beta * (nll - reference_nll)).mean()


def retain_nll(model: PreTrainedModel, retain: Mapping[str, Tensor]) -> Tensor:
    """The loss of transformers: mean over the supervised tokens of the batch, a scalar."""
    loss: Tensor = model(**retain, use_cache=False).loss
    return loss


def retain_kl(model: PreTrainedModel, reference: PreTrainedModel, retain: Mapping[str, Tensor]) -> Tensor:
    """KL(reference || model), mean over the real tokens of the batch, prompts included: scalar."""
    with torch.no_grad():
        reference_log_probs = F.log_softmax(full_logits(reference, retain), dim=-1)
    log_probs = F.log_softmax(full_logits(model, retain), dim=-1)
    each = F.kl_div(log_probs, reference_log_probs, reduction="none", log_target=True).sum(-1)
    real = retain["attention_mask"]
    return (each * real).sum() / real.sum()


def npo_retain_nll(
    model: PreTrainedModel, reference: PreTrainedModel, forget: Sequence[Row], retain: Sequence[Row], *, beta: float
) -> Tensor:
    """The loss of `NPO(beta=beta) + CrossEntropy("retain")` on one step: scalar."""
    return npo(model, reference, collate(forget), beta=beta) + retain_nll(model, collate(retain))


def npo_retain_kl(
    model: PreTrainedModel, reference: PreTrainedModel, forget: Sequence[Row], retain: Sequence[Row], *, beta: float
) -> Tensor:
    """The loss of `NPO(beta=beta) + RetainKL()` on one step: scalar."""
    return npo(model, reference, collate(forget), beta=beta) + retain_kl(model, reference, collate(retain))
