"""Random directions by key: the same on every process, and drawn again instead of stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from unlearnkit.draws import keyed_draw
from unlearnkit.errors import ParallelError


def gaussian(parameters: Sequence[nn.Parameter], *key: object) -> Iterator[Tensor]:
    """One standard normal tensor for each parameter, of its type and on its device; one at a time.

    Raises:
        ParallelError: a parameter is sharded, so that its noise would depend on the number of devices.
    """
    for place, parameter in enumerate(parameters):
        if isinstance(parameter, DTensor):
            raise ParallelError(
                "this estimate of the gradient moves parameters at random, which cannot be done to the shards of FSDP. "
                "Use DDP or a single device."
            )
        generator = torch.Generator(parameter.device).manual_seed(keyed_draw(2**63, *key, place))
        yield torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype, device=parameter.device)
