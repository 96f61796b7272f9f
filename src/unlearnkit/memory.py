"""How much memory a run will take on each device: arithmetic on shapes, before anything is loaded.

Everything is counted in bytes, per device, at the worst moment of a step that is cut into several micro-batches, when the
gradients of earlier ones are there already. Candidates for that moment, after the forward pass, are a reference at work,
the head at work, a block at work in the backward pass, and the optimizer's update: they follow each other and use the
same room. So the parts of an estimate add up to the peak: a block at work is counted whole, each other one as far as it
needs more. Not counted, and to be left free: the CUDA context and NCCL's buffers (1 to 2 GiB), and what the allocator
cannot use.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from attrs import asdict, field, frozen
from attrs.validators import ge
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from unlearnkit.batch import Row, count_positions
from unlearnkit.errors import PlanError, UnlearningWarning
from unlearnkit.models.anatomy import anatomy
from unlearnkit.models.causal import HALF
from unlearnkit.observe import HeadBudget
from unlearnkit.parallel import FSDP, Single, Strategy
from unlearnkit.protocols import Compared, Objective, Tokens

Layout = Literal["single", "ddp", "fsdp"]
"""How a run is laid over devices: `Single`, `DDP` or `FSDP` of `parallel`."""

Attention = Literal["sdpa", "flash", "eager"]
"""sdpa: with the mask that rows of different length need. flash: without one. eager: all attention weights."""


@frozen(kw_only=True)
class Shape:
    """The sizes of a causal language model that decide about memory.

    Attributes:
        parameters: all of them, tied ones once.
        root_parameters: those outside the blocks: embedding, final norm, head.
        block_parameters: of the largest block.
        blocks: number of blocks.
        hidden: H, width of the residual stream.
        intermediate: D_ff, width of the MLP; of a mixture of experts, of all experts that one token meets.
        heads, key_value_heads, head_dim: of the attention.
        vocabulary: V.
        tied: whether embedding and head are one parameter.
        normed: numbers per token that a block's norms normalise; 2 H for Llama, more with norms of queries and keys.
        fused_norm: whether a norm is one operation (LayerNorm) or several (RMSNorm as transformers writes it).
        readers: linear layers in a block that read the residual stream.
        mlp_tensors: tensors of width D_ff that autograd keeps: gate, up, activation and product of a gated MLP; what
            enters and leaves the activation of a plain one; five for GPT-2's GELU, which is written out.
    """

    parameters: int = field(validator=ge(1))
    root_parameters: int = field(validator=ge(0))
    block_parameters: int = field(validator=ge(0))
    blocks: int = field(validator=ge(1))
    hidden: int = field(validator=ge(1))
    intermediate: int = field(validator=ge(1))
    heads: int = field(validator=ge(1))
    key_value_heads: int = field(validator=ge(1))
    head_dim: int = field(validator=ge(1))
    vocabulary: int = field(validator=ge(1))
    tied: bool = False
    normed: int = field(validator=ge(0))
    fused_norm: bool = False
    readers: int = field(default=5, validator=ge(1))
    mlp_tensors: int = field(default=4, validator=ge(1))

    @normed.default
    def _normed(self) -> int:
        return 2 * self.hidden

    @classmethod
    def of(cls, model: PreTrainedModel) -> Shape:
        """The shape of a model, which may be on the meta device: built from a configuration, without any memory.

        Raises:
            AnatomyError: the model's parts cannot be located.
        """
        parts, config = anatomy(model), model.config
        block, down = parts.block(0), parts.mlp_down(0)
        hidden, heads = int(config.hidden_size), int(config.num_attention_heads)
        key_value_heads = int(getattr(config, "num_key_value_heads", None) or heads)
        head_dim = int(getattr(config, "head_dim", None) or hidden // heads)
        if isinstance(down, nn.Parameter):  # stacked experts [E, H, D_ff]
            intermediate = down.shape[-1] * int(config.num_experts_per_tok)
            intermediate += int(getattr(config, "shared_expert_intermediate_size", 0))
        else:
            intermediate = down.get_parameter("weight").numel() // hidden
        norms = [_size(module) for module in block.modules() if "Norm" in type(module).__name__]
        of_head = (heads + key_value_heads) * head_dim // 2  # a norm of each query or key, their mean
        linear = [module for module in block.modules() if type(module).__name__ in ("Linear", "Conv1D")]
        activation = getattr(config, "activation_function", getattr(config, "hidden_act", None))
        gated = any("gate" in name for name, _ in (*parts.mlp(0).named_modules(), *parts.mlp(0).named_parameters()))
        sizes = [_size(block) for block in parts.blocks]
        return cls(
            parameters=_size(model),
            root_parameters=_size(model) - sum(sizes),
            block_parameters=max(sizes),
            blocks=len(sizes),
            hidden=hidden,
            intermediate=intermediate,
            heads=heads,
            key_value_heads=key_value_heads,
            head_dim=head_dim,
            vocabulary=int(config.vocab_size),
            tied=parts.embedding.weight is parts.head.weight,
            normed=sum(hidden if size >= hidden else of_head for size in norms),
            fused_norm=isinstance(parts.final_norm, nn.LayerNorm),
            readers=max(2, len(linear) - 2),  # all but the two that write to it
            mlp_tensors=4 if gated else 5 if activation == "gelu_new" else 2,
        )


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@frozen(kw_only=True)
class Estimate:
    """Bytes on one device at the peak.

    Attributes:
        weights: of the model, as they are stored.
        gradients: of what is trained.
        optimizer: its state.
        activations: what autograd keeps of the body, and a block at work in the backward pass.
        logits: the head at work, as far as it needs more (`logits_bytes`), or its gradient, which a tied one keeps.
        gathered: weights in the type they are computed in: all of them under autocast, the units that FSDP has gathered
            at once (with their gradients, on the way to being reduced).
        references: weights of live reference models, and their forward pass, as far as it needs more. A recording takes
            nothing.
        update: the optimizer at work, as far as it needs more.
    """

    weights: int = field(validator=ge(0))
    gradients: int = field(validator=ge(0))
    optimizer: int = field(validator=ge(0))
    activations: int = field(validator=ge(0))
    logits: int = field(validator=ge(0))
    gathered: int = field(validator=ge(0))
    references: int = field(validator=ge(0))
    update: int = field(default=0, validator=ge(0))

    @property
    def total(self) -> int:
        return sum(self.parts().values())

    def parts(self) -> dict[str, int]:
        """Bytes by name, in the order of the attributes."""
        return asdict(self)

    def table(self) -> str:
        """A line for each part that takes anything, and the total."""
        lines = {name: size for name, size in self.parts().items() if size} | {"total": self.total}
        return "\n".join(f"{name:<12}{readable(size):>12}" for name, size in lines.items())

    def __str__(self) -> str:
        return self.table()


def readable(size: int) -> str:
    """Bytes in MiB, or in GiB from 1 GiB on."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def estimate(
    shape: Shape,
    *,
    trained: int,
    tokens: int,
    width: int,
    positions: int,
    layout: Layout = "single",
    devices: int = 1,
    weight_bytes: int = 4,
    compute_bytes: int = 4,
    state_bytes: int = 8,
    checkpointing: bool = False,
    attention: Attention = "sdpa",
    references: int = 0,
    budget: HeadBudget = HeadBudget(),  # frozen
) -> Estimate:
    """What a run will take on each of its devices.

    Written with P parameters, of which a share f is trained; n devices that share them under FSDP (else n = 1); w, c and
    s bytes of a parameter as it is stored, as it is computed with, and of its optimizer state; R live references:

        weights     w P / n
        gradients   w f P / n
        optimizer   s f P / n
        gathered    under autocast (c < w): what enters a matrix product, c P, less c V H of an embedding of its own.
                    Under FSDP: the root unit of every model and two blocks (one computes, the next arrives), the
                    block's gradients in c bytes, and in w bytes on their way to being reduced,
                    c (1 + R) root + 2 c block + f (c + w) block
        references  R c P, as they were loaded; under FSDP R w P / n, as all it shards
        activations of each token, what blocks and the final norm keep (`block_bytes`, `end_bytes`), or r H of a block
                    with checkpointing; and two gradients of the residual stream, 2 r H

    At work, of which the largest adds to these:

        a block     c D_ff of each token, a gradient in the MLP; with checkpointing, what it keeps as well; and if the head
                    is tied, its gradient, f c V H, which waits for the embedding's
        the head    `logits_bytes`
        reference   what a block keeps, of each token
        update      the optimizer's copy of one state, 4 f P / n, when the activations are gone

    Frozen parameters have no gradients and no state. What they spare in activations is not taken off: an upper bound for
    adapters.

    Args:
        shape: of the model.
        trained: parameters that the optimizer holds.
        tokens: padded tokens of a micro-batch on one device (`max_tokens`).
        width: padded length of its rows.
        positions: those of its tokens whose hidden states go through the head.
        layout: the strategy. DDP's buckets are the gradients themselves, so it takes what one device alone takes.
        devices: that share the run.
        weight_bytes: of a stored parameter; half-precision models are trained in float32, 4.
        compute_bytes: of a parameter in computing: 2 under autocast or FSDP's mixed precision.
        state_bytes: optimizer state of a trained parameter; see `optimizer_bytes`.
        checkpointing: whether blocks keep their input only and run again in the backward pass.
        attention: the implementation.
        references: live reference models; a recording takes nothing, an adapter switched off a forward pass only.
        budget: of the head, see `observe`.

    Raises:
        PlanError: numbers that cannot be, or do not belong together.
    """
    _at_least(1, trained=trained, tokens=tokens, width=width, devices=devices)
    _at_least(1, weight_bytes=weight_bytes, compute_bytes=compute_bytes)
    _at_least(0, positions=positions, state_bytes=state_bytes, references=references)
    _at_most("trained", trained, "the model's parameters", shape.parameters)
    _at_most("width", width, "the tokens of a micro-batch", tokens)
    _at_most("positions", positions, "the tokens of a micro-batch", tokens)
    _at_most("compute_bytes", compute_bytes, "weight_bytes", weight_bytes)
    if layout == "single" and devices > 1:
        raise PlanError(f"layout is 'single', but there are {devices} devices. Say layout='ddp' or layout='fsdp'.")

    sharded = layout == "fsdp"
    n = devices if sharded else 1
    autocast = not sharded and compute_bytes < weight_bytes
    share = trained / shape.parameters
    block, root = shape.block_parameters, shape.root_parameters

    weights = weight_bytes * _divided(shape.parameters, n)
    trained_here = _divided(trained, n)
    gathered = stored = 0
    if sharded:
        gathered = compute_bytes * ((1 + references) * root + 2 * block)
        gathered += round(share * (compute_bytes + weight_bytes) * block)
    elif autocast:
        gathered = compute_bytes * (shape.parameters - (0 if shape.tied else shape.vocabulary * shape.hidden))
    if references:
        stored = references * (weights if sharded else compute_bytes * shape.parameters)

    stream_bytes = weight_bytes if autocast else compute_bytes
    stream = tokens * stream_bytes * shape.hidden
    of_block = tokens * block_bytes(
        shape, width=width, compute_bytes=compute_bytes, stream_bytes=stream_bytes, attention=attention
    )
    kept = (shape.blocks * stream if checkpointing else shape.blocks * of_block) + 2 * stream
    kept += tokens * end_bytes(shape, stream_bytes=stream_bytes)
    block_works = tokens * compute_bytes * shape.intermediate + (of_block if checkpointing else 0)
    head_works = logits_bytes(
        shape, positions, share=share, models=1 + references, compute_bytes=compute_bytes, budget=budget
    )
    reference_works = of_block if references else 0
    of_head = round(share * compute_bytes * shape.vocabulary * shape.hidden) if shape.tied else 0
    backward = max(block_works + of_head, head_works)
    free_for_update = kept + max(backward, reference_works) + (gathered if sharded else 0)
    return Estimate(
        weights=weights,
        gradients=weight_bytes * trained_here,
        optimizer=state_bytes * trained_here,
        activations=kept + block_works,
        logits=backward - block_works,
        gathered=gathered,
        references=stored + references * stream + max(0, reference_works - backward),
        update=max(0, (4 * trained_here if state_bytes else 0) - free_for_update),
    )


def planned(
    model: PreTrainedModel,
    objective: Objective,
    data: Mapping[str, Sequence[Row]],
    *,
    batch_size: int,
    max_tokens: int = 8192,
    trained: int | None = None,
    state_bytes: int = 8,
    strategy: Strategy = Single(),  # frozen
    references: int = 0,
    budget: HeadBudget = HeadBudget(),  # frozen
) -> Estimate:
    """What a call of `unlearn` will take on each device: micro-batches as full as they get, rows as long as the longest.

    Args:
        model: before it is placed.
        objective, data, batch_size, max_tokens, strategy, budget: as `unlearn` will get them.
        trained: parameters that the optimizer will hold; all, if nothing is said.
        state_bytes: see `optimizer_bytes`; of AdamW, if nothing is said.
        references: live reference models.
    """
    roles = {need.role for need in objective.needs} & data.keys()
    through_head = [need for need in objective.needs if isinstance(need, Tokens | Compared)]
    positions = {role: {need.positions for need in through_head if need.role == role} for role in roles}
    rows = [row for role in roles for row in data[role]]
    wanted = sum(max((count_positions(row, kind) for kind in positions[row.role]), default=0) for row in rows)
    width = max(map(len, rows))
    tokens = max(width, min(max_tokens, -(-batch_size * len(roles) // strategy.size) * width))
    size = model.dtype.itemsize
    shape = Shape.of(model)
    return estimate(
        shape,
        trained=shape.parameters if trained is None else trained,
        tokens=tokens,
        width=width,
        positions=round(tokens * wanted / sum(map(len, rows))),
        layout="fsdp" if isinstance(strategy, FSDP) else "single",  # DDP's is that of a single one
        devices=strategy.size,
        weight_bytes=max(4, size),  # what is trained in half precision is held in float32
        compute_bytes=2 if model.dtype in HALF else size,
        state_bytes=state_bytes,
        checkpointing=model.is_activation_checkpointing
        or (isinstance(strategy, FSDP) and strategy.activation_checkpointing),
        references=references,
        budget=budget,
    )


def block_bytes(
    shape: Shape, *, width: int, compute_bytes: int, stream_bytes: int, attention: Attention = "sdpa"
) -> int:
    """What a block keeps for its backward pass, per token.

    Counted from the operations of a pre-norm block as transformers writes it. Sums keep nothing, and neither do rotary
    embeddings. In bytes per token, for rows of T tokens, with c bytes of a number in matrix products and r of one in the
    residual stream (r = c, but r = 4 under autocast), A = heads * head_dim and K the same of the key-value heads:

        RMSNorm     its input in float32, the normalised values, 1/rms           (4 + r) H + 4    each
        LayerNorm   its input, mean, 1/deviation                                 r H + 8          each
        linear      what q, k and v read, what gate and up read                  2 c H            or one copy for each of
                                                                                                  them: autocast, 5 c H
        attention   q, k, v, what o reads, and for each head                     4 c A
            sdpa    a log-sum-exp; the mask, in one row                          4 heads + c T
            flash   a log-sum-exp; k and v are not repeated                      4 heads - 2 c (A - K)
            eager   the softmax in float32, and as it is used if c < 4           4 heads T, or (4 + c) heads T
        MLP         gate, up, act(gate), what down reads                         4 c D_ff

    So a Llama in float32 keeps 24 H + 16 A + 16 D_ff bytes per token in a block and little else; one in bfloat16,
    16 H + 8 A + 8 D_ff. Compared with what autograd really keeps it is within 6 % for Llama and Qwen-2, 15 % for
    GPT-2, 25 % for other dense models. Mixtures of experts keep a third more, under autocast up to twice as much.
    """
    queries, keys = shape.heads * shape.head_dim, shape.key_value_heads * shape.head_dim
    inputs = shape.readers if stream_bytes != compute_bytes else min(2, shape.normed // shape.hidden)
    kept = _norm_bytes(shape, shape.normed, stream_bytes) + compute_bytes * inputs * shape.hidden
    kept += compute_bytes * (2 * queries + 2 * (keys if attention == "flash" else queries))
    match attention:
        case "sdpa":
            kept += 4 * shape.heads + compute_bytes * width
        case "flash":
            kept += 4 * shape.heads
        case "eager":
            kept += shape.heads * width * (4 + compute_bytes if compute_bytes < 4 else compute_bytes)
    return kept + compute_bytes * shape.mlp_tensors * shape.intermediate


def end_bytes(shape: Shape, *, stream_bytes: int) -> int:
    """What is kept after the last block, per token: by the final norm, and the states that the head reads."""
    return _norm_bytes(shape, shape.hidden, stream_bytes) + stream_bytes * shape.hidden


def _norm_bytes(shape: Shape, normed: int, stream_bytes: int) -> int:
    return stream_bytes * normed + 8 if shape.fused_norm else (max(4, stream_bytes) + stream_bytes) * normed + 4


def logits_bytes(
    shape: Shape,
    positions: int,
    *,
    share: float = 1.0,
    models: int = 1,
    compute_bytes: int = 4,
    budget: HeadBudget = HeadBudget(),  # frozen
) -> int:
    """What has a vocabulary's size, in the two ways in which `observe` runs the head.

        kept         log-probabilities of every position and model, 4 models N V, and two chunks of gradients. Chosen if
                     8 models N V is within `budget.kept_bytes`
        recomputed   log-probabilities, their gradient and that of the logits: 3 chunks

    and the hidden states that are read, N H c. Each chunk gives a gradient of the head's weight, [V, H], which is added
    to the sum of the others: 2 V H c, if the head is trained.

    Args:
        shape: of the model.
        positions: N.
        share: of the parameters that is trained.
        models: the model and its live references.
        compute_bytes: c.
        budget: as given to `observe`.
    """
    of_position = models * shape.vocabulary * max(4, compute_bytes)
    chunk = of_position * min(positions, max(1, budget.chunk_bytes // of_position))
    kept = of_position * positions
    head = round(2 * share * compute_bytes * shape.vocabulary * shape.hidden)
    read = positions * shape.hidden * compute_bytes
    return (kept + 2 * chunk if 2 * kept <= budget.kept_bytes else 3 * chunk) + head + read


def _divided(whole: int, n: int) -> int:
    return -(-whole // n)


def _at_least(least: int, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < least:
            raise PlanError(f"{name} is {number}; it has to be at least {least}.")


def _at_most(name: str, number: int, what: str, most: int) -> None:
    if number > most:
        raise PlanError(f"{name} is {number}, which is more than {what} ({most}). Correct one of them.")


_TWO = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adadelta")
_ONE = ("Adagrad", "RMSprop", "Muon")


def optimizer_bytes(optimizer: Optimizer) -> int:
    """Bytes of state that an optimizer holds for each trained parameter, rounded up.

    Read off its state if it has made a step; otherwise known for torch's common optimizers: AdamW has two tensors in the
    parameter's shape (three with AMSGrad), SGD none or its momentum, Adafactor next to nothing.

    Warns:
        UnlearningWarning: an optimizer that is not known here and has no state yet; two tensors are assumed.
    """
    parameters: list[Tensor] = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    held = [tensor for state in optimizer.state.values() for tensor in state.values() if torch.is_tensor(tensor)]
    if held:
        return _divided(sum(tensor.nbytes for tensor in held), sum(parameter.numel() for parameter in parameters))
    name = type(optimizer).__name__
    if name in _TWO:
        tensors = 2 + any(group.get("amsgrad", False) for group in optimizer.param_groups)
    elif name in _ONE:
        tensors = 1 + any(group.get("momentum", 0) > 0 for group in optimizer.param_groups if name == "RMSprop")
    elif name == "SGD":
        tensors = int(any(group["momentum"] > 0 for group in optimizer.param_groups))
    elif name == "Adafactor":
        tensors = 0
    else:
        tensors = 2
        warnings.warn(
            f"{name} has no state yet and is not known here: two tensors in the shape of each parameter are assumed. "
            "Pass state_bytes yourself, or ask again after its first step.",
            UnlearningWarning,
            stacklevel=2,
        )
    # States of half-precision models are made after these have been cast to float32.
    return tensors * max(4, *(parameter.element_size() for parameter in parameters))


def measured_peak(device: torch.device) -> int:
    """Most bytes that were in use so far: tensors on a GPU, or all of this process's memory on the CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    import resource  # POSIX only

    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
