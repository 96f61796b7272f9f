r"""Offset unlearning (delta-unlearning): train a small model so that what changes in its logits unlearns a large one.

    z = z_big + w (z_small - z_small,0)

Only the small model is trained, with any objective on the sum, which is that of the large model at first. Whoever may
train nothing but a small model of the same vocabulary, or has to leave the large one as it is, can unlearn like this:

    before = copy.deepcopy(small)
    model = offset_unlearning(big, small, before)
    objective = NPO() + CrossEntropy("retain")
    original = record(big, objective.needs, data)
    unlearn(model, objective, data, models={"reference": original}, optimizer=AdamW(small.parameters(), lr=1e-5), ...)
    save_guarded(folder, model, tokenizer)

The reference of an objective is the sum before training, hence the large model. Whoever holds the weights of the large
model holds all that it knew.

Paper: Huang et al. Offset Unlearning for Large Language Models. TMLR 2025, arXiv:2404.11045.

Checked: UCSB-NLP-Chang/ULD@858608c, a re-implementation (the authors' repository is empty): logits, loss and gradient of
the small model, to 1e-9; see logit_arithmetic.py.

Deviations: none known.
"""

from __future__ import annotations

import math

from attrs import field, frozen
from attrs.validators import gt, lt
from torch import Tensor, nn
from transformers import PreTrainedModel

from unlearnkit.decoding.combined import Combined
from unlearnkit.decoding.logit_arithmetic import offset_logits
from unlearnkit.errors import NeedError
from unlearnkit.models.causal import as_model
from unlearnkit.models.peft import PeftModel
from unlearnkit.protocols import Model


@frozen
class AddOffset:
    """`offset_logits` with this weight: the rule for a large model, a small one, and the small one as it was.

    Attributes:
        weight: w, what the change of the small model's logits is multiplied by.
    """

    weight: float = field(default=1.0, validator=[gt(-math.inf), lt(math.inf)])

    def __call__(self, *logits: Tensor) -> Tensor:
        big, small, small_reference = logits
        return offset_logits(big, small, small_reference, weight=self.weight)


def offset_unlearning(
    big: Model | PreTrainedModel,
    small: Model | PreTrainedModel | PeftModel,
    small_reference: Model | PreTrainedModel,
    *,
    weight: float = 1.0,
) -> Combined:
    """Three models of one vocabulary, of which `small` can be trained through their sum; the others get no gradient.

    With `big` as the reference too, and weight 1, training the sum is training the small model by itself.

    Args:
        big: the model that is unlearned; it stays as it is.
        small: what is trained.
        small_reference: the small model before that; a deep copy, or `adapter_off(small)` of a PEFT model.
        weight: what the change of the small model's logits is multiplied by.

    Raises:
        VocabularyError: the models' vocabularies differ.
        NeedError: the small model shares parameters with one of the others, which would be trained along.
        ValueError: a weight that is not finite.
    """
    models: dict[str, Model] = {
        name: as_model(model) for name, model in (("big", big), ("small", small), ("small_reference", small_reference))
    }
    for name in ("big", "small_reference"):
        if _shared(models["small"], models[name]):
            raise NeedError(
                f"the small model shares parameters with {name}, which would be trained along. Pass copy.deepcopy(small)."
            )
    return Combined(models, AddOffset(weight), trained=("small",))


def _shared(one: Model, other: Model) -> bool:
    """Whether two models have a parameter in common."""
    if not isinstance(one, nn.Module) or not isinstance(other, nn.Module):
        return False
    return not {id(parameter) for parameter in one.parameters()}.isdisjoint(map(id, other.parameters()))
