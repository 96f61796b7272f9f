"""Offset unlearning: what the small model learns through the sum, and what stays as it is."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor, nn
from torch.optim import SGD, AdamW
from transformers import PreTrainedModel

from tests.toy import Toy, toy_rows
from unlearnkit.batch import Row
from unlearnkit.decoding import folders
from unlearnkit.decoding.folders import load_guarded, save_guarded
from unlearnkit.decoding.offset_unlearning import AddOffset, offset_unlearning
from unlearnkit.errors import NeedError, VocabularyError
from unlearnkit.evaluate import record
from unlearnkit.models.causal import CausalLM, as_model, unguarded
from unlearnkit.models.generate import generate
from unlearnkit.models.tiny import tiny_model
from unlearnkit.objectives import NPO, CrossEntropy
from unlearnkit.protocols import Greedy, Model
from unlearnkit.train import unlearn
from unlearnkit.worlds.fictitious import build_tokenizer, build_world

TOKENIZER = build_tokenizer(build_world())
FORGET = toy_rows("forget", [(2, 3), (4, 1), (1, 6)])
RETAIN = toy_rows("retain", [(3, 4), (1, 2)], seed=1)
DATA = {"forget": FORGET, "retain": RETAIN}
OBJECTIVE = NPO(beta=0.5) + 0.7 * CrossEntropy("retain")


def logits(model: Model | PreTrainedModel, rows: tuple[Row, ...] = FORGET[:1]) -> Tensor:
    ids = rows[0].inputs["input_ids"][None]
    model = as_model(model)
    with torch.no_grad():
        return model.head(model.hidden({"input_ids": ids, "position_ids": torch.arange(ids.shape[1])[None]}).final)


def copies(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(model: nn.Module, before: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(copies(model), before, strict=True))


@given(weight=st.floats(-3, 3))
def test_before_training_it_is_the_big_model(weight: float) -> None:
    big, small = Toy(0), Toy(1)
    model = offset_unlearning(big, small, copy.deepcopy(small), weight=weight)
    assert torch.equal(logits(model), logits(big))
    assert unguarded(model) is big


def test_training_reaches_the_small_model_alone_and_unlearns_the_big_one() -> None:
    big, small = Toy(0), Toy(1)
    reference = copy.deepcopy(small)
    model = offset_unlearning(big, small, reference)
    before, start = copies(big), copies(small)
    original = record(big, OBJECTIVE.needs, DATA)
    run = unlearn(
        model, OBJECTIVE, DATA, optimizer=AdamW(small.parameters(), lr=0.02), steps=40, models={"reference": original}
    )
    forget, retain = run.probes["forget"], run.probes["retain"]
    assert forget[40] > forget[0] + 0.5
    assert retain[40] < retain[0]
    assert same(big, before)
    assert same(reference, start)
    assert not any(torch.equal(one, other) for one, other in zip(copies(small), start, strict=True))
    torch.testing.assert_close(logits(model), logits(big) + logits(small) - logits(reference))


def test_no_gradient_but_the_small_models() -> None:
    big, small, reference = Toy(0), Toy(1), Toy(2)
    model = offset_unlearning(big, small, reference, weight=0.5)
    ids = torch.tensor([[3, 4, 5]])
    final = model.hidden({"input_ids": ids}).final
    model.head(final).log_softmax(-1)[..., 3].sum().backward()
    assert all(parameter.grad is None for each in (big, reference) for parameter in each.parameters())
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in small.parameters())

    silent = offset_unlearning(big, Toy(1), reference, weight=0.0)
    silent.head(silent.hidden({"input_ids": ids}).final).log_softmax(-1)[..., 3].sum().backward()
    learned = silent.models["small"]
    assert isinstance(learned, nn.Module)
    assert not any(parameter.grad is not None and parameter.grad.any() for parameter in learned.parameters())


def test_beside_itself_the_small_model_is_trained_as_ever() -> None:
    def trained(through_the_sum: bool) -> Toy:
        small = Toy(1)
        before = Toy(1)
        model = offset_unlearning(before, small, before) if through_the_sum else small
        models = {"reference": Toy(1)}
        unlearn(model, OBJECTIVE, DATA, optimizer=SGD(small.parameters(), lr=0.05), steps=5, models=models)
        return small

    torch.testing.assert_close(copies(trained(True)), copies(trained(False)), rtol=1e-9, atol=1e-12)


def test_it_is_written_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "RULES", {**folders.RULES, "AddOffset": AddOffset})
    size = len(TOKENIZER)
    big = tiny_model("llama", layers=3, hidden_size=64, vocabulary=size)
    small = tiny_model("gpt2", vocabulary=size, seed=1)
    model = offset_unlearning(big, small, copy.deepcopy(small), weight=0.7)
    unlearn(model, CrossEntropy("forget"), DATA, optimizer=AdamW(small.parameters(), lr=0.01), steps=2)
    model.eval()
    save_guarded(tmp_path / "m", model, TOKENIZER)
    again, _ = load_guarded(tmp_path / "m")
    assert torch.equal(logits(again), logits(model))
    assert not torch.equal(logits(again), logits(big))
    prompts = [torch.tensor([3, 4, 5]), torch.tensor([6])]
    for one, other in ((again, model),):
        assert generate(one, prompts, Greedy(4), end_tokens=frozenset()) == generate(
            other, prompts, Greedy(4), end_tokens=frozenset()
        )
    # It can be trained on, and still nothing but the small model gets a gradient.
    again.head(again.hidden({"input_ids": torch.tensor([[3]])}).final).sum().backward()
    assert isinstance(again, nn.Module)
    with_gradient = {name.split(".")[0] for name, parameter in again.named_parameters() if parameter.grad is not None}
    assert with_gradient == {"small"}


def test_what_cannot_be_combined_is_refused() -> None:
    big, small = Toy(0), Toy(1)
    with pytest.raises(NeedError, match=r"shares parameters with small_reference.*Pass copy\.deepcopy\(small\)"):
        offset_unlearning(big, small, small)
    shared = tiny_model("llama")
    with pytest.raises(NeedError, match="shares parameters with big"):
        offset_unlearning(CausalLM(shared), shared, copy.deepcopy(shared))
    with pytest.raises(VocabularyError, match="the big model has a vocabulary of 13, the small model one of 9"):
        offset_unlearning(big, Toy(1, 9), Toy(1, 9))
    for wrong in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="'weight' must be"):
            offset_unlearning(big, small, Toy(1), weight=wrong)
