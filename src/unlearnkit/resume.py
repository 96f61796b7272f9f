"""Checkpoints of a run: written atomically, recognised when torn, read again on any number of ranks.

    folder/
        step-00000040/   the state of the run after 40 steps: tensors as safetensors, each rank its own part,
        step-00000060/   and manifest.json with everything else and the checksum of each file
        best/            the model that scored best so far, as a Hugging Face folder (if the run is evaluated)
        last/            the model at the end, likewise

A state is written beside its name, flushed to the disk, and renamed: it is there whole or not at all. What a crash of the
machine leaves half-written all the same is known by its checksums and passed over. No pickle.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import attrs
import torch
from attrs import field, frozen
from attrs.validators import ge
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from transformers import PreTrainedTokenizerBase

from unlearnkit.errors import CheckpointError, UnlearningWarning
from unlearnkit.parallel import Strategy

FORMAT = "unlearnkit-state-1"
MANIFEST = "manifest.json"

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]
"""What JSON can say."""


@frozen(kw_only=True)
class Checkpoints:
    """Where and how often a run saves its state.

    Attributes:
        folder: of this run alone. A run that finds its own states in it goes on from the newest.
        every: steps between two states.
        keep: how many states are kept.
        tokenizer: written beside the models "best" and "last".
    """

    folder: Path = field(converter=Path)
    every: int = field(default=100, validator=ge(1))
    keep: int = field(default=2, validator=ge(1))
    tokenizer: PreTrainedTokenizerBase | None = field(default=None, repr=False, eq=False)

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def states(self) -> list[Path]:
        """All states, newest first, torn ones included."""
        if not self.folder.is_dir():
            return []
        return sorted((path for path in self.folder.iterdir() if re.fullmatch(r"step-\d{8}", path.name)), reverse=True)


@frozen
class State:
    """A state on disk: what is not a tensor, and where the tensors are."""

    path: Path
    step: int
    content: Mapping[str, Plain]


def write(
    checkpoints: Checkpoints, step: int, tensors: Mapping[str, Tensor], content: Mapping[str, Plain], strategy: Strategy
) -> Path:
    """Save a state; every rank calls this, on a folder they all see.

    Raises:
        CheckpointError: the disk is full or cannot be written to; states written before are intact.
    """
    path = checkpoints.path(step)
    partial = path.with_name(path.name + ".partial")
    _together(strategy, checkpoints, lambda: _empty(partial) if strategy.rank == 0 else None)
    writer = HuggingFaceStorageWriter(str(partial), save_distributed=True)

    def put() -> None:
        with _one_process_is_fine():
            save(dict(tensors), storage_writer=writer, no_dist=strategy.size == 1)

    _together(strategy, checkpoints, put)
    mine = [file for number, file in enumerate(sorted(partial.iterdir())) if number % strategy.size == strategy.rank]
    checksums: dict[str, Plain] = {}
    for part in strategy.gather({file.name: _checksum(file) for file in mine}):
        checksums.update(part)

    def finish() -> None:
        if strategy.rank == 0:
            body: dict[str, Plain] = {"format": FORMAT, "step": step, "files": checksums, "content": dict(content)}
            written = json.dumps({"checksum": _digest(body), "body": body})
            (partial / MANIFEST).write_text(written)
            for file in partial.iterdir():
                _flush(file)
            _flush(partial)
            shutil.rmtree(path, ignore_errors=True)
            partial.rename(path)
            _flush(path.parent)
            for old in checkpoints.states()[checkpoints.keep :]:
                shutil.rmtree(old, ignore_errors=True)

    _together(strategy, checkpoints, finish)
    return path


def newest(checkpoints: Checkpoints, strategy: Strategy) -> State | None:
    """The newest state that is whole; every rank gets the same.

    Warns:
        UnlearningWarning: a state is torn and passed over.
    """
    found: State | None = None
    if strategy.rank == 0:
        for path in checkpoints.states():
            try:
                found = _read(path)
                break
            except (OSError, ValueError, KeyError, TypeError) as torn:
                warnings.warn(
                    f"the checkpoint {path} is torn and passed over: {torn}.", UnlearningWarning, stacklevel=3
                )
    return strategy.gather(found)[0]


def load_tensors(state: State, into: Mapping[str, Tensor], strategy: Strategy) -> None:
    """Fill these tensors, sharded as they are, with the saved ones of the same names; every rank calls this."""
    reader = HuggingFaceStorageReader(str(state.path))
    into = {name: tensor.detach() for name, tensor in into.items()}
    with _one_process_is_fine():
        load(into, storage_reader=reader, no_dist=strategy.size == 1)


@contextmanager
def _one_process_is_fine() -> Iterator[None]:
    """torch warns those who save without a process group that they do."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
        yield


def _together(strategy: Strategy, checkpoints: Checkpoints, work: Callable[[], object]) -> None:
    """Do this on every rank; if it fails on one, fail on all."""
    failure = ""
    try:
        work()
    except (Exception, CheckpointException) as error:  # torch's derives from BaseException
        failure = f"{type(error).__name__}: {_first_cause(error)}"
    failures = [(rank, text) for rank, text in enumerate(strategy.gather(failure)) if text]
    if failures:
        rank, text = failures[0]
        intact = next((path.name for path in checkpoints.states()), "none")
        for path in checkpoints.folder.glob("*.partial") if strategy.rank == 0 else ():
            shutil.rmtree(path, ignore_errors=True)
        raise CheckpointError(
            f"the state could not be saved to {checkpoints.folder} ({text.strip()}"
            + (f", on rank {rank}" if strategy.size > 1 else "")
            + f"). The last intact checkpoint is {intact}. Make room there, or name another folder, and run again: "
            "the run goes on from it."
        )


def _first_cause(error: BaseException) -> str:
    """torch wraps what a rank met in errors of its own, several pages long: the innermost, in one line."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    inner = [line for line in lines if re.match(r"\s*(OSError|IOError|RuntimeError|safetensors|\w*Error)", line)]
    return (inner or lines or [""])[-1][:300]


def _empty(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def _read(path: Path) -> State:
    manifest = json.loads((path / MANIFEST).read_text())
    body = manifest["body"]
    if manifest["checksum"] != _digest(body) or body["format"] != FORMAT:
        raise ValueError(f"its {MANIFEST} was changed or belongs to another version")
    for name, checksum in body["files"].items():
        if not (path / name).is_file():
            raise ValueError(f"{name} is missing")
        if _checksum(path / name) != checksum:
            raise ValueError(f"{name} is not what was written")
    return State(path, body["step"], body["content"])


def _checksum(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "blake2b").hexdigest()[:32]


def _digest(body: object) -> str:
    return hashlib.blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=16).hexdigest()


def _flush(path: Path) -> None:
    """Down to the disk; for a folder, its list of names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- what is not a tensor ---------------------------------------------------------------------------------------------


def taken_apart(value: object, name: str, tensors: dict[str, Tensor]) -> Plain:
    """A nest of dicts, lists, tuples, numbers, texts and tensors as JSON; tensors go to `tensors`, under names.

    Raises:
        CheckpointError: there is something else in it.
    """
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Tensor():
            tensors[name] = value
            kind = str(value.dtype).removeprefix("torch.")
            return {"tensor": name, "dtype": kind, "shape": list(value.shape), "cpu": value.device.type == "cpu"}
        case list():
            return [taken_apart(item, f"{name}.{number}", tensors) for number, item in enumerate(value)]
        case tuple():
            items = [taken_apart(item, f"{name}.{number}", tensors) for number, item in enumerate(value)]
            return {"tuple": list(items)}
        case dict():  # keys can be numbers: as a list of pairs
            return {
                "dict": [
                    [taken_apart(key, name, tensors), taken_apart(item, f"{name}.{key}", tensors)]
                    for key, item in value.items()
                ]
            }
    raise CheckpointError(
        f"{name} is {value!r}, of type {type(value).__name__}, and cannot be saved: state is made of numbers, texts, "
        "tensors, lists, tuples and dicts. Keep it out of the state, or run without checkpoints."
    )


def put_together(plain: Plain, tensors: Mapping[str, Tensor]) -> object:
    """The inverse of `taken_apart`."""
    match plain:
        case list():
            return [put_together(item, tensors) for item in plain]
        case {"tensor": str(name)}:
            return tensors[name]
        case {"tuple": list(items)}:
            return tuple(put_together(item, tensors) for item in items)
        case {"dict": list(pairs)}:
            return {
                put_together(key, tensors): put_together(item, tensors)
                for key, item in (pair for pair in pairs if isinstance(pair, list))
            }
    return plain


def room_for(plain: Plain, device: torch.device, *, like: Tensor | None = None) -> dict[str, Tensor]:
    """Empty tensors, by name, for what `taken_apart` took out; those of the shape of `like` are sharded as it is."""
    found: dict[str, Tensor] = {}
    match plain:
        case list():
            for item in plain:
                found |= room_for(item, device, like=like)
        case {"tensor": str(name), "dtype": str(kind), "shape": list(shape), "cpu": bool(cpu)}:
            size = [int(str(length)) for length in shape]
            dtype: torch.dtype = getattr(torch, kind)
            if like is not None and size == list(like.shape):
                found[name] = torch.empty_like(like, dtype=dtype, requires_grad=False)
            else:
                found[name] = torch.empty(size, dtype=dtype, device="cpu" if cpu else device)
        case dict():
            for item in plain.values():
                found |= room_for(item, device, like=like)
    return found


def fields_of(value: object) -> object:
    """What can change about an objective between steps: numbers, texts and tensors in its attrs fields, nested."""
    kind = type(value)
    if attrs.has(kind):
        return {each.name: fields_of(getattr(value, each.name)) for each in attrs.fields(kind)}
    match value:
        case None | bool() | int() | float() | str() | Tensor():
            return value
        case tuple() | list():
            return [fields_of(item) for item in value]
    return {}  # a function, a set of needs: as it was constructed


def described(value: object) -> str:
    """An objective, or a setting, in words that are the same in every process: no addresses, sets in order."""
    kind = type(value)
    if attrs.has(kind):
        inside = ", ".join(f"{each.name}={described(getattr(value, each.name))}" for each in attrs.fields(kind))
        return f"{kind.__qualname__}({inside})"
    match value:
        case None | bool() | int() | float() | str():
            return repr(value)
        case Tensor():
            return f"tensor {hashlib.sha256(str(value.tolist()).encode()).hexdigest()[:16]}"
        case tuple() | list():
            return f"({', '.join(map(described, value))})"
        case partial():
            return f"partial({described(value.func)}, {described(value.args)}, {described(value.keywords)})"
        case frozenset() | set():
            return f"{{{', '.join(sorted(map(described, value)))}}}"
        case dict():
            return f"{{{', '.join(f'{key}: {described(item)}' for key, item in value.items())}}}"
    return str(getattr(value, "__qualname__", kind.__qualname__))


def with_fields(value: object, fields: object) -> object:
    """The same objective with these fields: the inverse of `fields_of`."""
    kind = type(value)
    if attrs.has(kind) and isinstance(fields, Mapping):
        changed = {
            each.alias: with_fields(getattr(value, each.name), fields[each.name])
            for each in attrs.fields(kind)
            if each.init
        }
        return kind(**changed)
    if isinstance(value, tuple | list) and isinstance(fields, Sequence):
        if len(value) != len(fields):
            return type(value)(fields)
        return type(value)(with_fields(item, part) for item, part in zip(value, fields, strict=True))
    return value if isinstance(fields, Mapping) else fields
