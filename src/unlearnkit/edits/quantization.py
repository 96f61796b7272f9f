r"""Quantization: does a forgotten answer come back once the weights are rounded to a few bits?

Unlearning with a small learning rate moves most weights by less than the distance between two codes, so that rounding
gives them the code they had before. Nobody has to attack for that: 4-bit deployment is enough. Every quantizer here
returns the weights that its codes stand for, in floating point ("fake" quantization), and `quantize_model` a copy of a
model with these weights, on which any metric runs.

    round to nearest    w' = s (clamp(round(w / s) + z, 0, 2^N - 1) - z)        s, z per tensor, row or group of inputs
        signed          s = max|w| / 2^(N-1),          z = 2^(N-1)     the largest positive weight does not fit
        absmax          s = max|w| / (2^(N-1) - 1),    z = 2^(N-1)
        full_range      s = 2 max|w| / (2^N - 1),      z = 2^(N-1)     GPTQ's symmetric grid
        min_max         s = (hi - lo) / (2^N - 1),     z = round(-lo / s),  lo = min(w, 0), hi = max(w, 0)
    FP4, NF4            nearest of 16 fixed values times max|w|, over blocks of 64 weights in row-major order
    int8                s = max|w| / 127 per row (LLM.int8() also keeps large *activations* in floating point: not here)
    GPTQ                a grid as above; the error of each input column is made up for by the columns still to come
    AWQ                 `min_max` of w_j s_j, divided by s_j again: inputs j with large values keep more precision

Reading: quantize the unlearned model and its two references, the model before unlearning and the retrained oracle. A
failure is a forget score that climbs towards the former while the retain score stays. 8 bits hardly change anything.
Quantizing twice is quantizing once, except on a clamped `signed` grid, whose own maximum is smaller; keep the scale.

Paper: Zhang, Wang, Li, Wu, Tang, Liu, He, Yin, Wang. Catastrophic Failure of LLM Unlearning via Quantization. ICLR
2025, arXiv:2410.16454. Quantizers: Dettmers et al. LLM.int8(). NeurIPS 2022, arXiv:2208.07339; QLoRA. NeurIPS 2023,
arXiv:2305.14314. Frantar, Ashkboos, Hoefler, Alistarh. GPTQ. ICLR 2023, arXiv:2210.17323. Lin et al. AWQ. MLSys 2024,
arXiv:2306.00978.

Checked: bitsandbytes 0.50.2 on the CPU (NF4, FP4, int8: codes exactly, weights to 1e-6) and IST-DASLab/gptq@2d65066
(grids, search and GPTQ, to 1e-5 in float32). zzwjames/FailureLLMUnlearning@10131ae runs the former, FP4 and int8. AWQ is
tested by laws.

Deviations:
    1. The paper's equation is the uniform `signed` grid, without a clamp (`clamp=False`); its released code offers FP4
       and int8 of bitsandbytes only. Default: `signed`, one scale per output row, clamped to N bits.
    2. bitsandbytes rounds weights to half precision before int8, which can flip a code; so do we (`through_half`).
    3. `full_range` follows the GPTQ repository where a group has no negative weight: lo is 0 then, the step half as
       long, and everything above 7/15 of the maximum (4 bits) is cut off.
    4. An all-zero group gets the scale of max|w| = 1.
    5. Where a row is no multiple of the block, the AVX-512 kernel of bitsandbytes 0.50.2 dequantizes parts of it with
       the scale of another block. Codes and scales agree with ours; the weights are those of its plain kernel.
    6. `input_hessians` reads every layer's inputs off the model that is not quantized yet; the GPTQ repository
       quantizes block after block, and reads the later ones behind those already rounded.
    7. AWQ's exponent is chosen for each layer by that layer's own output; its authors choose one for all layers that read
       the same inputs, by the output of their block, and then search for a range to clip weights to.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, Protocol, TypeVar, get_args

import torch
from attrs import Attribute, field, frozen
from attrs.validators import ge, in_, le, optional
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from unlearnkit.batch import Row
from unlearnkit.errors import DataError
from unlearnkit.models.causal import CausalLM, device_of, evaluation_mode
from unlearnkit.models.peft import is_peft

FP4: Final = (
    *(0.0, 1 / 192, 2 / 3, 1.0, 1 / 3, 1 / 2, 1 / 6, 1 / 4),
    *(0.0, -1 / 192, -2 / 3, -1.0, -1 / 3, -1 / 2, -1 / 6, -1 / 4),
)
"""The values of the 16 codes of bitsandbytes' FP4: sign, two bits of exponent, one of mantissa. 0 is there twice."""

NF4: Final = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""The values of the 16 codes of NF4: quantiles of a normal distribution. Not symmetric: 8 of them are positive."""

Rule = Literal["signed", "absmax", "full_range", "min_max"]
"""How a uniform grid is laid over a group of weights; see the top of the file."""

# --- pure functions ---------------------------------------------------------------------------------------------------


def uniform_grid(
    values: Tensor, *, bits: int, rule: Literal["signed", "absmax", "full_range", "min_max"], search: bool = False
) -> tuple[Tensor, Tensor]:
    """Scale and zero point of each group of weights: [G, n] -> [G, 1], [G, 1].

    Args:
        values: [G, n] the weights of each group.
        bits: N, at least 2.
        rule: how the grid is laid.
        search: shrink the range, down to 0.21 of it in steps of 0.01, to where the sum of |w - w'|^2.4 is least.
    """
    half, steps = 2 ** (bits - 1), 2**bits - 1
    low, high = values.amin(1, keepdim=True).clamp(max=0.0), values.amax(1, keepdim=True).clamp(min=0.0)
    if rule != "min_max":
        high = torch.maximum(-low, high)
        low = torch.where((low < 0) | (rule != "full_range"), -high, low)
    empty = (low == 0) & (high == 0)
    low, high = torch.where(empty, -1.0, low), torch.where(empty, 1.0, high)

    def grid(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        if rule == "min_max":
            scale = (high - low) / steps
            return scale, (-low / scale).round()
        scale = {"signed": high / half, "absmax": high / max(1, half - 1), "full_range": (high - low) / steps}[rule]
        return scale, torch.full_like(scale, half)

    scale, zero = grid(low, high)
    if not search:
        return scale, zero
    least = torch.full_like(scale, torch.inf)
    for step in range(80):
        shrink = 1 - step / 100
        tried, offset = grid(shrink * low, shrink * high)
        rounded = tried * (((values / tried).round() + offset).clamp(0, steps) - offset)
        error = (rounded - values).abs().pow(2.4).sum(1, keepdim=True)
        better = error < least
        least = torch.where(better, error, least)
        scale, zero = torch.where(better, tried, scale), torch.where(better, offset, zero)
    return scale, zero


def round_to_nearest(
    weight: Tensor,
    *,
    bits: int = 4,
    rule: Literal["signed", "absmax", "full_range", "min_max"] = "signed",
    group: int | Literal["row", "tensor"] = "row",
    clamp: bool = True,
    search: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Round each weight to the nearest point of its group's grid.

    Args:
        weight: [out, in]; half precision is computed in float32.
        bits: N, at least 2.
        rule: how a grid is laid over a group.
        group: what shares a grid: an output row, the whole tensor, or so many consecutive inputs of a row.
        clamp: whether codes are held within N bits; only a `signed` or a searched grid is affected.
        search: see `uniform_grid`.

    Returns:
        what the codes stand for [out, in], codes [out, in] int32, scales and zero points [out, groups of a row] or,
        of a tensor, [1, 1]; a weight is scale * (code - zero point).
    """
    values = weight.float() if weight.dtype in (torch.float16, torch.bfloat16) else weight
    if group == "tensor":
        groups = [values.reshape(1, -1)]
    else:
        groups = list(values.split(values.shape[1] if group == "row" else group, 1))
    grids = [uniform_grid(part, bits=bits, rule=rule, search=search) for part in groups]
    codes = [(part / scale).round() + zero for part, (scale, zero) in zip(groups, grids, strict=True)]
    if clamp:
        codes = [code.clamp(0, 2**bits - 1) for code in codes]
    rounded = [scale * (code - zero) for code, (scale, zero) in zip(codes, grids, strict=True)]
    return (
        torch.cat(rounded, 1).view_as(weight).to(weight.dtype),
        torch.cat(codes, 1).view_as(weight).int(),
        torch.cat([scale for scale, _ in grids], 1),
        torch.cat([zero for _, zero in grids], 1),
    )


def quantize_blockwise(weight: Tensor, table: Tensor, *, block: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    """Nearest value of a table (FP4, NF4) times the largest magnitude of a block.

    Args:
        weight: any shape; blocks run through it in row-major order, the last one may be shorter.
        table: [codes] the value of each code, in [-1, 1] and in any order.
        block: weights that share a scale.

    Returns:
        what the codes stand for, codes (int64, both like `weight`) and the scales [blocks]. Half way between two values
        the lower one is taken.
    """
    values = weight.float() if weight.dtype in (torch.float16, torch.bfloat16) else weight
    count = values.numel()
    blocks = torch.nn.functional.pad(values.flatten(), (0, -count % block)).view(-1, block)
    largest = blocks.abs().amax(1, keepdim=True)
    order = table.argsort(stable=True)
    ascending = table[order].to(values)
    scaled = blocks * (1 / largest.clamp(min=1e-38))  # as the kernels do: a division may round to another code
    nearest = torch.bucketize(scaled.clamp(-1, 1), (ascending[:-1] + ascending[1:]) / 2)
    rounded = (ascending[nearest] * largest).flatten()[:count].view_as(weight)
    return rounded.to(weight.dtype), order[nearest].flatten()[:count].view_as(weight), largest[:, 0]


def quantize_int8(weight: Tensor, *, through_half: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Round each row to -127 … 127 times its largest magnitude / 127.

    Args:
        weight: [out, in].
        through_half: round to half precision first, as bitsandbytes does.

    Returns:
        what the codes stand for [out, in], codes [out, in] int8 and the largest magnitude of each row [out].
    """
    values = weight.half() if through_half else weight
    values = values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
    largest = values.abs().amax(1, keepdim=True)
    codes = (values * (127 / torch.where(largest > 0, largest, 1.0))).round()
    return (codes * largest / 127).to(weight.dtype), codes.to(torch.int8), largest[:, 0]


def input_hessian(inputs: Tensor, *, sequences: int = 1) -> Tensor:
    """Hessian of a linear layer's squared output error, (2 / sequences) X^T X: [n, in] -> [in, in].

    Args:
        inputs: [n, in] what the layer reads, one token a row.
        sequences: how many sequences the tokens are of. `gptq` does not depend on it: its damping is relative.
    """
    return 2 / sequences * inputs.T @ inputs


def gptq(
    weight: Tensor,
    hessian: Tensor,
    *,
    bits: int = 4,
    rule: Literal["signed", "absmax", "full_range", "min_max"] = "min_max",
    group: int | None = None,
    damping: float = 0.01,
    activation_order: bool = False,
    static_groups: bool = False,
    block: int = 128,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Round column by column; each error is spread over the columns to come so as to change the layer's output least.

    Args:
        weight: [out, in].
        hessian: [in, in] from `input_hessian`; an input that was always 0 has its weights set to 0.
        bits, rule: of the grid. One per row, laid over the weights as they are given.
        group: columns that share a grid, laid when the first of them is reached. None: all.
        damping: added to the diagonal, as a share of its mean.
        activation_order: go through columns by descending diagonal of the Hessian, not from left to right.
        static_groups: lay the grids of groups beforehand, over columns in their own order.
        block: columns whose errors are spread within the block at once and beyond it at its end; of effect only with
            groups, whose grids do not see what changed inside the current block.

    Returns:
        what the codes stand for, codes (int32), and scale and zero point of each weight: [out, in] each.
    """
    working = weight.to(torch.promote_types(weight.dtype, torch.float32), copy=True)
    scale, zero = uniform_grid(working, bits=bits, rule=rule)
    dead = hessian.diagonal() == 0
    hessian = hessian.to(working) + torch.diag(dead.to(working))
    working[:, dead] = 0.0
    width = working.shape[1]
    grids = []
    if group is not None and static_groups:
        grids = [uniform_grid(part, bits=bits, rule=rule) for part in working.split(group, 1)]
    order = torch.arange(width, device=weight.device)
    if activation_order:
        order = hessian.diagonal().argsort(descending=True, stable=True)
    working, hessian = working[:, order], hessian[order][:, order]
    hessian = hessian + damping * hessian.diagonal().mean() * torch.eye(width).to(hessian)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    root = torch.linalg.cholesky(inverse, upper=True)
    codes, scales, zeros = (torch.empty_like(working) for _ in range(3))
    for start in range(0, width, block):
        stop = min(start + block, width)
        piece = working[:, start:stop].clone()
        errors = torch.zeros_like(piece)
        for column in range(start, stop):
            if grids:
                scale, zero = grids[int(order[column]) // int(group or width)]
            elif group is not None and column % group == 0:
                scale, zero = uniform_grid(working[:, column : column + group], bits=bits, rule=rule)
            here = slice(column - start, column - start + 1)
            code = ((piece[:, here] / scale).round() + zero).clamp(0, 2**bits - 1)
            errors[:, here] = (piece[:, here] - scale * (code - zero)) / root[column, column]
            piece[:, column - start :] -= errors[:, here] * root[column, column:stop]
            codes[:, column], scales[:, column], zeros[:, column] = code[:, 0], scale[:, 0], zero[:, 0]
        working[:, stop:] -= errors @ root[start:stop, stop:]
    back = order.argsort()
    codes, scales, zeros = codes[:, back], scales[:, back], zeros[:, back]
    return (scales * (codes - zeros)).to(weight.dtype), codes.int(), scales, zeros


def awq(
    weight: Tensor, hessian: Tensor, magnitude: Tensor, *, bits: int = 4, group: int = 128
) -> tuple[Tensor, Tensor, Tensor]:
    """Round to nearest after the inputs were scaled: s_j = max(magnitude_j^a, 1e-4), divided by √(max s · min s).

    Of a = 0, 0.05 … 0.95 that is taken with which rounding changes the layer's output least; with 0 it is rounding to
    nearest.

    Args:
        weight: [out, in].
        hessian: [in, in] from `input_hessian`, by which the change of the output is measured.
        magnitude: [in] the mean of |x_j|.
        bits: N, at least 2.
        group: consecutive inputs of a row that share a grid.

    Returns:
        what the codes stand for [out, in], codes [out, in] int32, and s [in].
    """
    values = weight.to(torch.promote_types(weight.dtype, torch.float32))
    hessian, magnitude = hessian.to(values), magnitude.to(values)
    least = values.new_full((), torch.inf)
    rounded, codes, scale = values, values.int(), torch.ones_like(magnitude)
    for step in range(20):
        tried = magnitude.pow(step / 20).clamp(min=1e-4)
        tried = tried / (tried.max() * tried.min()).sqrt()
        scaled, new_codes, _, _ = round_to_nearest(values * tried, bits=bits, rule="min_max", group=group)
        change = scaled / tried - values
        error = ((change @ hessian) * change).sum()
        better = error < least
        least = torch.where(better, error, least)
        rounded, codes = torch.where(better, scaled / tried, rounded), torch.where(better, new_codes, codes)
        scale = torch.where(better, tried, scale)
    return rounded.to(weight.dtype), codes, scale


# --- whole models -----------------------------------------------------------------------------------------------------


class Quantizer(Protocol):
    """Rounds one weight matrix [out, in], known by its parameter's name, and returns what its codes stand for."""

    def __call__(self, weight: Tensor, name: str, /) -> Tensor: ...


Group = int | Literal["row", "tensor"]
"""What shares a grid: so many consecutive inputs of an output row, the row, or the whole tensor."""


def _group(_: object, __: Attribute[Group], group: Group) -> None:
    if group not in ("row", "tensor") and not (isinstance(group, int) and group >= 1):
        raise ValueError(f"group is {group!r}; it has to be 'row', 'tensor' or a number of inputs.")


@frozen(kw_only=True)
class RoundToNearest:
    """`round_to_nearest` with these settings."""

    bits: int = field(default=4, validator=[ge(2), le(16)])
    rule: Rule = field(default="signed", validator=in_(get_args(Rule)))
    group: Group = field(default="row", validator=_group)
    clamp: bool = True
    search: bool = False

    def __call__(self, weight: Tensor, name: str) -> Tensor:
        return round_to_nearest(
            weight, bits=self.bits, rule=self.rule, group=self.group, clamp=self.clamp, search=self.search
        )[0]


_TABLES: Final = MappingProxyType[str, tuple[float, ...]]({"fp4": FP4, "nf4": NF4})


@frozen
class FourBit:
    """`quantize_blockwise` with a table of bitsandbytes; `load_in_4bit=True` is FP4 in blocks of 64."""

    table: Literal["fp4", "nf4"] = field(default="fp4", validator=in_(tuple(_TABLES)))
    block: int = field(default=64, kw_only=True, validator=ge(1))

    def __call__(self, weight: Tensor, name: str) -> Tensor:
        table = torch.tensor(_TABLES[self.table], dtype=torch.float32, device=weight.device)
        return quantize_blockwise(weight, table, block=self.block)[0]


@frozen(kw_only=True)
class Int8:
    """`quantize_int8`; `load_in_8bit=True`, but for large activations."""

    through_half: bool = True

    def __call__(self, weight: Tensor, name: str) -> Tensor:
        return quantize_int8(weight, through_half=self.through_half)[0]


@frozen(eq=False)
class GPTQ:
    """`gptq` with the Hessian of each weight, by its name; see `input_hessians`."""

    hessians: Mapping[str, Tensor]
    bits: int = field(default=4, kw_only=True, validator=[ge(2), le(16)])
    rule: Rule = field(default="min_max", kw_only=True, validator=in_(get_args(Rule)))
    group: int | None = field(default=None, kw_only=True, validator=optional(ge(1)))
    damping: float = field(default=0.01, kw_only=True, validator=ge(0))
    activation_order: bool = field(default=False, kw_only=True)
    static_groups: bool = field(default=False, kw_only=True)

    def __call__(self, weight: Tensor, name: str) -> Tensor:
        return gptq(
            weight,
            _read_off("input_hessians", self.hessians, name, (weight.shape[1],) * 2).to(weight.device),
            bits=self.bits,
            rule=self.rule,
            group=self.group,
            damping=self.damping,
            activation_order=self.activation_order,
            static_groups=self.static_groups,
        )[0]


@frozen(eq=False)
class AWQ:
    """`awq` with what each layer reads, by its weight's name; see `input_hessians` and `input_magnitudes`."""

    hessians: Mapping[str, Tensor]
    magnitudes: Mapping[str, Tensor]
    bits: int = field(default=4, kw_only=True, validator=[ge(2), le(16)])
    group: int = field(default=128, kw_only=True, validator=ge(1))

    def __call__(self, weight: Tensor, name: str) -> Tensor:
        inputs = weight.shape[1]
        hessian = _read_off("input_hessians", self.hessians, name, (inputs, inputs))
        magnitude = _read_off("input_magnitudes", self.magnitudes, name, (inputs,))
        return awq(weight, hessian, magnitude, bits=self.bits, group=self.group)[0]


def _read_off(what: str, found: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    """What was read off a layer's inputs, if it is this layer's."""
    if name not in found:
        raise DataError(f"there are no {what} for {name!r}. Take {what} of this model, or name the module in `keep`.")
    if found[name].shape != shape:
        raise DataError(
            f"the {what} of {name!r} are {tuple(found[name].shape)}, but the layer has {shape[0]} inputs. "
            f"Take {what} of this model."
        )
    return found[name]


AnyModule = TypeVar("AnyModule", bound=nn.Module)


def quantize_model(model: AnyModule, quantizer: Quantizer, *, keep: Collection[str] | None = None) -> AnyModule:
    """A copy of a model whose linear weights are what a quantizer's codes stand for; the model itself is untouched.

    Linear layers (GPT-2's transposed ones included) and stacked experts, each as a matrix of its own, are quantized;
    embeddings, norms, routers that are no linear layer, biases, and weights shared with an embedding are not.

    Args:
        model: any module; merge adapters into it first.
        quantizer: what is done to each matrix.
        keep: names of modules that stay as they are. Default: the output head.

    Raises:
        DataError: an adapter, a weight that is not finite or quantized already, a name that there is not, or nothing
            to quantize.
    """
    if is_peft(model):
        raise DataError(
            "this model has a PEFT adapter, and rounding base and adapter apart is not what a deployed model does. "
            "Pass model.merge_and_unload()."
        )
    made = copy.deepcopy(model)
    slots = tuple(_slots(made, keep))
    if not slots:
        raise DataError(f"{type(model).__name__} has no linear weight outside of keep={keep}; nothing was quantized.")
    with torch.no_grad():
        for slot in slots:
            for matrix in slot.matrices():
                rounded = quantizer(_checked(slot.name, matrix), slot.name)
                matrix.copy_(_checked(slot.name, rounded, "quantized to something"))
    return made


def input_hessians(
    model: PreTrainedModel, rows: Sequence[Row], *, keep: Collection[str] | None = None
) -> dict[str, Tensor]:
    """`input_hessian` of every linear layer that `quantize_model` would quantize, by the name of its weight.

    Rows are run one by one, so that no padding counts. Stacked experts have none: each sees its own tokens. All
    Hessians are held at once, in float32 at least: [in, in] per layer.
    """
    return _over_inputs(model, rows, keep, lambda read: input_hessian(read, sequences=len(rows)))


def input_magnitudes(
    model: PreTrainedModel, rows: Sequence[Row], *, keep: Collection[str] | None = None
) -> dict[str, Tensor]:
    """Mean of |x| over tokens, [in] of every linear layer that `input_hessians` is of, by the name of its weight."""
    summed = _over_inputs(model, rows, keep, lambda read: torch.cat([read.abs().sum(0), read.new_ones(1) * len(read)]))
    return {name: total[:-1] / total[-1].clamp(min=1) for name, total in summed.items()}


def _over_inputs(
    model: PreTrainedModel, rows: Sequence[Row], keep: Collection[str] | None, of: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """The sum over rows of a function of what a layer reads, [tokens, in], by the name of the layer's weight."""
    found: dict[str, Tensor] = {}
    if not rows:
        raise DataError("there are no rows to read the layers' inputs off. Pass some of the retain set, or any text.")

    def add(_: nn.Module, args: tuple[Tensor, ...], *, name: str) -> None:
        read = args[0].flatten(0, -2)
        new = of(read.to(torch.promote_types(read.dtype, torch.float32)))
        found[name] = found.get(name, torch.zeros(())).to(new) + new

    with torch.no_grad(), evaluation_mode(model), ExitStack() as hooks:
        for slot in _slots(model, keep):
            if slot.module is not None:
                hooks.enter_context(slot.module.register_forward_pre_hook(partial(add, name=slot.name)))
        for row in rows:
            inputs = {key: value[None].to(device_of(model)) for key, value in row.inputs.items()}
            model(**inputs, use_cache=False)
    return found


class _Slot(NamedTuple):
    """A weight, by its parameter's name; `module` is the layer that it is of, if that is an ordinary one."""

    name: str
    weight: Tensor
    module: nn.Module | None

    def matrices(self) -> tuple[Tensor, ...]:
        """The weight as matrices [out, in], sharing its memory."""
        if self.module is None:
            return self.weight.detach().unbind()
        return (self.weight.detach().T if isinstance(self.module, Conv1D) else self.weight.detach(),)


def _slots(model: nn.Module, keep: Collection[str] | None) -> Iterator[_Slot]:
    modules = dict(model.named_modules())
    kept = _heads(model) if keep is None else frozenset(keep)
    if unknown := sorted(kept - modules.keys()):
        raise DataError(f"keep names {unknown[0]!r}, but the model has no such module.")
    shared = {id(module.weight) for module in modules.values() if isinstance(module, nn.Embedding)}
    for name, module in modules.items():
        if name in kept:
            continue
        prefix = f"{name}." if name else ""
        if isinstance(module, nn.Linear | Conv1D):
            if id(module.weight) not in shared:
                yield _Slot(f"{prefix}weight", module.weight, module)
        elif not isinstance(module, nn.Conv1d):
            for own, parameter in module.named_parameters(recurse=False):
                if parameter.dim() == 3:  # stacked experts
                    yield _Slot(f"{prefix}{own}", parameter, None)


def _heads(model: nn.Module) -> frozenset[str]:
    inner = model.model if isinstance(model, CausalLM) else model
    find: Callable[[], object] | None = getattr(inner, "get_output_embeddings", None)
    head = None if find is None else find()
    return frozenset(name for name, module in model.named_modules() if module is head)


def _checked(name: str, weight: Tensor, what: str = "something") -> Tensor:
    if not weight.is_floating_point():
        raise DataError(f"{name} is {weight.dtype}: it is quantized already. Load the model in floating point.")
    if not bool(weight.isfinite().all()):
        raise DataError(f"{name} is {what} that is not finite; it cannot be quantized this way.")
    return weight
