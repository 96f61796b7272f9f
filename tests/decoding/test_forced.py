"""Forced tokens pass through any float type unharmed, and through a head as all but certain."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st

from unlearnkit.decoding.forced import forced_logits, next_of, with_forced, without_forced

LARGEST = 128**3 - 2
tokens = st.one_of(st.sampled_from([-1, 0, 127, 128, 16383, 16384, 2_000_000, LARGEST]), st.integers(-1, LARGEST))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@given(st.lists(tokens, min_size=1, max_size=6))
def test_token_ids_survive_every_float_type(dtype: torch.dtype, ids: list[int]) -> None:
    final = torch.randn(1, len(ids), 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    joined = with_forced(final, torch.tensor([ids]))
    assert joined.dtype == dtype
    states, found = without_forced(joined.flatten(0, 1))
    assert found.tolist() == ids
    assert torch.equal(states, final[0])


def test_gradients_pass_the_states_and_nothing_else() -> None:
    final = torch.randn(1, 2, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    states, found = without_forced(with_forced(final, torch.tensor([[-1, 3]])).flatten(0, 1))
    assert not found.requires_grad
    forced_logits(states, found).sum().backward()
    assert torch.equal(final.grad, torch.tensor([[[1.0] * 4, [0.0] * 4]])) if final.grad is not None else False


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_forced_token_is_certain_and_all_else_stays_finite(dtype: torch.dtype) -> None:
    logits = torch.randn(3, 1000, generator=torch.Generator().manual_seed(0)).to(dtype)
    logits[2, 0] = -torch.inf
    found = forced_logits(logits, torch.tensor([-1, 999, 0]))
    assert found.dtype == dtype
    assert torch.equal(found[0], logits[0])
    assert found[1:].argmax(-1).tolist() == [999, 0]
    log_probs = found[1:].double().log_softmax(-1)
    assert log_probs.amax(-1).tolist() == pytest.approx([-1000 * math.exp(-30.0)] * 2, abs=1e-12)
    assert log_probs.amin() >= -30.0 - 1e-9


def test_what_follows_in_a_fixed_text() -> None:
    text = [5, 6, 7]
    assert [next_of(text, text[:written], 0) for written in range(4)] == [5, 6, 7, 0]
    assert next_of(text, [5, 6, 7, 8], 0) == 0
    assert next_of(text, [5, 9], 0) == 0
    assert next_of([], [], 0) == 0
