"""Finished passes of an evaluation on disk, so that one that was interrupted goes on where it stopped.

A pass is known by everything its answers depend on: the weights of the models it ran, the rows, and the needs. Anything
else by that name is another pass, which is done anew; nothing is ever served for another model or other data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import frozen
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from unlearnkit.batch import Row
from unlearnkit.errors import NeedError
from unlearnkit.models.causal import CausalLM
from unlearnkit.protocols import Continuations, Flat, Generated, Model, TokenNeed
from unlearnkit.recording import Recording, digest, fingerprint

FORMAT = "unlearnkit-answers-1"


def identity(name: str, model: Model | Recording, weights: Mapping[str, Tensor]) -> str:
    """A digest of what a model's answers depend on: its weights (all of them, as a state dict) and its settings.

    Raises:
        NeedError: a model whose settings are not known here (a decode-time method, a model of your own).
    """
    content = hashlib.sha256()
    if isinstance(model, Recording):
        content.update(model.model.encode())
        for entry, values in model.values.items():
            content.update(repr(entry).encode())
            content.update(fingerprint(values).encode())
        return content.hexdigest()
    inner = model.model if isinstance(model, CausalLM) else None
    if inner is None or not isinstance(model, CausalLM):
        raise NeedError(
            f"resume=... knows models by their weights and settings, and the settings of {name!r}, a "
            f"{type(model).__name__}, are not known. Evaluate it without resume."
        )
    content.update(fingerprint(weights).encode())
    content.update(inner.config.to_json_string().encode())
    content.update(repr([str(getattr(module, "scaling", "")) for module in inner.modules()]).encode())  # of adapters
    return content.hexdigest()


@frozen
class Answers:
    """Answers of finished passes in a folder.

    Attributes:
        folder: where they are; made when the first pass is done.
        identities: digest of each model by name, see `identity`.
    """

    folder: Path
    identities: Mapping[str, str]

    def flats(self, needs: Sequence[TokenNeed], rows: Sequence[Row]) -> dict[TokenNeed, Flat] | None:
        """The answers to token needs over these rows, if their pass is done; None if it is not, or its file is torn."""
        try:
            with safe_open(self._path(needs, rows), framework="pt") as file:
                return {
                    need: Flat(file.get_tensor(f"{number}.values"), file.get_tensor(f"{number}.row"), len(rows))
                    for number, need in enumerate(needs)
                }
        except (SafetensorError, FileNotFoundError):
            return None

    def keep_flats(self, answers: Mapping[TokenNeed, Flat], rows: Sequence[Row]) -> None:
        """Write the answers of a pass, whole or not at all."""
        tensors: dict[str, Tensor] = {}
        for number, flat in enumerate(answers.values()):
            tensors[f"{number}.values"], tensors[f"{number}.row"] = flat.values.contiguous(), flat.row.contiguous()
        path = self._path(list(answers), rows)
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        save_file(tensors, partial, metadata={"format": FORMAT})
        partial.replace(path)

    def continuations(self, need: Generated, rows: Sequence[Row]) -> Continuations | None:
        """What was generated for these rows, if that is done."""
        try:
            content = json.loads(self._path([need], rows).read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
            return None
        return Continuations(
            tuple(content["texts"]),
            tuple(content["references"]),
            tuple(map(tuple, content["samples"])),
            tuple(tuple(map(tuple, of_row)) for of_row in content["tokens"]),
        )

    def keep_continuations(self, need: Generated, rows: Sequence[Row], written: Continuations) -> None:
        """Write what was generated, whole or not at all."""
        path = self._path([need], rows)
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        content = {
            "texts": written.texts,
            "references": written.references,
            "samples": written.samples,
            "tokens": written.tokens,
        }
        partial.write_text(json.dumps(content), encoding="utf-8")
        partial.replace(path)

    def _path(self, needs: Sequence[TokenNeed | Generated], rows: Sequence[Row]) -> Path:
        named = {need.of for need in needs} | {"model"}
        content = hashlib.sha256(FORMAT.encode())
        content.update(json.dumps(sorted((name, self.identities.get(name, "")) for name in named)).encode())
        content.update("\n".join(map(repr, needs)).encode())
        for row in rows:
            content.update(f"{row.id}\x1f{row.group}\x1f{digest(row)}\n".encode())
        kind = "json" if isinstance(needs[0], Generated) else "safetensors"
        role = "".join(letter if letter.isalnum() else "_" for letter in needs[0].role)
        return self.folder / f"{role}-{content.hexdigest()[:32]}.{kind}"
