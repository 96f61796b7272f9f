"""Models on disk: Hugging Face folders of safetensors, written atomically, readable by plain transformers.

No pickle, no remote code, no network unless asked.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel, PreTrainedTokenizerBase

from unlearnkit.errors import CheckpointError
from unlearnkit.models.causal import CausalLM
from unlearnkit.parallel import Single, Strategy

RECORD = "unlearnkit_run.json"
"""Name of the run record inside a model's folder."""


def check_output(folder: Path) -> None:
    """Refuse a folder that holds anything, before work is done.

    Raises:
        CheckpointError: names the folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"the output folder {folder} is not empty. Name another one, or empty it first.")


def save_model(
    folder: Path,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    record: Mapping[str, object] | None = None,
    strategy: Strategy = Single(),
) -> None:
    """Write weights, configuration, tokenizer and run record; the folder appears complete or not at all.

    Args:
        folder: new or empty.
        model: a model of transformers or PEFT (its adapter is written, then).
        tokenizer: written beside it.
        record: written beside it too, as JSON.
        strategy: under which the model was trained. Every process calls this; the first one writes.

    Raises:
        CheckpointError: the folder is not empty, or the model cannot write itself.
    """
    check_output(folder)
    strategy.gather(None)  # nobody writes before all have looked
    if savable(model) is None:
        raise CheckpointError(
            f"{type(model).__name__} has no save_pretrained: only models of transformers and PEFT are written as folders. "
            "Save its state_dict() with safetensors."
        )
    weights = strategy.weights(inside(model))
    if strategy.rank == 0:
        _write(folder, model, weights, tokenizer, record)
    strategy.gather(None)  # nobody goes on before it is there


def _write(
    folder: Path,
    model: nn.Module,
    weights: Mapping[str, Tensor],
    tokenizer: PreTrainedTokenizerBase | None,
    record: Mapping[str, object] | None,
) -> None:
    saved = savable(model)
    assert saved is not None
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        saved(str(partial), state_dict=dict(weights))
        _say_dtype(partial / "config.json", weights)
        if tokenizer is not None:
            tokenizer.save_pretrained(str(partial))
        if record is not None:
            (partial / RECORD).write_text(json.dumps(record, indent=1))
        if folder.exists():
            folder.rmdir()
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def inside(model: nn.Module) -> nn.Module:
    """The model that is written: of the library's wrapper, the one inside."""
    return model.model if isinstance(model, CausalLM) else model


def savable(model: nn.Module) -> Callable[..., object] | None:
    """The method by which a model writes itself, if it has one."""
    method: object = getattr(inside(model), "save_pretrained", None)
    return method if callable(method) else None


def save_named(
    folder: Path,
    model: nn.Module,
    strategy: Strategy,
    types: Mapping[str, torch.dtype],
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> None:
    """`save_model` in the place of what was there before; weights rounded to `types`, by name, where it names them."""
    fresh = folder.with_name(folder.name + ".new")
    weights = strategy.weights(inside(model))
    if strategy.rank == 0:
        shutil.rmtree(fresh, ignore_errors=True)
        rounded = {name: tensor.to(types.get(name, tensor.dtype)) for name, tensor in weights.items()}
        _write(fresh, model, rounded, tokenizer, None)
        old = folder.with_name(folder.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    strategy.gather(None)


def _say_dtype(config: Path, weights: Mapping[str, Tensor]) -> None:
    """transformers loads a model in the type its configuration names: that of the weights, not of their masters."""
    types = {tensor.dtype for tensor in weights.values() if tensor.is_floating_point()}
    if config.is_file() and len(types) == 1:
        content = json.loads(config.read_text())
        if "dtype" in content:
            content["dtype"] = str(types.pop()).removeprefix("torch.")
            config.write_text(json.dumps(content, indent=2) + "\n")


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
