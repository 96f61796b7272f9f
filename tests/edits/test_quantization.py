"""Quantizers: recorded codes of bitsandbytes and GPTQ, laws of rounding, and models that come back or do not."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Literal

import pytest
import torch
from hypothesis import given, strategies as st
from scipy.stats import norm
from torch import Tensor, nn
from transformers import PreTrainedModel

from tests.toy import toy_rows
from unlearnkit.edits import (
    AWQ,
    FP4,
    GPTQ,
    NF4,
    FourBit,
    Int8,
    Quantizer,
    RoundToNearest,
    awq,
    gptq,
    input_hessian,
    input_hessians,
    input_magnitudes,
    quantize_blockwise,
    quantize_int8,
    quantize_model,
    round_to_nearest,
)
from unlearnkit.edits.quantization import Rule
from unlearnkit.errors import DataError
from unlearnkit.models import CausalLM, tiny_model

TABLES = {"fp4": FP4, "nf4": NF4}
seeds = st.integers(0, 2**31)
rules = st.sampled_from(["signed", "absmax", "full_range", "min_max"])
bits_of = st.integers(2, 8)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(found: Tensor, expected: object, *, rtol: float = 1e-5) -> None:
    torch.testing.assert_close(found, torch.tensor(expected, dtype=found.dtype).view_as(found), rtol=rtol, atol=1e-7)


# --- recorded numbers -------------------------------------------------------------------------------------------------

Numbers = dict[str, list[object]]


def recorded(shared: Path, prefix: str) -> list[tuple[dict[str, Numbers], dict[str, object], dict[str, Numbers]]]:
    content = json.loads((shared / "conformance" / "metrics_quantization_a.json").read_text())
    return [
        (case["inputs"], case["hyper"], case["expected"])
        for case in content["cases"]
        if case["name"].startswith(prefix)
    ]


def test_codes_of_bitsandbytes(shared: Path) -> None:
    cases = recorded(shared, "weights")
    assert len(cases) >= 2
    for inputs, _, expected in cases:
        weight = torch.tensor(inputs["W"], dtype=torch.float32)
        for name, block in (("nf4", 64), ("nf4", 32), ("fp4", 64), ("fp4", 32)):
            kept = expected[f"{name}_block{block}"]
            table = torch.tensor(TABLES[name])
            rounded, codes, largest = quantize_blockwise(weight, table, block=block)
            close(table, kept["code_table"], rtol=0)
            assert codes.flatten().tolist() == kept["codes"]
            close(largest, kept["absmax"])
            close(rounded, kept["dequantised"])
            assert torch.equal(FourBit("nf4" if name == "nf4" else "fp4", block=block)(weight, "any"), rounded)
        kept = expected["int8_vectorwise_fp16_input"]
        rounded, codes, largest = quantize_int8(weight)
        assert codes.tolist() == kept["codes"]
        close(largest, kept["row_absmax"])
        close(rounded, kept["dequantised"])


def test_grids_of_the_gptq_repository(shared: Path) -> None:
    seen = 0
    for inputs, _, expected in recorded(shared, "weights"):
        weight = torch.tensor(inputs["W"], dtype=torch.float32)
        for name, kept in expected.items():
            if not name.startswith("gptq_repo_rtn_b"):
                continue
            bits, symmetry, group, *search = name.removeprefix("gptq_repo_rtn_b").split("_")
            rounded, codes, scale, zero = round_to_nearest(
                weight,
                bits=int(bits),
                rule="full_range" if symmetry == "sym" else "min_max",
                group="row" if group == "row" else "tensor",
                search=search == ["mse"],
            )
            close(scale, kept["scale"])
            close(zero, kept["zero"])
            close(rounded, kept["dequantised"])
            torch.testing.assert_close(scale * (codes - zero), rounded)
            seen += 1
    assert seen >= 20


def test_uniform_formulas(shared: Path) -> None:
    seen = 0
    for inputs, _, expected in recorded(shared, "weights"):
        weight = torch.tensor(inputs["W"], dtype=torch.float32)
        for name, kept in expected.items():
            if not name.startswith("__rtn_sym_b"):
                continue
            bits, size = name.removeprefix("__rtn_sym_b").split("_")
            group: int | Literal["row"] = "row" if size == "row" else int(size.removeprefix("group"))
            close(round_to_nearest(weight, bits=int(bits), group=group)[0], kept["paper_delta_clamped"])
            close(round_to_nearest(weight, bits=int(bits), group=group, rule="absmax")[0], kept["absmax_delta"])
            seen += 1
    assert seen >= 8


def test_gptq_of_its_authors(shared: Path) -> None:
    cases = recorded(shared, "gptq")
    assert len(cases) >= 3
    for inputs, hyper, expected in cases:
        weight, read = (torch.tensor(inputs[name], dtype=torch.float32) for name in ("W", "X"))
        hessian = input_hessian(read)
        close(hessian, expected["H"])
        settings = {name: hyper[name] for name in ("bits", "groupsize", "percdamp", "actorder", "blocksize")}
        rounded, codes, scale, zero = gptq(
            weight,
            hessian,
            bits=int(str(settings["bits"])),
            group=None if settings["groupsize"] == -1 else int(str(settings["groupsize"])),
            damping=float(str(settings["percdamp"])),
            activation_order=settings["actorder"] is True,
            block=int(str(settings["blocksize"])),
        )
        close(rounded, expected["quantised"])
        torch.testing.assert_close(scale * (codes - zero), rounded)
        nearest = round_to_nearest(weight, bits=int(str(settings["bits"])), rule="min_max")[0]
        close(nearest, expected["rtn"])
        for found, name in ((rounded, "gptq"), (nearest, "rtn")):
            error = (read @ (found - weight).T).square().sum()
            assert float(error) == pytest.approx(float(str(expected[f"output_sse_{name}"])), rel=1e-4)


def test_worked_numbers() -> None:
    weight = torch.tensor([[0.7, -0.3, 0.1, 0.0]], dtype=torch.float64)
    close(round_to_nearest(weight)[0], [[0.6125, -0.2625, 0.0875, 0.0]])
    close(round_to_nearest(weight, clamp=False)[0], [[0.7, -0.2625, 0.0875, 0.0]])
    close(round_to_nearest(weight, rule="absmax")[0], [[0.7, -0.3, 0.1, 0.0]])
    close(quantize_blockwise(weight, torch.tensor(FP4))[0], [[0.7, -0.35, 0.7 / 6, 0.0]])


def test_nf4_are_quantiles_of_a_normal_distribution() -> None:
    offset = (1 - 1 / 30 + 1 - 1 / 32) / 2
    upper = norm.ppf(torch.linspace(offset, 0.5, 9, dtype=torch.float64)[:-1].numpy())
    lower = -norm.ppf(torch.linspace(offset, 0.5, 8, dtype=torch.float64)[:-1].numpy())
    values = torch.tensor(sorted([*upper, 0.0, *lower]), dtype=torch.float64)
    torch.testing.assert_close(torch.tensor(NF4, dtype=torch.float64), values / values.max(), rtol=0, atol=1e-6)


# --- laws -------------------------------------------------------------------------------------------------------------


@given(seed=seeds, rule=rules, bits=bits_of)
def test_an_error_is_at_most_half_a_step(seed: int, rule: Rule, bits: int) -> None:
    weight = draw(seed, 3, 10)
    rounded, codes, scale, zero = round_to_nearest(weight, bits=bits, rule=rule)
    inside = (codes > 0) & (codes < 2**bits - 1)
    assert bool(((rounded - weight).abs() <= scale / 2 + 1e-12)[inside].all())
    assert 0 <= int(codes.min()) <= int(codes.max()) < 2**bits
    assert zero.shape == scale.shape == (3, 1)
    unclamped = round_to_nearest(weight, bits=bits, rule=rule, clamp=False)[0]
    assert bool(((unclamped - weight).abs() <= scale / 2 + 1e-12).all())


@given(seed=seeds, bits=bits_of)
def test_rounding_twice_is_rounding_once(seed: int, bits: int) -> None:
    weight = draw(seed, 4, 70)
    several: list[Quantizer] = [
        RoundToNearest(bits=bits, rule="min_max"),
        RoundToNearest(bits=bits, rule="absmax"),
        RoundToNearest(bits=bits, clamp=False),
        Int8(through_half=False),
        FourBit("fp4"),
        FourBit("nf4"),
    ]
    for quantizer in several:
        once = quantizer(weight, "any")
        torch.testing.assert_close(quantizer(once, "any"), once, rtol=1e-12, atol=1e-12)


def test_a_clamped_signed_grid_shrinks_when_it_is_laid_again() -> None:
    once = round_to_nearest(torch.tensor([[0.7, -0.3, 0.1, 0.0]], dtype=torch.float64))[0]
    assert not torch.allclose(round_to_nearest(once)[0], once)


@given(seed=seeds, rule=rules, factor=st.sampled_from([0.25, 2.0, 8.0]))
def test_scaling_a_row_scales_what_it_is_rounded_to(seed: int, rule: Rule, factor: float) -> None:
    weight = draw(seed, 2, 9)
    scaled = weight * torch.tensor([[1.0], [factor]])
    for quantizer in (RoundToNearest(rule=rule), RoundToNearest(rule=rule, search=True), Int8()):
        expected = quantizer(weight, "any") * torch.tensor([[1.0], [factor]])
        torch.testing.assert_close(quantizer(scaled, "any"), expected, rtol=1e-9, atol=0)


@given(seed=seeds)
def test_which_are_symmetric(seed: int) -> None:
    weight = draw(seed, 2, 64)
    symmetric: list[Quantizer] = [RoundToNearest(clamp=False), RoundToNearest(rule="absmax"), FourBit("fp4"), Int8()]
    for quantizer in symmetric:
        assert torch.equal(quantizer(-weight, "any"), -quantizer(weight, "any"))
    assert not torch.equal(FourBit("nf4")(-weight, "any"), -FourBit("nf4")(weight, "any"))


@given(seed=seeds, rule=rules)
def test_groups_are_rounded_apart(seed: int, rule: Rule) -> None:
    weight = draw(seed, 3, 10)
    rounded, codes, scale, zero = round_to_nearest(weight, rule=rule, group=4)
    assert scale.shape == zero.shape == (3, 3)
    for start in (0, 4, 8):
        alone = round_to_nearest(weight[:, start : start + 4], rule=rule)
        assert torch.equal(rounded[:, start : start + 4], alone[0])
        assert torch.equal(codes[:, start : start + 4], alone[1])
    whole = round_to_nearest(weight, rule=rule, group="tensor")
    assert torch.equal(whole[0], round_to_nearest(weight.reshape(1, -1), rule=rule)[0].view_as(weight))
    assert whole[2].shape == (1, 1)


@given(seed=seeds, rule=rules)
def test_a_searched_range_has_no_larger_error(seed: int, rule: Rule) -> None:
    weight = draw(seed, 3, 20).square() * draw(seed + 1, 3, 20)
    plain, searched = (
        (round_to_nearest(weight, rule=rule, search=search)[0] - weight).abs().pow(2.4).sum(1)
        for search in (False, True)
    )
    assert bool((searched <= plain).all())


@given(seed=seeds, name=st.sampled_from(["fp4", "nf4"]), block=st.sampled_from([3, 7, 64]))
def test_blockwise_is_the_nearest_value_of_the_table(seed: int, name: str, block: int) -> None:
    weight, table = draw(seed, 5, 7), torch.tensor(TABLES[name], dtype=torch.float64)
    rounded, codes, largest = quantize_blockwise(weight, table, block=block)
    scale = largest.repeat_interleave(block)[:35].view(5, 7)
    assert torch.equal(largest, torch.stack([part.abs().max() for part in weight.flatten().split(block)]))
    distance = (weight / scale)[..., None] - table
    torch.testing.assert_close((rounded - weight).abs() / scale, distance.abs().amin(-1), rtol=0, atol=1e-12)
    torch.testing.assert_close(table[codes] * scale, rounded)


@pytest.mark.parametrize("weight", [torch.zeros(2, 5), torch.full((2, 5), 0.3), torch.full((1, 1), -2.0)])
def test_constants(weight: Tensor) -> None:
    """Zeros stay zeros; the largest magnitude of a group is met, where the grid has it."""
    several: list[Quantizer] = [
        RoundToNearest(rule="absmax"),
        RoundToNearest(rule="min_max"),
        RoundToNearest(clamp=False),
        FourBit("fp4"),
        Int8(through_half=False),
    ]
    for quantizer in several:
        torch.testing.assert_close(quantizer(weight, "any"), weight)
    for rule in ("signed", "full_range"):
        assert bool(round_to_nearest(torch.zeros(2, 5), rule=rule)[0].eq(0).all())


def test_a_full_range_without_negative_weights_is_cut_off_as_in_its_repository() -> None:
    weight = torch.tensor([[1.0, 0.2]], dtype=torch.float64)
    close(round_to_nearest(weight, rule="full_range")[0], [[7 / 15, 3 / 15]])
    close(round_to_nearest(torch.tensor([[1.0, -0.2]]), rule="full_range")[2], [[2 / 15]])


def test_int8_may_flip_a_code_on_its_way_through_half_precision() -> None:
    weight = torch.tensor([[1.0, 0.50392]])
    assert quantize_int8(weight)[1].tolist() == quantize_int8(weight, through_half=False)[1].tolist() == [[127, 64]]
    flipped = torch.tensor([[1.0, 64.499 / 127]])
    assert quantize_int8(flipped, through_half=False)[1].tolist() == [[127, 64]]
    assert quantize_int8(flipped)[1].tolist() == [[127, round(float(flipped.half()[0, 1]) * 127)]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_type_stays(dtype: torch.dtype) -> None:
    weight = draw(0, 4, 64).to(dtype)
    hessians = {"any": input_hessian(draw(1, 80, 64))}
    several: list[Quantizer] = [RoundToNearest(), FourBit(), Int8(), GPTQ(hessians)]
    several.append(AWQ(hessians, {"any": draw(2, 64).abs()}))
    for quantizer in several:
        rounded = quantizer(weight, "any")
        assert rounded.dtype == dtype
        assert rounded.shape == weight.shape


# --- GPTQ -------------------------------------------------------------------------------------------------------------


@given(seed=seeds, rule=rules, activation_order=st.booleans())
def test_gptq_is_rounding_to_nearest_for_independent_inputs(seed: int, rule: Rule, activation_order: bool) -> None:
    weight, hessian = draw(seed, 3, 8), torch.diag(draw(seed + 1, 8).square() + 0.1)
    found = gptq(weight, hessian, rule=rule, activation_order=activation_order)
    nearest = round_to_nearest(weight, rule=rule)
    torch.testing.assert_close(found[0], nearest[0])
    assert torch.equal(found[1], nearest[1])


@given(seed=seeds)
def test_the_columns_to_come_make_up_for_an_error_as_well_as_can_be(seed: int) -> None:
    """What the first column's error adds to the others is the least-squares fit to the outputs that it spoils."""
    weight, read = draw(seed, 2, 5), draw(seed + 1, 40, 5)
    hessian = input_hessian(read)
    grid = round_to_nearest(weight, bits=3, rule="min_max")
    error = weight[:, :1] - grid[0][:, :1]
    best = weight[:, 1:] + (torch.linalg.solve(hessian[1:, 1:], hessian[1:, :1]) @ error.T).T
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    root = torch.linalg.cholesky(inverse, upper=True)
    torch.testing.assert_close(weight[:, 1:] - error / root[0, 0] * root[0, 1:], best, rtol=1e-9, atol=1e-9)
    _, codes, scale, zero = gptq(weight, hessian, bits=3, damping=0.0, block=1)
    second = ((best[:, :1] / scale[:, 1:2]).round() + zero[:, 1:2]).clamp(0, 7)
    assert torch.equal(codes[:, 1:2], second.int())


@given(seed=seeds)
def test_gptq_beats_rounding_where_inputs_go_together(seed: int) -> None:
    weight = draw(seed, 16, 12)
    read = draw(seed + 1, 200, 3) @ draw(seed + 2, 3, 12) + 0.1 * draw(seed + 3, 200, 12)
    found, nearest = gptq(weight, input_hessian(read))[0], round_to_nearest(weight, rule="min_max")[0]
    assert (read @ (found - weight).T).norm() < (read @ (nearest - weight).T).norm()


@given(seed=seeds, sequences=st.integers(1, 9))
def test_gptq_depends_neither_on_the_scale_of_the_hessian_nor_on_blocks_without_groups(
    seed: int, sequences: int
) -> None:
    weight, read = draw(seed, 3, 10), draw(seed + 1, 30, 10)
    expected = gptq(weight, input_hessian(read), bits=3)[1]
    assert torch.equal(gptq(weight, input_hessian(read, sequences=sequences), bits=3)[1], expected)
    assert torch.equal(gptq(weight, input_hessian(read), bits=3, block=4)[1], expected)


# --- AWQ --------------------------------------------------------------------------------------------------------------


def read_unevenly(seed: int, inputs: int = 12) -> Tensor:
    """Two hundred tokens, some inputs of which are many times larger than others."""
    return draw(seed, 200, inputs) * draw(seed + 1, inputs).mul(2).exp()


@given(seed=seeds, bits=bits_of, group=st.sampled_from([3, 5, 128]))
def test_awq_is_never_worse_than_rounding_what_is_not_scaled(seed: int, bits: int, group: int) -> None:
    weight, read = draw(seed, 6, 12), read_unevenly(seed + 2)
    found, codes, scale = awq(weight, input_hessian(read), read.abs().mean(0), bits=bits, group=group)
    nearest = round_to_nearest(weight, bits=bits, rule="min_max", group=group)[0]
    assert (read @ (found - weight).T).norm() <= (read @ (nearest - weight).T).norm() * (1 + 1e-9)
    again, same, _, _ = round_to_nearest(weight * scale, bits=bits, rule="min_max", group=group)
    torch.testing.assert_close(again / scale, found)
    assert torch.equal(same, codes)


@given(seed=seeds, factor=st.floats(0.1, 10))
def test_awq_depends_on_the_ratios_of_magnitudes_alone(seed: int, factor: float) -> None:
    weight, read = draw(seed, 6, 12), read_unevenly(seed + 2)
    hessian, magnitude = input_hessian(read), read.abs().mean(0)
    expected, found = awq(weight, hessian, magnitude)[2], awq(weight, hessian, factor * magnitude)[2]
    torch.testing.assert_close(found, expected)
    assert float(expected.max() * expected.min()) == pytest.approx(1)


def test_inputs_of_one_size_are_not_scaled() -> None:
    weight = draw(0, 6, 12)
    found, codes, scale = awq(weight, torch.eye(12), torch.full((12,), 3.0))
    nearest = round_to_nearest(weight, rule="min_max", group=128)
    torch.testing.assert_close(found, nearest[0])
    assert torch.equal(codes, nearest[1])
    assert scale.tolist() == [1.0] * 12


def test_a_large_input_keeps_its_precision() -> None:
    """One input is a hundred times the others': the output is several times closer than after plain rounding."""
    weight, read = draw(0, 32, 16), draw(1, 300, 16)
    read[:, 3] *= 100
    found = awq(weight, input_hessian(read), read.abs().mean(0))[0]
    nearest = round_to_nearest(weight, rule="min_max", group=128)[0]
    assert 3 * (read @ (found - weight).T).norm() < (read @ (nearest - weight).T).norm()
    assert (found - weight)[:, 3].abs().max() < 0.5 * (nearest - weight)[:, 3].abs().max()


def test_magnitudes_are_those_of_the_layers_inputs() -> None:
    model, rows = tiny_model("gpt2"), toy_rows("retain", [(2, 3), (4, 4)])
    read: list[Tensor] = []
    with (
        model.get_submodule("transformer.h.1.mlp.c_fc").register_forward_pre_hook(
            lambda _, args: read.append(args[0].flatten(0, 1))
        ),
        torch.no_grad(),
    ):
        for row in rows:
            model(input_ids=row.inputs["input_ids"][None])
    found = input_magnitudes(model, rows)
    torch.testing.assert_close(found["transformer.h.1.mlp.c_fc.weight"], torch.cat(read).abs().mean(0))
    hessians = input_hessians(model, rows)
    assert found.keys() == hessians.keys()
    assert changed(model, quantize_model(model, AWQ(hessians, found, bits=3))) == found.keys()


def test_a_dead_input_has_no_weight_left() -> None:
    read = draw(0, 30, 6)
    read[:, 2] = 0
    rounded = gptq(draw(1, 3, 6), input_hessian(read))[0]
    assert bool(rounded[:, 2].eq(0).all())
    assert bool(rounded[:, 3].ne(0).any())


def test_static_groups_belong_to_columns_in_their_own_order() -> None:
    weight, hessian = (
        draw(1, 3, 8),
        input_hessian(draw(0, 30, 8) * torch.tensor([1.0, 0.1, 2.0, 0.2, 3.0, 0.3, 4.0, 0.4])),
    )
    _, _, scale, _ = gptq(weight, hessian, group=4, activation_order=True, static_groups=True)
    expected = round_to_nearest(weight, rule="min_max", group=4)[2]
    torch.testing.assert_close(scale, expected.repeat_interleave(4, 1))
    _, _, dynamic, _ = gptq(weight, hessian, group=4, activation_order=True)
    assert not torch.allclose(dynamic, scale)


# --- models -----------------------------------------------------------------------------------------------------------


def changed(before: nn.Module, after: nn.Module) -> set[str]:
    own = dict(after.named_parameters())
    return {name for name, parameter in before.named_parameters() if not torch.equal(parameter, own[name])}


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mixtral", "phi3"])
def test_linear_weights_are_quantized_and_nothing_else(family: str) -> None:
    model = tiny_model(family)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    made = quantize_model(model, RoundToNearest())
    assert type(made) is type(model)
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    spared = ("embed", "norm", "ln_", "wte", "wpe", "lm_head", "bias", "mlp.gate.")
    expected = {name for name in before if not any(part in name for part in spared)}
    assert changed(model, made) == expected
    for name in expected:
        weight, found = before[name], made.get_parameter(name)
        if family == "gpt2":
            assert torch.equal(found.T, round_to_nearest(weight.T)[0])
            continue
        for matrix, rounded in zip(weight.view(-1, *weight.shape[-2:]), found.view(-1, *found.shape[-2:]), strict=True):
            assert torch.equal(rounded, round_to_nearest(matrix)[0])


def test_the_head_is_quantized_on_request_but_not_a_shared_one() -> None:
    model = tiny_model("llama")
    assert changed(model, quantize_model(model, Int8(), keep=())) == {
        "lm_head.weight",
        *changed(model, quantize_model(model, Int8())),
    }
    tied = tiny_model("gpt2")
    assert "transformer.wte.weight" not in changed(tied, quantize_model(tied, Int8(), keep=()))
    made = quantize_model(CausalLM(model), Int8(), keep=["model.lm_head", "model.model.layers.0.mlp.up_proj"])
    assert "model.model.layers.0.mlp.up_proj.weight" not in changed(CausalLM(model), made)
    assert "model.lm_head.weight" not in changed(CausalLM(model), quantize_model(CausalLM(model), Int8()))


def test_many_bits_change_nothing() -> None:
    model, ids = tiny_model("llama", dtype=torch.float64), torch.arange(12)[None]
    logits = model(input_ids=ids).logits
    far = [
        (quantize_model(model, RoundToNearest(bits=bits))(input_ids=ids).logits - logits).abs().max().item()
        for bits in (3, 8, 16)
    ]
    assert far[0] > 5 * far[1] > 500 * far[2]
    assert far[2] < 1e-2


def test_gptq_of_a_model_keeps_its_outputs_better_than_rounding() -> None:
    model = tiny_model("llama", dtype=torch.float64)
    rows = toy_rows("retain", [(3, 9)] * 60)
    hessians = input_hessians(model, rows)
    assert {name for name in hessians if "lm_head" in name} == set()
    linear = quantize_model(model, GPTQ(hessians, bits=3, activation_order=True))
    nearest = quantize_model(model, RoundToNearest(bits=3, rule="min_max"))
    ids = torch.stack([row.inputs["input_ids"] for row in rows])
    wanted = model(input_ids=ids).logits
    assert (linear(input_ids=ids).logits - wanted).norm() < 0.9 * (nearest(input_ids=ids).logits - wanted).norm()


def test_hessians_are_those_of_the_layers_inputs() -> None:
    model, rows = tiny_model("gpt2"), toy_rows("retain", [(2, 3), (4, 4)])
    read: list[Tensor] = []
    layer = model.get_submodule("transformer.h.1.mlp.c_fc")
    with layer.register_forward_pre_hook(lambda _, args: read.append(args[0].flatten(0, 1))), torch.no_grad():
        for row in rows:
            model(input_ids=row.inputs["input_ids"][None])
    expected = input_hessian(torch.cat(read), sequences=2)
    found = input_hessians(model, rows)
    torch.testing.assert_close(found["transformer.h.1.mlp.c_fc.weight"], expected)
    assert found.keys() == changed(model, quantize_model(model, RoundToNearest(bits=3)))


def moved(model: PreTrainedModel, share: float) -> PreTrainedModel:
    """Each weight but a row's largest is moved by this share of half a 4-bit step, off the middle of its own cell."""
    centred = quantize_model(model, RoundToNearest(rule="absmax"))
    for name in changed(model, centred):
        weight = centred.get_parameter(name)
        half_a_step = weight.detach().abs().amax(1, keepdim=True) / 14
        signs = torch.randint(0, 2, weight.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
        inner = weight.abs() < weight.abs().amax(1, keepdim=True)
        weight.data += share * half_a_step * signs * inner
    return centred


def test_control_knowledge_comes_back_after_a_small_update_only() -> None:
    """Unlearning that moves weights within their cell is undone by rounding; one that leaves the cell is not."""
    quantizer, model = RoundToNearest(rule="absmax"), tiny_model("llama", dtype=torch.float64)
    original, ids = moved(model, 0.0), torch.arange(10)[None]
    told = original(input_ids=ids).logits
    shallow, deep = moved(model, 0.8), moved(model, 2.5)
    for unlearned in (shallow, deep):
        assert (unlearned(input_ids=ids).logits - told).abs().max() > 0.05
    torch.testing.assert_close(quantize_model(shallow, quantizer)(input_ids=ids).logits, told)
    assert (quantize_model(deep, quantizer)(input_ids=ids).logits - told).abs().max() > 0.05
    torch.testing.assert_close(quantize_model(original, quantizer)(input_ids=ids).logits, told)


def test_what_cannot_be_quantized_is_refused() -> None:
    model = tiny_model("llama")
    with pytest.raises(DataError, match="keep names 'head', but the model has no such module"):
        quantize_model(model, Int8(), keep=["head"])
    with pytest.raises(DataError, match="no linear weight outside of keep=None; nothing was quantized"):
        quantize_model(nn.LayerNorm(3), Int8())
    with pytest.raises(DataError, match=r"no input_hessians for 'model\.layers\.0\.self_attn\.q_proj\.weight'"):
        quantize_model(model, GPTQ({}))
    with pytest.raises(DataError, match=r"q_proj\.weight' are \(3, 3\), but the layer has 32 inputs"):
        quantize_model(model, GPTQ({"model.layers.0.self_attn.q_proj.weight": torch.eye(3)}))
    with pytest.raises(DataError, match=r"no input_magnitudes for 'model\.layers\.0\.self_attn\.q_proj\.weight'"):
        quantize_model(model, AWQ({"model.layers.0.self_attn.q_proj.weight": torch.eye(32)}, {}))
    with pytest.raises(DataError, match="there are no rows"):
        input_hessians(model, [])
    layer = nn.Linear(3, 2)
    layer.weight.data[0, 0] = math.nan
    with pytest.raises(DataError, match="weight is something that is not finite"):
        quantize_model(layer, Int8())
    layer.weight.data[0, 0] = 1e6
    with pytest.raises(DataError, match="quantized to something that is not finite"):
        quantize_model(layer, Int8())
    layer.weight = nn.Parameter(torch.zeros(2, 3, dtype=torch.int8), requires_grad=False)
    with pytest.raises(DataError, match="is quantized already"):
        quantize_model(layer, Int8())
    with pytest.raises(ValueError, match="group is 0; it has to be 'row', 'tensor' or a number of inputs"):
        RoundToNearest(group=0)
    with pytest.raises(ValueError, match="bits"):
        RoundToNearest(bits=1)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT reads it
def test_an_adapter_has_to_be_merged_first() -> None:
    peft = pytest.importorskip("peft")
    adapted: nn.Module = peft.get_peft_model(tiny_model("llama"), peft.LoraConfig(task_type="CAUSAL_LM"))
    with pytest.raises(DataError, match="merge_and_unload"):
        quantize_model(adapted, Int8())
