"""How many products with the head a step needs, counted: trained or frozen, logits kept or recomputed.

    python benchmarks/frozen_head.py

One product is 2 N V H operations: N answer positions through a head [V, H]. Counted are the matrix products with a side
of V in the forward and backward pass of a step of NPO with a retain NLL, its reference recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from baselines.rows import ROLES, random_rows
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import LlamaConfig, LlamaForCausalLM

import unlearnkit as uk
from unlearnkit.batch import count_positions
from unlearnkit.observe import HeadBudget
from unlearnkit.plan import Sampler
from unlearnkit.train import Engine

VOCABULARY, HIDDEN = 4093, 64  # a prime, so that no other side is as long
OBJECTIVE = uk.NPO(beta=0.1) + uk.CrossEntropy("retain")


class HeadProducts(TorchDispatchMode):
    """Adds up the operations of matrix products that have a side of V."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: int = 0

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        if func.name() == "aten::mm":
            one, other = (leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor))
            if VOCABULARY in (*one.shape, *other.shape):
                self.operations += 2 * one.shape[0] * one.shape[1] * other.shape[1]
        return func(*args, **(kwargs or {}))


def main() -> None:
    """Count and print a table."""
    data = {role: random_rows(role, VOCABULARY) for role in ROLES}
    rows = Sampler(data=data, primary="forget", batch_size=8).step(0)
    product = 2 * sum(count_positions(row, "answer") for row in rows) * VOCABULARY * HIDDEN
    print("| head | logits | products with the head |")
    print("|---|---|---|")
    for trained, kept in ((True, True), (True, False), (False, True), (False, False)):
        operations = count(data, rows, trained=trained, kept=kept)
        print(
            f"| {'trained' if trained else 'frozen'} | {'within the budget' if kept else 'over the budget'} | "
            f"{operations / product:.2f} |"
        )


def count(data: Mapping[str, Sequence[uk.Row]], rows: Sequence[uk.Row], *, trained: bool, kept: bool) -> int:
    """Operations of the head in one step."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = LlamaForCausalLM(config).train()
    reference = uk.record(model, OBJECTIVE.needs, data)
    model.get_output_embeddings().requires_grad_(trained)
    budget = HeadBudget(kept_bytes=2**40 if kept else 0)
    engine = Engine(models={"model": uk.CausalLM(model), "reference": reference}, budget=budget)
    with HeadProducts() as products:
        engine.backward(OBJECTIVE, rows, adds_up=True)
    operations: int = products.operations
    return operations


if __name__ == "__main__":
    main()
