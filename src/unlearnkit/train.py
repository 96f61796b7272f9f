"""The loop: one global step at a time, the same gradient however it is cut.

An objective's terms are sums; the engine divides each by its unit's count over the whole step, once. A term without a
unit (a ratio of means, say) is evaluated once per step on the values of all pieces, and its gradient with respect to
those values is sent back piece by piece: exact, at the price of one extra forward pass when the step is cut.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from attrs import evolve, field, frozen
from attrs.validators import ge
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel

from unlearnkit.batch import Collate, Row, all_rows, check_vocabulary, collate_text, count
from unlearnkit.errors import DataError, GradientError, MissingModelError, NonFiniteError, UnlearningWarning
from unlearnkit.models.causal import as_model, device_of, evaluation_mode, no_dropout
from unlearnkit.observe import HeadBudget, Models, check_needs, concatenate, observe
from unlearnkit.plan import Pairing, Sampler, check_data, cut
from unlearnkit.protocols import (
    Compared,
    Dataset,
    Generated,
    Loss,
    Model,
    Objective,
    Seen,
    Stateful,
    TokenNeed,
    Tokens,
)
from unlearnkit.recording import Recording
from unlearnkit.statistics import LabelLogProb

HALF = (torch.float16, torch.bfloat16)


@frozen
class Step:
    """What one optimizer step did.

    Attributes:
        number: counted from 0.
        terms: unweighted global mean of each term.
        loss: their weighted sum, what was minimised.
        gradient_norm: global L2 norm before clipping.
        learning_rate: of the first parameter group.
    """

    number: int
    terms: Mapping[str, float]
    loss: float
    gradient_norm: float
    learning_rate: float


@frozen
class Run:
    """A finished run: its steps, and what its probes saw (mean answer NLL of a few fixed rows, by role and step)."""

    steps: tuple[Step, ...]
    probes: Mapping[str, Mapping[int, float]]


@frozen(kw_only=True, eq=False)
class Engine:
    """Computes the gradients of global steps; `unlearn` is a loop around it.

    Attributes:
        models: "model" and whatever else the objective's needs name.
        max_tokens: padded tokens of a micro-batch; changes speed and memory, never a gradient.
        collate, budget: see `observe`.
    """

    models: Models
    max_tokens: int = field(default=8192, validator=ge(1))
    collate: Collate = collate_text
    budget: HeadBudget = HeadBudget()

    def backward(self, objective: Objective, rows: Sequence[Row], *, step: int = 0) -> tuple[dict[str, float], float]:
        """Add the gradient of the objective on one global step to `.grad`: (mean of each term, weighted total).

        Raises:
            NonFiniteError: a term is not finite; names step, term and examples. Gradients are then unusable.
        """
        pieces = cut(rows, self.max_tokens)
        means: dict[str, float] = {}
        total = 0.0
        for number, piece in enumerate(pieces):
            seen = self._observe(objective, piece)
            loss = objective(seen)
            if number == 0 and len(pieces) > 1 and any(term.per is None for term in loss):
                del seen, loss
                return self._backward_whole(objective, rows, pieces, step)
            weighted, piece_means = _reduce(loss, rows)
            _check_finite(piece_means, piece, step)
            for name, value in piece_means.items():
                means[name] = means.get(name, 0.0) + value
            total += float(weighted.detach())
            if weighted.requires_grad:
                weighted.backward()
        return means, total

    def _observe(self, objective: Objective, rows: Sequence[Row]) -> Seen:
        return observe(self.models, rows, objective.needs, collate=self.collate, budget=self.budget)

    def _backward_whole(
        self, objective: Objective, rows: Sequence[Row], pieces: Sequence[Sequence[Row]], step: int
    ) -> tuple[dict[str, float], float]:
        """`backward` for a loss that is not a sum: evaluated once, on the flat values of all pieces."""
        with torch.no_grad():
            parts = [self._observe(objective, piece) for piece in pieces]
        whole = concatenate(parts)
        leaves: dict[TokenNeed, Tensor] = {
            need: whole[need].values.detach().requires_grad_()
            for need in objective.needs
            if not isinstance(need, Generated) and (need.of == "model" or isinstance(need, Compared))
        }
        answers = dict(whole.answers)
        answers.update({need: evolve(whole[need], values=leaf) for need, leaf in leaves.items()})
        weighted, means = _reduce(objective(evolve(whole, answers=answers)), rows)
        _check_finite(means, rows, step)
        gradients: Sequence[Tensor | None] = torch.autograd.grad(weighted, list(leaves.values()), allow_unused=True)
        of_need = {need: gradient for need, gradient in zip(leaves, gradients, strict=True) if gradient is not None}
        taken = dict.fromkeys(of_need, 0)
        for piece in pieces:
            seen = self._observe(objective, piece)
            surrogate: list[Tensor] = []
            for need, gradient in of_need.items():
                values = seen[need].values
                surrogate.append((values * gradient[taken[need] : taken[need] + len(values)]).sum())
                taken[need] += len(values)
            torch.stack(surrogate).sum().backward()
        return means, float(weighted.detach())


def _reduce(loss: Loss, rows: Sequence[Row]) -> tuple[Tensor, dict[str, float]]:
    """Divide each term by its unit's count over the whole step: (weighted sum, unweighted mean of each term)."""
    means = {}
    for term in loss:
        units = 1 if term.per is None else count(rows, term.per)
        means[term.name] = term.value / units if units else 0.0 * term.value
    weighted = torch.stack([term.weight * means[term.name] for term in loss]).sum()
    return weighted, {name: float(mean.detach()) for name, mean in means.items()}


def _check_finite(means: Mapping[str, float], rows: Sequence[Row], step: int) -> None:
    for name, value in means.items():
        if not math.isfinite(value):
            ids = ", ".join(f"{row.role}:{row.id}" for row in rows[:8]) + (", …" if len(rows) > 8 else "")
            raise NonFiniteError(
                f"step {step}: the term {name!r} is {value} on the examples {ids}. Nothing was updated in this step. "
                "Lower the learning rate, clip gradients, or bound the objective (NPO instead of gradient ascent)."
            )


def unlearn(
    model: Model | PreTrainedModel,
    objective: Objective,
    data: Mapping[str, Dataset[Row]],
    *,
    optimizer: Optimizer,
    steps: int,
    models: Mapping[str, Model | PreTrainedModel | Recording] | None = None,
    primary: str | None = None,
    batch_size: int = 8,
    max_tokens: int = 8192,
    pairing: Mapping[str, Pairing] | None = None,
    seed: int = 0,
    scheduler: LRScheduler | None = None,
    clip: float | None = None,
    dropout: bool = False,
    master_weights: bool = True,
    collate: Collate = collate_text,
    budget: HeadBudget = HeadBudget(),
    on_step: Callable[[Step], None] | None = None,
) -> Run:
    """Train a model on an objective: unlearning, or plain fine-tuning with `CrossEntropy`.

    What is trained is what the optimizer holds; everything else is frozen for the run.

    Args:
        model: trained in place; a transformers model or any `Model` that is a module.
        objective: what is minimised; its roles are the data sets used.
        data: rows by role. Roles the objective does not name are not trained on; "forget" and "retain" are watched.
        optimizer: any torch optimizer over (some of) the model's parameters.
        steps: optimizer steps.
        models: what needs call by name, "reference" for instance: frozen models or recordings.
        primary: the role whose passes are epochs. Default: "forget" if the objective uses it, else its only role.
        batch_size: primary rows per step, each with one partner of every other role.
        max_tokens: padded tokens per micro-batch; changes speed and memory, not the result.
        pairing: how partners are chosen, by role; see `Pairing`.
        seed: of shuffling and pairing.
        scheduler: stepped after each optimizer step.
        clip: largest global gradient norm, if any.
        dropout: keep the model's dropout. Off by default, so that a step's gradient does not depend on how it is cut.
        master_weights: hold half-precision parameters in float32 during the run (computing in half precision by
            autocast in bfloat16) and round once at the end; otherwise small updates are lost to rounding.
        collate, budget: see `observe`.
        on_step: called after each step, for progress bars and logs.

    Raises:
        DataError, MissingModelError, NeedError, RecordingError, VocabularyError: before anything is run.
        GradientError: a parameter of the optimizer got no gradient; before the first update.
        NonFiniteError: before the update that would have used it.

    Warns:
        UnlearningWarning: the forget loss did not move, utility on the retain rows collapses, or updates are lost to
            rounding.
    """
    wrapped = as_model(model)
    if not isinstance(wrapped, nn.Module):
        raise GradientError(f"{type(model).__name__} is no torch module: it has no parameters to train.")
    every: dict[str, Model | Recording] = {"model": wrapped}
    for name, other in (models or {}).items():
        every[name] = other if isinstance(other, Recording) else as_model(other)
        _check_apart(name, every[name], wrapped)
    sampler = _sampler(objective, data, primary, batch_size, pairing or {}, seed)
    check_needs(every, objective.needs)
    _check_recordings(every, objective, data)
    watched_data = {role: data[role] for role in ("forget", "retain") if role in data}
    check_data(watched_data)
    watched = {role: _probe_rows(rows) for role, rows in watched_data.items()}
    for rows in (*sampler.data.values(), *watched.values()):
        check_vocabulary(all_rows(rows), wrapped.vocabulary)
    parameters = _parameters(optimizer, wrapped)

    engine = Engine(models=every, max_tokens=max_tokens, collate=collate, budget=budget)
    history: list[Step] = []
    others = (other for name, other in every.items() if name != "model" and not isinstance(other, Recording))
    with (
        evaluation_mode(*others),
        _only_trained(wrapped, parameters),
        _precision(wrapped, master_weights),
        _training(wrapped, dropout),
    ):
        probes = _Probes(engine, watched)
        probes.look(0)
        for number in range(steps):
            optimizer.zero_grad(set_to_none=True)
            terms, total = engine.backward(objective, sampler.step(number), step=number)
            if number == 0:
                _check_gradients(parameters)
            norm = _norm(parameters, clip, number)
            rate = float(optimizer.param_groups[0]["lr"])
            first = rate > 0 and all(step.learning_rate == 0 for step in history)  # a warm-up begins at 0
            before = _samples(parameters) if first else []
            optimizer.step()
            torch.clear_autocast_cache()  # or every later step would compute with the weights of this one
            if first:
                _warn_of_lost_updates(before, parameters)
            if scheduler is not None:
                scheduler.step()
            history.append(Step(number, terms, total, norm, rate))
            if isinstance(objective, Stateful):
                objective = objective.after_step(terms)
            if (number + 1) % max(1, steps // 10) == 0 or number + 1 == steps:
                probes.look(number + 1)
            if on_step is not None:
                on_step(history[-1])
        optimizer.zero_grad(set_to_none=True)
    if "forget" in {need.role for need in objective.needs}:
        probes.warn_if_nothing_happened()
    return Run(tuple(history), probes.seen)


def _sampler(
    objective: Objective,
    data: Mapping[str, Dataset[Row]],
    primary: str | None,
    batch_size: int,
    pairing: Mapping[str, Pairing],
    seed: int,
) -> Sampler:
    roles = sorted({need.role for need in objective.needs})
    for role in roles:
        if role not in data:
            raise DataError(
                f"{objective} reads the role {role!r}, but the data has no such set; it has {sorted(data)}. "
                f"Add data[{role!r}], or give the objective the role you mean."
            )
    if primary is None:
        primary = "forget" if "forget" in roles else next((role for role in ("idk", *roles) if role in roles), None)
    if primary is None:
        raise DataError(f"{objective} needs nothing, so there is nothing to train on. Combine it with an objective.")
    return Sampler(
        data={role: data[role] for role in [primary, *(role for role in roles if role != primary)]},
        primary=primary,
        batch_size=batch_size,
        pairing=pairing,
        seed=seed,
    )


def _check_recordings(models: Models, objective: Objective, data: Mapping[str, Dataset[Row]]) -> None:
    """Look every example up before the first step, not when its turn comes."""
    for need in objective.needs:
        source = models[need.of]
        if isinstance(source, Recording):
            source.serve(need, all_rows(data[need.role]))


def _check_apart(name: str, other: Model | Recording, model: nn.Module) -> None:
    """Refuse a reference that would be trained along."""
    mine = {id(parameter) for parameter in model.parameters()}
    if isinstance(other, nn.Module) and any(id(parameter) in mine for parameter in other.parameters()):
        raise MissingModelError(
            f"models[{name!r}] shares parameters with the model that is trained, so it would change with it. "
            "Pass copy.deepcopy(model), or record(model, objective.needs, data)."
        )


def _parameters(optimizer: Optimizer, model: nn.Module) -> dict[str, nn.Parameter]:
    """The optimizer's parameters by name."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    parameters = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter not in names:
                raise GradientError(
                    f"the optimizer holds a tensor of shape {tuple(parameter.shape)} that is no parameter of the model. "
                    "Build the optimizer from the parameters of the model that is passed to unlearn()."
                )
            parameters[names[parameter]] = parameter
    return parameters


@contextmanager
def _only_trained(model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Freeze what the optimizer does not hold, for the run."""
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    trained = set(parameters.values())
    try:
        for parameter in before:
            parameter.requires_grad_(parameter in trained)
        yield
    finally:
        for parameter, required in before.items():
            parameter.requires_grad_(required)


@contextmanager
def _precision(model: nn.Module, master_weights: bool) -> Iterator[None]:
    """Hold a half-precision model in float32 and compute in bfloat16; round once at the end.

    Models in float16 compute in bfloat16 too: float16 gradients would underflow without loss scaling.
    """
    if not master_weights or not any(parameter.dtype in HALF for parameter in model.parameters()):
        yield
        return
    types = {name: tensor.dtype for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
    model.float()
    try:
        with torch.autocast(device_of(model).type, dtype=torch.bfloat16):
            yield
    finally:
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            tensor.data = tensor.data.to(types[name])


@contextmanager
def _training(model: nn.Module, dropout: bool) -> Iterator[None]:
    """Training mode (activation checkpointing works in no other), without dropout unless asked."""
    mode = model.training
    model.train()
    try:
        with nullcontext() if dropout else no_dropout(model):
            yield
    finally:
        model.train(mode)


def _check_gradients(parameters: Mapping[str, nn.Parameter]) -> None:
    without = [name for name, parameter in parameters.items() if parameter.grad is None]
    if without:
        raise GradientError(
            f"{len(without)} of {len(parameters)} trainable tensors got no gradient, {', '.join(without[:3])} among them; "
            "nothing was updated. The objective does not reach them: leave them out of the optimizer."
        )


def _norm(parameters: Mapping[str, nn.Parameter], clip: float | None, step: int) -> float:
    norm = float(nn.utils.clip_grad_norm_(parameters.values(), math.inf if clip is None else clip))
    if not math.isfinite(norm):
        raise NonFiniteError(
            f"step {step}: the gradient norm is {norm}, although every term is finite. Nothing was updated in this step. "
            "Lower the learning rate, or compute in float32."
        )
    return norm


# --- guards: runs that finish but did not do what was wanted ----------------------------------------------------------

SAMPLE = 65536
"""Elements of each tensor that are looked at for lost updates."""


def _samples(parameters: Mapping[str, nn.Parameter]) -> list[Tensor]:
    return [
        parameter.detach().flatten()[:SAMPLE].clone() if parameter.dtype in HALF else parameter.new_empty(0)
        for parameter in parameters.values()
    ]


def _warn_of_lost_updates(before: Sequence[Tensor], parameters: Mapping[str, nn.Parameter]) -> None:
    unchanged = total = 0
    for old, parameter in zip(before, parameters.values(), strict=True):
        if len(old) and parameter.grad is not None:
            moved = parameter.grad.flatten()[:SAMPLE] != 0
            total += int(moved.sum())
            unchanged += int((moved & (old == parameter.detach().flatten()[:SAMPLE])).sum())
    if total and unchanged / total > 0.5:
        warnings.warn(
            f"{unchanged / total:.0%} of the half-precision parameters that have a gradient did not change in the first "
            "step: their updates are smaller than the rounding. Keep master_weights=True, or raise the learning rate.",
            UnlearningWarning,
            stacklevel=3,
        )


def _probe_rows(rows: Dataset[Row]) -> tuple[Row, ...]:
    """Up to eight rows, evenly spaced."""
    stride = max(1, len(rows) // 8)
    return tuple(rows[index] for index in range(0, len(rows), stride))[:8]


class _Probes:
    """Mean answer NLL of a few fixed rows of each role, looked at some ten times in a run."""

    def __init__(self, engine: Engine, rows: Mapping[str, Sequence[Row]]) -> None:
        self.engine = engine
        self.rows = rows
        self.seen: dict[str, dict[int, float]] = {role: {} for role in rows}
        self.warned = False

    def look(self, step: int) -> None:
        for role, rows in self.rows.items():
            need = Tokens(LabelLogProb(), role)
            with torch.no_grad():
                models: Models = {"model": self.engine.models["model"]}
                seen = observe(models, rows, frozenset({need}), collate=self.engine.collate, budget=self.engine.budget)
            self.seen[role][step] = -float(seen[need].values.cpu().double().mean())
        retain = self.seen.get("retain", {})
        if retain and retain[step] > retain[0] + 1.0 and not self.warned:
            self.warned = True
            warnings.warn(
                f"utility on the retain rows is collapsing: their mean answer NLL rose from {retain[0]:.2f} to "
                f"{retain[step]:.2f} nats per token by step {step}. Add a retain term, or lower the learning rate.",
                UnlearningWarning,
                stacklevel=3,
            )

    def warn_if_nothing_happened(self) -> None:
        forget = list(self.seen.get("forget", {}).values())
        if len(forget) > 1 and abs(forget[-1] - forget[0]) < 1e-3 * max(1.0, forget[0]):
            warnings.warn(
                f"the forget loss did not move: mean answer NLL of the forget rows was {forget[0]:.4f} before and "
                f"{forget[-1]:.4f} after. Raise the learning rate or the number of steps, and check what is trained.",
                UnlearningWarning,
                stacklevel=3,
            )
