"""The fictitious world as the scripts beside this file use it: smaller than the experiment's, and two numbers of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from unlearnkit.batch import Row
from unlearnkit.experiment import Settings, Stage, build_stage
from unlearnkit.models.causal import as_model
from unlearnkit.observe import observe
from unlearnkit.oracle import cache_folder
from unlearnkit.protocols import Tokens
from unlearnkit.statistics import LabelLogProb


def stage_of(settings: Settings) -> Stage:
    """Data, original and oracle, trained or from disk."""
    disable_progress_bar()  # transformers' own, in the middle of the table
    return build_stage(settings, cache=cache_folder())


class ForgottenError(Exception):
    """Ends a run of unlearning in which little enough is told.

    Attributes:
        model: as it then was, in evaluation mode.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__("little enough is told")
        model.eval()
        self.model = model


def stop_once_forgotten(
    told: Callable[[PreTrainedModel], float], *, most: float = 0.1, every: int = 5
) -> Callable[[int, PreTrainedModel], None]:
    """To be called after each step, counted from 1: raises ForgottenError when a model tells no more than `most`."""

    def look(step: int, model: PreTrainedModel) -> None:
        if step % every == 0 and told(model) <= most:
            raise ForgottenError(model)

    return look


def answer_probability(model: PreTrainedModel, rows: Sequence[Row]) -> float:
    """TOFU's probability: exp of the mean log-prob of an answer's tokens, averaged over the rows of one role."""
    need = Tokens(LabelLogProb(), rows[0].role)
    with torch.no_grad():
        flat = observe({"model": as_model(model)}, rows, frozenset({need}))[need]
    return float((flat.sums() / flat.counts()).exp().mean())


def probabilities(model: PreTrainedModel, rows: Mapping[str, Sequence[Row]]) -> dict[str, float]:
    """`answer_probability` on "forget" and "retain"."""
    return {role: answer_probability(model, rows[role]) for role in ("forget", "retain")}
