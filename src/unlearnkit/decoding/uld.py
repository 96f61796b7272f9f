r"""ULD: subtract, at inference, the logits of an assistant that knows only what is to be forgotten.

    z = z_base + w * z_assistant,    w < 0

The assistant remembers the forget set and is uniform elsewhere, so that the subtraction changes nothing there. With a
filter theta > 0 the assistant acts on likely tokens only, those of

    K = {v : z_base,v >= min(k-th largest of z_base, max z_base + ln theta)},    k = max(1, floor(theta * V))

and its logit counts as 0 for all others. So a constant added to the assistant's logits changes nothing when theta = 0,
but does change the scores when theta > 0.

This file is the combination. The assistant is any model of the same vocabulary, trained beforehand.

Paper: Ji, Liu, Zhang, Liu, Kompella, Liu, Chang. Reversing the Forget-Retain Objectives: An Efficient LLM Unlearning
Framework from Logit Difference. NeurIPS 2024, arXiv:2406.08607.

Checked: UCSB-NLP-Chang/ULD@858608c, scoring logits, kept sets and scores of the greedy step, to 1e-9.

Deviations:
    1. The released greedy step takes the argmax of scores times the mask of K, so that a token outside of K scores 0
       and wins wherever all scores in K are negative. Here `masked="minus_infinity"` rules it out.
    2. For theta * V < 1 the released threshold is the smallest log-prob (index -1), and every token is in K,
       which is `top_logit_filter=0`. Here k is at least 1: K holds the tokens within a factor theta of the most likely
       one.
    3. For theta = 0 released greedy decoding adds log-softmaxed logits, scoring raw ones, which differ by a constant
       per position. Here both add raw logits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from unlearnkit.errors import NeedError, VocabularyError
from unlearnkit.models.causal import as_model
from unlearnkit.protocols import Hidden, Model, Site


def logit_difference(
    base_logits: Tensor,
    assistant_logits: Tensor,
    *,
    weight: float,
    top_logit_filter: float,
    masked: Literal["base_logit", "minus_infinity"] = "base_logit",
) -> Tensor:
    """ULD's logits: [..., V], [..., V] -> [..., V].

    Args:
        base_logits: raw logits of the model that is unlearned.
        assistant_logits: raw logits of the assistant.
        weight: w, what the assistant's logits are multiplied by; negative to unlearn.
        top_logit_filter: theta, in [0, 1]. At 0 the assistant acts on every token; otherwise on `floor(theta * V)`
            tokens or more, and on one at least.
        masked: what a token that the filter leaves out scores: its base logit, which keeps log-probs of any text
            finite, or -inf, so that it is never generated.
    """
    combined = base_logits + weight * assistant_logits
    if top_logit_filter == 0:
        return combined
    count = max(1, int(top_logit_filter * base_logits.shape[-1]))
    largest = base_logits.topk(count, dim=-1).values
    near_best = largest[..., :1] + base_logits.new_full((), top_logit_filter).log()
    kept = base_logits >= torch.minimum(largest[..., -1:], near_best)
    otherwise = base_logits if masked == "base_logit" else torch.full_like(base_logits, -torch.inf)
    return torch.where(kept, combined, otherwise)


class _Caches(NamedTuple):
    base: object
    assistant: object


class LogitDifference(nn.Module):
    """Two models of one vocabulary whose logits are combined by `logit_difference`; itself a `Model`.

    There is one head for scoring and for generation, so `masked` says which is meant. The default is the scoring form:
    a token outside of K keeps its base logit, and can outrank every token in K. For generation it is ruled out; text
    that contains such a token then has the probability 0:

        scores = LogitDifference(base, assistant)
        writes = LogitDifference(base, assistant, masked="minus_infinity")

    Final hidden states are those of both models side by side, [B, T, H_base + H_assistant]. Sites are the base model's:
    they are captured from it, and what is added is added to it alone.
    """

    def __init__(
        self,
        base: Model | PreTrainedModel,
        assistant: Model | PreTrainedModel,
        *,
        weight: float = -0.8,
        top_logit_filter: float = 0.01,
        masked: Literal["base_logit", "minus_infinity"] = "base_logit",
    ) -> None:
        """Combine two models, by default with the weight and filter that were released for TOFU.

        Raises:
            VocabularyError: the models' vocabularies differ.
            ValueError: a weight that is not finite, or a filter outside [0, 1].
        """
        super().__init__()
        self.base: Model = as_model(base)
        self.assistant: Model = as_model(assistant)
        if self.base.vocabulary != self.assistant.vocabulary:
            raise VocabularyError(
                f"the base model has a vocabulary of {self.base.vocabulary}, the assistant one of "
                f"{self.assistant.vocabulary}. Logits are combined token by token: use an assistant with the base "
                "model's tokenizer and number of embeddings."
            )
        if not math.isfinite(weight):
            raise ValueError(f"weight is {weight}; it has to be a finite number.")
        if not 0 <= top_logit_filter <= 1:
            raise ValueError(f"top_logit_filter is {top_logit_filter}; it has to lie between 0 and 1.")
        self.weight = weight
        self.top_logit_filter = top_logit_filter
        self.masked: Literal["base_logit", "minus_infinity"] = masked
        self.training = any(module.training for module in self.children())
        self._base_size: int | None = None

    @property
    def vocabulary(self) -> int:
        return self.base.vocabulary

    def hidden(
        self,
        inputs: Mapping[str, Tensor],
        /,
        *,
        capture: frozenset[Site] = frozenset(),
        add: Mapping[Site, Tensor] = MappingProxyType({}),
        cache: object | None = None,
    ) -> Hidden:
        caches = _Caches(None, None) if cache is None else cache
        assert isinstance(caches, _Caches)
        base = self.base.hidden(inputs, capture=capture, add=add, cache=caches.base)
        assistant = self.assistant.hidden(inputs, cache=caches.assistant)
        self._base_size = base.final.shape[-1]
        return Hidden(torch.cat([base.final, assistant.final], dim=-1), base.sites)

    def head(self, hidden: Tensor, /) -> Tensor:
        if self._base_size is None:
            raise NeedError("head() was called before hidden(), so it is not known where the base model's states end.")
        return logit_difference(
            self.base.head(hidden[..., : self._base_size]),
            self.assistant.head(hidden[..., self._base_size :]),
            weight=self.weight,
            top_logit_filter=self.top_logit_filter,
            masked=self.masked,
        )

    def new_cache(self) -> _Caches:
        return _Caches(self.base.new_cache(), self.assistant.new_cache())
