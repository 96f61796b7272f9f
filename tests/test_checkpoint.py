"""Models on disk: what plain transformers reads, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from unlearnkit.checkpoint import RECORD, check_output, load_model, save_model
from unlearnkit.data.fictitious import build_tokenizer, build_world
from unlearnkit.errors import CheckpointError
from unlearnkit.models.tiny import tiny_model

TOKENIZER = build_tokenizer(build_world())


@pytest.mark.parametrize("family", ["llama", "gpt2"])  # gpt2 ties its embeddings
def test_plain_transformers_loads_what_was_saved(family: str, tmp_path: Path) -> None:
    model = tiny_model(family, vocabulary=len(TOKENIZER))
    save_model(tmp_path / "a" / "model", model, TOKENIZER, record={"seed": 3})
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["model"]
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "a" / "model")
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)
    assert AutoTokenizer.from_pretrained(tmp_path / "a" / "model").get_vocab() == TOKENIZER.get_vocab()
    assert json.loads((tmp_path / "a" / "model" / RECORD).read_text()) == {"seed": 3}
    ours, tokenizer = load_model(tmp_path / "a" / "model")
    assert torch.equal(ours(input_ids=ids).logits, model(input_ids=ids).logits)
    assert len(tokenizer) == len(TOKENIZER)


def test_an_output_folder_in_use_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("work")
    with pytest.raises(CheckpointError, match=r"is not empty. Name another one"):
        save_model(tmp_path, tiny_model("llama"))
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    with pytest.raises(CheckpointError, match="is not empty"):
        check_output(tmp_path / "precious")
    check_output(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    save_model(tmp_path / "empty", tiny_model("llama"))


def test_nothing_is_left_behind_when_saving_fails(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        save_model(tmp_path / "m", tiny_model("llama"), record={"not JSON": object()})
    assert not list(tmp_path.iterdir())


def test_broken_weights_are_named(tmp_path: Path) -> None:
    save_model(tmp_path / "m", tiny_model("llama", vocabulary=len(TOKENIZER)), TOKENIZER)
    weights = tmp_path / "m" / "model.safetensors"
    content = weights.read_bytes()
    for broken in (content[: len(content) // 2], b"\x80\x04 not safetensors at all", b""):
        weights.write_bytes(broken)
        with pytest.raises(CheckpointError, match=r"model.safetensors is truncated or no safetensors file"):
            load_model(tmp_path / "m")


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    for family in ("llama", "gpt2"):
        save_model(tmp_path / family, tiny_model(family, vocabulary=len(TOKENIZER)), TOKENIZER)
    (tmp_path / "gpt2" / "model.safetensors").replace(tmp_path / "llama" / "model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"are another model's: \d+ tensors of LlamaForCausalLM are not among them"
    ):
        load_model(tmp_path / "llama")


def test_pickled_weights_are_never_loaded(tmp_path: Path) -> None:
    model = tiny_model("llama", vocabulary=len(TOKENIZER))
    save_model(tmp_path / "m", model, TOKENIZER)
    (tmp_path / "m" / "model.safetensors").rename(tmp_path / "m" / "adapter_model.safetensors")
    torch.save(model.state_dict(), tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="no model can be loaded"):
        load_model(tmp_path / "m")


def test_folders_without_safetensors_and_unknown_ids_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "m", tiny_model("llama", vocabulary=len(TOKENIZER)), TOKENIZER)
    (tmp_path / "m" / "model.safetensors").rename(tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="holds no safetensors weights"):
        load_model(tmp_path / "m")
    with pytest.raises(CheckpointError, match=r"holds no file 'x.gguf'"):
        load_model(tmp_path / "m", gguf_file="x.gguf")
    with pytest.raises(CheckpointError, match=r"Nothing was downloaded: allow it with download=True"):
        load_model("nobody/no-such-model")
