"""A model around another: guards, prefixes and probes change one thing that it does and leave the rest to it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor, nn

from unlearnkit.protocols import Hidden, Model, Site


class Around(nn.Module):
    """Does what the model inside does; itself a `Model`.

    Its weights are those of the model inside, which is what somebody who holds them has (`unguarded`).
    """

    def __init__(self, model: Model) -> None:
        """Put nothing around a model."""
        super().__init__()
        self.model = model
        self.training = getattr(model, "training", False)

    @property
    def vocabulary(self) -> int:
        return self.model.vocabulary

    @property
    def unguarded(self) -> Model:
        """The model inside."""
        return self.model

    @property
    def parts(self) -> Mapping[str, Model]:
        """The model inside, by the name it is saved under."""
        return {"model": self.model}

    def hidden(
        self,
        inputs: Mapping[str, Tensor],
        /,
        *,
        capture: frozenset[Site] = frozenset(),
        add: Mapping[Site, Tensor] = MappingProxyType({}),
        cache: object | None = None,
    ) -> Hidden:
        """That of the model inside."""
        return self.model.hidden(inputs, capture=capture, add=add, cache=cache)

    def head(self, hidden: Tensor, /) -> Tensor:
        """That of the model inside."""
        return self.model.head(hidden)

    def new_cache(self) -> object:
        """That of the model inside."""
        return self.model.new_cache()
