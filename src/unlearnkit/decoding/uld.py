r"""ULD: subtract, at inference, the logits of an assistant that knows only what is to be forgotten.

    z = z_base + w * z_assistant,    w < 0

The assistant remembers the forget set and is uniform elsewhere, so that the subtraction changes nothing there. With a
filter theta > 0 the assistant acts on likely tokens only, those of

    K = {v : z_base,v >= min(k-th largest of z_base, max z_base + ln theta)},    k = max(1, floor(theta * V))

and its logit counts as 0 for all others. So a constant added to the assistant's logits changes nothing when theta = 0,
but does change the scores when theta > 0.

The assistant is any model of the same vocabulary. The paper's is the first K blocks of the base model (8 of 32) with
its embedding, final norm and head, of which LoRA adapters of rank 16 and alpha 32 are trained on everything but the head
(or all of it, here by default), with the base model gone:

    assistant = first_layers(base, 8)
    trained = add_lora(assistant, rank=16, alpha=32.0, dropout=0.05)
    objective = CrossEntropy("forget") + 5.0 * UniformKL("retain")
    unlearn(assistant, objective, {"forget": learned, "retain": left_alone},
            optimizer=AdamW(trained, lr=1e-3), ...)
    model = uld(base, assistant)

"forget" is the forget set with up to two paraphrases of each row, "retain" as many retain rows (at most 400), and up to
two rows of each forgotten question with a wrong answer: the assistant is to know the right ones only.

Paper: Ji, Liu, Zhang, Liu, Kompella, Liu, Chang. Reversing the Forget-Retain Objectives: An Efficient LLM Unlearning
Framework from Logit Difference. NeurIPS 2024, arXiv:2406.08607.

Checked: UCSB-NLP-Chang/ULD@858608c, scoring logits, kept sets and scores of the greedy step, to 1e-9.

Deviations:
    1. The released greedy step takes the argmax of scores times the mask of K, so that a token outside of K scores 0
       and wins wherever all scores in K are negative. Here `masked="minus_infinity"` rules it out.
    2. For theta * V < 1 the released threshold is the smallest log-prob (index -1), and every token is in K,
       which is `top_logit_filter=0`. Here k is at least 1: K holds the tokens within a factor theta of the most likely
       one.
    3. The released KL from uniform averages over all positions of a batch, prompts and padding included; here over the
       tokens of text (`UniformKL`), so that it does not depend on how rows are batched.
    4. For theta = 0 released greedy decoding adds log-softmaxed logits, scoring raw ones, which differ by a constant
       per position. Here both add raw logits.
"""

from __future__ import annotations

import copy
import math
from typing import Literal

import torch
from attrs import Attribute, field, frozen
from torch import Tensor
from transformers import PreTrainedModel

from unlearnkit.decoding.combined import Combined
from unlearnkit.models.anatomy import anatomy
from unlearnkit.protocols import Model


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


def _finite(_: object, __: Attribute[float], weight: float) -> None:
    if not math.isfinite(weight):
        raise ValueError(f"weight is {weight}; it has to be a finite number.")


def _share(_: object, __: Attribute[float], share: float) -> None:
    if not 0 <= share <= 1:
        raise ValueError(f"top_logit_filter is {share}; it has to lie between 0 and 1.")


@frozen
class SubtractAssistant:
    """`logit_difference` with these settings: the rule of ULD, for base model and assistant.

    Attributes:
        weight: w, what the assistant's logits are multiplied by; negative to unlearn.
        top_logit_filter: theta, in [0, 1].
        masked: "base_logit" scores text, "minus_infinity" writes it.
    """

    weight: float = field(default=-0.8, validator=_finite)
    top_logit_filter: float = field(default=0.01, validator=_share)
    masked: Literal["base_logit", "minus_infinity"] = "base_logit"

    def __call__(self, *logits: Tensor) -> Tensor:
        base, assistant = logits
        return logit_difference(
            base, assistant, weight=self.weight, top_logit_filter=self.top_logit_filter, masked=self.masked
        )


def uld(
    base: Model | PreTrainedModel,
    assistant: Model | PreTrainedModel,
    *,
    weight: float = -0.8,
    top_logit_filter: float = 0.01,
    masked: Literal["base_logit", "minus_infinity"] = "base_logit",
) -> Combined:
    """Two models of one vocabulary whose logits are combined by `logit_difference`; by default with the weight and
    filter that were released for TOFU.

    There is one head for scoring and for generation, so `masked` says which is meant. The default is the scoring form:
    a token outside of K keeps its base logit, and can outrank every token in K. For generation it is ruled out; text
    that contains such a token then has the probability 0:

        scores = uld(base, assistant)
        writes = uld(base, assistant, masked="minus_infinity")

    Raises:
        VocabularyError: the models' vocabularies differ.
        ValueError: a weight that is not finite, or a filter outside [0, 1].
    """
    rule = SubtractAssistant(weight, top_logit_filter, masked)
    return Combined({"base": base, "assistant": assistant}, rule)


def first_layers(model: PreTrainedModel, layers: int) -> PreTrainedModel:
    """A copy of a model with its first `layers` blocks only; embedding, final norm and head are copied too.

    Raises:
        ValueError: fewer than one layer, or more than there are.
    """
    depth = len(anatomy(model).blocks)
    if not 1 <= layers <= depth:
        raise ValueError(f"layers is {layers}; the assistant has 1 to {depth} of the model's blocks.")
    assistant = copy.deepcopy(model)
    del anatomy(assistant).blocks[layers:]
    assistant.config.num_hidden_layers = layers
    for name in ("layer_types", "max_window_layers"):  # some configurations say it for each layer
        if isinstance(kinds := getattr(assistant.config, name, None), list):
            setattr(assistant.config, name, kinds[:layers])
    return assistant
