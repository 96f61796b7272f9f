"""Causal language models of transformers as a `Model`: body and head apart, sites read and changed by hooks.

Hooks are installed for one forward pass, on the modules that were asked for, and are gone when it returns or raises.
A block under activation checkpointing runs again during the backward pass; what was added inside it is added again
there, whatever forward passes came in between, so that gradients are those of the pass that was made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import DynamicCache, PreTrainedModel

from unlearnkit.errors import AnatomyError, GradientError, NeedError
from unlearnkit.models.anatomy import TESTED, Anatomy, anatomy
from unlearnkit.protocols import Guarded, Hidden, Model, Site

if TYPE_CHECKING:
    from unlearnkit.models.peft import PeftModel

HALF = (torch.float16, torch.bfloat16)
"""Types in which a small update is lost to rounding."""


class CausalLM(nn.Module):
    """A causal language model of transformers.

    What the sites are, for block l (from 0):

        embed          output of the token embedding, before positions are added or the block stack scales it
        resid_pre[l]   the residual stream that enters the block
        attn_out[l]    output of the attention module, before a norm (Gemma-2, OLMo-2) or factor (Granite) put on it
        mlp_key[l]     what the down-projection reads, [B, T, D_ff]; a mixture of experts has no single one
        mlp_out[l]     output of the MLP, before a norm or factor put on it
        resid_post[l]  the residual stream that leaves the block
        final_hidden   what the head reads

    A site that is both captured and added to is captured after the addition.

    Attributes:
        model: the wrapped model; save this one, not the wrapper.
    """

    def __init__(self, model: PreTrainedModel, parts: Anatomy | None = None) -> None:
        """Wrap a model.

        Args:
            model: any causal language model whose parts `anatomy` finds.
            parts: its parts, if `anatomy` does not find them.

        Raises:
            AnatomyError: parts are missing, or the logits of an architecture that is not among the tested ones are
                more than its head's output.
        """
        super().__init__()
        self.model = model
        self._parts = parts
        self.training = model.training
        if parts is not None or model.config.model_type not in TESTED:
            _check_logits(model, self.anatomy)

    @property
    def anatomy(self) -> Anatomy:
        """The parts, as they are now: adapters and resized embeddings replace modules."""
        return anatomy(self.model) if self._parts is None else self._parts

    @property
    def vocabulary(self) -> int:
        size: int = self.model.config.vocab_size
        return size

    def hidden(
        self,
        inputs: Mapping[str, Tensor],
        /,
        *,
        capture: frozenset[Site] = frozenset(),
        add: Mapping[Site, Tensor] = MappingProxyType({}),
        cache: object | None = None,
    ) -> Hidden:
        """Run the body.

        Args:
            inputs: `input_ids`, `position_ids` and, unless all padding is on the right, `attention_mask`, [B, T] each
                (the mask covers cached tokens too).
            capture: sites whose values are returned, [B, T, ·]; part of the graph.
            add: what is added at a site, out of place: anything that broadcasts to its value.
            cache: from `new_cache`; it grows by this call's tokens.

        Raises:
            AnatomyError: a site this model does not have.
            GradientError: a site inside a block under reentrant checkpointing.
            NeedError: a cache in training mode with activation checkpointing, which would not be filled.
        """
        if cache is not None and self.model.training and self.model.is_activation_checkpointing:
            raise NeedError(
                "activation checkpointing drops the cache in training mode, so each token would be generated without "
                "its context. Call model.eval() first."
            )
        parts = self.anatomy
        seen: dict[Site, Tensor] = {}
        end = Site("final_hidden")
        points = {site: _locate(parts, site) for site in capture | add.keys() if site != end}
        inside: dict[nn.Module, list[tuple[_Point, Tensor]]] = {}
        for site, point in points.items():
            if point.block is not None:
                _refuse_reentrant(point.block, site)
                if site in add:
                    inside.setdefault(point.block, []).append((point, add[site]))
        with ExitStack() as hooks:
            for site, point in points.items():
                hooks.enter_context(_hook(point, partial(_visit, site=site, delta=add.get(site), seen=seen)))
            for block, added in inside.items():
                hooks.enter_context(_repeated_in_recomputation(block, added))
            output = parts.body(**inputs, past_key_values=cache, use_cache=cache is not None, return_dict=True)
        final = _visit(output.last_hidden_state, site=end, delta=add.get(end), seen=seen)
        if missed := sorted(map(str, points.keys() - seen.keys())):
            raise AnatomyError(
                f"{parts.name} did not run the module of {missed[0]}, so nothing was read or added there."
            )
        return Hidden(final, {site: seen[site] for site in capture})

    def head(self, hidden: Tensor, /) -> Tensor:
        return self.anatomy.logits(hidden)

    def new_cache(self) -> DynamicCache:
        return DynamicCache(config=self.model.config)


def as_model(model: Model | PreTrainedModel | PeftModel) -> Model:
    """The model itself, or a model of transformers wrapped; of a PEFT model, the one its adapter was put into.

    Raises:
        AnatomyError: it is none of these, or an adapter that acts outside of the model it was put into.
    """
    from unlearnkit.models.peft import base_of, is_peft  # it builds on this module

    if is_peft(model):
        return CausalLM(base_of(model))
    if isinstance(model, PreTrainedModel):
        return CausalLM(model)
    if not isinstance(model, Model):
        raise AnatomyError(
            f"{type(model).__name__} is neither a transformers model nor a Model (vocabulary, hidden, head, new_cache). "
            "Load it with load_model(), or wrap it in a class that has these."
        )
    return model


def unguarded(model: Model) -> Model:
    """The model whose weights somebody who holds them has: without whatever acts at inference around it."""
    while isinstance(model, Guarded):
        model = model.unguarded
    return model


def writes_alone(model: Model, around: str) -> str:
    """Why a model that writes in a way of its own cannot be inside something that acts on tokens."""
    return (
        f"{around} acts on tokens, and {type(model).__name__} writes in a way of its own, which would be lost. Put what acts "
        "on tokens inside, and it around that."
    )


def device_of(model: object) -> torch.device:
    """Where a model's inputs have to be: with its parameters, or, if it is no module, on its `device`; else the CPU."""
    if isinstance(model, nn.Module):
        parameter = next(model.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device
    device: object = getattr(model, "device", None)
    return device if isinstance(device, torch.device) else torch.device("cpu")


T = TypeVar("T")


class Through(Protocol):
    """Runs a function that uses live models, where their parameters are at hand: as the forward pass of one module.

    DDP and FSDP act at the boundary of a module's forward pass; the function's result has to be made of tensors, lists
    and tuples for them to find what gradients will come back through.
    """

    def __call__(self, work: Callable[[], T], /) -> T: ...


def directly(work: Callable[[], T], /) -> T:
    """On one device nothing stands between a model and its parameters."""
    return work()


@contextmanager
def evaluation_mode(*models: object) -> Iterator[None]:
    """No dropout and no activation checkpointing (which would drop the cache); each module's mode is put back."""
    modules = {module for model in models if isinstance(model, nn.Module) for module in model.modules()}
    modes = {module: module.training for module in modules}
    for module in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def no_dropout(model: nn.Module) -> Iterator[None]:
    """Set every dropout probability (and router jitter) to 0, and back afterwards; configurations are not touched.

    In training mode dropout makes a step depend on how it is cut; evaluation mode would turn activation checkpointing
    off with it.
    """
    before = [(module, name, getattr(module, name)) for module in model.modules() for name in _dropouts(module)]
    for module, name, _ in before:
        setattr(module, name, 0.0)
    try:
        yield
    finally:
        for module, name, probability in before:
            setattr(module, name, probability)


def _dropouts(module: nn.Module) -> list[str]:
    """Attributes that hold a dropout probability: of dropout modules, and of those that use it in a function call."""
    own = {"jitter_noise", "p"} if isinstance(module, nn.Dropout) else {"jitter_noise"}
    return [
        name for name, value in vars(module).items() if isinstance(value, float) and ("dropout" in name or name in own)
    ]


def compile_blocks(model: PreTrainedModel, *, backend: str = "inductor") -> None:
    """Compile each transformer block by itself, in place, for rows of any length; before a strategy shards the model.

    Block by block nothing breaks the graph, and equal blocks share it. The head needs no compiling: it is one product.
    A site that is read or changed costs a graph of its own for that block. Together with activation checkpointing torch
    soon gives up compiling and says so; the results stay right.
    """
    for block in anatomy(model).blocks:
        block.compile(backend=backend, dynamic=True)


# --- sites ------------------------------------------------------------------------------------------------------------


class _Point(NamedTuple):
    """Where a site is: a module, which side of it, and the block whose forward pass runs that module, if one does."""

    module: nn.Module
    side: Literal["input", "output"]
    block: nn.Module | None = None


def _locate(parts: Anatomy, site: Site) -> _Point:
    if site == Site("embed"):
        return _Point(parts.embedding, "output")
    try:
        if site.layer is not None:
            block = parts.block(site.layer)
            match site.kind:
                case "resid_pre":
                    return _Point(block, "input")
                case "resid_post":
                    return _Point(block, "output")
                case "attn_out":
                    return _Point(parts.attention(site.layer), "output", block)
                case "mlp_out":
                    return _Point(parts.mlp(site.layer), "output", block)
                case "mlp_key":
                    down = parts.mlp_down(site.layer)
                    if isinstance(down, nn.Module):
                        return _Point(down, "input", block)
                    raise AnatomyError("its MLP is a mixture of experts, each with a key of its own.")
    except AnatomyError as error:
        raise AnatomyError(f"{parts.name} has no site {site}: {error}") from None
    raise AnatomyError(
        f"{parts.name} has no site {site}. Its sites are embed, final_hidden and, for each of {len(parts.blocks)} "
        "blocks, resid_pre[l], attn_out[l], mlp_key[l], mlp_out[l], resid_post[l]."
    )


def _visit(value: Tensor, *, site: Site, delta: Tensor | None, seen: dict[Site, Tensor]) -> Tensor:
    seen[site] = value if delta is None else _plus(value, delta=delta)
    return seen[site]


def _plus(value: Tensor, *, delta: Tensor) -> Tensor:
    return value + delta.to(value.dtype)


def _hook(point: _Point, change: Callable[[Tensor], Tensor]) -> RemovableHandle:
    """Pass the first input or output of a module through `change`; a context manager that ends it."""

    def on_input(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return change(args[0]), *args[1:]

    def on_output(_: nn.Module, __: object, output: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        return change(output) if isinstance(output, Tensor) else (change(output[0]), *output[1:])

    if point.side == "input":
        return point.module.register_forward_pre_hook(on_input)
    return point.module.register_forward_hook(on_output)


# --- activation checkpointing -----------------------------------------------------------------------------------------

_CHECKPOINT = "_gradient_checkpointing_func"
"""The attribute in which transformers gives a block the function that runs its forward pass with checkpointing."""


@contextmanager
def _repeated_in_recomputation(block: nn.Module, added: Sequence[tuple[_Point, Tensor]]) -> Iterator[None]:
    """Have the recomputation of this forward pass of `block`, if there will be one, add the same tensors again."""
    checkpoint: Callable[..., object] | None = vars(block).get(_CHECKPOINT)
    if checkpoint is None:
        yield
        return

    def checkpoint_with_additions(forward: Callable[..., object], *args: object) -> object:
        runs = count()

        def run(*args: object) -> object:
            with ExitStack() as hooks:
                if next(runs):  # the first is the forward pass itself, which has hooks already
                    for point, delta in added:
                        hooks.enter_context(_hook(point, partial(_plus, delta=delta)))
                return forward(*args)

        return checkpoint(run, *args)

    setattr(block, _CHECKPOINT, checkpoint_with_additions)
    try:
        yield
    finally:
        setattr(block, _CHECKPOINT, checkpoint)


def _refuse_reentrant(block: nn.Module, site: Site) -> None:
    checkpoint = vars(block).get(_CHECKPOINT)
    if block.training and getattr(checkpoint, "keywords", {}).get("use_reentrant"):
        raise GradientError(
            f"{site} lies inside a block under reentrant activation checkpointing, through which its gradient is lost. "
            "Enable checkpointing with model.activation_checkpointing_enable(), which is not reentrant."
        )


def _check_logits(model: PreTrainedModel, parts: Anatomy) -> None:
    """Try on two tokens whether hidden states and head make the model's logits."""
    finals: list[Tensor] = []
    with (
        torch.no_grad(),
        parts.body.register_forward_hook(lambda _, __, output: finals.append(output.last_hidden_state)),
    ):
        logits: Tensor = model(input_ids=torch.zeros(1, 2, dtype=torch.int64, device=model.device)).logits
    if not finals:
        raise AnatomyError(
            f"{type(model).__name__}: its forward pass does not run the body {parts.name}. Pass CausalLM(model, parts) "
            "the Anatomy of the module that does run."
        )
    if not torch.equal(parts.logits(finals[0]).to(logits.dtype), logits):
        raise AnatomyError(
            f"{type(model).__name__}: its logits are not what {parts.name} and head give, so it does something to them "
            "that is not known here. Pass CausalLM(model, parts) an Anatomy whose head, logit_divisor, logit_scale or "
            "soft_cap does it."
        )
