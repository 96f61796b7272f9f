"""What a run consists of between two steps, so that it can be saved and gone on with as if nothing had happened."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import torch
import torch.distributed as dist
from attrs import define, field, frozen
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from unlearnkit.errors import CheckpointError, ParallelError
from unlearnkit.parallel import Strategy
from unlearnkit.protocols import Objective
from unlearnkit.resume import (
    Checkpoints,
    Plain,
    fields_of,
    load_tensors,
    newest,
    put_together,
    room_for,
    taken_apart,
    with_fields,
    write,
)


@frozen(kw_only=True, eq=False)
class Parts:
    """What changes during a run, beside the objective.

    Attributes:
        parameters: that are trained, by name.
        buffers: of the model, by name.
        optimizer, scheduler: as they are used.
        identity: what has to be the same for a run to be the same run, by the name a user knows it by.
    """

    parameters: Mapping[str, nn.Parameter]
    buffers: Mapping[str, Tensor]
    optimizer: Optimizer
    scheduler: LRScheduler | None
    identity: Mapping[str, Plain]


@frozen
class Resumed:
    """Where a run goes on: after `step` steps, with this objective and this log of what has been."""

    step: int
    objective: Objective
    log: Plain


def save_run(
    checkpoints: Checkpoints, step: int, parts: Parts, objective: Objective, log: Plain, strategy: Strategy
) -> None:
    """Write the state after `step` steps; every rank calls this.

    Raises:
        CheckpointError: it could not be written, or something in it cannot be.
    """
    tensors = {f"parameter.{name}": parameter.detach() for name, parameter in parts.parameters.items()}
    tensors |= {f"buffer.{name}": buffer for name, buffer in parts.buffers.items()}
    tensors |= _generators(strategy.rank)
    state: dict[str, Plain] = {
        name: taken_apart(dict(parts.optimizer.state[parameter]), f"optimizer.{name}", tensors)
        for name, parameter in parts.parameters.items()
        if parameter in parts.optimizer.state
    }
    groups = [
        taken_apart({key: value for key, value in group.items() if key != "params"}, f"group.{number}", tensors)
        for number, group in enumerate(parts.optimizer.param_groups)
    ]
    schedule = parts.scheduler.state_dict() if parts.scheduler is not None else None
    content: dict[str, Plain] = {
        "identity": dict(parts.identity),
        "ranks": strategy.size,
        "optimizer": state,
        "groups": list(groups),
        "scheduler": taken_apart(schedule, "scheduler", tensors),
        "objective": taken_apart(fields_of(objective), "objective", tensors),
        "log": log,
    }
    write(checkpoints, step, tensors, content, strategy)


def resume_run(
    checkpoints: Checkpoints, parts: Parts, objective: Objective, strategy: Strategy, device: torch.device
) -> Resumed | None:
    """Put the newest whole state back into the parts of a run; None if there is none.

    Raises:
        CheckpointError: the folder holds the states of another run.
    """
    state = newest(checkpoints, strategy)
    if state is None:
        return None
    content = dict(state.content)
    identity = cast("dict[str, Plain]", content["identity"])
    for name, mine in parts.identity.items():
        if identity.get(name) != mine:
            raise CheckpointError(
                f"{checkpoints.folder} holds the states of another run: its {name} was {identity.get(name)!r} and is "
                f"{mine!r} now. Name another folder, or go on with what it was begun with."
            )
    tensors: dict[str, Tensor] = {
        **{f"parameter.{name}": parameter for name, parameter in parts.parameters.items()},
        **{f"buffer.{name}": buffer for name, buffer in parts.buffers.items()},
    }
    optimizer = cast("dict[str, Plain]", content["optimizer"])
    for name, of_parameter in optimizer.items():
        tensors |= room_for(of_parameter, device, like=parts.parameters[name])
    for rest in ("groups", "scheduler", "objective"):
        tensors |= room_for(content[rest], device)
    if strategy.rank < cast("int", content["ranks"]):
        tensors |= _generators(strategy.rank)
    load_tensors(state, tensors, strategy)

    for name, of_parameter in optimizer.items():
        restored = cast("dict[str, object]", put_together(of_parameter, tensors))
        parts.optimizer.state[parts.parameters[name]] = restored
    groups = cast("list[Plain]", content["groups"])
    for group, saved in zip(parts.optimizer.param_groups, groups, strict=True):
        group.update(cast("dict[str, object]", put_together(saved, tensors)))
    if parts.scheduler is not None:
        parts.scheduler.load_state_dict(cast("dict[str, object]", put_together(content["scheduler"], tensors)))
    if (own := f"generator.cpu.{strategy.rank}") in tensors:
        torch.set_rng_state(tensors[own])
    if (own := f"generator.cuda.{strategy.rank}") in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors[own])
    changed = cast("Objective", with_fields(objective, put_together(content["objective"], tensors)))
    return Resumed(state.step, changed, content["log"])


def _generators(rank: int) -> dict[str, Tensor]:
    """The states of this process's global generators; objectives and optimizers may draw from them."""
    states = {f"generator.cpu.{rank}": torch.get_rng_state()}
    if torch.cuda.is_available():
        states[f"generator.cuda.{rank}"] = torch.cuda.get_rng_state()
    return states


# --- being stopped ----------------------------------------------------------------------------------------------------


@define
class Stop:
    """Whether this process was asked to stop."""

    asked: bool = field(default=False)


@contextmanager
def on_sigterm() -> Iterator[Stop]:
    """Take SIGTERM down as a wish, for as long as this lasts; in the main thread only, as Python has it."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(*_: object) -> None:
        stop.asked = True

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def lost_ranks(what: Mapping[str, object], strategy: Strategy) -> Iterator[None]:
    """Say in plain words that another process is gone, instead of what the transport says.

    Args:
        what: told in the message, evaluated when it is needed: the step, the last checkpoint.

    Raises:
        ParallelError: a collective failed because a rank has vanished.
    """
    try:
        yield
    except (RuntimeError, dist.DistBackendError) as error:
        text = str(error)
        gone = isinstance(error, dist.DistError) or any(sign in text for sign in GONE)
        if strategy.size == 1 or not gone or isinstance(error, ParallelError):
            raise
        facts = ", ".join(f"{name} {value}" for name, value in what.items())
        raise ParallelError(
            f"another rank has vanished ({facts}): it crashed, ran out of memory, or its machine went away; its own output "
            f"says why. Run the same command again. The transport said: {text.splitlines()[0][:200]}"
        ) from error


GONE = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting", "NCCL")
"""How gloo and NCCL say that nobody is there."""
