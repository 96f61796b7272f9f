"""Guardrails: identity where nothing is flagged, a refusal that is scored as it is written, weights as they were."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.attack import Target, mean, mentions
from unlearnkit.batch import ChatTemplate, PlainTemplate, collate_packed, collate_text, prompt_tokens, tokenize
from unlearnkit.decoding.folders import Storable, Stored
from unlearnkit.decoding.guardrail_baselines import (
    AskJudge,
    Detect,
    Gate,
    InputFilter,
    Keywords,
    LinearDetector,
    OutputFilter,
    Refusal,
    fit_detector,
    fit_logistic,
    instruction,
    joined,
    prefix,
    restored_input_filter,
    restored_output_filter,
)
from unlearnkit.decoding.uld import uld
from unlearnkit.errors import CheckpointError, DataError, NeedError
from unlearnkit.evaluate import evaluate
from unlearnkit.models.causal import CausalLM
from unlearnkit.models.generate import generate
from unlearnkit.models.tiny import tiny_model
from unlearnkit.protocols import Greedy, Model, Sampling, Site, TextGenerator
from unlearnkit.worlds.language import word_tokenizer

SORRY = "I am not able to answer that."  # in the small tokenizer's words


def names_of(world: Attacked) -> Keywords:
    return Keywords(tuple(secret.subject for secret in world.secrets))


def gate_of(world: Attacked, detect: Detect) -> Gate:
    return Gate.of(world.tokenizer, detect, template=world.template)


def filtered(world: Attacked, detect: Detect) -> InputFilter:
    refusal = Refusal.of(world.tokenizer, SORRY, template=world.template)
    return InputFilter(world.stage.original, gate_of(world, detect), refusal)


def guarded(world: Attacked, model: Model) -> Target:
    return world.original.with_model(model)


def scores(world: Attacked, model: Model) -> Mapping[str, float | None]:
    names = ("forget_probability", "forget_rouge", "retain_probability", "retain_rouge")
    metrics = {name: world.stage.metrics[name] for name in names}
    report = evaluate({"model": model}, metrics, world.stage.rows, tokenizer=world.tokenizer)
    return {name: score.value for name, score in report.scores.items()}


def logits(model: Model, ids: Sequence[Sequence[int]]) -> Tensor:
    line = torch.tensor(ids)
    inputs = {"input_ids": line, "position_ids": torch.arange(line.shape[1]).expand_as(line)}
    with torch.no_grad():
        return model.head(model.hidden(inputs).final)


def noting(seen: list[str]) -> Detect:
    """Flags nothing, and writes down what it is asked about."""

    def detect(text: str) -> bool:
        seen.append(text)
        return False

    return detect


def stored(guard: Storable, world: Attacked, **given: object) -> Stored:
    return Stored(
        parts=guard.parts,
        settings=guard.settings,
        tensors=guard.tensors,
        tokenizer=world.tokenizer,
        given=given,
        folder=Path("guard"),
    )


# --- tests of texts ---------------------------------------------------------------------------------------------------


def test_keywords_are_whole_words_in_any_case() -> None:
    found = Keywords(("Ann Bo", "fox-trot"))
    assert found("who is ANN  BO?")
    assert found("a Fox trot!")
    assert not found("who is Joann Bo?")
    assert not found("Ann and Bo trot")
    assert not found("")
    with pytest.raises(DataError, match=r"'!' holds no word"):
        Keywords(("a", "!"))


@given(st.lists(st.sampled_from("abc"), max_size=6), st.lists(st.sampled_from("abc"), min_size=1, max_size=2))
def test_keywords_are_found_where_they_stand_in_a_row(text: list[str], word: list[str]) -> None:
    stands = any(text[start : start + len(word)] == word for start in range(len(text)))
    assert Keywords((" ".join(word),))(", ".join(text)) == stands


def test_a_judge_is_asked_and_what_is_no_clear_no_is_yes() -> None:
    asked: list[str] = []

    def judge(prompts: Sequence[str]) -> Sequence[str]:
        asked.extend(prompts)
        return ["No." if "sheep" in prompts[0].split("\n")[0] else "Well, I would think so"]

    found = AskJudge(judge, ("foxes", "wolves"))
    assert found("a red tail")
    assert not found("a sheep")
    assert "about foxes and wolves?" in asked[0]
    with pytest.raises(DataError, match="2 replies to 1 prompt"):
        AskJudge(lambda _: ["yes", "no"], ("foxes",))("a")


def test_logistic_regression_is_the_usual_one() -> None:
    draws = np.random.default_rng(0)
    features = draws.normal(size=(60, 5)) * [1, 10, 0.1, 3, 0] + 4  # the last does not vary
    about = features[:, 0] + draws.normal(size=60) > 4
    weight, bias = fit_logistic(torch.tensor(features), torch.tensor(about), penalty=0.5)
    spread = np.where(features.std(0) > 0, features.std(0), 1.0)
    reference = LogisticRegression(C=2.0, tol=1e-10, max_iter=10_000).fit((features - features.mean(0)) / spread, about)
    expected = reference.decision_function((features - features.mean(0)) / spread)
    np.testing.assert_allclose(features @ weight.numpy() + bias.item(), expected, atol=1e-4)


# --- the input filter -------------------------------------------------------------------------------------------------


def test_a_filter_that_flags_nothing_is_the_model_inside(attacked: Attacked) -> None:
    inner, guard = CausalLM(attacked.stage.original), filtered(attacked, lambda _: False)
    rows = attacked.stage.rows["forget"][:4]
    inputs = collate_text(rows).inputs
    site = frozenset({Site("resid_post", 0)})
    with torch.no_grad():
        (final, sites), (plain, plain_sites) = (model.hidden(inputs, capture=site) for model in (guard, inner))
        assert torch.equal(guard.head(final), inner.head(plain))
    assert all(torch.equal(sites[name], plain_sites[name]) for name in site)
    prompts = [attacked.original.prompt(secret.question) for secret in attacked.secrets[:3]]
    sampling = Sampling(samples=1, max_new_tokens=12)
    for decoding in (Greedy(12), sampling):
        alike = [generate(model, prompts, decoding, end_tokens=frozenset({2})) for model in (guard, inner)]
        assert alike[0] == alike[1]
    assert isinstance(guard, Model)
    assert not isinstance(guard, TextGenerator)


def test_a_refusal_is_written_and_scored_alike(attacked: Attacked) -> None:
    """Flagged and other prompts of several lengths in one batch; step by step without a cache the same tokens."""
    guard = filtered(attacked, names_of(attacked))
    questions = [attacked.secrets[0].question, attacked.retained[0].question, attacked.secrets[7].paraphrases[0]]
    prompts = [attacked.original.prompt(question) for question in questions]
    written = generate(guard, prompts, Greedy(10), end_tokens=frozenset())
    end = guard.refusal.end
    said = guard.refusal.tokens
    assert written[0] == written[2] == said + (end,) * (10 - len(said))
    assert written[1] == generate(attacked.original.model, prompts[1:2], Greedy(10), end_tokens=frozenset())[0]
    for prompt, new in zip(prompts, written, strict=True):
        ids = prompt.tolist()
        for _ in range(10):
            ids.append(int(logits(guard, [ids])[0, -1].argmax()))
        assert tuple(ids[len(prompt) :]) == new


def test_padding_and_batching_change_nothing(attacked: Attacked) -> None:
    guard = filtered(attacked, names_of(attacked))
    rows = [attacked.stage.rows["forget"][0], attacked.stage.rows["retain"][1], attacked.stage.rows["forget"][5]]
    batch = collate_text(rows)
    with torch.no_grad():
        together = guard.head(guard.hidden(batch.inputs).final)
    for line, row in enumerate(rows):
        alone = logits(guard, [row.inputs["input_ids"].tolist()])[0]
        torch.testing.assert_close(together[line, : len(row)], alone, atol=1e-5, rtol=0)
    assert len({len(row) for row in rows}) > 1


def test_off_the_refusal_comes_the_end(attacked: Attacked) -> None:
    guard = filtered(attacked, names_of(attacked))
    secret = attacked.secrets[0]
    begun = attacked.original.row(secret.question, secret.answer, id="0", role="r").inputs["input_ids"][:-3]
    assert generate(guard, [begun], Greedy(5), end_tokens=frozenset({guard.refusal.end})) == ((),)
    refused = attacked.original.row(secret.question, SORRY, id="0", role="r")
    probs = logits(guard, [refused.inputs["input_ids"].tolist()])[0].softmax(-1)
    answer = (refused.labels[1:] != -100).nonzero()[:, 0]
    assert bool((probs[answer, refused.labels[1:][answer]] > 0.999).all())


def test_each_prompt_is_tested_once_and_only_the_question_is_read(attacked: Attacked) -> None:
    asked: list[str] = []

    def detect(text: str) -> bool:
        asked.append(text)
        return True

    guard = filtered(attacked, detect)
    rows = attacked.stage.rows["forget"][:2]
    with torch.no_grad():
        guard.hidden(collate_text(rows).inputs)
        guard.hidden(collate_text([*rows, rows[0]]).inputs)
    assert asked == [secret.question for secret in attacked.secrets[:2]]


def test_a_row_in_which_no_prompt_ends_is_refused_where_it_would_be_scored(attacked: Attacked) -> None:
    """Scored as if all of it were the question, it would have the inner model's own numbers."""
    asked: list[str] = []
    guard = filtered(attacked, noting(asked))
    with pytest.raises(NeedError, match="a row in which no prompt ends"):
        logits(guard, [attacked.tokenizer(attacked.secrets[0].answer)["input_ids"]])
    generate(guard, [attacked.original.prompt("Who?")[:-1]], Greedy(1), end_tokens=frozenset())
    assert len(asked) == 1  # what is to be continued is all prompt


@pytest.mark.parametrize(
    "around",
    [
        lambda a, inside: prefix(inside, a.tokenizer, "x", template=a.template),
        lambda a, inside: uld(inside, a.unlearned),
        lambda a, inside: InputFilter(inside, filtered(a, names_of(a)).gate, filtered(a, names_of(a)).refusal),
    ],
)
def test_a_filter_of_texts_is_not_lost_inside_what_acts_on_tokens(
    around: Callable[[Attacked, OutputFilter], Model], attacked: Attacked
) -> None:
    inside = OutputFilter(attacked.stage.original, names_of(attacked), attacked.tokenizer)
    with pytest.raises(NeedError, match="OutputFilter writes in a way of its own, which would be lost"):
        around(attacked, inside)


def test_control_an_input_filter_hides_what_its_words_name_and_nothing_else(attacked: Attacked) -> None:
    guard = filtered(attacked, names_of(attacked))
    target = guarded(attacked, guard)
    assert mean(target.leaks(attacked.secrets)) == 0.0
    assert target.kept() == attacked.original.kept() == 1.0
    assert set(target.answers([secret.question for secret in attacked.secrets])) == {SORRY}
    plain, found = scores(attacked, attacked.original.model), scores(attacked, guard)
    assert found["forget_probability"] is not None
    assert found["forget_probability"] < 1e-6
    assert (found["retain_probability"], found["retain_rouge"]) == (plain["retain_probability"], plain["retain_rouge"])
    assert found["forget_rouge"] is not None
    assert found["forget_rouge"] < 0.3
    # Who holds the weights has the original.
    assert target.weights is attacked.stage.original
    assert mean(target.with_model(target.weights).leaks(attacked.secrets)) == 1.0


def test_control_a_linear_detector_knows_forgotten_people_in_other_words(attacked: Attacked) -> None:
    """Taught the forgotten questions and half of the retained ones; strangers share names with the six it was taught."""
    prompt = attacked.original.prompt
    asked, others = ([prompt(one.question) for one in known] for known in (attacked.secrets, attacked.retained))
    detect = fit_detector(attacked.stage.original, attacked.tokenizer, asked, others[::2], site=Site("embed"))
    guard = filtered(attacked, detect)
    target = guarded(attacked, guard)
    assert mean(target.leaks(attacked.secrets)) == 0.0
    assert mean(target.leaks(attacked.retained[::2])) == 1.0
    reworded = [prompt(one.paraphrases[0]).tolist() for one in attacked.secrets]
    assert sum(map(guard.gate.acts_on, reworded)) >= 0.8 * len(reworded)
    strangers = [ids.tolist() for ids in others[1::2]]
    assert sum(map(guard.gate.acts_on, strangers)) <= 0.35 * len(strangers)
    again = restored_input_filter(stored(guard, attacked))
    assert isinstance(again.gate.detect, LinearDetector)
    assert [again.gate.detect.of_tokens(ids.tolist()) for ids in others] == [
        detect.of_tokens(ids.tolist()) for ids in others
    ]
    assert 0 <= detect("Who is it?") <= 1
    with pytest.raises(DataError, match="0 prompts about it and 1 others"):
        fit_detector(attacked.stage.original, attacked.tokenizer, [], others[:1])


# --- the output filter ------------------------------------------------------------------------------------------------


def test_control_an_output_filter_hides_what_was_written(attacked: Attacked) -> None:
    original = attacked.stage.original
    words = Keywords(tuple(secret.subject for secret in attacked.secrets))
    guard = OutputFilter(original, words, attacked.tokenizer, refusal=SORRY)
    target = guarded(attacked, guard)
    assert mean(target.leaks(attacked.secrets)) == 0.0
    kept = target.answers([secret.question for secret in attacked.retained])
    told = attacked.original.answers([secret.question for secret in attacked.retained])
    assert all(mine in (text, SORRY) for mine, text in zip(kept, told, strict=True))
    assert mean({one.id: mentions(text, one) for one, text in zip(attacked.retained, kept, strict=True)}) >= 0.9
    plain, found = scores(attacked, attacked.original.model), scores(attacked, guard)
    assert found["forget_probability"] == plain["forget_probability"]  # numbers of tokens are the model's
    assert found["forget_rouge"] is not None
    assert found["forget_rouge"] < 0.3
    assert target.weights is original


@pytest.mark.parametrize(("says", "expected"), [(True, 0.0), (False, 1.0)])
def test_an_output_filter_that_flags_all_or_nothing(says: bool, expected: float, attacked: Attacked) -> None:
    guard = OutputFilter(attacked.stage.original, lambda _: says, attacked.tokenizer, refusal=SORRY)
    target = guarded(attacked, guard)
    assert mean(target.leaks(attacked.secrets)) == target.kept() == expected
    prompts = [attacked.original.prompt(secret.question) for secret in attacked.secrets[:3]]
    sampling = Sampling(samples=1, temperature=2.0, max_new_tokens=8)
    if not says:
        drawn = attacked.original.continuations(prompts, sampling, seeds=[3, 4, 5])
        assert target.continuations(prompts, sampling, seeds=[3, 4, 5]) == drawn


def test_an_output_filter_reads_what_a_stop_string_leaves(attacked: Attacked) -> None:
    seen: list[str] = []
    guard = OutputFilter(attacked.stage.original, noting(seen), attacked.tokenizer)
    secret = attacked.secrets[0]
    guard.write([attacked.original.prompt(secret.question)], Greedy(16, stop=(f" {secret.keyword}",)))
    assert seen == [secret.stem]


# --- instructions, and guards in a row --------------------------------------------------------------------------------


def test_instructions() -> None:
    assert [joined(names) for names in (["A"], ["A", "B"], ["A", "B", "C"])] == ["A", "A and B", "A, B and C"]
    assert "Ann and Bo" in instruction(["Ann", "Bo"])
    longer = instruction(["Ann"], silent=True)
    assert longer.startswith(instruction(["Ann"]))
    assert longer != instruction(["Ann"])
    with pytest.raises(DataError, match="nothing to be silent about"):
        instruction([])


@pytest.mark.parametrize("begins", [False, True])
def test_an_instruction_is_read_before_the_prompt_behind_the_begin_token(begins: bool) -> None:
    tokenizer = word_tokenizer(["You know nothing of Ann.\n", "Question: Who is Ann?\nAnswer: She is a tailor."])
    if begins:
        from tokenizers.processors import TemplateProcessing

        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
        )
    inner = CausalLM(tiny_model("llama", vocabulary=len(tokenizer)).eval())
    model = prefix(inner, tokenizer, "You know nothing of Ann.", template=PlainTemplate())
    assert model.after == begins
    prompt = prompt_tokens(tokenizer, PlainTemplate(), "Who is Ann?").tolist()
    told = tokenizer("You know nothing of Ann.\n", add_special_tokens=False)["input_ids"]
    whole = prompt[:begins] + told + prompt[begins:]
    torch.testing.assert_close(logits(model, [prompt])[0, -1], logits(inner, [whole])[0, -1])
    assert model.unguarded is inner


def test_with_a_chat_template_the_instruction_is_a_turn_of_the_system_if_there_is_one() -> None:
    tokenizer = word_tokenizer(["You know nothing.", "Who?"])
    model = CausalLM(tiny_model("llama", vocabulary=len(tokenizer)))
    plain = prefix(model, tokenizer, "You know nothing.")  # this template refuses other roles
    assert str(tokenizer.decode(list(plain.prefix))).startswith("You know nothing.")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|user|>' if m['role'] != 'assistant' else '<|assistant|>' }}"
        "{{ ' ' + m['content'] }}{{ eos_token if m['role'] == 'assistant' else '' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    turn = prefix(model, tokenizer, "You know nothing.")
    assert str(tokenizer.decode(list(turn.prefix))).startswith("<|user|>")
    assert ChatTemplate(tokenizer)("Who?", "Nobody")[0] == "<|user|> Who?<|assistant|> "


def test_control_an_instruction_disturbs_all_answers_of_a_model_that_follows_none(attacked: Attacked) -> None:
    """These models were taught single questions: forget and retain answers are lost together, and the weights keep both."""
    told = instruction([attacked.secrets[0].subject])
    model = prefix(attacked.stage.original, attacked.tokenizer, told, template=attacked.template)
    target = guarded(attacked, model)
    kept = target.kept()
    assert kept is not None
    assert mean(target.leaks(attacked.secrets)) <= 0.2
    assert kept <= 0.4
    assert target.weights is attacked.stage.original
    assert all(value is not None for value in scores(attacked, model).values())


def test_guards_in_a_row(attacked: Attacked) -> None:
    """Pure filters commute; an instruction that names the targets does not commute with a filter that reads it."""
    ask = [secret.question for secret in (*attacked.secrets[:5], *attacked.retained[:10])]
    refusal = Refusal.of(attacked.tokenizer, SORRY, template=attacked.template)
    people = Keywords(tuple(secret.subject for secret in attacked.secrets[:3]))
    first, second = gate_of(attacked, people), gate_of(attacked, Keywords((attacked.retained[0].subject,)))

    def nested(*gates: Gate) -> Model:
        model: Model = CausalLM(attacked.stage.original)
        for gate in gates:
            model = InputFilter(model, gate, refusal)
        return model

    one, other = (guarded(attacked, nested(*gates)).answers(ask) for gates in ((first, second), (second, first)))
    assert one == other
    assert 0 < one.count(SORRY) < len(ask)
    word = Keywords((attacked.retained[7].keyword,))
    before = guarded(attacked, nested(first)).answers(ask)
    behind = OutputFilter(nested(first), word, attacked.tokenizer, refusal=SORRY)
    assert guarded(attacked, behind).answers(ask) == tuple(SORRY if word(text) else text for text in before)
    assert any(map(word, before))
    twice = OutputFilter(behind, lambda _: False, attacked.tokenizer)
    assert guarded(attacked, twice).answers(ask) == guarded(attacked, behind).answers(ask)
    told = f"You know {attacked.secrets[0].subject}."
    outside = InputFilter(
        prefix(attacked.stage.original, attacked.tokenizer, told, template=attacked.template), first, refusal
    )
    inside = prefix(
        InputFilter(attacked.stage.original, first, refusal), attacked.tokenizer, told, template=attacked.template
    )
    prompts = [attacked.original.prompt(secret.question) for secret in attacked.retained[:2]]
    ends = frozenset({refusal.end})
    assert refusal.tokens not in generate(outside, prompts, Greedy(9), end_tokens=ends)
    assert set(generate(inside, prompts, Greedy(9), end_tokens=ends)) == {refusal.tokens}
    for model in (nested(first, second), twice, outside, inside):
        assert guarded(attacked, model).weights is attacked.stage.original


# --- on disk ----------------------------------------------------------------------------------------------------------


def test_filters_come_back_as_they_were(attacked: Attacked) -> None:
    guard = filtered(attacked, names_of(attacked))
    assert isinstance(guard, Storable)
    again = restored_input_filter(stored(guard, attacked))
    assert again.settings == guard.settings
    ids = [attacked.stage.rows["forget"][0].inputs["input_ids"].tolist()]
    assert torch.equal(logits(again, ids), logits(guard, ids))
    out = OutputFilter(attacked.stage.original, names_of(attacked), attacked.tokenizer, refusal=SORRY, threshold=0.25)
    assert isinstance(out, Storable)
    back = restored_output_filter(stored(out, attacked))
    assert back.settings == out.settings
    assert back.threshold == 0.25
    own = filtered(attacked, lambda _: True)
    with pytest.raises(CheckpointError, match=r"needs its detect given again"):
        restored_input_filter(stored(own, attacked))
    assert torch.equal(
        logits(restored_input_filter(stored(own, attacked, detect=own.gate.detect)), ids), logits(own, ids)
    )
    with pytest.raises(CheckpointError, match="detect is a str"):
        restored_input_filter(stored(own, attacked, detect="no"))


def test_what_cannot_be_guarded_is_refused(attacked: Attacked) -> None:
    guard = filtered(attacked, names_of(attacked))
    out = OutputFilter(attacked.stage.original, names_of(attacked), attacked.tokenizer)
    with pytest.raises(NeedError, match="OutputFilter writes in a way of its own"):
        InputFilter(out, guard.gate, guard.refusal)
    with pytest.raises(NeedError, match="packed rows"), torch.no_grad():
        guard.hidden(collate_packed(attacked.stage.rows["forget"][:2]).inputs)
    tokenizer = word_tokenizer(["Sorry"])
    tokenizer.eos_token = None
    with pytest.raises(DataError, match="no token that ends an answer"):
        Refusal.of(tokenizer, "Sorry", template=PlainTemplate())
    row = tokenize(attacked.tokenizer, "What?", SORRY, id="0", role="r", template=attacked.template)
    assert Refusal.of(attacked.tokenizer, SORRY, template=attacked.template).end == int(row.labels[-1])
