"""Asking otherwise: examples that tell nothing, options that stay, three numbers of a letter, who still answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import pytest
from attrs import evolve
from hypothesis import given, settings, strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.attack import Asking, Secret, Target, mean, mentions, words_of
from unlearnkit.attacks.few_shot_rephrase import (
    FILLERS,
    FewShot,
    Form,
    LetterReading,
    Letters,
    Rephrased,
    after_examples,
    choices_of,
    demonstrations,
    exchanged,
    filled,
    in_conversation,
    letter_reading,
    outcome_of_forms,
    read_letter,
    rephrasings,
    with_options,
)
from unlearnkit.batch import PlainTemplate
from unlearnkit.errors import DataError, NeedError
from unlearnkit.protocols import Decoding, Hidden, Site


class Scripted:
    """A model that answers a prompt, as text, by a function; it has no logits."""

    vocabulary = 10**6

    def __init__(self, reply: Callable[[str], str]) -> None:
        self.tokenizer = byte_tokenizer()
        self.reply = reply

    def hidden(
        self,
        inputs: Mapping[str, Tensor],
        /,
        *,
        capture: frozenset[Site] = frozenset(),
        add: Mapping[Site, Tensor] = MappingProxyType({}),
        cache: object | None = None,
    ) -> Hidden:
        raise NotImplementedError

    def head(self, hidden: Tensor, /) -> Tensor:
        raise NotImplementedError

    def new_cache(self) -> None:
        return None

    def write(self, prompts: Sequence[Tensor], decoding: Decoding, /, *, seeds: Sequence[int] = ()) -> list[str]:
        return [self.reply(str(self.tokenizer.decode(ids, skip_special_tokens=True))) for ids in prompts]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte: any text comes back as it was."""
    tokens = {piece: number for number, piece in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet()), "</s>"])}
    backend = Tokenizer(models.BPE(vocab=tokens, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", clean_up_tokenization_spaces=False)


def scripted(reply: Callable[[str], str], *, retained: Sequence[Secret] = ()) -> Target:
    model = Scripted(reply)
    return Target(model, model.tokenizer, template=PlainTemplate(), retained=tuple(retained))


PEOPLE = tuple(
    Secret(
        id=f"{name}/{relation}",
        question=f"What is the {relation} of {name} Reed?",
        answer=f"The {relation} of {name} Reed is a {value}.",
        keywords=(value,),
        wrong=tuple(other for other in values if other != value),
        subject=f"{name} Reed",
        relation=relation,
        paraphrases=(f"Which {relation} has {name} Reed?",),
    )
    for relation, values in (("pet", ("fox", "cat", "owl", "hen")), ("instrument", ("harp", "lute", "tuba", "drum")))
    for name, value in zip(("Ann", "Bo", "Cy", "Di"), values, strict=True)
)


def test_forms_count_their_best_and_every_query() -> None:
    """Two forms of each secret, one of which is answered; a secret without form is left out, retained are asked."""
    ann, bo, cy = PEOPLE[:3]
    target = scripted(
        lambda prompt: "a fox, a cat, an owl" if "loud" in prompt else "no",
        retained=[cy],
    )

    def forms(one: Secret) -> dict[str, Form]:
        return {} if one is bo else {"soft": Form(one.question, one), "loud": Form(f"loud {one.question}", one)}

    found = outcome_of_forms("either", target, [ann, bo], forms, lacking="none")
    assert found.before == {ann.id: 0.0}
    assert found.after == {ann.id: 1.0}
    assert found.curve == {"soft": 0.0, "loud": 1.0}
    assert found.found == {ann.id: "loud: a fox, a cat, an owl"}
    assert found.budget.queries == 2
    assert found.kept == (0.0, 1.0)
    assert found.left_out == {bo.id: "none"}
    assert outcome_of_forms("either", target, [ann], forms, pick=min, lacking="none").success == 0.0
    with pytest.raises(NeedError, match="no secret can be asked for in another form: none"):
        outcome_of_forms("either", target, [bo], forms, lacking="none")


def test_a_reply_is_begun_after_the_template() -> None:
    """What the model is given ends in the beginning of its own reply."""
    ann = PEOPLE[0]
    prompts: list[str] = []

    def reply(prompt: str) -> str:
        prompts.append(prompt)
        return "a fox"

    target = scripted(reply)
    outcome_of_forms("begun", target, [ann], lambda one: {"begun": Form(one.question, one, "It is")}, lacking="")
    assert prompts[0].endswith(f"{ann.question}\nAnswer: It is")


@given(secret=st.sampled_from(PEOPLE), shots=st.integers(0, 3), seed=st.integers(0, 50))
def test_examples_never_share_subject_or_keyword(secret: Secret, shots: int, seed: int) -> None:
    shown = demonstrations(PEOPLE, secret, shots, seed=seed)
    assert len({one.id for one in shown}) == shots
    for one in shown:
        assert not set(words_of(f"{one.question} {one.answer}")) & {words_of(secret.subject)[0], secret.keyword}
    assert shown == demonstrations(PEOPLE, secret, shots, seed=seed)


def test_examples_that_would_tell_are_not_shown() -> None:
    """The same subject under no name, its keyword beside another name, and another subject's fact that names it."""
    ann = evolve(PEOPLE[0], aliases=("Annie",))
    same = Secret(id="1", question="What is it?", answer="An owl.", subject="Ann Reed")
    keyword = Secret(id="2", question="What is the pet of Ed?", answer="The pet of Ed is a Fox.", subject="Ed")
    named = Secret(id="3", question="Whom does Flo like?", answer="Flo likes Annie.", subject="Flo")
    fine = Secret(id="4", question="Whom does Flo like?", answer="Flo likes foxes.", subject="Flo")
    assert demonstrations([same, keyword, named, fine], ann, 1) == (fine,)
    with pytest.raises(DataError, match="1 are about another subject"):
        demonstrations([same, keyword, named, fine], ann, 2)


def test_examples_run_out() -> None:
    with pytest.raises(DataError, match=r"7 examples .* 6 are about another subject"):
        demonstrations(PEOPLE, PEOPLE[0], 7)
    with pytest.raises(NeedError, match="too few known facts"):
        FewShot(known=PEOPLE, shots=7)(scripted(lambda prompt: ""), PEOPLE)


def test_layout_and_nothing() -> None:
    assert after_examples([], "Who?") == "Who?"
    assert after_examples([("Where?", "Here.")], "Who?") == "Where?\nAnswer: Here.\n\nWho?"
    assert filled("Who?", "") == "Who?"
    assert filled("Who?", "Rain.") == "Rain.\n\nWho?"
    assert exchanged("Who?", {}) == "Who?"
    assert exchanged("The virus, a Virus strain", {"virus": "X", "virus strain": "Y"}) == "The X, a Y"
    assert exchanged("viruses", {"virus": "X"}) == "viruses"


@given(secret=st.sampled_from(PEOPLE))
def test_rephrasings_hold_the_question_and_not_the_keyword(secret: Secret) -> None:
    found = rephrasings(secret, {"pet": "animal"})
    assert {"english filler", "latin filler", "conversation", "paraphrase 1"} <= found.keys()
    assert ("terms exchanged" in found) == (secret.relation == "pet")
    assert not any(mentions(text, secret) for text in found.values())
    assert all(secret.question in found[name] for name in ("english filler", "latin filler", "conversation"))
    assert in_conversation(secret.question) == found["conversation"]
    assert filled(secret.question, FILLERS["latin"]) == found["latin filler"]


@given(secret=st.sampled_from(PEOPLE), number=st.integers(2, 4), seed=st.integers(0, 99))
def test_a_rephrasing_keeps_options_and_letter(secret: Secret, number: int, seed: int) -> None:
    choices = choices_of(secret, number, seed=seed)
    assert choices is not None
    assert choices.options[choices.right] == secret.keyword
    assert len(set(choices.options)) == number
    options = with_options("", choices)
    for text in rephrasings(secret).values():
        assert with_options(text, choices) == text + options
    assert f"\n{choices.letter}. {secret.keyword}" in options
    assert choices_of(secret, 5) is None


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from([None, *"ABCD"]), st.sampled_from("ABCD")), min_size=1))
def test_three_numbers_of_letters(pairs: list[tuple[str | None, str]]) -> None:
    read, right = zip(*pairs, strict=True)
    found = letter_reading(read, right)
    if found.over_answered is None:
        assert found == LetterReading(0.0, None, 0.0)
    else:
        assert found.over_answered * found.answered == pytest.approx(found.over_all)
        assert found.over_answered >= found.over_all


def test_a_letter_is_the_end_of_one_token() -> None:
    assert [read_letter(text) for text in ("A", " b", ".C", "E", "", "Alpha", "x")] == [
        "A",
        "B",
        "C",
        None,
        None,
        "A",
        None,
    ]
    assert read_letter("C", 2) is None
    assert letter_reading(["A", None, "B", None], ["A", "A", "A", "A"]) == LetterReading(0.25, 0.5, 0.5)
    with pytest.raises(DataError, match="no question was asked"):
        letter_reading([], [])


def test_letters_are_read_under_the_attack_and_without_it() -> None:
    """A model that answers by letter only after examples: zero-shot it says nothing."""

    def reply(prompt: str) -> str:
        asked = prompt.split("\n\n")[-1]
        right = next(one for one in PEOPLE if one.question in asked)
        letter = next(line[0] for line in asked.splitlines() if line.endswith(f". {right.keyword}"))
        return letter if "\n\n" in prompt and right.relation == "pet" else "no"

    found = Letters(known=PEOPLE, shots=2)(scripted(reply), PEOPLE)
    assert mean(found.before) == 0.0
    assert found.after == {one.id: float(one.relation == "pet") for one in PEOPLE}
    assert found.curve == {"over all": 0.5, "share answered": 0.5, "over answered": 1.0}
    assert found.chance == 0.25
    plain = Letters(shots=0)(scripted(reply), PEOPLE)
    assert plain.after == plain.before
    worded = Letters(shots=0, rephrase=lambda one: f"Well: {one.question}" if one.relation == "pet" else None)
    assert worded(scripted(reply), PEOPLE).left_out.keys() == {one.id for one in PEOPLE[4:]}
    with pytest.raises(NeedError, match="it has fewer than 3 wrong answers"):
        Letters(shots=0)(scripted(reply), [evolve(PEOPLE[0], wrong=())])
    pets = tuple(one for one in PEOPLE if one.relation == "pet")
    few = Letters(known=pets[:2], shots=2)(scripted(reply), PEOPLE)
    assert {"2 examples were to be shown" in reason for reason in few.left_out.values()} == {True}
    assert {one.id for one in pets[:2]} <= few.left_out.keys() < {one.id for one in PEOPLE}


def test_a_rewriter_is_asked_in_each_manner_and_counted(attacked: Attacked) -> None:
    asked: list[str] = []

    def paraphrase(questions: Sequence[str], manner: str) -> list[str]:
        asked.append(manner)
        known = {one.question: one.paraphrases[0] for one in (*attacked.secrets, *attacked.retained)}
        return [known[question] for question in questions]

    secrets = [evolve(one, paraphrases=()) for one in attacked.facts[:4]]
    target = attacked.original
    target.retained = attacked.retained[:3]
    found = Rephrased(rewriter=paraphrase, manners=("otherwise",))(target, secrets)
    by_hand = target.leaks(secrets, [one.paraphrases[0] for one in attacked.facts[:4]])
    assert asked == ["otherwise"]
    assert found.budget.model_calls == 7
    assert found.curve["otherwise"] == pytest.approx(mean(by_hand))
    with pytest.raises(DataError, match="nobody is there to write"):
        Rephrased(manners=("as a poem",))


def test_no_examples_are_the_plain_question(attacked: Attacked) -> None:
    plain, none = (
        Asking()(attacked.original, attacked.facts),
        FewShot(known=(), shots=0)(attacked.original, attacked.facts),
    )
    assert none.after == none.before == plain.after
    assert none.kept == plain.kept


def test_control_other_words_bring_out_what_was_hidden_and_nothing_of_the_oracle(attacked: Attacked) -> None:
    """0.42 of the original, 0.17 of the hidden model, both by paraphrases; 0 of the oracle. Examples throw every model
    off, the original too (0.13 of all facts with 1 example, 0 with 5): it never saw a prompt of two questions."""
    asked = attacked.facts[::2]
    original, hidden, oracle = (
        Rephrased()(evolve(target, retained=attacked.retained[:2]), asked)
        for target in (attacked.original, attacked.hidden, attacked.oracle)
    )
    assert original.success >= 0.25
    assert hidden.success >= mean(hidden.before) + 0.04
    assert oracle.success <= 0.1
    known = tuple(one for one in attacked.retained if one.relation != "mentor")
    shown = FewShot(known=known, shots=1)(evolve(attacked.oracle, retained=()), asked)
    assert shown.success <= 0.1
    assert shown.kept is None
