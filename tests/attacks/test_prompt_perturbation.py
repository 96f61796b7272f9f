"""Perturbed prompts: what was put in can be taken out, what is not aligned stays, and no question is lost."""

from __future__ import annotations

from random import Random

import pytest
import torch
from attrs import evolve
from hypothesis import given, strategies as st

from tests.attacks.conftest import Attacked
from tests.attacks.test_few_shot_rephrase import PEOPLE, scripted
from unlearnkit.attacks.prompt_perturbation import (
    CHARACTERS,
    PUBLISHED,
    Aligned,
    InformedPerturbation,
    Insertion,
    NaivePerturbation,
    alignment_of,
    hidden_at,
    noise_direction,
    without_aligned,
)
from unlearnkit.errors import DataError, NeedError
from unlearnkit.models.causal import CausalLM
from unlearnkit.protocols import resid_post


@given(
    text=st.text(min_size=1, max_size=40),
    often=st.sampled_from([1, 3, 5, 7, 11, 15, 0.1, 0.2, 0.3]),
    character=st.sampled_from(CHARACTERS),
    seed=st.integers(0, 99),
)
def test_taking_the_characters_out_restores_the_text(text: str, often: float, character: str, seed: int) -> None:
    put = Insertion(often, character)(text, Random(seed))
    assert put.replace(character, "") == text.replace(character, "")
    assert len(put) >= len(text) > 0
    if often >= 1:
        assert len(put) - len(text) == -(-len(text) // int(often))


def test_insertions() -> None:
    draw = Random(0)
    assert Insertion(1, "!")("abc", draw) == "a!b!c!"
    assert Insertion(3, "-")("abcdefg", draw) == "a-bcd-efg-"
    assert Insertion(1)("ab", draw)[::2] == "ab"
    assert not Insertion(1)("ab", draw)[1::2].isalpha()
    share = sum(len(Insertion(0.2, "?")("x" * 100, draw)) - 100 for _ in range(50)) / 5000
    assert share == pytest.approx(0.2, abs=0.03)
    assert len(PUBLISHED) == len({str(one) for one in PUBLISHED}) == 9 * 13
    for often in (0.0, -1, 1.5):
        with pytest.raises(DataError, match="a whole number puts in one"):
            Insertion(often)


def by_length(text: str) -> list[Aligned]:
    """Words of more than two characters are aligned."""
    found, start = [], 0
    for word in text.split(" "):
        found.append(Aligned(start, start + len(word), 0.9 if len(word) > 2 else 0.1))
        start += len(word) + 1
    return found


@given(st.text(alphabet="abc ", min_size=1, max_size=30), st.integers(0, 99))
def test_what_is_aligned_is_split_until_nothing_is(text: str, seed: int) -> None:
    split, looked = without_aligned(text, by_length, threshold=0.5, draw=Random(seed))
    assert split.replace(" ", "") == text.replace(" ", "")
    assert all(one.cosine <= 0.5 for one in by_length(split))
    assert looked == len(split) - len(text) + 1
    assert without_aligned(text, by_length, threshold=1.0, draw=Random(seed)) == (text, 1)
    assert len(without_aligned(text, by_length, threshold=0.5, rounds=2, draw=Random(seed))[0]) <= len(text) + 2


def test_single_characters_and_those_without_any() -> None:
    one = [Aligned(0, 0, 1.0), Aligned(0, 1, 1.0)]
    assert without_aligned("a", lambda text: one, threshold=0.5, rounds=1, draw=Random(0))[0] in ("~a", "^a")
    again, looked = without_aligned("~", lambda text: one, threshold=0.5, rounds=3, draw=Random(1))
    assert looked == 3
    assert again
    assert without_aligned("", lambda text: one[:1], threshold=0.5, draw=Random(0)) == ("", 1)


def test_the_worst_of_the_variants_counts() -> None:
    target = scripted(lambda prompt: "a fox" if "?!" in prompt else "no")
    found = NaivePerturbation(variants=(Insertion(0.999999, "!"), Insertion(15, "-")))(target, PEOPLE[:2])
    assert found.after == {PEOPLE[0].id: 1.0, PEOPLE[1].id: 0.0}
    assert found.budget.queries == 4
    assert found.curve == {"'!' at 0.999999": 0.5, "'-' every 15": 0.0}


def test_alignment_is_read_from_the_text_by_itself(attacked: Attacked) -> None:
    model, question = CausalLM(attacked.unlearned), attacked.facts[0].question
    states = hidden_at(model, attacked.tokenizer(question)["input_ids"], resid_post(0))
    seen = attacked.unlearned(
        input_ids=torch.tensor([attacked.tokenizer(question)["input_ids"]]), output_hidden_states=True
    ).hidden_states[1]
    assert torch.allclose(states, seen[0], atol=1e-5)
    found = alignment_of(model, attacked.tokenizer, states[2], resid_post(0))(question)
    assert found[2].cosine == pytest.approx(1.0, abs=1e-5)
    assert question[found[2].start : found[2].end] == question.split()[2]
    same = attacked.original
    assert not noise_direction(same, [question], resid_post(0)).any()


def test_control_perturbed_prompts(attacked: Attacked) -> None:
    """Words are whole tokens here. A few characters between them leave 0.38 of the original and nothing of hidden model
    and oracle; splitting aligned words makes them unknown, and brings nothing back."""
    naive = NaivePerturbation(variants=tuple(Insertion(0.1, character) for character in " ."))
    original, oracle, hidden = (
        evolve(target, retained=()) for target in (attacked.original, attacked.oracle, attacked.hidden)
    )
    assert naive(original, attacked.facts).success >= 0.2
    assert naive(oracle, attacked.facts).success <= 0.1
    direction = noise_direction(attacked.hidden, [one.question for one in attacked.facts], resid_post(1))
    before = {name: value.clone() for name, value in attacked.unlearned.state_dict().items()}
    attack = InformedPerturbation(direction=direction, threshold=0.3, site=resid_post(1), rounds=8)
    found = attack(hidden, attacked.facts[:8])
    assert found.threat == "activations"
    assert 16 < found.budget.queries <= 8 * 9
    assert all(torch.equal(value, before[name]) for name, value in attacked.unlearned.state_dict().items())
    assert attack(oracle, attacked.facts[:8]).success == 0.0
    nothing = InformedPerturbation(direction=direction, threshold=1.0, site=resid_post(1))
    plain = nothing(original, attacked.facts[:8])
    assert plain.after == plain.before
    assert plain.budget.queries == 16


def test_an_informed_attacker_needs_weights_and_a_direction() -> None:
    with pytest.raises(DataError, match=r"shape \(3,\); .* not all zero"):
        InformedPerturbation(direction=torch.zeros(3), threshold=0.5)
    target = scripted(lambda prompt: "")
    with pytest.raises(NeedError, match="holds no model of transformers"):
        InformedPerturbation(direction=torch.ones(3), threshold=0.5)(target, PEOPLE)
    with pytest.raises(NeedError, match="taken from the model before unlearning"):
        noise_direction(target, ["Who?"], resid_post(0))
