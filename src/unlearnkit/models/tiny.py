"""Random models of a few thousand parameters, one per supported architecture: for tests, demos and doctests.

What makes an architecture itself is switched on at toy size (soft-capping, logit scale, sliding windows, experts), so
that code which forgets it fails here and not on a model of billions of parameters.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

_HEADS = 4

# What makes an architecture itself, beyond sizes.
_OWN: Final = MappingProxyType[str, dict[str, object]](
    {
        "llama": {},
        "mistral": {"sliding_window": 32},
        "qwen2": {},
        "qwen3": {},
        "phi": {},
        "phi3": {},
        "gpt2": {},
        "gpt_neox": {},
        "gemma2": {"sliding_window": 32, "final_logit_softcapping": 3.0, "attn_logit_softcapping": 5.0},
        "olmo2": {},
        "granite": {
            "embedding_multiplier": 12.0,
            "attention_multiplier": 0.125,
            "residual_multiplier": 0.22,
            "logits_scaling": 8.0,
        },
        "cohere": {"logit_scale": 0.0625},
        "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
        "qwen2_moe": {"num_experts": 4, "num_experts_per_tok": 2},
        "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2},
    }
)

TINY_FAMILIES: tuple[str, ...] = tuple(_OWN)
"""The architectures `tiny_config` knows, by their transformers model type: those `anatomy` is tested on."""


def tiny_config(family: str, *, vocabulary: int = 64, layers: int = 2, hidden_size: int = 32) -> PreTrainedConfig:
    """The configuration of a toy model, without special tokens and with every dropout at the architecture's default.

    Args:
        family: one of `TINY_FAMILIES`.
        vocabulary: V.
        layers: number of blocks.
        hidden_size: H, a multiple of 32 (four heads whose rotary part has to be even).

    Raises:
        ValueError: names the family or size that cannot be built.
    """
    if family not in _OWN:
        raise ValueError(f"there is no tiny {family!r}; the families are {', '.join(TINY_FAMILIES)}.")
    if hidden_size < 32 or hidden_size % 32:
        raise ValueError(f"hidden_size is {hidden_size}; it has to be a multiple of 32.")
    sizes: dict[str, object] = {
        "vocab_size": vocabulary,
        "hidden_size": hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": _HEADS,
        "max_position_embeddings": 512,
        # Keeps the scale of activations: with the usual 0.02 a toy model is its embedding and little else.
        "initializer_range": hidden_size**-0.5,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    if family not in ("gpt2", "gpt_neox"):
        sizes["num_key_value_heads"] = 2
    if family != "gpt2":
        sizes["intermediate_size"] = 2 * hidden_size
    if family in ("qwen3", "qwen3_moe", "gemma2"):
        sizes["head_dim"] = hidden_size // _HEADS
    if family == "gemma2":
        sizes["query_pre_attn_scalar"] = hidden_size // _HEADS
    if family in ("qwen2_moe", "qwen3_moe"):
        sizes["moe_intermediate_size"] = hidden_size
    if family == "qwen2_moe":
        sizes["shared_expert_intermediate_size"] = hidden_size
    config: PreTrainedConfig = AutoConfig.for_model(family, **sizes, **_OWN[family])
    return config


def tiny_model(
    family: str,
    *,
    vocabulary: int = 64,
    layers: int = 2,
    hidden_size: int = 32,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> PreTrainedModel:
    """A random toy model in eval mode; torch's global random state is left as it was."""
    config = tiny_config(family, vocabulary=vocabulary, layers=layers, hidden_size=hidden_size)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach other devices too
        # The plain experts work in every dtype; the fused ones refuse float64.
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, experts_implementation="eager")
    nn.Module.to(model, dtype)
    model.eval()
    return model
