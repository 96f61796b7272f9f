"""Writing down what a guard says in a model's place: as a `Model`, whose next token is all but certain.

A guard that answers with a fixed text has no logits of its own. Here it gets those that write the text: at a forced
position the next token has probability 1 - V e^-30 or so. Token ids pass from `hidden` to `head` beside the hidden
states, as digits that every float type holds exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CERTAIN = 30.0
"""By how many nats a forced token stands above all others: text that a guard would not write stays finite."""

_BASE, _DIGITS = 128, 3


def with_forced(final: Tensor, tokens: Tensor) -> Tensor:
    """Hidden states [B, T, H] and forced next tokens [B, T] (-1: none) side by side: [B, T, H + 3]."""
    rest, digits = tokens + 1, []
    for _ in range(_DIGITS):
        digits.append(rest % _BASE)
        rest = rest // _BASE
    return torch.cat([final, torch.stack(digits, -1).to(final)], -1)


def without_forced(joined: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states and forced tokens apart again: [N, H + 3] -> [N, H], [N]."""
    digits = joined[..., -_DIGITS:].detach().long()
    tokens = sum(digits[..., place] * _BASE**place for place in range(_DIGITS)) - 1
    assert isinstance(tokens, Tensor)
    return joined[..., :-_DIGITS], tokens


def forced_logits(logits: Tensor, tokens: Tensor) -> Tensor:
    """Logits with those of forced positions replaced: [N, V], [N] (-1: none) -> [N, V]."""
    certain = torch.zeros_like(logits).scatter(-1, tokens.clamp(min=0)[..., None], CERTAIN)
    return torch.where((tokens >= 0)[..., None], certain, logits)


def next_of(text: Sequence[int], written: Sequence[int], end: int) -> int:
    """What follows when a fixed text is being written: its next token, or the end, after it or off it."""
    if len(written) < len(text) and list(text[: len(written)]) == list(written):
        return text[len(written)]
    return end
