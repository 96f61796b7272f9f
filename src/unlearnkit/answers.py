"""Finished passes of an evaluation on disk, so that one that was interrupted goes on where it stopped.

An answer is kept by what it depends on: weights, configuration and adapters of the models, rows and how they are
collated, the need with all its numbers, for text the tokenizer and the end tokens, and the versions of the packages.
What cannot be told apart this way (a model of a class of its own, hooks on a module, a function without a name) is
refused, so that nothing is served for anything else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import attrs
from attrs import frozen
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from unlearnkit.batch import Collate, Row
from unlearnkit.errors import NeedError
from unlearnkit.models.causal import CausalLM
from unlearnkit.protocols import Continuations, Flat, Generated, Model, TokenNeed
from unlearnkit.recording import Recording, digest, fingerprint

FORMAT = "unlearnkit-answers-1"


def identity(name: str, model: Model | Recording, weights: Mapping[str, Tensor]) -> str:
    """A digest of what a model's answers depend on: its weights (all of them, as a state dict) and its settings.

    Raises:
        NeedError: a model whose settings are not known here: a decode-time method, one of your own, one with hooks.
    """
    if isinstance(model, Recording):
        recorded = {repr(entry): fingerprint(values) for entry, values in model.values.items()}
        return _digest([model.model, sorted(recorded.items())])
    if type(model) is not CausalLM:
        raise NeedError(
            f"resume=... knows models by their weights and settings, and the settings of {name!r}, a "
            f"{type(model).__name__}, are not known. Evaluate it without resume."
        )
    inner = model.model
    if hooked := [place for place, module in inner.named_modules() if _has_hooks(module)]:
        raise NeedError(
            f"resume=... knows models by their weights and settings, but module {hooked[0]!r} of {name!r} has hooks that "
            "may change what it computes. Remove them, or evaluate without resume."
        )
    attention = getattr(inner.config, "_attn_implementation", "")
    return _digest([fingerprint(weights), inner.config.to_json_string(), str(attention), _adapters(inner)])


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _adapters(model: nn.Module) -> list[list[str]]:
    """What PEFT's layers have switched on, and how strongly."""
    switches = ("active_adapters", "disable_adapters", "merged_adapters", "scaling")
    return [
        [place, *(str(getattr(module, switch, "")) for switch in switches)]
        for place, module in model.named_modules()
        if any(hasattr(module, switch) for switch in switches)
    ]


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def name_of(function: Collate) -> str:
    """What a collating function is known by.

    Raises:
        NeedError: it was made on the spot, so that its name says nothing.
    """
    named = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '<none>')}"
    if "<" in named:
        raise NeedError(f"resume=... knows functions by their names, and {named} has none. Define it in a module.")
    return named


@frozen
class Answers:
    """Answers of finished passes in a folder.

    Attributes:
        folder: where they are; made when the first pass is done.
        identities: digest of each model by name, see `identity`.
        collate: name of the function that collates rows.
        language: digest of what turns ids into text: tokenizer, and the end tokens of each model.
    """

    folder: Path
    identities: Mapping[str, str]
    collate: str
    language: str

    def flat(self, need: TokenNeed, rows: Sequence[Row]) -> Flat | None:
        """The answer to a token need over these rows, if it is there; None if it is not, or its file is torn."""
        try:
            with safe_open(self._path(need, rows), framework="pt") as file:
                return Flat(file.get_tensor("values"), file.get_tensor("row"), len(rows))
        except (SafetensorError, FileNotFoundError):
            return None

    def keep_flat(self, need: TokenNeed, rows: Sequence[Row], answer: Flat) -> None:
        """Write an answer, whole or not at all."""
        path = self._made(need, rows)
        partial = path.with_name(path.name + ".partial")
        tensors = {"values": answer.values.contiguous(), "row": answer.row.contiguous()}
        save_file(tensors, partial, metadata={"format": FORMAT})
        partial.replace(path)

    def continuations(self, need: Generated, rows: Sequence[Row]) -> Continuations | None:
        """What was generated for these rows, if it is there; None if it is not, or its file is torn."""
        try:
            content = json.loads(self._path(need, rows).read_text(encoding="utf-8"))
            found = Continuations(
                tuple(content["texts"]),
                tuple(content["references"]),
                tuple(map(tuple, content["samples"])),
                tuple(tuple(map(tuple, of_row)) for of_row in content["tokens"]),
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return found if len(found.texts) == len(rows) else None

    def keep_continuations(self, need: Generated, rows: Sequence[Row], written: Continuations) -> None:
        """Write what was generated, whole or not at all."""
        path = self._made(need, rows)
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(attrs.asdict(written)), encoding="utf-8")
        partial.replace(path)

    def check(self, need: TokenNeed | Generated) -> None:
        """Refuse a need whose numbers cannot be read off it.

        Raises:
            NeedError: names the need.
        """
        if " at 0x" in _content(need):
            raise NeedError(
                f"resume=... knows needs by their numbers, and {need} does not show them. Make its statistic a frozen "
                "attrs class, or evaluate without resume."
            )

    def _made(self, need: TokenNeed | Generated, rows: Sequence[Row]) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self._path(need, rows)

    def _path(self, need: TokenNeed | Generated, rows: Sequence[Row]) -> Path:
        models = sorted((name, self.identities.get(name, "")) for name in {need.of, "model"})
        packages = {package: version(package) for package in ("unlearnkit", "torch", "transformers")}
        reading = self.language if isinstance(need, Generated) else self.collate
        content = hashlib.sha256(json.dumps([FORMAT, models, packages, reading, _content(need)]).encode())
        for row in rows:
            content.update(f"{row.id}\x1f{row.group}\x1f{digest(row)}\n".encode())
        kind = "json" if isinstance(need, Generated) else "safetensors"
        role = "".join(letter if letter.isalnum() else "_" for letter in need.role)
        return self.folder / f"{role}-{content.hexdigest()[:32]}.{kind}"


def _content(value: object) -> str:
    """A need or statistic with its module, class and all fields, those hidden from its repr too."""
    kind: type = type(value)
    named = f"{kind.__module__}.{kind.__qualname__}"
    if attrs.has(kind):
        fields = (f"{field.name}={_content(getattr(value, field.name))}" for field in attrs.fields(kind))
        return f"{named}({', '.join(fields)})"
    return f"{named} {value!r}"
