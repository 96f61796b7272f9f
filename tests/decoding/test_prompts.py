"""Where a prompt ends and what it asks, read off the tokens of any template and tokenizer."""

from __future__ import annotations

import pytest
import torch
from attrs import frozen
from hypothesis import given, strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from unlearnkit.batch import IGNORE, ChatTemplate, PlainTemplate, Row, Template, prompt_tokens, tokenize
from unlearnkit.decoding.prompts import PromptReader, prompts_of
from unlearnkit.worlds.language import word_tokenizer

WORDS = ("What", "is", "Ann", "Bo", "tailor", "x", "y", "the", "system", "user")
MARKS = ("", "?", ".", ",", "!")
TEXTS = (
    *(f"{word}{mark}\n{word} {word}" for word in WORDS for mark in MARKS),
    "Question: You are brief. assistant\nAnswer: Answer:",
)
SYSTEM_FIRST = (
    "{{ '<s>system You are brief.</s>' }}{% for message in messages %}"
    "{{ '<s>' + message['role'] + '\n' + message['content'] + '</s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}"
)


def words(chat_template: str | None = None) -> PreTrainedTokenizerBase:
    tokenizer = word_tokenizer(TEXTS)
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    return tokenizer


def merging() -> PreTrainedTokenizerBase:
    """A tokenizer that takes a punctuation mark and the line break behind it as one token, as many large ones do."""
    split = pre_tokenizers.Split(Regex(r" ?\w+| ?[^\w\s]+\n*|\s"), "isolated")
    pieces = {piece for text in TEXTS for piece, _ in split.pre_tokenize_str(text)}
    tokens = ("<unk>", "</s>", *sorted(pieces))
    backend = Tokenizer(models.WordLevel({token: place for place, token in enumerate(tokens)}, unk_token="<unk>"))
    backend.pre_tokenizer = split
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="</s>")


@frozen
class Instructed:
    """A template that says something before the question and after it."""

    special_tokens = True

    def __call__(self, prompt: str, answer: str) -> tuple[str, str]:
        return f"You are brief. {prompt} system user: ", answer


def supervised_from(row: Row) -> int:
    return int((row.labels != IGNORE).nonzero()[0])


PLAIN = words()
CASES: dict[str, tuple[PreTrainedTokenizerBase, Template]] = {
    "plain": (PLAIN, PlainTemplate()),
    "chat": (PLAIN, ChatTemplate(PLAIN)),
    "chat with a system turn": (chat := words(SYSTEM_FIRST), ChatTemplate(chat)),
    "merging": (merging(), PlainTemplate()),
    "instructed": (PLAIN, Instructed()),
}
READERS = {name: PromptReader.of(tokenizer, template) for name, (tokenizer, template) in CASES.items()}
spoken = st.lists(st.sampled_from([*WORDS, "nowhere"]), min_size=1, max_size=5)
ends = st.sampled_from(MARKS)


@pytest.mark.parametrize("name", CASES)
@given(spoken, ends, spoken, ends)
def test_a_prompt_ends_where_the_answer_of_a_row_begins(
    name: str, asked: list[str], mark: str, told: list[str], stop: str
) -> None:
    (tokenizer, template), reader = CASES[name], READERS[name]
    question, answer = " ".join(asked) + mark, " ".join(told) + stop
    row = tokenize(tokenizer, question, answer, id="0", role="forget", template=template)
    ids = row.inputs["input_ids"].tolist()
    assert reader.length(ids) == supervised_from(row)
    prompt = prompt_tokens(tokenizer, template, question).tolist()
    assert reader.length(prompt) == len(prompt)
    assert reader.question(ids) == reader.question(prompt)
    if "nowhere" not in asked:
        assert reader.question(ids) == question


@pytest.mark.parametrize("name", CASES)
def test_a_text_without_a_prompt_is_all_prompt(name: str) -> None:
    tokenizer, _ = CASES[name]
    ids = tokenizer("Ann Bo is a tailor.", add_special_tokens=False)["input_ids"]
    assert isinstance(ids, list)
    assert READERS[name].length(ids) is None
    assert READERS[name].length([]) is None


def test_the_last_place_where_a_prompt_ends_counts() -> None:
    """A prompt may show solved questions; an answer that writes the mark again is then read as one more of them."""
    reader = READERS["plain"]
    shown = PLAIN("Question: What is x?\nAnswer: y\nQuestion: What is y?\nAnswer: x")["input_ids"]
    assert isinstance(shown, list)
    assert reader.length(shown) == len(shown) - 1
    row = tokenize(PLAIN, "What is x?", "y\nAnswer: x y", id="0", role="forget", template=PlainTemplate())
    assert reader.length(row.inputs["input_ids"].tolist()) == len(row) - 3
    assert supervised_from(row) < len(row) - 3


def test_the_words_of_the_template_are_not_part_of_a_question() -> None:
    for name, (tokenizer, template) in CASES.items():
        reader = READERS[name]
        assert reader.opening + "is" + reader.closing == template("is", "x")[0]
        assert len(reader.before) >= 1
        prompt = prompt_tokens(tokenizer, template, "is")
        assert tuple(prompt[len(prompt) - len(reader.before) :].tolist()) == reader.before
    asked = "is the system user"  # two of them are words of a template too
    for name in ("chat with a system turn", "instructed"):
        tokenizer, template = CASES[name]
        assert READERS[name].question(prompt_tokens(tokenizer, template, asked).tolist()) == asked


def test_words_that_a_tokenizer_lacks_do_not_become_marks() -> None:
    """Probe questions of unknown words all look alike: none of their tokens may be taken for the template's."""
    tokenizer = word_tokenizer(["a b"])
    reader = PromptReader.of(tokenizer, PlainTemplate())
    assert tokenizer.unk_token_id not in reader.before
    row = tokenize(tokenizer, "a", "b", id="0", role="forget", template=PlainTemplate())
    assert reader.length(row.inputs["input_ids"].tolist()) == supervised_from(row)


def test_rows_of_a_batch_without_padding() -> None:
    rows = torch.tensor([[0, 5, 6], [7, 8, 9]])
    assert prompts_of(rows, None) == [[0, 5, 6], [7, 8, 9]]
    assert prompts_of(rows, torch.tensor([[0, 1, 1], [1, 1, 1]])) == [[5, 6], [7, 8, 9]]
    assert prompts_of(rows, torch.tensor([[1, 0, 0], [1, 1, 0]])) == [[0], [7, 8]]
