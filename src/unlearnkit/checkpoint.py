"""Models on disk: Hugging Face folders of safetensors, written atomically, readable by plain transformers.

No pickle, no remote code, no network unless asked.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel, PreTrainedTokenizerBase

from unlearnkit.errors import CheckpointError

RECORD = "unlearnkit_run.json"
"""Name of the run record inside a model's folder."""


class _Saves(Protocol):
    def save_pretrained(self, folder: str, /) -> object: ...


def check_output(folder: Path) -> None:
    """Refuse a folder that holds anything, before work is done.

    Raises:
        CheckpointError: names the folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"the output folder {folder} is not empty. Name another one, or empty it first.")


def save_model(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    record: Mapping[str, object] | None = None,
) -> None:
    """Write weights, configuration, tokenizer and run record; the folder appears complete or not at all.

    Raises:
        CheckpointError: the folder is not empty.
    """
    check_output(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    parts: list[_Saves] = [model, *([tokenizer] if tokenizer is not None else [])]
    try:
        for part in parts:
            part.save_pretrained(str(partial))
        if record is not None:
            (partial / RECORD).write_text(json.dumps(record, indent=1))
        if folder.exists():
            folder.rmdir()
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load_model(
    source: str | Path, *, gguf_file: str | None = None, download: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model and its tokenizer, from a folder (or a hub id, if `download` allows the network).

    Args:
        source: a Hugging Face folder, or the id of a model on the hub or in its local cache.
        gguf_file: name of a GGUF file inside the folder, dequantised on loading; needs `unlearnkit[gguf]`.
        download: allow transformers to use the network.

    Raises:
        CheckpointError: no such model, or a weights file that is truncated or foreign; names it.
    """
    folder = Path(source)
    if folder.is_dir():
        for weights in sorted(folder.glob("*.safetensors")):
            check_safetensors(weights)
        if gguf_file is None and not any(folder.glob("*.safetensors")):
            raise CheckpointError(
                f"{folder} holds no safetensors weights (pickled .bin files are not loaded). "
                "Save the model with save_pretrained(), or name its gguf_file."
            )
        if gguf_file is not None and not (folder / gguf_file).is_file():
            raise CheckpointError(
                f"{folder} holds no file {gguf_file!r}; it has {sorted(p.name for p in folder.iterdir())}."
            )
    where: dict[str, str | bool] = {"local_files_only": not download}
    dequantised = {}
    if gguf_file is not None:
        where["gguf_file"] = gguf_file
        dequantised = {"quantization_config": GgufConfig(dequantize=True)}
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(source), **where)
        loaded: object = AutoModelForCausalLM.from_pretrained(
            str(source), **where, **dequantised, use_safetensors=gguf_file is None, output_loading_info=True
        )
    except OSError as missing:
        raise CheckpointError(
            f"no model can be loaded from {source!r}: {str(missing).splitlines()[0]} "
            + ("" if download else "Nothing was downloaded: allow it with download=True (--download).")
        ) from missing
    except (ImportError, ValueError) as unreadable:
        if gguf_file is None:
            raise
        raise CheckpointError(
            f"{folder / gguf_file} cannot be read: {str(unreadable).splitlines()[0]} "
            "GGUF files need more packages: pip install 'unlearnkit[gguf]'."
        ) from unreadable
    assert isinstance(loaded, tuple)
    model, loading = loaded
    if missing_keys := sorted(loading["missing_keys"]):
        raise CheckpointError(
            f"the weights in {source!r} are another model's: {len(missing_keys)} tensors of {type(model).__name__} are not "
            f"among them, {missing_keys[0]} for one. Put the weights beside the config.json they were saved with."
        )
    assert isinstance(model, PreTrainedModel)
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return model, tokenizer


def check_safetensors(path: Path) -> None:
    """Refuse a file that is truncated or of another format.

    Raises:
        CheckpointError: names the file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            file.keys()
    except SafetensorError as broken:
        raise CheckpointError(
            f"{path} is truncated or no safetensors file ({broken}). Copy or download it again."
        ) from broken
