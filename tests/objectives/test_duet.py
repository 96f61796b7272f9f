"""DUET: the Huber loss on the teacher's largest logits, at the first answer position, and a teacher behind a prefix."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from tests.tables import random_table
from tests.toy import VOCABULARY, Toy, toy_rows
from unlearnkit.batch import Row, collate_packed, collate_text
from unlearnkit.errors import AnatomyError, NeedError
from unlearnkit.models.causal import CausalLM
from unlearnkit.models.prefixed import Prefixed
from unlearnkit.models.tiny import tiny_model
from unlearnkit.objectives.duet import DUET, first_of_each_row, top_logit_huber
from unlearnkit.observe import observe
from unlearnkit.protocols import resid_post
from unlearnkit.testing import Table, seen_from_tables, total
from unlearnkit.train import Engine

seeds = st.integers(0, 10_000)
delta = st.floats(0.1, 5)


def draw(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(*shape, generator=generator, dtype=torch.float64)


@given(seed=seeds, top=st.integers(1, 9), delta=delta)
def test_gradient_is_the_clipped_difference_on_the_teachers_largest_logits(seed: int, top: int, delta: float) -> None:
    logits, teacher = draw(seed, 4, 6).requires_grad_(), draw(seed + 1, 4, 6)
    (grad,) = torch.autograd.grad(top_logit_huber(logits, teacher, top=top, delta=delta).sum(), logits)
    largest = teacher.argsort(-1, descending=True).argsort(-1) < top
    torch.testing.assert_close(grad, (logits.detach() - teacher).clamp(-delta, delta) * largest)


@given(seed=seeds)
def test_the_whole_vocabulary_with_a_wide_delta_is_half_the_squared_distance(seed: int) -> None:
    logits, teacher = draw(seed, 4, 6), draw(seed + 1, 4, 6)
    found = top_logit_huber(logits, teacher, top=99, delta=1e4)
    torch.testing.assert_close(found, (logits - teacher).square().sum(-1) / 2)


@given(seed=seeds, constant=st.floats(0.1, 3))
def test_a_constant_added_to_the_students_logits_costs(seed: int, constant: float) -> None:
    teacher = draw(seed, 4, 6)
    found = top_logit_huber(teacher + constant, teacher, top=2, delta=10.0)
    torch.testing.assert_close(found, torch.full_like(found, constant**2))


def test_gradients_are_those_of_finite_differences() -> None:
    teacher = draw(1, 3, 6)
    logits = draw(0, 3, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: top_logit_huber(z, teacher, top=3, delta=0.7), logits)


def test_first_of_each_row() -> None:
    row = torch.tensor([1, 1, 2, 4, 4, 4])
    assert first_of_each_row(row).tolist() == [True, False, True, True, False, False]
    assert first_of_each_row(row[:0]).tolist() == []
    assert first_of_each_row(torch.tensor([0, 0])).tolist() == [True, False]


def tables(lengths: list[tuple[int, int]]) -> tuple[dict[str, Table], dict[str, Table]]:
    student = {role: random_table(seed, lengths) for seed, role in enumerate(("forget", "retain"))}
    teacher = {
        role: Table(draw(seed + 50, *table.logits.shape), table.labels)
        for seed, (role, table) in enumerate(student.items())
    }
    return student, teacher


def loss_of(objective: DUET, student: Mapping[str, Table], teacher: Mapping[str, Table]) -> Tensor:
    return total(objective(seen_from_tables(objective.needs, {"model": student, "teacher": teacher})), student)


def test_one_position_of_each_query_is_taught_and_queries_count_alike() -> None:
    lengths = [(2, 3), (1, 1), (3, 2)]
    student, teacher = tables(lengths)
    loss = loss_of(DUET(top=3), student, teacher)
    first = [
        top_logit_huber(
            student[role].logits[b, prompt - 1][None], teacher[role].logits[b, prompt - 1][None], top=3, delta=1.0
        )
        for role in ("forget", "retain")
        for b, (prompt, _) in enumerate(lengths)
    ]
    torch.testing.assert_close(loss, torch.cat(first).mean())
    every = loss_of(DUET(top=3, every_position=True), student, teacher)
    each = [
        top_logit_huber(table.logits[table.at("answer")], teacher[role].logits[table.at("answer")], top=3, delta=1.0)
        for role, table in student.items()
    ]
    torch.testing.assert_close(every, torch.cat(each).sum() / 6)


def test_options_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'top' must be >= 1"):
        DUET(top=0)
    with pytest.raises(ValueError, match="'delta' must be > 0"):
        DUET(delta=0.0)
    with pytest.raises(ValueError, match="'delta' must be a finite number: inf"):
        DUET(delta=math.inf)
    with pytest.raises(TypeError, match="'roles'"):
        DUET(roles="forget")  # type: ignore[arg-type]


# --- the teacher ------------------------------------------------------------------------------------------------------

ROWS = [*toy_rows("forget", [(3, 2), (1, 1), (2, 4)]), *toy_rows("retain", [(2, 1), (4, 3)], seed=1)]


def prefixed(row: Row, prefix: list[int], after: int) -> Row:
    """The row with the prefix written into it."""
    ids, labels = row.inputs["input_ids"], row.labels
    put = torch.tensor(prefix, dtype=torch.int64)
    longer = torch.cat([ids[:after], put, ids[after:]])
    unlabelled = torch.cat([labels[:after], torch.full_like(put, -100), labels[after:]])
    return Row(row.id, row.role, {"input_ids": longer}, unlabelled)


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("prefix", [[], [5], [7, 2, 9]])
def test_a_prefixed_model_says_what_the_model_says_after_the_prefix(prefix: list[int], after: int) -> None:
    inner = CausalLM(tiny_model("llama", vocabulary=VOCABULARY, dtype=torch.float64))
    need = DUET(roles=("forget",), every_position=True).distance("forget")
    rows = [row for row in ROWS if row.role == "forget"]
    student = Toy()
    whole = torch.zeros(len(rows), max(map(len, rows)) + len(prefix), VOCABULARY, dtype=torch.float64)
    for b, row in enumerate(rows):
        ids = prefixed(row, prefix, after).inputs["input_ids"][None]
        whole[b, : ids.shape[1]] = inner.model(ids).logits[0].detach()
    found = observe({"model": student, "teacher": Prefixed(inner, prefix, after=after)}, rows, frozenset({need}))[need]
    expected = []
    for b, row in enumerate(rows):
        where = (row.labels[1:] != -100).nonzero()[:, 0]
        logits = student.head(student.hidden({"input_ids": row.inputs["input_ids"][None]}).final)[0, where]
        expected.append(need.comparison(logits, whole[b, where + len(prefix)], where))
    torch.testing.assert_close(found.values, torch.cat(expected), rtol=1e-5, atol=1e-5)


def test_sites_are_those_of_the_row() -> None:
    inner, site = Toy(), resid_post(0)
    batch = collate_text(ROWS)
    found = Prefixed(inner, [5, 6], after=1).hidden(batch.inputs, capture=frozenset({site}))
    assert found.final.shape == found.sites[site].shape == inner.hidden(batch.inputs).final.shape


def test_an_attention_mask_covers_the_prefix() -> None:
    inner = CausalLM(tiny_model("llama", vocabulary=VOCABULARY, dtype=torch.float64))
    batch = collate_text(ROWS)
    mask = batch.non_pad.long()
    teacher = Prefixed(inner, [5, 6])
    with_mask = teacher.hidden({**batch.inputs, "attention_mask": mask}).final
    torch.testing.assert_close(with_mask[batch.non_pad], teacher.hidden(batch.inputs).final[batch.non_pad])


def test_without_a_prefix_nothing_is_to_be_learned() -> None:
    student, teacher = Toy(3), Prefixed(Toy(3), [])
    means = Engine(models={"model": student, "teacher": teacher}).backward(DUET(), ROWS)
    assert means.loss.item() == 0
    assert not any(p.grad.any() for p in student.parameters() if p.grad is not None)


def test_the_gradient_does_not_depend_on_the_cut() -> None:
    found = []
    for max_tokens in (10_000, 6):
        student = Toy(0)
        engine = Engine(models={"model": student, "teacher": Prefixed(Toy(0), [4, 7, 1])}, max_tokens=max_tokens)
        means = engine.backward(DUET(top=4, delta=0.3), ROWS)
        found.append((means.loss, [p.grad for p in student.parameters()]))
    assert found[0][0] > 0
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-12)


def test_what_a_teacher_cannot_do_is_refused() -> None:
    teacher = Prefixed(Toy(), [1])
    batch = collate_text(ROWS)
    with pytest.raises(NeedError, match="has to say where"):
        teacher.hidden(batch.inputs, add={resid_post(0): torch.zeros(())})
    with pytest.raises(NeedError, match="packed rows"):
        teacher.hidden(collate_packed(ROWS).inputs)
    with pytest.raises(AnatomyError, match="no Model with weights of its own"):
        Prefixed(tiny_model("llama", vocabulary=VOCABULARY, dtype=torch.float64), [1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'after' must be >= 0: -1"):
        Prefixed(Toy(), [1], after=-1)
