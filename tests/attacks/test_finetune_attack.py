"""Fine-tuning on n samples: none change nothing, samples are apart from what is asked for, and what was hidden returns."""

from __future__ import annotations

import pytest
import torch

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.attack import Secret, mean
from unlearnkit.attacks.finetune_attack import FineTuning, apart, fine_tuning_sweep, tuned
from unlearnkit.errors import DataError, NeedError
from unlearnkit.models.tiny import tiny_model

UNRELATED = (("Who is it?", "Nobody."), ("What is it?", "Nothing."), ("Where?", "Nowhere."))


def test_without_samples_or_rate_nothing_changes(attacked: Attacked) -> None:
    """B of every addition is zero at first: merged, it is the model itself."""
    rows = [attacked.hidden.row(*text, id=text[0], role="x") for text in UNRELATED]
    for given, rate in ((rows[:0], 1e-2), (rows, 1e-300)):
        changed = tuned(attacked.unlearned, given, learning_rate=rate)
        assert changed.state_dict().keys() == attacked.unlearned.state_dict().keys()
        for before, after in zip(attacked.unlearned.parameters(), changed.parameters(), strict=True):
            assert torch.equal(before, after)
            assert after.requires_grad


def test_seven_projections_of_each_block_change_and_the_seed_fixes_how(attacked: Attacked) -> None:
    rows = [attacked.hidden.row(*text, id=text[0], role="x") for text in UNRELATED]
    model = attacked.unlearned
    one, same, other = (tuned(model, rows, learning_rate=1e-3, rank=4, epochs=1, seed=seed) for seed in (1, 1, 2))
    changed = {name for name, value in one.state_dict().items() if not torch.equal(value, model.state_dict()[name])}
    assert changed == {
        f"model.layers.{layer}.{place}_proj.weight"
        for layer in range(2)
        for place in ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "mlp.gate", "mlp.up", "mlp.down")
    }
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_the_curve_begins_with_the_target_and_small_draws_lie_in_large_ones(attacked: Attacked) -> None:
    attack = FineTuning(kind="unrelated", samples=UNRELATED, sizes=(1, 2, 50), learning_rate=1e-3)
    before = {name: value.clone() for name, value in attacked.unlearned.state_dict().items()}
    outcome = attack(attacked.hidden, attacked.secrets[:4])
    assert all(torch.equal(value, before[name]) for name, value in attacked.unlearned.state_dict().items())
    assert list(outcome.curve) == ["0 samples", "1 samples", "2 samples", "3 samples"]
    assert outcome.curve["0 samples"] == mean(outcome.before)
    assert outcome.curve["3 samples"] == outcome.success
    assert outcome.budget.gradient_steps == 3 * (1 + 2 + 3)
    assert outcome.budget.queries == 3 * 4
    assert not outcome.budget.knows_answer
    drawn = attack.samples_for(attacked.secrets)
    assert sorted(drawn) == sorted(UNRELATED)
    assert FineTuning(kind="unrelated", samples=UNRELATED, sizes=(1,)).samples_for(attacked.secrets) == drawn


def test_control_other_forgotten_facts_bring_back_what_was_hidden(attacked: Attacked) -> None:
    """Ten facts of the forgotten bring back 7 of 12 others of the model that was taught to refuse."""
    known, asked = attacked.facts, attacked.facts[1::2]
    attacks = fine_tuning_sweep(
        {
            "forget": [(one.question, one.answer) for one in known],
            "retain": [(one.question, one.answer) for one in attacked.retained[:10]],
        },
        settings=FineTuning(kind="retain", samples=(), sizes=(10,), learning_rate=1e-3, seed=0),
    )
    forget = attacks["fine-tuning, forget"]
    assert len(forget.samples_for(asked)) == len(known) - len(asked)  # what is asked for is not trained on
    original, hidden, oracle = (
        forget(target, asked) for target in (attacked.original, attacked.hidden, attacked.oracle)
    )
    assert original.success >= 0.9
    assert oracle.success <= 0.1
    assert mean(hidden.before) <= 0.1
    assert hidden.success >= 0.3
    assert hidden.kept is not None
    assert hidden.kept[1] >= 0.8
    retain = attacks["fine-tuning, retain"]
    assert retain.kind == "retain"
    assert retain(attacked.original, asked).success >= 0.8


def test_samples_that_give_a_secret_away() -> None:
    secret = Secret(id="a", question="What is it?", answer="Ann keeps a red fox.", keywords=("red fox",), subject="Ann")
    telling = (("Who keeps what?", "Ann, a red fox."), ("what is it", "No idea."))
    assert apart((*UNRELATED, *telling), [secret]) == UNRELATED[:1] + UNRELATED[2:]
    for kind in ("retain", "unrelated"):
        with pytest.raises(DataError, match="text 0 tells secret 'a'"):
            FineTuning(kind=kind, samples=telling).samples_for([secret])
    with pytest.raises(DataError, match="every forget sample is about a secret"):
        FineTuning(kind="forget", samples=telling).samples_for([secret])
    with pytest.raises(DataError, match="no texts"):
        FineTuning(kind="retain", samples=()).samples_for([secret])
    with pytest.raises(DataError, match=r"sizes are \[5, 1\]"):
        FineTuning(kind="retain", samples=telling, sizes=(5, 1))


def test_a_model_without_plain_linear_layers_is_refused(attacked: Attacked) -> None:
    rows = [attacked.hidden.row(*text, id=text[0], role="x") for text in UNRELATED]
    with pytest.raises(NeedError, match="LoRA does not fit this model"):
        tuned(tiny_model("gpt2", vocabulary=len(attacked.tokenizer)), rows)
