"""LoRA: nothing at first, trained alone, and a plain model of the same function when merged."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from tests.toy import toy_rows
from unlearnkit.errors import AnatomyError
from unlearnkit.models.anatomy import anatomy
from unlearnkit.models.causal import CausalLM
from unlearnkit.models.lora import LoRALinear, add_lora, has_lora, merge_lora
from unlearnkit.models.tiny import tiny_model
from unlearnkit.objectives import CrossEntropy
from unlearnkit.protocols import Site
from unlearnkit.train import unlearn

IDS = torch.tensor([[5, 6, 7, 8]])
FAMILIES = ("llama", "phi3", "gpt_neox", "gemma2", "mixtral")  # biases, stacked projections, tied heads, experts
DATA = {"forget": toy_rows("forget", [(2, 3), (4, 1), (1, 6)])}


def learned(model: PreTrainedModel, parameters: list[nn.Parameter]) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))


def linears(model: nn.Module) -> dict[str, type[nn.Module]]:
    return {name: type(module) for name, module in model.named_modules() if isinstance(module, nn.Linear)}


@pytest.mark.parametrize("family", FAMILIES)
def test_at_first_it_changes_nothing_and_merged_it_is_the_same_function(family: str) -> None:
    model, plain = (tiny_model(family, dtype=torch.float64) for _ in range(2))
    trained = add_lora(model, rank=4, alpha=8.0)
    assert torch.equal(model(IDS).logits, plain(IDS).logits)
    learned(model, trained)
    expected = model(IDS).logits
    assert not torch.allclose(expected, plain(IDS).logits, atol=1e-3)
    merge_lora(model)
    torch.testing.assert_close(model(IDS).logits, expected, rtol=0, atol=1e-6)
    assert not has_lora(model)
    assert linears(model) == linears(plain)
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_layer_by_hand() -> None:
    layer = nn.Linear(2, 2)
    added = LoRALinear(layer, rank=1, alpha=3.0)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(2))
        layer.bias.fill_(0.5)
        added.down.copy_(torch.tensor([[1.0, 2.0]]))
        added.up.copy_(torch.tensor([[1.0], [0.0]]))
    assert added(torch.tensor([1.0, 1.0])).tolist() == [10.5, 1.5]  # 1 + 0.5 + 3 * (1 + 2) * 1
    assert added.merged().weight.tolist() == [[4.0, 6.0], [0.0, 1.0]]


def test_what_is_returned_is_all_that_is_trained() -> None:
    model = tiny_model("llama")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trained = add_lora(model, rank=4, alpha=8.0, dropout=0.1)
    assert {id(p) for p in trained} == {id(p) for p in model.parameters() if p.requires_grad}
    assert len(trained) == 2 * 7 * 2  # two blocks of seven layers
    start = [parameter.detach().clone() for parameter in trained]
    unlearn(model, CrossEntropy("forget"), DATA, optimizer=torch.optim.AdamW(trained, lr=0.01), steps=3)
    assert not any(torch.equal(one, other) for one, other in zip(trained, start, strict=True))
    after = model.state_dict()
    for name, value in before.items():
        place, _, last = name.rpartition(".")
        inside = name if name in after else f"{place}.layer.{last}"
        assert torch.equal(after[inside], value)


def test_the_draws_are_its_own() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    one, same, other = (add_lora(tiny_model("llama"), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    downs = [(a, b) for a, b in zip(one, other, strict=True) if a.any()]
    assert len(downs) == len(one) / 2
    assert not any(torch.equal(a, b) for a, b in downs)
    assert len({(a.shape, a.sum().item()) for a, _ in downs}) == len(downs)  # each layer its own


def test_layers_by_name() -> None:
    model = tiny_model("llama")
    add_lora(model, names=["q_proj", "down_proj"])
    found = [name.split(".")[-1] for name, module in model.named_modules() if isinstance(module, LoRALinear)]
    assert sorted(found) == ["down_proj", "down_proj", "q_proj", "q_proj"]


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_the_head_is_left_alone(family: str) -> None:
    model = tiny_model(family)
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    add_lora(model)
    assert model.get_output_embeddings() is head
    assert model.get_input_embeddings() is embedding


def test_its_parts_are_found_and_the_sites_are_the_same() -> None:
    model, plain = tiny_model("llama"), tiny_model("llama")
    add_lora(model)
    assert len(anatomy(model).blocks) == 2
    inputs = {"input_ids": IDS, "position_ids": torch.arange(4)[None]}
    sites = frozenset({Site("mlp_key", 1), Site("attn_out", 0)})
    found, expected = (CausalLM(each).hidden(inputs, capture=sites).sites for each in (model, plain))
    assert all(torch.equal(found[site], expected[site]) for site in sites)


def test_dropout_is_that_of_a_model_in_training() -> None:
    model = tiny_model("llama")
    trained = add_lora(model, dropout=0.5)
    learned(model, trained)
    assert not any(module.training for module in model.modules())
    assert torch.equal(model(IDS).logits, model(IDS).logits)
    model.train()
    assert not torch.equal(model(IDS).logits, model(IDS).logits)


def test_in_half_precision() -> None:
    model = tiny_model("llama", dtype=torch.bfloat16)
    learned(model, add_lora(model, rank=4, alpha=8.0))
    expected = model(IDS).logits
    merge_lora(model)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert (model(IDS).logits - expected).abs().max() < 0.1 * expected.abs().max()


def test_what_is_refused() -> None:
    with pytest.raises(AnatomyError, match=r"has no linear layer called \['lm_head', 'query'\] beside its head"):
        add_lora(tiny_model("llama"), names=["query", "lm_head"])
    with pytest.raises(AnatomyError, match=r"GPT2LMHeadModel has no linear layer beside its head\. .*use PEFT"):
        add_lora(tiny_model("gpt2"))
    model = tiny_model("llama")
    add_lora(model, names=["q_proj"])
    with pytest.raises(AnatomyError, match=r"has LoRA in it already\. Call merge_lora"):
        add_lora(model)
    merge_lora(model)
    assert add_lora(model)
