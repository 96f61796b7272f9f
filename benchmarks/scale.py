"""Memory and time per GPU for Llama shapes of 1B, 7B and 70B parameters: computed, not measured.

    python benchmarks/scale.py      prints the tables of docs/scale.md; needs no GPU and no weights

Memory is `unlearnkit.memory.estimate`; time is counted in products and bytes against what an A100 is sold as doing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import torch
from attrs import frozen
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from unlearnkit.memory import Estimate, Layout, Shape, estimate
from unlearnkit.observe import HeadBudget

GIB = 2**30
MEMORY = 80 * GIB
"""Of one A100-80GB."""
USABLE = 72 * GIB
"""What a run may take of it: a tenth is left to the CUDA context, NCCL and the allocator."""
PEAK = 312e12
"""bfloat16 operations per second of an A100."""
UTILISATION = 0.4
"""Assumed share of it that a training step reaches."""
NVLINK = 300e9
"""Bytes per second and direction of a GPU within its node: NVLink's 600 GB/s are both directions together."""
NETWORK = 25e9
"""Bytes per second and direction of a node of eight GPUs: 200 Gb/s."""
NODE = 8
"""GPUs of a node."""

TOKENS, WIDTH = 8192, 512
"""A micro-batch of one GPU: padded tokens, and the padded length of its rows."""
POSITIONS = TOKENS // 2
"""Of them, answer positions."""
STEP = 64 * WIDTH
"""Padded tokens of a small global step: 32 forget and 32 retain rows."""
GPUS = (8, 16, 32, 64)

CONFIGURATIONS: Mapping[str, Mapping[str, int | bool]] = MappingProxyType(
    {
        "Llama-3.2-1B": {
            "vocab_size": 128256,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "tie_word_embeddings": True,
        },
        "Llama-2-7B": {
            "vocab_size": 32000,
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "tie_word_embeddings": False,
        },
        "Llama-2-70B": {
            "vocab_size": 32000,
            "hidden_size": 8192,
            "intermediate_size": 28672,
            "num_hidden_layers": 80,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "tie_word_embeddings": False,
        },
    }
)


def shape(name: str) -> Shape:
    """The shape of one of `CONFIGURATIONS`, built without memory."""
    config = AutoConfig.for_model("llama", **CONFIGURATIONS[name])
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return Shape.of(model)


def planned(
    shape: Shape,
    layout: Layout,
    devices: int,
    *,
    references: int = 0,
    tokens: int = TOKENS,
    checkpointing: bool = True,
) -> Estimate:
    """Every parameter trained with AdamW, float32 weights, computing in bfloat16."""
    return estimate(
        shape,
        trained=shape.parameters,
        tokens=tokens,
        width=WIDTH,
        positions=tokens // 2,
        layout=layout,
        devices=devices,
        compute_bytes=2,
        checkpointing=checkpointing,
        references=references,
    )


@frozen
class Time:
    """Seconds of a micro-batch on each GPU.

    Attributes:
        computing: of its tokens.
        communication: of gathering and reducing.
    """

    computing: float
    communication: float

    @property
    def least(self) -> float:
        """One hides behind the other."""
        return max(self.computing, self.communication)

    @property
    def most(self) -> float:
        """One waits for the other."""
        return self.computing + self.communication


def operations(shape: Shape, tokens: int, *, references: int = 0) -> float:
    """Floating-point operations of a micro-batch, with checkpointing.

    A product with N weights is 2 N operations per token. Blocks: one product forward, two backward, one recomputed, so
    8 N; attention over rows of T tokens the same number of times 4 A T. The head at half of the positions: three
    products, four if it is recomputed. A live reference has the forward ones (two of the head, if it is recomputed).
    """
    positions = tokens // 2
    blocks = 2 * shape.blocks * (shape.block_parameters + 2 * shape.heads * shape.head_dim * WIDTH)
    head = 2 * shape.vocabulary * shape.hidden
    recomputed = (1 + references) * 8 * positions * shape.vocabulary > HeadBudget().kept_bytes
    of_head = 3 + recomputed + references * (1 + recomputed)
    return float(tokens * (4 + references) * blocks + positions * of_head * head)


def transferred(shape: Shape, layout: Layout, devices: int, *, references: int = 0) -> float:
    """Bytes that a micro-batch brings to each GPU.

    FSDP gathers parameters in bfloat16, forward and backward, those of a reference forward, and reduces gradients in
    float32: 2 + 2 + 4 (+ 2) bytes, P (n - 1) / n times. DDP's all-reduce in float32 is twice 4 bytes, once in a step.
    """
    each = 8 + (2 * references if layout == "fsdp" else 0)
    return each * shape.parameters * (devices - 1) / devices


def micro_batch(shape: Shape, layout: Layout, devices: int, *, references: int = 0, tokens: int = TOKENS) -> Time:
    """Of a step that has no other. Rings bring the bytes; one link of each leaves every node."""
    return Time(
        operations(shape, tokens, references=references) / (PEAK * UTILISATION),
        transferred(shape, layout, devices, references=references) / (NVLINK if devices <= NODE else NETWORK),
    )


def small_step(shape: Shape, layout: Layout, devices: int) -> float:
    """Seconds of a step of `STEP` tokens, in as few micro-batches as fit `TOKENS`, communication hidden."""
    batches = -(-STEP // devices // TOKENS)
    time = micro_batch(shape, layout, devices, tokens=STEP // devices // batches)
    times = batches if layout == "fsdp" else 1
    return max(batches * time.computing, times * time.communication)


# --- tables -----------------------------------------------------------------------------------------------------------


def markdown(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def gib(size: float) -> str:
    return f"{size / GIB:.1f}"


def between(least: str, most: str) -> str:
    return least if least == most else f"{least} to {most}"


def memory_rows(shapes: Mapping[str, Shape]) -> Iterator[list[str]]:
    """Each layout once; DDP takes the same on any number of GPUs."""
    layouts: list[tuple[str, Layout, int]] = [("Single, 1", "single", 1), ("DDP, 8 to 64", "ddp", 8)]
    layouts += [(f"FSDP, {devices}", "fsdp", devices) for devices in GPUS]
    for name, of in shapes.items():
        for title, layout, devices in layouts:
            cached, live = (planned(of, layout, devices, references=number) for number in (0, 1))
            fits = [total <= USABLE for total in (cached.total, live.total)]
            yield [
                name,
                title,
                *map(gib, (cached.weights, cached.gradients, cached.optimizer, cached.gathered)),
                *map(gib, (cached.activations + cached.logits, cached.update, cached.total, live.total)),
                "yes" if all(fits) else "without live reference" if any(fits) else "no",
            ]


def activation_rows(shapes: Mapping[str, Shape]) -> Iterator[list[str]]:
    """Activations and logits by micro-batch, with and without checkpointing."""
    for name, of in shapes.items():
        for checkpointing in (True, False):
            plans = [
                planned(of, "fsdp", 64, tokens=tokens, checkpointing=checkpointing) for tokens in (2048, 8192, 32768)
            ]
            yield [name, "yes" if checkpointing else "no", *(gib(plan.activations + plan.logits) for plan in plans)]


def time_rows(shapes: Mapping[str, Shape]) -> Iterator[list[str]]:
    """What fits."""
    layouts: list[tuple[str, Layout, int]] = [("Single", "single", 1)]
    layouts += [("DDP", "ddp", devices) for devices in GPUS] + [("FSDP", "fsdp", devices) for devices in GPUS]
    for name, of in shapes.items():
        for title, layout, devices in layouts:
            if planned(of, layout, devices).total <= USABLE:
                cached, live = (micro_batch(of, layout, devices, references=number) for number in (0, 1))
                per_second = (devices * TOKENS / seconds / 1000 for seconds in (cached.most, cached.least))
                yield [
                    name,
                    f"{title}, {devices}",
                    f"{cached.computing:.2f}",
                    f"{cached.communication:.2f}",
                    between(f"{cached.least:.2f}", f"{cached.most:.2f}"),
                    between(f"{live.least:.2f}", f"{live.most:.2f}"),
                    between(*(f"{number:.1f}" for number in per_second)),
                    f"{small_step(of, layout, devices):.2f}",
                ]


def tables() -> str:
    """All of them, as docs/scale.md has them."""
    shapes = {name: shape(name) for name in CONFIGURATIONS}
    sizes = (
        [
            name,
            f"{of.parameters / 1e9:.2f}",
            *map(str, (of.blocks, of.hidden, of.intermediate, of.vocabulary)),
            f"{operations(of, TOKENS) / TOKENS / 1e9:.1f}",
        ]
        for name, of in shapes.items()
    )
    parts = [
        "**Shapes.** P in billions; operations per padded token in billions, recomputation included.",
        markdown(["shape", "P", "blocks", "H", "D_ff", "V", "operations"], sizes),
        f"**Memory**, GiB per GPU. Micro-batches of {TOKENS} padded tokens in rows of {WIDTH}, half of the positions "
        f"wanted, activation checkpointing. Fits: at most {USABLE // GIB} of {MEMORY // GIB} GiB.",
        markdown(
            [
                *("shape", "layout, GPUs", "weights", "gradients", "AdamW", "gathered", "activations, logits"),
                *("update", "total, reference recorded", "total, reference live", "fits"),
            ],
            memory_rows(shapes),
        ),
        "**Activations and logits**, GiB per GPU under FSDP, by padded tokens of a micro-batch.",
        markdown(["shape", "checkpointing", "2048", "8192", "32768"], activation_rows(shapes)),
        f"**Time**, seconds, where it fits: of a micro-batch of {TOKENS} tokens on each GPU, communication hidden entirely "
        f"to not at all; and of a global step of {STEP} tokens over all GPUs, hidden entirely.",
        markdown(
            [
                *("shape", "layout, GPUs", "computing", "communication", "micro-batch, reference recorded"),
                *("reference live", "thousand tokens/s, all GPUs", f"step of {STEP}"),
            ],
            time_rows(shapes),
        ),
    ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    print(tables())
