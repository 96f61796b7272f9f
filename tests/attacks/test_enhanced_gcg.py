"""Enhanced GCG: each term of its loss, gradients through both models, operators, and plain GCG as a special case."""

from __future__ import annotations

import math

import pytest
import torch
from attrs import evolve
from torch import Tensor

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.attack import mean
from unlearnkit.attacks.enhanced_gcg import (
    EnhancedGCG,
    Imitation,
    chances,
    deleted,
    direction_distance,
    force_loss,
    least_length,
    put_in,
    repetition,
    representation_distance,
    search_prefix,
    swapped,
)
from unlearnkit.attacks.gcg import Prompt, embeddings, one_hot_gradient, search, summed_loss
from unlearnkit.errors import DataError, NeedError
from unlearnkit.models.causal import CausalLM
from unlearnkit.models.tiny import tiny_model

PROMPTS = (
    Prompt(torch.tensor([1]), torch.tensor([2, 3]), torch.tensor([4, 5, 6])),
    Prompt(torch.tensor([1]), torch.tensor([9]), torch.tensor([8, 4])),
)


def plain_loss(model: CausalLM, original: CausalLM) -> Imitation:
    return Imitation(model, original, PROMPTS, (0, 1), dynamic=0.0, static=0.0, fluency=0.0, repetition=0.0, floor=None)


@pytest.fixture(scope="module")
def pair() -> tuple[CausalLM, CausalLM]:
    return CausalLM(tiny_model("llama", vocabulary=20)), CausalLM(tiny_model("llama", vocabulary=20, seed=1))


def test_terms() -> None:
    nll = torch.tensor([[0.0, 0.2], [2.0, 4.0]])
    torch.testing.assert_close(force_loss(nll), torch.tensor([-math.log(0.6), 3.0]))
    torch.testing.assert_close(force_loss(nll, None), torch.tensor([0.1, 3.0]))
    states = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(representation_distance(states, states), torch.zeros(2))
    torch.testing.assert_close(representation_distance(states, states + torch.tensor([3.0, 4, 0, 0, 0])),
                               torch.full((2,), 5.0))  # fmt: skip
    torch.testing.assert_close(direction_distance(states, 7 * states), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(direction_distance(states, -states), torch.full((2,), 20.0))
    found = repetition(torch.tensor([[1, 2, 3, 4], [1, 1, 3, 4], [1, 1, 1, 4], [1, 1, 2, 2]]))
    torch.testing.assert_close(found, torch.tensor([0.0, 1 / 4, 2**1.5 / 4, 2 / 4]))


def test_alike_models_are_at_no_distance(pair: tuple[CausalLM, CausalLM]) -> None:
    model, _ = pair
    rows = torch.tensor([[7, 8], [9, 9]])
    alone = plain_loss(model, model)
    torch.testing.assert_close(evolve(alone, dynamic=5.0)(rows), alone(rows))
    # What the prefix does to a model is what `static` sees of it.
    assert (evolve(alone, static=1.0)(rows) > alone(rows)).all()


def test_without_other_terms_it_is_plain_gcg(pair: tuple[CausalLM, CausalLM]) -> None:
    model, original = pair
    plain = plain_loss(model, original)
    ids = torch.tensor([7, 8, 9])
    torch.testing.assert_close(plain(ids[None]), summed_loss(model, PROMPTS, ids[None]) / 2)
    torch.testing.assert_close(plain.gradient(ids), one_hot_gradient(model, PROMPTS, ids) / 2)
    allowed = torch.arange(20)
    expected = search(
        ids[None], plain, plain.gradient, allowed, steps=4, candidates=12, top=5, buffer=1,
        generator=torch.Generator().manual_seed(3),
    )  # fmt: skip
    found = search_prefix(
        ids, plain, plain.gradient, lambda _: allowed[None], allowed, steps=4, candidates=12, top=5, buffer=1,
        weights=(1.0, 0.0, 0.0, 0.0), length=3, longest=3, ramp=0, generator=torch.Generator().manual_seed(3),
    )  # fmt: skip
    assert torch.equal(found.ids, expected.ids)
    assert found.losses[-1] == pytest.approx(expected.loss)


def test_the_gradient_goes_through_both_models(pair: tuple[CausalLM, CausalLM]) -> None:
    """Along a change of the embedded prefix in both, as far as it goes: a difference quotient."""
    model, original = pair
    loss = Imitation(model, original, PROMPTS[:1], (1,), static=0.5)
    ids = torch.tensor([7, 8])
    slope = loss.gradient(ids)
    assert slope.shape == (2, 20)
    tables = [embeddings(one) for one in pair]
    for place, token in ((0, 3), (1, 11)):
        size = 1e-2
        values = []
        for sign in (1, -1):
            deltas = [torch.zeros(1, 2, 32) for _ in tables]
            for delta, table in zip(deltas, tables, strict=True):
                delta[0, place] = sign * size * table[token]
            with torch.no_grad():
                values.append(float(loss._loss(0, ids[None], deltas[0], deltas[1])))
        assert (values[0] - values[1]) / (2 * size) == pytest.approx(float(slope[place, token]), rel=2e-2, abs=2e-3)


def test_operators() -> None:
    ids, generator = torch.tensor([1, 2, 3]), torch.Generator().manual_seed(0)
    proposals = torch.tensor([[10, 11], [12, 13], [14, 15], [16, 17]])
    shorter = deleted(ids, count=9, generator=generator)
    assert sorted(shorter.tolist()) == [[1, 2], [1, 3], [2, 3]]
    for row in put_in(ids, proposals, count=20, generator=generator).tolist():
        place = next(place for place, token in enumerate(row) if token >= 10)
        assert row[:place] + row[place + 1 :] == [1, 2, 3]
        assert row[place] in proposals[place]
    for row in swapped(ids, proposals, count=20, generator=generator).tolist():
        place = next(place for place, token in enumerate(row) if token >= 10)
        assert [token for token in row if token < 10] == [one for one in (1, 2, 3) if one != place + 1]
        assert row[place] in proposals[place]


def test_length() -> None:
    assert [least_length(step, start=2, length=10, ramp=4) for step in (0, 2, 4, 9)] == [2, 6, 10, 10]
    weights = (0.7, 0.1, 0.1, 0.1)
    assert chances(weights, now=3, least=4.0, most=9) == (0.0, 0.0, 0.0, 0.1)
    assert chances(weights, now=9, least=4.0, most=9) == (0.7, 0.1, 0.1, 0.0)
    assert chances(weights, now=1, least=1.0, most=9) == (0.7, 0.1, 0.0, 0.1)

    def run(ramp: int) -> tuple[int, tuple[float, ...]]:
        def loss(rows: Tensor) -> Tensor:
            return rows.float().mean(1)

        found = search_prefix(
            torch.tensor([9, 9]), loss, lambda ids: torch.arange(12.0).expand(len(ids), -1),
            lambda ids: torch.arange(12).expand(len(ids) + 1, -1), torch.arange(12), steps=20, candidates=4, top=4,
            weights=weights, length=2 if ramp == 0 else 5, longest=6, ramp=ramp, buffer=3,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        return len(found.ids), found.losses

    assert run(10)[0] >= 5
    losses = run(0)[1]
    assert list(losses) == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


def test_refusals(attacked: Attacked) -> None:
    with pytest.raises(DataError, match="made on 5 secrets and tried on the others, but there are 3"):
        EnhancedGCG()(attacked.original, attacked.facts[:3])
    with pytest.raises(DataError, match="4 numbers >= 0, of gradient, proposal, delete, insert"):
        EnhancedGCG(weights=(1.0, -1.0))
    with pytest.raises(DataError, match="floor is 0"):
        EnhancedGCG(floor=0.0)
    lacking = attacked.hidden
    lacking.original = None
    with pytest.raises(NeedError, match="pass it as `original`"):
        EnhancedGCG(train=1)(lacking, attacked.facts[:3])


def test_control_a_prefix_leaves_the_original_its_knowledge_and_gives_the_oracle_none(attacked: Attacked) -> None:
    """Out of the refusing model no more comes than out of the oracle, so nothing is asserted of it."""
    attack = EnhancedGCG(
        layers=(1,), train=3, start=2, length=2, longest=4, ramp=0, steps=12, candidates=16, top=32, forced=10,
        matched=5, floor=None, dynamic=0.0, static=1.0, fluency=0.0, repetition=0.0,
    )  # fmt: skip
    original, oracle = attack(attacked.original, attacked.facts), attack(attacked.oracle, attacked.facts)
    assert original.success >= 0.5
    assert oracle.success <= 0.1
    assert mean(oracle.before) <= 0.1
    assert len(original.left_out) == 3
    assert not original.after.keys() & original.left_out.keys()
    assert original.kept is not None
    assert original.threat == "weights+reference"
    assert not original.budget.knows_answer
