r"""G-effect: does a step on an unlearning objective raise or lower a risk, and where in the model?

    e(L, R) = < grad R, grad L >        over the trainable parameters, at the model as it is

L is the objective, R a risk: the mean NLL per answer token of the forget set ("unlearn G-effect") or of the retain set
("retain G-effect"). A step of size eta down L's gradient changes R by -eta e, to first order. So a negative unlearn
G-effect means forgetting, a negative retain G-effect damage. For L = -R it is -|grad R|^2, for L = R its opposite.
Bilinear in both; e over groups of parameters adds up to e over all. It grows with the size of both gradients, and says
nothing of steps that an optimizer rescales; compare its sign and its course, not values of different models.

    objective = gradients({"model": model, "reference": reference}, forget, NPO(beta=0.1))
    unlearn = g_effect(objective, gradients({"model": model}, forget, CrossEntropy("forget")))
    retain = g_effect(objective, gradients({"model": model}, retained, CrossEntropy("retain")))

Paper: Wang et al. Rethinking LLM Unlearning Objectives: A Gradient Perspective and Go Beyond. ICLR 2025,
arXiv:2502.19301.

Checked: tmlr-group/G-effect@ef368ee, inner products of the recorded gradients of its objectives with those computed
here, to 1e-9.

Deviations: the released code runs while a model is trained, replaces each gradient by a running mean over batches
(0.6 old + 0.4 new) and reports every fourth. Here e is that of the rows given; a running mean is a line on the results
of `gradients`. Its groups are embedding, blocks 0-9, 10-19 and from 20, and head; the final norm falls to whichever
came before it. Here it goes to "other".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

import torch
from attrs import frozen
from torch import Tensor
from transformers import PreTrainedModel

from unlearnkit.batch import Collate, Row, collate_text, count
from unlearnkit.errors import DataError, MissingModelError
from unlearnkit.models.causal import as_model, no_dropout
from unlearnkit.models.peft import PeftModel
from unlearnkit.observe import observe
from unlearnkit.plan import cut
from unlearnkit.procedures.gradient_norm import trainable
from unlearnkit.protocols import Model, Objective
from unlearnkit.recording import Recording


@frozen
class GEffect:
    """What a step on an objective does to a risk.

    Attributes:
        total: e(L, R); minus the change of the risk per unit of step size, to first order.
        groups: the share of each group of parameters; they add up to `total`.
    """

    total: float
    groups: Mapping[str, float]


def depth_group(name: str) -> str:
    """The released code's group of a parameter: embedding, blocks 0-9, 10-19 and from 20, head; "other" is ours."""
    if block := re.search(r"\.(?:layers|h|blocks)\.(\d+)\.", f".{name}"):
        number = int(block[1])
        return "blocks 0-9" if number < 10 else "blocks 10-19" if number < 20 else "blocks 20-"
    if re.search(r"lm_head|embed_out", name):
        return "head"
    return "embedding" if re.search(r"embed|\bwte\b|\bwpe\b", name) else "other"


def g_effect(
    objective: Mapping[str, Tensor], risk: Mapping[str, Tensor], *, group: Callable[[str], str] = depth_group
) -> GEffect:
    """Inner product of two gradients by parameter name, in double precision.

    Args:
        objective, risk: from `gradients`, of one model.
        group: which group a parameter belongs to, by its name.

    Raises:
        DataError: the gradients are not of the same parameters.
    """
    if different := sorted(objective.keys() ^ risk.keys()):
        raise DataError(f"only one of the two gradients has {different[0]!r}. Take both of the same model.")
    of_group: dict[str, list[float]] = {}
    for name, gradient in objective.items():
        if gradient.shape != risk[name].shape:
            raise DataError(
                f"{name} is {tuple(gradient.shape)} in one gradient and {tuple(risk[name].shape)} in the other. "
                "Take both of the same model."
            )
        product = (gradient.double() * risk[name].to(gradient.device).double()).sum()
        of_group.setdefault(group(name), []).append(float(product))
    return GEffect(
        math.fsum(value for values in of_group.values() for value in values),
        {name: math.fsum(values) for name, values in of_group.items()},
    )


def gradients(
    models: Mapping[str, Model | PreTrainedModel | PeftModel | Recording],
    rows: Sequence[Row],
    objective: Objective,
    *,
    max_tokens: int = 8192,
    collate: Collate = collate_text,
) -> dict[str, Tensor]:
    """Gradient of an objective on these rows, taken as one step, by the name of each trainable parameter of "model".

    Dropout is off; neither `.grad` nor the model's mode is touched. A parameter that is not reached has zeros.

    Args:
        models: "model", and whatever else the objective's needs name.
        rows: of all roles that the objective reads.
        objective: what is minimised; a risk is one too (`CrossEntropy("forget")`).
        max_tokens: padded tokens of a micro-batch; changes no gradient.
        collate: see `observe`.

    Raises:
        DataError: no rows, or an objective that does not add up over micro-batches and rows that are more than one.
        MissingModelError: no "model", or none of a name that the objective needs.
    """
    if "model" not in models:
        raise MissingModelError(f"there is no 'model' among {sorted(models)}: the gradient is taken of that one.")
    if not rows:
        raise DataError("there are no rows to take a gradient on.")
    every = {name: model if isinstance(model, Recording) else as_model(model) for name, model in models.items()}
    live = every["model"]
    if isinstance(live, Recording):
        raise DataError("models['model'] is a recording, which has no gradient. Pass the model itself.")
    module, parameters = trainable(live)
    pieces = cut(rows, max_tokens)
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    with torch.enable_grad(), no_dropout(module):
        for piece in pieces:
            loss = objective(observe(every, piece, objective.needs, collate=collate))
            value = torch.zeros((), device=next(iter(parameters.values())).device)
            for term in loss:
                if term.per is None and len(pieces) > 1:
                    raise DataError(
                        f"the term {term.name!r} is no sum over rows, so it cannot be computed in {len(pieces)} "
                        f"micro-batches. Pass fewer rows, or raise max_tokens={max_tokens}."
                    )
                units = 1 if term.per is None else count(rows, term.per)
                value = value + term.weight * term.value / max(1, units)
            if not value.requires_grad:
                continue
            found = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
            for name, gradient in zip(parameters, found, strict=True):
                if gradient is not None:
                    total[name] += gradient
    return total
