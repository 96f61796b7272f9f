"""A model small and exact enough for float64 comparisons: no transformers inside, where float64 is not float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn

from unlearnkit.batch import Row
from unlearnkit.protocols import Hidden, Site, resid_post

VOCABULARY = 13
WIDTH = 6


class Toy(nn.Module):
    """Embedding, a running mean over earlier tokens (causal), one nonlinear block, a head with bias."""

    def __init__(self, seed: int = 0, vocabulary: int = VOCABULARY) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=generator, dtype=torch.float64))

        self.embedding, self.block, self.readout, self.bias = (
            draw(vocabulary, WIDTH),
            draw(WIDTH, WIDTH),
            draw(vocabulary, WIDTH),
            draw(vocabulary),
        )
        self.calls = 0
        self.largest_chunk = 0

    @property
    def vocabulary(self) -> int:
        return len(self.bias)

    def hidden(
        self,
        inputs: Mapping[str, Tensor],
        /,
        *,
        capture: frozenset[Site] = frozenset(),
        add: Mapping[Site, Tensor] = MappingProxyType({}),
        cache: object | None = None,
    ) -> Hidden:
        self.calls += 1
        embedded = self.embedding[inputs["input_ids"]]
        steps = torch.arange(1, embedded.shape[1] + 1)[:, None]
        state = torch.tanh(embedded.cumsum(1) / steps + embedded) @ self.block
        state = state + add.get(resid_post(0), 0.0)
        return Hidden(torch.tanh(state), dict.fromkeys(capture, state))

    def head(self, hidden: Tensor, /) -> Tensor:
        self.largest_chunk = max(self.largest_chunk, len(hidden))
        return hidden @ self.readout.T + self.bias

    def new_cache(self) -> object:
        return None


def toy_rows(
    role: str, lengths: Sequence[tuple[int, int]], *, seed: int = 0, groups: str | None = None
) -> tuple[Row, ...]:
    """Rows of random tokens with (prompt, answer) lengths; row i has id f"{role}{i}"."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for number, (prompt, answer) in enumerate(lengths):
        ids = torch.randint(1, VOCABULARY, (prompt + answer,), generator=generator)
        labels = ids.clone()
        labels[:prompt] = -100
        name = f"{role}{number}"
        rows.append(Row(name, role, {"input_ids": ids}, labels, group=f"{groups}{number}" if groups else name))
    return tuple(rows)
