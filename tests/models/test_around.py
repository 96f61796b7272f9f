"""Nothing around a model changes nothing, and is nothing to who holds the weights."""

from __future__ import annotations

import pytest
import torch

from unlearnkit.models.around import Around
from unlearnkit.models.causal import CausalLM, unguarded
from unlearnkit.models.generate import generate
from unlearnkit.models.tiny import TINY_FAMILIES, tiny_model
from unlearnkit.protocols import Greedy, Model, resid_post


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_it_is_the_model_inside(family: str) -> None:
    inner = CausalLM(tiny_model(family)).eval()
    around = Around(Around(inner))
    assert isinstance(around, Model)
    assert not around.training
    assert unguarded(around) is inner
    assert around.vocabulary == inner.vocabulary
    ids = torch.tensor([[5, 9, 2, 7]])
    inputs = {"input_ids": ids, "position_ids": torch.arange(4)[None]}
    push = {resid_post(0): torch.ones(inner.hidden(inputs).final.shape[-1])}
    one, other = (model.hidden(inputs, capture=frozenset(push), add=push) for model in (around, inner))
    assert torch.equal(one.sites[resid_post(0)], other.sites[resid_post(0)])
    assert torch.equal(around.head(one.final[0]), inner.head(other.final[0]))
    written = [generate(model, [ids[0]], Greedy(5), end_tokens=frozenset()) for model in (around, inner)]
    assert written[0] == written[1]
