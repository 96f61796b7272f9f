r"""Quantization as an attack: does the forgotten come back once the unlearned weights are rounded?

    Q(unlearned model) -> ask again                                 no data, no gradients; deployment may do it
    equal codes   share of quantized weights that have one code in Q(original) and Q(unlearned)
    rho           m(Q(unlearned)) / m(original)                     m: what a model tells of the forget set, unrounded below

Where unlearning moved the weights by less than the distance of two codes, most codes are those of the original. That
alone does not bring knowledge back: weights close to the middle of two codes do change theirs, by a whole step, and on
average by as much as they moved. `equal_codes` tells how far a failure can be due to rounding; the sweep over bits,
whether there is one: a rise from 16 or 8 bits to 4, while retained knowledge stays.

Beside it: the original and the oracle, rounded alike. A few bits can break a model (its retained knowledge shows it), or
bring out a value now and then by accident (the oracle shows it).

Paper: Zhang, Wang, Li, Wu, Tang, Liu, He, Yin, Wang. Catastrophic Failure of LLM Unlearning via Quantization. ICLR
2025, arXiv:2410.16454.

Checked: the quantizers, see `unlearnkit.edits.quantization`; zzwjames/FailureLLMUnlearning@10131ae for what is run: FP4
in blocks of 64 (`FourBit("fp4")`) and `Int8()`. The rest is the paper's: laws only.

Deviations:
    1. The released code quantizes when it loads a model, and so keeps large activations of 8-bit layers in floating
       point; here weights are replaced by what their codes stand for, on any model.
    2. GPTQ and AWQ are the paper's; the released code runs neither.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import torch
from attrs import evolve, field, frozen
from torch import Tensor, nn

from unlearnkit.attacks.attack import Budget, Outcome, Secret, Target, ThreatModel, check_secrets, outcome_of_change
from unlearnkit.batch import tokenize_text
from unlearnkit.edits.quantization import (
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
    input_hessians,
    input_magnitudes,
    quantize_blockwise,
    quantize_int8,
    quantize_model,
    round_to_nearest,
)
from unlearnkit.errors import DataError, NeedError

PLAIN: Final = RoundToNearest()
"""Round to nearest, one scale per output row."""


def codes_of(weight: Tensor, name: str, quantizer: Quantizer) -> Tensor:
    """The code of each weight: [out, in], integers; of a table, the value of the code, as FP4 has two zeros.

    Raises:
        NeedError: a quantizer that is none of the library's, which returns no codes; a GPTQ or AWQ without what it reads.
    """
    match quantizer:
        case RoundToNearest(bits=bits, rule=rule, group=group, clamp=clamp, search=search):
            return round_to_nearest(weight, bits=bits, rule=rule, group=group, clamp=clamp, search=search)[1]
        case FourBit(table=table, block=block):
            values = torch.tensor({"fp4": FP4, "nf4": NF4}[table], device=weight.device)
            return values[quantize_blockwise(weight, values, block=block)[1]]
        case Int8(through_half=through_half):
            return quantize_int8(weight, through_half=through_half)[1]
        case GPTQ():
            if name not in quantizer.hessians:
                raise NeedError(f"GPTQ has no Hessian of {name!r}. Give it input_hessians of these models.")
            return gptq(
                weight,
                quantizer.hessians[name].to(weight.device),
                bits=quantizer.bits,
                rule=quantizer.rule,
                group=quantizer.group,
                damping=quantizer.damping,
                activation_order=quantizer.activation_order,
                static_groups=quantizer.static_groups,
            )[1]
        case AWQ():
            if name not in quantizer.hessians or name not in quantizer.magnitudes:
                raise NeedError(f"AWQ knows no inputs of {name!r}. Give it input_hessians and input_magnitudes.")
            hessian, magnitude = quantizer.hessians[name], quantizer.magnitudes[name]
            return awq(weight, hessian, magnitude, bits=quantizer.bits, group=quantizer.group)[1]
    raise NeedError(f"{type(quantizer).__name__} does not tell its codes. Use a quantizer of unlearnkit.edits.")


def equal_codes(
    original: nn.Module, unlearned: nn.Module, quantizer: Quantizer, *, keep: Collection[str] | None = None
) -> float:
    """Share of the quantized weights of two models that have one code in both, in [0, 1].

    A code is a place on the grid of its own model: where the largest weight of a row moved a little, all points of the
    row's grid did, and codes stay equal. 1 does not mean that the rounded models are equal, unless the scales are too.

    Args:
        original, unlearned: of one architecture.
        quantizer: with codes, see `codes_of`.
        keep: see `quantize_model`.

    Raises:
        DataError: the models do not have the same weights.
    """
    first, second = _all_codes(original, quantizer, keep), _all_codes(unlearned, quantizer, keep)
    if [(name, code.shape) for name, code in first] != [(name, code.shape) for name, code in second]:
        raise DataError("the two models do not have the same weights to quantize; compare models of one architecture.")
    equal = sum(int((one == other).sum()) for (_, one), (_, other) in zip(first, second, strict=True))
    return equal / sum(code.numel() for _, code in first)


def _all_codes(model: nn.Module, quantizer: Quantizer, keep: Collection[str] | None) -> list[tuple[str, Tensor]]:
    found: list[tuple[str, Tensor]] = []

    def note(weight: Tensor, name: str) -> Tensor:
        found.append((name, codes_of(weight, name, quantizer)))
        return weight

    quantize_model(model, note, keep=keep)
    return found


def retained_knowledge_ratio(quantized: float, original: float) -> float:
    """What a quantized unlearned model tells of the forget set, as a share of what the original tells unquantized.

    The paper averages it over methods with a utility constraint: 21 % in full precision, 83 % with 4 bits.

    Raises:
        DataError: the original tells nothing, so that there is nothing to retain.
    """
    if not original > 0:
        raise DataError(f"the original tells {original} of the forget set; a share of nothing says nothing.")
    return quantized / original


@frozen(eq=False)
class Quantizing:
    """Round the weights, ask again.

    Attributes:
        quantizer: what is done to each weight matrix. A GPTQ or AWQ without Hessians takes them, and the inputs'
            magnitudes, from `calibration`, on the target; one with Hessians is taken as it is, and they have to be the
            target's.
        calibration: texts for GPTQ and AWQ, of anything. No other quantizer reads them.
        keep: modules that are not quantized, see `quantize_model`.
    """

    quantizer: Quantizer = PLAIN
    calibration: tuple[str, ...] = field(default=(), kw_only=True)
    keep: tuple[str, ...] | None = field(default=None, kw_only=True)
    threat: ThreatModel = field(default="weights", init=False)

    def __call__(self, target: Target, secrets: Sequence[Secret]) -> Outcome:
        check_secrets(secrets)
        model = target.weights
        quantizer = self.quantizer
        if isinstance(quantizer, GPTQ | AWQ) and not quantizer.hessians:
            if not self.calibration:
                raise NeedError(
                    f"{type(quantizer).__name__} reads layers' inputs off texts. Pass calibration=, some of any kind."
                )
            rows = [
                row
                for number, text in enumerate(self.calibration)
                for row in tokenize_text(target.tokenizer, text, id=f"text{number}", role="calibration")
            ]
            quantizer = evolve(quantizer, hessians=input_hessians(model, rows, keep=self.keep))
            if isinstance(quantizer, AWQ):
                quantizer = evolve(quantizer, magnitudes=input_magnitudes(model, rows, keep=self.keep))
        return outcome_of_change(
            f"quantization, {_called(self.quantizer)}",
            target,
            quantize_model(model, quantizer, keep=self.keep),
            secrets,
            threat=self.threat,
            budget=Budget(),
        )


def _called(quantizer: Quantizer) -> str:
    match quantizer:
        case RoundToNearest(bits=bits, rule=rule, group=group):
            return f"{bits} bits, {rule}, by {group}"
        case FourBit(table=table):
            return table.upper()
        case GPTQ(bits=bits):
            return f"GPTQ, {bits} bits"
        case AWQ(bits=bits):
            return f"AWQ, {bits} bits"
    return type(quantizer).__name__


def quantization_sweep(
    target: Target,
    secrets: Sequence[Secret],
    *,
    bits: Sequence[int] = (16, 8, 6, 4, 3),
    quantizer: RoundToNearest | GPTQ | AWQ = PLAIN,
    calibration: tuple[str, ...] = (),
) -> dict[int, Outcome]:
    """What comes out at each number of bits; `.success` is the curve, and `.kept` what it cost."""
    return {
        number: Quantizing(evolve(quantizer, bits=number), calibration=calibration)(target, secrets) for number in bits
    }
