"""A model that reads the same words before everything it is given: an instructed teacher, a prompted guardrail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from attrs import define
from torch import Tensor, nn

from unlearnkit.errors import AnatomyError, NeedError
from unlearnkit.models.around import Around
from unlearnkit.models.causal import writes_alone
from unlearnkit.protocols import Hidden, Model, Site, TextGenerator

FINAL = Site("final_hidden")
"""Read at the rows' positions as predictions: what stands right before the prefix predicts behind it."""


@define(eq=False)
class _Cache:
    """The inner model's cache; `places`: where in each row the prefix went in, once it has."""

    inner: object
    places: Tensor | None = None


class Prefixed(Around):
    """A model that reads a prefix before every row; itself a `Model`, with the positions of the rows alone.

    Its weights are those of the model inside, which is what somebody who holds them has (`unguarded`). What is added to
    hidden states is added at the rows' own positions. Packed rows are refused.
    """

    def __init__(self, model: Model, prefix: Sequence[int], *, after: int = 0) -> None:
        """Put token ids before every row.

        Args:
            model: the model inside; wrap one of transformers in `CausalLM`.
            prefix: the ids, without a begin-of-text token if rows have one.
            after: how many of a row's tokens stay in front of the prefix: 1 if rows begin with such a token.

        Raises:
            AnatomyError: it is no `Model`, or none with weights of its own (an adapter switched off).
            NeedError: it writes in a way of its own.
        """
        if isinstance(model, TextGenerator):
            raise NeedError(writes_alone(model, "a prefix"))
        if not isinstance(model, nn.Module) or not isinstance(model, Model):
            raise AnatomyError(
                f"{type(model).__name__} is no Model with weights of its own, which a prefixed model has to be. "
                "Wrap a model of transformers in CausalLM; for a trained adapter load the model under it once more."
            )
        if after < 0:
            raise ValueError(f"'after' must be >= 0: {after}")
        super().__init__(model)
        self.prefix = tuple(prefix)
        self.after = after

    def hidden(
        self,
        inputs: Mapping[str, Tensor],
        /,
        *,
        capture: frozenset[Site] = frozenset(),
        add: Mapping[Site, Tensor] = MappingProxyType({}),
        cache: object | None = None,
    ) -> Hidden:
        """Run the body on prefix and rows, and leave the prefix's hidden states out.

        Raises:
            NeedError: packed rows, or something to be added that does not say to which row.
        """
        assert cache is None or isinstance(cache, _Cache)
        inner = None if cache is None else cache.inner
        if cache is not None and cache.places is not None:
            longer = {"input_ids": inputs["input_ids"], **self._masks(inputs, cache.places)}
            longer["position_ids"] = inputs["position_ids"] + len(self.prefix)
            return self.model.hidden(longer, capture=capture, add=add, cache=inner)
        ids = inputs["input_ids"]
        mask = inputs.get("attention_mask")
        # Padding on the left, if there is any, stays in front.
        padding = ids.new_zeros(len(ids)) if mask is None else (mask.cumsum(1) == 0).sum(1)
        places = padding + self.after
        longer = {"input_ids": _inserted(ids, ids.new_tensor(self.prefix), places), **self._masks(inputs, places)}
        if (positions := inputs.get("position_ids")) is not None:
            if bool((positions.diff() < 0).any()):
                raise NeedError(
                    "a prefixed model was given packed rows, of which only the first would see the prefix. "
                    "Pass collate=collate_text."
                )
            width = longer["input_ids"].shape[1]
            longer["position_ids"] = (torch.arange(width).to(positions) - padding[:, None]).clamp(min=0)
        if any(delta.dim() != 3 for delta in add.values()):
            raise NeedError("what is added behind a prefix has to say where: [B, T, H], the rows' own positions.")
        # After the last token before the prefix it is the prefix's last state that predicts the next token.
        last = padding + max(0, self.after - 1)
        starts = {site: last if site == FINAL else places for site in capture | add.keys()}
        added = {
            site: _inserted(delta, delta.new_zeros(len(self.prefix), 1), starts[site]) for site, delta in add.items()
        }
        found = self.model.hidden(longer, capture=capture, add=added, cache=inner)
        if cache is not None:
            cache.places = places
        size = len(self.prefix)
        return Hidden(
            _without(found.final, size, last),
            {site: _without(state, size, starts[site]) for site, state in found.sites.items()},
        )

    def new_cache(self) -> _Cache:
        return _Cache(self.model.new_cache())

    def _masks(self, inputs: Mapping[str, Tensor], places: Tensor) -> dict[str, Tensor]:
        mask = inputs.get("attention_mask")
        return {} if mask is None else {"attention_mask": _inserted(mask, mask.new_ones(len(self.prefix)), places)}


def _inserted(rows: Tensor, piece: Tensor, places: Tensor) -> Tensor:
    """Put a piece [P] (or [P, 1], spread over H) into each row [B, T] ([B, T, H]) at its place [B]: [B, P + T, …]."""
    size, width = len(piece), rows.shape[1]
    after = torch.arange(width, device=rows.device)[None] >= places[:, None]
    where = torch.arange(width, device=rows.device)[None] + size * after
    spread = piece if rows.dim() == 2 else piece.expand(size, rows.shape[-1])
    longer = rows.new_zeros(len(rows), size + width, *rows.shape[2:])
    line = torch.arange(len(rows), device=rows.device)[:, None]
    longer = longer.index_put((line, where), rows)
    within = places[:, None] + torch.arange(size, device=rows.device)[None]
    return longer.index_put((line, within), spread.to(rows)[None].expand(len(rows), *spread.shape))


def _without(states: Tensor, size: int, starts: Tensor) -> Tensor:
    """[B, P + T, ·] -> [B, T, ·], the P states from each row's start on left out."""
    width = states.shape[1] - size
    places = torch.arange(width, device=states.device)[None]
    kept = places + size * (places >= starts[:, None])
    return states.gather(1, kept[:, :, None].expand(-1, -1, states.shape[-1]))
