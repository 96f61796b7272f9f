"""Evaluation: all metrics over merged needs, one teacher-forced pass and one generation pass per data set and model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch
from attrs import evolve
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unlearnkit.answers import Answers, identity, name_of
from unlearnkit.batch import Collate, Row, all_rows, check_tokenizer, check_vocabulary, collate_text
from unlearnkit.errors import DataError, NeedError, RecordingError
from unlearnkit.metrics.intervals import with_interval
from unlearnkit.models.causal import as_model, evaluation_mode
from unlearnkit.models.generate import decoder, end_tokens
from unlearnkit.models.peft import PeftModel
from unlearnkit.observe import (
    HeadBudget,
    Models,
    check_needs,
    concatenate,
    continuations,
    observe,
    prompt_length,
    row_texts,
)
from unlearnkit.parallel import Placed, Single, Strategy
from unlearnkit.plan import GHOST, check_data, share
from unlearnkit.protocols import (
    Answer,
    Checked,
    Continuations,
    Dataset,
    Flat,
    Generated,
    Metric,
    Model,
    Need,
    Needs,
    Sampling,
    Score,
    Seen,
    TextGenerator,
    Texts,
    TokenNeed,
    Tokens,
    all_needs,
    asked_of_models,
)
from unlearnkit.provenance import PACKAGES, data_hash, tokenizer_hash
from unlearnkit.recording import Entry, Recording, digest, fingerprint
from unlearnkit.report import Report

Progress = Callable[[str, int, int], None]
"""Called as (what is being done, done, of how many) while a pass or a training runs."""


def evaluate(
    models: Mapping[str, Model | PreTrainedModel | PeftModel | Recording],
    metrics: Mapping[str, Metric],
    data: Mapping[str, Dataset[Row]],
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    intervals: bool = False,
    max_tokens: int = 8192,
    collate: Collate = collate_text,
    budget: HeadBudget = HeadBudget(),
    strategy: Strategy = Single(),
    progress: Progress | None = None,
    resume: Path | None = None,
) -> Report:
    """Measure `models["model"]`; other names ("oracle") are what metrics compare it with, live or recorded.

    A metric whose data set or model was not given, or whose data sets do not fit together, is "not measured", with the
    reason.

    Args:
        models: by name, as needs say it.
        metrics: by the name they are reported under.
        data: rows by role.
        tokenizer: decodes generated text; required as soon as a metric generates.
        intervals: add 95 % bootstrap intervals to scores that are means over examples.
        max_tokens: padded tokens per batch.
        collate, budget: see `observe`.
        strategy: of several processes each does its share, and all get the report.
        progress: called during each pass, on rank 0.
        resume: folder in which the answers of each finished pass are kept. A call that was interrupted goes on from
            there, and one with further metrics asks only for what is missing. Answers are known by all they depend on,
            see `unlearnkit.answers`. All processes must see the folder.

    Raises:
        DataError, NeedError, RecordingError, VocabularyError: before anything is run. A metric that is `Checked` (a
            membership attack whose non-members were trained on) refuses its data this way.
    """
    every: dict[str, Model | Recording] = {
        name: model if isinstance(model, Recording) else as_model(model) for name, model in models.items()
    }
    reasons = {name: reason for name, metric in metrics.items() if (reason := _missing(metric, every, data))}
    check_data(data)  # of all roles: a check compares with those that no need reads, too
    wary = [metric for name, metric in metrics.items() if name not in reasons and isinstance(metric, Checked)]
    if wary:
        contents = {role: {row.id: content_of(row) for row in all_rows(rows)} for role, rows in data.items()}
        for checked in wary:
            checked.check(contents)
    needs = all_needs(metric for name, metric in metrics.items() if name not in reasons)
    seen = gather(
        every,
        needs,
        data,
        tokenizer=tokenizer,
        max_tokens=max_tokens,
        collate=collate,
        budget=budget,
        strategy=strategy,
        progress=progress,
        resume=resume,
    )
    scores = {}
    for name, metric in metrics.items():
        if name in reasons:
            scores[name] = Score.not_measured(reasons[name])
            continue
        try:
            score = metric(seen)
        except DataError as refused:  # data sets that do not fit together; the other metrics are not lost
            score = Score.not_measured(str(refused))
        scores[name] = with_interval(score) if intervals else score
    roles = sorted({need.role for need in needs})
    made = {
        "packages": {package: version(package) for package in PACKAGES},
        "data": {role: data_hash(all_rows(data[role])) for role in roles},
        "models": {name: model.model for name, model in every.items() if isinstance(model, Recording)},
    }
    return Report(scores, made)


def content_of(row: Row) -> str:
    """A digest of a row's tokens, whatever its id, role and labels: equal for a text that is in two data sets."""
    tokens = row.inputs.get("input_ids")
    if tokens is None:
        return digest(row)
    return hashlib.sha256(tokens.long().contiguous().cpu().numpy().tobytes()).hexdigest()[:32]


def gather(
    models: Models,
    needs: Needs,
    data: Mapping[str, Dataset[Row]],
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_tokens: int = 8192,
    collate: Collate = collate_text,
    budget: HeadBudget = HeadBudget(),
    strategy: Strategy = Single(),
    progress: Progress | None = None,
    resume: Path | None = None,
) -> Seen:
    """Answer needs over whole data sets; arguments and errors as in `evaluate`."""
    roles = sorted({need.role for need in needs})
    if absent := [role for role in roles if role not in data]:
        raise DataError(f"needs name the data set {absent[0]!r}, but only {sorted(data)} are given.")
    rows_of = {role: all_rows(data[role]) for role in roles}
    check_data(rows_of)
    check_needs(models, needs)
    generated = sorted((need for need in needs if isinstance(need, Generated)), key=repr)  # alike on all ranks
    for need in generated:
        if isinstance(writer := models[need.of], TextGenerator) and strategy.size > 1:
            raise NeedError(
                f"{type(writer).__name__} writes in a way of its own, which several processes cannot do in step. "
                "Evaluate it in one."
            )
        for row in rows_of[need.role]:
            prompt_length(row)  # refuses a row without a prompt
    as_text: list[Generated | Texts] = [*generated, *(need for need in needs if isinstance(need, Texts))]
    if as_text and tokenizer is None:
        raise NeedError(f"{as_text[0]} asks for text. Pass the tokenizer=... that decodes it.")
    for model in models.values():
        if not isinstance(model, Recording):
            if tokenizer is not None:
                check_tokenizer(tokenizer, model.vocabulary)
            for rows in rows_of.values():
                check_vocabulary(rows, model.vocabulary)
    answers: dict[Need, Answer] = {}
    progress = progress if strategy.rank == 0 else None
    kept = None
    if resume is not None:
        identities = _identities(models, needs, strategy)
        kept = Answers(resume, identities, name_of(collate), _language(tokenizer, models, generated))
        for one in asked_of_models(needs):
            kept.check(one)
    with torch.no_grad(), evaluation_mode(*models.values()):
        placed = strategy.place(models)
        for role in roles:
            rows = rows_of[role]
            of_role = [need for need in needs if need.role == role and isinstance(need, TokenNeed)]
            of_role.sort(key=repr)  # alike on all ranks, and in what is kept
            if not of_role:
                continue
            missing = of_role
            if kept is not None:
                found = {need: flat for need in of_role if (flat := kept.flat(need, rows)) is not None}
                everywhere = frozenset[Need].intersection(*strategy.gather(frozenset(found)))
                answers.update((need, flat) for need, flat in found.items() if need in everywhere)
                missing = [need for need in of_role if need not in everywhere]
            if not missing:
                continue
            pieces = share(rows, max_tokens, strategy.size, cost=placed.cut_cost)[strategy.rank]
            mine = _pass(models, frozenset(missing), pieces, placed, collate, budget, progress)
            seen = _reordered(concatenate(strategy.gather(mine)), rows)
            for wanted in missing:
                answers[wanted] = seen[wanted]
                if kept is not None and strategy.rank == 0:
                    kept.keep_flat(wanted, rows, seen[wanted])
        for need in generated:
            assert tokenizer is not None
            rows = rows_of[need.role]
            texts = None if kept is None else kept.continuations(need, rows)
            if not all(strategy.gather(texts is not None)):
                each = need.decoding.samples if isinstance(need.decoding, Sampling) else 1
                pieces = share(rows, max(1, max_tokens // each), strategy.size, cost=placed.cut_cost)[strategy.rank]
                written = _generation_pass(models, need, pieces, tokenizer, strategy, placed, progress)
                of_row = {name: one for part in strategy.gather(written) for name, one in part.items()}
                texts = Continuations(*zip(*(of_row[row.id] for row in rows), strict=True))
                if isinstance(models[need.of], TextGenerator):
                    texts = evolve(texts, tokens=())  # text is all there is
                if kept is not None and strategy.rank == 0:
                    kept.keep_continuations(need, rows, texts)
            assert texts is not None
            answers[need] = texts
        placed.rest()
    for asked in needs:
        if isinstance(asked, Texts):
            assert tokenizer is not None
            answers[asked] = row_texts(rows_of[asked.role], decoder(tokenizer))
    return Seen(
        answers,
        ids={role: tuple(row.id for row in rows) for role, rows in rows_of.items()},
        groups={role: tuple(row.group for row in rows) for role, rows in rows_of.items()},
    )


def record(
    model: Model | PreTrainedModel | PeftModel,
    needs: Needs,
    data: Mapping[str, Dataset[Row]],
    *,
    of: str = "reference",
    max_tokens: int = 8192,
    collate: Collate = collate_text,
    budget: HeadBudget = HeadBudget(),
    strategy: Strategy = Single(),
) -> Recording:
    """Record what `needs` want of the model called `of`, so that the recording can be passed in its place.

        reference = record(model, objective.needs, data)
        unlearn(model, objective, data, models={"reference": reference}, ...)

    Raises:
        NeedError: `needs` want nothing of that model.
        RecordingError: they want something that cannot be recorded (comparisons, hidden states, generation).
    """
    wanted = [need for need in asked_of_models(needs) if need.of == of]
    if not wanted:
        raise NeedError(f"nothing is needed of {of!r}: there is nothing to record. Needs name {_names(needs)}.")
    wrapped = as_model(model)
    if not isinstance(wrapped, nn.Module):
        raise NeedError(f"{type(model).__name__} is no torch module, so it has no weights to take a fingerprint of.")
    columns = []
    for need in wanted:
        if not isinstance(need, Tokens):
            Recording("", {}, {}).check(need)  # says why it cannot be recorded
        else:
            columns.append(evolve(need, of="model"))
    known_by = strategy.gather(fingerprint(strategy.weights(_plain(wrapped))))[0]
    seen = gather(
        {"model": wrapped},
        frozenset(columns),
        data,
        max_tokens=max_tokens,
        collate=collate,
        budget=budget,
        strategy=strategy,
    )
    return Recording(
        known_by,
        {
            Entry.of(need): {
                name: value.cpu().clone() for name, value in zip(seen.ids[need.role], seen[need].split(), strict=True)
            }
            for need in columns
        },
        {role: {row.id: digest(row) for row in all_rows(data[role])} for role in {need.role for need in columns}},
    )


def _plain(model: nn.Module) -> nn.Module:
    """The module whose fingerprint a user can take: the transformers model inside the library's own wrapper."""
    inner = getattr(model, "model", None)
    return inner if isinstance(inner, PreTrainedModel) else model


def _names(needs: Needs) -> str:
    return ", ".join(sorted({need.of for need in asked_of_models(needs)})) or "no model"


def _missing(metric: Metric, models: Models, data: Mapping[str, Dataset[Row]]) -> str | None:
    """Why a metric cannot be measured with what was given."""
    if absent := sorted({need.role for need in metric.needs} - data.keys()):
        return f"no data set {', '.join(absent)}"
    if unnamed := sorted({need.of for need in asked_of_models(metric.needs)} - models.keys()):
        return f"no model or recording named {', '.join(unnamed)}"
    for need in sorted(asked_of_models(metric.needs), key=repr):
        source = models[need.of]
        if isinstance(source, Recording):
            try:
                source.check(need)
            except RecordingError as lacking:
                return str(lacking)
    return None


def _identities(models: Models, needs: Needs, strategy: Strategy) -> dict[str, str]:
    """What kept answers know each model by. Every rank has to call this."""
    known = {}
    for name in sorted({need.of for need in asked_of_models(needs)} | {"model"}):
        if (model := models.get(name)) is not None:
            weights = strategy.weights(_plain(model)) if isinstance(model, nn.Module) else {}
            known[name] = strategy.gather(identity(name, model, weights))[0]
    return known


def _language(tokenizer: PreTrainedTokenizerBase | None, models: Models, generated: Sequence[Generated]) -> str:
    """A digest of what text depends on beside a model's weights."""
    if tokenizer is None or not generated:
        return ""
    ends = {}
    for need in generated:
        model = models[need.of]
        if not isinstance(model, Recording):
            ends[need.of] = sorted(end_tokens(tokenizer, model))
    return f"{tokenizer_hash(tokenizer)} {sorted(ends.items())}"


def _pass(
    models: Models,
    needs: Needs,
    pieces: Sequence[Sequence[Row]],
    placed: Placed,
    collate: Collate,
    budget: HeadBudget,
    progress: Progress | None,
) -> Seen:
    """One teacher-forced pass over these batches."""
    parts, done = [], 0
    total = sum(row.role != GHOST for piece in pieces for row in piece)
    for piece in pieces:
        parts.append(on_cpu(observe(models, piece, needs, collate=collate, budget=budget, through=placed)))
        done += sum(row.role != GHOST for row in piece)
        if progress is not None:
            progress(next(iter(needs)).role, done, total)
    return concatenate(parts)


def on_cpu(seen: Seen) -> Seen:
    """The same answers in main memory: a data set's need not lie on the device, where metrics may lack float64."""
    answers: dict[Need, Answer] = {}
    for need in seen.answers:
        if isinstance(need, TokenNeed):
            flat = seen[need]
            answers[need] = Flat(flat.values.cpu(), flat.row.cpu(), flat.rows)
    return evolve(seen, answers=answers)


def _reordered(seen: Seen, rows: Sequence[Row]) -> Seen:
    """The answers in the order of a data set's rows; within a row nothing moves."""
    place = {row.id: number for number, row in enumerate(rows)}
    answers: dict[Need, Answer] = {}
    for need in seen.answers:
        if isinstance(need, TokenNeed):
            flat = seen[need]
            order = torch.tensor([place[name] for name in seen.ids[need.role]])
            row, where = order[flat.row].sort(stable=True)
            answers[need] = Flat(flat.values[where], row, flat.rows)
    return evolve(seen, answers=answers)


class _Written(NamedTuple):
    """One row of `Continuations`."""

    text: str
    reference: str
    samples: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]


def _generation_pass(
    models: Models,
    need: Generated,
    pieces: Sequence[Sequence[Row]],
    tokenizer: PreTrainedTokenizerBase,
    strategy: Strategy,
    placed: Placed,
    progress: Progress | None,
) -> dict[str, _Written]:
    """What is generated for each row of these batches, by id. Ranks generate in step."""
    model = models[need.of]
    assert not isinstance(model, Recording)
    decode = decoder(tokenizer)
    ends = end_tokens(tokenizer, model)
    written: dict[str, _Written] = {}
    for piece in pieces:
        texts = continuations(
            model,
            piece,
            need,
            end_tokens=ends,
            decode=decode,
            through=placed,
            done_together=lambda done: all(strategy.gather(done)),
        )
        written |= {
            row.id: _Written(
                texts.texts[place],
                texts.references[place],
                texts.samples[place],
                texts.tokens[place] if texts.tokens else (),
            )
            for place, row in enumerate(piece)
            if row.role != GHOST
        }
        if progress is not None:
            total = sum(row.role != GHOST for piece in pieces for row in piece)
            progress(f"{need.role}, generating", len(written), total)
    return written
