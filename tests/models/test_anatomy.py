"""Parts of every supported architecture, and errors that say what is missing and what to do."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedModel

from unlearnkit.errors import AnatomyError
from unlearnkit.models.anatomy import TESTED, Anatomy, anatomy, mlp_down_names
from unlearnkit.models.causal import CausalLM
from unlearnkit.models.tiny import TINY_FAMILIES, tiny_config, tiny_model
from unlearnkit.protocols import Site

DOWN = {
    "gpt2": "transformer.h.{}.mlp.c_proj.weight",
    "gpt_neox": "gpt_neox.layers.{}.mlp.dense_4h_to_h.weight",
    "phi": "model.layers.{}.mlp.fc2.weight",
    **dict.fromkeys(("mixtral", "qwen2_moe", "qwen3_moe"), "model.layers.{}.mlp.experts.down_proj"),
}


def tiny_opt() -> PreTrainedModel:
    """An architecture that `anatomy` does not know: its blocks lie deeper, and its MLP is not a module."""
    config = AutoConfig.for_model(
        "opt",
        vocab_size=64,
        hidden_size=32,
        word_embed_proj_dim=32,
        ffn_dim=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        pad_token_id=None,
    )
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    model.eval()
    return model


def parts_of_opt(model: PreTrainedModel) -> Anatomy:
    blocks = model.get_submodule("model.decoder.layers")
    assert isinstance(blocks, nn.ModuleList)
    return Anatomy(
        body=model.get_submodule("model.decoder"),
        blocks=blocks,
        embedding=model.get_input_embeddings(),
        final_norm=model.get_submodule("model.decoder.final_layer_norm"),
        head=model.get_submodule("lm_head"),
    )


def test_the_tested_architectures_are_those_with_a_toy() -> None:
    assert frozenset(TINY_FAMILIES) == TESTED


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_every_part_is_found(family: str) -> None:
    model = tiny_model(family, vocabulary=48, layers=3)
    parts = anatomy(model)
    assert parts.body is model.base_model
    assert len(parts.blocks) == 3
    assert parts.embedding(torch.tensor([47])).shape == (1, 32)
    assert "Norm" in type(parts.final_norm).__name__
    assert parts.logits(torch.zeros(5, 32)).shape == (5, 48)
    for layer in range(3):
        assert "Attention" in type(parts.attention(layer)).__name__
        assert isinstance(parts.mlp(layer), nn.Module)
        down = parts.mlp_down(layer)
        experts = family in ("mixtral", "qwen2_moe", "qwen3_moe")
        assert isinstance(down, nn.Parameter if experts else nn.Module)


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_names_of_the_down_projections(family: str) -> None:
    model = tiny_model(family, layers=3)
    name = DOWN.get(family, "model.layers.{}.mlp.down_proj.weight")
    assert mlp_down_names(model, [0, 2]) == {name.format(0), name.format(2)}
    assert mlp_down_names(model, []) == frozenset()
    shapes = {tuple(dict(model.named_parameters())[found].shape) for found in mlp_down_names(model, range(3))}
    assert len(shapes) == 1
    with pytest.raises(AnatomyError, match="there is no block 3"):
        mlp_down_names(model, [3])


def test_a_mix_of_dense_and_sparse_blocks() -> None:
    config = tiny_model("qwen2_moe").config
    config.mlp_only_layers = [0]
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, experts_implementation="eager")
    assert mlp_down_names(model, [0, 1]) == {
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.1.mlp.experts.down_proj",
    }


@pytest.mark.parametrize(
    ("family", "settings"),
    [("gemma2", (None, None, 3.0)), ("granite", (8.0, None, None)), ("cohere", (None, 0.0625, None))],
)
def test_what_is_done_to_logits(family: str, settings: tuple[float | None, ...]) -> None:
    parts = anatomy(tiny_model(family))
    assert (parts.logit_divisor, parts.logit_scale, parts.soft_cap) == settings
    hidden = torch.randn(4, 32)
    assert not torch.allclose(parts.logits(hidden), parts.head(hidden))


def test_nothing_is_done_to_the_logits_of_the_others() -> None:
    for family in set(TINY_FAMILIES) - {"gemma2", "granite", "cohere"}:
        parts = anatomy(tiny_model(family))
        hidden = torch.randn(4, 32)
        assert torch.equal(parts.logits(hidden), parts.head(hidden))


def test_what_cannot_be_found_is_named_with_the_way_out() -> None:
    model = tiny_opt()
    with pytest.raises(
        AnatomyError, match=r"OPTForCausalLM: cannot locate its final_norm, because 0 of decoder .* Anatomy\(body="
    ):
        anatomy(model)
    with pytest.raises(AnatomyError, match=r"LlamaModel: cannot locate its body, .* it may be a bare body"):
        anatomy(AutoModel.from_config(tiny_config("llama")))


def test_an_anatomy_of_your_own() -> None:
    model = tiny_opt()
    parts = parts_of_opt(model)
    wrapped = CausalLM(model, parts)
    inputs = {"input_ids": torch.tensor([[5, 6, 7]]), "attention_mask": torch.ones(1, 3, dtype=torch.int64)}
    read = wrapped.hidden(inputs, capture=frozenset({Site("attn_out", 1)}))
    assert torch.equal(wrapped.head(read.final), model(**inputs).logits)
    assert read.sites[Site("attn_out", 1)].shape == (1, 3, 32)

    text = r"OPTDecoder has no site mlp_out\[1\]: OPTDecoder: block 1 has none of mlp \(it has self_attn, .*mlp_names=\(...,\)"
    with pytest.raises(AnatomyError, match=text):
        wrapped.hidden(inputs, capture=frozenset({Site("mlp_out", 1)}))
    named = CausalLM(model, evolve(parts, mlp_names=("fc2",)))
    assert named.hidden(inputs, capture=frozenset({Site("mlp_out", 1)})).sites[Site("mlp_out", 1)].shape[-1] == 32

    with pytest.raises(AnatomyError, match="its logits are not what OPTDecoder and head give"):
        CausalLM(model, evolve(parts, logit_scale=2.0))
    with pytest.raises(AnatomyError, match="OPTForCausalLM: its forward pass does not run the body OPTModel"):
        CausalLM(model, evolve(parts, body=model.base_model, name="OPTModel"))
