r"""LoRA: train a low-rank addition to linear layers, and add it to their weights when done.

    y = W x + b + (alpha / rank) * B A dropout(x),    A: [rank, in] drawn, B: [out, rank] zero at first

Layers are replaced in place, so that the model stays the model of transformers that it was; `merge_lora` puts plain
layers back. For adapters that are stored and switched, use PEFT, which every part of the library takes.

Paper: Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen. LoRA: Low-Rank Adaptation of Large Language Models. ICLR 2022,
arXiv:2106.09685.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from unlearnkit.errors import AnatomyError


class LoRALinear(nn.Module):
    """A linear layer with a low-rank addition; the layer itself is frozen."""

    def __init__(self, layer: nn.Linear, *, rank: int, alpha: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.scale = alpha / rank
        self.dropout = nn.Dropout(dropout)
        like = layer.weight
        down = torch.empty(rank, layer.in_features, dtype=like.dtype)  # drawn on the CPU: the same on every device
        nn.init.kaiming_uniform_(down, a=math.sqrt(5))
        self.down = nn.Parameter(down.to(like.device))
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank, dtype=like.dtype, device=like.device))
        self.train(layer.training)

    def forward(self, inputs: Tensor) -> Tensor:
        plain: Tensor = self.layer(inputs)
        change: Tensor = self.dropout(inputs) @ self.down.T @ self.up.T
        return plain + self.scale * change

    def merged(self) -> nn.Linear:
        """The layer, with what was learned added to its weights."""
        with torch.no_grad():
            self.layer.weight += self.scale * (self.up @ self.down)
        return self.layer.requires_grad_(True)


def add_lora(
    model: PreTrainedModel,
    *,
    rank: int = 16,
    alpha: float = 32.0,
    dropout: float = 0.0,
    names: Collection[str] | None = None,
    seed: int = 0,
) -> list[nn.Parameter]:
    """Put LoRA on linear layers, in place, freeze everything else, and return what is to be trained.

    Args:
        model: with plain linear layers.
        rank, alpha, dropout: of each addition.
        names: what the layers are called last ("q_proj", "down_proj"). Default: every linear layer but the head.
        seed: of the draws of A.

    Raises:
        AnatomyError: no layer of these names, or LoRA is there already.
    """
    if has_lora(model):
        raise AnatomyError(f"{type(model).__name__} has LoRA in it already. Call merge_lora(model) first.")
    head = model.get_output_embeddings()
    chosen = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head and (names is None or name.split(".")[-1] in names)
    ]
    if not chosen:
        called = "" if names is None else f" called {sorted(names)}"
        raise AnatomyError(
            f"{type(model).__name__} has no linear layer{called} beside its head. LoRA goes on layers of the class "
            "nn.Linear; for others use PEFT."
        )
    model.requires_grad_(False)
    trained: list[nn.Parameter] = []
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for name, layer in chosen:
            added = LoRALinear(layer, rank=rank, alpha=alpha, dropout=dropout)
            _replace(model, name, added)
            trained += [added.down, added.up]
    return trained


def has_lora(model: nn.Module) -> bool:
    """Whether LoRA was put on any layer, and not merged yet."""
    return any(isinstance(module, LoRALinear) for module in model.modules())


def merge_lora(model: PreTrainedModel) -> None:
    """Add what was learned to the weights and put plain layers back, in place; everything can be trained again."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LoRALinear):
            _replace(model, name, module.merged())
    model.requires_grad_(True)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
