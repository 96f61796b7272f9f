"""ULD: the authors' numbers, the laws of the combination, and two models that behave as one."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from unlearnkit.decoding.uld import logit_difference, uld
from unlearnkit.errors import NeedError, VocabularyError
from unlearnkit.models.causal import CausalLM
from unlearnkit.models.generate import generate
from unlearnkit.models.tiny import tiny_model
from unlearnkit.protocols import Greedy, Model, Site, resid_post

seeds = st.integers(0, 2**31)
filters = st.sampled_from([0.0, 0.01, 0.1, 0.3, 1.0])


def tables(seed: int, *, rows: int = 4, vocabulary: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    base, assistant = 2 * torch.randn(2, rows, vocabulary, generator=generator, dtype=torch.float64)
    return base, assistant


def kept(base: Tensor, top_logit_filter: float) -> Tensor:
    """The set K, read off what is not ruled out."""
    ruled_out = logit_difference(base, base, weight=0.0, top_logit_filter=top_logit_filter, masked="minus_infinity")
    return ruled_out.isfinite()


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


# --- the combination --------------------------------------------------------------------------------------------------


def test_the_authors_combination(shared: Path) -> None:
    content = json.loads((shared / "conformance" / "uld_a.json").read_text())
    base, assistant = (torch.tensor(content["logits"][name], dtype=torch.float64) for name in ("forget", "ref_forget"))
    assert len(content["combination"]) == 3
    for case in content["combination"]:
        weight, top = case["weight"], case["top_logit_filter"]
        found = logit_difference(base, assistant, weight=weight, top_logit_filter=top)
        close(found, torch.tensor(case["logits"], dtype=torch.float64))
        if case["kept"] is not None:
            assert torch.equal(kept(base, top), torch.tensor(case["kept"]))


@pytest.mark.parametrize("number", range(5))
def test_the_authors_scores(shared: Path, number: int) -> None:
    content = json.loads((shared / "conformance" / "metrics_logit_ops_a.json").read_text())
    (case,) = [case for case in content["cases"] if case["name"] == f"uld_{number}"]
    base, assistant = (
        torch.tensor(case["inputs"][f"{name}_logits"], dtype=torch.float64) for name in ("base", "assistant")
    )
    weight, top = case["hyper"]["weight"], case["hyper"]["top_logit_filter"]
    expected = case["expected"]
    scoring = logit_difference(base, assistant, weight=weight, top_logit_filter=top)
    close(scoring, torch.tensor(expected["scoring_forward_logits"], dtype=torch.float64))

    writing = logit_difference(base, assistant, weight=weight, top_logit_filter=top, masked="minus_infinity")[:, -1]
    released = torch.tensor(expected["greedy_step_scores"], dtype=torch.float64)
    if top == 0:  # released decoding adds log-softmaxed logits: a constant apart
        close(writing - writing[:, :1], released - released[:, :1])
        assert writing.argmax(-1).tolist() == expected["greedy_step_next_token_as_released"]
    else:
        assert torch.equal(~kept(base, top), torch.tensor(expected["filtered_out"]))
        close(writing, released.masked_fill(released == -1000, -math.inf))
        assert writing.argmax(-1).tolist() == expected["next_token"]


def test_a_masked_token_does_not_win_where_all_kept_scores_are_negative() -> None:
    base = torch.tensor([2.0, 1.0, 0.0, -1.0])
    assistant = torch.tensor([3.0, 2.0, 0.0, 0.0])
    scores = logit_difference(base, assistant, weight=-1.0, top_logit_filter=0.5, masked="minus_infinity")
    assert scores.tolist() == [-1.0, -1.0, -math.inf, -math.inf]
    assert int(scores.argmax()) == 0  # token 2 in the released code
    assert logit_difference(base, assistant, weight=-1.0, top_logit_filter=0.5).tolist() == [-1.0, -1.0, 0.0, -1.0]


def test_a_filter_below_one_token_keeps_what_is_close_to_the_best() -> None:
    base = torch.tensor([3.0, 3.0 + math.log(0.2), 3.0 + math.log(0.05), -9.0], dtype=torch.float64)
    assert kept(base, 0.1).tolist() == [True, True, False, False]
    assert kept(base, 0.24).tolist() == [True, False, False, False]


@given(seed=seeds, top=filters)
def test_weight_zero_is_the_base_model(seed: int, top: float) -> None:
    base, assistant = tables(seed)
    assert torch.equal(logit_difference(base, assistant, weight=0.0, top_logit_filter=top), base)


@given(seed=seeds, top=filters, weight=st.floats(-3, 3), constant=st.floats(-5, 5))
def test_a_uniform_assistant_leaves_the_kept_tokens_distribution(
    seed: int, top: float, weight: float, constant: float
) -> None:
    base, assistant = tables(seed)
    uniform = torch.full_like(assistant, constant)
    found = logit_difference(base, uniform, weight=weight, top_logit_filter=top, masked="minus_infinity")
    among = torch.ones_like(base, dtype=torch.bool) if top == 0 else kept(base, top)
    close(found.log_softmax(-1), base.masked_fill(~among, -math.inf).log_softmax(-1))


@given(seed=seeds)
def test_a_constant_of_the_assistant_matters_only_under_a_filter(seed: int) -> None:
    base, assistant = tables(seed)
    for top, same in ((0.0, True), (0.3, False)):
        found = logit_difference(base, assistant, weight=-0.8, top_logit_filter=top).log_softmax(-1)
        shifted = logit_difference(base, assistant + 2.0, weight=-0.8, top_logit_filter=top).log_softmax(-1)
        assert torch.allclose(found, shifted, rtol=0, atol=1e-9) is same


@given(seed=seeds, top=filters)
def test_the_assistants_favourite_disappears_as_the_weight_grows(seed: int, top: float) -> None:
    base, assistant = tables(seed)
    among = torch.ones_like(base, dtype=torch.bool) if top == 0 else kept(base, top)
    favourite = assistant.masked_fill(~among, -math.inf).argmax(-1, keepdim=True)
    found = logit_difference(base, assistant, weight=-1e4, top_logit_filter=top, masked="minus_infinity")
    alone = among.sum(-1) == 1
    assert bool((found.softmax(-1).gather(-1, favourite)[~alone] < 1e-6).all())


@given(seed=seeds, top=filters.filter(bool), constant=st.floats(-5, 5))
def test_how_many_tokens_are_kept(seed: int, top: float, constant: float) -> None:
    base, _ = tables(seed)
    assert bool((kept(base, top).sum(-1) >= max(1, int(top * 12))).all())
    assert bool(kept(base, top).gather(-1, base.argmax(-1, keepdim=True)).all())
    assert torch.equal(kept(base + constant, top), kept(base, top))
    assert bool(kept(base, 1.0).all())


# --- the model --------------------------------------------------------------------------------------------------------


def pair(*, vocabulary: int = 64) -> tuple[CausalLM, CausalLM]:
    base = CausalLM(tiny_model("llama", layers=3, hidden_size=64, dtype=torch.float64, vocabulary=vocabulary))
    return base, CausalLM(tiny_model("llama", layers=1, dtype=torch.float64, seed=1, vocabulary=vocabulary))


def inputs_of(ids: Tensor) -> dict[str, Tensor]:
    positions = torch.arange(ids.shape[1]).expand_as(ids)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "position_ids": positions}


def test_the_head_combines_both_models_logits() -> None:
    base, assistant = pair()
    model: Model = uld(base, assistant, weight=-0.7, top_logit_filter=0.2)
    inputs = inputs_of(torch.tensor([[5, 6, 7], [8, 9, 0]]))
    final, _ = model.hidden(inputs)
    assert final.shape == (2, 3, 64 + 32)
    expected = logit_difference(
        base.model(**inputs).logits, assistant.model(**inputs).logits, weight=-0.7, top_logit_filter=0.2
    )
    assert torch.equal(model.head(final), expected)
    assert isinstance(model, Model)
    assert model.vocabulary == 64


def test_it_writes_what_it_scores() -> None:
    base, assistant = pair()
    model = uld(base, assistant, weight=-1.5, top_logit_filter=0.1, masked="minus_infinity")
    prompts = [torch.tensor([3, 14, 15]), torch.tensor([9])]
    written = generate(model, prompts, Greedy(8), end_tokens=frozenset())
    for prompt, new in zip(prompts, written, strict=True):
        ids = prompt.tolist()
        for _ in range(8):
            ids.append(int(model.head(model.hidden(inputs_of(torch.tensor([ids]))).final[0, -1]).argmax()))
        assert list(new) == ids[len(prompt) :]
    assert written != generate(base, prompts, Greedy(8), end_tokens=frozenset())


def test_sites_are_the_base_models() -> None:
    base, assistant = pair()
    model = uld(base, assistant)
    inputs = inputs_of(torch.tensor([[5, 6, 7]]))
    site, delta = resid_post(2), torch.ones(64, dtype=torch.float64)
    capture = frozenset({site, Site("final_hidden")})
    found, expected = (wrapped.hidden(inputs, capture=capture, add={site: delta}) for wrapped in (model, base))
    assert all(torch.equal(found.sites[name], expected.sites[name]) for name in capture)
    assert torch.equal(found.final, torch.cat([expected.final, assistant.hidden(inputs).final], dim=-1))


def test_models_of_transformers_are_wrapped_and_their_parameters_belong_to_it() -> None:
    base, assistant = tiny_model("gpt2"), tiny_model("llama")
    model = uld(base, assistant)
    assert set(model.parameters()) == {*base.parameters(), *assistant.parameters()}
    assert not model.training
    assert all(module.training for module in model.train().modules())


def test_what_cannot_be_combined_is_refused() -> None:
    base, assistant = pair()
    with pytest.raises(
        VocabularyError, match=r"base model has a vocabulary of 64, the assistant model one of 48\. Logits"
    ):
        uld(base, pair(vocabulary=48)[1])
    with pytest.raises(ValueError, match="weight is nan; it has to be a finite number"):
        uld(base, assistant, weight=math.nan)
    with pytest.raises(ValueError, match=r"top_logit_filter is 1\.5; it has to lie between 0 and 1"):
        uld(base, assistant, top_logit_filter=1.5)
    with pytest.raises(NeedError, match=r"head\(\) was called before hidden\(\)"):
        uld(base, assistant).head(torch.zeros(2, 96))
