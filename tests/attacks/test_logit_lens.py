"""Logit lens: the last block says what the model says; other blocks are chosen on one half and measured on the
other."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve
from hypothesis import given, settings, strategies as st

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.attack import Secret, mean
from unlearnkit.attacks.logit_lens import (
    LogitLens,
    Place,
    Translator,
    Tuning,
    choice_of,
    chosen,
    chosen_on_the_other_half,
    halves,
    lens_logits,
    lens_loss,
    states_of,
    streams,
    tuned_lens,
)
from unlearnkit.errors import DataError
from unlearnkit.models.causal import CausalLM
from unlearnkit.models.tiny import TINY_FAMILIES, tiny_model
from unlearnkit.protocols import resid_post

TEXTS = [torch.tensor([5, 9, 2]), torch.tensor([7, 1, 3, 30, 11])]


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_at_the_last_block_the_lens_says_what_the_model_says(family: str) -> None:
    model = tiny_model(family)
    read = streams(CausalLM(model), TEXTS)
    for number, ids in enumerate(TEXTS):
        with torch.no_grad():
            logits = lens_logits(CausalLM(model), read["block", 1])[number]
            torch.testing.assert_close(logits, model(input_ids=ids[None]).logits[0, -1], atol=1e-5, rtol=1e-4)


def test_the_stream_after_attention_is_read_only_where_there_is_one() -> None:
    has = {family for family in TINY_FAMILIES if ("residual", 0) in streams(CausalLM(tiny_model(family)), TEXTS)}
    assert has >= {"llama", "mistral", "qwen2", "qwen3", "gpt2", "mixtral"}
    assert not has & {"gemma2", "olmo2", "granite", "phi", "gpt_neox", "cohere"}


def test_a_part_that_a_block_lacks_is_left_out() -> None:
    """As of a recurrent block, which has no attention."""
    model = tiny_model("llama")
    whole = CausalLM(model)
    without = CausalLM(model, evolve(whole.anatomy, attention_names=()))
    read, less = streams(whole, TEXTS), streams(without, TEXTS)
    assert less.keys() == {place for place in read if place[0] in ("block", "mlp")}
    assert all(torch.equal(less[place], read[place]) for place in less)


def test_padding_and_batching_change_nothing() -> None:
    model = CausalLM(tiny_model("llama"))
    together, alone = (states_of(model, TEXTS, [resid_post(0)], batch=batch)[resid_post(0)] for batch in (8, 1))
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    last = states_of(model, TEXTS, [resid_post(0)], last=True)[resid_post(0)]
    torch.testing.assert_close(torch.cat(last), torch.stack([state[-1] for state in together]))


@given(order=st.permutations(range(5)), seed=st.integers(0, 1000))
def test_candidates_in_another_order_give_the_same_one(order: list[int], seed: int) -> None:
    logits, tokens = torch.randn(20, generator=torch.Generator().manual_seed(seed)), [3, 8, 1, 19, 6]
    assert tokens[chosen(logits, tokens)] == [tokens[n] for n in order][chosen(logits, [tokens[n] for n in order])]


@settings(deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_loss_is_a_divergence(seed: int) -> None:
    one, other = torch.randn(2, 4, 9, generator=torch.Generator().manual_seed(seed))
    assert float(lens_loss(one, other)) >= 0
    assert float(lens_loss(one, one + 3)) == pytest.approx(0, abs=1e-6)
    p = one.softmax(-1)
    assert float(lens_loss(one, other)) == pytest.approx(
        float((p * (one.log_softmax(-1) - other.log_softmax(-1))).sum(-1).mean()), abs=1e-5
    )


@pytest.mark.parametrize("bias_only", [False, True])
def test_a_tuned_lens_begins_as_the_logit_lens_and_comes_nearer_to_the_model(bias_only: bool) -> None:
    model = CausalLM(tiny_model("llama", seed=3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    texts = [torch.randint(0, 64, (12,), generator=torch.Generator().manual_seed(n)) for n in range(8)]
    untrained = tuned_lens(model, texts, steps=0, bias_only=bias_only)
    trained = tuned_lens(model, texts, steps=60, bias_only=bias_only)
    seen = states_of(model, texts, [resid_post(0), resid_post(1)])
    first, last = (torch.cat(seen[resid_post(layer)]) for layer in (0, 1))
    assert torch.equal(untrained[0](first), first)
    assert torch.equal(trained[1](last), last)
    assert (trained[0].weight is None) is bias_only
    with torch.no_grad():
        final = lens_logits(model, last)
        losses = [float(lens_loss(final, lens_logits(model, lens[0](first)))) for lens in (untrained, trained)]
    assert losses[1] < 0.97 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_a_translator_is_affine() -> None:
    translator = Translator(torch.tensor([1.0, 0.0]), torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    assert translator(torch.tensor([[2.0, 3.0]])).tolist() == [[6.0, 3.0]]


def test_a_place_is_never_chosen_on_what_is_measured_there() -> None:
    """Each half's best place is bad on the other: chosen on all, either would look half right."""
    hits: dict[Place, dict[str, float]] = {
        ("block", 0): {"a": 1.0, "b": 0.0},
        ("block", 1): {"a": 0.0, "b": 1.0},
    }
    where, after = chosen_on_the_other_half(hits, {"a": 0, "b": 1})
    assert where == {"a": ("block", 1), "b": ("block", 0)}
    assert after == {"a": 0.0, "b": 0.0}
    assert sorted(halves(["x", "y", "x", "z"]).values()) in ([0, 0, 1], [0, 1, 1])
    with pytest.raises(DataError, match="about one subject"):
        halves(["x", "x"])


def test_candidates_that_begin_alike_are_no_choice(attacked: Attacked) -> None:
    secret = attacked.secrets[2]
    assert secret.keyword == "Alba Ellerow"
    assert "Alba Birkvane" in secret.wrong
    choice = choice_of(attacked.original, secret)
    assert choice is not None
    assert choice.words[0] == "Alba Ellerow"
    assert "Alba Birkvane" not in choice.words
    assert len(set(choice.tokens)) == len(choice.tokens)
    assert str(attacked.tokenizer.decode(choice.context.tolist())).endswith(secret.stem.split()[-1])
    alone = Secret(id="a", question="Who?", answer="It is Alba.", keywords=("Alba",))
    assert choice_of(attacked.original, alone) is None
    with pytest.raises(DataError, match="no secret has wrong answers"):
        LogitLens()(attacked.original, [alone])
    assert LogitLens()(attacked.original, [alone, *attacked.secrets]).left_out.keys() == {"a"}


def test_control_the_lens_reads_the_original_and_not_the_oracle(attacked: Attacked) -> None:
    """Given the answer up to its keyword, the model that refuses completes 0.63 of them at its last block."""
    lens = LogitLens()
    original, oracle, hidden = (
        lens(target, attacked.secrets) for target in (attacked.original, attacked.oracle, attacked.hidden)
    )
    assert original.success >= 0.95
    assert mean(original.before) == 1.0
    assert oracle.success <= original.chance + 0.1
    assert hidden.success >= 0.4
    assert all(mean(outcome.control) <= 0.15 for outcome in (original, oracle, hidden))
    assert original.curve["block 0"] >= 0.5
    assert len(original.curve) == 8


def test_control_so_does_the_tuned_lens(attacked: Attacked) -> None:
    texts = tuple((one.question, one.answer) for one in attacked.retained)
    lens = LogitLens(tuned=Tuning(texts=texts, steps=10))
    original, oracle = (lens(target, attacked.secrets) for target in (attacked.original, attacked.oracle))
    assert original.success >= 0.95
    assert oracle.success <= oracle.chance + 0.1
    assert original.curve.keys() == {"block 0", "block 1"}
    assert original.budget.gradient_steps == 10
    assert original.budget.training_tokens > 0
