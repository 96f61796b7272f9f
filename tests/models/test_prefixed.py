"""A prefix before every row: the numbers and the words of the model that reads it, however rows are padded."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, strategies as st

from unlearnkit.models.causal import CausalLM, unguarded
from unlearnkit.models.generate import generate
from unlearnkit.models.prefixed import Prefixed
from unlearnkit.models.tiny import tiny_model
from unlearnkit.protocols import Greedy, Sampling, Site, resid_post

prefixes = st.lists(st.integers(1, 60), max_size=4)


@given(
    prefixes, st.integers(0, 1), st.lists(st.lists(st.integers(1, 60), min_size=2, max_size=6), min_size=1, max_size=3)
)
def test_it_writes_what_the_model_writes_after_the_prefix(
    prefix: list[int], after: int, prompts: list[list[int]]
) -> None:
    inner = CausalLM(tiny_model("llama").eval())
    model = Prefixed(inner, prefix, after=after)
    whole = [torch.tensor(prompt[:after] + prefix + prompt[after:]) for prompt in prompts]
    for decoding in (Greedy(5), Sampling(1, max_new_tokens=5, seed=3)):
        expected = generate(inner, whole, decoding, end_tokens=frozenset())
        found = generate(model, [torch.tensor(prompt) for prompt in prompts], decoding, end_tokens=frozenset())
        assert found == expected


def test_nothing_before_it_is_the_model() -> None:
    inner = CausalLM(tiny_model("llama").eval())
    ids = torch.tensor([[5, 6, 7], [8, 9, 0]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "position_ids": torch.arange(3).expand(2, 3)}
    assert torch.equal(Prefixed(inner, []).hidden(inputs).final, inner.hidden(inputs).final)
    assert unguarded(Prefixed(Prefixed(inner, [3]), [4])) is inner


def test_what_is_added_is_added_at_the_rows_own_positions() -> None:
    inner = CausalLM(tiny_model("llama").eval())
    ids = torch.tensor([[5, 6, 7]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "position_ids": torch.arange(3)[None]}
    site = resid_post(0)
    delta = torch.randn(1, 3, 32)
    found = Prefixed(inner, [9, 4]).hidden(inputs, add={site: delta}, capture=frozenset({site, Site("embed")}))
    plain = Prefixed(inner, [9, 4]).hidden(inputs, capture=frozenset({site, Site("embed")}))
    torch.testing.assert_close(found.sites[site], plain.sites[site] + delta)
    assert torch.equal(found.sites[Site("embed")], plain.sites[Site("embed")])


def test_a_negative_place_is_refused() -> None:
    with pytest.raises(ValueError, match="'after' must be >= 0"):
        Prefixed(CausalLM(tiny_model("llama")), [1], after=-1)
