"""PEFT models: run with their adapter as they are, without it as their own reference, and trained by it alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tests.toy import toy_rows
from unlearnkit.batch import Row, count
from unlearnkit.errors import AnatomyError, MissingModelError
from unlearnkit.models.causal import CausalLM, as_model, device_of, no_dropout
from unlearnkit.models.generate import generate
from unlearnkit.models.peft import adapter_off, is_peft
from unlearnkit.models.tiny import tiny_model
from unlearnkit.objectives import NPO, CrossEntropy
from unlearnkit.observe import HeadBudget, observe
from unlearnkit.protocols import Greedy, Model, Site, resid_post
from unlearnkit.train import unlearn

peft: Any = pytest.importorskip("peft")

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning",  # PEFT reads it
    "ignore:Model (has|with) `tie_word_embeddings=True`:UserWarning",
    "ignore:fan_in_fan_out is set to:UserWarning",  # GPT-2's layers are transposed
    "ignore:Unsupported layer type:UserWarning",  # Llama's norms
)

INSIDE: Mapping[str, Sequence[str]] = {
    "llama": ["q_proj", "v_proj", "down_proj"],
    "gpt2": ["c_attn", "mlp.c_proj"],
}
AROUND: Mapping[str, Sequence[str]] = {"llama": ["embed_tokens", "lm_head"], "gpt2": ["wte", "lm_head"]}

OPTIONS: Mapping[str, Mapping[str, object]] = {
    "LoRA": {},
    "LoRA on embedding and head": {"around": True},
    "DoRA": {"use_dora": True},
    "whole head": {"modules_to_save": ["lm_head"]},
    "some tokens": {"trainable_token_indices": [3, 5]},
}
kinds = pytest.mark.parametrize("kind", OPTIONS)
families = pytest.mark.parametrize("family", INSIDE)


def put_on(base: PreTrainedModel, kind: str = "LoRA", **options: object) -> Any:
    """The PEFT model of a base model, its adapter as it is at first: adding nothing."""
    family = base.config.model_type
    own = {**OPTIONS[kind], **options}
    targets = [*INSIDE[family], *(AROUND[family] if own.pop("around", False) else ())]
    config = peft.LoraConfig(**{"target_modules": targets, "r": 4, "task_type": "CAUSAL_LM", **own})
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return peft.get_peft_model(base, config)


def learn(base: PreTrainedModel, seed: int = 1) -> None:
    """Move every weight of the adapter, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trained(base).values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))


def trained(base: PreTrainedModel) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in base.named_parameters() if parameter.requires_grad}


def state_of(model: nn.Module) -> tuple[list[bool], list[bool], list[bool]]:
    """What is trainable, in training mode, and switched off."""
    return (
        [parameter.requires_grad for parameter in model.parameters()],
        [module.training for module in model.modules()],
        [bool(getattr(module, "disable_adapters", False)) for module in model.modules()],
    )


def inputs_of(width: int = 7, rows: int = 2) -> dict[str, Tensor]:
    ids = torch.randint(64, (rows, width), generator=torch.Generator().manual_seed(2))
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "position_ids": torch.arange(width).expand(rows, width),
    }


def logits_of(model: Model, inputs: Mapping[str, Tensor]) -> Tensor:
    return model.head(model.hidden(inputs).final)


# --- the adapter on ---------------------------------------------------------------------------------------------------


@kinds
@families
def test_body_and_head_make_the_peft_models_logits(family: str, kind: str) -> None:
    base = tiny_model(family)
    inputs = inputs_of()
    before: Tensor = base(**inputs).logits
    model = put_on(base, kind)
    wrapped = as_model(model)
    assert isinstance(wrapped, CausalLM)
    assert wrapped.vocabulary == 64
    learn(base)
    model.eval()
    expected: Tensor = model(**inputs).logits
    assert not torch.allclose(expected, before)
    assert torch.equal(logits_of(wrapped, inputs), expected)


@kinds
@families
def test_the_wrapper_holds_every_parameter_once(family: str, kind: str) -> None:
    base = tiny_model(family)
    model = put_on(base, kind)
    wrapped = as_model(model)
    assert isinstance(wrapped, nn.Module)
    names = dict(wrapped.named_parameters())
    assert set(map(id, names.values())) == set(map(id, model.parameters()))
    adapter = [name for name, parameter in names.items() if parameter.requires_grad]
    assert adapter
    assert all(any(part in name for part in ("lora_", "modules_to_save", "trainable_tokens")) for name in adapter)
    assert all(".base_layer." not in name for name in adapter)
    assert set(wrapped.state_dict()) == {f"model.{name}" for name in base.state_dict()}


@families
def test_sites_are_those_of_the_adapted_modules(family: str) -> None:
    base = tiny_model(family)
    model = put_on(base)
    learn(base)
    wrapped = as_model(model)
    assert isinstance(wrapped, CausalLM)
    down = wrapped.anatomy.mlp_down(1)
    assert isinstance(down, nn.Module)
    read: list[Tensor] = []
    base_layer = down.get_submodule("base_layer")
    inputs = inputs_of()
    key, out = Site("mlp_key", 1), Site("mlp_out", 1)
    with base_layer.register_forward_pre_hook(lambda _, args: read.append(args[0])):
        sites = wrapped.hidden(inputs, capture=frozenset({key, out})).sites
    assert torch.equal(sites[key], read[0])
    assert torch.equal(down(sites[key]), sites[out])
    assert not torch.allclose(base_layer(sites[key]), sites[out])
    delta = torch.randn(sites[key].shape[-1], generator=torch.Generator().manual_seed(0))
    changed = wrapped.hidden(inputs, capture=frozenset({out}), add={key: delta}).sites
    assert torch.equal(changed[out], down(sites[key] + delta))


def written(logits: Any, prompt: Tensor, tokens: int) -> tuple[int, ...]:
    """Greedy generation without any cache."""
    ids = prompt[None]
    for _ in range(tokens):
        ids = torch.cat([ids, logits(ids)[:, -1:].argmax(-1)], dim=1)
    return tuple(ids[0, len(prompt) :].tolist())


@kinds
@families
def test_generation(family: str, kind: str) -> None:
    base = tiny_model(family)
    original = copy.deepcopy(base)
    model = put_on(base, kind)
    learn(base)
    model.eval()
    prompts = [row.inputs["input_ids"] for row in toy_rows("forget", [(3, 1), (6, 1)])]
    expected = tuple(written(lambda ids: model(input_ids=ids).logits, prompt, 8) for prompt in prompts)
    without = tuple(written(lambda ids: original(input_ids=ids).logits, prompt, 8) for prompt in prompts)
    assert expected != without
    base.activation_checkpointing_enable()
    base.train()  # which would drop the cache, were it not put into evaluation mode
    state = state_of(base)
    assert generate(as_model(model), prompts, Greedy(8), end_tokens=frozenset()) == expected
    assert generate(adapter_off(model), prompts, Greedy(8), end_tokens=frozenset()) == without
    assert state_of(base) == state


# --- the adapter off --------------------------------------------------------------------------------------------------


@kinds
@families
def test_switched_off_it_is_the_model_before(family: str, kind: str) -> None:
    base = tiny_model(family)
    original = CausalLM(copy.deepcopy(base))
    model = put_on(base, kind)
    reference = adapter_off(model)
    assert isinstance(reference, Model)
    assert not isinstance(reference, nn.Module)
    assert as_model(reference) is reference
    assert reference.vocabulary == 64
    inputs = inputs_of()
    sites = frozenset({Site("embed"), Site("mlp_key", 0), resid_post(1)})
    add = {resid_post(0): torch.ones(32)}
    for seed in (1, 2):
        learn(base, seed)
        assert torch.equal(logits_of(reference, inputs), logits_of(original, inputs))
        assert not torch.allclose(logits_of(as_model(model), inputs), logits_of(original, inputs))
        found = reference.hidden(inputs, capture=sites, add=add)
        expected = original.hidden(inputs, capture=sites, add=add)
        assert torch.equal(found.final, expected.final)
        assert found.sites.keys() == sites
        assert all(torch.equal(found.sites[site], expected.sites[site]) for site in sites)


@kinds
@families
def test_looking_changes_nothing(family: str, kind: str) -> None:
    base = tiny_model(family)
    original = CausalLM(copy.deepcopy(base))
    model = put_on(base, kind, lora_dropout=0.5)
    model.add_adapter("other", copy.deepcopy(model.peft_config["default"]))
    learn(base)
    reference = adapter_off(model)
    inputs = inputs_of()
    frozen, moded = trained(base), [*base.modules()][::2]
    for parameter in [*frozen.values()][::2]:  # as in a run whose optimizer holds a part of the adapter
        parameter.requires_grad_(False)
    base.train()  # dropout of the base model has to be off all the same
    for module in moded:
        module.training = False
    state = state_of(model)
    weights = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    assert torch.equal(logits_of(reference, inputs), logits_of(original, inputs))
    assert state_of(model) == state
    with pytest.raises(RuntimeError, match="must match the size"):
        reference.hidden(inputs, add={resid_post(0): torch.zeros(3)})
    with pytest.raises(RuntimeError, match="shape"):
        reference.head(torch.zeros(1, 3))
    assert state_of(model) == state
    assert all(torch.equal(weights[name], tensor) for name, tensor in base.state_dict().items())
    with model.disable_adapter():
        state = state_of(model)
        logits_of(reference, inputs)
        assert state_of(model) == state


@kinds
def test_the_reference_is_without_gradient(kind: str) -> None:
    reference = adapter_off(put_on(tiny_model("llama"), kind))
    hidden = reference.hidden(inputs_of(), add={resid_post(0): torch.zeros(32, requires_grad=True)}).final
    assert not hidden.requires_grad
    assert not reference.head(hidden.requires_grad_()).requires_grad


def test_the_device_is_that_of_the_parameters() -> None:
    model = put_on(tiny_model("llama"))
    reference = adapter_off(model)
    assert device_of(reference) == torch.device("cpu")
    model.to("meta")
    assert device_of(reference) == torch.device("meta")


# --- training ---------------------------------------------------------------------------------------------------------


def rows_of() -> tuple[Row, ...]:
    return (*toy_rows("forget", [(3, 4), (2, 7)]), *toy_rows("retain", [(4, 3), (5, 5), (2, 2)], seed=1))


def answer_log_probs(logits: Any, row: Row) -> Tensor:
    """[answer tokens] of one row, run alone."""
    ids = row.inputs["input_ids"][None]
    log_probs: Tensor = logits(ids)[0, :-1].log_softmax(-1)
    labels = row.labels[1:]
    return log_probs.gather(1, labels.clamp(min=0)[:, None])[:, 0][labels != -100]


def plain_loss(logits: Any, reference_logits: Any, rows: Sequence[Row], beta: float) -> Tensor:
    """NPO on forget rows and token-mean cross-entropy on retain rows, from plain transformers calls."""
    forget = [row for row in rows if row.role == "forget"]
    with torch.no_grad():
        reference = torch.stack([answer_log_probs(reference_logits, row).sum() for row in forget])
    ratios = torch.stack([answer_log_probs(logits, row).sum() for row in forget]) - reference
    npo = -(2 / beta) * nn.functional.logsigmoid(-beta * ratios).mean()
    return npo - torch.cat([answer_log_probs(logits, row) for row in rows if row.role == "retain"]).mean()


@contextmanager
def counted(module: nn.Module) -> Iterator[list[int]]:
    calls: list[int] = []
    with module.register_forward_pre_hook(lambda *_: calls.append(1)):
        yield calls


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("budget", [HeadBudget(), HeadBudget(chunk_bytes=2048, kept_bytes=0)], ids=["kept", "again"])
@pytest.mark.parametrize("kind", ["LoRA", "LoRA on embedding and head", "DoRA"])
@families
def test_gradients_are_those_of_plain_transformers(
    family: str, kind: str, budget: HeadBudget, checkpointed: bool
) -> None:
    base = tiny_model(family, dtype=torch.float64)
    original = copy.deepcopy(base)
    model = put_on(base, kind, lora_dropout=0.5)
    learn(base)
    for parameter in [*trained(base).values()][::3]:
        parameter.requires_grad_(False)
    parameters = trained(base)
    rows, beta = rows_of(), 0.3
    model.train()
    if checkpointed:
        base.activation_checkpointing_enable()
    with no_dropout(base):
        loss = plain_loss(
            lambda ids: model(input_ids=ids).logits, lambda ids: original(input_ids=ids).logits, rows, beta
        )
        expected = torch.autograd.grad(loss, [*parameters.values()])

        objective = NPO(beta=beta) + 1.0 * CrossEntropy("retain")
        wrapped = as_model(model)
        assert isinstance(wrapped, CausalLM)
        models: dict[str, Model] = {"model": wrapped, "reference": adapter_off(model)}
        down = wrapped.anatomy.mlp_down(0)
        assert isinstance(down, nn.Module)
        with counted(down) as calls:
            terms = objective(observe(models, rows, objective.needs, budget=budget))
            ours = torch.stack([term.value / count(rows, term.per) for term in terms if term.per is not None]).sum()
            assert len(calls) == 2
            found = torch.autograd.grad(ours, [*parameters.values()])
            assert len(calls) == (3 if checkpointed else 2)  # only the model's own pass is run again
    torch.testing.assert_close(ours, loss, rtol=1e-6, atol=0.0)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    assert all(bool(gradient.abs().max() > 1e-4) for gradient in expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@families
def test_unlearning_trains_the_adapter_alone(family: str, dtype: torch.dtype) -> None:
    base = tiny_model(family, dtype=dtype)
    original = CausalLM(copy.deepcopy(base))
    model = put_on(base)
    reference = adapter_off(model)
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    adapter = trained(base)
    trainable = [parameter.requires_grad for parameter in model.parameters()]
    rows = rows_of()
    run = unlearn(
        model,
        NPO() + CrossEntropy("retain"),
        {role: [row for row in rows if row.role == role] for role in ("forget", "retain")},
        optimizer=torch.optim.AdamW(adapter.values(), lr=0.02, weight_decay=0.0),
        models={"reference": reference},
        steps=4,
        batch_size=2,
    )
    assert run.steps[-1].loss < run.steps[0].loss
    after = base.state_dict()
    assert {name for name, tensor in after.items() if not torch.equal(tensor, before[name])} == set(adapter)
    assert [parameter.requires_grad for parameter in model.parameters()] == trainable
    inputs = inputs_of()
    assert torch.equal(logits_of(reference, inputs), logits_of(original, inputs))
    assert not torch.allclose(logits_of(as_model(model), inputs), logits_of(original, inputs))


def test_a_reference_that_is_trained_along_is_refused() -> None:
    base = tiny_model("llama")
    reference = adapter_off(put_on(base))
    state = state_of(base)
    weight = base.get_parameter("model.layers.1.mlp.gate_proj.weight")
    weight.requires_grad_(True)
    with pytest.raises(MissingModelError, match=r"layers\.1\.mlp\.gate_proj\.weight lies under the adapter and is tr"):
        reference.hidden(inputs_of())
    weight.requires_grad_(False)
    assert state_of(base) == state
    reference.hidden(inputs_of())


# --- what is accepted -------------------------------------------------------------------------------------------------


def test_a_peft_model_is_recognised_by_its_methods() -> None:
    base = tiny_model("llama")
    assert not is_peft(base)
    assert not is_peft(CausalLM(base))
    assert not is_peft(peft.PeftModel)
    assert is_peft(put_on(base))


@pytest.mark.parametrize(
    "config",
    [
        lambda: peft.AdaLoraConfig(target_modules=["q_proj", "down_proj"], total_step=10, task_type="CAUSAL_LM"),
        lambda: peft.IA3Config(
            target_modules=["v_proj", "down_proj"], feedforward_modules=["down_proj"], task_type="CAUSAL_LM"
        ),
        lambda: peft.LoHaConfig(target_modules=["q_proj", "down_proj"], r=2, task_type="CAUSAL_LM"),
        lambda: peft.VeraConfig(target_modules=["q_proj", "v_proj"], r=4, task_type="CAUSAL_LM"),
        lambda: peft.OFTConfig(target_modules=["q_proj"], oft_block_size=4, task_type="CAUSAL_LM"),
        lambda: peft.LNTuningConfig(task_type="CAUSAL_LM"),
        lambda: peft.AdaptionPromptConfig(adapter_len=2, adapter_layers=1, task_type="CAUSAL_LM"),
    ],
    ids=["AdaLoRA", "IA3", "LoHa", "VeRA", "OFT", "layer norms", "LLaMA-Adapter"],
)
def test_other_adapters_inside_the_model_work_too(config: Any) -> None:
    base = tiny_model("llama")
    original = CausalLM(copy.deepcopy(base))
    model = peft.get_peft_model(base, config())
    learn(base)
    model.eval()
    inputs = inputs_of()
    state = state_of(model)
    assert torch.equal(logits_of(as_model(model), inputs), model(**inputs).logits)
    assert torch.equal(logits_of(adapter_off(model), inputs), logits_of(original, inputs))
    assert state_of(model) == state
    assert not torch.allclose(logits_of(as_model(model), inputs), logits_of(original, inputs))


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            lambda: peft.PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"),
            r"^PROMPT_TUNING puts virtual tokens before the text .* Use an adapter that is all layers inside the model",
        ),
        (
            lambda: peft.PrefixTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"),
            r"^PREFIX_TUNING puts virtual tokens",
        ),
        (
            lambda: peft.LoraConfig(
                target_modules=["q_proj"], alora_invocation_tokens=[1, 2], task_type="CAUSAL_LM", r=4
            ),
            r"^aLoRA is steered by the forward pass of PeftModelForCausalLM; .* Use an adapter that is all layers",
        ),
        (
            lambda: peft.PolyConfig(target_modules=["q_proj"], task_type="CAUSAL_LM", r=4),
            r"^POLY is steered by the forward pass",
        ),
    ],
    ids=["prompt tuning", "prefix tuning", "aLoRA", "Poly"],
)
def test_an_adapter_outside_of_the_model_is_refused(config: Any, text: str) -> None:
    model = peft.get_peft_model(tiny_model("llama"), config())
    for use in (as_model, adapter_off):
        with pytest.raises(AnatomyError, match=text):
            use(model)


def test_a_peft_model_around_something_else_is_refused() -> None:
    model = peft.get_peft_model(nn.Sequential(nn.Linear(3, 3)), peft.LoraConfig(target_modules=["0"]))
    with pytest.raises(AnatomyError, match=r"^PeftModel holds a Sequential, which is no transformers model"):
        as_model(model)


@pytest.mark.parametrize("other", [lambda: tiny_model("llama"), lambda: CausalLM(tiny_model("llama")), lambda: "llama"])
def test_what_has_no_adapter_cannot_switch_it_off(other: Any) -> None:
    with pytest.raises(AnatomyError, match=r"is no peft\.PeftModel, so it has no adapter to switch off\. Put one on"):
        adapter_off(other())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa' of the adapter 'default' changed the weights"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights='pissa_niter_4'"),
        ({"init_lora_weights": "olora"}, "init_lora_weights='olora'"),
        ({"bias": "lora_only"}, "bias='lora_only' of the adapter 'default' trains biases under it"),
    ],
)
def test_weights_that_the_adapter_changed_are_no_reference(options: dict[str, Any], text: str) -> None:
    model = put_on(tiny_model("llama"), **options)
    as_model(model)
    with pytest.raises(MissingModelError, match=f"^{text}.*is not the model it was put on and no reference. Pass a"):
        adapter_off(model)


@pytest.mark.skipif(not hasattr(peft, "KasaConfig"), reason="this version of PEFT has no KaSA")
def test_weights_that_kasa_changed_are_no_reference() -> None:
    model = put_on(tiny_model("llama"), kasa_config=peft.KasaConfig())
    with pytest.raises(MissingModelError, match=r"^KaSA, of the adapter 'default', changed the weights under it"):
        adapter_off(model)


@pytest.mark.parametrize("initialisation", [True, False, "gaussian", "orthogonal"])
def test_initialisations_that_leave_the_weights_alone_are_fine(initialisation: object) -> None:
    base = tiny_model("llama")
    original = CausalLM(copy.deepcopy(base))
    reference = adapter_off(put_on(base, init_lora_weights=initialisation))
    assert torch.equal(logits_of(reference, inputs_of()), logits_of(original, inputs_of()))


def test_a_merged_adapter_is_no_reference() -> None:
    base = tiny_model("llama")
    model = put_on(base)
    learn(base)
    model.merge_adapter()
    with pytest.raises(MissingModelError, match=r"^the adapter is merged into the weights under it, so that"):
        adapter_off(model)


def test_a_second_adapter_is_switched_off_too() -> None:
    base = tiny_model("llama")
    original = CausalLM(copy.deepcopy(base))
    model = put_on(base)
    learn(base)
    model.add_adapter("other", copy.deepcopy(model.peft_config["default"]))
    model.set_adapter("other")
    learn(base, seed=3)
    assert torch.equal(logits_of(adapter_off(model), inputs_of()), logits_of(original, inputs_of()))
    assert all(".other" in name for name in trained(base))
