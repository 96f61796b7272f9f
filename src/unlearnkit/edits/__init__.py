"""Methods that change weights directly: pure functions on tensors, and what applies them to a model."""

from unlearnkit.edits.quantization import (
    FP4,
    GPTQ,
    NF4,
    FourBit,
    Int8,
    Quantizer,
    RoundToNearest,
    gptq,
    input_hessian,
    input_hessians,
    quantize_blockwise,
    quantize_int8,
    quantize_model,
    round_to_nearest,
    uniform_grid,
)

__all__ = [
    "FP4",
    "GPTQ",
    "NF4",
    "FourBit",
    "Int8",
    "Quantizer",
    "RoundToNearest",
    "gptq",
    "input_hessian",
    "input_hessians",
    "quantize_blockwise",
    "quantize_int8",
    "quantize_model",
    "round_to_nearest",
    "uniform_grid",
]
