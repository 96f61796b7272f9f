"""Several models of one vocabulary whose logits are combined token by token: itself a `Model`.

Final hidden states are those of all models side by side, [B, T, H_1 + … + H_n]; the head takes them apart, asks each
model's own head, and combines the logits. So one head serves scoring, sampling and training, and every metric and attack
runs on the combination unchanged.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from contextlib import nullcontext
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from unlearnkit.errors import NeedError, VocabularyError
from unlearnkit.models.causal import as_model, writes_alone
from unlearnkit.models.peft import PeftModel
from unlearnkit.protocols import Hidden, Model, Site, TextGenerator


class Rule(Hashable, Protocol):
    """Combines the logits of several models at the same positions: [N, V] each -> [N, V]."""

    def __call__(self, *logits: Tensor) -> Tensor: ...


class Combined(nn.Module):
    """Models whose logits are combined by a rule.

    Sites are the first model's: they are captured from it, and what is added is added to it alone. So are its weights
    those that somebody who holds them has: `unguarded` is the first model.

    Attributes:
        models: by name, in the order in which the rule takes their logits.
        rule: how logits are combined.
        trained: names of the models that gradients reach; the others are run without a graph. None named: all of them.
    """

    def __init__(
        self,
        models: Mapping[str, Model | PreTrainedModel | PeftModel],
        rule: Rule,
        *,
        trained: Sequence[str] = (),
    ) -> None:
        """Combine models.

        Raises:
            VocabularyError: the models' vocabularies differ.
            NeedError: a model that writes in a way of its own; fewer than two models, a name that no submodule can have, or `trained` names none of them.
        """
        super().__init__()
        self.models: Mapping[str, Model] = {name: as_model(model) for name, model in models.items()}
        if len(self.models) < 2:
            raise NeedError(f"a combination is of two models or more, not of {list(models)}.")
        if unknown := sorted(set(trained) - self.models.keys()):
            raise NeedError(f"trained names {unknown[0]!r}, which is not among the models {list(self.models)}.")
        for model in self.models.values():
            if isinstance(model, TextGenerator):
                raise NeedError(writes_alone(model, "a combination of logits"))
        first, *others = self.models
        for other in others:
            if self.models[other].vocabulary != self.models[first].vocabulary:
                raise VocabularyError(
                    f"the {first} model has a vocabulary of {self.models[first].vocabulary}, the {other} model one of "
                    f"{self.models[other].vocabulary}. Logits are combined token by token: use models with the same "
                    "tokenizer and number of embeddings."
                )
        self.rule = rule
        self.trained = tuple(trained)
        for name, model in self.models.items():
            if not name.isidentifier() or hasattr(self, name):
                raise NeedError(
                    f"a model of a combination cannot be called {name!r}, which a module has or cannot have."
                )
            if isinstance(model, nn.Module):
                self.add_module(name, model)
        self.training = any(module.training for module in self.children())
        self._states: tuple[tuple[int, torch.dtype], ...] | None = None  # how wide each model's are, and their type

    @property
    def vocabulary(self) -> int:
        return self.unguarded.vocabulary

    @property
    def unguarded(self) -> Model:
        """The first model."""
        return next(iter(self.models.values()))

    def hidden(
        self,
        inputs: Mapping[str, Tensor],
        /,
        *,
        capture: frozenset[Site] = frozenset(),
        add: Mapping[Site, Tensor] = MappingProxyType({}),
        cache: object | None = None,
    ) -> Hidden:
        caches = [None] * len(self.models) if cache is None else cache
        assert isinstance(caches, list)
        found = []
        for number, (name, model) in enumerate(self.models.items()):
            with nullcontext() if self._keeps_graph(name) else torch.no_grad():
                if number:
                    found.append(model.hidden(inputs, cache=caches[number]))
                else:
                    found.append(model.hidden(inputs, capture=capture, add=add, cache=caches[number]))
        self._states = tuple((each.final.shape[-1], each.final.dtype) for each in found)
        return Hidden(torch.cat([each.final for each in found], dim=-1), found[0].sites)

    def head(self, hidden: Tensor, /) -> Tensor:
        if self._states is None:
            raise NeedError("head() was called before hidden(), so it is not known where each model's states end.")
        logits = []
        each = hidden.split([width for width, _ in self._states], dim=-1)
        for (name, model), states, (_, dtype) in zip(self.models.items(), each, self._states, strict=True):
            with nullcontext() if self._keeps_graph(name) else torch.no_grad():
                logits.append(model.head(states.to(dtype)))
        return self.rule(*logits)

    def new_cache(self) -> list[object]:
        return [model.new_cache() for model in self.models.values()]

    def _keeps_graph(self, name: str) -> bool:
        return not self.trained or name in self.trained
