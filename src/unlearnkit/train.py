"""The loop: one global step at a time, the same gradient however it is cut.

An objective's terms are sums; the engine divides each by its unit's count over the whole step, once. A term without a
unit (a ratio of means, say) is evaluated once per step on the values of all pieces, and its gradient with respect to
those values is sent back piece by piece: exact, at the price of one extra forward pass when the step is cut.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import TypedDict, cast

import torch
from attrs import evolve, field, frozen
from attrs.validators import ge
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unlearnkit.batch import Collate, Row, all_rows, check_vocabulary, collate_text, count
from unlearnkit.checkpoint import savable, save_named
from unlearnkit.draws import keyed_draw
from unlearnkit.errors import (
    CheckpointError,
    DataError,
    GradientError,
    LossError,
    MissingModelError,
    NonFiniteError,
    Preempted,
    UnlearningWarning,
)
from unlearnkit.evaluate import evaluate, on_cpu
from unlearnkit.gradient import At, Gradient, Means, exact
from unlearnkit.models.causal import HALF, as_model, device_of, evaluation_mode, no_dropout
from unlearnkit.models.peft import PeftModel, adapter_off, is_peft
from unlearnkit.observe import (
    UNPERTURBED,
    Adversary,
    HeadBudget,
    Models,
    Perturbation,
    check_needs,
    concatenate,
    observe,
)
from unlearnkit.parallel import Placed, Single, Strategy
from unlearnkit.plan import Pairing, Sampler, check_data, ghost, share
from unlearnkit.protocols import (
    Answer,
    Compared,
    Dataset,
    Flat,
    Loss,
    Metric,
    Model,
    Need,
    Needs,
    Objective,
    Seen,
    Stateful,
    TokenNeed,
    Tokens,
    asked_of_models,
    changes,
)
from unlearnkit.recording import Recording, digest, whole_tensor
from unlearnkit.resume import Checkpoints, Plain, described
from unlearnkit.statistics import LabelLogProb
from unlearnkit.survival import Parts, Stop, lost_ranks, on_sigterm, resume_run, save_run


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
    """A finished run.

    Attributes:
        steps: each of them, those before an interruption included.
        probes: mean answer NLL of a few fixed rows, by role and step.
        scores: what a validation measured, by step and metric.
    """

    steps: tuple[Step, ...]
    probes: Mapping[str, Mapping[int, float]]
    scores: Mapping[int, Mapping[str, float | None]] = field(factory=dict)


@frozen(kw_only=True, eq=False)
class Engine:
    """Computes the gradients of global steps; `unlearn` is a loop around it.

    Attributes:
        models: "model" and whatever else the objective's needs name.
        max_tokens: padded tokens of a micro-batch; changes speed and memory, never a gradient.
        collate, budget: see `observe`.
        strategy: places the models when the engine is made.
        draws: seed of what models draw by themselves (dropout); None leaves the global generators alone.
        adversary: perturbs each micro-batch before it is learned from, if any.
    """

    models: Models
    max_tokens: int = field(default=8192, validator=ge(1))
    collate: Collate = collate_text
    budget: HeadBudget = HeadBudget()
    strategy: Strategy = Single()
    draws: int | None = None
    adversary: Adversary | None = None
    placed: Placed = field(init=False)

    @placed.default
    def _place(self) -> Placed:
        return self.strategy.place(self.models)

    def observe(
        self,
        needs: Needs,
        rows: Sequence[Row],
        add: Perturbation = UNPERTURBED,
        /,
        *,
        models: Models | None = None,
    ) -> Seen:
        """`observe` as this engine does it."""
        return observe(
            self.models if models is None else models,
            rows,
            needs,
            collate=self.collate,
            budget=self.budget,
            through=self.placed,
            add=add,
        )

    def adds_up(self, objective: Objective, rows: Sequence[Row]) -> bool:
        """Whether a step's loss is the sum over its micro-batches; tried on no row at all."""
        with torch.no_grad(), _keyed_draws(self.draws, -1, rows[:1]):
            return all(term.per is not None for term in objective(self.observe(objective.needs, [ghost(rows)])))

    def backward(
        self, objective: Objective, rows: Sequence[Row], *, step: int = 0, adds_up: bool | None = None
    ) -> Means:
        """Add the gradient of the objective on one global step to `.grad`. Every rank calls this with the same rows.

        Args:
            objective: what is minimised.
            rows: of the whole step.
            step: its number, by which draws are keyed.
            adds_up: what the method of that name says, if it is known already.
        """
        pieces = self._pieces(rows)
        if not self._in_pieces(objective, rows, pieces, adds_up):
            return self._backward_whole(objective, rows, pieces, step)
        return self._summed(objective, rows, pieces, step, self._backward)

    def value(self, objective: Objective, rows: Sequence[Row], *, step: int = 0, adds_up: bool | None = None) -> Means:
        """What `backward` would return, by forward passes alone. Every rank calls this with the same rows."""
        pieces = self._pieces(rows)
        with torch.no_grad():
            if self._in_pieces(objective, rows, pieces, adds_up):
                return self._summed(objective, rows, pieces, step, lambda _: None)
            whole, _ = self._whole(objective, pieces, step)
            return Means(*_reduce(objective(whole), rows))

    def _pieces(self, rows: Sequence[Row]) -> Sequence[Sequence[Row]]:
        return share(rows, self.max_tokens, self.strategy.size, cost=self.placed.cut_cost)[self.strategy.rank]

    def _in_pieces(
        self, objective: Objective, rows: Sequence[Row], pieces: Sequence[Sequence[Row]], adds_up: bool | None
    ) -> bool:
        """Whether a step's loss can be evaluated piece by piece."""
        if self.strategy.size * len(pieces) == 1:
            return True
        return self.adds_up(objective, rows) if adds_up is None else adds_up

    def _summed(
        self,
        objective: Objective,
        rows: Sequence[Row],
        pieces: Sequence[Sequence[Row]],
        step: int,
        use: Callable[[Tensor], None],
    ) -> Means:
        """The means of a loss that is a sum over pieces; each piece's part of it is handed to `use`."""
        names: tuple[str, ...] = ()
        sums: Tensor | None = None
        for piece, add in self._parts(pieces, step):
            loss = objective(self.observe(objective.needs, piece, add))
            if self.strategy.size * len(pieces) > 1 and (whole := [term.name for term in loss if term.per is None]):
                raise LossError(
                    f"the term {whole[0]!r} has become one of whole steps during the run, which {objective} did not say "
                    "when it was first asked. Let it have a unit from the start, or never."
                )
            terms, weighted = _reduce(loss, rows)
            names = tuple(terms)
            found = torch.stack([*terms.values(), weighted]).detach()
            sums = found if sums is None else sums + found
            use(weighted)
        assert sums is not None
        *means, total = self.strategy.sum(sums).unbind()
        return Means(dict(zip(names, means, strict=True)), total)

    def _parts(
        self,
        pieces: Sequence[Sequence[Row]],
        step: int,
        attacked: Sequence[Perturbation] | None = None,
    ) -> Iterator[tuple[Sequence[Row], Perturbation]]:
        """Micro-batches and their perturbations, each between the strategy's marks and with draws of its own."""
        for number, piece in enumerate(pieces):
            add = self._attack(piece, step) if attacked is None else attacked[number]
            with self.placed.part(number + 1 == len(pieces)), _keyed_draws(self.draws, step, piece):
                yield piece, add

    def _attack(self, piece: Sequence[Row], step: int) -> Perturbation:
        """The adversary's perturbation of a micro-batch; it leaves no gradient behind."""
        if self.adversary is None:
            return UNPERTURBED
        with torch.enable_grad(), self.placed.part(False), _keyed_draws(self.draws, step, piece):
            found = self.adversary(self.observe, piece)
        return {site: {row: delta.detach() for row, delta in of_row.items()} for site, of_row in found.items()}

    def _backward(self, loss: Tensor) -> None:
        """DDP and FSDP average gradients over ranks; each rank's loss is its share of a sum."""
        if loss.requires_grad:
            (loss * self.strategy.size).backward()

    def _backward_whole(
        self, objective: Objective, rows: Sequence[Row], pieces: Sequence[Sequence[Row]], step: int
    ) -> Means:
        """`backward` for a loss that is not a sum: evaluated once, by every rank, on the flat values of all pieces."""
        attacked = [self._attack(piece, step) for piece in pieces]
        whole, before = self._whole(objective, pieces, step, attacked)
        leaves = {
            need: whole[need].values.requires_grad_()
            for need in objective.needs
            if isinstance(need, Compared) or (isinstance(need, TokenNeed) and need.of == "model")
        }
        terms, weighted = _reduce(objective(whole), rows)
        gradients: Sequence[Tensor | None] = torch.autograd.grad(weighted, list(leaves.values()), allow_unused=True)
        of_need = {need: gradient for need, gradient in zip(leaves, gradients, strict=True) if gradient is not None}
        taken = {need: before[need] for need in of_need}
        for piece, add in self._parts(pieces, step, attacked):
            seen = self.observe(objective.needs, piece, add)
            surrogate: list[Tensor] = []
            for need, gradient in of_need.items():
                values = seen[need].values
                surrogate.append((values * gradient[taken[need] : taken[need] + len(values)]).sum())
                taken[need] += len(values)
            self._backward(torch.stack(surrogate).sum())
        return Means({name: mean.detach() for name, mean in terms.items()}, weighted.detach())

    def _whole(
        self,
        objective: Objective,
        pieces: Sequence[Sequence[Row]],
        step: int,
        attacked: Sequence[Perturbation] | None = None,
    ) -> tuple[Seen, Mapping[TokenNeed, int]]:
        """The flat values of all pieces of all ranks, without a graph; and how many come before this rank's."""
        device = device_of(self.models["model"])
        mine = []
        with torch.no_grad():
            for number, piece in enumerate(pieces):
                add = self._attack(piece, step) if attacked is None else attacked[number]
                with _keyed_draws(self.draws, step, piece):
                    mine.append(on_cpu(self.observe(objective.needs, piece, add)))
        of_ranks = self.strategy.gather(mine)
        whole = concatenate([part for parts in of_ranks for part in parts])
        before = [part for parts in of_ranks[: self.strategy.rank] for part in parts]
        answers: dict[Need, Answer] = {}
        taken: dict[TokenNeed, int] = {}
        for need in objective.needs:
            if isinstance(need, TokenNeed):
                flat = whole[need]
                answers[need] = Flat(flat.values.to(device), flat.row.to(device), flat.rows)
                taken[need] = sum(len(part[need].values) for part in before)
        return evolve(whole, answers=answers), taken


def _reduce(loss: Loss, rows: Sequence[Row]) -> tuple[dict[str, Tensor], Tensor]:
    """Divide each term by its unit's count over the whole step: (this part of each unweighted mean, weighted sum)."""
    means = {}
    for term in loss:
        units = 1 if term.per is None else count(rows, term.per)
        means[term.name] = term.value / units if units else 0.0 * term.value
    return means, torch.stack([term.weight * means[term.name] for term in loss]).sum()


@contextmanager
def _keyed_draws(seed: int | None, step: int, rows: Sequence[Row]) -> Iterator[None]:
    """Seed the global generators by step and examples, and put them back: what a model draws does not depend on ranks."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(keyed_draw(2**63, seed, "draws", step, *(f"{row.role}:{row.id}" for row in rows)))
        yield


@frozen(kw_only=True)
class Validation:
    """Measuring a model while it is trained.

    Attributes:
        every: steps between two evaluations; the last step is evaluated too.
        metrics, data: see `evaluate`.
        tokenizer: decodes generated text, if a metric wants any.
        best: the metric by which a model is kept, in the checkpoints' folder, as "best".
        highest: whether that is the model with the highest value so far, or with the lowest.
    """

    every: int = field(validator=ge(1))
    metrics: Mapping[str, Metric]
    data: Mapping[str, Dataset[Row]]
    tokenizer: PreTrainedTokenizerBase | None = None
    best: str | None = field(default=None)
    highest: bool = True

    @best.validator
    def _is_measured(self, _: object, best: str | None) -> None:
        if best is not None and best not in self.metrics:
            raise DataError(f"best names the metric {best!r}, which is not measured; there are {sorted(self.metrics)}.")


def unlearn(
    model: Model | PreTrainedModel | PeftModel,
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
    strategy: Strategy = Single(),
    checkpoints: Checkpoints | None = None,
    validation: Validation | None = None,
    collate: Collate = collate_text,
    budget: HeadBudget = HeadBudget(),
    gradient: Gradient = exact,
    adversary: Adversary | None = None,
    log_every: int = 10,
    on_step: Callable[[Step], None] | None = None,
) -> Run:
    """Train a model on an objective: unlearning, or plain fine-tuning with `CrossEntropy`.

    What is trained is what the optimizer holds and requires a gradient; all else is frozen for the run. With a strategy for several
    processes every process calls this with the same arguments, and the gradient of each step is the same as on one.

    Args:
        model: trained in place; a transformers or PEFT model, or any `Model` that is a module.
        objective: what is minimised; its roles are the data sets used.
        data: rows by role. Roles the objective does not name are not trained on; "forget" and "retain" are watched.
        optimizer: any torch optimizer over (some of) the model's parameters. If the strategy shards the model, the
            optimizer's parameters are exchanged for the shards.
        steps: optimizer steps.
        models: what needs call by name, "reference" for instance: frozen models or recordings. The "reference" of a
            PEFT model, if none is given, is itself with its adapter switched off.
        primary: the role whose passes are epochs. Default: "forget" if the objective uses it, else its only role.
        batch_size: primary rows per step over all processes, each with one partner of every other role.
        max_tokens: padded tokens per micro-batch; changes speed and memory, not the result.
        pairing: how partners are chosen, by role; see `Pairing`.
        seed: of shuffling and pairing, and of dropout.
        scheduler: stepped after each optimizer step.
        clip: largest global gradient norm, if any.
        dropout: keep the model's dropout. Off by default, so that a step's gradient does not depend on how it is cut.
        master_weights: hold half-precision parameters in float32 during the run (computing in half precision by
            autocast in bfloat16) and round once at the end; otherwise small updates are lost to rounding.
        strategy: `Single`, `DDP` or `FSDP`.
        checkpoints: where the state of the run is saved and, if there is one already, gone on from. SIGTERM then ends
            the process after the step at hand, saved, with status 0.
        validation: evaluates the model during the run.
        collate, budget: see `observe`.
        gradient: how a step's gradient is found; see `unlearnkit.optim` for others than differentiating.
        adversary: perturbs hidden states before each micro-batch is learned from; see `unlearnkit.adversaries`.
        log_every: on an accelerator, steps between two readings of losses: in between the host does not wait for the
            device. Needs a fused optimizer, which skips non-finite steps by itself; others are read at every step.
        on_step: called after each step, for progress bars and logs; as late as losses are read.

    Raises:
        DataError, MissingModelError, NeedError, RecordingError, VocabularyError: before anything is run.
        GradientError: a parameter of the optimizer got no gradient; before the first update.
        NonFiniteError: before the update that would have used it.
        CheckpointError: the folder holds another run's states, or a state cannot be written.
        ParallelError: another process has vanished.
        Preempted: SIGTERM came, and the state is saved.

    Warns:
        UnlearningWarning: the forget loss did not move, utility on the retain rows collapses, updates are lost to
            rounding, or a torn checkpoint is passed over.
    """
    wrapped = as_model(model)
    if not isinstance(wrapped, nn.Module):
        raise GradientError(f"{type(model).__name__} is no torch module: it has no parameters to train.")
    given = model if isinstance(model, nn.Module) else wrapped  # what is saved: a PEFT model, not the one inside
    every: dict[str, Model | Recording] = {"model": wrapped}
    if is_peft(model) and "reference" in {need.of for need in asked_of_models(objective.needs)}:
        models = {"reference": adapter_off(model), **(models or {})}
    for name, other in (models or {}).items():
        every[name] = other if isinstance(other, Recording) else as_model(other)
        _check_apart(name, every[name], wrapped)
    sampler = _sampler(objective, data, primary, batch_size, pairing or {}, seed)
    if adversary is not None and adversary.role not in sampler.data:
        raise DataError(
            f"{adversary} attacks the role {adversary.role!r}, of which the objective reads nothing; it reads "
            f"{sorted(sampler.data)}. Give the adversary one of these roles."
        )
    check_needs(every, objective.needs)
    _check_recordings(every, objective, data)
    watched_data = {role: data[role] for role in ("forget", "retain") if role in data}
    check_data(watched_data)
    watched = {role: _probe_rows(rows) for role, rows in watched_data.items()}
    for rows in (*sampler.data.values(), *watched.values()):
        check_vocabulary(all_rows(rows), wrapped.vocabulary)
    trained = _names(optimizer, wrapped)
    if validation is not None and validation.best is not None and (checkpoints is None or savable(given) is None):
        raise CheckpointError(
            f"validation.best={validation.best!r} keeps the best model, which needs checkpoints=Checkpoints(folder=...) to "
            f"put it into and a model with save_pretrained; given are {checkpoints} and a {type(model).__name__}."
        )

    others = {name: other for name, other in every.items() if name != "model" and isinstance(other, nn.Module)}
    with ExitStack() as during:
        during.enter_context(evaluation_mode(*others.values()))
        during.enter_context(_only_trained({"model": wrapped, **others}, trained))
        types = during.enter_context(_precision(wrapped, trained, master_weights and not strategy.casts))
        inner_types = {name.removeprefix("model."): dtype for name, dtype in types.items()}
        during.enter_context(_training(wrapped, dropout))
        stop = during.enter_context(on_sigterm()) if checkpoints is not None else Stop()
        progress: dict[str, object] = {"step": 0, "last checkpoint": "none"}
        during.enter_context(lost_ranks(progress, strategy))
        engine = Engine(
            models=every,
            max_tokens=max_tokens,
            collate=collate,
            budget=budget,
            strategy=strategy,
            draws=seed if dropout else None,
            adversary=adversary,
        )
        during.callback(engine.placed.rest)
        parameters = _rebound(optimizer, wrapped, trained)
        log = _Log(sampler, on_step)
        probes = _Probes(engine, watched)
        scores = _Scores(validation, every, strategy, max_tokens, collate, budget)
        parts = Parts(
            parameters=parameters,
            buffers=_persistent_buffers(wrapped),
            optimizer=optimizer,
            scheduler=scheduler,
            identity=_identity(objective, sampler, every, optimizer, scheduler, clip, dropout, (gradient, adversary))
            if checkpoints
            else {},
        )
        start = 0
        if checkpoints is not None:
            device = device_of(wrapped)
            if (resumed := resume_run(checkpoints, parts, objective, strategy, device)) is not None:
                start, objective = resumed.step, resumed.objective
                log.restore(resumed.log, probes, scores)
                progress["last checkpoint"] = checkpoints.path(start)
        if start == 0:
            probes.look(0)
        guarded = device_of(wrapped).type != "cpu" and getattr(optimizer, "_step_supports_amp_scaling", False)
        guard = during.enter_context(_guard(optimizer, device_of(wrapped))) if guarded else None
        adds_up = engine.adds_up(objective, sampler.step(0))
        for number in range(start, steps):
            progress["step"] = number
            optimizer.zero_grad(set_to_none=True)
            means = gradient(_at(engine, objective, sampler.step(number), number, parameters, adds_up))
            if number == start:
                _check_gradients(parameters)
            norm = _norm(parameters.values(), clip)
            rate = float(optimizer.param_groups[0]["lr"])
            log.add(number, means, norm, rate)
            if guard is not None:
                guard.logical_or_(~torch.isfinite(torch.stack([*means.terms.values(), means.loss, norm])).all())
            else:
                log.read()  # raises, before the update, what is not finite
            first = rate > 0 and log.no_update_yet  # a warm-up begins at 0
            before = _samples(parameters) if first else []
            optimizer.step()
            torch.clear_autocast_cache()  # or every later step would compute with the weights of this one
            if first:
                log.no_update_yet = False
                _warn_of_lost_updates(before, parameters)
            if scheduler is not None:
                scheduler.step()
            done = number + 1
            look = done % max(1, steps // 10) == 0 or done == steps
            measure = validation is not None and (done % validation.every == 0 or done == steps)
            save = checkpoints is not None and (done % checkpoints.every == 0 or done == steps)
            stopping = checkpoints is not None and any(strategy.gather(stop.asked))
            if changes(objective) or done % log_every == 0 or look or measure or save or stopping:
                log.read()
            if changes(objective):
                assert isinstance(objective, Stateful)
                objective = objective.after_step(log.last_terms)
                adds_up = adds_up or engine.adds_up(objective, sampler.step(0))
            if look:
                probes.look(done)
            if measure and scores.measure(done) and checkpoints is not None:
                save_named(checkpoints.folder / "best", given, strategy, inner_types, checkpoints.tokenizer)
            if checkpoints is not None and (save or stopping):
                save_run(checkpoints, done, parts, objective, log.plain(probes, scores), strategy)
                progress["last checkpoint"] = checkpoints.path(done)
            if stopping and done < steps:
                raise Preempted(str(progress["last checkpoint"]))
        optimizer.zero_grad(set_to_none=True)
        if checkpoints is not None and savable(given) is not None:
            save_named(checkpoints.folder / "last", given, strategy, inner_types, checkpoints.tokenizer)
    if "forget" in {need.role for need in objective.needs}:
        probes.warn_if_nothing_happened()
    return Run(tuple(log.steps), probes.seen, scores.of_step)


def _at(
    engine: Engine,
    objective: Objective,
    rows: Sequence[Row],
    step: int,
    parameters: Mapping[str, nn.Parameter],
    adds_up: bool,
) -> At:
    """A step as an estimate of its gradient sees it."""

    def asking(
        ask: Callable[..., Means],
    ) -> Callable[[Objective], Means]:
        def asked(wanted: Objective) -> Means:
            # The parameters may have been changed since they were gathered, and since autocast rounded them.
            engine.placed.rest()
            torch.clear_autocast_cache()
            found = ask(wanted, rows, step=step, adds_up=adds_up if wanted is objective else None)
            engine.placed.rest()
            return found

        return asked

    return At(
        step=step,
        objective=objective,
        parameters=tuple(parameters.values()),
        backward=asking(engine.backward),
        value=asking(engine.value),
    )


class _Log:
    """Steps; their numbers are tensors until they are read, all at once."""

    def __init__(self, sampler: Sampler, on_step: Callable[[Step], None] | None) -> None:
        self.sampler = sampler
        self.on_step = on_step
        self.steps: list[Step] = []
        self.no_update_yet = True
        self._unread: list[tuple[int, tuple[str, ...], Tensor, float]] = []

    def add(self, number: int, means: Means, norm: Tensor, rate: float) -> None:
        values = torch.stack([value.double() for value in (*means.terms.values(), means.loss, norm)])
        self._unread.append((number, tuple(means.terms), values, rate))

    def read(self) -> None:
        """Wait for the device, once, and take the numbers of all steps since.

        Raises:
            NonFiniteError: a term or the gradient norm of a step is not finite; names step, term and examples.
        """
        if not self._unread:
            return
        rows = torch.cat([values for _, _, values, _ in self._unread]).tolist()
        for number, names, values, rate in self._unread:
            *terms, loss, norm = rows[: len(values)]
            rows = rows[len(values) :]
            step = Step(number, dict(zip(names, terms, strict=True)), loss, norm, rate)
            _check_finite(step, self.sampler)
            self.steps.append(step)
            if self.on_step is not None:
                self.on_step(step)
        self._unread.clear()

    @property
    def last_terms(self) -> Mapping[str, float]:
        return self.steps[-1].terms

    def plain(self, probes: _Probes, scores: _Scores) -> Plain:
        """What a checkpoint keeps of the past."""
        steps: list[Plain] = [
            [step.number, dict(step.terms), step.loss, step.gradient_norm, step.learning_rate] for step in self.steps
        ]
        seen: dict[str, Plain] = {
            role: [[step, value] for step, value in of_role.items()] for role, of_role in probes.seen.items()
        }
        measured: list[Plain] = [[step, dict(of_step)] for step, of_step in scores.of_step.items()]
        return {"steps": steps, "probes": seen, "scores": measured, "no_update_yet": self.no_update_yet}

    def restore(self, plain: Plain, probes: _Probes, scores: _Scores) -> None:
        """The inverse of `plain`."""
        past = cast("_Past", plain)
        self.steps = [Step(*step) for step in past["steps"]]
        self.no_update_yet = past["no_update_yet"]
        for role, of_role in past["probes"].items():
            probes.seen[role] = dict(of_role)
        scores.of_step = dict(past["scores"])


class _Past(TypedDict):
    steps: list[tuple[int, dict[str, float], float, float, float]]
    probes: dict[str, list[tuple[int, float]]]
    scores: list[tuple[int, dict[str, float | None]]]
    no_update_yet: bool


class _Scores:
    """What a validation measured, by step."""

    def __init__(
        self,
        validation: Validation | None,
        models: Models,
        strategy: Strategy,
        max_tokens: int,
        collate: Collate,
        budget: HeadBudget,
    ) -> None:
        self.of_step: dict[int, dict[str, float | None]] = {}
        self._validation = validation
        self._evaluate = partial(
            evaluate, models, strategy=strategy, max_tokens=max_tokens, collate=collate, budget=budget
        )

    def measure(self, step: int) -> bool:
        """Evaluate; whether this was the best so far."""
        validation = self._validation
        assert validation is not None
        report = self._evaluate(validation.metrics, validation.data, tokenizer=validation.tokenizer)
        earlier = [scores[validation.best] for scores in self.of_step.values()] if validation.best is not None else []
        self.of_step[step] = {name: score.value for name, score in report.scores.items()}
        if validation.best is None:
            return False
        now = report[validation.best].value
        sign = 1.0 if validation.highest else -1.0
        return now is not None and all(value is None or sign * now > sign * value for value in earlier)


def _options(group: Mapping[str, object]) -> dict[str, object]:
    """A parameter group without its parameters; of these, what they are shaped like."""
    parameters = cast("list[Tensor]", group["params"])
    shapes = [tuple(parameter.shape) for parameter in parameters]
    return {**group, "params": hashlib.sha256(str(shapes).encode()).hexdigest()[:16]}


@contextmanager
def _guard(optimizer: Optimizer, device: torch.device) -> Iterator[Tensor]:
    """A number on the device; as long as it is not 0, a fused optimizer skips its steps."""
    found = torch.zeros((), device=device)
    setattr(optimizer, "found_inf", found)  # noqa: B010, the name torch's own gradient scaler uses
    try:
        yield found
    finally:
        delattr(optimizer, "found_inf")


def _persistent_buffers(model: nn.Module) -> dict[str, Tensor]:
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in parameters}


def _identity(
    objective: Objective,
    sampler: Sampler,
    models: Models,
    optimizer: Optimizer,
    scheduler: LRScheduler | None,
    clip: float | None,
    dropout: bool,
    ways: tuple[Gradient, Adversary | None],
) -> dict[str, Plain]:
    """What has to be the same for a run to be the same run, as it is before the first step."""
    content = hashlib.sha256()
    for role, rows in sampler.data.items():
        for row in all_rows(rows):
            content.update(f"{role}:{row.id}:{digest(row)}".encode())
    return {
        "objective": described(objective),
        "optimizer": f"{type(optimizer).__name__} {described([_options(group) for group in optimizer.param_groups])}",
        "scheduler": None if scheduler is None else type(scheduler).__name__,
        "recordings": {name: model.model for name, model in models.items() if isinstance(model, Recording)},
        "data": content.hexdigest()[:16],
        "primary": sampler.primary,
        "pairing": dict(sampler.pairing),
        "batch_size": sampler.batch_size,
        "seed": sampler.seed,
        "clip": clip,
        "dropout": dropout,
        "gradient and adversary": described(ways),
    }


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


def _check_finite(step: Step, sampler: Sampler) -> None:
    rows = sampler.step(step.number)
    ids = ", ".join(f"{row.role}:{row.id}" for row in rows[:8]) + (", …" if len(rows) > 8 else "")
    for name, value in step.terms.items():
        if not math.isfinite(value):
            raise NonFiniteError(
                f"step {step.number}: the term {name!r} is {value} on the examples {ids}. Nothing was updated in this "
                "step. Lower the learning rate, clip gradients, or bound the objective (NPO instead of gradient ascent)."
            )
    if not math.isfinite(step.gradient_norm):
        raise NonFiniteError(
            f"step {step.number}: the gradient norm is {step.gradient_norm}, although every term is finite, on the "
            f"examples {ids}. Nothing was updated in this step. Lower the learning rate, or compute in float32."
        )


def _check_recordings(models: Models, objective: Objective, data: Mapping[str, Dataset[Row]]) -> None:
    """Look every example up before the first step, not when its turn comes."""
    for need in asked_of_models(objective.needs):
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


def _names(optimizer: Optimizer, model: nn.Module) -> list[list[str]]:
    """The names of each group's parameters, in order."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter not in names:
                raise GradientError(
                    f"the optimizer holds a tensor of shape {tuple(parameter.shape)} that is no parameter of the model. "
                    "Build the optimizer from the parameters of the model that is passed to unlearn()."
                )
    if not any(parameter.requires_grad for group in optimizer.param_groups for parameter in group["params"]):
        raise GradientError(
            "nothing the optimizer holds requires a gradient, so there is nothing to train. "
            "Call model.requires_grad_(True), or requires_grad_(True) on the parameters that are to be trained."
        )
    return [[names[parameter] for parameter in group["params"]] for group in optimizer.param_groups]


def _rebound(optimizer: Optimizer, model: nn.Module, names: Sequence[Sequence[str]]) -> dict[str, nn.Parameter]:
    """The trained parameters by name, as placed; where sharding has replaced them, in the optimizer too."""
    parameters = dict(model.named_parameters())
    for group, of_group in zip(optimizer.param_groups, names, strict=True):
        for place, name in enumerate(of_group):
            old, new = group["params"][place], parameters[name]
            if old is not new:
                group["params"][place] = new
                if old in optimizer.state:
                    raise GradientError(
                        f"the optimizer has state for {name} from before the model was sharded. Place the models first: "
                        "strategy.place({'model': model, ...}), and build the optimizer then."
                    )
    return {name: parameters[name] for of_group in names for name in of_group if parameters[name].requires_grad}


@contextmanager
def _only_trained(models: Mapping[str, nn.Module], names: Sequence[Sequence[str]]) -> Iterator[None]:
    """Freeze what the optimizer does not hold, for the run; what is frozen already stays so."""
    before = {name: _required(model) for name, model in models.items()}
    trained = {key for of_group in names for key in of_group}
    for name, model in models.items():
        _require(
            model, {key: name == "model" and key in trained and required for key, required in before[name].items()}
        )
    try:
        yield
    finally:
        for name, model in models.items():
            _require(model, before[name])


# Frames that are alive during a run keep nothing but names: a parameter that one of them held would not be freed when
# the model is sharded.


def _required(model: nn.Module) -> dict[str, bool]:
    return {name: parameter.requires_grad for name, parameter in model.named_parameters()}


def _require(model: nn.Module, required: Mapping[str, bool]) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(required[name])


@contextmanager
def _precision(
    model: nn.Module, names: Sequence[Sequence[str]], master_weights: bool
) -> Iterator[Mapping[str, torch.dtype]]:
    """Hold what is trained in half precision in float32, compute in bfloat16; round once at the end, to types yielded.

    Models in float16 compute in bfloat16 too: float16 gradients would underflow without loss scaling.
    """
    trained = {name for of_group in names for name in of_group}
    types = {
        name: parameter.dtype
        for name, parameter in model.named_parameters()
        if name in trained and parameter.dtype in HALF
    }
    if not master_weights or not types:
        yield {}
        return
    _cast(model, dict.fromkeys(types, torch.float32))
    try:
        with torch.autocast(device_of(model).type, dtype=torch.bfloat16):
            yield types
    finally:
        _cast(model, types)


def _cast(model: nn.Module, types: Mapping[str, torch.dtype]) -> None:
    for name, dtype in types.items():
        parameter = model.get_parameter(name)
        parameter.data = parameter.data.to(dtype)


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


def _norm(parameters: Iterable[nn.Parameter], clip: float | None) -> Tensor:
    """Global L2 norm of the gradient, over all shards; larger ones are scaled down to `clip`."""
    parameters = list(parameters)
    norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    norm = whole_tensor(norm)
    if clip is not None:
        nn.utils.clip_grads_with_norm_(parameters, clip, norm)
    return norm


# --- guards: runs that finish but did not do what was wanted ----------------------------------------------------------

SAMPLE = 65536
"""Elements of each tensor that are looked at for lost updates."""


def _samples(parameters: Mapping[str, nn.Parameter]) -> list[Tensor]:
    return [
        _local(parameter).flatten()[:SAMPLE].clone() if parameter.dtype in HALF else torch.empty(0)
        for parameter in parameters.values()
    ]


def _local(tensor: Tensor) -> Tensor:
    """This process's part."""
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _warn_of_lost_updates(before: Sequence[Tensor], parameters: Mapping[str, nn.Parameter]) -> None:
    unchanged = total = 0
    for old, parameter in zip(before, parameters.values(), strict=True):
        if len(old) and parameter.grad is not None:
            moved = _local(parameter.grad).flatten()[:SAMPLE] != 0
            total += int(moved.sum())
            unchanged += int((moved & (old == _local(parameter).flatten()[:SAMPLE])).sum())
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
            with torch.no_grad(), evaluation_mode(self.engine.models["model"]):
                seen = self.engine.observe(frozenset({need}), rows, models={"model": self.engine.models["model"]})
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
