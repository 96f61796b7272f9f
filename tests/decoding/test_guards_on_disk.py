"""Every guard is written as a folder and read back as what it was: the same words, and the model inside in plain sight."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.attacks.conftest import Attacked
from unlearnkit.batch import prompt_tokens
from unlearnkit.decoding.eco_prompts import CorruptedPrompts, Corruption
from unlearnkit.decoding.folders import load_guarded, save_guarded
from unlearnkit.decoding.guard_generation import Guard, content_of, fit_detector, prompt_features
from unlearnkit.decoding.guardrail_baselines import Gate, InputFilter, Keywords, OutputFilter, Refusal, prefix
from unlearnkit.decoding.prompts import PromptReader
from unlearnkit.errors import CheckpointError
from unlearnkit.models.causal import CausalLM
from unlearnkit.protocols import Model


def keywords(attacked: Attacked) -> Keywords:
    return Keywords(sorted({secret.subject for secret in attacked.secrets}))


def gate(attacked: Attacked) -> Gate:
    return Gate.of(attacked.tokenizer, keywords(attacked), template=attacked.template)


def guard(attacked: Attacked) -> Model:
    questions = [one.question for one in (*attacked.facts[:4], *attacked.retained[:4])]
    prompts = [prompt_tokens(attacked.tokenizer, attacked.template, question) for question in questions]
    original = CausalLM(attacked.stage.original)
    detector = fit_detector(prompt_features(original, prompts), [True] * 4 + [False] * 4)
    reader = PromptReader.of(attacked.tokenizer, attacked.template)
    return Guard(original, reader, detector, content_of([one.answer for one in attacked.facts[:4]]), nearest=4)


GUARDS: dict[str, Callable[[Attacked], Model]] = {
    "prefix": lambda a: prefix(a.stage.original, a.tokenizer, "Which dish?", template=a.template),
    "input filter": lambda a: InputFilter(
        a.stage.original, gate(a), Refusal.of(a.tokenizer, "Which dish?", template=a.template)
    ),
    "output filter": lambda a: OutputFilter(a.stage.original, keywords(a), a.tokenizer),
    "filter in filter": lambda a: OutputFilter(
        CorruptedPrompts(a.stage.original, gate(a), Corruption(strength=9.0), seed=3), keywords(a), a.tokenizer
    ),
    "corrupted": lambda a: CorruptedPrompts(a.stage.original, gate(a), Corruption(strength=9.0), seed=3),
    "guard": guard,
}


@pytest.mark.parametrize("name", GUARDS)
def test_what_was_written_is_what_is_read(name: str, attacked: Attacked, tmp_path: Path) -> None:
    made = GUARDS[name](attacked)
    save_guarded(tmp_path / "guard", made, attacked.tokenizer)
    read, tokenizer = load_guarded(tmp_path / "guard")
    assert type(read) is type(made)
    questions = [one.question for one in (*attacked.facts[:4], *attacked.retained[:4])]
    before, after = (attacked.original.with_model(model) for model in (made, read))
    assert after.answers(questions) == before.answers(questions)
    assert before.answers(questions) != attacked.original.answers(questions)
    for weight, expected in zip(after.weights.parameters(), attacked.stage.original.parameters(), strict=True):
        assert torch.equal(weight, expected)
    assert len(tokenizer) == len(attacked.tokenizer)
    inner = next(path.parent for path in sorted((tmp_path / "guard").rglob("model.safetensors")))
    assert AutoModelForCausalLM.from_pretrained(str(inner)).config.vocab_size == len(tokenizer)


def test_what_is_given_again_is_asked_for_once_and_by_name(attacked: Attacked, tmp_path: Path) -> None:
    def own(text: str) -> bool:
        return "Lorvane" in text

    made = OutputFilter(attacked.stage.original, own, attacked.tokenizer)
    save_guarded(tmp_path / "one", made, attacked.tokenizer)
    read, _ = load_guarded(tmp_path / "one", detect=own)
    assert isinstance(read, OutputFilter)
    with pytest.raises(CheckpointError, match=r"needs its detect given again: load_guarded\(folder, detect="):
        load_guarded(tmp_path / "one")
    with pytest.raises(CheckpointError, match=r"nothing in .* asks for 'detekt'; asked for was"):
        load_guarded(tmp_path / "one", detect=own, detekt=own)
    save_guarded(tmp_path / "two", OutputFilter(made, own, attacked.tokenizer), attacked.tokenizer)
    with pytest.raises(CheckpointError, match=r"several guards in .* ask for 'detect', and would all get the same"):
        load_guarded(tmp_path / "two", detect=own)
