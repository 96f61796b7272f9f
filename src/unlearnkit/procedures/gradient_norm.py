r"""GradNorm: membership inference from the gradient that an example would have in fine-tuning.

    score = mean over parameter tensors of ||d L / d theta_i||_p,      L = mean NLL of the answer's tokens

A training example lies near a minimum and has a small gradient; a text the model never saw has a large one. In
[0, inf); higher: less likely a member. It is compared between forget examples and others of the same kind that were
never trained on: AUC 1/2 means they cannot be told apart, and a forget set whose norms are the larger ones was unlearned
too far.

Not the global norm: every tensor counts the same, a bias of 32 numbers and an embedding of millions. So scores of two
architectures cannot be compared, and an adapter's gradients are others than the whole model's. The last supervised
token, taken to be the end token, is not scored.

Papers: gradient norms of language models: Wang et al. Pandora's White-Box. 2024, arXiv:2402.17012. In this form: Dorna
et al. OpenUnlearning. NeurIPS 2025, arXiv:2506.12618.

Checked: read in locuslab/open-unlearning@d3d7cf9 (`gradnorm`); no recorded numbers, against plain autograd.

Deviations: the released attack switches the model to training mode (dropout is on), clears all gradients and leaves the
model in evaluation mode. Here dropout is off, and neither a gradient nor a mode is touched. Where an answer is
supervised in several stretches, it scores the tokens between them too; here they are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from unlearnkit.batch import Collate, Row, as_role, check_vocabulary, collate_text
from unlearnkit.errors import DataError
from unlearnkit.metrics.memorization import without_last
from unlearnkit.models.causal import HALF, CausalLM, as_model, no_dropout
from unlearnkit.models.peft import PeftModel
from unlearnkit.observe import observe
from unlearnkit.plan import check_data
from unlearnkit.protocols import Model, Score, Tokens
from unlearnkit.statistics import LabelLogProb

ROLE = "measured"
"""What rows of any role are called while they are measured together."""


def mean_norm(gradients: Sequence[Tensor], *, p: float = 2.0) -> float:
    """Mean over tensors of the p-norm of each, not the norm of all; without any tensor nan."""
    norms = [float(torch.linalg.vector_norm(gradient.double(), p)) for gradient in gradients]
    return math.fsum(norms) / len(norms) if norms else math.nan


def refuse_half_precision(model: Model) -> None:
    """Refuse what trains again and again: half-precision weights would be rounded after each time.

    Raises:
        DataError: names a trainable parameter in half precision.
    """
    for name, parameter in trainable(model)[1].items():
        if parameter.dtype in HALF:
            raise DataError(f"{name} is {parameter.dtype}: each step would be rounded off. Call model.float().")


def trainable(model: Model) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """The module behind a model, and its trainable parameters, each once, by the names a user knows.

    Raises:
        DataError: no torch module, or nothing in it is trainable.
    """
    module = model.model if isinstance(model, CausalLM) else model
    if not isinstance(module, nn.Module):
        raise DataError(f"{type(module).__name__} is no torch module, so it has no parameters that could be trained.")
    parameters = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    if not parameters:
        raise DataError(
            f"no parameter of this {type(module).__name__} is trainable. Call model.requires_grad_(True), or thaw "
            "those that are meant."
        )
    return module, parameters


def measured(rows: Sequence[Row], vocabulary: int) -> tuple[Row, ...]:
    """The rows under the one role `ROLE`, if they can be measured together.

    Raises:
        DataError: no rows, or an id that occurs twice.
        VocabularyError: tokens that the model does not have.
    """
    renamed = as_role(rows, ROLE)
    check_data({ROLE: renamed})
    check_vocabulary(renamed, vocabulary)
    return renamed


def gradient_norm(
    model: Model | PreTrainedModel | PeftModel,
    rows: Sequence[Row],
    *,
    p: float = 2,
    drop_last: bool = True,
    collate: Collate = collate_text,
) -> Score:
    """Mean `mean_norm` over examples. Higher: the model knows less of them.

    A backward pass per example. The membership attack compares `per_example` of two such scores.

    Args:
        model: what is attacked; its trainable parameters count, except those without any gradient.
        rows: whose answers are scored; one without a scored token is left out.
        p: of the norm: 1, 2 or math.inf.
        drop_last: whether the last supervised token of each answer is left out.
        collate: see `observe`.

    Raises:
        DataError: a norm that there is not, no rows, two of one id, or a model without trainable parameters.
        VocabularyError: tokens that the model does not have.
    """
    if p not in (1, 2, math.inf):
        raise DataError(f"p is {p}; it has to be 1, 2 or math.inf.")
    wrapped = as_model(model)
    module, parameters = trainable(wrapped)
    tokens = Tokens(LabelLogProb(), ROLE)
    norms = {}
    with torch.enable_grad(), no_dropout(module):
        for row in measured(rows, wrapped.vocabulary):
            flat = observe({"model": wrapped}, [row], frozenset({tokens}), collate=collate)[tokens]
            log_probs = (without_last(flat) if drop_last else flat).values
            if not len(log_probs):
                norms[row.id] = math.nan
                continue
            gradients: Sequence[Tensor | None] = torch.autograd.grad(
                -log_probs.mean(), list(parameters.values()), allow_unused=True
            )
            norms[row.id] = mean_norm([gradient for gradient in gradients if gradient is not None], p=p)
    return Score.mean(norms, "forgetting")
