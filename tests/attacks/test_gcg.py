"""GCG: gradients of one-hot rows, a search that reaches the coordinate minimum, text that stays the same, controls."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve
from hypothesis import given, settings, strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.attack import Target, mean
from unlearnkit.attacks.audit import compare
from unlearnkit.attacks.gcg import (
    GCG,
    Found,
    Prompt,
    allowed_tokens,
    embeddings,
    exchanged,
    find_slot,
    mellowmax,
    one_hot_gradient,
    search,
    summed_loss,
    target_loss,
    text_of,
)
from unlearnkit.errors import DataError
from unlearnkit.models.causal import CausalLM
from unlearnkit.models.tiny import tiny_model

PROMPT = Prompt(torch.tensor([1, 2]), torch.tensor([3]), torch.tensor([4, 5, 6]))
INSERTED = torch.tensor([7, 8, 7])


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "granite"])
def test_the_gradient_is_that_of_explicit_one_hot_rows(family: str) -> None:
    model = CausalLM(tiny_model(family, vocabulary=20))
    table = embeddings(model)
    rows = torch.nn.functional.one_hot(torch.cat([torch.tensor([1, 2]), INSERTED, torch.tensor([3, 4, 5, 6])]), 20)
    one_hot = rows.float().requires_grad_()
    logits = model.model(inputs_embeds=(one_hot @ table)[None]).logits[:, -4:-1]
    expected = torch.autograd.grad(target_loss(logits, PROMPT.target).sum(), one_hot)[0][2:5]
    found = one_hot_gradient(model, [PROMPT, PROMPT], INSERTED)
    torch.testing.assert_close(found, 2 * expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        summed_loss(model, [PROMPT], INSERTED[None]), target_loss(logits, PROMPT.target).detach()
    )
    assert all(parameter.grad is None for parameter in model.parameters())


def test_losses() -> None:
    values = torch.tensor([[1.0, 2.0, 6.0]])
    assert mellowmax(values, 1e-3).item() == pytest.approx(3.0, abs=1e-2)
    assert mellowmax(values, 100.0).item() == pytest.approx(6.0, abs=2e-2)
    logits, target = torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 2, 3])
    for name in ("ce", "nll", "mellowmax"):
        torch.testing.assert_close(target_loss(logits + 7.0, target, name), target_loss(logits, target, name))
    torch.testing.assert_close(
        target_loss(logits + 7.0, target, "raw_mellowmax"), target_loss(logits, target, "raw_mellowmax") - 7.0
    )
    torch.testing.assert_close(target_loss(logits, target, "nll"), 3 * target_loss(logits, target))


@given(seed=st.integers(0, 99), replaced=st.integers(1, 3), top=st.integers(1, 6), count=st.integers(1, 20))
@settings(max_examples=25, deadline=None)
def test_candidates_differ_where_they_may_and_by_what_they_may(seed: int, replaced: int, top: int, count: int) -> None:
    ids, allowed = torch.tensor([0, 1, 2]), torch.tensor([3, 5, 6, 8, 9, 11])
    gradient = torch.randn(3, 12, generator=torch.Generator().manual_seed(seed))

    def draw() -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return exchanged(ids, gradient, allowed, count=count, top=top, replaced=replaced, generator=generator)

    rows = draw()
    assert torch.equal(rows, draw())
    assert len(rows) == (min(count, 3 * top) if replaced == 1 else count)
    for row in rows:
        changed = (row != ids).nonzero().flatten().tolist()
        assert len(changed) == replaced
        for place in changed:
            best = allowed[gradient[place, allowed].argsort()[:top]].tolist()
            assert int(row[place]) in best


def test_more_candidates_than_there_are_tokens_are_refused() -> None:
    def draw(top: int, replaced: int) -> Tensor:
        ids, allowed, generator = torch.tensor([0]), torch.tensor([1, 2]), torch.Generator()
        return exchanged(ids, torch.zeros(1, 9), allowed, count=1, top=top, replaced=replaced, generator=generator)

    with pytest.raises(DataError, match=r"top is 3, but only 2 tokens are allowed"):
        draw(3, 1)
    with pytest.raises(DataError, match=r"2 tokens are to be exchanged in a suffix of 1"):
        draw(2, 2)


def _found(seed: int, *, steps: int, buffer: int, candidates: int = 99, top: int = 5) -> tuple[Found, Tensor]:
    table = torch.rand(5, 5, 5, generator=torch.Generator().manual_seed(seed))
    found = search(
        torch.tensor([[0, 0, 0]]),
        lambda rows: table[rows[:, 0], rows[:, 1], rows[:, 2]],
        lambda ids: torch.zeros(3, 5),
        torch.arange(5),
        steps=steps,
        candidates=candidates,
        top=top,
        buffer=buffer,
        generator=torch.Generator().manual_seed(seed),
    )
    return found, table


@pytest.mark.parametrize("seed", range(5))
def test_with_all_exchanges_a_step_reaches_the_coordinate_minimum(seed: int) -> None:
    found, table = _found(seed, steps=1, buffer=0)
    lines = torch.cat([table[:, 0, 0], table[0, :, 0], table[0, 0, :]])
    assert found.losses == (float(lines.min()),)
    assert found.loss == float(table[tuple(found.ids.tolist())])
    assert found.scored == 1 + 15


def test_a_buffer_never_gets_worse_and_none_moves_on() -> None:
    firm = [_found(1, steps=steps, buffer=1, candidates=2)[0].loss for steps in range(12)]
    assert firm == sorted(firm, reverse=True)
    assert firm[-1] < firm[0]
    loose = _found(3, steps=12, buffer=0, candidates=2)[0]
    assert list(loose.losses) != sorted(loose.losses, reverse=True)
    assert loose.loss <= min(loose.losses)
    refused = search(
        torch.tensor([[0, 0]]), lambda rows: rows.sum(1).float(), lambda ids: torch.zeros(2, 4), torch.arange(4),
        steps=3, candidates=4, top=4, generator=torch.Generator(), keep=lambda ids: False,
    )  # fmt: skip
    assert refused.ids.tolist() == [0, 0]


def test_tokens_are_the_same_after_they_were_sent_as_text(attacked: Attacked) -> None:
    target = attacked.original
    allowed = allowed_tokens(attacked.tokenizer, target.model.vocabulary)
    assert not set(allowed.tolist()) & set(attacked.tokenizer.all_special_ids)
    for place in ("after", "before"):
        slot = find_slot(target, attacked.facts[0].question, allowed, place)
        ids = allowed[[40, 50, 60, 40]]
        assert slot.survives(ids)
        asked = slot.asked_ids(ids)
        assert asked.startswith(slot.question) if place == "after" else asked.endswith(slot.question)
        whole = target.prompt(asked)
        assert whole[len(slot.before) : len(whole) - len(slot.after)].tolist() == ids.tolist()
        assert slot.asked("") == slot.question
        wanted = slot.forcing(attacked.facts[0].stem).target.tolist()
        assert text_of(attacked.tokenizer, wanted).strip() == attacked.facts[0].stem


def test_a_chat_tokenizer_of_bytes_has_places_too(attacked: Attacked) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = [f"{one.question} {one.answer}" for one in attacked.secrets] * 2
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=400,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=["<|end|>", "<|user|>", "<|assistant|>"],
            show_progress=False,
        ),
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")
    wrapped.chat_template = (
        "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    )
    target = Target(tiny_model("llama", vocabulary=len(wrapped)), wrapped)
    secrets = attacked.facts[:1]
    allowed = allowed_tokens(wrapped, target.model.vocabulary)
    for place in ("after", "before"):
        assert find_slot(target, secrets[0].question, allowed, place).place == place
    outcome = GCG(length=3, steps=2, candidates=8, top=8)(target, secrets)
    assert outcome.budget.gradient_steps == 2
    assert outcome.success == 0.0


SMALL = GCG(length=3, steps=6, candidates=24, top=32)


def test_control_gcg_finds_what_was_hidden_and_nothing_in_the_oracle(attacked: Attacked) -> None:
    """The stem alone brings back a quarter of what a refusing model hid; the oracle guesses, at most one of eight."""
    attack, secrets = SMALL, attacked.facts[:8]
    original, hidden, oracle = (
        attack(target, secrets) for target in (attacked.original, attacked.hidden, attacked.oracle)
    )
    assert mean(hidden.before) == 0.0
    assert original.success >= 0.5
    assert hidden.success > oracle.success
    assert oracle.success <= 0.125
    assert not hidden.budget.knows_answer
    assert attack(attacked.hidden, secrets[:1]).found[secrets[0].id] == hidden.found[secrets[0].id]


def test_control_told_the_answer_the_excess_takes_out_what_the_oracle_says(attacked: Attacked) -> None:
    """What came out of the oracle is taken off; at this budget few tokens force little, so no rate is asserted."""
    secrets = attacked.facts[:2]
    attack = evolve(SMALL, steps=3, knows_answer=True)
    found = {
        name: {"gcg": attack(target, secrets)}
        for name, target in (("original", attacked.original), ("hidden", attacked.hidden), ("oracle", attacked.oracle))
    }
    hidden = found["hidden"]["gcg"]
    assert hidden.budget.knows_answer
    assert hidden.control.keys() == hidden.after.keys()
    finding = compare(found["hidden"], secrets, oracle=found["oracle"], original=found["original"]).findings["gcg"]
    assert finding.recovery is not None
    assert finding.excess is not None
    assert finding.excess.value == pytest.approx(finding.recovery.value - found["oracle"]["gcg"].success)
