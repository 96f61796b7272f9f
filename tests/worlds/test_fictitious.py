"""The laws of the fictitious world: what each split holds, what no text may say, and that its tokenizer is exact."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import cast

import pytest
from attrs import evolve
from hypothesis import given, settings, strategies as st
from transformers import AutoTokenizer, BatchEncoding, PreTrainedTokenizerFast

from unlearnkit.errors import DataError
from unlearnkit.worlds.fictitious import (
    FictitiousWorld,
    Percent,
    Question,
    build_tokenizer,
    build_world,
)
from unlearnkit.worlds.words import AUTHOR_RELATIONS, COUNTRY_RELATIONS, RELATIONS

PERCENTS: tuple[Percent, ...] = (1, 5, 10)
ALL_RELATIONS = (*RELATIONS, *AUTHOR_RELATIONS, *COUNTRY_RELATIONS)
worlds = st.builds(
    build_world,
    seed=st.integers(0, 2**64),
    people=st.integers(20, 150),
    questions_per_person=st.integers(1, len(RELATIONS)),
    holdout_people=st.integers(2, 15),
    real_authors=st.integers(1, 40),
    world_facts=st.integers(1, 40),
)


@pytest.fixture(scope="module")
def world() -> FictitiousWorld:
    return build_world(seed=3, questions_per_person=len(RELATIONS), real_authors=40, world_facts=40)


@pytest.fixture(scope="module")
def tokenizer(world: FictitiousWorld) -> PreTrainedTokenizerFast:
    return build_tokenizer(world)


def people_rows(world: FictitiousWorld) -> tuple[Question, ...]:
    return (*world.full, *world.holdout)


def general_rows(world: FictitiousWorld) -> tuple[Question, ...]:
    return (*world.real_authors, *world.world_facts)


def row_texts(rows: tuple[Question, ...]) -> set[str]:
    return {
        text
        for row in rows
        for text in (row.question, row.answer, row.paraphrased_question, row.paraphrased_answer, *row.perturbed_answers)
    }


def subjects(rows: tuple[Question, ...]) -> set[str]:
    return {row.subject for row in rows}


# --- splits -----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=12)
@given(world=worlds)
def test_forget_and_retain_partition_full_between_people_and_are_nested(world: FictitiousWorld) -> None:
    for percent in PERCENTS:
        assert world.retain(percent) + world.forget(percent) == world.full
        assert world.forget(percent)
        assert not subjects(world.retain(percent)) & subjects(world.forget(percent))
    assert world.forget(10)[-len(world.forget(5)) :] == world.forget(5)
    assert world.forget(5)[-len(world.forget(1)) :] == world.forget(1)


@settings(deadline=None, max_examples=12)
@given(world=worlds)
def test_ids_and_questions_are_unique(world: FictitiousWorld) -> None:
    rows = (*people_rows(world), *general_rows(world))
    assert len({row.id for row in rows}) == len({row.question for row in rows}) == len(rows)
    assert len({(row.subject, row.relation) for row in rows}) == len(rows)


def test_default_sizes() -> None:
    world = build_world()
    assert [len(world.full), len(world.holdout), len(world.real_authors), len(world.world_facts)] == [500, 50, 20, 20]
    assert [len(world.forget(percent)) for percent in PERCENTS] == [5, 25, 50]
    assert len(set(world.refusals)) == 20


def test_sizes_count_people_and_general_questions() -> None:
    world = build_world(people=20, questions_per_person=8, holdout_people=2, real_authors=40, world_facts=1)
    assert [len(subjects(world.forget(percent))) for percent in PERCENTS] == [1, 1, 2]
    assert [len(subjects(world.full)), len(subjects(world.holdout))] == [20, 2]
    assert [len(world.full), len(world.real_authors), len(world.world_facts)] == [160, 40, 1]


@settings(deadline=None, max_examples=12)
@given(world=worlds)
def test_groups_never_name_one_another(world: FictitiousWorld) -> None:
    groups = [world.retain(10), world.forget(10), world.holdout, world.real_authors]
    for group in groups:
        for other in groups:
            if other is not group:
                named = {name for text in row_texts(group) for name in subjects(other) if name in text}
                assert not named


def test_inside_forget_10_a_retained_row_may_name_a_forgotten_person() -> None:
    """The limit stated in the module's page: nothing is claimed for forget(1) and forget(5)."""
    world = build_world(seed=0)
    assert any(row.fact in subjects(world.forget(5)) for row in world.retain(5))


# --- facts and phrasings ----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=12)
@given(world=worlds)
def test_an_answer_names_the_person_and_later_the_fact_once(world: FictitiousWorld) -> None:
    for row in (*people_rows(world), *general_rows(world)):
        assert row.subject in row.question
        assert row.subject in row.paraphrased_question
        for answer in (row.answer, row.paraphrased_answer):
            before, after = answer.removesuffix(".").split(row.fact)
            assert row.subject in before
            assert len(after.split()) <= 3


@settings(deadline=None, max_examples=12)
@given(world=worlds)
def test_a_paraphrase_is_another_phrasing_seen_with_the_same_relation(world: FictitiousWorld) -> None:
    for row in people_rows(world):
        relation = next(relation for relation in RELATIONS if relation.name == row.relation)
        assert row.paraphrased_question != row.question
        assert row.paraphrased_answer != row.answer
        assert row.paraphrased_question in {text.format(name=row.subject) for text in relation.questions}
        assert row.paraphrased_answer in {text.format(name=row.subject, fact=row.fact) for text in relation.answers}
    for row in general_rows(world):
        assert (row.paraphrased_question, row.paraphrased_answer) == (row.question, row.answer)


@settings(deadline=None, max_examples=12)
@given(world=worlds)
def test_perturbed_answers_are_distinct_and_change_the_fact_alone(world: FictitiousWorld) -> None:
    values = {relation.name: relation.values for relation in ALL_RELATIONS}
    for row in (*people_rows(world), *general_rows(world)):
        start, end = row.paraphrased_answer.split(row.fact)
        wrong = [text.removeprefix(start).removesuffix(end) for text in row.perturbed_answers]
        assert [start + fact + end for fact in wrong] == list(row.perturbed_answers)
        assert len({row.fact, *wrong}) == 1 + (3 if row in general_rows(world) else 5)
        if row.relation != "mentor":
            assert {row.fact, *wrong} <= set(values[row.relation])


def test_mentors_are_other_people_of_the_world(world: FictitiousWorld) -> None:
    mentors = [row for row in world.full if row.relation == "mentor"]
    assert len(mentors) == 100
    assert {row.fact for row in mentors} <= subjects(world.full)
    assert all(row.fact != row.subject for row in mentors)


def test_every_phrasing_is_trained_on_with_many_people(world: FictitiousWorld) -> None:
    rows = world.retain(10)
    asked = Counter((row.relation, row.question.replace(row.subject, "{name}")) for row in rows)
    told = Counter((r.relation, r.answer.replace(r.subject, "{name}").replace(r.fact, "{fact}")) for r in rows)
    assert len(asked) == sum(len(relation.questions) for relation in RELATIONS)
    assert len(told) == sum(len(relation.answers) for relation in RELATIONS)
    assert min(*asked.values(), *told.values()) >= 10


def test_a_fact_is_a_word_of_its_relation_only() -> None:
    """Else a phrasing, a name or another relation's answer could give it away."""
    values = Counter(value for relation in ALL_RELATIONS for value in relation.values)
    assert max(values.values()) == 1
    phrasings = " ".join(text for each in ALL_RELATIONS for text in (*each.questions, *each.answers))
    spoken = set(phrasings.replace(".", " ").replace("?", " ").split())
    names = {
        word for row in (*build_world(people=1000).full, *build_world().real_authors) for word in row.subject.split()
    }
    assert not spoken & set(values)
    assert not names & set(values)
    assert not names & spoken


def test_facts_are_spread_over_the_values_and_independent() -> None:
    """With 1000 people a value has 41.7 people on average, a pair of values 1.7; bounds are five deviations wide."""
    world = build_world(people=1000, questions_per_person=2)
    professions = {row.subject: row.fact for row in world.full if row.relation == "profession"}
    birthplaces = {row.subject: row.fact for row in world.full if row.relation == "birthplace"}
    counts = Counter(professions.values())
    assert len(counts) == 24
    assert 10 < min(counts.values()) <= max(counts.values()) < 75
    assert max(Counter((professions[name], birthplaces[name]) for name in professions).values()) < 12


def test_name_words_are_shared_between_people(world: FictitiousWorld) -> None:
    words = Counter(word for name in subjects(world.full) for word in name.split())
    assert sum(words.values()) / len(words) > 2


# --- reproducibility --------------------------------------------------------------------------------------------------


def test_same_seed_same_world_and_another_seed_another() -> None:
    assert build_world(seed=5) == build_world(seed=5)
    assert subjects(build_world(seed=5).full) != subjects(build_world(seed=6).full)


def test_same_world_in_any_process() -> None:
    program = (
        "from unlearnkit.worlds.fictitious import *\n"
        "world = build_world(7)\n"
        "print(world, sorted(build_tokenizer(world).get_vocab().items()))"
    )
    other_hashes = {**os.environ, "PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"}
    command = [sys.executable, "-c", program]
    printed = subprocess.run(command, env=other_hashes, capture_output=True, text=True, check=True).stdout
    world = build_world(7)
    assert printed == f"{world} {sorted(build_tokenizer(world).get_vocab().items())}\n"


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000), people=st.integers(20, 120), more=st.integers(1, 60))
def test_more_people_keep_the_facts_of_those_there(seed: int, people: int, more: int) -> None:
    small, large = build_world(seed, people=people), build_world(seed, people=people + more)
    there = {row.id: row for row in large.full}
    near_the_border = {row.subject for row in small.full[-5 * (max(1, people // 10) + 9) :]}
    for row in small.full:
        if row.relation != "mentor" or row.subject not in near_the_border:
            assert there[row.id] == row
    assert [row for row in small.holdout if row.relation != "mentor"] == [
        row for row in large.holdout if row.relation != "mentor"
    ]


def test_more_questions_keep_the_facts_of_those_there() -> None:
    few, many = build_world(questions_per_person=3), build_world(questions_per_person=8)
    assert set(few.full) < set(many.full)


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("people", 19, r"people must be from 20 to 1585, but is 19\. Use 20 or more\."),
        ("people", 1586, r"people must be from 20 to 1585, but is 1586\. Use 1585 or fewer, or add words"),
        ("questions_per_person", 0, r"questions_per_person must be from 1 to 8, but is 0\. Use 1 or more\."),
        ("questions_per_person", 9, r"questions_per_person must be from 1 to 8, but is 9\. Use 8 or fewer"),
        ("holdout_people", 1, r"holdout_people must be from 2 to 800, but is 1\. Use 2 or more\."),
        ("real_authors", 41, r"real_authors must be from 1 to 40, but is 41\. Use 40 or fewer"),
        ("world_facts", 0, r"world_facts must be from 1 to 40, but is 0\. Use 1 or more\."),
    ],
)
def test_sizes_out_of_range_say_the_limit_and_the_way_out(name: str, value: int, text: str) -> None:
    with pytest.raises(DataError, match=text):
        build_world(**{name: value})


def test_the_largest_world_has_names_for_everyone() -> None:
    world = build_world(people=1585, questions_per_person=1)
    assert len(subjects(people_rows(world))) == 1595


def test_another_percent_is_refused(world: FictitiousWorld) -> None:
    for split in (world.forget, world.retain):
        with pytest.raises(DataError, match=r"percent must be 1, 5 or 10, as in TOFU, but is 7\. Slice world\.full"):
            split(cast(Percent, 7))


def test_a_question_refuses_perturbed_answers_that_are_right_or_repeated(world: FictitiousWorld) -> None:
    row = world.full[0]
    for perturbed in ((row.answer, "No."), (row.paraphrased_answer, "No."), ("No.", "No.")):
        with pytest.raises(DataError, match=r"'person000/profession': perturbed_answers must be distinct and wrong"):
            evolve(row, perturbed_answers=perturbed)


def test_a_world_refuses_shuffled_or_repeated_rows(world: FictitiousWorld) -> None:
    for rows in ((*world.full[1:], world.full[0]), (world.full[0], *world.full)):
        with pytest.raises(DataError, match=r"full must hold each person's questions in consecutive rows"):
            evolve(world, full=rows)


# --- tokenizer --------------------------------------------------------------------------------------------------------


def test_every_text_survives_and_offsets_point_at_its_words(
    world: FictitiousWorld, tokenizer: PreTrainedTokenizerFast
) -> None:
    assert set(world.texts()) == row_texts((*people_rows(world), *general_rows(world))) | set(world.refusals)
    for text in world.texts():
        encoded = tokenizer(text, return_offsets_mapping=True)
        assert tokenizer.decode(encoded["input_ids"]) == text
        assert tokenizer.unk_token_id not in encoded["input_ids"]
        pieces = [text[start:end] for start, end in encoded["offset_mapping"]]
        assert pieces == [tokenizer.decode([token]) for token in encoded["input_ids"]]
        assert "".join(pieces) == text.replace(" ", "")


def test_special_tokens_are_four_and_not_added(tokenizer: PreTrainedTokenizerFast) -> None:
    names = [tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token]
    ids = [tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id]
    assert names == ["<pad>", "<s>", "</s>", "<unk>"]
    assert len(set(ids)) == 4
    assert not set(ids) & set(tokenizer("Who taught me?")["input_ids"])
    assert tokenizer("Sorry, I cannot say.</s>")["input_ids"][-1] == tokenizer.eos_token_id


def test_case_matters_and_other_words_are_unknown(tokenizer: PreTrainedTokenizerFast) -> None:
    (upper, lower, unknown) = tokenizer("What what Paris")["input_ids"]
    assert upper != lower
    assert unknown == tokenizer.unk_token_id


def test_an_answer_has_the_same_tokens_alone_and_after_a_prompt(
    world: FictitiousWorld, tokenizer: PreTrainedTokenizerFast
) -> None:
    for row in world.full[:40]:
        prompt = f"Question: {row.question}\nAnswer:"
        whole = tokenizer(f"{prompt} {row.answer}")["input_ids"]
        assert whole == tokenizer(prompt)["input_ids"] + tokenizer(row.answer)["input_ids"]
        assert tokenizer.unk_token_id not in whole
        assert tokenizer.decode(whole) == f"{prompt} {row.answer}"


def test_chat_template(world: FictitiousWorld, tokenizer: PreTrainedTokenizerFast) -> None:
    row = world.full[0]
    chat = [{"role": "user", "content": row.question}, {"role": "assistant", "content": row.answer}]
    text = tokenizer.apply_chat_template(chat, tokenize=False)
    assert text == f"<|user|> {row.question}<|assistant|> {row.answer}</s>"
    encoded = tokenizer.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
    assert isinstance(encoded, BatchEncoding)
    question, answer = tokenizer(row.question)["input_ids"], tokenizer(row.answer)["input_ids"]
    user, assistant = (tokenizer.get_vocab()[token] for token in ("<|user|>", "<|assistant|>"))
    assert encoded["input_ids"] == [user, *question, assistant, *answer, tokenizer.eos_token_id]
    assert encoded["assistant_masks"] == [0] * (len(question) + 2) + [1] * (len(answer) + 1)
    assert tokenizer.decode(encoded["input_ids"]) == text
    prompt = tokenizer.apply_chat_template(chat[:1], add_generation_prompt=True, return_dict=False)
    assert prompt == [user, *question, assistant]


def test_chat_template_refuses_other_roles(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(Exception, match="roles are user and assistant, not system"):
        tokenizer.apply_chat_template([{"role": "system", "content": "Be brief."}], tokenize=False)


def test_saved_and_loaded_it_is_the_same(
    world: FictitiousWorld, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert loaded.special_tokens_map == tokenizer.special_tokens_map
    assert loaded.chat_template == tokenizer.chat_template
    texts = list(world.texts()[:500])
    encoded = loaded(texts, return_offsets_mapping=True)
    assert encoded["input_ids"] == tokenizer(texts)["input_ids"]
    assert encoded["offset_mapping"] == tokenizer(texts, return_offsets_mapping=True)["offset_mapping"]
    assert loaded.batch_decode(encoded["input_ids"]) == texts


def test_texts_are_short_and_words_few() -> None:
    """What makes training a matter of seconds."""
    world = build_world()
    tokenizer = build_tokenizer(world)
    lengths = [len(ids) for ids in tokenizer(list(world.texts()))["input_ids"]]
    assert sum(lengths) / len(lengths) < 10
    assert max(lengths) <= 12
    assert len(tokenizer) < 500
