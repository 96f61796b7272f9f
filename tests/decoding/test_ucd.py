"""UCD: a perfect pair of small models gives the retrained model, and the laws of the difference."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from unlearnkit.decoding import folders
from unlearnkit.decoding.folders import load_guarded, save_guarded
from unlearnkit.decoding.logit_arithmetic import contrastive_scores, offset_logits
from unlearnkit.decoding.ucd import SubtractContrast, contrasted_logits, ucd
from unlearnkit.decoding.uld import logit_difference
from unlearnkit.errors import VocabularyError
from unlearnkit.models.causal import CausalLM, unguarded
from unlearnkit.models.generate import generate
from unlearnkit.models.tiny import tiny_model
from unlearnkit.protocols import Greedy, Sampling
from unlearnkit.worlds.fictitious import build_tokenizer, build_world

TOKENIZER = build_tokenizer(build_world())
seeds = st.integers(0, 2**31)
alphas = st.floats(0, 3)
thetas = st.sampled_from([0.0, 0.01, 0.3, 1.0])


def tables(seed: int, count: int = 3) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(2 * torch.randn(count, 4, 9, generator=generator, dtype=torch.float64))


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_a_perfect_pair_gives_the_retrained_model() -> None:
    original, retrained = (torch.tensor(p, dtype=torch.float64).log() for p in ([0.7, 0.2, 0.1], [0.2, 0.4, 0.4]))
    found = contrasted_logits(original, original, retrained)
    close(found.softmax(-1), torch.tensor([0.2, 0.4, 0.4], dtype=torch.float64))
    half = contrasted_logits(original, original, retrained, alpha=0.5).softmax(-1)  # the geometric mean, otherwise
    means = torch.tensor([0.14, 0.08, 0.04], dtype=torch.float64).sqrt()
    close(half, means / means.sum())


@given(seed=seeds, constants=st.tuples(*[st.floats(-5, 5)] * 3))
def test_the_pair_may_be_any_that_differs_alike(seed: int, constants: tuple[float, float, float]) -> None:
    original, retrained, other = tables(seed)
    pair = other + original, other + retrained
    found = contrasted_logits(*(table + constant for table, constant in zip((original, *pair), constants, strict=True)))
    close(found.softmax(-1), retrained.softmax(-1))


@given(seed=seeds, alpha=alphas, theta=thetas)
def test_where_it_does_nothing(seed: int, alpha: float, theta: float) -> None:
    base, one, other = tables(seed)
    plausible = base >= base.amax(-1, keepdim=True) + (math.log(theta) if theta else -math.inf)
    expected = base.masked_fill(~plausible, -math.inf)
    assert torch.equal(contrasted_logits(base, one, other, alpha=0.0, plausibility=theta), expected)
    assert torch.equal(contrasted_logits(base, one, one, alpha=alpha, plausibility=theta), expected)


@given(seed=seeds, alpha=alphas)
def test_it_is_the_offset_from_with_to_without(seed: int, alpha: float) -> None:
    base, with_forget, without = tables(seed)
    found = contrasted_logits(base, with_forget, without, alpha=alpha)
    close(found, offset_logits(base, without, with_forget, weight=alpha))
    # log-probs or raw logits: a constant per position
    of_log_probs = contrasted_logits(*(table.log_softmax(-1) for table in (base, with_forget, without)), alpha=alpha)
    close(of_log_probs.softmax(-1), found.softmax(-1))


@given(seed=seeds, alpha=alphas, constant=st.floats(-5, 5))
def test_against_a_uniform_one_it_is_uld(seed: int, alpha: float, constant: float) -> None:
    base, assistant, _ = tables(seed)
    found = contrasted_logits(base, assistant, torch.full_like(base, constant), alpha=alpha)
    close(found.softmax(-1), logit_difference(base, assistant, weight=-alpha, top_logit_filter=0.0).softmax(-1))


@given(seed=seeds, theta=thetas.filter(bool), constant=st.floats(-5, 5))
def test_the_plausible_tokens_are_contrastive_decodings(seed: int, theta: float, constant: float) -> None:
    base, one, other = tables(seed)
    found = contrasted_logits(base, one, other, plausibility=theta)
    assert torch.equal(found.isfinite(), contrastive_scores(base, one, plausibility=theta).isfinite())
    close(contrasted_logits(base, one + constant, other, plausibility=theta).softmax(-1), found.softmax(-1))
    assert bool(found.gather(-1, base.argmax(-1, keepdim=True)).isfinite().all())


def three(size: int = 64) -> tuple[CausalLM, CausalLM, CausalLM]:
    return (
        CausalLM(tiny_model("llama", layers=3, hidden_size=64, vocabulary=size, dtype=torch.float64)),
        CausalLM(tiny_model("gpt2", seed=1, vocabulary=size, dtype=torch.float64)),
        CausalLM(tiny_model("gpt2", seed=2, vocabulary=size, dtype=torch.float64)),
    )


def inputs_of(ids: Tensor) -> dict[str, Tensor]:
    return {"input_ids": ids, "position_ids": torch.arange(ids.shape[1]).expand_as(ids)}


def test_it_scores_and_writes_by_the_three_models() -> None:
    base, one, other = three()
    model = ucd(base, one, other, alpha=1.5, plausibility=0.02)
    assert unguarded(model) is base
    inputs = inputs_of(torch.tensor([[5, 6, 7], [8, 9, 0]]))
    found = model.head(model.hidden(inputs).final)
    expected = contrasted_logits(
        *(each.model(**inputs).logits for each in (base, one, other)), alpha=1.5, plausibility=0.02
    )
    assert torch.equal(found, expected)
    prompts = [torch.tensor([3, 14, 15]), torch.tensor([9])]
    written = generate(model, prompts, Greedy(6), end_tokens=frozenset())
    for prompt, new in zip(prompts, written, strict=True):
        ids = prompt.tolist()
        for _ in range(6):
            ids.append(int(model.head(model.hidden(inputs_of(torch.tensor([ids]))).final[0, -1]).argmax()))
        assert list(new) == ids[len(prompt) :]
    assert written != generate(base, prompts, Greedy(6), end_tokens=frozenset())
    for decoding in (Greedy(4), Sampling(1, max_new_tokens=4, seed=3)):
        nothing = generate(ucd(base, one, other, alpha=0.0), prompts, decoding, end_tokens=frozenset())
        assert nothing == generate(base, prompts, decoding, end_tokens=frozenset())


def test_gradients_reach_what_is_read() -> None:
    """Attacks that follow the gradient follow it through all three models."""
    model = ucd(*three())
    model.head(model.hidden(inputs_of(torch.tensor([[5, 6]]))).final).sum().backward()
    found = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert found == {"base", "with_forget", "without_forget"}


def test_it_is_written_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "RULES", {**folders.RULES, "SubtractContrast": SubtractContrast})
    model = ucd(*three(len(TOKENIZER)), alpha=0.6, plausibility=0.1)
    save_guarded(tmp_path / "m", model, TOKENIZER)
    again, _ = load_guarded(tmp_path / "m")
    inputs = inputs_of(torch.tensor([[5, 6, 7]]))
    assert torch.equal(again.head(again.hidden(inputs).final), model.head(model.hidden(inputs).final))


def test_what_cannot_be_is_refused() -> None:
    base, one, other = three()
    with pytest.raises(VocabularyError, match="with_forget model one of 48"):
        ucd(base, tiny_model("gpt2", vocabulary=48), other)
    for wrong in (-0.1, math.inf, math.nan):
        with pytest.raises(ValueError, match="'alpha' must be"):
            ucd(base, one, other, alpha=wrong)
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="'plausibility' must be"):
            ucd(base, one, other, plausibility=wrong)
