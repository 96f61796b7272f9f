r"""Selective gradient ascent (SGA): each epoch unlearns only the sequences that are still memorised.

    MA_i = share of the answer tokens of i that are the model's most likely one, given the true answer so far
    an epoch's rows: those with MA_i > threshold; if they are fewer than at_least, the at_least most memorised

An epoch is one pass of gradient ascent over its rows. It ends as soon as the mean MA is at most `mean_threshold` and no
MA is above `threshold`; when no row is left to unlearn; or after so many epochs. Both thresholds come from texts of the
same kind that the model never saw:

    unseen = memorisation(model, unseen_rows).values()
    found = selective_ascent(
        model, {"forget": rows}, optimizer=optimizer, mean_threshold=mean(unseen), threshold=mean(unseen) + stdev(unseen)
    )

With a threshold below 0 it is plain gradient ascent, with one of 1 or more (and at_least=0) nothing is done. A sequence
below the threshold is not touched in that epoch. Sequences count by their own memorisation, not by the mean of the set:
a mean can be low while single texts are known by heart.

Paper: Barbulescu, Triantafillou. To Each (Textual Sequence) Its Own: Improving Memorized-Data Unlearning in Large
Language Models. ICML 2024, arXiv:2405.03097.

Checked: laws only; no code was to be had.

Reconstructed: the paper's is the principle. Ours are memorisation accuracy as the score, the thresholds, the twentieth
of the set that is unlearned at least, and that a model which has already forgotten is left as it is.

Deviations: none that could be known.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Literal

from attrs import frozen
from torch.optim import Optimizer
from transformers import PreTrainedModel

from unlearnkit.batch import Collate, Row, all_rows, collate_text
from unlearnkit.draws import keyed_draw
from unlearnkit.errors import DataError, UnlearningWarning
from unlearnkit.evaluate import gather
from unlearnkit.metrics.memorization import exact_memorization
from unlearnkit.models.causal import as_model
from unlearnkit.models.peft import PeftModel
from unlearnkit.objectives.gradient_ascent import GradientAscent
from unlearnkit.procedures.gradient_norm import ROLE, measured, refuse_half_precision
from unlearnkit.protocols import Dataset, Model, Objective, Tokens
from unlearnkit.recording import Recording
from unlearnkit.statistics import TopHit
from unlearnkit.train import unlearn

Stopped = Literal["forgotten", "nothing active", "epochs"]
"""Why it ended: all thresholds are met, no row is above its own, or the epochs ran out."""


@frozen
class Epoch:
    """One pass of ascent.

    Attributes:
        memorised: MA of each sequence before it, by row id; nan for one without answer tokens.
        active: ids of the rows it unlearned.
    """

    memorised: Mapping[str, float]
    active: tuple[str, ...]


@frozen
class SelectiveAscent:
    """A finished run.

    Attributes:
        epochs: in order.
        memorised: MA of each sequence afterwards, by row id.
        stopped: why it ended.
    """

    epochs: tuple[Epoch, ...]
    memorised: Mapping[str, float]
    stopped: Stopped


def memorisation(
    model: Model | PreTrainedModel | PeftModel,
    rows: Sequence[Row],
    *,
    max_tokens: int = 8192,
    collate: Collate = collate_text,
) -> dict[str, float]:
    """MA of each row, by id, over all its answer tokens, the last one included; nan for a row without any.

    Raises:
        DataError: no rows, or two of one id.
        VocabularyError: tokens that the model does not have.
    """
    wrapped, hits = as_model(model), Tokens(TopHit(), ROLE)
    data = {ROLE: measured(rows, wrapped.vocabulary)}
    flat = gather({"model": wrapped}, frozenset({hits}), data, max_tokens=max_tokens, collate=collate)[hits]
    each = exact_memorization(flat.values, flat.row, rows=flat.rows)
    return dict(zip((row.id for row in rows), each.tolist(), strict=True))


def still_memorised(memorised: Mapping[str, float], *, threshold: float, at_least: int = 0) -> tuple[str, ...]:
    """Ids above the threshold, or, if they are fewer than `at_least`, so many of the most memorised; the given order.

    Args:
        memorised: MA by id; one that is nan was not measured and is never among them.
        threshold: an MA equal to it counts as forgotten.
        at_least: 0: never more than those above the threshold. Of equals the smaller ids are taken.
    """
    known = {name: value for name, value in memorised.items() if not math.isnan(value)}
    active = {name for name, value in known.items() if value > threshold}
    if len(active) < at_least:
        active = set(sorted(known, key=lambda name: (-known[name], name))[:at_least])
    return tuple(name for name in known if name in active)


def selective_ascent(
    model: Model | PreTrainedModel | PeftModel,
    data: Mapping[str, Dataset[Row]],
    *,
    optimizer: Optimizer,
    threshold: float,
    mean_threshold: float,
    at_least: int | None = None,
    epochs: int = 20,
    objective: Objective = GradientAscent(),  # noqa: B008 (frozen)
    role: str = "forget",
    models: Mapping[str, Model | PreTrainedModel | Recording] | None = None,
    batch_size: int = 8,
    seed: int = 0,
    max_tokens: int = 8192,
    collate: Collate = collate_text,
) -> SelectiveAscent:
    """Unlearn, epoch by epoch, what `still_memorised` names; the optimizer goes on from epoch to epoch.

    Args:
        model: trained in place.
        data: rows by role; of `role` only some rows are used in each epoch, other roles as the objective asks.
        optimizer: over the model's parameters.
        threshold: MA above which a sequence is still memorised.
        mean_threshold: MA that the mean over sequences has to reach.
        at_least: rows of each epoch, at least. Default: a twentieth of them, rounded up.
        epochs: at most.
        objective: what is minimised; with a retain term, if one is added.
        role: whose rows are chosen.
        models: what the objective needs beside the model.
        batch_size, max_tokens, collate: see `unlearn`.
        seed: of the order of rows, which differs from epoch to epoch.

    Raises:
        DataError: no rows of that role, two of one id, a threshold that is nan, a number below 0, or a model in half
            precision, which would be rounded after every epoch.
        whatever `unlearn` raises.
    """
    if math.isnan(threshold) or math.isnan(mean_threshold):
        raise DataError(f"threshold is {threshold} and mean_threshold {mean_threshold}; both have to be numbers.")
    if epochs < 0 or (at_least is not None and at_least < 0):
        raise DataError(f"epochs is {epochs} and at_least {at_least}; neither can be below 0.")
    if role not in data:
        raise DataError(f"there is no data set {role!r} to choose rows of; there are {sorted(data)}.")
    refuse_half_precision(as_model(model))
    rows = all_rows(data[role])
    fewest = math.ceil(len(rows) / 20) if at_least is None else at_least
    done: list[Epoch] = []
    while True:
        memorised = memorisation(model, rows, max_tokens=max_tokens, collate=collate)
        known = [value for value in memorised.values() if not math.isnan(value)]
        if not known or (math.fsum(known) / len(known) <= mean_threshold and max(known) <= threshold):
            return SelectiveAscent(tuple(done), memorised, "forgotten")
        if len(done) == epochs:
            return SelectiveAscent(tuple(done), memorised, "epochs")
        active = still_memorised(memorised, threshold=threshold, at_least=fewest)
        if not active:
            return SelectiveAscent(tuple(done), memorised, "nothing active")
        with warnings.catch_warnings():  # one epoch may move little: whether all of them did is in what is returned
            warnings.filterwarnings("ignore", "the forget loss did not move", UnlearningWarning)
            unlearn(
                model,
                objective,
                {**data, role: [row for row in rows if row.id in active]},
                optimizer=optimizer,
                steps=math.ceil(len(active) / batch_size),
                models=models,
                primary=role,
                batch_size=batch_size,
                seed=keyed_draw(2**31, seed, "selective ascent", len(done)),
                max_tokens=max_tokens,
                collate=collate,
            )
        done.append(Epoch(memorised, active))
