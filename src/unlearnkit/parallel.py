"""Strategies: how models are laid over processes. torch.distributed, launched with torchrun, and nothing else.

A strategy places models and says how a process shares in a step; the engine and evaluation do not know which one it is.
Every rank plans the whole global step by itself (`plan.share`), so no row, count or random number is ever communicated:
only parameters, gradients, the means that are logged, and the answers of an evaluation.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Protocol, TypeVar, cast

import torch
import torch.distributed as dist
from attrs import define, field, frozen
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from unlearnkit.errors import ParallelError
from unlearnkit.models.causal import HALF, CausalLM, device_of
from unlearnkit.observe import Models
from unlearnkit.plan import CUT
from unlearnkit.recording import whole_tensor

T = TypeVar("T")

ACCELERATOR_CUT = 1024
"""What one more micro-batch costs on an accelerator, in padded tokens: starting kernels takes longer than running them."""

GATHERING_CUT = 4096
"""The same where a micro-batch gathers all parameters twice."""


class Placed(Protocol):
    """Models where their strategy has put them; calling it is `observe.Through`."""

    @property
    def cut_cost(self) -> int:
        """What one more micro-batch costs, in padded tokens; see `plan.cut`."""

    def __call__(self, work: Callable[[], T], /) -> T: ...

    def part(self, last: bool, /) -> AbstractContextManager[None]:
        """Around the forward and backward pass of one micro-batch; `last` of its step."""

    def rest(self) -> None:
        """Free what forward passes left gathered, before parameters are read or written from outside."""


class Strategy(Protocol):
    """What a step asks of parallelism."""

    @property
    def rank(self) -> int:
        """Number of this process, 0 … size - 1."""

    @property
    def size(self) -> int:
        """Number of processes."""

    @property
    def casts(self) -> bool:
        """Whether half-precision models are held in float32 and computed with in bfloat16 by the strategy itself."""

    def place(self, models: Models, /) -> Placed:
        """Bring models to this process's device, and shard them if that is what the strategy does."""

    def sum(self, value: Tensor, /) -> Tensor:
        """Over ranks, on every rank."""

    def gather(self, value: T, /) -> list[T]:
        """Every rank's value, in order, on every rank. Tensors have to be on the CPU."""

    def weights(self, model: nn.Module, /) -> dict[str, Tensor]:
        """The model's whole state on the CPU, in the types it was loaded in. Every rank calls it, rank 0 gets it all."""


# --- one process ------------------------------------------------------------------------------------------------------


@frozen
class _Here:
    cut_cost: int = CUT

    def __call__(self, work: Callable[[], T], /) -> T:
        return work()

    def part(self, last: bool, /) -> AbstractContextManager[None]:
        return nullcontext()

    def rest(self) -> None:
        pass


@frozen
class Single:
    """One process; models stay where they are."""

    rank = 0
    size = 1
    casts = False

    def place(self, models: Models, /) -> Placed:
        cpu = all(device_of(model).type == "cpu" for model in models.values())
        return _Here(CUT if cpu else ACCELERATOR_CUT)

    def sum(self, value: Tensor, /) -> Tensor:
        return value

    def gather(self, value: T, /) -> list[T]:
        return [value]

    def weights(self, model: nn.Module, /) -> dict[str, Tensor]:
        return dict(model.state_dict())


# --- several processes ------------------------------------------------------------------------------------------------


def join(*, timeout: timedelta = timedelta(minutes=30)) -> torch.device:
    """Join the process group that torchrun describes, once, and take this process's device.

    Args:
        timeout: after which a rank that does not come to a collective counts as lost.

    Raises:
        ParallelError: the process was not started by torchrun.
    """
    accelerated = torch.cuda.is_available()
    if not dist.is_initialized():
        if missing := [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR") if name not in os.environ]:
            raise ParallelError(
                f"{', '.join(missing)} is not set, but DDP and FSDP want one process per device. Start the script with "
                "torchrun --nproc-per-node N script.py, or use Single()."
            )
        if accelerated:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        # Answers and small agreements travel between CPUs, whatever the gradients do.
        dist.init_process_group("cpu:gloo,cuda:nccl" if accelerated else "gloo", timeout=timeout)
        atexit.register(_leave)
    return torch.device("cuda", torch.cuda.current_device()) if accelerated else torch.device("cpu")


def launched() -> Strategy:
    """`FSDP` under torchrun, `Single` otherwise: for scripts that run either way."""
    return FSDP() if "WORLD_SIZE" in os.environ else Single()


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _sum(value: Tensor) -> Tensor:
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def _gather(value: T) -> list[T]:
    every: list[T | None] = [None] * dist.get_world_size()
    dist.all_gather_object(every, value)
    return cast("list[T]", every)


class _Root(nn.Module):
    """Models as parts of one module, whose forward pass is whatever is done with them."""

    def __init__(self, models: list[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, work: Callable[[], T]) -> T:
        return work()


def _live(models: Models) -> list[nn.Module]:
    return list({id(model): model for model in models.values() if isinstance(model, nn.Module)}.values())


@define(eq=False)
class _Replicated:
    """Wrapped when the first step begins: what is trained is known then, and what is not is no business of DDP's."""

    models: list[nn.Module]
    cut_cost: int
    _wrapped: DistributedDataParallel | None = None

    def __call__(self, work: Callable[[], T], /) -> T:
        if self._wrapped is None or not torch.is_grad_enabled():
            return work()
        result: T = self._wrapped(work)
        return result

    def part(self, last: bool, /) -> AbstractContextManager[None]:
        if self._wrapped is None:
            trained = [model for model in self.models if any(p.requires_grad for p in model.parameters())]
            self._wrapped = DistributedDataParallel(
                _Root(trained), gradient_as_bucket_view=True, forward_sync_buffers=False
            )
        return nullcontext() if last else self._wrapped.no_sync()

    def rest(self) -> None:
        pass


@frozen(eq=False)
class DDP:
    """The whole model on every device; gradients are summed in each step. Start with torchrun.

    Attributes:
        device: of this process: its GPU, or the CPU where there is none.
    """

    device: torch.device = field(factory=join, init=False)
    casts = False

    @property
    def rank(self) -> int:
        return dist.get_rank()

    @property
    def size(self) -> int:
        return dist.get_world_size()

    def place(self, models: Models, /) -> Placed:
        live = _live(models)
        for model in live:
            model.to(self.device)
        return _Replicated(live, CUT if self.device.type == "cpu" else ACCELERATOR_CUT)

    def sum(self, value: Tensor, /) -> Tensor:
        return _sum(value)

    def gather(self, value: T, /) -> list[T]:
        return _gather(value)

    def weights(self, model: nn.Module, /) -> dict[str, Tensor]:
        return dict(model.state_dict())


@frozen(eq=False)
class _Sharded:
    root: _Root
    cut_cost: int

    def __call__(self, work: Callable[[], T], /) -> T:
        result: T = self.root(work)
        return result

    @contextmanager
    def part(self, last: bool, /) -> Iterator[None]:
        assert isinstance(self.root, FSDPModule)
        self.root.set_is_last_backward(last)
        yield

    def rest(self) -> None:
        for module in self.root.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


@define(eq=False)
class FSDP:
    """Parameters, gradients and optimizer state divided among all devices (`fully_shard`). Start with torchrun.

    Each transformer block is gathered when it runs; embedding, final norm and head stay gathered from the forward to the
    backward pass of a micro-batch, so that the head is at hand for any number of chunks. Live references are sharded in
    the same way. Models loaded in half precision are held in float32, gathered in bfloat16, and their gradients reduced
    in float32. Placing is for good: the model remains sharded; `save_model(..., strategy=...)` writes it whole.

    Attributes:
        activation_checkpointing: keep only each block's input for the backward pass, and run the block again there.
        device: of this process: its GPU, or the CPU where there is none.
    """

    activation_checkpointing: bool = True
    device: torch.device = field(factory=join, init=False)
    _placed: _Sharded | None = field(default=None, init=False)
    _stored: dict[int, torch.dtype] = field(factory=dict, init=False)
    casts = True

    @property
    def rank(self) -> int:
        return dist.get_rank()

    @property
    def size(self) -> int:
        return dist.get_world_size()

    def place(self, models: Models, /) -> Placed:
        """Shard models, once, all that will ever be live together; later calls may name any of them.

        Raises:
            ParallelError: a model that was not there the first time, or whose weights differ between ranks.
        """
        live = _live(models)
        if self._placed is None:
            self._placed = self._shard(live, first=models.get("model", None))
        self._placed.rest()
        known = set(self._placed.root.parameters())
        for name, model in models.items():
            if isinstance(model, nn.Module) and not known.issuperset(model.parameters()):
                raise ParallelError(
                    f"models[{name!r}] is not among the models that were sharded together. Place all live models before "
                    "anything runs: strategy.place({'model': ..., 'reference': ...}); or pass a recording in its place."
                )
        return self._placed

    def sum(self, value: Tensor, /) -> Tensor:
        return _sum(value)

    def gather(self, value: T, /) -> list[T]:
        return _gather(value)

    def weights(self, model: nn.Module, /) -> dict[str, Tensor]:
        if self._placed is not None:
            self._placed.rest()
        whole: dict[int, Tensor] = {}  # tied weights once, or ranks would gather differently often
        state = {}
        for name, tensor in model.state_dict(keep_vars=True).items():
            if id(tensor) not in whole:
                full = whole_tensor(tensor.detach())
                kept = full.to("cpu", self._stored.get(id(tensor), full.dtype)) if self.rank == 0 else full.new_empty(0)
                whole[id(tensor)] = kept
            state[name] = whole[id(tensor)]
        return state if self.rank == 0 else {}

    def _shard(self, live: list[nn.Module], first: object) -> _Sharded:
        stored = [tensor.dtype for model in live for tensor in _tensors(model)]
        half = any(tensor.dtype in HALF for tensor in _tensors(first)) if isinstance(first, nn.Module) else False
        policy = (
            MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
            if half
            else MixedPrecisionPolicy()
        )
        self._refuse_different_weights(live)
        if self.activation_checkpointing and isinstance(first, nn.Module):
            for part in _causal(first):
                part.model.activation_checkpointing_enable()
        for part in [part for model in live for part in _causal(model)]:
            for block in part.anatomy.blocks:
                if not isinstance(block, FSDPModule):
                    _hold_in_float32(block)
                    fully_shard(block, mp_policy=policy)  # block by block to the device: it never holds the whole
        root = _Root(live)
        _hold_in_float32(root)
        fully_shard(root, mp_policy=policy)
        for tensor, dtype in zip((tensor for model in live for tensor in _tensors(model)), stored, strict=True):
            self._stored[id(tensor)] = dtype
        return _Sharded(root, CUT if self.device.type == "cpu" else GATHERING_CUT)

    def _refuse_different_weights(self, live: list[nn.Module]) -> None:
        """Each rank keeps its part of its own copy: copies that differ would make a model that nobody had."""
        mine = [float(tensor.detach().flatten()[:64].double().sum()) for model in live for tensor in _tensors(model)]
        every = self.gather(mine)
        if any(theirs != every[0] for theirs in every):
            raise ParallelError(
                "the weights differ between ranks. Load the model from the same files on every rank, or seed its random "
                "initialisation alike (torch.manual_seed before it is built)."
            )


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _hold_in_float32(module: nn.Module) -> None:
    for tensor in _tensors(module):
        if tensor.dtype in HALF and not isinstance(tensor, DTensor):
            tensor.data = tensor.data.float()


def _causal(model: nn.Module) -> list[CausalLM]:
    return [part for part in model.modules() if isinstance(part, CausalLM)]
