"""Where a causal language model keeps its parts: the one place that knows.

Parts are found by structure: what transformers itself declares (body, embedding, head), what there is only one of
(the list of blocks, the norm beside it), and, inside a block, a short list of names. An architecture that hides a part
elsewhere is served by an `Anatomy` of your own; nothing else in the library has to change.

What happens to logits after the head is decided here too, read off the forward methods of transformers 5.23:

    Gemma-2    cap * tanh(logits / cap),  cap = config.final_logit_softcapping
    Granite    logits / config.logits_scaling
    Cohere     logits * config.logit_scale
    others     nothing
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

import torch
from attrs import field, frozen
from torch import Tensor, nn
from transformers import PreTrainedModel

from unlearnkit.errors import AnatomyError

TESTED = frozenset(
    {
        *("llama", "mistral", "qwen2", "qwen3", "phi", "phi3", "gpt2", "gpt_neox", "gemma2", "olmo2"),
        *("granite", "cohere", "mixtral", "qwen2_moe", "qwen3_moe"),
    }
)
"""Model types that are tested here. `CausalLM` tries any other on two tokens before it trusts this file."""


@frozen(eq=False, kw_only=True)
class Anatomy:
    """The parts of a causal language model: body, then head, then what is done to the logits.

    Attributes:
        body: ends in the hidden states that the head reads, as `last_hidden_state`.
        blocks: its transformer blocks, in order. Each takes the residual stream as its first argument and returns it,
            alone or first in a tuple.
        embedding: the token embedding.
        final_norm: the norm after the last block.
        head: [N, H] -> [N, V], before the logits are changed in any of the following ways.
        logit_divisor: what logits are divided by.
        logit_scale: what logits are multiplied by.
        soft_cap: what logits are squeezed below in absolute value, by a tanh.
        attention_names, mlp_names: what a block may call its attention and its MLP.
        mlp_down_names: what an MLP may call its down-projection; a dotted path leads to the stacked experts' parameter.
    """

    body: nn.Module
    blocks: nn.ModuleList
    embedding: nn.Module
    final_norm: nn.Module
    head: nn.Module
    logit_divisor: float | None = None
    logit_scale: float | None = None
    soft_cap: float | None = None
    attention_names: tuple[str, ...] = ("self_attn", "attn", "attention")
    mlp_names: tuple[str, ...] = ("mlp",)
    mlp_down_names: tuple[str, ...] = ("down_proj", "fc2", "c_proj", "dense_4h_to_h", "experts.down_proj")
    name: str = field()

    @name.default
    def _name(self) -> str:
        return type(self.body).__name__

    def logits(self, hidden: Tensor) -> Tensor:
        """The model's logits of final hidden states: [..., H] -> [..., V]."""
        logits: Tensor = self.head(hidden)
        if self.logit_divisor is not None:
            logits = logits / self.logit_divisor
        if self.logit_scale is not None:
            logits = logits * self.logit_scale
        if self.soft_cap is not None:
            logits = torch.tanh(logits / self.soft_cap) * self.soft_cap
        return logits

    # Looked up at each use: an adapter may have put another module into its place since.

    def block(self, layer: int) -> nn.Module:
        if not 0 <= layer < len(self.blocks):
            raise AnatomyError(
                f"there is no block {layer}: {self.name} has {len(self.blocks)} blocks, 0 to {len(self.blocks) - 1}."
            )
        return self.blocks[layer]

    def attention(self, layer: int) -> nn.Module:
        """The attention module of a block; its output comes before any norm or scale that the block puts on it."""
        found = self._part(self.block(layer), "attention", self.attention_names, f"block {layer}")
        assert isinstance(found, nn.Module)
        return found

    def mlp(self, layer: int) -> nn.Module:
        """The MLP of a block, experts and router included; its output comes before any norm or scale put on it."""
        found = self._part(self.block(layer), "mlp", self.mlp_names, f"block {layer}")
        assert isinstance(found, nn.Module)
        return found

    def mlp_down(self, layer: int) -> nn.Module | nn.Parameter:
        """The down-projection of a block's MLP: a module, or the parameter [E, H, D_ff] of stacked experts."""
        return self._part(self.mlp(layer), "mlp_down", self.mlp_down_names, f"the MLP of block {layer}")

    def _part(self, parent: nn.Module, part: str, names: tuple[str, ...], where: str) -> nn.Module | nn.Parameter:
        for name in names:
            try:
                found: object = attrgetter(name)(parent)
            except AttributeError:
                continue
            if isinstance(found, nn.Module | nn.Parameter):
                return found
        raise AnatomyError(
            f"{self.name}: {where} has none of {', '.join(names)} (it has {_children(parent)}). "
            f"Say where it is: CausalLM(model, attrs.evolve(anatomy(model), {part}_names=(...,)))."
        )


def anatomy(model: PreTrainedModel) -> Anatomy:
    """Find the parts of a causal language model.

    Raises:
        AnatomyError: names the architecture, what was not found, and the way out.
    """
    body = model.base_model
    if body is model:
        raise _not_found(model, "body", f"'{model.base_model_prefix}' is no attribute of it: it may be a bare body")
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Module):
        raise _not_found(model, "head", "get_output_embeddings() returns none")
    norms = [child for name, child in body.named_children() if "norm" in name or name.startswith("ln_")]
    if len(norms) != 1:
        raise _not_found(model, "final_norm", f"{len(norms)} of {_children(body)} look like one")
    lists = [child for child in body.children() if isinstance(child, nn.ModuleList)]
    if len(lists) != 1:
        raise _not_found(model, "blocks", f"{len(lists)} of {_children(body)} are lists of modules")
    return Anatomy(
        body=body,
        blocks=lists[0],
        embedding=model.get_input_embeddings(),
        final_norm=norms[0],
        head=head,
        logit_divisor=getattr(model.config, "logits_scaling", None),
        logit_scale=getattr(model.config, "logit_scale", None),
        soft_cap=getattr(model.config, "final_logit_softcapping", None),
    )


def mlp_down_names(model: PreTrainedModel, layers: Iterable[int]) -> frozenset[str]:
    """Names, as in `model.named_parameters()`, of the down-projection weights of some blocks.

    One name per block, biases left out. For a mixture of experts it is the stacked parameter [E, H, D_ff]; an expert
    that all tokens share (Qwen2-MoE) is not among them.

    Raises:
        AnatomyError: no such block, or no down-projection in it.
    """
    parts = anatomy(model)
    downs = [parts.mlp_down(layer) for layer in layers]
    weights = {id(down if isinstance(down, nn.Parameter) else down.weight) for down in downs}
    return frozenset(name for name, parameter in model.named_parameters() if id(parameter) in weights)


def _children(module: nn.Module) -> str:
    return ", ".join(name for name, _ in module.named_children()) or "no submodules"


def _not_found(model: PreTrainedModel, part: str, reason: str) -> AnatomyError:
    return AnatomyError(
        f"{type(model).__name__}: cannot locate its {part}, because {reason}. "
        "Say where they are: CausalLM(model, Anatomy(body=..., blocks=..., embedding=..., final_norm=..., head=...))."
    )
