r"""UCD: take off, at inference, what a small model knows with the forget data beyond one trained without them.

    z = z_base - alpha (z_with - z_without)
    on {v : p_base(v) >= theta max p_base}, if a plausibility set is asked for

The two small models are trained alike, one on everything, the other without what is to be forgotten; both have the
vocabulary of the model that is unlearned. If they differ as that model differs from a retrained one, token by token,
alpha = 1 gives the retrained one. ULD subtracts one assistant's logits, which is to put the uniform distribution in the
place of `without`.

    model = ucd(base, with_forget, without_forget)

Raw logits are combined: a constant per position, by which log-probs differ from them, is gone after the softmax. Whoever
holds the weights of the base model holds all that it knew.

Paper: Suriyakumar, Sekhari, Wilson. UCD: Unlearning in LLMs via Contrastive Decoding. 2025, arXiv:2506.12097.

Reconstructed: no code was found. The combination is what is told of the paper; alpha = 1 is our choice, for the reason
above (0.5 to 2 is worth a look), and so is the plausibility set, contrastive decoding's, off by default.

Deviations: none known.
"""

from __future__ import annotations

import math

import torch
from attrs import field, frozen
from attrs.validators import ge, le, lt
from torch import Tensor
from transformers import PreTrainedModel

from unlearnkit.decoding.combined import Combined
from unlearnkit.models.peft import PeftModel
from unlearnkit.protocols import Model


def contrasted_logits(
    base_logits: Tensor, with_logits: Tensor, without_logits: Tensor, *, alpha: float = 1.0, plausibility: float = 0.0
) -> Tensor:
    """UCD's logits: [..., V] three times -> [..., V].

    Args:
        base_logits: raw logits of the model that is unlearned.
        with_logits: of the small model that was trained on the forget data too.
        without_logits: of the one that was not.
        alpha: what their difference is multiplied by.
        plausibility: theta, in [0, 1]: tokens less likely than theta times the base model's favourite get -inf. 0: none.
    """
    combined = base_logits - alpha * (with_logits - without_logits)
    if plausibility == 0:
        return combined
    implausible = base_logits < base_logits.amax(-1, keepdim=True) + math.log(plausibility)
    return combined.masked_fill(implausible, -torch.inf)


@frozen
class SubtractContrast:
    """`contrasted_logits` with these settings: the rule of UCD, for base model, small model with and without.

    Attributes:
        alpha: what the difference of the small models' logits is multiplied by, at least 0.
        plausibility: theta, in [0, 1]; above 0, text with an implausible token has the probability 0.
    """

    alpha: float = field(default=1.0, validator=[ge(0.0), lt(math.inf)])
    plausibility: float = field(default=0.0, validator=[ge(0.0), le(1.0)])

    def __call__(self, *logits: Tensor) -> Tensor:
        base, with_forget, without_forget = logits
        return contrasted_logits(base, with_forget, without_forget, alpha=self.alpha, plausibility=self.plausibility)


def ucd(
    base: Model | PreTrainedModel | PeftModel,
    with_forget: Model | PreTrainedModel | PeftModel,
    without_forget: Model | PreTrainedModel | PeftModel,
    *,
    alpha: float = 1.0,
    plausibility: float = 0.0,
) -> Combined:
    """Three models of one vocabulary whose logits are combined by `contrasted_logits`.

    Args:
        base: the model that is unlearned.
        with_forget: a small model trained on everything.
        without_forget: the same, trained without the forget data.
        alpha, plausibility: see `SubtractContrast`.

    Raises:
        VocabularyError: the models' vocabularies differ.
        ValueError: an alpha that is negative or not finite, or a plausibility outside [0, 1].
    """
    models = {"base": base, "with_forget": with_forget, "without_forget": without_forget}
    return Combined(models, SubtractContrast(alpha, plausibility))
