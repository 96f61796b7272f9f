"""Set-difference pruning: what is chosen, by which score, and what it does to original, oracle and a model that
refuses."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, strategies as st
from transformers import PreTrainedModel

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.attack import mean
from unlearnkit.attacks.set_difference_pruning import (
    GRID,
    SetDifferencePruning,
    linear_layers,
    most_important,
    pruned,
    set_difference,
    snip_scores,
    wanda_scores,
)
from unlearnkit.batch import IGNORE, Row
from unlearnkit.experiment import HERE
from unlearnkit.models.tiny import TINY_FAMILIES, tiny_model
from unlearnkit.train import unlearn


def rows(number: int = 3) -> list[Row]:
    made = []
    for n in range(number):
        ids = torch.randint(0, 64, (6 + n,), generator=torch.Generator().manual_seed(n))
        made.append(Row(str(n), "any", {"input_ids": ids}, torch.where(torch.arange(6 + n) > 2, ids, IGNORE)))
    return made


scores = st.lists(st.integers(0, 5), min_size=12, max_size=12).map(
    lambda values: torch.tensor(values).float().view(3, 4)
)
shares = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])


@given(prune=scores, keep=scores, p=shares, q=shares)
def test_laws_of_the_set_difference(prune: torch.Tensor, keep: torch.Tensor, p: float, q: float) -> None:
    """Scores have many ties."""
    assert not set_difference(prune, keep, p=1.0, q=q).any()
    assert int(set_difference(prune, keep, p=0.0, q=q).sum()) == int(q * 12)
    if p >= q:
        assert not set_difference(prune, prune, p=p, q=q).any()
    chosen = most_important(prune, q)
    assert bool(chosen.all()) or not chosen.any() or prune[chosen].min() >= prune[~chosen].max()


def test_micro_example() -> None:
    prune, keep = torch.tensor([[4.0, 3.0, 2.0, 2.0]]), torch.tensor([[9.0, 0.0, 8.0, 8.0]])
    assert most_important(prune, 0.75).tolist() == [[True, True, True, False]]  # of equals the lower index
    assert set_difference(prune, keep, p=0.5, q=0.75).tolist() == [[False, True, False, False]]
    assert most_important(torch.zeros(5000), 0.01).nonzero().flatten().tolist() == list(range(50))
    assert len(GRID) == 45
    assert all(p >= q for p, q in GRID)


def test_the_gradient_is_made_absolute_row_by_row() -> None:
    model = tiny_model("llama")
    total = {name: torch.zeros_like(module.weight) for name, module in linear_layers(model).items()}
    for row in rows():
        model.zero_grad()
        labels = row.labels[None]
        model(input_ids=row.inputs["input_ids"][None], labels=labels).loss.backward()
        for name, module in linear_layers(model).items():
            assert module.weight.grad is not None
            total[name] += module.weight.grad.abs()
    model.zero_grad(set_to_none=True)
    found = snip_scores(model, rows())
    for name, module in linear_layers(model).items():
        torch.testing.assert_close(found[name], module.weight.detach().abs() * total[name], atol=1e-6, rtol=1e-4)
        assert float(found[name].min()) >= 0
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_wanda_is_weight_times_length_of_input() -> None:
    model, found = tiny_model("gpt2"), wanda_scores(tiny_model("gpt2"), rows(2))  # its weights are [in, out]
    seen: list[torch.Tensor] = []
    layer = linear_layers(model)["transformer.h.1.mlp.c_fc"]
    with layer.register_forward_pre_hook(lambda _, args: seen.append(args[0][0])), torch.no_grad():
        for row in rows(2):
            model(input_ids=row.inputs["input_ids"][None])
    expected = layer.weight.detach().abs() * torch.cat(seen).norm(dim=0)[:, None]
    torch.testing.assert_close(found["transformer.h.1.mlp.c_fc"], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_every_family_has_layers_that_are_scored_and_pruned(family: str) -> None:
    model = tiny_model(family)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = snip_scores(model, rows(1))
    assert found.keys() == wanda_scores(model, rows(1)).keys() == linear_layers(model).keys()
    assert not any("lm_head" in name or "embed" in name for name in found)
    masks = {name: most_important(score, 0.1) for name, score in found.items()}
    changed = pruned(model, masks)
    for name, mask in masks.items():
        weight = changed.get_parameter(f"{name}.weight")
        assert not weight[mask].any()
        assert torch.equal(weight[~mask], before[f"{name}.weight"][~mask])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_control_pruning_spares_the_original_and_finds_nothing_in_the_oracle(attacked: Attacked) -> None:
    """Nor does it bring back what refusals hide here."""
    attack = SetDifferencePruning(known=attacked.retained[:10], grid=((0.1, 0.01),))
    original, oracle, hidden = (
        attack(target, attacked.secrets[:15]) for target in (attacked.original, attacked.oracle, attacked.hidden)
    )
    assert original.success >= 0.9
    assert oracle.success <= 0.1
    assert mean(oracle.control) <= 0.1
    assert hidden.success >= mean(hidden.before)
    assert hidden.curve.keys() == {"p=0.1, q=0.01"}
    assert hidden.kept is not None
    assert hidden.kept[1] >= hidden.kept[0] - 0.2
    assert original.control.keys() == original.after.keys()


def hiding_in_few_weights(attacked: Attacked, neurons: int = 4) -> PreTrainedModel:
    """The original without the last MLP's first neurons, in whose place others were taught to refuse."""
    model = copy.deepcopy(attacked.stage.original)
    mlp = model.get_submodule("model.layers.1.mlp")
    weights = {name: mlp.get_parameter(f"{name}.weight") for name in ("gate_proj", "up_proj", "down_proj")}
    hooks = []
    for name, weight in weights.items():
        mask = torch.zeros_like(weight)
        mask.narrow(1 if name == "down_proj" else 0, 0, neurons).fill_(1.0)
        with torch.no_grad():
            weight.copy_(
                torch.where(
                    mask > 0, 0.05 * torch.randn(mask.shape, generator=torch.Generator().manual_seed(0)), weight
                )
            )
        hooks.append(weight.register_hook(lambda gradient, mask=mask: gradient * mask))
    unlearn(
        model,
        HERE["idk_nll"].objective(attacked.stage.original),
        dict(attacked.stage.learn),
        optimizer=torch.optim.Adam(weights.values(), lr=2e-2),
        steps=60,
        batch_size=16,
        clip=1.0,
    )
    for hook in hooks:
        hook.remove()
    model.eval()
    return model


def test_control_pruning_brings_back_what_few_weights_hide(attacked: Attacked) -> None:
    """All facts, where 0.2 are told; as many weights drawn at random do not, nor does the oracle tell more."""
    hiding = attacked.target(hiding_in_few_weights(attacked))
    attack = SetDifferencePruning(known=attacked.retained[:10], grid=((0.0, 0.005), (0.0, 0.01)))
    found, oracle = attack(hiding, attacked.facts), attack(attacked.oracle, attacked.facts)
    assert mean(found.before) <= 0.2
    assert found.success >= mean(found.before) + 0.6
    assert mean(found.control) <= mean(found.before) + 0.1
    assert oracle.success <= 0.1


def test_a_model_that_would_lose_too_much_is_left_as_it_is(attacked: Attacked) -> None:
    attack = SetDifferencePruning(known=attacked.retained[:5], grid=((0.0, 0.9),), score="wanda")
    outcome = attack(attacked.original, attacked.secrets[:5])
    assert "nothing fits" in outcome.attack
    assert outcome.after == outcome.before == outcome.control
    with pytest.raises(ValueError, match="between 0 and 1"):
        SetDifferencePruning(known=attacked.retained, grid=((0.5, 1.5),))
