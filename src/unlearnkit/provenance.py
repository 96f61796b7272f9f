"""The run record: what is needed to tell how a model came about."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version

from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from unlearnkit.batch import Row
from unlearnkit.recording import digest, fingerprint

PACKAGES = ("unlearnkit", "torch", "transformers", "tokenizers", "safetensors", "numpy", "scipy", "attrs")


def data_hash(rows: Iterable[Row]) -> str:
    """A digest of rows: ids and content, in order."""
    content = hashlib.sha256()
    for row in rows:
        content.update(f"{row.role}\x1f{row.id}\x1f{row.group}\x1f{digest(row)}\n".encode())
    return content.hexdigest()


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """A digest of vocabulary, special tokens and chat template."""
    content = hashlib.sha256()
    for token, number in sorted(tokenizer.get_vocab().items(), key=lambda item: (item[1], item[0])):
        content.update(f"{number}\x1f{token}\n".encode())
    content.update(repr((sorted(tokenizer.special_tokens_map.items(), key=str), tokenizer.chat_template)).encode())
    return content.hexdigest()


def run_record(
    *,
    settings: Mapping[str, object],
    data: Mapping[str, Iterable[Row]],
    tokenizer: PreTrainedTokenizerBase,
    before: str,
    after: nn.Module | Mapping[str, Tensor],
    wall_seconds: float,
) -> dict[str, object]:
    """Resolved settings, package versions, hashes of data, tokenizer and weights, wall time.

    Args:
        settings: everything the run was asked for, seeds and effective batch included.
        data: rows by role.
        tokenizer: what made them.
        before: fingerprint of the model before the run.
        after: the model now, or its state dict: `strategy.weights(model)` of one that is sharded.
        wall_seconds: duration of the run.
    """
    return {
        "settings": dict(settings),
        "packages": {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "hashes": {
            "data": {role: data_hash(rows) for role, rows in data.items()},
            "tokenizer": tokenizer_hash(tokenizer),
            "weights_before": before,
            "weights_after": fingerprint(after),
        },
        "wall_seconds": round(wall_seconds, 2),
    }
