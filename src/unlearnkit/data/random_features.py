r"""Random features: the two-class toy on which NPO's theory was tested, with all its losses, and descent on them.

    p(x) = softmax([relu(x W^T) a, 0])        W [N, D] fixed, a [N, K - 1] trained: convex in a

Retain inputs are normal around -gap, forget inputs around +gap in every coordinate; with gap 0 both sets lie in one
place, with 1 they are apart. Labels are logistic in the input, and the two sets favour different classes. A model is
trained on both sets, its oracle on the retain set only, and unlearning is full-batch descent from the trained model.
An answer is one label here, so that sums over an answer are its log-probability.

Every loss is put together from the formulas of `unlearnkit.objectives`; the mean is over samples.
"grad_diff_KL_forget" is "grad_diff" plus 2 KL(trained || model) on forget inputs, "non_paired_dpo" is NPO; the suffix
_KL or _GDiff adds a retain term.

Aliases:
    gap: alpha (paper)

Paper: Zhang, Lin, Bai, Mei. Negative Preference Optimization: From Catastrophic Collapse to Effective Unlearning.
COLM 2024, arXiv:2404.05868.

Checked: licong-lin/negative-preference-optimization@1207bbe (its synthetic folder), ten steps of each of the 13 losses
and what is measured on the way, to 1e-9.

Deviations: the draws of a seed are others than the release's, which come one sample at a time. The KTO offset is
multiplied by beta, as in the release's toy and unlike its code for language models; the value of KTO is larger by the
constant 1 of the latter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, get_args

import torch
from attrs import field, frozen
from attrs.validators import ge, gt
from torch import Tensor

from unlearnkit.errors import DataError
from unlearnkit.objectives.cross_entropy import sequence_nll
from unlearnkit.objectives.dpo import dpo_loss
from unlearnkit.objectives.kto import kto_loss
from unlearnkit.objectives.npo import npo_loss
from unlearnkit.objectives.retain_kl import forward_kl

ToyLoss = Literal[
    "grad_ascent",
    "grad_descent",
    "grad_diff",
    "grad_diff_KL_forget",
    "KL",
    "idk",
    "non_paired_dpo",
    "non_paired_dpo_KL",
    "non_paired_dpo_GDiff",
    "dpo",
    "dpo_KL",
    "dpo_GDiff",
    "kto",
]
"""The losses, by the names the paper's code gives them."""

TOY_LOSSES: tuple[ToyLoss, ...] = get_args(ToyLoss)


@frozen(kw_only=True)
class ToySettings:
    """Sizes of the toy; the defaults are the paper's.

    Attributes:
        gap: how far apart retain and forget inputs are; 1 in the paper's main figures, 0 in the others.
        width, features: D and N.
        retain, forget, evaluated: how many samples; `evaluated` of each kind.
    """

    gap: float = field(default=1.0, validator=ge(0.0))
    width: int = field(default=16, validator=ge(1))
    features: int = field(default=128, validator=ge(1))
    retain: int = field(default=1000, validator=ge(1))
    forget: int = field(default=200, validator=ge(1))
    evaluated: int = field(default=1000, validator=ge(1))


@frozen(eq=False, kw_only=True)
class Toy:
    """The data of one experiment, float64.

    Attributes:
        weights: [N, D], the fixed first layer.
        retain, forget: inputs [B, D].
        retain_labels, forget_labels: [B] int64.
        idk_labels: [B] int64, uniform over the classes: what a refusal is here.
        evaluated_retain, evaluated_forget: inputs [E, D] that models are compared on.
    """

    weights: Tensor
    retain: Tensor
    retain_labels: Tensor
    forget: Tensor
    forget_labels: Tensor
    idk_labels: Tensor
    evaluated_retain: Tensor
    evaluated_forget: Tensor

    def logits(self, inputs: Tensor, a: Tensor) -> Tensor:
        """[B, D], [N, K - 1] -> [B, K]; the last class has logit 0."""
        return feature_logits(torch.relu(inputs @ self.weights.T), a)


@frozen(kw_only=True)
class Distances:
    """How far a model is from the oracle and from the trained model: means of KL(other || model), and |a - a_oracle|.

    Attributes:
        forget, retain: from the oracle on forget and retain inputs; what the paper calls forget and retain quality.
        forget_moved, retain_moved: from the model that unlearning began with.
        parameters: Euclidean distance of `a` from the oracle's.
    """

    forget: float
    retain: float
    forget_moved: float
    retain_moved: float
    parameters: float


def feature_logits(features: Tensor, a: Tensor) -> Tensor:
    """[B, N], [N, K - 1] -> [B, K]."""
    free = features @ a
    return torch.cat([free, free.new_zeros(len(free), 1)], -1)


def label_log_probs(logits: Tensor, labels: Tensor) -> Tensor:
    """[B, K], [B] -> [B]."""
    return torch.log_softmax(logits, -1).gather(-1, labels[:, None])[:, 0]


def draw_toy(seed: int, settings: ToySettings = ToySettings()) -> Toy:
    """The data of a seed."""
    generator = torch.Generator().manual_seed(seed)
    weights = _normal(generator, settings.features, settings.width) / settings.width**0.5
    retain, retain_labels = _samples(generator, settings, settings.retain, side=-1)
    forget, forget_labels = _samples(generator, settings, settings.forget, side=1)
    return Toy(
        weights=weights,
        retain=retain,
        retain_labels=retain_labels,
        forget=forget,
        forget_labels=forget_labels,
        idk_labels=torch.randint(2, (settings.forget,), generator=generator),
        evaluated_retain=_samples(generator, settings, settings.evaluated, side=-1)[0],
        evaluated_forget=_samples(generator, settings, settings.evaluated, side=1)[0],
    )


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _samples(
    generator: torch.Generator, settings: ToySettings, number: int, *, side: Literal[-1, 1]
) -> tuple[Tensor, Tensor]:
    """Inputs and labels of one set. Retain samples favour class 0 and forget samples class 1, by the same margin."""
    centred = _normal(generator, number, settings.width)
    margin = centred.sum(-1) / settings.width**0.5 + 1.0
    favoured = torch.rand(number, generator=generator, dtype=torch.float64) < torch.sigmoid(margin)
    return centred + side * settings.gap, favoured.long() if side == 1 else 1 - favoured.long()


def toy_loss(name: ToyLoss, toy: Toy, trained: Tensor, *, beta: float | None = None) -> Callable[[Tensor], Tensor]:
    """The loss of that name as a function of `a`, a scalar.

    Args:
        name: which.
        toy: the data.
        trained: [N, K - 1], the model before unlearning: NPO's, DPO's, KTO's and the KL terms' reference.
        beta: inverse temperature, of NPO, DPO and KTO only.

    Raises:
        DataError: such a loss was given no beta > 0.
    """
    forget, retain = (torch.relu(inputs @ toy.weights.T) for inputs in (toy.forget, toy.retain))
    trained_forget, trained_retain = (feature_logits(features, trained) for features in (forget, retain))
    each = torch.arange(len(toy.forget))

    def inverse_temperature() -> float:
        if beta is None or beta <= 0:
            raise DataError(f"the loss {name!r} needs an inverse temperature: beta is {beta}. Pass beta > 0.")
        return beta

    def ascent(a: Tensor) -> Tensor:
        return -sequence_nll(label_log_probs(feature_logits(forget, a), toy.forget_labels), each, rows=len(each)).mean()

    def descent(a: Tensor) -> Tensor:
        return -label_log_probs(feature_logits(retain, a), toy.retain_labels).mean()

    def refusals(a: Tensor) -> Tensor:
        return -label_log_probs(feature_logits(forget, a), toy.idk_labels).mean()

    def kl_retain(a: Tensor) -> Tensor:
        return forward_kl(feature_logits(retain, a), trained_retain).mean()

    def kl_forget(a: Tensor) -> Tensor:
        return forward_kl(feature_logits(forget, a), trained_forget).mean()

    def npo(a: Tensor) -> Tensor:
        log_probs = label_log_probs(feature_logits(forget, a), toy.forget_labels)
        return npo_loss(
            log_probs, label_log_probs(trained_forget, toy.forget_labels), beta=inverse_temperature()
        ).mean()

    def dpo(a: Tensor) -> Tensor:
        logits = feature_logits(forget, a)
        return dpo_loss(
            label_log_probs(logits, toy.idk_labels),
            label_log_probs(logits, toy.forget_labels),
            label_log_probs(trained_forget, toy.idk_labels),
            label_log_probs(trained_forget, toy.forget_labels),
            beta=inverse_temperature(),
        ).mean()

    def kto(a: Tensor) -> Tensor:
        # Answers of the same inputs are the yardstick: KL(model || trained), a constant of the step.
        logits = feature_logits(forget, a)
        offset = forward_kl(trained_forget, logits).mean()
        return kto_loss(
            label_log_probs(logits, toy.forget_labels),
            label_log_probs(trained_forget, toy.forget_labels),
            inverse_temperature() * offset,
            beta=inverse_temperature(),
        ).mean()

    terms: dict[ToyLoss, tuple[Callable[[Tensor], Tensor], ...]] = {
        "grad_ascent": (ascent,),
        "grad_descent": (descent,),
        "grad_diff": (ascent, descent),
        "grad_diff_KL_forget": (ascent, descent, kl_forget, kl_forget),
        "KL": (ascent, kl_retain),
        "idk": (refusals, descent),
        "non_paired_dpo": (npo,),
        "non_paired_dpo_KL": (npo, kl_retain),
        "non_paired_dpo_GDiff": (npo, descent),
        "dpo": (dpo,),
        "dpo_KL": (dpo, kl_retain),
        "dpo_GDiff": (dpo, descent),
        "kto": (kto,),
    }
    if "dpo" in name or name == "kto":
        inverse_temperature()
    return lambda a: torch.stack([term(a) for term in terms[name]]).sum()


def descend(loss: Callable[[Tensor], Tensor], start: Tensor, *, learning_rate: float, steps: int) -> Iterator[Tensor]:
    """Plain full-batch gradient descent: yields `a` before each step, and once more after the last.

    Args:
        loss: of `a` [N, K - 1], a scalar.
        start: where it begins; left as it is.
        learning_rate, steps: > 0, >= 0.
    """
    a = start.detach().clone()
    yield a
    for _ in range(steps):
        leaf = a.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(leaf), leaf)
        a = (leaf - learning_rate * gradient).detach()
        yield a


@frozen(kw_only=True)
class Fitting:
    """How trained model and oracle are made: descent from zero; the defaults are the paper's."""

    learning_rate: float = field(default=0.05, validator=gt(0.0))
    steps: int = field(default=20_000, validator=ge(1))


def fit(toy: Toy, *, forget: bool, fitting: Fitting = Fitting()) -> Tensor:
    """`a` after descent from zero on the retain set, and on the forget set too where `forget`: [N, 1]."""
    inputs = torch.cat([toy.retain, toy.forget]) if forget else toy.retain
    labels = torch.cat([toy.retain_labels, toy.forget_labels]) if forget else toy.retain_labels
    features = torch.relu(inputs @ toy.weights.T)
    a = features.new_zeros(features.shape[-1], 1)
    for _ in range(fitting.steps):  # the gradient in closed form: autograd takes several times as long
        excess = torch.softmax(feature_logits(features, a), -1)[:, :1] - (labels == 0).to(a)[:, None]
        a = a - fitting.learning_rate * features.T @ excess / len(labels)
    return a


def distances(toy: Toy, a: Tensor, *, trained: Tensor, oracle: Tensor) -> Distances:
    """What the paper measures of a model `a`, all [N, K - 1]."""

    def divergence(inputs: Tensor, other: Tensor) -> float:
        return float(forward_kl(toy.logits(inputs, a), toy.logits(inputs, other)).mean())

    return Distances(
        forget=divergence(toy.evaluated_forget, oracle),
        retain=divergence(toy.evaluated_retain, oracle),
        forget_moved=divergence(toy.evaluated_forget, trained),
        retain_moved=divergence(toy.evaluated_retain, trained),
        parameters=float((a - oracle).norm()),
    )
