"""ICUL: which lines stand in the context and which are flipped, the score, and a model that reads them before every row."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.attack import Secret, mean
from unlearnkit.decoding.folders import described
from unlearnkit.decoding.icul import Example, classification_text, context, flipped, icul, lira_score
from unlearnkit.errors import DataError
from unlearnkit.evaluate import evaluate
from unlearnkit.models.causal import CausalLM
from unlearnkit.models.prefixed import Prefixed
from unlearnkit.models.tiny import tiny_model

OTHER = {"positive": "negative", "negative": "positive"}
POOL = [
    Example(f"film {number} //", label, (OTHER[label],))
    for number, label in enumerate(["positive", "negative", "negative", "positive"] * 3)
]

seeds = st.integers(0, 1000)
lengths = st.integers(0, 6)
requests = st.lists(st.sampled_from(POOL), min_size=1, max_size=3, unique=True)


def test_without_others_there_is_one_line() -> None:
    assert context(POOL[:1], POOL, others=0) == (("film 0 //", "negative"),)
    assert classification_text(context(POOL[:1], POOL, others=0), "film 0 //") == "film 0 // negative\nfilm 0 //"


@given(forget=requests, others=lengths, seed=seeds)
def test_the_correct_ablation_differs_in_the_first_labels_only(forget: list[Example], others: int, seed: int) -> None:
    vary, correct = (
        context(forget, POOL, others=others, style=style, seed=seed)
        for style in ("vary", "ablation-correct")  # type: tuple[Style, ...]
    )
    asked = len(forget)
    assert vary[asked:] == correct[asked:]
    assert [text for text, _ in vary] == [text for text, _ in correct]
    assert [OTHER[label] for _, label in vary[:asked]] == [label for _, label in correct[:asked]]
    assert correct[:asked] == tuple((example.text, example.label) for example in forget)
    assert len(vary) == asked + others


@given(forget=requests, others=lengths, seed=seeds)
def test_what_is_forgotten_is_never_among_the_others(forget: list[Example], others: int, seed: int) -> None:
    true_labels = {example.text: example.label for example in POOL}
    asked = {example.text for example in forget}
    for style in ("vary", "ablation-correct", "ablation-exchange"):  # type: Style
        lines = context(forget, POOL, others=others, style=style, seed=seed)
        rest = lines[len(forget) :]
        assert not asked & {text for text, _ in rest}
        assert all(true_labels[text] == label for text, label in rest)
        assert len({text for text, _ in lines}) == len(lines)
        if style == "ablation-exchange":  # others are flipped in its place
            assert not asked & {text for text, _ in lines}
            assert all(true_labels[text] == OTHER[label] for text, label in lines[: len(forget)])


@given(copies=lengths, last=st.booleans())
def test_repeated_copies_differ_in_one_label(copies: int, last: bool) -> None:
    place = -1 if last else 0
    lines = context(POOL[:1], [], others=copies, style="ablation-rep", flip="last" if last else "first")
    labels = [label for _, label in lines]
    labels[place] = "positive"
    assert lines[place] == ("film 0 //", "negative")
    assert labels == ["positive"] * (copies + 1)


def test_draws_depend_on_the_seed() -> None:
    drawn = [context(POOL[:1], POOL, others=4, seed=seed) for seed in range(5)]
    assert context(POOL[:1], POOL, others=4, seed=3) == drawn[3]
    assert len(set(drawn)) == 5
    many = Example("Who?", "Ann", ("Bo", "Cy", "Di"))
    assert {flipped(many, seed=seed)[1] for seed in range(30)} == {"Bo", "Cy", "Di"}


def test_the_score_is_the_logit_of_the_label() -> None:
    log_probs = torch.tensor([0.8, 0.15, 0.05], dtype=torch.float64).log()
    assert lira_score(log_probs, torch.tensor(0)).item() == pytest.approx(math.log(4))
    logits = torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    label = torch.arange(5)
    expected = torch.logit(logits.softmax(-1).gather(-1, label[:, None])[:, 0])
    torch.testing.assert_close(lira_score(logits + 100, label), expected)
    sure = torch.tensor([0.0, -2000.0])
    assert lira_score(sure, torch.tensor(0)).item() == 2000.0


def example(secret: Secret) -> Example:
    return Example(secret.question, secret.answer, tuple(secret.told(word) for word in secret.wrong))


def test_the_context_is_the_same_whatever_the_weights_and_the_model_can_be_written(attacked: Attacked) -> None:
    forget, pool = [example(one) for one in attacked.secrets[:2]], [example(one) for one in attacked.retained]
    size = len(attacked.tokenizer)
    models = [CausalLM(tiny_model("llama", vocabulary=size, seed=seed).eval()) for seed in (0, 1)]
    made = [icul(model, attacked.tokenizer, forget, pool, template=attacked.template) for model in models]
    assert made[0].prefix == made[1].prefix
    assert isinstance(made[0], Prefixed)
    assert made[0].after == 0
    assert described(made[0])[1] == {"prefix": list(made[0].prefix), "after": 0}
    lines = context(forget, pool, others=3)
    assert lines[0][1] in forget[0].wrong
    question, answer = attacked.template(*lines[0])
    begins = attacked.tokenizer(question + answer)["input_ids"]
    assert list(made[0].prefix[: len(begins)]) == begins
    assert made[0].unguarded is models[0]


def test_control_the_weights_keep_everything(attacked: Attacked) -> None:
    """These models were taught single questions: a context is nothing they learned to read, and it disturbs all answers.

    So forget and retain answers go together, whether the labels are flipped or not.
    """
    forget, pool = [example(attacked.facts[0])], [example(one) for one in attacked.retained]
    found = {}
    for style in ("vary", "ablation-correct"):  # type: Style
        model = icul(attacked.stage.original, attacked.tokenizer, forget, pool, style=style, template=attacked.template)
        target = attacked.original.with_model(model)
        found[style] = (mean(target.leaks(attacked.facts)), target.kept())
        assert target.weights is attacked.stage.original
        assert mean(target.with_model(target.weights).leaks(attacked.facts)) == 1.0
    names = ("forget_probability", "forget_rouge")
    metrics = {name: attacked.stage.metrics[name] for name in names}
    report = evaluate({"model": model}, metrics, attacked.stage.rows, tokenizer=attacked.tokenizer)
    for leaked, kept in found.values():
        assert kept is not None
        assert max(leaked, kept) <= 0.2
    for name in names:
        value = report.scores[name].value
        assert value is not None
        assert value < 0.5


def test_what_cannot_be_shown_is_refused() -> None:
    with pytest.raises(DataError, match="no wrong label was given for 'Who"):
        context([Example("Who?", "Ann")], POOL, others=2)
    with pytest.raises(DataError, match="13 examples are to be drawn, and the pool holds 11 beside"):
        context(POOL[:1], POOL, others=12, style="ablation-exchange")
    with pytest.raises(DataError, match="nothing to forget"):
        context([], POOL, others=2)
    with pytest.raises(DataError, match="others is -1"):
        context(POOL[:1], POOL, others=-1)
    with pytest.raises(DataError, match="'Ann' is the right label of 'Who"):
        Example("Who?", "Ann", ("Bo", "Ann"))
