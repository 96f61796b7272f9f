r"""GUARD: weigh each forget example by how little unlearning it would cost the retain data.

    a_i = < grad M(z_i), mean_r grad M(z_r) >
    omega_i = n * exp(-s_i / temperature) / sum_j exp(-s_j / temperature),    s = (a - mean a) / std a

M is an answer's mean NLL, z_i one of n forget examples, z_r the retain examples, gradients those of the model before
unlearning, over its trainable parameters. a_i is to first order what ascent on z_i adds to the retain loss; examples
whose gradient points the way of the retain data's are unlearned more gently. Weights are constants with mean 1; with an
infinite temperature all are 1, which is the method without weights.

    found = guard(model, forget, retain)
    unlearn(model, objective, data, models={"weights": found.recording}, ...)      # reads Given("weight")

Few examples must not take all the weight: for scores that are nearly normal the effective sample size is about
n exp(-1 / temperature^2), that is 0.78 n at 2 and 0.07 n at 1/2. It is part of the result.

Not the decoding method of the same name (arXiv:2505.13312).

Aliases:
    temperature: tau (paper)

Paper: Niu, Ma, Zhou, Zhou, Zhang, Etesami, Milenkovic. GUARD: Guided Unlearning And Retention via Data attribution.
2025, arXiv:2506.10946.

Checked: laws only; no code was to be had.

Reconstructed: the paper's are a light attribution by gradients and weights that fall with it. The inner product, the
softmax, mean NLL in place of its sum, the standardised score (population standard deviation) and temperature 2 are our
reading.

Deviations: none that could be known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from attrs import frozen
from torch import Tensor
from transformers import PreTrainedModel

from unlearnkit.batch import Collate, Row, collate_text, count_positions
from unlearnkit.errors import DataError
from unlearnkit.models.causal import as_model
from unlearnkit.models.peft import PeftModel
from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.plan import check_data
from unlearnkit.procedures.g_effect import g_effect, gradients
from unlearnkit.procedures.gradient_norm import ROLE, measured
from unlearnkit.protocols import Model
from unlearnkit.recording import Recording, given


def attribution_weights(attributions: Tensor, *, temperature: float = 2.0, standardise: bool = True) -> Tensor:
    """The weight of each forget example: [n] -> [n] float64, positive, with mean 1.

    Args:
        attributions: [n] a_i; only their differences matter.
        temperature: > 0; the higher, the more alike the weights.
        standardise: divide the attributions by their standard deviation first; equal ones weigh the same either way.
    """
    scores = attributions.double()
    scores = scores - scores.mean()
    if standardise:
        spread = scores.square().mean().sqrt()
        scores = torch.where(spread > 1e-12 * attributions.abs().max(), scores / spread, 0.0)
    return len(scores) * torch.softmax(-scores / temperature, 0)


def effective_sample_size(weights: Tensor) -> Tensor:
    """How many examples of equal weight would count as much: [n] -> [], between 1 and n."""
    return weights.sum().square() / weights.square().sum()


@frozen(eq=False)
class Guard:
    """What `guard` found.

    Attributes:
        attributions: a_i, by row id.
        weights: omega_i, by row id.
        effective_sample_size: of the weights.
        recording: the weights as `Given("weight")` of the forget rows, one number per example at each of its tokens.
    """

    attributions: Mapping[str, float]
    weights: Mapping[str, float]
    effective_sample_size: float
    recording: Recording


def attributions(
    model: Model | PreTrainedModel | PeftModel,
    forget: Sequence[Row],
    retain: Sequence[Row],
    *,
    max_tokens: int = 8192,
    collate: Collate = collate_text,
) -> dict[str, float]:
    """a_i of each forget row, by id: a backward pass for each, and one over all retain rows.

    Args:
        model: before unlearning; thaw fewer parameters (the last blocks, an adapter) to save memory.
        forget: the examples to be weighed.
        retain: what is to be kept; a random part will do.
        max_tokens: padded tokens of a batch; changes nothing.
        collate: see `observe`.

    Raises:
        DataError: no rows, two of one id, a row without answer tokens, or a model without trainable parameters.
        VocabularyError: tokens that the model does not have.
    """
    wrapped = as_model(model)
    risk = CrossEntropy(ROLE, reduction="sequence_mean")
    sides = [measured(rows, wrapped.vocabulary) for rows in (forget, retain)]
    for row in (row for rows in sides for row in rows):
        if not count_positions(row, "answer"):
            raise DataError(f"row {row.id!r} has no answer token, hence no gradient. Leave it out.")
    mine, kept = sides
    direction = gradients({"model": wrapped}, kept, risk, max_tokens=max_tokens, collate=collate)
    found = {}
    for row in mine:
        own = gradients({"model": wrapped}, [row], risk, max_tokens=max_tokens, collate=collate)
        found[row.id] = g_effect(own, direction).total
    return found


def guard(
    model: Model | PreTrainedModel | PeftModel,
    forget: Sequence[Row],
    retain: Sequence[Row],
    *,
    temperature: float = 2.0,
    standardise: bool = True,
    max_tokens: int = 8192,
    collate: Collate = collate_text,
) -> Guard:
    """`attributions` turned into weights, and these into a recording.

    Args:
        model, forget, retain, max_tokens, collate: as in `attributions`; the forget rows are of one role.
        temperature, standardise: as in `attribution_weights`.

    Raises:
        DataError: as `attributions`, a temperature that is not above 0, or forget rows of several roles.
        VocabularyError: tokens that the model does not have.
    """
    if not temperature > 0:
        raise DataError(f"temperature is {temperature}; it has to be above 0.")
    if forget:
        check_data({forget[0].role: forget})
    found = attributions(model, forget, retain, max_tokens=max_tokens, collate=collate)
    values = torch.tensor(list(found.values()), dtype=torch.float64)
    weights = attribution_weights(values, temperature=temperature, standardise=standardise)
    of_row = dict(zip(found, weights.tolist(), strict=True))
    return Guard(found, of_row, float(effective_sample_size(weights)), given("weight", of_row, forget))
