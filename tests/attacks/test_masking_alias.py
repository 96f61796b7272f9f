"""Asking without the name: no word of it is left, the keyword is never told, scrambling is a permutation."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from attrs import evolve
from hypothesis import given, strategies as st

from tests.attacks.conftest import Attacked
from tests.attacks.test_few_shot_rephrase import PEOPLE, scripted
from unlearnkit.attacks.attack import Secret, mentions, words_of
from unlearnkit.attacks.masking_alias import (
    ReverseQuery,
    Unnamed,
    initials,
    masked,
    reverse,
    scrambled,
    shuffled_letters,
    shuffled_words,
    under_alias,
    unnamed,
)
from unlearnkit.errors import NeedError

ANN = PEOPLE[0]


def test_transforms() -> None:
    assert masked(ANN, facts=0) == "What is the pet of this person?"
    assert masked(ANN, PEOPLE) == "The instrument of this person is a harp. What is the pet of this person?"
    assert initials(ANN) == "What is the pet of A. R.?"
    assert under_alias(ANN) is None
    assert under_alias(evolve(ANN, aliases=("Red Ann",))) == "What is the pet of Red Ann?"
    assert scrambled(ANN, "words") == "What is the pet of Reed Ann?"
    assert scrambled(ANN, "letters") is None  # "nn" and "ee" have no other order
    found = reverse(ANN)
    assert found is not None
    assert found.question == "Of whom is this true? The pet of this person is a fox."
    assert found.sought.keywords == ("Ann Reed",)
    wrong = reverse(ANN, "cat", known=PEOPLE)
    assert wrong is not None
    assert wrong.question.endswith("The pet of this person is a cat. The instrument of this person is a harp.")


def test_parts_of_a_name_go_too_and_words_that_are_none_stay() -> None:
    secret = Secret(id="a", question="Who is it?", answer="Nobody.", subject="the Lady of Shalott", aliases=("Elaine",))
    assert unnamed("Is the Lady Elaine of the tower?", secret) == "Is the this person this person of the tower?"
    assert unnamed("Shalott, of course", secret, "___") == "___, of course"
    assert unnamed("a lady", secret) is None  # a word of the name in another case
    assert unnamed("ladies", secret) == "ladies"
    small = evolve(secret, subject="photosynthesis", aliases=())
    assert unnamed("Photosynthesis needs light", small, "it") == "it needs light"


def test_what_is_not_named_or_would_be_told_is_not_asked() -> None:
    other = evolve(ANN, question="What is it?")
    assert masked(other) is None
    assert initials(other) is None
    assert reverse(evolve(ANN, answer="It is a fox.")) is None
    assert reverse(evolve(ANN, answer="Ann Reed has one.")) is None  # does not hold the keyword
    telling = evolve(PEOPLE[4], answer="The harp of Ann Reed scares the fox.")
    assert masked(ANN, [telling]) == "What is the pet of this person?"


@given(secret=st.sampled_from(PEOPLE), seed=st.integers(0, 99))
def test_no_transform_tells_the_keyword_and_masks_leave_no_word_of_the_name(secret: Secret, seed: int) -> None:
    forms = Unnamed(known=PEOPLE, seed=seed).forms(evolve(secret, aliases=("Old Reed",)))
    assert {"mask", "blank", "alias", "initials", "words"} <= forms.keys()
    for name, form in forms.items():
        assert not mentions(form.question, secret)
        assert form.sought.keywords == secret.keywords
        if name in ("mask", "blank"):
            assert not set(words_of(form.question)) & set(words_of(secret.subject))


@given(st.text(alphabet="abcDE -'", min_size=1, max_size=20), st.integers(0, 99))
def test_scrambling_is_a_permutation(name: str, seed: int) -> None:
    letters = shuffled_letters(name, Random(seed))
    assert Counter(letters) == Counter(name)
    assert [word[:1] + word[-1:] for word in letters.split()] == [word[:1] + word[-1:] for word in name.split()]
    words = shuffled_words(name, Random(seed))
    assert Counter(words.split()) == Counter(name.split())
    if len(set(name.split())) > 1:
        assert words.split() != name.split()
    assert shuffled_letters("Wrenfold", Random(seed)) != "Wrenfold"


def test_failures_of_the_original_are_left_out() -> None:
    """The original knows Ann by the order of her names and Bo not at all; the model under attack knows nobody."""
    model = scripted(lambda prompt: "no")
    original = scripted(lambda prompt: "a fox" if "Reed Ann" in prompt else "no")
    model.original = original.model
    found = Unnamed(known=PEOPLE)(model, PEOPLE[:2])
    assert found.after == {ANN.id: 0.0}
    assert found.left_out == {PEOPLE[1].id: "no transform of its question fits it and is answered by the original"}
    assert found.curve["words, of the original"] == 0.5
    assert found.curve["mask, of the original"] == 0.0
    assert "mask" not in found.curve
    assert "no published reference" in found.attack
    original.original = original.model
    assert Unnamed(known=PEOPLE)(original, PEOPLE[:2]).after == {ANN.id: 1.0}
    with pytest.raises(NeedError, match="no transform of its question"):
        Unnamed()(model, PEOPLE[1:2])
    model.original = None
    assert Unnamed(known=PEOPLE)(model, PEOPLE[:2]).after.keys() == {one.id for one in PEOPLE[:2]}


def test_a_reverse_query_is_told_the_answer_and_has_a_control() -> None:
    """One model knows whose the fox is; another says the same name to every fact."""
    knows = ReverseQuery()(scripted(lambda prompt: "Ann Reed" if "fox" in prompt else "no"), PEOPLE[:1])
    assert knows.after == {ANN.id: 1.0}
    assert knows.control == {ANN.id: 0.0}
    assert knows.budget.knows_answer
    assert knows.budget.queries == 2
    parrot = ReverseQuery()(scripted(lambda prompt: "Ann Reed"), PEOPLE[:2])
    assert parrot.after == {ANN.id: 1.0, PEOPLE[1].id: 0.0}
    assert parrot.control == parrot.after
    with pytest.raises(NeedError, match="does not name its subject"):
        ReverseQuery()(scripted(lambda prompt: ""), [evolve(ANN, answer="It is a fox.")])


def test_control_names_in_another_order(attacked: Attacked) -> None:
    """The original answers all questions with the words of the name in another order, 1 of 24 by a mask, none by the
    other transforms, whose words it was never taught. Nothing comes out of hidden model or oracle. A reverse query brings out
    0.04 of the original and nothing of the others: only plain questions were taught."""
    attack = Unnamed(known=attacked.facts)
    targets = [evolve(target, retained=()) for target in (attacked.original, attacked.oracle)]
    original, oracle = (attack(target, attacked.facts) for target in targets)
    assert original.success == 1.0
    assert original.after.keys() == oracle.after.keys()
    assert len(original.after) + len(original.left_out) == len(attacked.facts)
    assert oracle.success <= 0.1
    turned = ReverseQuery()(targets[1], attacked.facts)
    assert turned.success <= 0.1
    assert turned.control.keys() == turned.after.keys()
