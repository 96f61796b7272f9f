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


@pytest.mark.parametrize("after", [0, 1, 2])
def test_what_is_added_and_read_is_at_the_rows_own_positions(after: int) -> None:
    """As if the prefix had been written out and the rows' own places been named."""
    inner = CausalLM(tiny_model("llama").eval())
    row, prefix = [1, 5, 6, 7], [9, 4, 8]
    ids = torch.tensor([row])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "position_ids": torch.arange(4)[None]}
    written = torch.tensor([row[:after] + prefix + row[after:]])
    own = [*range(after), *range(after + 3, 7)]
    for site in (Site("embed"), resid_post(0)):
        delta = torch.randn(1, 4, 32)
        spread = torch.zeros(1, 7, 32)
        spread[:, own] = delta
        found = Prefixed(inner, prefix, after=after).hidden(inputs, add={site: delta}, capture=frozenset({site}))
        expected = inner.hidden(
            {"input_ids": written, "position_ids": torch.arange(7)[None]}, add={site: spread}, capture=frozenset({site})
        )
        torch.testing.assert_close(found.sites[site], expected.sites[site][:, own])
        torch.testing.assert_close(found.final[:, max(0, after - 1) :], expected.final[:, max(0, after - 1) + 3 :])


def test_a_negative_place_is_refused() -> None:
    with pytest.raises(ValueError, match="'after' must be >= 0"):
        Prefixed(CausalLM(tiny_model("llama")), [1], after=-1)
