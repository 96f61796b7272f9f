"""`observe` against the plain definition: full logits of one padded batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.toy import VOCABULARY, Toy, toy_rows
from unlearnkit.batch import Row, collate_text
from unlearnkit.errors import MissingModelError, NeedError
from unlearnkit.observe import HeadBudget, concatenate, observe
from unlearnkit.protocols import Captured, Compared, Flat, Generated, Greedy, Needs, TokenNeed, Tokens, resid_post
from unlearnkit.statistics import LabelLogProb, TopHit
from unlearnkit.testing import Table, seen_from_tables


@frozen
class Entropy:
    """Entropy of the next-token distribution: needs no labels."""

    uses_labels = False

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        log_probs = logits.log_softmax(-1)
        return -(log_probs.exp() * log_probs).sum(-1)


@frozen
class Moments:
    """First two moments of the log-probs: a statistic with two columns."""

    uses_labels = False

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        log_probs = logits.log_softmax(-1)
        return torch.stack([log_probs.mean(-1), log_probs.square().mean(-1)], -1)


@frozen
class KL:
    """KL(reference || model)."""

    uses_labels = False

    def __call__(self, logits: Tensor, reference_logits: Tensor, labels: Tensor) -> Tensor:
        reference = reference_logits.log_softmax(-1)
        return (reference.exp() * (reference - logits.log_softmax(-1))).sum(-1)


NEEDS: tuple[TokenNeed, ...] = (
    Tokens(LabelLogProb(), "forget"),
    Tokens(LabelLogProb(), "forget", positions="text"),
    Tokens(LabelLogProb(), "forget", of="reference"),
    Tokens(TopHit(), "retain"),
    Tokens(Entropy(), "retain", positions="non_pad"),
    Tokens(Moments(), "forget", positions="non_pad"),
    Compared(KL(), "retain", positions="non_pad"),
    Compared(KL(), "forget"),
    Captured(resid_post(0), "retain"),
    Captured(resid_post(0), "forget", of="reference", positions="answer"),
)

lengths = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 4)), min_size=0, max_size=4)
TINY = HeadBudget(chunk_bytes=8 * VOCABULARY * 3, kept_bytes=0)


def tables(models: Mapping[str, Toy], rows: Sequence[Row], role: str) -> dict[str, Table]:
    """Full logits of a role's rows, one padded batch."""
    chosen = [row for row in rows if row.role == role]
    batch = collate_text(chosen)
    labels = torch.full_like(batch.targets, -100)
    for b, row in enumerate(chosen):
        labels[b, : len(row)] = row.labels
    found = {}
    for name, model in models.items():
        hidden = model.hidden(batch.inputs, capture=frozenset({resid_post(0)}))
        found[name] = Table(
            model.head(hidden.final),
            labels,
            batch.non_pad,
            sites=hidden.sites,
            ids=tuple(row.id for row in chosen),
            tokens=batch.inputs["input_ids"],
        )
    return found


def gradients(values: Tensor, model: Toy) -> dict[str, Tensor]:
    """Of the parameters that the values depend on."""
    names = dict(model.named_parameters())
    found: tuple[Tensor | None, ...] = torch.autograd.grad(
        values.sum(), list(names.values()), retain_graph=True, allow_unused=True
    )
    return {name: gradient for name, gradient in zip(names, found, strict=True) if gradient is not None}


@given(forget=lengths, retain=lengths, needs=st.sets(st.sampled_from(NEEDS), min_size=1), kept=st.booleans())
def test_equals_the_definition(
    forget: list[tuple[int, int]], retain: list[tuple[int, int]], needs: set[TokenNeed], kept: bool
) -> None:
    """Any mix of needs, chunked or not, recomputed or kept: values and gradients are those of the full logits."""
    rows = [*toy_rows("forget", forget), *toy_rows("retain", retain, seed=1)]
    rows = rows[::2] + rows[1::2]  # roles mixed
    if not rows:
        return
    models = {"model": Toy(0), "reference": Toy(1)}
    seen = observe(models, rows, frozenset(needs), budget=HeadBudget() if kept else TINY)
    present = {row.role for row in rows}
    for need in needs:
        if need.role not in present:
            assert seen[need].rows == len(seen[need].row) == len(seen[need].values) == 0
    asked: Needs = frozenset(need for need in needs if need.role in present)
    of_role = {role: tables(models, rows, role) for role in present}
    plain = seen_from_tables(
        asked, {name: {role: found[name] for role, found in of_role.items()} for name in ("model", "reference")}
    )
    for need in (need for need in NEEDS if need in asked):
        got, expected = seen[need], plain[need]
        torch.testing.assert_close(got.values, expected.values.detach() if need.of != "model" else expected.values)
        assert got.row.tolist() == expected.row.tolist()
        assert got.rows == expected.rows
        assert seen.ids[need.role] == plain.ids[need.role]
        if len(got.row) and got.values.grad_fn is not None:
            ours, theirs = gradients(got.values, models["model"]), gradients(expected.values, models["model"])
            assert ours.keys() == theirs.keys()
            for name, gradient in ours.items():
                torch.testing.assert_close(gradient, theirs[name])


def test_no_chunk_is_larger_than_the_budget_and_each_position_goes_through_the_head_once() -> None:
    model = Toy()
    rows = toy_rows("forget", [(3, 6)] * 5)
    needs: Needs = frozenset(
        {Tokens(LabelLogProb(), "forget"), Tokens(TopHit(), "forget"), Tokens(Entropy(), "forget", positions="non_pad")}
    )
    seen_positions = []
    head = model.head

    def counting(hidden: Tensor) -> Tensor:
        seen_positions.append(len(hidden))
        return head(hidden)

    model.head = counting  # type: ignore[method-assign]
    with torch.no_grad():
        observe({"model": model}, rows, needs, budget=HeadBudget(chunk_bytes=8 * VOCABULARY * 4))
    assert max(seen_positions) == 4
    assert sum(seen_positions) == 5 * 9


def test_one_forward_pass_serves_all_roles_and_needs() -> None:
    models = {"model": Toy(0), "reference": Toy(1)}
    rows = [*toy_rows("forget", [(2, 3)] * 3), *toy_rows("retain", [(4, 1)] * 2)]
    observe(models, rows, frozenset(NEEDS))
    assert models["model"].calls == models["reference"].calls == 1


def test_only_the_model_gets_a_gradient() -> None:
    models = {"model": Toy(0), "reference": Toy(1)}
    seen = observe(models, toy_rows("forget", [(2, 3)] * 3), frozenset({NEEDS[0], NEEDS[2], NEEDS[7], NEEDS[9]}))
    assert seen[NEEDS[0]].values.requires_grad
    assert seen[NEEDS[7]].values.requires_grad
    assert not seen[NEEDS[2]].values.requires_grad
    assert not seen[NEEDS[9]].values.requires_grad


def test_a_role_without_rows_is_answered_with_nothing_attached_to_the_graph() -> None:
    model = Toy()
    need = Tokens(Moments(), "retain")
    flat = observe({"model": model}, toy_rows("forget", [(2, 2)]), frozenset({need}))[need]
    assert flat.values.shape == (0, 2)
    assert flat.rows == 0
    flat.values.sum().backward()
    assert model.readout.grad is not None
    assert not model.readout.grad.any()


def test_half_precision_logits_are_upcast_before_the_statistic() -> None:
    model = Toy().to(torch.bfloat16)
    need = Tokens(LabelLogProb(), "forget")
    assert (
        observe({"model": model}, toy_rows("forget", [(2, 2)]), frozenset({need}))[need].values.dtype == torch.float32
    )


@given(first=lengths.filter(bool), second=lengths.filter(bool))
def test_concatenated_parts_are_the_whole(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    rows = toy_rows("forget", first + second)
    need = Tokens(LabelLogProb(), "forget")
    models = {"model": Toy()}
    whole = observe(models, rows, frozenset({need}))
    parts = concatenate([observe(models, part, frozenset({need})) for part in (rows[: len(first)], rows[len(first) :])])
    torch.testing.assert_close(parts[need].values, whole[need].values)
    assert parts[need].row.tolist() == whole[need].row.tolist()
    assert parts.ids == whole.ids


def test_flat_sums_counts_and_splits() -> None:
    flat = Flat(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 0, 2]), 3)
    assert flat.sums().tolist() == [3.0, 0.0, 4.0]
    assert flat.counts().tolist() == [2, 0, 1]
    assert [part.tolist() for part in flat.split()] == [[1.0, 2.0], [], [4.0]]


def test_what_is_refused() -> None:
    rows = toy_rows("forget", [(2, 2)])
    with pytest.raises(MissingModelError, match=r"asks for 'reference'.*Pass models=\{'reference': \.\.\.\}"):
        observe({"model": Toy()}, rows, frozenset({NEEDS[2]}))
    with pytest.raises(NeedError, match="reads labels at 'non_pad' positions"):
        observe({"model": Toy()}, rows, frozenset({Tokens(LabelLogProb(), "forget", positions="non_pad")}))
    seen = observe({"model": Toy()}, rows, frozenset({NEEDS[0]}))
    with pytest.raises(NeedError, match="was not observed"):
        seen[Generated(Greedy(), "forget")]
