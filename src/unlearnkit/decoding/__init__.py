"""Methods that act at inference: each is a `Model`, so that every metric and attack runs on it unchanged."""

from unlearnkit.decoding.alu_agents import Agents
from unlearnkit.decoding.combined import Combined
from unlearnkit.decoding.eco_prompts import CorruptedPrompts, Corruption
from unlearnkit.decoding.folders import load_guarded, save_guarded
from unlearnkit.decoding.guard_generation import Guard
from unlearnkit.decoding.guardrail_baselines import (
    Gate,
    InputFilter,
    Keywords,
    OutputFilter,
    Refusal,
    instruction,
    prefix,
)
from unlearnkit.decoding.icul import icul
from unlearnkit.decoding.logit_arithmetic import (
    contrastive_scores,
    generic_logits,
    logarithmic_mean_scores,
    offset_logits,
)
from unlearnkit.decoding.offset_unlearning import offset_unlearning
from unlearnkit.decoding.ucd import ucd
from unlearnkit.decoding.uld import first_layers, logit_difference, uld

__all__ = [
    "Agents",
    "Combined",
    "CorruptedPrompts",
    "Corruption",
    "Gate",
    "Guard",
    "InputFilter",
    "Keywords",
    "OutputFilter",
    "Refusal",
    "contrastive_scores",
    "first_layers",
    "generic_logits",
    "icul",
    "instruction",
    "load_guarded",
    "logarithmic_mean_scores",
    "logit_difference",
    "offset_logits",
    "offset_unlearning",
    "prefix",
    "save_guarded",
    "ucd",
    "uld",
]
