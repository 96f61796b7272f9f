"""Decode-time methods on disk: a folder with each model in its own, what was set, and what was learned.

    guard.json           the kind, and its settings
    guard.safetensors    what it learned beside its models (a detector), if anything
    base/, assistant/ …  its models, readable by plain transformers; a guarded model inside is such a folder again

What only the caller has (a judge, a sentence encoder, a chat model) is not written and has to be given again on loading.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from inspect import signature
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

from attrs import field, frozen
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from unlearnkit.checkpoint import check_output, check_safetensors, load_model, save_model
from unlearnkit.decoding import alu_agents, eco_prompts, guard_generation
from unlearnkit.decoding.combined import Combined, Rule
from unlearnkit.decoding.guardrail_baselines import restored_input_filter, restored_output_filter
from unlearnkit.decoding.offset_unlearning import AddOffset
from unlearnkit.decoding.ucd import SubtractContrast
from unlearnkit.decoding.uld import SubtractAssistant
from unlearnkit.errors import CheckpointError, UnlearnkitError
from unlearnkit.models.causal import CausalLM
from unlearnkit.models.lora import has_lora
from unlearnkit.models.prefixed import Prefixed
from unlearnkit.protocols import Model

Setting: TypeAlias = "bool | int | float | str | list[Setting] | dict[str, Setting] | None"

GUARD = "guard.json"
TENSORS = "guard.safetensors"


@runtime_checkable
class Storable(Protocol):
    """A decode-time method that says what it is made of."""

    @property
    def parts(self) -> Mapping[str, Model]:
        """Its models, by the name of their folder."""

    @property
    def settings(self) -> Mapping[str, Setting]:
        """What was set, as JSON."""

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """What it learned beside its models."""


@frozen(kw_only=True, eq=False)
class Stored:
    """What was read back of one.

    Attributes:
        parts, settings, tensors: see `Storable`.
        tokenizer: of its models.
        given: what the caller gave again.
        folder: where it was read.
        taken: names of what was given that a guard in the folder has asked for.
    """

    parts: Mapping[str, Model]
    settings: Mapping[str, Setting]
    tensors: Mapping[str, Tensor]
    tokenizer: PreTrainedTokenizerBase
    given: Mapping[str, object]
    folder: Path
    taken: list[str] = field(factory=list)

    def needed(self, name: str) -> object:
        """What the caller has to give again.

        Raises:
            CheckpointError: it was not given.
        """
        self.taken.append(name)
        if name not in self.given:
            raise CheckpointError(f"{self.folder} needs its {name} given again: load_guarded(folder, {name}=...).")
        return self.given[name]


RULES: Mapping[str, Callable[..., Rule]] = {
    "AddOffset": AddOffset,
    "SubtractAssistant": SubtractAssistant,
    "SubtractContrast": SubtractContrast,
}
"""How logits are combined, by class."""


def _combined(stored: Stored) -> Model:
    rule, numbers, trained = (stored.settings[name] for name in ("rule", "numbers", "trained"))
    assert isinstance(numbers, dict)
    assert isinstance(trained, list)
    return Combined(stored.parts, RULES[str(rule)](**numbers), trained=[str(name) for name in trained])


def _prefixed(stored: Stored) -> Model:
    prefix, after = stored.settings["prefix"], stored.settings["after"]
    assert isinstance(prefix, list)
    assert isinstance(after, int)
    return Prefixed(stored.parts["model"], [int(str(token)) for token in prefix], after=after)


KINDS: Mapping[str, Callable[[Stored], Model]] = {
    "Agents": alu_agents.restored,
    "Combined": _combined,
    "CorruptedPrompts": eco_prompts.restored,
    "Guard": guard_generation.restored,
    "InputFilter": restored_input_filter,
    "OutputFilter": restored_output_filter,
    "Prefixed": _prefixed,
}
"""How each kind is made of what was stored."""


def described(model: Model) -> tuple[Mapping[str, Model], dict[str, Setting], Mapping[str, Tensor]]:
    """Parts, settings and tensors of a decode-time method.

    Raises:
        CheckpointError: it does not say, or is of no kind that can be read back.
    """
    if isinstance(model, Combined):
        rule = type(model.rule)
        if rule not in RULES.values():
            raise CheckpointError(
                f"the rule {rule.__name__} is not among those that are written as folders: {sorted(RULES)}. Save the models "
                "with save_model()."
            )
        numbers: dict[str, Setting] = {name: getattr(model.rule, name) for name in signature(rule).parameters}
        return model.models, {"rule": rule.__name__, "numbers": numbers, "trained": list(model.trained)}, {}
    if isinstance(model, Prefixed):
        return {"model": model.model}, {"prefix": list(model.prefix), "after": model.after}, {}
    if not isinstance(model, Storable) or type(model).__name__ not in KINDS:
        raise CheckpointError(
            f"{type(model).__name__} is not among the decode-time methods that are written as folders: {sorted(KINDS)}. "
            "Save the models inside it with save_model()."
        )
    return model.parts, dict(model.settings), model.tensors


def save_guarded(folder: Path, model: Model, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write a decode-time method; the folder appears complete or not at all.

    Raises:
        CheckpointError: the folder is not empty, or the method cannot be written.
    """
    check_output(folder)
    parts, settings, tensors = described(model)
    for name, part in parts.items():
        if isinstance(part, CausalLM) and (has_lora(part) or _is_adapted(part)):
            raise CheckpointError(
                f"the {name} model has an adapter in it, so that plain transformers could not read its folder. Merge the "
                "adapter first: merge_lora(model), or merge_and_unload() of PEFT."
            )
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        for name, part in parts.items():
            if isinstance(part, CausalLM):
                save_model(partial / name, part, tokenizer)
            else:
                save_guarded(partial / name, part, tokenizer)
        if tensors:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial / TENSORS)
        content = {"kind": type(model).__name__, "parts": list(parts), "settings": settings}
        (partial / GUARD).write_text(json.dumps(content, indent=1), encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load_guarded(folder: Path, **given: object) -> tuple[Model, PreTrainedTokenizerBase]:
    """A decode-time method and its tokenizer, as they were saved; a plain model's folder gives the model.

    Args:
        folder: written by `save_guarded`.
        given: what only the caller has, by the name of the argument it was given as.

    Raises:
        CheckpointError: no such folder, one that is damaged, something that has to be given again, or that nothing asks for;
            two guards that ask for the same: both would get it.
    """
    taken: list[str] = []
    made = _loaded(folder, given, taken)
    if unused := sorted(given.keys() - set(taken)):
        raise CheckpointError(
            f"nothing in {folder} asks for {unused[0]!r}; asked for was {sorted(set(taken)) or 'nothing'}."
        )
    if twice := sorted({name for name in taken if taken.count(name) > 1}):
        raise CheckpointError(
            f"several guards in {folder} ask for {twice[0]!r}, and would all get the same. Load the inner folder by itself, and "
            "put the outer guard around it."
        )
    return made


def _loaded(folder: Path, given: Mapping[str, object], taken: list[str]) -> tuple[Model, PreTrainedTokenizerBase]:
    if not (folder / GUARD).is_file():
        plain, tokenizer = load_model(folder)
        return CausalLM(plain.eval()), tokenizer
    kind, names, settings = _read(folder / GUARD)
    if kind not in KINDS:
        raise CheckpointError(f"{folder / GUARD} is of the kind {kind!r}; known are {sorted(KINDS)}.")
    if missing := [name for name in names if not (folder / name).is_dir()]:
        raise CheckpointError(f"{folder} lacks the folder {missing[0]!r} of one of its models. Save the method again.")
    loaded = {name: _loaded(folder / name, given, taken) for name in names}
    tensors: dict[str, Tensor] = {}
    if (folder / TENSORS).is_file():
        check_safetensors(folder / TENSORS)
        tensors = load_file(folder / TENSORS)
    tokenizer = next(iter(loaded.values()))[1]
    stored = Stored(
        parts={name: model for name, (model, _) in loaded.items()},
        settings=settings,
        tensors=tensors,
        tokenizer=tokenizer,
        given=given,
        folder=folder,
        taken=taken,
    )
    try:
        made = KINDS[kind](stored)
    except UnlearnkitError:
        raise
    except (AssertionError, KeyError, TypeError, ValueError) as broken:
        raise CheckpointError(
            f"{folder / GUARD} has settings of which no {kind} can be made ({broken!r}). Save the method again."
        ) from broken
    if isinstance(made, nn.Module):
        made.eval()
    return made, tokenizer


def _is_adapted(model: nn.Module) -> bool:
    """Whether PEFT has put layers of its own into it."""
    return any(type(module).__module__.startswith("peft.") for module in model.modules())


def _read(path: Path) -> tuple[str, list[str], dict[str, Setting]]:
    """Kind, names of parts and settings."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        kind, names, settings = content["kind"], content["parts"], content["settings"]
        if not (isinstance(kind, str) and isinstance(names, list) and isinstance(settings, dict)):
            raise TypeError(f"kind, parts and settings are {content}")
        if not names or any(name == ".." or Path(name).name != name for name in names):
            raise ValueError(f"its parts are {names}")  # folders right inside this one, nowhere else
    except (KeyError, TypeError, ValueError) as broken:
        raise CheckpointError(f"{path} is damaged ({broken!r}). Save the method again.") from broken
    return kind, names, settings
