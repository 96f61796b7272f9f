"""Models of PEFT: trained through their adapter, and, with the adapter switched off, their own reference.

LoRA and its kin put layers of their own into a transformers model. `as_model` accepts a `peft.PeftModel` as it is and
runs the model inside, layers included. Switched off, the same weights are the model as it was before the adapter came,
so that a method which compares with it needs no second model:

    model = peft.get_peft_model(base, peft.LoraConfig(...))
    optimizer = torch.optim.AdamW(parameter for parameter in model.parameters() if parameter.requires_grad)
    unlearn(model, objective, data, optimizer=optimizer, models={"reference": adapter_off(model)}, ...)

PEFT is recognised by its methods and never imported here. Its behaviour was read off PEFT 0.21.2 and tested from 0.19 on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType
from typing import Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from unlearnkit.errors import AnatomyError, MissingModelError
from unlearnkit.models.causal import CausalLM, device_of, evaluation_mode
from unlearnkit.protocols import Hidden, Site


class PeftConfig(Protocol):
    """What is read of a `peft.PeftConfig`."""

    @property
    def peft_type(self) -> object: ...

    @property
    def is_prompt_learning(self) -> bool: ...


@runtime_checkable
class PeftModel(Protocol):
    """What is used of a `peft.PeftModel`."""

    @property
    def peft_config(self) -> Mapping[str, PeftConfig]: ...

    @property
    def active_peft_config(self) -> PeftConfig: ...

    def get_base_model(self) -> nn.Module: ...

    def disable_adapter(self) -> AbstractContextManager[object]: ...

    def save_pretrained(self, save_directory: str, /) -> None: ...


def is_peft(model: object) -> TypeGuard[PeftModel]:
    """Whether a model is a `peft.PeftModel`."""
    return isinstance(model, nn.Module) and isinstance(model, PeftModel)


def base_of(model: PeftModel) -> PreTrainedModel:
    """The transformers model that the adapter's layers were put into; to run it is to run the adapter.

    Raises:
        AnatomyError: no transformers model, or an adapter that acts outside of it: prompt learning (virtual tokens),
            or one that is steered by the PEFT model's own forward pass (aLoRA, X-LoRA, Poly, Shadow).
    """
    config = model.active_peft_config
    kind = getattr(config.peft_type, "value", config.peft_type)
    way_out = (
        "Use an adapter that is all layers inside the model (LoRA, DoRA, IA3, …), or wrap the model in a class of your "
        "own that has vocabulary, hidden, head and new_cache."
    )
    if config.is_prompt_learning:
        raise AnatomyError(
            f"{kind} puts virtual tokens before the text instead of layers into the model, so the positions of its "
            f"hidden states are not those of the text. {way_out}"
        )
    if getattr(config, "alora_invocation_tokens", None):
        kind = "aLoRA"
    if kind in _OWN_FORWARD:
        raise AnatomyError(
            f"{kind} is steered by the forward pass of {type(model).__name__}; the model inside it, which is what is "
            f"run here, would silently do without. {way_out}"
        )
    base = model.get_base_model()
    if not isinstance(base, PreTrainedModel):
        raise AnatomyError(
            f"{type(model).__name__} holds a {type(base).__name__}, which is no transformers model. Wrap it in a class "
            "of your own that has vocabulary, hidden, head and new_cache."
        )
    return base


_OWN_FORWARD = frozenset({"aLoRA", "POLY", "SHADOW", "XLORA"})


class AdapterOff:
    """A PEFT model with its adapter switched off, as a frozen `Model`; it shares all weights and owns none.

    Its values are without gradient and in evaluation mode. Nothing about the shared modules is changed by a call: not
    which adapter is on, what is trainable, or which mode a module is in. It is no torch module, so that nobody
    freezes, moves or trains the shared weights through it.

    It is the model that the adapter was put on. That is the model before unlearning if the adapter was new then; what
    an adapter has learned earlier is switched off with it.
    """

    def __init__(self, model: PeftModel) -> None:
        """Look at a model without its adapter.

        Raises:
            AnatomyError: see `as_model`.
            MissingModelError: the weights under the adapter are not those it was put on, so that they are no reference.
        """
        self._adapted = model
        self._inner = CausalLM(base_of(model))
        _check_base_is_intact(model)

    @property
    def vocabulary(self) -> int:
        return self._inner.vocabulary

    @property
    def device(self) -> torch.device:
        return device_of(self._inner)

    def hidden(
        self,
        inputs: Mapping[str, Tensor],
        /,
        *,
        capture: frozenset[Site] = frozenset(),
        add: Mapping[Site, Tensor] = MappingProxyType({}),
        cache: object | None = None,
    ) -> Hidden:
        """Run the body without the adapter; arguments and errors as in `CausalLM.hidden`.

        Raises:
            MissingModelError: weights under the adapter are trained, so that the reference would change.
        """
        with self._switched_off():
            return self._inner.hidden(inputs, capture=capture, add=add, cache=cache)

    def head(self, hidden: Tensor, /) -> Tensor:
        # A plain layer has no adapter in it. PEFT walks over the whole model to switch off, and heads run in chunks.
        if type(self._inner.anatomy.head) is nn.Linear:
            with torch.no_grad():
                return self._inner.head(hidden)
        with self._switched_off():
            return self._inner.head(hidden)

    def new_cache(self) -> object:
        return self._inner.new_cache()

    @contextmanager
    def _switched_off(self) -> Iterator[None]:
        """Without adapter, gradient and dropout; afterwards everything is as before.

        PEFT freezes adapters that it switches off and, switching on, makes all active ones trainable. What was trainable
        is put back here: the graph of an earlier forward pass may be waiting for its backward pass, in which blocks
        under activation checkpointing run again.
        """
        before = {parameter: parameter.requires_grad for parameter in self._inner.parameters()}
        try:
            with torch.no_grad(), evaluation_mode(self._inner), self._adapted.disable_adapter():
                for name, parameter in self._inner.model.named_parameters():
                    if parameter.requires_grad:  # it is no part of the adapter, or PEFT would have frozen it
                        raise MissingModelError(
                            f"{name} lies under the adapter and is trained, so the model without adapter would change "
                            "with it and is no reference. Build the optimizer from the parameters of the adapter, those "
                            "that require gradients after get_peft_model(), or pass a copy of the model made before."
                        )
                yield
        finally:
            for parameter, required in before.items():
                if parameter.requires_grad != required:
                    parameter.requires_grad_(required)


def adapter_off(model: object) -> AdapterOff:
    """The reference that a PEFT model carries in itself: see `AdapterOff`.

    Raises:
        AnatomyError: no PEFT model, or one that `as_model` refuses.
        MissingModelError: the weights under the adapter are not those it was put on.
    """
    if not is_peft(model):
        raise AnatomyError(
            f"{type(model).__name__} is no peft.PeftModel, so it has no adapter to switch off. Put one on with "
            "peft.get_peft_model(model, config), or use copy.deepcopy(model) or record() for a reference."
        )
    return AdapterOff(model)


_INTO_BASE = ("pissa", "corda", "olora", "loftq", "lora_ga")
"""Initialisations of LoRA that take out of the base weights what they put into the adapter."""


def _check_base_is_intact(model: PeftModel) -> None:
    reason = None
    for name, config in model.peft_config.items():
        initialisation = str(getattr(config, "init_lora_weights", "")).lower()
        bias = getattr(config, "bias", "none")
        if initialisation.startswith(_INTO_BASE):
            reason = f"init_lora_weights={initialisation!r} of the adapter {name!r} changed the weights under it"
        elif getattr(config, "kasa_config", None) is not None:
            reason = f"KaSA, of the adapter {name!r}, changed the weights under it"
        elif bias != "none":
            reason = f"bias={bias!r} of the adapter {name!r} trains biases under it"
    if any(getattr(module, "merged", False) is True for module in model.get_base_model().modules()):
        reason = "the adapter is merged into the weights under it"
    if reason is not None:
        raise MissingModelError(
            f"{reason}, so that the model without adapter is not the model it was put on and no reference. "
            "Pass a copy of the model made before the adapter, or a recording made with record()."
        )
