r"""Memory Removal Difficulty (MRD): how much does an example's likelihood change when all weights are shaken a little?

    MRD = | E_delta [ sum_t (P_t(theta) - P_t(theta + delta)) / P_t(theta) ] |,     P_t = log p(x_t | x_<t),
    delta ~ N(0, sigma^2 I)

In [0, inf). Low: the example sits in a flat region and is hard to unlearn; high: a small change already removes it. For
small sigma the linear part averages out and MRD = | sigma^2 / 2 * sum_t tr(Hessian of P_t) / P_t |, so that it grows
with sigma^2: values of different sigma, models or precisions cannot be compared. A sum over tokens: long answers score
higher. A token the model is sure of has P_t near 0 and would rule the sum; it counts as 1e-6.

Curriculum: draw forget examples with probability MRD / sum of all (`draw_probabilities`), easy ones first.

Paper: Feng, Li, Wang, Liu, Zhang, Chen. A Neuro-inspired Interpretation of Unlearning in Large Language Models through
Sample-level Unlearning Difficulty. 2025, arXiv:2504.06658.

Checked: laws and closed forms only; no code of the authors was found, and the definition is taken from descriptions of
the paper. Ours are: the number of draws (32), the guard 1e-6, and the size of the noise. The paper has one small
absolute sigma, which is `relative=False`; the default 1e-3 is a share of each tensor's root mean square, so that
tensors of all sizes are shaken alike.

Deviations: each draw is used with both signs by default (`antithetic`), so that the linear part cancels exactly and not
only on average. The same draws are used for all examples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from unlearnkit.batch import Collate, Row, collate_text
from unlearnkit.draws import keyed_draw
from unlearnkit.errors import DataError
from unlearnkit.evaluate import gather
from unlearnkit.models.causal import HALF, as_model
from unlearnkit.models.peft import PeftModel
from unlearnkit.procedures.gradient_norm import ROLE, measured, trainable
from unlearnkit.protocols import Flat, Model, Tokens
from unlearnkit.statistics import LabelLogProb


def memory_removal_difficulty(log_probs: Tensor, shaken: Tensor, row: Tensor, *, rows: int) -> Tensor:
    """MRD of each answer from log-probs with and without noise: flat [N], [K, N], [N] -> [rows] float64, >= 0.

    Args:
        log_probs: [N] of the answers' tokens, in nats; one above -1e-6 counts as -1e-6.
        shaken: [K, N] the same under K draws of noise.
        row: [N] int64, the answer each token belongs to.
        rows: number of answers; one without tokens is nan.
    """
    before = log_probs.double()
    change = (before - shaken.double().mean(0)) / before.clamp(max=-1e-6)
    sums = change.new_zeros(rows).index_add(0, row, change).abs()
    return torch.where(torch.bincount(row, minlength=rows) > 0, sums, torch.nan)


def draw_probabilities(difficulties: Mapping[str, float]) -> dict[str, float]:
    """With which probability each example is drawn: its share of all difficulties; alike if all are 0.

    Raises:
        DataError: no example, or a difficulty that is negative or not finite.
    """
    for name, value in difficulties.items():
        if not (math.isfinite(value) and value >= 0):
            raise DataError(f"example {name!r} has the difficulty {value}; it has to be a finite number, 0 or above.")
    if not difficulties:
        raise DataError("there are no examples to draw from.")
    total = math.fsum(difficulties.values())
    return {name: value / total if total else 1 / len(difficulties) for name, value in difficulties.items()}


def removal_difficulty(
    model: Model | PreTrainedModel | PeftModel,
    rows: Sequence[Row],
    *,
    sigma: float = 1e-3,
    relative: bool = True,
    draws: int = 32,
    antithetic: bool = True,
    seed: int = 0,
    max_tokens: int = 8192,
    collate: Collate = collate_text,
) -> dict[str, float]:
    """`memory_removal_difficulty` of each example by its id; nan for one without any supervised token.

    A pass over all rows per draw, two if `antithetic`. The trainable parameters are changed meanwhile and put back
    bit by bit, also when a pass fails; a copy of them is held.

    Args:
        model: whose weights are shaken, in single or double precision.
        rows: whose answers are scored.
        sigma: standard deviation of the noise; 0 gives 0.
        relative: whether `sigma` is a share of each parameter tensor's root mean square (zeros stay zeros then), or the
            same for all.
        draws: K.
        antithetic: use each draw with both signs.
        seed: of the noise, which does not depend on the device.
        max_tokens: padded tokens per batch.
        collate: see `observe`.

    Raises:
        DataError: numbers that cannot be, no rows, two of one id, a model without trainable parameters, or one in half
            precision, where noise of this size is lost to rounding.
        VocabularyError: tokens that the model does not have.
    """
    if not (math.isfinite(sigma) and sigma >= 0):
        raise DataError(f"sigma is {sigma}; it has to be a finite number, 0 or above.")
    if draws < 1:
        raise DataError(f"draws is {draws}; at least one is needed.")
    wrapped = as_model(model)
    _, parameters = trainable(wrapped)
    for name, parameter in parameters.items():
        if parameter.dtype in HALF:
            raise DataError(f"{name} is {parameter.dtype}, where small noise is lost to rounding. Call model.float().")
    data = {ROLE: measured(rows, wrapped.vocabulary)}
    tokens = Tokens(LabelLogProb(), ROLE)

    def log_probs() -> Flat:
        return gather({"model": wrapped}, frozenset({tokens}), data, max_tokens=max_tokens, collate=collate)[tokens]

    still, shaken = log_probs(), []
    for draw in range(draws):
        for sign in (1.0, -1.0) if antithetic else (1.0,):
            with _shaken(parameters, sign * sigma, relative=relative, key=(seed, draw)):
                shaken.append(log_probs().values)
    each = memory_removal_difficulty(still.values, torch.stack(shaken), still.row, rows=still.rows)
    return dict(zip((row.id for row in rows), each.tolist(), strict=True))


@contextmanager
def _shaken(
    parameters: Mapping[str, nn.Parameter], sigma: float, *, relative: bool, key: tuple[int, int]
) -> Iterator[None]:
    """Noise on all parameters, and the very same bits as before when this ends."""
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    try:
        with torch.no_grad():
            for name, parameter in parameters.items():
                generator = torch.Generator().manual_seed(keyed_draw(2**63, *key, name))
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter)
                scale = before[name].square().mean().sqrt() if relative else 1.0
                parameter.add_(sigma * scale * noise)
        yield
    finally:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(before[name])
