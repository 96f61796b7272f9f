"""Embedding attack: steps no longer than they may be, layers decoded as they are, and the forcing that it does."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.attack import mean
from unlearnkit.attacks.audit import compare
from unlearnkit.attacks.embedding_attack import EmbeddingAttack, sampled, signed_step, soft_loss, soft_texts
from unlearnkit.attacks.gcg import Prompt, allowed_tokens, find_slot, target_logits, target_loss, text_of
from unlearnkit.errors import DataError
from unlearnkit.models.causal import CausalLM
from unlearnkit.models.tiny import tiny_model
from unlearnkit.protocols import Sampling, resid_post


def test_steps_are_no_longer_than_they_may_be_and_blind_to_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    start = delta = torch.randn(2, 3, 4, generator=generator)
    for _ in range(5):
        gradient = torch.randn(2, 3, 4, generator=generator)
        torch.testing.assert_close(signed_step(delta, gradient, 0.1), signed_step(delta, 1e3 * gradient, 0.1))
        delta = signed_step(delta, gradient, 0.1)
    assert float((delta - start).abs().max()) <= 5 * 0.1 + 1e-6
    assert torch.equal(signed_step(start, gradient, 0.0), start)


def test_rows_of_other_lengths_change_nothing_and_parameters_get_no_gradient() -> None:
    model = CausalLM(tiny_model("llama", vocabulary=20))
    prompts = [
        Prompt(torch.tensor([1, 2]), torch.tensor([3]), torch.tensor([4, 5, 0])),
        Prompt(torch.tensor([1]), torch.tensor([3, 9, 9]), torch.tensor([4])),
    ]
    start = torch.tensor([7, 8])
    delta = torch.randn(2, 2, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = soft_loss(model, prompts, start, delta)
    for number, prompt in enumerate(prompts):
        alone = target_loss(target_logits(model, prompt, start[None], delta[number][None]), prompt.target)
        torch.testing.assert_close(loss[number], alone[0])
    torch.autograd.grad(loss.sum(), delta)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_nothing_is_added_by_vectors_that_were_not_moved(attacked: Attacked) -> None:
    """Zero shift: the text is that of the placeholder tokens, alone or in a batch; a layer's is what its head says."""
    target, secrets = attacked.hidden, attacked.facts[:3]
    assert isinstance(target.model, CausalLM)
    allowed = allowed_tokens(target.tokenizer, target.model.vocabulary)
    start = allowed[[60, 61]]
    slots = [find_slot(target, one.question, allowed) for one in secrets]
    prompts = [slot.forcing(one.stem) for slot, one in zip(slots, secrets, strict=True)]
    texts = soft_texts(target, prompts, start, torch.zeros(3, 2, 96), layers=(0,))
    assert [one[0] for one in texts] == list(target.answers([slot.asked_ids(start) for slot in slots]))
    rows = torch.cat([prompts[0].before, start, prompts[0].after])[None]
    site = resid_post(0)
    with torch.no_grad():
        inputs = {"input_ids": rows, "position_ids": torch.arange(rows.shape[1])[None]}
        state = target.model.hidden(inputs, capture=frozenset({site})).sites[site][0, -1]
        said = int(target.model.head(state).argmax())
    first = text_of(target.tokenizer, [said]).strip()
    assert texts[0][1].startswith(first)


def test_vectors_are_put_where_they_were_moved(attacked: Attacked) -> None:
    """Prompts of other lengths, padded on the left for generation: the first word is the one the loss is of."""
    target = attacked.original
    by_length = {len(target.prompt(one.question)): one for one in attacked.facts}
    secrets = list(by_length.values())
    assert isinstance(target.model, CausalLM)
    allowed = allowed_tokens(target.tokenizer, target.model.vocabulary)
    start = allowed[[60, 61]]
    prompts = [find_slot(target, one.question, allowed).forcing(one.stem) for one in secrets]
    assert len({len(one.before) for one in prompts}) > 1
    delta = torch.randn(len(secrets), 2, 96, generator=torch.Generator().manual_seed(1))
    for prompt, own, (text,) in zip(prompts, delta, soft_texts(target, prompts, start, delta), strict=True):
        with torch.no_grad():
            logits = target_logits(target.model, prompt, start[None], own[None])
        assert text.startswith(text_of(target.tokenizer, [int(logits[0, 0].argmax())]).strip())


def test_no_steps_or_no_rate_change_nothing(attacked: Attacked) -> None:
    secrets = attacked.facts[:2]
    still = EmbeddingAttack(length=2, steps=2, every=2, rate=0.0, layers=False)(attacked.original, secrets)
    none = EmbeddingAttack(length=2, steps=0, layers=False)(attacked.original, secrets)
    assert still.found == none.found
    assert none.budget.gradient_steps == 0


SMALL = EmbeddingAttack(length=4, steps=10, rate=0.02, every=5)


def test_control_the_beginning_alone_brings_back_what_was_hidden(attacked: Attacked) -> None:
    """Told only how answers begin: a fifth to a third of a refusing model's facts, and chance of the oracle."""
    attack, secrets = SMALL, attacked.facts[:8]
    before = {name: value.clone() for name, value in attacked.unlearned.state_dict().items()}
    original, hidden, oracle = (
        attack(target, secrets) for target in (attacked.original, attacked.hidden, attacked.oracle)
    )
    assert all(torch.equal(value, before[name]) for name, value in attacked.unlearned.state_dict().items())
    assert all(parameter.grad is None for parameter in attacked.unlearned.parameters())
    assert original.success >= 0.6
    assert hidden.success >= 0.25
    assert oracle.success <= 0.1
    assert list(hidden.curve) == ["5 steps", "10 steps"]
    assert list(hidden.curve.values()) == sorted(hidden.curve.values())
    drawn = sampled(attacked.oracle, secrets[:4], Sampling(samples=4, max_new_tokens=16))
    assert mean(drawn) <= 0.25


def test_control_told_the_answer_it_forces_anything_into_anyone(attacked: Attacked) -> None:
    """The oracle says what it never knew, a wrong answer comes as well as the right one, and the excess is small."""
    secrets = attacked.facts[:4]
    attack = EmbeddingAttack(length=4, steps=20, rate=0.05, every=20, layers=False, knows_answer=True)
    found = {
        name: {"soft": attack(target, secrets)}
        for name, target in (("original", attacked.original), ("hidden", attacked.hidden), ("oracle", attacked.oracle))
    }
    hidden, oracle = found["hidden"]["soft"], found["oracle"]["soft"]
    assert oracle.success >= 0.5
    assert mean(oracle.control) >= 0.5
    assert hidden.budget.knows_answer
    finding = compare(found["hidden"], secrets, oracle=found["oracle"], original=found["original"]).findings["soft"]
    assert finding.recovery is not None
    assert finding.excess is not None
    assert finding.recovery.value >= 0.7
    assert finding.excess.value <= 0.5


def test_a_universal_attack_is_tried_on_others(attacked: Attacked) -> None:
    secrets = attacked.facts[:6]
    outcome = evolve(SMALL, steps=5, universal=True)(attacked.hidden, secrets)
    assert len(outcome.after) == len(outcome.left_out) == 3
    assert not outcome.after.keys() & outcome.left_out.keys()
    assert outcome.budget.gradient_steps == 5
    assert outcome.kept is not None
    assert outcome.kept[0] == attacked.hidden.kept()
    with pytest.raises(DataError, match="give it two at least"):
        EmbeddingAttack(universal=True)(attacked.hidden, secrets[:1])
