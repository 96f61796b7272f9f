"""ECO prompts: corruptions that leave the rest alone, a search for their strength, and a model that reads flagged prompts so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from attrs import evolve
from hypothesis import given, strategies as st
from torch import Tensor

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.attack import mean
from unlearnkit.batch import collate_packed, collate_text
from unlearnkit.decoding.eco_prompts import (
    Act,
    CorruptedPrompts,
    Corruption,
    Which,
    dimensions,
    overlapping,
    restored,
    search_strength,
    search_strengths,
)
from unlearnkit.decoding.folders import Storable, Stored
from unlearnkit.decoding.guardrail_baselines import Detect, Gate, Keywords, OutputFilter
from unlearnkit.errors import CheckpointError, NeedError, NonFiniteError
from unlearnkit.evaluate import evaluate
from unlearnkit.models.causal import CausalLM
from unlearnkit.models.generate import generate
from unlearnkit.protocols import Greedy, Model, Site

STRONG = Corruption(count=10**6, strength=3.0)

acts: tuple[Act, ...] = ("add_noise", "set_noise", "zero", "flip_sign", "shift")
whiches: tuple[Which, ...] = ("first", "largest", "highest", "lowest", "random")


def table(rows: int = 5, size: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(rows, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# --- corruptions ------------------------------------------------------------------------------------------------------


def test_small_examples() -> None:
    one = torch.tensor([[1.0, -4.0, 3.0], [-2.0, 0.5, 1.0]])
    done: dict[tuple[Act, Which], list[list[float]]] = {
        ("zero", "largest"): [[1.0, 0.0, 0.0], [0.0, 0.5, 0.0]],
        ("zero", "first"): [[0.0, 0.0, 3.0], [0.0, 0.0, 1.0]],
        ("flip_sign", "first"): [[-1.0, 4.0, 3.0], [2.0, -0.5, 1.0]],
        ("shift", "highest"): [[3.0, -4.0, 5.0], [-2.0, 2.5, 3.0]],
        ("shift", "lowest"): [[3.0, -2.0, 3.0], [0.0, 2.5, 1.0]],
    }
    for (act, which), expected in done.items():
        found = Corruption(act=act, which=which, count=2, strength=2.0)(one, seed=0)
        assert found.tolist() == expected
    assert Corruption(act="reverse")(one, seed=0).tolist() == one.flip(0).tolist()


@given(act=st.sampled_from(acts), which=st.sampled_from(whiches), count=st.integers(1, 12), seed=st.integers(0, 2**40))
def test_only_chosen_dimensions_change(act: Act, which: Which, count: int, seed: int) -> None:
    before = table()
    kept = before.clone()
    after = Corruption(act=act, which=which, count=count, strength=0.7)(before, seed=seed)
    where = dimensions(before, which, count, seed=seed)
    assert where.sum(-1).tolist() == [min(count, 8)] * 5
    assert torch.equal(after[~where], before[~where])
    assert bool((after[where] != before[where]).all())
    assert torch.equal(before, kept)
    assert torch.equal(after, Corruption(act=act, which=which, count=count, strength=0.7)(before, seed=seed))


@given(act=st.sampled_from(["add_noise", "shift"]), which=st.sampled_from(whiches), seed=st.integers(0, 100))
def test_no_strength_is_the_identity(act: Act, which: Which, seed: int) -> None:
    assert torch.equal(Corruption(act=act, which=which, count=4)(table(), seed=seed), table())


@pytest.mark.parametrize(("act", "which"), [("reverse", "first"), ("flip_sign", "first"), ("flip_sign", "largest")])
def test_twice_is_the_identity(act: Act, which: Which) -> None:
    corruption = Corruption(act=act, which=which, count=3)
    once = corruption(table(), seed=0)
    assert not torch.equal(once, table())
    assert torch.equal(corruption(once, seed=0), table())


def test_a_shuffle_keeps_the_embeddings_and_noise_has_its_strength() -> None:
    before = table(rows=9)
    after = Corruption(act="shuffle")(before, seed=1)
    assert sorted(after.tolist()) == sorted(before.tolist())
    assert not torch.equal(after, before)
    wide = torch.zeros(400, 50)
    drawn = Corruption(count=50, strength=5.0)(wide, seed=0)
    assert drawn.std().item() == pytest.approx(5.0, rel=0.02)
    assert not torch.equal(drawn, Corruption(count=50, strength=5.0)(wide, seed=1))
    torch.testing.assert_close(drawn / 5, Corruption(count=50, strength=1.0)(wide, seed=0))
    with pytest.raises(ValueError, match="strength is nan"):
        Corruption(strength=math.nan)
    with pytest.raises(ValueError, match="'count' must be >= 1"):
        Corruption(count=0)


# --- the search -------------------------------------------------------------------------------------------------------


def test_a_search_by_hand() -> None:
    """s(x) = (x - 3)^2 from 0.1: the lower point is cut off at 1e-8 and the divisor stays."""
    (one,) = search_strength(lambda x: (x - 3) ** 2, start=0.1, epsilon=0.2, rate=0.5, steps=1)
    above, below = 2.7**2, (3 - 1e-8) ** 2
    assert one.above == pytest.approx(above)
    assert one.below == pytest.approx(below)
    assert one.strength == pytest.approx(0.1 - 0.5 * (above - below) / 0.4)
    many = search_strength(lambda x: (x - 3) ** 2, rate=0.3, steps=40)
    assert many[-1].strength == pytest.approx(3.0, abs=1e-3)


def test_a_search_stops_and_never_goes_below_the_lowest() -> None:
    tried = search_strength(lambda x: 1 / (1 + x), rate=1.0, stop_below=0.27, steps=100)
    assert [step.above < 0.27 for step in tried] == [False] * (len(tried) - 1) + [True]
    uphill = search_strength(lambda x: x, lowest=0.05, steps=3)
    assert [step.strength for step in uphill] == [0.05] * 3
    assert [step.strength for step in search_strength(lambda x: x, steps=2)] == [0.1] * 2
    with pytest.raises(NonFiniteError, match="nan"):
        search_strength(lambda _: math.nan)


def test_a_search_of_vectors_goes_down_along_one_direction_a_step() -> None:
    start = torch.full((4,), 1.0, dtype=torch.float64)
    goal = torch.tensor([2.0, 3.0, 1.0, 2.5], dtype=torch.float64)

    def score(strengths: Tensor) -> float:
        return float((strengths - goal).square().sum())

    tried = search_strengths(score, start, epsilon=0.01, rate=0.4, lowest=0.5, steps=60)
    last = tried[-1].strength
    assert isinstance(last, Tensor)
    assert score(last) < 1e-2 < score(start)
    again = search_strengths(score, start, epsilon=0.01, rate=0.4, lowest=0.5, steps=60)[-1].strength
    assert isinstance(again, Tensor)
    assert torch.equal(again, last)
    low = search_strengths(lambda x: float(x.sum()), start, epsilon=0.1, rate=50.0, lowest=0.5, steps=30)[-1].strength
    assert isinstance(low, Tensor)
    assert low.min() >= 0.5


# --- marks ------------------------------------------------------------------------------------------------------------

spans = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 5)).map(lambda one: (one[0], sum(one))), max_size=5)


@given(marked=spans, tokens=spans)
def test_tokens_that_share_a_character_are_marked(marked: list[tuple[int, int]], tokens: list[tuple[int, int]]) -> None:
    touched = {place for start, end in marked for place in range(start, end)}
    assert overlapping(marked, tokens) == tuple(bool(touched & set(range(*token))) for token in tokens)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.data())
def test_with_one_tokenizer_marks_map_to_themselves(widths: list[int], data: st.DataObject) -> None:
    ends = [sum(widths[: place + 1]) for place in range(len(widths))]
    tokens = [(end - width, end) for end, width in zip(ends, widths, strict=True)]
    labels = data.draw(st.lists(st.booleans(), min_size=len(tokens), max_size=len(tokens)))
    assert overlapping([token for token, label in zip(tokens, labels, strict=True) if label], tokens) == tuple(labels)


# --- the model --------------------------------------------------------------------------------------------------------


def names_of(world: Attacked) -> Keywords:
    return Keywords(tuple(secret.subject for secret in world.secrets))


def corrupted(world: Attacked, detect: Detect, corruption: Corruption = STRONG) -> CorruptedPrompts:
    gate = Gate.of(world.tokenizer, detect, template=world.template, threshold=0.99)
    return CorruptedPrompts(world.stage.original, gate, corruption)


def logits(model: Model, ids: Sequence[Sequence[int]]) -> Tensor:
    line = torch.tensor(ids)
    inputs = {"input_ids": line, "position_ids": torch.arange(line.shape[1]).expand_as(line)}
    with torch.no_grad():
        return model.head(model.hidden(inputs).final)


def test_unflagged_prompts_and_no_strength_change_nothing(attacked: Attacked) -> None:
    inner = CausalLM(attacked.stage.original)
    rows = [attacked.stage.rows["forget"][0], attacked.stage.rows["retain"][1]]
    batch = collate_text(rows)
    with torch.no_grad():
        plain = inner.head(inner.hidden(batch.inputs).final)
        some = corrupted(attacked, names_of(attacked))
        mixed = some.head(some.hidden(batch.inputs).final)
        assert torch.equal(mixed[1], plain[1])
        assert not torch.equal(mixed[0], plain[0])
        for guard in (
            corrupted(attacked, lambda _: 0.99),  # not more than the threshold
            corrupted(attacked, lambda _: True, Corruption(strength=0.0)),
        ):
            assert torch.equal(guard.head(guard.hidden(batch.inputs).final), plain)
    prompts = [attacked.original.prompt(one.question) for one in attacked.retained[:3]]
    ends = frozenset({2})
    assert generate(some, prompts, Greedy(9), end_tokens=ends) == generate(inner, prompts, Greedy(9), end_tokens=ends)


@pytest.mark.parametrize("act", ["add_noise", "shuffle"])
def test_only_the_prompt_but_its_last_token_is_corrupted(act: Act, attacked: Attacked) -> None:
    guard, site = corrupted(attacked, lambda _: True, evolve(STRONG, act=act)), Site("embed")
    row = attacked.stage.rows["forget"][0]
    inputs = collate_text([row]).inputs
    prompt = len(attacked.original.prompt(attacked.secrets[0].question))
    with torch.no_grad():
        (_, sites), (_, plain) = (
            model.hidden(inputs, capture=frozenset({site})) for model in (guard, CausalLM(attacked.stage.original))
        )
        shift = torch.ones(96)
        _, pushed = guard.hidden(inputs, capture=frozenset({site}), add={site: shift})
    changed = (sites[site] != plain[site]).any(-1)[0]
    assert not bool(changed[prompt - 1 :].any())
    assert int(changed[: prompt - 1].sum()) >= (prompt - 1 if act == "add_noise" else 2)
    torch.testing.assert_close(pushed[site], sites[site] + shift)


def test_the_same_noise_in_scoring_and_writing_alone_and_in_a_batch(attacked: Attacked) -> None:
    guard = corrupted(attacked, names_of(attacked))
    chosen = (attacked.secrets[0], attacked.retained[0], attacked.secrets[7], attacked.secrets[12])
    prompts = [attacked.original.prompt(secret.question) for secret in chosen]
    written = generate(guard, prompts, Greedy(6), end_tokens=frozenset())
    for prompt, new in zip(prompts, written, strict=True):
        assert generate(guard, [prompt], Greedy(6), end_tokens=frozenset()) == (new,)
        ids = prompt.tolist()
        for _ in range(6):
            ids.append(int(logits(guard, [ids])[0, -1].argmax()))
        assert tuple(ids[len(prompt) :]) == new
    rows = attacked.stage.rows["forget"][:4]
    with torch.no_grad():
        together = guard.head(guard.hidden(collate_text(rows).inputs).final)
    for line, row in enumerate(rows):
        alone = logits(guard, [row.inputs["input_ids"].tolist()])[0]
        torch.testing.assert_close(together[line, : len(row)], alone, atol=1e-4, rtol=0)
    other = CorruptedPrompts(attacked.stage.original, guard.gate, STRONG, seed=1)
    ids = [rows[0].inputs["input_ids"].tolist()]
    assert not torch.equal(logits(other, ids), logits(guard, ids))


def test_a_marker_says_what_is_corrupted(attacked: Attacked) -> None:
    """The tokens of a name; without a name in the prompt all but the last."""
    secret = attacked.secrets[0]

    def mark(text: str) -> Sequence[tuple[int, int]]:
        start = text.find(secret.subject)
        return [(start, start + len(secret.subject))] if start >= 0 else []

    guard = CorruptedPrompts(attacked.stage.original, corrupted(attacked, lambda _: True).gate, STRONG, mark=mark)
    prompt = attacked.original.prompt(secret.question).tolist()
    words = [str(attacked.tokenizer.decode([prompt[place]])) for place in guard.marked(prompt)]
    assert " ".join(words) == secret.subject
    other = attacked.original.prompt(attacked.retained[0].question).tolist()
    assert guard.marked(other) == list(range(len(other) - 1))


def test_control_flagged_questions_lose_their_answers_and_nothing_else_does(attacked: Attacked) -> None:
    """Noise of strength 5 on one dimension, as released for TOFU; the weights are the original's."""
    guard = corrupted(attacked, names_of(attacked), Corruption(strength=5.0))
    target = attacked.original.with_model(guard)
    assert mean(target.leaks(attacked.secrets)) <= 0.15
    assert target.kept() == 1.0
    assert target.weights is attacked.stage.original
    names = ("forget_probability", "forget_rouge", "retain_probability", "retain_rouge")
    metrics = {name: attacked.stage.metrics[name] for name in names}
    plain, found = (
        evaluate({"model": model}, metrics, attacked.stage.rows, tokenizer=attacked.tokenizer).scores
        for model in (attacked.original.model, guard)
    )
    assert all(found[name].value == plain[name].value for name in ("retain_probability", "retain_rouge"))
    for name in ("forget_probability", "forget_rouge"):
        before, after = plain[name].value, found[name].value
        assert before is not None
        assert after is not None
        assert after < before / 2


def test_it_comes_back_as_it_was(attacked: Attacked) -> None:
    def stored(guard: Storable, **given: object) -> Stored:
        return Stored(
            parts=guard.parts,
            settings=guard.settings,
            tensors=guard.tensors,
            tokenizer=attacked.tokenizer,
            given=given,
            folder=Path("guard"),
        )

    gate = corrupted(attacked, names_of(attacked)).gate
    guard = CorruptedPrompts(attacked.stage.original, gate, Corruption(count=40, strength=2.0), seed=4)
    assert isinstance(guard, Storable)
    again = restored(stored(guard))
    ids = [attacked.stage.rows["forget"][0].inputs["input_ids"].tolist()]
    assert torch.equal(logits(again, ids), logits(guard, ids))
    assert again.settings == guard.settings

    def mark(text: str) -> Sequence[tuple[int, int]]:
        return [(0, 3)]

    marked = CorruptedPrompts(attacked.stage.original, gate, STRONG, mark=mark)
    with pytest.raises(CheckpointError, match="needs its mark given again"):
        restored(stored(marked))
    assert torch.equal(logits(restored(stored(marked, mark=mark)), ids), logits(marked, ids))


def test_what_cannot_be_corrupted_is_refused(attacked: Attacked) -> None:
    guard = corrupted(attacked, names_of(attacked))
    out = OutputFilter(attacked.stage.original, names_of(attacked), attacked.tokenizer)
    with pytest.raises(NeedError, match="OutputFilter writes in a way of its own"):
        CorruptedPrompts(out, guard.gate, STRONG)
    with pytest.raises(NeedError, match="packed rows"), torch.no_grad():
        guard.hidden(collate_packed(attacked.stage.rows["forget"][:2]).inputs)
