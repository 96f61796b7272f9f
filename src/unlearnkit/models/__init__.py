"""Models of transformers behind the `Model` protocol: adapter, parts, generation, PEFT, toy configurations."""

from unlearnkit.models.anatomy import Anatomy, anatomy, mlp_down_names
from unlearnkit.models.causal import CausalLM, as_model, device_of, no_dropout
from unlearnkit.models.generate import cut_at_stop, generate
from unlearnkit.models.peft import AdapterOff, adapter_off
from unlearnkit.models.prefixed import Prefixed
from unlearnkit.models.tiny import TINY_FAMILIES, tiny_config, tiny_model

__all__ = [
    "TINY_FAMILIES",
    "AdapterOff",
    "Anatomy",
    "CausalLM",
    "Prefixed",
    "adapter_off",
    "anatomy",
    "as_model",
    "cut_at_stop",
    "device_of",
    "generate",
    "mlp_down_names",
    "no_dropout",
    "tiny_config",
    "tiny_model",
]
