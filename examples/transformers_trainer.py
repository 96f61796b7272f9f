"""NPO inside a plain `Trainer` of transformers: keep your own loop, take the formula alone.

The reference is the model as it was. What it says of each answer is computed once and lies in the data as a column, so
that no second model is held. The loss of a batch is a mean over its rows, as Trainer wants it.

    python examples/transformers_trainer.py
"""

from __future__ import annotations

import tempfile

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from unlearnkit.models.tiny import tiny_model
from unlearnkit.objectives.npo import npo_loss
from unlearnkit.statistics import label_log_probs


def answer_log_probs(model: nn.Module, input_ids: Tensor, labels: Tensor) -> Tensor:
    """Log-probability of each row's whole answer, the tokens whose label is not -100: [B, T], [B, T] -> [B]."""
    logits, labels = model(input_ids=input_ids).logits[:, :-1], labels[:, 1:]
    each = label_log_probs(logits.flatten(0, 1), labels.flatten().clamp(min=0)).view_as(labels)
    return torch.where(labels == -100, 0.0, each).sum(1)


class NPOTrainer(Trainer):
    """The one thing that changes is the loss."""

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *_: object, **__: object) -> Tensor:
        log_probs = answer_log_probs(model, inputs["input_ids"], inputs["labels"])
        return npo_loss(log_probs, inputs["reference"], beta=0.1).mean()


if __name__ == "__main__":
    model = tiny_model("llama")
    ids = torch.randint(1, 64, (8, 12), generator=torch.Generator().manual_seed(0))
    labels = ids.masked_fill(torch.arange(12) < 6, -100)  # made-up rows: six tokens ask, six answer
    with torch.no_grad():
        before = answer_log_probs(model, ids, labels)
    columns = {"input_ids": ids, "labels": labels, "reference": before}
    rows = [{name: column[place] for name, column in columns.items()} for place in range(len(ids))]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=20,
            learning_rate=1e-3,
            remove_unused_columns=False,  # or Trainer drops "reference", which no model reads
            save_strategy="no",
            report_to="none",
            use_cpu=True,
        )
        NPOTrainer(model, arguments, train_dataset=rows).train()
    with torch.no_grad():
        after = answer_log_probs(model.eval(), ids, labels)
    print(f"log-probability of the answers: {before.mean():.2f} before, {after.mean():.2f} after")
