"""`torchrun -m tests.distributed.traffic OUT`: counts what an FSDP step sends and what is kept whole; JSON."""

from __future__ import annotations

import json
import sys
import warnings
import weakref
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.distributed.cases import FORGET, ROWS
from tests.toy import VOCABULARY, toy_rows
from unlearnkit.models.causal import CausalLM
from unlearnkit.models.tiny import tiny_model
from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.objectives.npo import NPO
from unlearnkit.observe import HeadBudget
from unlearnkit.parallel import FSDP
from unlearnkit.train import Engine, unlearn


class Traffic(TorchDispatchMode):
    """Counts collectives, and the bytes of the whole tensors that they gather or reduce."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        if func.namespace == "c10d":
            name = func.name().removeprefix("c10d::").strip("_")
            tensors = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
            self.calls[name] += 1
            self.bytes[name] += max(tensor.numel() * tensor.element_size() for tensor in tensors)
        return func(*args, **(kwargs or {}))


def count(max_tokens: int, chunk_positions: int, *, live: bool = False) -> dict[str, dict[str, int]]:
    """Of one step cut into micro-batches and head chunks like this, with or without a live reference."""
    model, reference = (tiny_model("llama", vocabulary=VOCABULARY, seed=seed, layers=3) for seed in (0, 1))
    models = {"model": CausalLM(model.train()), "reference": CausalLM(reference.requires_grad_(False))}
    engine = Engine(
        models=models if live else {"model": models["model"]},
        max_tokens=max_tokens,
        strategy=FSDP(activation_checkpointing=True),
        budget=HeadBudget(chunk_bytes=chunk_positions * 4 * VOCABULARY, kept_bytes=0),
    )
    objective = (NPO(beta=0.5) if live else CrossEntropy("forget")) + CrossEntropy("retain")
    with Traffic() as traffic:
        engine.backward(objective, ROWS["uneven"], adds_up=True)
    return {"calls": dict(traffic.calls), "bytes": dict(traffic.bytes)}


def sizes(ranks: int) -> dict[str, int]:
    """Bytes of all parameters of such a model, and of the root's; first dimensions padded to a multiple of the ranks."""
    model = tiny_model("llama", vocabulary=VOCABULARY, layers=3)

    def padded(parameters: Iterable[nn.Parameter]) -> int:
        return sum(4 * -(-len(one) // ranks) * ranks * (one.numel() // len(one)) for one in parameters)

    whole = padded(model.parameters())
    return {"whole": whole, "root": whole - sum(padded(block.parameters()) for block in CausalLM(model).anatomy.blocks)}


def left_over() -> int:
    """How many parameters of the model are still held whole, by anybody, while it is trained in shards."""
    model = tiny_model("llama", vocabulary=VOCABULARY)
    before = [weakref.ref(parameter) for parameter in model.parameters()]
    alive: list[int] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        unlearn(
            model,
            CrossEntropy("forget"),
            {"forget": toy_rows("forget", FORGET)},
            optimizer=torch.optim.AdamW(model.parameters()),
            steps=2,
            strategy=FSDP(),
            on_step=lambda _: alive.append(sum(parameter() is not None for parameter in before)),
        )
    return alive[-1]


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = {
        "one piece": count(10_000, 1000),
        "small chunks": count(10_000, 2),
        "pieces": count(16, 1000),
        "live reference": count(10_000, 1000, live=True),
    }
    Path(sys.argv[1]).write_text(json.dumps({"sizes": sizes(FSDP().size), "left over": left_over(), **found}))
