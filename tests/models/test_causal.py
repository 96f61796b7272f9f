"""The adapter: exact logits, sites that are what they say, and gradients that survive activation checkpointing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from unlearnkit.errors import AnatomyError, GradientError, NeedError
from unlearnkit.models.causal import CausalLM, as_model, no_dropout
from unlearnkit.models.tiny import TINY_FAMILIES, tiny_config, tiny_model
from unlearnkit.protocols import Model, Site, SiteKind, resid_post

EXPERTS = ("mixtral", "qwen2_moe", "qwen3_moe")
POST_NORM = ("gemma2", "olmo2")
IN_BLOCK: tuple[SiteKind, ...] = ("resid_pre", "attn_out", "mlp_key", "mlp_out", "resid_post")
FINAL = Site("final_hidden")


def padded(lengths: Sequence[int], *, side: str = "right", seed: int = 0) -> dict[str, Tensor]:
    """Random rows; the same seed and lengths give the same tokens on either side."""
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    inputs = {name: torch.zeros(len(lengths), width, dtype=torch.int64) for name in ("input_ids", "attention_mask")}
    inputs["position_ids"] = torch.zeros_like(inputs["input_ids"])
    for b, length in enumerate(lengths):
        real = slice(0, length) if side == "right" else slice(width - length, width)
        inputs["input_ids"][b, real] = torch.randint(64, (length,), generator=generator)
        inputs["attention_mask"][b, real] = 1
        inputs["position_ids"][b, real] = torch.arange(length)
    return inputs


def sites_of(family: str, layers: int = 2) -> frozenset[Site]:
    kinds = [kind for kind in IN_BLOCK if family not in EXPERTS or kind != "mlp_key"]
    return frozenset({Site("embed"), FINAL, *(Site(kind, layer) for kind in kinds for layer in range(layers))})


def tiny(family: str, dtype: torch.dtype = torch.float64) -> CausalLM:
    return CausalLM(tiny_model(family, dtype=dtype))


def hooks_of(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


# --- logits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_body_and_head_make_the_models_logits(family: str, dtype: torch.dtype) -> None:
    model = tiny(family, dtype)
    inputs = padded([7, 12, 36])  # longer than the sliding windows
    with torch.no_grad():
        expected: Tensor = model.model(**inputs).logits
        assert torch.equal(model.head(model.hidden(inputs).final), expected)
        reading = model.hidden(inputs, capture=sites_of(family))
        assert torch.equal(model.head(reading.final), expected)
    assert reading.sites.keys() == sites_of(family)
    assert hooks_of(model) == 0


def test_an_untested_architecture_is_tried_before_it_is_trusted() -> None:
    def untested(family: str, **settings: object) -> PreTrainedModel:
        like = tiny_config("llama").to_dict()
        sizes = {name: like[name] for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")}
        config = AutoConfig.for_model(family, **sizes, num_attention_heads=4, num_key_value_heads=2, **settings)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config).eval()
        return model

    inputs = padded([5, 3])
    for model in (untested("starcoder2"), untested("cohere2", logit_scale=0.5)):
        wrapped = CausalLM(model)
        assert torch.equal(wrapped.head(wrapped.hidden(inputs).final), model(**inputs).logits)
    # It multiplies by what Granite, with the same name, divides by.
    with pytest.raises(
        AnatomyError, match=r"HyperCLOVAXForCausalLM: its logits are not what HyperCLOVAXModel and head"
    ):
        CausalLM(untested("hyperclovax", logits_scaling=4.0))


def test_parts_that_were_replaced_after_wrapping_are_found() -> None:
    model = tiny("llama")
    inputs = padded([5])
    before = model.hidden(inputs, capture=frozenset({Site("mlp_key", 1)})).sites[Site("mlp_key", 1)]
    mlp = model.model.get_submodule("model.layers.1.mlp")
    mlp.down_proj = nn.Sequential(mlp.get_submodule("down_proj"))
    after = model.hidden(inputs, capture=frozenset({Site("mlp_key", 1)})).sites[Site("mlp_key", 1)]
    assert torch.equal(before, after)
    model.model.resize_token_embeddings(70, mean_resizing=False)
    assert model.vocabulary == 70
    assert torch.equal(model.head(model.hidden(inputs).final), model.model(**inputs).logits)


# --- sites ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_sites_are_what_transformers_calls_hidden_states(family: str) -> None:
    model = tiny(family)
    inputs = padded([6, 9])
    states: tuple[Tensor, ...] = model.model(**inputs, output_hidden_states=True).hidden_states
    sites = model.hidden(inputs, capture=sites_of(family)).sites
    for layer in range(2):
        assert torch.equal(sites[Site("resid_pre", layer)], states[layer])
    assert torch.equal(sites[resid_post(0)], states[1])
    assert torch.equal(sites[FINAL], states[2])
    assert torch.equal(model.anatomy.final_norm(sites[resid_post(1)]), states[2])


@pytest.mark.parametrize("family", [family for family in TINY_FAMILIES if family not in POST_NORM])
def test_the_residual_stream_is_the_sum_of_what_is_written_to_it(family: str) -> None:
    model = tiny(family)
    sites = model.hidden(padded([6, 9]), capture=sites_of(family)).sites
    factor = getattr(model.model.config, "residual_multiplier", 1.0)
    for layer in range(2):
        written = sites[Site("attn_out", layer)] + sites[Site("mlp_out", layer)]
        torch.testing.assert_close(sites[Site("resid_pre", layer)] + factor * written, sites[resid_post(layer)])


@pytest.mark.parametrize("family", [family for family in TINY_FAMILIES if family not in EXPERTS])
def test_the_mlp_is_its_down_projection_of_the_key(family: str) -> None:
    model = tiny(family)
    sites = model.hidden(padded([6, 9]), capture=sites_of(family)).sites
    for layer in range(2):
        down = model.anatomy.mlp_down(layer)
        assert isinstance(down, nn.Module)
        assert torch.equal(down(sites[Site("mlp_key", layer)]), sites[Site("mlp_out", layer)])


@pytest.mark.parametrize("kind", ["attn_out", "mlp_key", "mlp_out"])
def test_adding_a_constant_inside_a_block_is_changing_a_bias(kind: SiteKind) -> None:
    model = tiny("gpt2")
    inputs = padded([6, 9])
    down = model.model.get_submodule("transformer.h.0.mlp.c_proj")
    edited = model.model.get_submodule("transformer.h.0.attn.c_proj") if kind == "attn_out" else down
    delta = torch.randn(128 if kind == "mlp_key" else 32, dtype=torch.float64)
    added = model.hidden(inputs, add={Site(kind, 0): delta}).final
    with torch.no_grad():
        assert isinstance(edited.bias, Tensor)
        assert isinstance(down.weight, Tensor)
        edited.bias += delta @ down.weight if kind == "mlp_key" else delta
    torch.testing.assert_close(added, model.hidden(inputs).final)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mixtral"])
def test_adding_around_blocks(family: str) -> None:
    model = tiny(family)
    inputs = padded([6, 9])
    delta = torch.randn(2, 9, 32, dtype=torch.float64)
    embedded: Tensor = model.anatomy.embedding(inputs["input_ids"])
    others = {name: value for name, value in inputs.items() if name != "input_ids"}
    expected: Tensor = model.model(**others, inputs_embeds=embedded + delta).logits
    assert torch.equal(model.head(model.hidden(inputs, add={Site("embed"): delta}).final), expected)

    after_first = model.hidden(inputs, add={resid_post(0): delta}).final
    assert torch.equal(after_first, model.hidden(inputs, add={Site("resid_pre", 1): delta}).final)
    assert not torch.allclose(after_first, model.hidden(inputs).final)

    plain = model.hidden(inputs, capture=frozenset({resid_post(1)}))
    changed = model.hidden(inputs, capture=frozenset({resid_post(1), FINAL}), add={resid_post(1): delta, FINAL: delta})
    assert torch.equal(changed.sites[resid_post(1)], plain.sites[resid_post(1)] + delta)
    assert torch.equal(changed.final, model.anatomy.final_norm(plain.sites[resid_post(1)] + delta) + delta)
    assert changed.final is changed.sites[FINAL]


@pytest.mark.parametrize(
    ("site", "text"),
    [
        (
            resid_post(2),
            r"LlamaModel has no site resid_post\[2\]: there is no block 2: LlamaModel has 2 blocks, 0 to 1",
        ),
        (Site("mlp_out", -1), r"no site mlp_out\[-1\]: there is no block -1"),
        (Site("mlp_out"), r"no site mlp_out\. Its sites are embed, final_hidden and, for each of 2 blocks, resid_pre"),
        (Site("embed", 0), r"no site embed\[0\]\. Its sites are embed"),
        (Site("final_hidden", 1), r"no site final_hidden\[1\]\. Its sites are embed"),
    ],
)
def test_a_site_that_does_not_exist_is_refused(site: Site, text: str) -> None:
    model = tiny("llama")
    with pytest.raises(AnatomyError, match=text):
        model.hidden(padded([4]), capture=frozenset({site}))
    with pytest.raises(AnatomyError, match=text):
        model.hidden(padded([4]), add={site: torch.zeros(32)})


def test_experts_have_no_single_key() -> None:
    with pytest.raises(AnatomyError, match=r"MixtralModel has no site mlp_key\[1\]: its MLP is a mixture of experts"):
        tiny("mixtral").hidden(padded([4]), capture=frozenset({Site("mlp_key", 1)}))


def test_a_site_that_is_not_run_is_an_error() -> None:
    model = tiny("llama")
    model.model.config.num_hidden_layers = 1  # transformers then skips the second block
    with pytest.raises(AnatomyError, match=r"did not run the module of resid_post\[1\]"):
        model.hidden(padded([4]), add={resid_post(1): torch.zeros(32)})


def test_hooks_are_gone_after_an_error() -> None:
    model = tiny("llama")
    model.model.activation_checkpointing_enable()
    before = [vars(module).get("_gradient_checkpointing_func") for module in model.modules()]
    hooks = hooks_of(model)  # transformers installs one of its own
    inputs = padded([4])
    expected = model.hidden(inputs).final
    for site in (Site("embed"), Site("mlp_out", 0), resid_post(1)):
        with pytest.raises(RuntimeError, match="must match the size"):
            model.hidden(inputs, capture=sites_of("llama"), add={site: torch.zeros(3, dtype=torch.float64)})
    assert hooks_of(model) == hooks
    assert [vars(module).get("_gradient_checkpointing_func") for module in model.modules()] == before
    assert torch.equal(model.hidden(inputs).final, expected)


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_neither_padding_nor_company_changes_a_hidden_state(family: str) -> None:
    model = tiny(family, torch.float32)  # float64 and eager attention make nan of left padding in transformers
    lengths = [36, 3, 11]
    right, left = padded(lengths), padded(lengths, side="left")
    with torch.no_grad():
        of_right, of_left = model.hidden(right).final, model.hidden(left).final
        for b, length in enumerate(lengths):
            alone = model.hidden({name: value[b : b + 1, :length] for name, value in right.items()}).final[0]
            torch.testing.assert_close(of_right[b, :length], alone, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(of_left[b, -length:], alone, rtol=1e-4, atol=1e-5)


# --- gradients --------------------------------------------------------------------------------------------------------


def perturbed(model: CausalLM, family: str, *, checkpointed: bool) -> tuple[Tensor, list[Tensor]]:
    """Loss of two passes with different additions everywhere, and gradients; a third pass comes before the backward."""
    model.train()
    if checkpointed:
        model.model.activation_checkpointing_enable()
    else:
        model.model.activation_checkpointing_disable()
    inputs = padded([6, 9], seed=3)
    generator = torch.Generator().manual_seed(5)
    losses, deltas = [], []
    for _ in range(2):
        clean = model.hidden(inputs, capture=sites_of(family)).sites
        add = {
            site: torch.randn(clean[site].shape, generator=generator, dtype=torch.float64).requires_grad_()
            for site in sorted(sites_of(family), key=str)
        }
        hidden = model.hidden(inputs, capture=sites_of(family), add=add)
        losses.append(model.head(hidden.final).log_softmax(-1)[..., 0].sum())
        losses += [hidden.sites[site].square().mean() for site in add]
        deltas += list(add.values())
    with torch.no_grad():
        model.hidden(padded([4]))
    loss = torch.stack(losses).sum()
    wanted = [*deltas, *model.parameters()]
    return loss, list(torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "gemma2", "mixtral"])
def test_gradients_are_the_same_under_activation_checkpointing(family: str) -> None:
    model = tiny(family)
    with no_dropout(model):
        plain, expected = perturbed(model, family, checkpointed=False)
        again, found = perturbed(model, family, checkpointed=True)
    assert torch.equal(plain, again)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert all(bool(gradient.abs().sum() > 0) for gradient in expected[: len(sites_of(family))])


@pytest.mark.parametrize("kind", ["mlp_key", "mlp_out"])
def test_gradient_of_an_addition_is_its_finite_difference(kind: SiteKind) -> None:
    model = tiny("gpt2")
    model.train()
    model.model.activation_checkpointing_enable()
    inputs = padded([5])
    delta = torch.zeros(128 if kind == "mlp_key" else 32, dtype=torch.float64, requires_grad=True)
    direction = torch.randn(delta.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def loss(delta: Tensor) -> Tensor:
        return model.head(model.hidden(inputs, add={Site(kind, 0): delta}).final).log_softmax(-1)[..., 0].sum()

    with no_dropout(model):
        (gradient,) = torch.autograd.grad(loss(delta), delta)
        with torch.no_grad():
            difference = (loss(1e-4 * direction) - loss(-1e-4 * direction)) / 2e-4
    torch.testing.assert_close(gradient @ direction, difference, rtol=1e-5, atol=1e-6)


def test_a_delta_of_another_precision_is_cast_and_still_gets_its_gradient() -> None:
    model = tiny("llama", torch.bfloat16)
    delta = torch.ones(32, requires_grad=True)
    final = model.hidden(padded([4]), add={Site("mlp_out", 0): delta}).final
    assert final.dtype == torch.bfloat16
    (gradient,) = torch.autograd.grad(final.sum(), delta)
    assert gradient.dtype == torch.float32


def test_reentrant_checkpointing_is_refused_inside_blocks() -> None:
    model = tiny("llama")
    model.train()
    model.model.activation_checkpointing_enable({"use_reentrant": True})
    with pytest.raises(
        GradientError, match=r"mlp_out\[0\] lies inside a block under reentrant activation checkpointing"
    ):
        model.hidden(padded([4]), capture=frozenset({Site("mlp_out", 0)}))


def test_a_cache_that_checkpointing_would_drop_is_refused() -> None:
    model = tiny("llama")
    model.train()
    model.model.activation_checkpointing_enable()
    with pytest.raises(NeedError, match=r"Call model\.eval\(\) first"):
        model.hidden(padded([4]), cache=model.new_cache())


# --- dropout ----------------------------------------------------------------------------------------------------------


def with_dropout(family: str) -> PreTrainedConfig:
    config = tiny_config(family)
    for name, value in config.to_dict().items():
        if "dropout" in name or "pdrop" in name or "jitter" in name:
            assert value is None or isinstance(value, float | int)
            setattr(config, name, 0.5)
    return config


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_dropout_is_off_inside_and_back_afterwards(family: str) -> None:
    model = CausalLM(AutoModelForCausalLM.from_config(with_dropout(family), experts_implementation="eager"))
    inputs = padded([6, 9])
    expected = model.eval().hidden(inputs).final
    model.train()
    assert not torch.allclose(model.hidden(inputs).final, expected)
    settings = model.model.config.to_dict()
    with no_dropout(model):
        assert torch.equal(model.hidden(inputs).final, expected)
    assert model.model.config.to_dict() == settings
    assert not torch.allclose(model.hidden(inputs).final, expected)


# --- the protocol -----------------------------------------------------------------------------------------------------


def test_a_model_of_transformers_is_wrapped_and_any_other_passed_on() -> None:
    inner = tiny_model("llama")
    model: Model = CausalLM(inner)
    assert isinstance(model, Model)
    assert as_model(model) is model
    wrapped = as_model(inner)
    assert isinstance(wrapped, CausalLM)
    assert wrapped.model is inner
    assert wrapped.vocabulary == 64
    assert not wrapped.training


def test_the_wrapped_model_is_saved_without_the_wrapper() -> None:
    model = tiny("gpt2")
    names: Mapping[str, Tensor] = model.state_dict()
    assert {name.removeprefix("model.") for name in names} == set(model.model.state_dict())
