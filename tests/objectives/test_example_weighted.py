"""Weighted examples: weights of one, linearity, zero weights, pairs, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import pytest
import torch
from attrs import evolve, frozen
from torch import Tensor

from tests.objectives.conformance import loss_of
from tests.tables import random_table
from unlearnkit.errors import LossError
from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.objectives.dpo import DPO
from unlearnkit.objectives.example_weighted import ExampleWeighted
from unlearnkit.objectives.grad_diff import GradDiff
from unlearnkit.objectives.gradient_ascent import GradientAscent
from unlearnkit.objectives.idk import IdkNLL
from unlearnkit.objectives.npo import NPO
from unlearnkit.objectives.retain_kl import RetainKL
from unlearnkit.objectives.rmu import RMU
from unlearnkit.objectives.satimp import SatImp
from unlearnkit.objectives.simnpo import SimNPO
from unlearnkit.objectives.wga import WGA
from unlearnkit.protocols import (
    Additive,
    Generated,
    Greedy,
    Loss,
    Needs,
    Objective,
    Seen,
    Stateful,
    Term,
    Tokens,
    changes,
    resid_post,
)
from unlearnkit.statistics import LabelLogProb
from unlearnkit.testing import Table, seen_from_tables, total

LENGTHS = [(1, 3), (2, 1), (2, 0), (2, 4)]
"""Prompt and answer tokens of four rows; one has no answer."""

SITE = resid_post(1)


def table(seed: int, lengths: list[tuple[int, int]], groups: tuple[str, ...]) -> Table:
    drawn = random_table(seed, lengths)
    hidden = torch.randn(*drawn.labels.shape, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return evolve(drawn, sites={SITE: hidden.requires_grad_()}, groups=groups)


def step(*, grouped: bool = True) -> dict[str, dict[str, Table]]:
    """Four forget rows, two of one group, a refusal for each group; retain rows in groups of their own or paired."""
    groups = ("a", "b", "c", "b")
    retain = groups if grouped else ("p", "q", "r", "s")
    lengths = {"forget": LENGTHS, "idk": [(1, 2), (2, 2), (1, 1)], "retain": [(2, 2), (1, 3), (1, 1), (2, 0)]}
    of_role = {"forget": groups, "idk": ("c", "b", "a"), "retain": retain}
    model = {role: table(n, lengths[role], of_role[role]) for n, role in enumerate(lengths)}
    reference = {
        role: evolve(mine, logits=mine.logits.detach().flip(-1), sites={SITE: mine.sites[SITE].detach() + 1})
        for role, mine in model.items()
    }
    return {"model": model, "reference": reference}


def weighted_loss(
    objective: Objective, tables: Mapping[str, Mapping[str, Table]], weights: list[float], role: str = "forget"
) -> Tensor:
    model = tables["model"]
    given = torch.tensor(weights, dtype=torch.float64)[:, None].expand(model[role].labels.shape)
    marked = {role: evolve(model[role], given={"weight": given})}
    wrapped = ExampleWeighted(objective, role)
    return total(wrapped(seen_from_tables(wrapped.needs, {**tables, "weights": marked})), model)


def gradients(loss: Tensor, tables: Mapping[str, Mapping[str, Table]]) -> dict[str, Tensor]:
    """Of logits and hidden states, by role."""
    found = {}
    for role, each in tables["model"].items():
        leaves = [each.logits, each.sites[SITE]]
        grads = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True, retain_graph=True)
        found[role] = torch.cat(grads, -1)
    return found


OBJECTIVES = [
    GradientAscent(),
    GradientAscent(reduction="sequence_mean"),
    NPO(beta=0.7),
    SimNPO(beta=0.7),
    DPO(beta=0.7),
    WGA(),
    SatImp(granularity="instance"),
    SatImp(granularity="group", group_size=2),
    GradDiff(retain_weight=2.0),
    DPO() + 0.5 * CrossEntropy(),
    NPO() + RetainKL(),
    RMU(layer=1, hidden_size=3),
]
every_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
pairing = pytest.mark.parametrize("grouped", [True, False])


@every_objective
@pairing
def test_weights_of_one_are_the_objective_itself(objective: Objective, grouped: bool) -> None:
    tables = step(grouped=grouped)
    expected = loss_of(objective, tables["model"], tables["reference"])
    found = weighted_loss(objective, tables, [1.0] * 4)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients(found, tables), gradients(expected, tables), rtol=1e-12, atol=1e-12)


@every_objective
@pairing
def test_linear_in_the_weights(objective: Objective, grouped: bool) -> None:
    tables = step(grouped=grouped)
    one, other, mixed = [0.5, 2.0, 1.0, -1.0], [3.0, 0.1, 1.0, 0.7], [1.75, 1.05, 1.0, -0.15]
    losses = [weighted_loss(objective, tables, weights) for weights in (one, other, mixed)]
    torch.testing.assert_close(losses[2], (losses[0] + losses[1]) / 2)
    first, second, found = (gradients(loss, tables) for loss in losses)
    torch.testing.assert_close(found, {role: (first[role] + second[role]) / 2 for role in found})


@every_objective
def test_a_row_of_weight_zero_gets_no_gradient(objective: Objective) -> None:
    tables = step()
    found = gradients(weighted_loss(objective, tables, [0.0, 1.0, 1.0, 1.0]), tables)["forget"]
    assert not found[0].any()
    assert found[1].any()
    assert found[3].any()


@every_objective
def test_a_row_pulls_as_hard_as_its_weight(objective: Objective) -> None:
    tables = step()
    expected = gradients(loss_of(objective, tables["model"], tables["reference"]), tables)
    found = gradients(weighted_loss(objective, tables, [0.5, 2.0, 1.0, 3.0]), tables)
    torch.testing.assert_close(found["forget"], expected["forget"] * torch.tensor([0.5, 2.0, 1.0, 3.0])[:, None, None])
    torch.testing.assert_close(found["retain"], expected["retain"])


def test_both_rows_of_a_pair_share_the_weight() -> None:
    tables = step()
    expected = gradients(loss_of(DPO(), tables["model"], tables["reference"]), tables)["idk"]
    found = gradients(weighted_loss(DPO(), tables, [0.5, 4.0, 1.0, 4.0]), tables)["idk"]
    torch.testing.assert_close(found, expected * torch.tensor([1.0, 4.0, 0.5])[:, None, None])


def test_of_a_mean_over_two_roles_only_the_one_is_weighted() -> None:
    tables = step()
    objective = IdkNLL(joint_mean=True)
    expected = gradients(loss_of(objective, tables["model"]), tables)
    found = gradients(weighted_loss(objective, tables, [2.0, 0.0, 1.0], "idk"), tables)
    torch.testing.assert_close(found["idk"], expected["idk"] * torch.tensor([2.0, 0.0, 1.0])[:, None, None])
    torch.testing.assert_close(found["retain"], expected["retain"], rtol=1e-12, atol=1e-12)


def test_terms_keep_their_names_units_and_weights() -> None:
    tables = step()
    objective = GradDiff(forget_weight=3.0, retain_weight=2.0)
    wrapped = ExampleWeighted(objective)
    model = tables["model"]
    marked = {"forget": evolve(model["forget"], given={"weight": torch.ones(model["forget"].labels.shape)})}
    seen = seen_from_tables(wrapped.needs, {**tables, "weights": marked})
    plain, found = objective(seen), wrapped(seen)
    assert [(term.name, term.per, term.weight) for term in found] == [
        (term.name, term.per, term.weight) for term in plain
    ]
    assert all(term.value.dtype == torch.float64 for term in found)


def test_a_term_that_is_no_sum_is_refused() -> None:
    with pytest.raises(LossError, match=r"term 'satimp' of SatImp.* is no sum over rows"):
        weighted_loss(SatImp(granularity="batch"), step(), [1.0] * 4)


def test_a_role_that_no_term_counts_is_refused() -> None:
    with pytest.raises(LossError, match=r"no term of DPO.* is counted over 'idk'.*counted over \['forget'\]"):
        weighted_loss(DPO(), step(), [1.0] * 3, "idk")


@frozen
class Reads(Additive):
    """Reads what was generated."""

    @property
    def needs(self) -> Needs:
        return frozenset({Generated(Greedy(), "forget"), Tokens(LabelLogProb(), "forget")})

    def __call__(self, seen: Seen) -> Loss:
        return GradientAscent()(seen)


def test_generated_text_is_refused() -> None:
    wrapped = ExampleWeighted(Reads())
    seen = seen_from_tables(GradientAscent().needs, step())
    with pytest.raises(LossError, match="asks for text"):
        wrapped(seen)


@frozen
class Counting(Additive):
    """Changes after every step."""

    steps: int = 0

    @property
    def needs(self) -> Needs:
        return GradientAscent().needs

    def __call__(self, seen: Seen) -> Loss:
        return Loss(*(Term(term.name, (1 + self.steps) * term.value, term.per) for term in GradientAscent()(seen)))

    def after_step(self, means: Mapping[str, float]) -> Self:
        return evolve(self, steps=self.steps + 1)


def test_an_objective_that_changes_goes_on_changing() -> None:
    wrapped = ExampleWeighted(Counting())
    assert isinstance(wrapped, Stateful)
    assert changes(wrapped)
    assert wrapped.after_step({"ga": 0.0}) == ExampleWeighted(Counting(1))
    assert ExampleWeighted(NPO()).after_step({}) == ExampleWeighted(NPO())
