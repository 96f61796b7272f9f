"""A model that reads the same words before everything it is given: an instructed teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn

from unlearnkit.errors import AnatomyError, NeedError
from unlearnkit.protocols import Hidden, Model, Site


class Prefixed(nn.Module):
    """A model that reads a prefix before every row; itself a `Model`, with the positions of the rows alone.

    Its weights are those of the model inside. It is a teacher: it cannot generate, and nothing is added to its hidden
    states. Rows of one batch lie one below the other, padded on the right; packed rows are refused.
    """

    def __init__(self, model: Model, prefix: Sequence[int], *, after: int = 0) -> None:
        """Put token ids before every row.

        Args:
            model: the model inside; wrap one of transformers in `CausalLM`.
            prefix: the ids, without a begin-of-text token if rows have one.
            after: how many of a row's tokens stay in front of the prefix: 1 if rows begin with such a token.

        Raises:
            AnatomyError: it is no `Model`, or none with weights of its own (an adapter switched off).
        """
        super().__init__()
        if not isinstance(model, nn.Module) or not isinstance(model, Model):
            raise AnatomyError(
                f"{type(model).__name__} is no Model with weights of its own, which a prefixed teacher has to be. "
                "Wrap a model of transformers in CausalLM; for a trained adapter load the model under it once more."
            )
        if after < 0:
            raise ValueError(f"'after' must be >= 0: {after}")
        self.model: Model = model
        self.prefix = tuple(prefix)
        self.after = after
        self.training = model.training

    @property
    def vocabulary(self) -> int:
        return self.model.vocabulary

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
            NeedError: packed rows, a cache, or something to be added.
        """
        if cache is not None or add:
            raise NeedError(
                "a prefixed model is a teacher: it neither generates nor takes what is added to its states."
            )
        ids = inputs["input_ids"]
        longer = {"input_ids": self._insert(ids, ids.new_tensor(self.prefix))}
        if (positions := inputs.get("position_ids")) is not None:
            if bool((positions.diff() < 0).any()):
                raise NeedError(
                    "a prefixed model was given packed rows, of which only the first would see the prefix. "
                    "Pass collate=collate_text."
                )
            size = longer["input_ids"].shape
            longer["position_ids"] = torch.arange(size[1]).to(positions).expand(size)
        if (mask := inputs.get("attention_mask")) is not None:
            longer["attention_mask"] = self._insert(mask, mask.new_ones(len(self.prefix)))
        found = self.model.hidden(longer, capture=capture)
        return Hidden(self._without(found.final), {site: self._without(state) for site, state in found.sites.items()})

    def head(self, hidden: Tensor, /) -> Tensor:
        return self.model.head(hidden)

    def new_cache(self) -> object:
        return self.model.new_cache()

    def _insert(self, tokens: Tensor, prefix: Tensor) -> Tensor:
        """[B, T], [P] -> [B, P + T]."""
        inserted = prefix.expand(len(tokens), len(prefix))
        return torch.cat([tokens[:, : self.after], inserted, tokens[:, self.after :]], 1)

    def _without(self, states: Tensor) -> Tensor:
        """[B, P + T, ·] -> [B, T, ·]: at each position of the row what predicts its next token.

        After the last token before the prefix, that is the prefix's last.
        """
        start = max(0, self.after - 1)
        return torch.cat([states[:, :start], states[:, start + len(self.prefix) :]], 1)
