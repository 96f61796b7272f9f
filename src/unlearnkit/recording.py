"""Recordings: per-token statistics of a model on data, written once and read in the model's place.

A cached reference and a retrained oracle's log are the same file; it serves NPO and forget quality alike, and spares a
second copy of the model. Entries are kept by example id with a digest of the example's tokens and labels, so that other
data, another tokenizer or another template are refused by name; the model's fingerprint lies beside them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from attrs import field, frozen
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from unlearnkit.batch import Row, all_rows, count_positions
from unlearnkit.errors import DataError, RecordingError
from unlearnkit.protocols import Captured, Compared, Dataset, Flat, ModelNeed, Positions, Tokens
from unlearnkit.statistics import Given

FORMAT = "unlearnkit-recording-1"


_DIGESTS: WeakKeyDictionary[Row, str] = WeakKeyDictionary()


def digest(row: Row) -> str:
    """What a recording knows a row's content by: its inputs and labels, hence data, tokenizer and template.

    Computed once per row object: rows are frozen, and a recording is asked for the same ones at every step.
    """
    if (known := _DIGESTS.get(row)) is not None:
        return known
    content = hashlib.sha256()
    for name, tensor in [*sorted(row.inputs.items()), ("labels", row.labels)]:
        content.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        content.update(tensor.contiguous().cpu().numpy().tobytes())
    found = _DIGESTS[row] = content.hexdigest()[:32]
    return found


def whole_tensor(tensor: Tensor) -> Tensor:
    """The tensor itself, or, of a sharded one, all of it: every rank has to call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def fingerprint(model: nn.Module | Mapping[str, Tensor]) -> str:
    """A digest of a model's (or state dict's) parameters and persistent buffers: names, types, shapes and every byte.

    A sharded model is gathered tensor by tensor: every rank has to call this.
    """
    content = hashlib.sha256()
    state = model.state_dict() if isinstance(model, nn.Module) else model
    for name, tensor in sorted(state.items()):
        content.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        content.update(whole_tensor(tensor.detach()).contiguous().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()


@frozen
class Entry:
    """Which statistic a column of a recording holds. Statistics are told apart by their repr."""

    statistic: str
    role: str
    positions: Positions

    @classmethod
    def of(cls, need: Tokens) -> Entry:
        return cls(repr(need.statistic), need.role, need.positions)


@frozen(eq=False)
class Recording:
    """Per-token statistics of one model.

    Attributes:
        model: fingerprint of the model that was recorded.
        values: for each entry, each example's values [n] or [n, k] by id.
        digests: for each role, the digest of each example by id.
    """

    model: str
    values: Mapping[Entry, Mapping[str, Tensor]]
    digests: Mapping[str, Mapping[str, str]] = field()

    def check(self, need: ModelNeed) -> None:
        """Refuse, before the first step, a need that no recording or not this one can serve.

        Raises:
            RecordingError: names what is missing.
        """
        if isinstance(need, Compared):
            raise RecordingError(
                f"{need} compares the logits of two live models, but {need.of!r} is a recording, which holds finished "
                f"statistics only. Pass a frozen model as {need.of!r}."
            )
        if isinstance(need, Captured):
            raise RecordingError(
                f"{need} reads hidden states, but {need.of!r} is a recording, which holds token statistics only. "
                f"Pass a frozen model as {need.of!r}."
            )
        if not isinstance(need, Tokens):
            raise RecordingError(
                f"{need} asks the recording {need.of!r} to generate. Pass a live model as {need.of!r}."
            )
        if Entry.of(need) not in self.values:
            raise RecordingError(
                f"the recording {need.of!r} has no {need.statistic} of {need.role!r} at {need.positions!r} positions; "
                f"it holds {', '.join(map(str, self.values)) or 'nothing'}. Record it again with this need."
            )

    def serve(self, need: ModelNeed, rows: Sequence[Row]) -> Flat:
        """The recorded values of these rows.

        Raises:
            RecordingError: an example is missing, or its content is not what was recorded.
        """
        self.check(need)
        assert isinstance(need, Tokens)
        recorded, digests = self.values[Entry.of(need)], self.digests[need.role]
        for row in rows:
            if row.id not in recorded:
                raise RecordingError(
                    f"the recording {need.of!r} has no entry for example {row.id!r} of {need.role!r} "
                    f"(it holds {len(recorded)} examples of that role). Record it again on the data that is used now."
                )
            if digests[row.id] != digest(row):
                raise RecordingError(
                    f"example {row.id!r} of {need.role!r} is not what the recording {need.of!r} was made on: its tokens "
                    "or labels differ (other data, another tokenizer or another template). Record it again."
                )
        values = [recorded[row.id] for row in rows]
        lengths = torch.tensor([len(value) for value in values], dtype=torch.int64)
        empty = next(iter(recorded.values()))[:0]
        return Flat(
            torch.cat(values) if values else empty,
            torch.arange(len(rows)).repeat_interleave(lengths),
            len(rows),
        )

    def with_entries_of(self, other: Recording) -> Recording:
        """Both recordings' entries under one name: weights and a mask, say. The other's win where both have one.

        Raises:
            RecordingError: they were made on different rows of one id.
        """
        digests = {**self.digests}
        for role, of_role in other.digests.items():
            mine = digests.get(role, {})
            if differing := [name for name in of_role if mine.get(name, of_role[name]) != of_role[name]]:
                raise RecordingError(
                    f"the two recordings were made on different rows {differing[0]!r} of {role!r}: tokens or labels "
                    "differ, so that their entries are of other positions. Make both on the rows that are trained on."
                )
            digests[role] = {**mine, **of_role}
        return Recording(f"{self.model}+{other.model}", {**self.values, **other.values}, digests)

    def expect_model(self, model: nn.Module) -> None:
        """Refuse to stand in for another model than the one recorded.

        Raises:
            RecordingError: the fingerprints differ.
        """
        if (given := fingerprint(model)) != self.model:
            raise RecordingError(
                f"this recording was made with model {self.model[:12]}…, but the one given is {given[:12]}…: its weights "
                "have changed since, or it is another model. Record it again."
            )

    def save(self, path: Path) -> None:
        """Write one safetensors file, atomically."""
        tensors: dict[str, Tensor] = {}
        entries = []
        for number, (entry, recorded) in enumerate(self.values.items()):
            tensors[f"{number}.values"] = torch.cat(list(recorded.values()))
            tensors[f"{number}.lengths"] = torch.tensor([len(value) for value in recorded.values()])
            entries.append([entry.statistic, entry.role, entry.positions, list(recorded)])
        content = {"format": FORMAT, "model": self.model, "entries": entries, "digests": dict(self.digests)}
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        save_file(tensors, partial, metadata={"unlearnkit": json.dumps(content)})
        partial.replace(path)

    @classmethod
    def load(cls, path: Path, *, model: nn.Module | None = None) -> Recording:
        """Read a recording; with `model`, refuse one that was made with another.

        Raises:
            RecordingError: not a recording, truncated, or of another model.
        """
        if not path.is_file():
            raise RecordingError(f"there is no recording {path}. Make one with record(), or `unlearnkit oracle`.")
        try:
            with safe_open(path, framework="pt") as file:
                content = json.loads((file.metadata() or {}).get("unlearnkit", "{}"))
                if content.get("format") != FORMAT:
                    raise RecordingError(
                        f"{path} is a safetensors file but no recording ({FORMAT}). Pass the right file."
                    )
                values = {
                    Entry(statistic, role, positions): dict(
                        zip(
                            ids,
                            torch.split(
                                file.get_tensor(f"{number}.values"), file.get_tensor(f"{number}.lengths").tolist()
                            ),
                            strict=True,
                        )
                    )
                    for number, (statistic, role, positions, ids) in enumerate(content["entries"])
                }
        except SafetensorError as broken:
            raise RecordingError(f"{path} is truncated or no safetensors file ({broken}). Record it again.") from broken
        recording = cls(content["model"], values, content["digests"])
        if model is not None:
            recording.expect_model(model)
        return recording


def given(
    name: str,
    values: Mapping[str, Tensor | Sequence[float] | float],
    rows: Dataset[Row],
    *,
    positions: Positions = "answer",
) -> Recording:
    """Numbers that belong to tokens and come from no model, as a recording: what `Given(name)` reads.

    Weights and masks are constants of a run: they are made once, by whatever rule, and served by example id like a
    cached reference, so that changed data is refused by name.

    Args:
        name: of the number, as in `Given(name)`.
        values: by row id: one number for the whole row, or one for each of its positions of the kind, in order.
        rows: of one role; a row that `values` does not name is refused.
        positions: the kind of positions the numbers belong to.

    Raises:
        DataError: a row without values, or with another number of them than it has positions; rows of several roles, or
            two of one id.
    """
    content = hashlib.sha256(name.encode())
    recorded, digests = dict[str, Tensor](), dict[str, dict[str, str]]()
    role = ""
    for row in all_rows(rows):
        size, role = count_positions(row, positions), row.role
        if row.id in digests.get(role, {}):
            raise DataError(f"two rows of {role!r} have the id {row.id!r}. Recordings are keyed by id.")
        if row.id not in values:
            raise DataError(f"no {name!r} is given for row {row.id!r} of {row.role!r}. Give every row a number, 0 too.")
        value = torch.as_tensor(values[row.id])
        value = value if value.is_floating_point() else value.to(torch.float32)
        if value.ndim == 0:
            value = value.expand(size).clone()
        if value.shape != (size,):
            raise DataError(
                f"{name!r} of row {row.id!r} of {row.role!r} has shape {tuple(value.shape)}, but the row has {size} "
                f"{positions!r} positions. Give one number for the row, or one for each position."
            )
        recorded[row.id] = value.detach().cpu()
        digests.setdefault(row.role, {})[row.id] = digest(row)
        content.update(f"{row.id}{value.tolist()}".encode())
    if len(digests) != 1:
        raise DataError(
            f"{name!r} is given for rows of {sorted(digests) or 'no role'}; give it for one role at a time."
        )
    entry = Entry(repr(Given(name)), role, positions)
    return Recording(content.hexdigest(), {entry: recorded}, digests)
