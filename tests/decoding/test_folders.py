"""Decode-time methods as folders: what is read is what was written, whatever is inside, or an error that says why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from attrs import frozen
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from unlearnkit.checkpoint import save_model
from unlearnkit.decoding import folders
from unlearnkit.decoding.combined import Combined
from unlearnkit.decoding.folders import GUARD, load_guarded, save_guarded
from unlearnkit.decoding.uld import first_layers, uld
from unlearnkit.errors import CheckpointError
from unlearnkit.models.causal import CausalLM, unguarded
from unlearnkit.models.generate import generate
from unlearnkit.models.lora import add_lora, merge_lora
from unlearnkit.models.prefixed import Prefixed
from unlearnkit.models.tiny import tiny_model
from unlearnkit.protocols import Greedy, Model
from unlearnkit.worlds.fictitious import build_tokenizer, build_world

TOKENIZER = build_tokenizer(build_world())
SIZE = len(TOKENIZER)


def plain(seed: int = 0, *, layers: int = 2, hidden_size: int = 32) -> CausalLM:
    return CausalLM(tiny_model("llama", seed=seed, vocabulary=SIZE, layers=layers, hidden_size=hidden_size))


def an_uld() -> Combined:
    return uld(plain(layers=3, hidden_size=64), plain(1), weight=-0.5, top_logit_filter=0.2, masked="minus_infinity")


METHODS: dict[str, Callable[[], Model]] = {
    "model": plain,
    "uld": an_uld,
    "prefixed": lambda: Prefixed(plain(), [5, 6], after=1),
    "prefixed uld": lambda: Prefixed(an_uld(), [7]),
    "uld of prefixed": lambda: uld(Prefixed(plain(), [3, 4]), plain(1), weight=-1.5),
    "uld of uld": lambda: uld(an_uld(), Prefixed(plain(2), [9]), top_logit_filter=0.0),
}


def logits(model: Model) -> Tensor:
    ids = torch.tensor([[5, 6, 7], [8, 9, 4]])
    with torch.no_grad():
        return model.head(model.hidden({"input_ids": ids, "position_ids": torch.arange(3).expand(2, 3)}).final)


@pytest.mark.parametrize("name", METHODS.keys() - {"model"})
def test_what_is_read_is_what_was_written(name: str, tmp_path: Path) -> None:
    model = METHODS[name]()
    folder = tmp_path / "deep" / "below"
    save_guarded(folder, model, TOKENIZER)
    again, tokenizer = load_guarded(folder)
    assert type(again) is type(model)
    assert torch.equal(logits(again), logits(model))
    prompts = [torch.tensor([3, 4, 5]), torch.tensor([6])]
    written = generate(again, prompts, Greedy(4), end_tokens=frozenset())
    assert written == generate(model, prompts, Greedy(4), end_tokens=frozenset())
    assert tokenizer.get_vocab() == TOKENIZER.get_vocab()
    assert isinstance(again, torch.nn.Module)
    assert not any(module.training for module in again.modules())
    assert torch.equal(logits(unguarded(again)), logits(unguarded(model)))
    assert not list(tmp_path.rglob("*.partial"))


def test_models_keep_their_order_and_what_is_trained(tmp_path: Path) -> None:
    model = Combined(dict(an_uld().models), an_uld().rule, trained=("assistant",))
    save_guarded(tmp_path / "m", model, TOKENIZER)
    again, _ = load_guarded(tmp_path / "m")
    assert isinstance(again, Combined)
    assert list(again.models) == ["base", "assistant"]
    assert again.rule == model.rule
    assert again.trained == ("assistant",)


def test_each_part_is_a_model_of_plain_transformers(tmp_path: Path) -> None:
    model = Prefixed(an_uld(), [7])
    save_guarded(tmp_path / "m", model, TOKENIZER)
    ids = torch.tensor([[5, 6, 7]])
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "m" / "model" / "base")
    expected = unguarded(model)
    assert isinstance(expected, CausalLM)
    assert torch.equal(loaded(ids).logits, expected.model(ids).logits)


def test_a_plain_models_folder_is_the_model(tmp_path: Path) -> None:
    model = plain()
    model.model.save_pretrained(tmp_path / "m")
    TOKENIZER.save_pretrained(tmp_path / "m")
    again, _ = load_guarded(tmp_path / "m")
    assert isinstance(again, CausalLM)
    assert torch.equal(logits(again), logits(model))


@frozen
class Foreign:
    """A rule of somebody else's."""

    def __call__(self, *logits: Tensor) -> Tensor:
        return logits[0]


def adapted() -> Model:
    assistant = first_layers(plain(hidden_size=64).model, 1)
    add_lora(assistant)
    return uld(plain(hidden_size=64), assistant)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Combined(dict(an_uld().models), Foreign()), r"the rule Foreign is not among .*SubtractAssistant"),
        (adapted, r"the assistant model has an adapter in it.*merge_lora"),
        (lambda: Prefixed(Prefixed(adapted(), [4]), [3]), "the assistant model has an adapter in it"),
    ],
    ids=["rule", "adapter", "inside"],
)
def test_what_could_not_be_read_is_not_written(make: Callable[[], Model], why: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=why):
        save_guarded(tmp_path / "m", make(), TOKENIZER)
    assert not list(tmp_path.iterdir())


def test_merged_it_is_written(tmp_path: Path) -> None:
    model = adapted()
    assert isinstance(model, Combined)
    assistant = model.models["assistant"]
    assert isinstance(assistant, CausalLM)
    merge_lora(assistant.model)
    save_guarded(tmp_path / "m", model, TOKENIZER)
    assert torch.equal(logits(load_guarded(tmp_path / "m")[0]), logits(model))


def test_nothing_is_left_of_a_write_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def failing(folder: Path, model: CausalLM, tokenizer: PreTrainedTokenizerBase) -> None:
        if written:
            raise OSError("no space left on device")
        written.append(folder.name)
        save_model(folder, model, tokenizer)

    monkeypatch.setattr(folders, "save_model", failing)
    with pytest.raises(OSError, match="no space left"):
        save_guarded(tmp_path / "m", an_uld(), TOKENIZER)
    assert written == ["base"]
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    (tmp_path / "m").mkdir()  # an empty folder may be there, and so may what a killed process left
    (tmp_path / "m.partial").mkdir()
    (tmp_path / "m.partial" / "stale").write_text("")
    save_guarded(tmp_path / "m", an_uld(), TOKENIZER)
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["assistant", "base", GUARD]
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"is not empty\. Name another one"):
        save_guarded(tmp_path, an_uld(), TOKENIZER)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "m"
    save_guarded(folder, Prefixed(an_uld(), [7]), TOKENIZER)
    return folder


def edit(**changes: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / GUARD).read_text())
        (folder / GUARD).write_text(json.dumps({**content, **changes}))

    return apply


def inner(change: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda folder: change(folder / "model")


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut off": (lambda folder: _cut(folder / GUARD), r"guard\.json is damaged .*Save the method again"),
    "no object": (lambda folder: _write(folder / GUARD, "[1]"), r"guard\.json is damaged"),
    "a kind missing": (lambda folder: _write(folder / GUARD, '{"parts": ["model"]}'), "damaged.*'kind'"),
    "no parts": (edit(parts=[]), "damaged.*its parts are"),
    "itself as a part": (edit(parts=["."]), "damaged.*its parts are"),
    "a part elsewhere": (edit(parts=["../m"]), "damaged.*its parts are"),
    "the folder above": (edit(parts=[".."]), "damaged.*its parts are"),
    "parts that are text": (edit(parts="model"), "damaged"),
    "a number as a part": (edit(parts=[3]), "damaged"),
    "an unknown kind": (edit(kind="Oracle"), r"is of the kind 'Oracle'; known are \[.*'Combined'.*'Prefixed'"),
    "a list as a kind": (edit(kind=["Combined"]), "damaged"),
    "no setting": (edit(settings={}), "settings of which no Prefixed can be made.*'prefix'"),
    "a text as a number": (edit(settings={"prefix": ["seven"], "after": 0}), "no Prefixed can be made.*seven"),
    "a negative number": (edit(settings={"prefix": [7], "after": -1}), "no Prefixed can be made.*'after'"),
    "an unknown rule": (
        inner(edit(settings={"rule": "Magic", "numbers": {}, "trained": []})),
        "no Combined can be made.*Magic",
    ),
    "a foreign number": (
        inner(edit(settings={"rule": "SubtractAssistant", "numbers": {"power": 3}, "trained": []})),
        "no Combined can be made.*power",
    ),
    "a model missing": (
        lambda folder: shutil.rmtree(folder / "model" / "assistant"),
        r"model lacks the folder 'assistant' of one of its models",
    ),
    "weights missing": (
        lambda folder: (folder / "model" / "base" / "model.safetensors").unlink(),
        "base holds no safetensors weights",
    ),
    "weights cut off": (lambda folder: _cut(folder / "model" / "base" / "model.safetensors"), "truncated"),
    "learned tensors cut off": (
        lambda folder: _write(folder / "guard.safetensors", "no"),
        "guard.safetensors is trunc",
    ),
}


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_folder_is_refused_and_named(name: str, saved: Path, tmp_path: Path) -> None:
    damage, why = DAMAGE[name]
    folder = tmp_path / "m"
    shutil.copytree(saved, folder)
    damage(folder)
    with pytest.raises(CheckpointError, match=why):
        load_guarded(folder)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no model can be loaded from .*nowhere"):
        load_guarded(tmp_path / "nowhere")
