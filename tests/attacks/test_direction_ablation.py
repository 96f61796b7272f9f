"""Direction ablation: the geometry, hooks against weights, and what comes back without a direction that is no chance
one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st
from transformers import PreTrainedModel

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.attack import Target, mean
from unlearnkit.attacks.direction_ablation import (
    Ablated,
    DirectionAblation,
    DirectionKind,
    RefusalAblation,
    ablate,
    mean_difference,
    orthogonalized,
    outlier_tokens,
    principal_direction,
    refusal_score,
)
from unlearnkit.errors import AnatomyError, DataError, NeedError
from unlearnkit.models.causal import CausalLM
from unlearnkit.models.generate import generate
from unlearnkit.models.tiny import TINY_FAMILIES, tiny_model
from unlearnkit.protocols import Greedy, Model, Site, resid_post

IDS = torch.tensor([[3, 17, 40, 5, 9]])


def final_logits(model: Model) -> torch.Tensor:
    with torch.no_grad():
        return model.head(model.hidden({"input_ids": IDS, "position_ids": torch.arange(5)[None]}).final)


def test_micro_example() -> None:
    assert ablate(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 2.0])).tolist() == [3.0, 0.0]
    assert mean_difference(torch.tensor([[2.0, 0.0], [4.0, 0.0]]), torch.tensor([[1.0, 1.0]])).tolist() == [2.0, -1.0]
    with pytest.raises(DataError, match=r"length 0\.0 points nowhere"):
        ablate(torch.ones(2), torch.zeros(2))


@settings(deadline=None)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([-3.0, 0.01, 50.0]))
def test_what_is_left_is_at_right_angles_whatever_length_and_sign(seed: int, scale: float) -> None:
    states, direction = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    left = ablate(states, direction[0])
    assert float((left @ direction[0]).abs().max()) < 1e-12
    torch.testing.assert_close(ablate(left, direction[0]), left, atol=1e-12, rtol=0)
    torch.testing.assert_close(ablate(states, scale * direction[0]), left, atol=1e-12, rtol=0)


def test_the_principal_direction_is_that_of_standardised_states() -> None:
    draws = torch.Generator().manual_seed(0)
    shared = torch.randn(200, 1, generator=draws)
    states = torch.cat([100 * torch.randn(200, 1, generator=draws), shared, -shared], 1)
    found = principal_direction(states)
    torch.testing.assert_close(found.abs(), torch.tensor([0.0, 0.7071, 0.7071]), atol=0.15, rtol=0)
    assert float(found[1] * found[2]) < 0


def test_tokens_far_from_the_others_are_named() -> None:
    states = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    states[7] += 100
    assert outlier_tokens(states, range(50)) == {7}
    assert outlier_tokens(states, range(50), first=7) == frozenset()


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_one_direction_removed_everywhere_is_an_edit_of_weights(family: str) -> None:
    """Every family writes with a matrix that is found; the head is untied, and stays."""
    model: PreTrainedModel = tiny_model(family)
    draws = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):  # toys begin with none
                parameter.copy_(torch.randn(parameter.shape, generator=draws))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    direction = torch.randn(32, generator=torch.Generator().manual_seed(1))
    sites = [Site("embed")] + [Site(kind, layer) for layer in range(2) for kind in ("attn_out", "mlp_out")]
    hooks = Ablated(CausalLM(model), dict.fromkeys(sites, direction))
    changed = CausalLM(orthogonalized(model, direction))
    torch.testing.assert_close(final_logits(hooks), final_logits(changed), atol=2e-5, rtol=1e-4)
    assert float((final_logits(hooks) - final_logits(CausalLM(model))).abs().max()) > 1e-4
    blocks = Ablated(CausalLM(model), {resid_post(layer): direction for layer in range(2)})
    assert float((final_logits(blocks) - final_logits(changed)).abs().max()) > 1e-3  # not the same thing
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_ablated_model_is_a_model() -> None:
    """A block's output is captured without its direction; cached generation is what scoring says; hooks are gone."""
    inner = CausalLM(tiny_model("llama"))
    direction = torch.randn(32, generator=torch.Generator().manual_seed(2))
    plain = final_logits(inner)
    model = Ablated(inner, {resid_post(0): direction, Site("resid_pre", 1): direction})
    assert isinstance(model, Model)
    inputs = {"input_ids": IDS, "position_ids": torch.arange(5)[None]}
    with torch.no_grad():
        seen = model.hidden(inputs, capture=frozenset({resid_post(0)})).sites[resid_post(0)]
    assert float((seen @ direction).abs().max()) < 1e-4
    assert not torch.equal(final_logits(model), plain)
    assert torch.equal(final_logits(inner), plain)
    assert torch.equal(final_logits(Ablated(inner, {})), plain)
    (written,) = generate(model, [IDS[0]], Greedy(5), end_tokens=frozenset())
    ids = IDS[0].tolist()
    for token in written:
        row = torch.tensor([ids])
        with torch.no_grad():
            final = model.hidden({"input_ids": row, "position_ids": torch.arange(len(ids))[None]}).final
        assert int(model.head(final[:, -1]).argmax()) == token
        ids.append(token)
    with pytest.raises(AnatomyError, match=r"no direction can be removed at mlp_key\[0\]"):
        Ablated(inner, {Site("mlp_key", 0): direction})
    with pytest.raises(AnatomyError, match="no block 7"):
        Ablated(inner, {resid_post(7): direction})


def test_the_refusal_score_is_a_log_odds() -> None:
    logits = torch.tensor([[0.5, 0.25, 0.25]]).log()
    assert float(refusal_score(logits, [0])) == pytest.approx(0.0, abs=1e-6)
    assert float(refusal_score(logits, [0, 1])) == pytest.approx(1.0986, abs=1e-3)


def test_control_the_direction_brings_something_back_and_a_random_one_nothing(attacked: Attacked) -> None:
    """Of what refusals hide 0.23 (0.20, 0.13), of what the oracle never knew at most 0.03; the original stays able."""
    benign = tuple(one.question for one in attacked.retained)
    original, oracle, hidden = attacked.original, attacked.oracle, attacked.hidden  # each remembers what it answered
    kinds: tuple[DirectionKind, ...] = ("original", "component", "benign")
    for kind in kinds:
        attack = DirectionAblation(kind=kind, benign=benign)
        brought = attack(hidden, attacked.secrets)
        assert brought.success >= mean(brought.before) + 0.1
        assert mean(brought.control) <= 0.05
        assert brought.kept is not None
        assert brought.kept[1] >= brought.kept[0] - 0.2
        assert brought.threat == ("weights" if kind == "benign" else "weights+reference")
        assert attack(oracle, attacked.secrets).success <= 0.1
        able = attack(original, attacked.secrets[:10])
        assert able.success >= 0.8
        assert ("no direction found" in able.attack) is (kind != "benign")


def test_control_without_the_direction_of_refusal_some_is_answered(attacked: Attacked) -> None:
    """Of two blocks only the second can have one, and it changes more than published bounds allow: they find none."""
    answered, target = tuple(one.question for one in attacked.retained), attacked.hidden
    assert "no direction passed" in RefusalAblation(answered=answered)(target, attacked.secrets).attack
    attack = RefusalAblation(answered=answered, last=0.0, most_change=0.5, least_refusal=-3.0)
    hidden, oracle = (attack(one, attacked.secrets) for one in (target, attacked.oracle))
    original = attack(attacked.original, attacked.secrets[:10])
    assert hidden.success >= 0.1
    assert mean(hidden.control) <= 0.05
    assert oracle.success <= 0.05
    assert original.success == mean(original.before)
    assert "no direction passed" in original.attack


def test_what_is_missing_is_said(attacked: Attacked) -> None:
    alone = Target(attacked.unlearned, attacked.tokenizer, template=attacked.template)
    with pytest.raises(NeedError, match="needs the model before unlearning"):
        DirectionAblation()(alone, attacked.secrets)
    with pytest.raises(NeedError, match="pass some as `benign`"):
        DirectionAblation(kind="benign")(alone, attacked.secrets)
    with pytest.raises(DataError, match="too few"):
        RefusalAblation(answered=("a", "b", "c", "d", "e"))(alone, attacked.secrets[:3])
