"""The one place that runs a model: rows and needs in, plain flat tensors out.

All roles of a micro-batch share one forward pass per model. The final hidden state is gathered at the wanted positions
only and pushed through the head in chunks; each chunk is upcast, turned into the statistics that want it, and dropped
or recomputed in the backward pass. Logits of a whole batch, [B, T, V], never exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

import torch
from attrs import evolve, field, frozen
from attrs.validators import ge
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from unlearnkit.batch import IGNORE, Batch, Collate, Decode, Row, collate_text
from unlearnkit.draws import keyed_draw
from unlearnkit.errors import MissingModelError, NeedError
from unlearnkit.models.causal import Through, device_of, directly
from unlearnkit.models.generate import cut_at_stop, generate
from unlearnkit.protocols import (
    Answer,
    Captured,
    Compared,
    Continuations,
    Flat,
    Generated,
    Hidden,
    Model,
    Need,
    Needs,
    RowTexts,
    Sampling,
    Seen,
    Site,
    TextGenerator,
    TokenNeed,
    Tokens,
    asked_of_models,
)
from unlearnkit.recording import Recording

Models = Mapping[str, Model | Recording]
"""Names that a need's `of` can say, bound to a live model or to a recording. "model" is the one that is trained."""


Perturbation = Mapping[Site, Mapping[Row, Tensor]]
"""What is added to the hidden states of "model": at each site, for some rows, [len(row), ·]; nothing for the others."""

UNPERTURBED: Perturbation = MappingProxyType({})


class Observe(Protocol):
    """`observe` with everything but the question filled in: what methods of more than one pass are given."""

    def __call__(self, needs: Needs, rows: Sequence[Row], add: Perturbation = UNPERTURBED, /) -> Seen: ...


class Adversary(Protocol):
    """Finds what is added to hidden states before a micro-batch is learned from: the inner half of a min-max method.

    Called once for each micro-batch, on all of its rows, whatever their roles. A row's perturbation may depend on that
    row alone, or a step's gradient would depend on how it is cut. On several processes all call `observe` equally often
    and differentiate what it returned, even if no row of theirs is attacked: give such rows a perturbation times zero.
    """

    @property
    def role(self) -> str:
        """Whose rows are attacked."""

    def __call__(self, observe: Observe, rows: Sequence[Row], /) -> Perturbation: ...


@frozen(kw_only=True)
class HeadBudget:
    """How much memory the vocabulary-sized logits may take.

    A head without trainable weights (LoRA) keeps no logits at all; see `_Slopes`.

    Attributes:
        chunk_bytes: logits of one chunk, after upcasting. Small chunks are slow: 64 positions cost half as much again.
        kept_bytes: logits kept for the backward pass; if all chunks together need more, they are recomputed.
    """

    chunk_bytes: int = field(default=64 * 2**20, validator=ge(1))
    kept_bytes: int = field(default=512 * 2**20, validator=ge(0))


def observe(
    models: Models,
    rows: Sequence[Row],
    needs: Needs,
    *,
    collate: Collate = collate_text,
    budget: HeadBudget = HeadBudget(),  # frozen
    through: Through = directly,
    add: Perturbation = UNPERTURBED,
) -> Seen:
    """Answer token needs for these rows. Gradients flow into "model" only.

    Needs of roles that have no row here are answered with zero rows, attached to the graph all the same: on several
    devices every parameter must take part in every backward pass.

    Args:
        models, rows, needs: what is asked of whom about which rows.
        collate: how rows become a batch.
        budget: how much memory logits may take.
        through: how live models are reached.
        add: a perturbation of "model"; other models stay clean. Gradients flow into it.

    Raises:
        NeedError: a label statistic at positions without labels.
        MissingModelError: a need names a model that is not given.
        RecordingError: a recording cannot serve a need.
    """
    check_needs(models, needs)
    token_needs = [need for need in needs if isinstance(need, TokenNeed)]
    of_role = {role: [row for row in rows if row.role == role] for role in {need.role for need in token_needs}}
    answers: dict[Need, Answer] = {}
    live: list[TokenNeed] = []
    for need in token_needs:
        source = models[need.of]
        if isinstance(source, Recording):
            answers[need] = source.serve(need, of_role[need.role])
        else:
            live.append(need)
    if live:
        seen = through(lambda: _run(models, rows, live, collate, budget, add))
        for need, (values, row) in zip(live, seen, strict=True):
            answers[need] = Flat(values, row, len(of_role[need.role]))
    # All answers on one device: formulas combine those of several models.
    device = device_of(models["model"]) if "model" in models else torch.device("cpu")
    for need in token_needs:
        flat = answers[need]
        assert isinstance(flat, Flat)
        answers[need] = Flat(_send(flat.values, device), _send(flat.row, device), flat.rows)
    return Seen(
        answers,
        ids={role: tuple(row.id for row in chosen) for role, chosen in of_role.items()},
        groups={role: tuple(row.group for row in chosen) for role, chosen in of_role.items()},
    )


def check_needs(models: Models, needs: Needs) -> None:
    """Refuse what cannot be served, before anything runs; arguments and errors as in `observe`."""
    for need in asked_of_models(needs):
        names = {need.of, "model"} if isinstance(need, Compared) else {need.of}
        for name in sorted(names - models.keys()):
            raise MissingModelError(
                f"{need} asks for {name!r}, but no model or recording has that name (given: {sorted(models)}). "
                f"Pass models={{{name!r}: ...}}: a frozen model, or a recording made with record()."
            )
        source = models[need.of]
        if isinstance(source, Recording):
            source.check(need)
        if isinstance(need, Tokens | Compared):
            uses_labels = (need.statistic if isinstance(need, Tokens) else need.comparison).uses_labels
            if uses_labels and need.positions == "non_pad":
                raise NeedError(
                    f"{need} reads labels at 'non_pad' positions, but the last token of a row predicts nothing. "
                    "Ask for positions='text' (every position with a next token) or 'answer'."
                )


@frozen(eq=False)
class _Body:
    """One model's forward pass over the rows it is needed for; `start[i]` is where row i's positions begin, flat."""

    model: Model
    hidden: Hidden
    start: Tensor

    def gather(self, values: Tensor, where: _Where) -> Tensor:
        """[B, T, ·] at these places -> [N, ·]."""
        index = _send(self.start[where.row] + where.position, values.device)
        return values.flatten(0, 1).index_select(0, index)


class _Where(NamedTuple):
    """Places in the rows: [N] each. The flat slots order them, the other two hold in every model's own batch."""

    slot: Tensor
    row: Tensor
    position: Tensor

    @classmethod
    def of(cls, slots: Tensor, batch: Batch) -> _Where:
        row = batch.row.flatten()[slots]
        return cls(slots, row, slots - batch.start[row])


def _run(
    models: Models,
    rows: Sequence[Row],
    needs: Sequence[TokenNeed],
    collate: Collate,
    budget: HeadBudget,
    add: Perturbation,
) -> list[tuple[Tensor, Tensor]]:
    """Answer needs of live models: (values, row) of each."""
    batch = collate(rows)
    bodies = {name: _forward(name, models, rows, needs, batch, collate, add) for name in sorted(_names(needs))}
    of_role = {need.role: _has_role(rows, need.role) for need in needs}
    # Each need wants an ascending list of the slots of the whole batch.
    wanted = {
        need: (batch.at(need.positions) & of_role[need.role][batch.row]).flatten().nonzero()[:, 0] for need in needs
    }
    of_head = [need for need in needs if isinstance(need, Tokens | Compared)]
    values = _through_head(bodies, of_head, wanted, batch, budget)
    seen = []
    for need in needs:
        where = _Where.of(wanted[need], batch)
        if isinstance(need, Captured):
            values[need] = upcast(bodies[need.of].gather(bodies[need.of].hidden.sites[need.site], where))
        number = of_role[need.role].cumsum(0) - 1
        seen.append((values[need], _send(number[where.row], values[need].device)))
    return seen


def _names(needs: Sequence[TokenNeed]) -> set[str]:
    return {need.of for need in needs} | ({"model"} if any(isinstance(need, Compared) for need in needs) else set())


def _has_role(rows: Sequence[Row], role: str) -> Tensor:
    return torch.tensor([row.role == role for row in rows], dtype=torch.bool)


def _forward(
    name: str,
    models: Models,
    rows: Sequence[Row],
    needs: Sequence[TokenNeed],
    batch: Batch,
    collate: Collate,
    add: Perturbation,
) -> _Body:
    """Run one model's body on the rows it is needed for; without any, on the shortest row, which nothing reads."""
    model = models[name]
    assert not isinstance(model, Recording)
    mine = [need for need in needs if need.of == name or (name == "model" and isinstance(need, Compared))]
    roles = {need.role for need in mine}
    chosen = [i for i, row in enumerate(rows) if row.role in roles]
    chosen = chosen or [min(range(len(rows)), key=lambda i: len(rows[i]))]
    if len(chosen) < len(rows):
        batch = collate([rows[i] for i in chosen])
    start = torch.full((len(rows),), -1)
    start[chosen] = batch.start
    device = device_of(model)
    sites = frozenset(need.site for need in mine if isinstance(need, Captured))
    with torch.set_grad_enabled(torch.is_grad_enabled() and name == "model"):
        inputs = {key: _send(value, device) for key, value in batch.inputs.items()}
        if name != "model" or not add:
            return _Body(model, model.hidden(inputs, capture=sites), start)
        placed = {site: _laid_out(of_row, batch, device) for site, of_row in add.items()}
        return _Body(model, model.hidden(inputs, capture=sites, add=placed), start)


def _laid_out(of_row: Mapping[Row, Tensor], batch: Batch, device: torch.device) -> Tensor:
    """Rows' own tensors [len(row), ·] as they lie in a batch, 0 elsewhere: [B, T, ·]; 0-d where the batch has none."""
    there = [(row, start) for row, start in zip(batch.rows, batch.start.tolist(), strict=True) if row in of_row]
    if not there:
        return torch.zeros((), device=device)
    values = torch.cat([of_row[row] for row, _ in there]).to(device)
    slots = torch.cat([torch.arange(start, start + len(row)) for row, start in there])
    size, length = batch.targets.shape
    flat = values.new_zeros(size * length, values.shape[-1]).index_copy(0, _send(slots, device), values)
    return flat.view(size, length, -1)


def _through_head(
    bodies: Mapping[str, _Body],
    needs: Sequence[Tokens | Compared],
    wanted: Mapping[TokenNeed, Tensor],
    batch: Batch,
    budget: HeadBudget,
) -> dict[Need, Tensor]:
    """Push wanted positions through the heads, each once for all needs that want it, in chunks: [N] or [N, k] each."""
    if not needs:
        return {}
    pieces: dict[Need, list[tuple[Tensor, Tensor]]] = {need: [] for need in needs}
    member = torch.zeros(len(needs), batch.targets.numel(), dtype=torch.bool)
    for number, need in enumerate(needs):
        member[number, wanted[need]] = True
    signatures, of_slot = torch.unique(member, dim=1, return_inverse=True)
    recompute = torch.is_grad_enabled() and _kept_bytes(bodies, needs, wanted) > budget.kept_bytes
    frozen_head = _frozen_head(bodies)
    for number in range(signatures.shape[1]):
        group = [need for need, wants in zip(needs, signatures[:, number].tolist(), strict=True) if wants]
        slots = (of_slot == number).nonzero()[:, 0]
        for chunk in slots.split(_chunk_size(bodies, group, budget)) if group else ():
            results = _chunk(
                bodies, group, _Where.of(chunk, batch), batch.targets.flatten()[chunk], recompute, frozen_head
            )
            for need, result in zip(group, results, strict=True):
                pieces[need].append((chunk, result))
    nowhere = torch.zeros(0, dtype=torch.int64)
    for need in needs:
        if not pieces[need]:
            where = _Where(nowhere, nowhere, nowhere)
            (nothing,) = _chunk(bodies, [need], where, nowhere, recompute, frozen_head)
            pieces[need].append((nowhere, nothing))
    return {need: _in_order(found) for need, found in pieces.items()}


def _in_order(pieces: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    if len(pieces) == 1:
        return pieces[0][1]
    slots = torch.cat([where for where, _ in pieces])
    values = torch.cat([value for _, value in pieces])
    if bool((slots[1:] > slots[:-1]).all()):
        return values
    return values.index_select(0, _send(slots.argsort(), values.device))


def _chunk(
    bodies: Mapping[str, _Body],
    needs: Sequence[Tokens | Compared],
    where: _Where,
    targets: Tensor,
    recompute: bool,
    frozen_head: bool,
) -> tuple[Tensor, ...]:
    """Each need's values at the same places."""
    names = sorted(_names(needs))
    hidden = [bodies[name].gather(bodies[name].hidden.final, where) for name in names]

    def run(*hidden: Tensor) -> tuple[Tensor, ...]:
        logits = {}
        for name, states in zip(names, hidden, strict=True):
            with torch.set_grad_enabled(torch.is_grad_enabled() and name == "model"):
                logits[name] = upcast(bodies[name].model.head(states))
        values = []
        for need in needs:
            labels = _send(targets, logits[need.of].device)
            if isinstance(need, Tokens):
                values.append(need.statistic(logits[need.of], labels))
            else:
                reference = logits[need.of].to(logits["model"].device)
                values.append(need.comparison(logits["model"], reference, labels.to(reference.device)))
        return tuple(values)

    if frozen_head and "model" in names and (recompute or len(needs) == 1):
        place = names.index("model")
        values: tuple[Tensor, ...] = _Slopes.apply(  # type: ignore[no-untyped-call]
            hidden[place], lambda states: run(*hidden[:place], states, *hidden[place + 1 :])
        )
        return values
    if recompute:
        again: tuple[Tensor, ...] = checkpoint(run, *hidden, use_reentrant=False, preserve_rng_state=False)
        return again
    return run(*hidden)


def _frozen_head(bodies: Mapping[str, _Body]) -> bool:
    """Whether gradients of "model" pass through a head that takes none itself."""
    if "model" not in bodies or not bodies["model"].hidden.final.requires_grad:
        return False
    nothing = bodies["model"].hidden.final.detach().flatten(0, 1)[:0]
    return not bodies["model"].model.head(nothing).requires_grad


class _Slopes(torch.autograd.Function):
    """Values of positions behind a head that is not trained: the backward pass needs no logits, nor the head.

    A position's value depends on its own hidden state only. Its slope, [H] (of a log-probability: W[y] − E_p[W]), is
    computed right after the value, while the logits are there, and is all that is kept. So a value costs two products
    with the head in all, where logits that are recomputed cost three (four, if the head is trained).

    Its plain twin is to run `compute` under autograd.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, hidden: Tensor, compute: Callable[[Tensor], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            leaf = hidden.detach().requires_grad_()
            values = compute(leaf)
            columns = [_columns(value) if value.requires_grad else () for value in values]
        slopes = []
        for of_value in columns:
            found = [
                torch.autograd.grad(column, leaf, torch.ones_like(column), retain_graph=True)[0] for column in of_value
            ]
            slopes.append(torch.stack(found) if found else leaf.new_empty(0))  # [k, N, H]
        ctx.save_for_backward(*slopes)
        results = tuple(value.detach() for value in values)
        ctx.mark_non_differentiable(
            *(result for result, value in zip(results, values, strict=True) if not value.requires_grad)
        )
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, None]:
        total: Tensor | None = None
        for gradient, slope in zip(gradients, ctx.saved_tensors, strict=True):  # type: ignore[attr-defined]
            for column, along in zip(_columns(gradient), slope, strict=False):
                part = column[:, None].to(along.dtype) * along
                total = part if total is None else total + part
        return total, None


def _columns(values: Tensor) -> tuple[Tensor, ...]:
    """[N] or [N, k] -> one or k of [N]."""
    return (values,) if values.dim() == 1 else values.unbind(1)


def _send(tensor: Tensor, device: torch.device) -> Tensor:
    """To a device; from main memory to a GPU by way of pinned memory, so that the host need not wait."""
    if tensor.device.type == "cpu" and device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def upcast(values: Tensor) -> Tensor:
    """At least float32: statistics of half-precision logits are computed in single precision."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _bytes_per_position(body: _Body) -> int:
    return body.model.vocabulary * max(4, body.hidden.final.element_size())


def _chunk_size(bodies: Mapping[str, _Body], needs: Sequence[Tokens | Compared], budget: HeadBudget) -> int:
    return max(1, budget.chunk_bytes // sum(_bytes_per_position(bodies[name]) for name in _names(needs)))


def _kept_bytes(
    bodies: Mapping[str, _Body], needs: Sequence[Tokens | Compared], wanted: Mapping[TokenNeed, Tensor]
) -> int:
    """What autograd would keep for the backward pass: logits and their softmax, of every model at every position."""
    return 2 * sum(
        _bytes_per_position(bodies[name])
        * len(torch.cat([wanted[need] for need in needs if name in _names([need])]).unique())
        for name in _names(needs)
    )


def continuations(
    model: Model,
    rows: Sequence[Row],
    need: Generated,
    *,
    end_tokens: frozenset[int],
    decode: Decode,
    through: Through = directly,
    done_together: Callable[[bool], bool] = bool,
) -> Continuations:
    """What the model writes after each row's prompt (all tokens before the first supervised one).

    References are decoded from the supervised tokens, so that both texts go through the same tokenizer.

    Args:
        model, rows, need: who writes, after which prompts, and how.
        end_tokens, decode: see `generate`.
        through, done_together: how several processes generate in step; see `generate`.
    """
    decoding = need.decoding
    each = decoding.samples if isinstance(decoding, Sampling) else 1
    prompts = [row.inputs["input_ids"][: prompt_length(row)] for row in rows for _ in range(each)]
    seeds = (
        [keyed_draw(2**32, decoding.seed, row.role, row.id, number) for row in rows for number in range(each)]
        if isinstance(decoding, Sampling)
        else []
    )
    new: Sequence[tuple[int, ...]] = [()] * len(prompts)
    with torch.no_grad():
        if isinstance(model, TextGenerator):
            written = model.write(prompts, decoding, seeds=seeds)
        else:
            new = generate(
                model,
                prompts,
                decoding,
                end_tokens=end_tokens,
                seeds=seeds,
                decode=decode,
                through=through,
                done_together=done_together,
            )
            written = [decode(ids) for ids in new]
    texts = [cut_at_stop(text, decoding.stop).strip() for text in written]
    samples = tuple(tuple(texts[first : first + each]) for first in range(0, len(texts), each))
    return Continuations(
        texts=tuple(own[0] for own in samples),
        references=tuple(decode(row.labels[row.labels != IGNORE].tolist()).strip() for row in rows),
        samples=samples,
        tokens=()
        if isinstance(model, TextGenerator)
        else tuple(tuple(new[first : first + each]) for first in range(0, len(new), each)),
    )


def row_texts(rows: Sequence[Row], decode: Decode) -> RowTexts:
    """Each row as text: what precedes its first supervised token, and the supervised ones."""
    prompts = []
    for row in rows:
        supervised = (row.labels != IGNORE).nonzero()
        before = row.inputs["input_ids"][: int(supervised[0]) if len(supervised) else len(row)]
        prompts.append(decode(before.tolist()).strip())
    return RowTexts(tuple(prompts), tuple(decode(row.labels[row.labels != IGNORE].tolist()).strip() for row in rows))


def prompt_length(row: Row) -> int:
    """How many tokens precede the first supervised one.

    Raises:
        NeedError: none, or nothing is supervised.
    """
    supervised = (row.labels != IGNORE).nonzero()
    if not len(supervised) or not int(supervised[0]):
        raise NeedError(
            f"row {row.id!r} of {row.role!r} has no prompt to continue: its first supervised token is at position "
            f"{int(supervised[0]) if len(supervised) else None}. Generation needs rows with a prompt and an answer."
        )
    return int(supervised[0])


def concatenate(parts: Sequence[Seen]) -> Seen:
    """One `Seen` of several, rows of each role in order of the parts. All parts answer the same token needs."""
    if len(parts) == 1:
        return parts[0]
    answers: dict[Need, Answer] = {}
    for need in parts[0].answers:
        assert isinstance(need, TokenNeed)
        flats = [part[need] for part in parts]
        offsets = torch.tensor([0, *(flat.rows for flat in flats)]).cumsum(0).tolist()
        answers[need] = Flat(
            torch.cat([flat.values for flat in flats]),
            torch.cat([flat.row + offset for flat, offset in zip(flats, offsets, strict=False)]),
            offsets[-1],
        )
    return evolve(
        parts[0],
        answers=answers,
        ids={role: tuple(name for part in parts for name in part.ids[role]) for role in parts[0].ids},
        groups={role: tuple(name for part in parts for name in part.groups[role]) for role in parts[0].groups},
    )
