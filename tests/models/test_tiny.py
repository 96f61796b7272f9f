"""Toy models: reproducible, without touching anybody's random state."""

from __future__ import annotations

import pytest
import torch

from unlearnkit.models.tiny import TINY_FAMILIES, tiny_config, tiny_model


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_sizes_are_as_asked(family: str) -> None:
    model = tiny_model(family, vocabulary=50, layers=3, hidden_size=64, dtype=torch.float64)
    logits: torch.Tensor = model(torch.tensor([[1, 49]])).logits
    assert logits.shape == (1, 2, 50)
    assert logits.dtype == torch.float64
    assert model.config.num_hidden_layers == 3
    assert model.config.hidden_size == 64
    assert model.config.model_type == family
    assert not model.training


def test_the_seed_decides_and_global_random_state_does_not_move() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, again, other = (tiny_model("llama", seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])
    assert first["lm_head.weight"].dtype == torch.float32


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ValueError, match=r"there is no tiny 'bert'; the families are llama, mistral"):
        tiny_config("bert")
    with pytest.raises(ValueError, match="hidden_size is 40; it has to be a multiple of 32"):
        tiny_config("llama", hidden_size=40)
