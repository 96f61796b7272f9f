"""The retrained oracle: a model taught everything but the forget set, the same way as the original was.

Most questions about an unlearned model are questions about its distance from this one, and most users lack it: here it is
trained once, kept on disk by a hash of all it was made from, and its answers recorded beside it. Both are found again
whenever the same is asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch
from attrs import asdict, evolve, field, frozen
from attrs.validators import ge, gt, in_, le
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from unlearnkit.batch import Row, all_rows
from unlearnkit.checkpoint import load_model, save_model
from unlearnkit.errors import CheckpointError, DataError, RecordingError
from unlearnkit.evaluate import record
from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.parallel import Single, Strategy
from unlearnkit.protocols import Dataset, Needs, Tokens, asked_of_models
from unlearnkit.provenance import data_hash, tokenizer_hash
from unlearnkit.recording import Recording, fingerprint
from unlearnkit.train import Step, unlearn

VERSION = 1
"""Counted up when the way models are trained here changes, so that those on disk are made again."""


@frozen(kw_only=True)
class Training:
    """How a model is fine-tuned on answers: alike for an original and its oracle. The defaults are TOFU's.

    Attributes:
        epochs: passes over the rows.
        batch_size: rows per step.
        learning_rate: the highest, of AdamW; reached after the first `warmup` share of all steps.
        warmup: share of the steps.
        schedule: how the rate falls to 0 afterwards.
        weight_decay, betas: of AdamW.
        clip: largest gradient norm.
        max_tokens: padded tokens per micro-batch: memory, not results.
        seed: of the order.
    """

    epochs: int = field(default=5, validator=ge(1))
    batch_size: int = field(default=32, validator=ge(1))
    learning_rate: float = field(default=1e-5, validator=gt(0))
    warmup: float = field(default=0.2, validator=[ge(0), le(1)])
    schedule: Literal["linear", "cosine"] = field(default="linear", validator=in_(("linear", "cosine")))
    weight_decay: float = field(default=0.01, validator=ge(0))
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = field(default=1.0, validator=gt(0))
    max_tokens: int = field(default=8192, validator=ge(1))
    seed: int = 0

    def steps(self, rows: int) -> int:
        """Optimizer steps over that many rows."""
        return self.epochs * -(-rows // self.batch_size)


def cache_folder() -> Path:
    """Where trained models are kept: `UNLEARNKIT_CACHE`, or `unlearnkit` in the user's cache folder."""
    if given := os.environ.get("UNLEARNKIT_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "unlearnkit"


def _silent(_: Step) -> None:
    pass


def fine_tuned(
    start: PreTrainedModel,
    data: Dataset[Row],
    training: Training,
    *,
    tokenizer: PreTrainedTokenizerBase,
    cache: Path,
    strategy: Strategy = Single(),
    on_step: Callable[[Step], None] = _silent,
) -> PreTrainedModel:
    """A copy on disk of `start`, taught these rows, loaded from there in evaluation mode; trained unless it is there.

    The folder's name is a hash of the start's weights and configuration, of rows, tokenizer and training, and of the
    versions of the packages that matter. Call it with all rows for the original, with the retain rows for its oracle.

    Args:
        start: what training starts from, a pretrained model say. It is trained itself: load it anew if it is needed.
        data: question-answer or text rows of any role.
        training: how.
        tokenizer: what made the rows; saved beside the model.
        cache: folder that holds such folders; `cache_folder()` is the user's.
        strategy: of several processes, all of which call this and see the folder.
        on_step: called after each step.

    Raises:
        DataError: no rows.
    """
    rows = all_rows(data)
    if not rows:
        raise DataError("there are no rows to train on.")
    made_with = {package: version(package) for package in ("unlearnkit", "torch", "transformers")}
    ingredients = [
        *(VERSION, fingerprint(start), start.config.to_json_string(), asdict(training)),
        *(data_hash(rows), tokenizer_hash(tokenizer), made_with),
    ]
    name = hashlib.sha256(json.dumps(ingredients, default=str).encode()).hexdigest()[:24]
    folder = cache / "fine-tuned" / strategy.gather(name)[0]
    if (found := _from_disk(folder, strategy)) is not None:
        return found
    optimizer = torch.optim.AdamW(
        start.parameters(), lr=training.learning_rate, betas=training.betas, weight_decay=training.weight_decay
    )
    steps = training.steps(len(rows))
    falling = get_cosine_schedule_with_warmup if training.schedule == "cosine" else get_linear_schedule_with_warmup
    role = "train"
    unlearn(
        start,
        CrossEntropy(role),
        {role: [evolve(row, role=role) for row in rows]},
        optimizer=optimizer,
        scheduler=falling(optimizer, round(steps * training.warmup), steps),
        steps=steps,
        batch_size=training.batch_size,
        max_tokens=training.max_tokens,
        clip=training.clip,
        seed=training.seed,
        strategy=strategy,
        on_step=on_step,
    )
    save_model(folder, start, tokenizer, strategy=strategy)
    made = _from_disk(folder, strategy)
    assert made is not None, folder
    return made


def _from_disk(folder: Path, strategy: Strategy) -> PreTrainedModel | None:
    """A model kept there; None, and no folder, if there is none that can be used."""
    if not strategy.gather(folder.is_dir())[0]:
        return None
    model, broken = None, ""
    try:
        model, _ = load_model(folder)
        model.eval()
    except (CheckpointError, OSError, ValueError) as error:  # weights, or tokenizer and configuration
        broken = str(error)
    reports = strategy.gather(broken)
    if not any(reports):
        return model
    if strategy.rank == 0:
        warnings.warn(f"a trained model on disk is not usable and is made again: {max(reports)}", stacklevel=3)
        shutil.rmtree(folder)
    strategy.gather(None)
    return None


def oracle_log(
    oracle: PreTrainedModel,
    needs: Needs,
    data: Mapping[str, Dataset[Row]],
    *,
    cache: Path,
    of: str = "oracle",
    max_tokens: int = 8192,
    strategy: Strategy = Single(),
) -> Recording:
    """The oracle's per-token answers to what metrics need of it, kept by fingerprint; recorded unless they are there.

        log = oracle_log(oracle, all_needs(metrics.values()), data, cache=cache_folder())
        evaluate({"model": unlearned, "oracle": log}, metrics, data, ...)

    Needs of roles that `data` lacks are left out, as `evaluate` leaves out the metrics that have them.

    Args:
        oracle: the retrained model.
        needs: of all metrics; those that name `of` are recorded.
        data: rows by role.
        cache: folder for such logs; `cache_folder()` is the user's.
        of: the name by which metrics call it.
        max_tokens: padded tokens per batch.
        strategy: of several processes, all of which call this and see the folder. Not the one that trained: that one
            has sharded another model.
    """
    path = oracle_log_path(oracle, needs, data, cache=cache, of=of)
    if all(strategy.gather(path.is_file())):
        try:
            return Recording.load(path)
        except RecordingError as broken:
            warnings.warn(f"a log on disk is not usable and is made again: {broken}", stacklevel=2)
    recording = record(oracle, _recorded(needs, data, of), data, of=of, max_tokens=max_tokens, strategy=strategy)
    if strategy.rank == 0:
        recording.save(path)
    strategy.gather(None)
    return recording


def oracle_log_path(
    oracle: PreTrainedModel, needs: Needs, data: Mapping[str, Dataset[Row]], *, cache: Path, of: str = "oracle"
) -> Path:
    """Where `oracle_log` keeps its log. Ask before: a strategy may hold the weights in another type afterwards."""
    wanted = _recorded(needs, data, of)
    content = hashlib.sha256(fingerprint(oracle).encode())
    content.update(oracle.config.to_json_string().encode())
    content.update(repr([version(package) for package in ("unlearnkit", "torch", "transformers")]).encode())
    content.update("\n".join(sorted(map(repr, wanted))).encode())
    for role in sorted({need.role for need in wanted}):
        content.update(data_hash(all_rows(data[role])).encode())
    return cache / "logs" / f"{content.hexdigest()[:24]}.safetensors"


def _recorded(needs: Needs, data: Mapping[str, Dataset[Row]], of: str) -> Needs:
    """What a log of that model can hold."""
    return frozenset(
        need for need in asked_of_models(needs) if isinstance(need, Tokens) and need.of == of and need.role in data
    )
