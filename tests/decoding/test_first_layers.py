"""The first blocks of a model as a model: the same numbers, none shared, and a folder it is read from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unlearnkit.checkpoint import load_model, save_model
from unlearnkit.decoding.uld import first_layers
from unlearnkit.models.anatomy import anatomy
from unlearnkit.models.causal import CausalLM
from unlearnkit.models.generate import generate
from unlearnkit.models.tiny import TINY_FAMILIES, tiny_model
from unlearnkit.protocols import Greedy, resid_post
from unlearnkit.worlds.fictitious import build_tokenizer, build_world

IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_the_first_blocks_and_the_head_of_the_model(family: str) -> None:
    model = tiny_model(family, layers=4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assistant = first_layers(model, 2)
    mine, parts = anatomy(assistant), anatomy(model)
    assert len(mine.blocks) == 2
    assert len(parts.blocks) == 4
    assert assistant.config.num_hidden_layers == 2
    assert model.config.num_hidden_layers == 4
    if (kinds := getattr(model.config, "layer_types", None)) is not None:
        assert len(kinds) == 4
        assert assistant.config.layer_types == kinds[:2]
    # What it says is the head of the normed second block's output.
    site = resid_post(1)
    inputs = {"input_ids": IDS, "position_ids": torch.arange(4)[None]}
    with torch.no_grad():
        assert torch.equal(first_layers(model, 4)(IDS).logits, model(IDS).logits)
        state = CausalLM(model).hidden(inputs, capture=frozenset({site})).sites[site]
        expected = parts.logits(parts.final_norm(state))
        torch.testing.assert_close(assistant(**inputs).logits, expected)
        for parameter in assistant.parameters():
            parameter.mul_(2.0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("family", ["gemma2", "gpt2", "mistral"])
def test_it_writes_with_a_cache_what_it_scores(family: str) -> None:
    assistant = first_layers(tiny_model(family, layers=3), 1)
    (written,) = generate(CausalLM(assistant), [IDS[0]], Greedy(5), end_tokens=frozenset())
    ids = torch.cat([IDS, torch.tensor([written])], 1)
    assert assistant(ids).logits[0, 3:-1].argmax(-1).tolist() == list(written)


@pytest.mark.parametrize("family", ["gemma2", "gpt2"])
def test_it_is_written_and_read_again(family: str, tmp_path: Path) -> None:
    tokenizer = build_tokenizer(build_world())
    assistant = first_layers(tiny_model(family, layers=4, vocabulary=len(tokenizer)), 3)
    save_model(tmp_path / "m", assistant, tokenizer)
    again, _ = load_model(tmp_path / "m")
    assert len(anatomy(again).blocks) == 3
    assert torch.equal(again.eval()(IDS).logits, assistant(IDS).logits)


@pytest.mark.parametrize("layers", [-1, 0, 3])
def test_blocks_that_are_not_there(layers: int) -> None:
    with pytest.raises(ValueError, match=rf"layers is {layers}; the assistant has 1 to 2 of the model's blocks"):
        first_layers(tiny_model("llama"), layers)
