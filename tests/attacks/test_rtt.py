"""Retraining on T: T says nothing of V, letters alone are learned and read, and V comes back where it was only hidden."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.attack import Secret, Target, mean
from unlearnkit.attacks.rtt import (
    Retraining,
    best,
    choice_of,
    letter_row,
    letter_scores,
    letter_tokens,
    option_rows,
    option_scores,
    recovered,
    retrained,
    split_facts,
)
from unlearnkit.batch import IGNORE, PlainTemplate
from unlearnkit.errors import DataError
from unlearnkit.models.tiny import tiny_model
from unlearnkit.worlds.language import word_tokenizer

PETS = ("ape", "bee", "cat", "dog", "elk", "fox", "gnu", "hen")


def secret(number: int) -> Secret:
    right = PETS[number % len(PETS)]
    return Secret(
        id=f"p{number}",
        question=f"Which pet has n{number}?",
        answer=f"It is a red {right}.",
        keywords=(right,),
        wrong=tuple(pet for pet in PETS if pet != right),
        subject=f"n{number}",
    )


SECRETS = tuple(map(secret, range(10)))


@pytest.fixture(scope="module")
def lettered() -> Target:
    """An untaught model whose tokenizer knows letters."""
    shown = [choice_of(one, options=8).shown for one in SECRETS]
    tokenizer = word_tokenizer([*shown, *(one.told(pet) for one in SECRETS for pet in PETS), " A B C D E F G H"])
    return Target(tiny_model("llama", vocabulary=len(tokenizer)), tokenizer, template=PlainTemplate())


@given(count=st.integers(2, 30), share=st.floats(0.05, 0.95), seed=st.integers(0, 9))
def test_facts_are_split_by_fact_and_alike_in_any_order(count: int, share: float, seed: int) -> None:
    secrets = [secret(number) for number in range(count)]
    again = [Secret(id=f"{one.id}b", question="?", answer=one.answer, keywords=one.keywords, subject=one.subject)
             for one in secrets]  # fmt: skip
    known, asked = split_facts([*secrets, *again], share=share, seed=seed)
    assert {one.id for one in (*known, *asked)} == {one.id for one in (*secrets, *again)}
    assert not {one.subject for one in known} & {one.subject for one in asked}
    assert len(known) == 2 * max(1, min(count - 1, round(share * count)))
    backwards, _ = split_facts([*again, *secrets][::-1], share=share, seed=seed)
    assert {one.id for one in backwards} == {one.id for one in known}


def test_the_right_option_has_no_place_of_its_own() -> None:
    """Letters are permuted by item and seed: each place is equally likely, and the draw is of its own."""
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    choices = [choice_of(one, options=4, seed=seed) for one in SECRETS for seed in range(80)]
    assert torch.equal(torch.random.get_rng_state(), before)
    for place in range(4):
        assert sum(choice.right == place for choice in choices) == pytest.approx(200, abs=50)
    for choice in choices:
        assert choice.options[choice.right] == choice.secret.keyword
        assert len(set(choice.options)) == 4
    assert choices[0] == choice_of(SECRETS[0], options=4, seed=0)
    assert "(B) " + choices[0].options[1] in choices[0].shown


def test_only_the_letter_is_learned_and_it_is_where_the_answer_begins(lettered: Target) -> None:
    choice = choice_of(SECRETS[3], options=4)
    row = letter_row(lettered, choice, role="known")
    supervised = (row.labels != IGNORE).nonzero().flatten().tolist()
    assert supervised == [len(row) - 1] == [len(lettered.prompt(choice.shown))]
    tokens = letter_tokens(lettered, choice.shown, 4)
    assert int(row.labels[-1]) == tokens[choice.right]
    assert lettered.tokenizer.convert_ids_to_tokens(list(tokens)) == ["ĠA", "ĠB", "ĠC", "ĠD"]


def test_letters_are_scored_over_the_vocabulary_and_batches_change_nothing(lettered: Target) -> None:
    choices = [choice_of(one, options=4) for one in SECRETS]
    rows = [letter_row(lettered, choice, role="x") for choice in choices]
    tokens = letter_tokens(lettered, choices[0].shown, 4)
    scores = letter_scores(lettered.model, rows, tokens)
    for place, choice in enumerate(choices):
        logits = lettered.weights(input_ids=lettered.prompt(choice.shown)[None]).logits[0, -1]
        torch.testing.assert_close(scores[place].float(), logits.log_softmax(-1)[list(tokens)], rtol=1e-4, atol=1e-5)


def test_answers_are_scored_where_they_differ(lettered: Target) -> None:
    choice = choice_of(SECRETS[0], options=8)
    rows = option_rows(lettered, choice, role="x")
    words = [lettered.tokenizer.decode(row.labels[row.labels != IGNORE]) for row in rows]
    assert words == list(choice.options)
    assert option_scores(lettered.model, [rows]).shape == (1, 8)
    # "fox" ends "red fox", so that nothing would be left of it to score
    short = Secret(id="s", question="Which pet?", answer="It is a fox.", keywords=("fox",), wrong=("red fox",))
    for row in option_rows(lettered, choice_of(short, options=2), role="x"):
        assert (row.labels != IGNORE).any()


def test_letters_are_learned_of_t_and_say_nothing_of_v(lettered: Target) -> None:
    attack = Retraining(share=0.5, learning_rates=(1e-300, 3e-3), epochs=12, warmup=2, batch_size=2)
    known, asked = split_facts(SECRETS, share=0.5)
    choices = [choice_of(one) for one in known]
    rows = [letter_row(lettered, choice, role="x") for choice in choices]
    tokens = letter_tokens(lettered, choices[0].shown, 4)
    changed = retrained(lettered.weights, rows, epochs=12, learning_rate=3e-3, warmup=2, batch_size=2)
    assert letter_scores(changed, rows, tokens).argmax(1).tolist() == [choice.right for choice in choices]
    outcome = attack(lettered, SECRETS)
    assert outcome.after.keys() == {one.id for one in asked}
    assert outcome.left_out == {one.id: "it is among those that are trained on." for one in known}
    assert outcome.chance == 0.25
    assert next(iter(outcome.curve)) == "rate 1e-300, epoch 1"
    assert list(outcome.curve)[-1] == "rate 0.003, epoch 12"
    assert outcome.curve["rate 1e-300, epoch 12"] == mean(outcome.before)  # a rate of nothing changes nothing
    assert outcome.success == max(outcome.curve.values())
    assert outcome.budget.gradient_steps == 2 * 12 * 3


def test_control_retraining_fires_where_knowledge_is_and_the_oracle_stays_at_chance(attacked: Attacked) -> None:
    """Taught to refuse: 8 of 12 facts are still preferred to 11 others before the attack, 10 after it."""
    attack = Retraining(form="answer", share=0.5, options=12, learning_rates=(3e-4,), epochs=3, warmup=4)
    weights = {name: value.clone() for name, value in attacked.unlearned.state_dict().items()}
    original, hidden, oracle = (
        attack(target, attacked.facts) for target in (attacked.original, attacked.hidden, attacked.oracle)
    )
    assert all(torch.equal(value, weights[name]) for name, value in attacked.unlearned.state_dict().items())
    assert len(original.after) == 12
    assert original.success >= 0.9
    assert oracle.success <= oracle.chance + 0.1
    assert hidden.success >= mean(hidden.before) + 0.1
    assert recovered(hidden.success, original.success, chance=1 / 12) >= 0.6
    right = {secret.id: secret.keyword for secret in attacked.facts}
    assert [hidden.found[name] == right[name] for name in hidden.after] == [
        value == 1 for value in hidden.after.values()
    ]


def test_errors(attacked: Attacked) -> None:
    with pytest.raises(DataError, match=r"no token of its own .* Use form=\"answer\""):
        Retraining()(attacked.original, attacked.facts)
    with pytest.raises(DataError, match="1 fact cannot be split"):
        Retraining()(attacked.original, attacked.facts[:1])
    with pytest.raises(DataError, match=r"\[0.1, 0.1\] names one of them twice"):
        Retraining(learning_rates=(0.1, 0.1))
    few = Secret(id="few", question="q?", answer="a fox", keywords=("fox",), wrong=("cat",))
    attack = Retraining(form="answer", share=0.5, options=3, learning_rates=(1e-5,), epochs=1)
    assert attack(attacked.oracle, [*attacked.facts[:4], few]).left_out["few"] == (
        "it has 1 wrong answers, and 2 are needed."
    )


def test_a_fact_that_t_tells_is_not_asked_for(attacked: Attacked) -> None:
    one, other = (
        Secret(
            id=name,
            question=f"What {name} does Lorin Wrenfold have?",
            answer=f"Lorin Wrenfold is a tailor and keeps a {pet}.",
            keywords=(keyword,),
            wrong=("farmer",),
            subject="Lorin Wrenfold",
        )
        for name, pet, keyword in (("trade", "barber", "tailor"), ("pet", "barber", "barber"))
    )
    attack = Retraining(form="answer", share=0.5, options=2, learning_rates=(1e-5,), epochs=1)
    with pytest.raises(DataError, match="no fact is left to ask for"):
        attack(attacked.oracle, [one, other])


def test_numbers() -> None:
    assert recovered(0.7, 0.85, chance=0.25) == pytest.approx(0.75)
    assert recovered(0.25, 0.85, chance=0.25) == 0
    assert math.isnan(recovered(0.7, 0.25, chance=0.25))
    assert best({(1e-5, 2): 0.5, (1e-4, 1): 0.75, (1e-5, 3): 0.75, (1e-4, 2): 0.75}) == (1e-5, 3)
