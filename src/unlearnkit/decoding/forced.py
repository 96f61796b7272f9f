"""Writing down what a guard says in a model's place: as a `Model`, whose next token is all but certain.

A guard that answers with a fixed text has no logits of its own. Here it gets those that write the text: at a forced
position the next token has probability 1 - V e^-30 or so. Token ids pass from `hidden` to `head` beside the hidden
states, as digits that every float type holds exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def with_forced(final: Tensor, tokens: Tensor) -> Tensor:
    """Hidden states [B, T, H] and forced next tokens [B, T] (-1: none) side by side: [B, T, H + 3]."""
    shifted = tokens + 1
    digits = torch.stack([shifted % 128, shifted // 128 % 128, shifted // 128**2], -1)
    return torch.cat([final, digits.to(final)], -1)


def without_forced(joined: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states and forced tokens apart again: [N, H + 3] -> [N, H], [N]."""
    digits = joined[..., -3:].detach().long()
    return joined[..., :-3], digits[..., 0] + 128 * digits[..., 1] + 128**2 * digits[..., 2] - 1


def forced_logits(logits: Tensor, tokens: Tensor, *, certain: float = 30.0) -> Tensor:
    """Logits with those of forced positions replaced: [N, V], [N] (-1: none) -> [N, V].

    A forced token stands `certain` nats above all others: text that a guard would not write stays finite.
    """
    told = torch.zeros_like(logits).scatter(-1, tokens.clamp(min=0)[..., None], certain)
    return torch.where((tokens >= 0)[..., None], told, logits)


def next_of(text: Sequence[int], written: Sequence[int], end: int) -> int:
    """What follows when a fixed text is being written: its next token, or the end, after it or off it."""
    if len(written) < len(text) and list(text[: len(written)]) == list(written):
        return text[len(written)]
    return end
