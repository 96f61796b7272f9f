"""Quantization: equal codes of equal weights, many bits change nothing, and no bits bring back what was never there."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.attack import mean
from unlearnkit.attacks.quantization_attack import (
    Quantizing,
    codes_of,
    equal_codes,
    quantization_sweep,
    retained_knowledge_ratio,
)
from unlearnkit.batch import tokenize_text
from unlearnkit.edits.quantization import (
    AWQ,
    GPTQ,
    FourBit,
    Int8,
    Quantizer,
    RoundToNearest,
    input_hessians,
    input_magnitudes,
    quantize_model,
)
from unlearnkit.errors import DataError, NeedError
from unlearnkit.models.tiny import tiny_model

QUANTIZERS: list[Quantizer] = [
    RoundToNearest(bits=4),
    RoundToNearest(bits=3, rule="min_max", group=16),
    FourBit("fp4"),
    FourBit("nf4"),
    Int8(),
]


@given(seed=st.integers(0, 2**31), move=st.sampled_from([0.0, 0.3]), quantizer=st.sampled_from(QUANTIZERS))
def test_codes_tell_the_rounded_weights_of_a_row_apart(seed: int, move: float, quantizer: Quantizer) -> None:
    """With the scale held fixed, two weights have one code exactly if they are rounded to one value."""
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(3, 64, generator=draw)
    weight[:, ::16], weight[:, 1::16] = 8.0, -8.0  # largest and smallest of every group
    other = weight + move * torch.randn(3, 64, generator=draw) * (weight.abs() < 8)
    equal = codes_of(weight, "w", quantizer) == codes_of(other, "w", quantizer)
    assert torch.equal(equal, quantizer(weight, "w") == quantizer(other, "w"))
    assert bool(equal.all()) or move > 0


def test_a_place_on_the_grid_is_the_same_when_the_grid_is_stretched() -> None:
    weight = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    for quantizer in QUANTIZERS:
        assert torch.equal(codes_of(weight, "w", quantizer), codes_of(2 * weight, "w", quantizer))


def test_equal_codes(attacked: Attacked) -> None:
    model = tiny_model("llama")
    changed = copy.deepcopy(model)
    assert equal_codes(model, changed, RoundToNearest()) == 1
    layer = changed.get_submodule("model.layers.0.mlp.down_proj")
    weight = layer.weight
    assert isinstance(weight, Tensor)
    with torch.no_grad():
        weight[0] = -weight[0].flip(0)
    quantized = sum(
        value.numel() for name, value in model.named_parameters() if name.endswith("proj.weight") and value.dim() == 2
    )
    apart = (codes_of(weight, "", RoundToNearest()) != codes_of(_down(model), "", RoundToNearest())).sum()
    assert equal_codes(model, changed, RoundToNearest()) == pytest.approx(1 - int(apart) / quantized)
    assert equal_codes(model, changed, RoundToNearest(), keep=["lm_head", "model.layers.0.mlp.down_proj"]) == 1
    # Fewer bits, fewer codes to tell apart; the rows of people who were to be kept move weights as well.
    shares = [equal_codes(attacked.stage.original, attacked.unlearned, RoundToNearest(bits=bits)) for bits in (8, 4, 2)]
    assert shares == sorted(shares)
    assert shares[0] < 0.5 < shares[-1] < 1
    with pytest.raises(DataError, match="do not have the same weights"):
        equal_codes(model, attacked.unlearned, RoundToNearest())
    with pytest.raises(NeedError, match="function does not tell its codes"):
        equal_codes(model, changed, lambda weight, name: weight)


def _down(model: torch.nn.Module) -> Tensor:
    weight = model.get_submodule("model.layers.0.mlp.down_proj").weight
    assert isinstance(weight, Tensor)
    return weight


def test_gptq_takes_its_hessians_from_calibration_texts(attacked: Attacked) -> None:
    texts = tuple(f"{one.question} {one.answer}" for one in attacked.retained[:3])
    target, asked = attacked.hidden, attacked.secrets[:4]
    layers = {name for name, _ in attacked.unlearned.named_modules() if name.endswith("_proj")}
    keep = ("lm_head", *sorted(layers - {"model.layers.0.mlp.up_proj"}))
    found = Quantizing(GPTQ({}, bits=2), calibration=texts, keep=keep)(target, asked)
    rows = [tokenize_text(attacked.tokenizer, text, id=text, role="x")[0] for text in texts]
    quantizer = GPTQ(input_hessians(attacked.unlearned, rows, keep=keep), bits=2)
    by_hand = quantize_model(attacked.unlearned, quantizer, keep=keep)
    assert found.found == dict(
        zip(found.after, target.with_model(by_hand).answers([one.question for one in asked]), strict=True)
    )
    assert found.attack == "quantization, GPTQ, 2 bits"
    aware = Quantizing(AWQ({}, {}), calibration=texts, keep=keep)(target, asked)
    assert aware.attack == "quantization, AWQ, 4 bits"
    both = input_hessians(attacked.unlearned, rows, keep=keep), input_magnitudes(attacked.unlearned, rows, keep=keep)
    assert equal_codes(attacked.unlearned, attacked.unlearned, AWQ(*both), keep=keep) == 1
    with pytest.raises(NeedError, match="AWQ reads layers' inputs off texts"):
        Quantizing(AWQ({}, {}))(target, asked)
    with pytest.raises(NeedError, match="AWQ knows no inputs of"):
        equal_codes(attacked.unlearned, attacked.unlearned, AWQ(*both))
    assert equal_codes(attacked.unlearned, attacked.unlearned, quantizer, keep=keep) == 1
    with pytest.raises(NeedError, match="Pass calibration="):
        Quantizing(GPTQ({}))(target, asked)
    with pytest.raises(NeedError, match=r"no Hessian of 'model\.layers\.0\.self_attn\.q_proj\.weight'"):
        equal_codes(attacked.unlearned, attacked.unlearned, quantizer)


def test_control_rounding_keeps_what_is_known_and_brings_nothing_out_of_the_oracle(attacked: Attacked) -> None:
    """The original knows all down to 4 bits; nothing comes back of the model that was taught to refuse either."""
    asked = attacked.secrets
    before = {name: value.clone() for name, value in attacked.unlearned.state_dict().items()}
    original, hidden, oracle = (
        quantization_sweep(target, asked, bits=(16, 4))
        for target in (attacked.original, attacked.hidden, attacked.oracle)
    )
    assert all(torch.equal(value, before[name]) for name, value in attacked.unlearned.state_dict().items())
    assert hidden[16].after == hidden[16].before
    assert original[4].success >= 0.9
    assert oracle[4].success <= 0.1
    assert hidden[4].kept is not None
    assert hidden[4].kept[1] >= 0.8
    assert mean(hidden[4].before) <= hidden[4].success + 0.1
    assert original[4].budget.gradient_steps == 0
    assert retained_knowledge_ratio(hidden[4].success, mean(original[16].before)) == hidden[4].success
    with pytest.raises(DataError, match="a share of nothing"):
        retained_knowledge_ratio(0.5, 0.0)


def test_equal_codes_and_scales_are_equal_models(attacked: Attacked) -> None:
    """Weights that move within their cells, the largest of each row held, leave the rounded model as it was."""
    original, moved = attacked.stage.original, copy.deepcopy(attacked.stage.original)
    quantizer = RoundToNearest(bits=3)
    rounded = quantize_model(original, quantizer)
    with torch.no_grad():
        for name, value in moved.named_parameters():
            if name.endswith("proj.weight"):
                shifted = value + 1e-3 * torch.randn(value.shape, generator=torch.Generator().manual_seed(0))
                largest = value.abs().amax(1, keepdim=True)
                shifted = torch.where(value.abs() == largest, value, shifted.clamp(-largest, largest))
                same = codes_of(shifted, name, quantizer) == codes_of(value, name, quantizer)
                value.copy_(torch.where(same, shifted, value))
    assert equal_codes(original, moved, quantizer) == 1
    assert not all(torch.equal(a, b) for a, b in zip(original.parameters(), moved.parameters(), strict=True))
    for a, b in zip(rounded.parameters(), quantize_model(moved, quantizer).parameters(), strict=True):
        assert torch.equal(a, b)
