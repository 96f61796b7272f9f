"""FADE: two-way gaps as divergences, symmetry, rows of what was written, a model that leaves the oracle."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from attrs import evolve
from hypothesis import given, strategies as st

from tests.tables import random_table
from unlearnkit.batch import IGNORE, Row
from unlearnkit.errors import DataError
from unlearnkit.evaluate import gather
from unlearnkit.metrics.fade import Fade, likelihood_gaps, sample_rows
from unlearnkit.models.causal import CausalLM
from unlearnkit.models.generate import end_tokens
from unlearnkit.models.tiny import tiny_model
from unlearnkit.protocols import Continuations, Generated, Sampling, Tokens
from unlearnkit.statistics import LabelLogProb
from unlearnkit.testing import Table, seen_from_tables
from unlearnkit.worlds.fictitious import build_tokenizer, build_world

nats = st.floats(-40, 0)
answers = st.lists(st.lists(st.tuples(nats, nats), max_size=5), min_size=1, max_size=5)
TENTHS = st.lists(st.integers(1, 5), min_size=2, max_size=4)


def gaps(found: list[list[tuple[float, float]]], *, per_token: bool = True, swapped: bool = False) -> list[float]:
    pairs = torch.tensor([pair for answer in found for pair in answer], dtype=torch.float64).reshape(-1, 2)
    row = torch.tensor([number for number, answer in enumerate(found) for _ in answer], dtype=torch.int64)
    own, other = (pairs[:, 1], pairs[:, 0]) if swapped else (pairs[:, 0], pairs[:, 1])
    return likelihood_gaps(own, other, row, rows=len(found), per_token=per_token).tolist()


# --- gaps -------------------------------------------------------------------------------------------------------------


@given(found=answers)
def test_definition(found: list[list[tuple[float, float]]]) -> None:
    whole = [math.fsum(own - other for own, other in answer) if answer else math.nan for answer in found]
    each = [total / len(answer) if answer else math.nan for total, answer in zip(whole, found, strict=True)]
    assert gaps(found, per_token=False) == pytest.approx(whole, nan_ok=True, abs=1e-9)
    assert gaps(found) == pytest.approx(each, nan_ok=True, abs=1e-9)
    assert gaps(found, swapped=True) == pytest.approx([-value for value in each], nan_ok=True, abs=1e-9)


def test_an_answer_the_other_model_never_writes_is_infinitely_far() -> None:
    assert gaps([[(-1.0, -math.inf), (-1.0, -1.0)]]) == [math.inf]


def one_token_tables(weights: Sequence[int], others: Sequence[int]) -> dict[str, dict[str, Table]]:
    """Two models of one prompt, answers of one token: each writes every token as often as its weight says."""
    log_probs = [torch.tensor(found, dtype=torch.float64).log() for found in (weights, others)]
    models: dict[str, dict[str, Table]] = {"model": {}, "oracle": {}}
    for role, counts in (("forget_written", weights), ("forget_oracle_written", others)):
        written = [token for token, count in enumerate(counts) for _ in range(count)]
        labels = torch.tensor([[IGNORE, token] for token in written])
        for name, values in zip(models, log_probs, strict=True):
            logits = values.expand(len(written), 2, -1)
            models[name][role] = Table(logits, labels, groups=("prompt",) * len(written))
    return models


@given(data=st.data())
def test_expected_gaps_are_divergences(data: st.DataObject) -> None:
    """With each answer as often as its probability says, a and b are the two KL divergences, and not negative."""
    weights = data.draw(TENTHS)
    others = data.draw(st.lists(st.integers(1, 5), min_size=len(weights), max_size=len(weights)))
    p, q = ([value / sum(found) for value in found] for found in (weights, others))
    forward = math.fsum(x * math.log(x / y) for x, y in zip(p, q, strict=True))
    backward = math.fsum(y * math.log(y / x) for x, y in zip(p, q, strict=True))
    metric = Fade()
    score = metric(seen_from_tables(metric.needs, one_token_tables(weights, others)))
    assert score.parts == pytest.approx({"a": forward, "b": backward, "jeffreys": forward + backward}, abs=1e-12)
    assert score.value == pytest.approx((forward + backward) / 2, abs=1e-12)
    assert min(score.parts.values()) >= -1e-12


# --- the metric -------------------------------------------------------------------------------------------------------

LENGTHS = [(2, 3), (1, 1), (2, 5), (1, 2)]
GROUPS = ("x", "x", "y", "y")


def models(seed: int) -> dict[str, dict[str, Table]]:
    """Two random models of the same answers, those of one and those of the other."""
    tables: dict[str, dict[str, Table]] = {"model": {}, "oracle": {}}
    for number, role in enumerate(("forget_written", "forget_oracle_written")):
        base = evolve(random_table(seed + number, LENGTHS), groups=GROUPS)
        for place, name in enumerate(tables):
            tables[name][role] = evolve(base, logits=random_table(seed + 10 * place + 3, LENGTHS).logits)
    return tables


@pytest.mark.parametrize("seed", range(4))
def test_worked_through(seed: int) -> None:
    metric = Fade()
    seen = seen_from_tables(metric.needs, models(seed))
    expected, sides = {}, {"a": 0.0, "b": 0.0, "jeffreys": 0.0}
    for prompt, rows in (("x", (0, 1)), ("y", (2, 3))):
        both = []
        for side, role, own, other in (
            ("a", "forget_written", "model", "oracle"),
            ("b", "forget_oracle_written", "oracle", "model"),
        ):
            ours, theirs = (seen[Tokens(LabelLogProb(), role, of=of)].split() for of in (own, other))
            whole = [(ours[row] - theirs[row]).sum().item() for row in rows]
            both.append(sum(gap / LENGTHS[row][1] for gap, row in zip(whole, rows, strict=True)) / 2)
            sides[side] += both[-1] / 2
            sides["jeffreys"] += sum(whole) / 2 / 2
        expected[prompt] = (abs(both[0]) + abs(both[1])) / 2
    score = metric(seen)
    assert score.per_example == pytest.approx(expected)
    assert score.parts == pytest.approx(sides)
    assert score.value == pytest.approx(sum(expected.values()) / 2)
    assert score.higher == "knowledge"


def test_gaps_of_both_signs_do_not_cancel() -> None:
    """One sample each, which the oracle finds likelier than the model does."""
    tables = one_token_tables([1, 1], [2, 1])
    first = {name: {role: one_row(table) for role, table in found.items()} for name, found in tables.items()}
    metric = Fade()
    score = metric(seen_from_tables(metric.needs, first))
    gap = math.log(2 / 3) - math.log(1 / 2)
    assert score.parts == pytest.approx({"a": -gap, "b": gap, "jeffreys": 0.0})
    assert score.value == pytest.approx(gap)


def one_row(table: Table) -> Table:
    """The first row alone."""
    return Table(table.logits[:1], table.labels[:1], groups=table.groups[:1])


def test_equal_models_are_at_zero_exactly() -> None:
    tables = models(2)
    metric = Fade()
    score = metric(seen_from_tables(metric.needs, {"model": tables["model"], "oracle": tables["model"]}))
    assert score.value == 0
    assert score.parts == {"a": 0, "b": 0, "jeffreys": 0}


def test_symmetric_in_the_two_models() -> None:
    tables = models(3)
    metric = Fade()
    score = metric(seen_from_tables(metric.needs, tables))
    swapped = Fade("forget_oracle_written", "forget_written", of="oracle", oracle="model")
    other = swapped(seen_from_tables(swapped.needs, tables))
    assert other.value == pytest.approx(score.value)
    assert (other.parts["a"], other.parts["b"]) == pytest.approx((score.parts["b"], score.parts["a"]))
    assert other.parts["jeffreys"] == pytest.approx(score.parts["jeffreys"])


def test_a_constant_in_the_logits_changes_nothing() -> None:
    tables = models(4)
    metric = Fade()
    expected = metric(seen_from_tables(metric.needs, tables)).value
    for role in tables["model"]:
        table = tables["model"][role]
        tables["model"][role] = evolve(table, logits=table.logits + torch.arange(table.logits.shape[1])[:, None] - 4.0)
    assert metric(seen_from_tables(metric.needs, tables)).value == pytest.approx(expected, rel=1e-9)


def test_control_the_further_from_the_oracle_the_higher() -> None:
    """Samples of a model that still knows are unlikely under the oracle; the retrained model's own are not."""
    metric = Fade()
    oracle = [4, 4, 1, 1]
    distances = [
        metric(seen_from_tables(metric.needs, one_token_tables(weights, oracle))).value
        for weights in ([4, 4, 1, 1], [3, 3, 2, 2], [1, 1, 4, 4])
    ]
    assert distances[0] == 0
    assert None not in distances
    assert distances == sorted(distances, key=lambda value: value or 0.0)
    assert distances[2] is not None
    assert distances[2] > 0.5


def test_a_prompt_without_samples_of_both_is_refused() -> None:
    tables = models(5)
    for name in tables:
        role = "forget_oracle_written"
        tables[name][role] = evolve(tables[name][role], groups=("x", "x", "x", "z"))
    metric = Fade()
    with pytest.raises(DataError, match=r"prompt 'y' has samples in only one .* and so have 1 others"):
        metric(seen_from_tables(metric.needs, tables))


def test_a_sample_without_tokens_is_not_measured() -> None:
    tables = models(6)
    for name in tables:
        table = tables[name]["forget_written"]
        labels = table.labels.clone()
        labels[1] = IGNORE
        tables[name]["forget_written"] = evolve(table, labels=labels)
    metric = Fade()
    score = metric(seen_from_tables(metric.needs, tables))
    assert (list(score.per_example), score.left_out) == (["y"], ("x",))
    assert all(map(math.isfinite, score.parts.values()))


def test_samples_that_neither_model_could_write_do_not_break_the_mean() -> None:
    tables = models(6)
    for place, name in enumerate(("model", "oracle")):  # each rules out another sample of "x"
        table = tables[name]["forget_written"]
        logits = table.logits.clone()
        first = int((table.labels[place] != IGNORE).nonzero()[0])
        logits[place, first - 1, table.labels[place, first]] = -torch.inf
        tables[name]["forget_written"] = evolve(table, logits=logits)
    metric = Fade()
    score = metric(seen_from_tables(metric.needs, tables))
    assert (list(score.per_example), score.left_out) == (["y"], ("x",))


# --- rows -------------------------------------------------------------------------------------------------------------

PROMPTS = (
    Row("p", "forget", {"input_ids": torch.tensor([4, 5, 6])}, torch.tensor([IGNORE, IGNORE, 6])),
    Row("q", "forget", {"input_ids": torch.tensor([7, 8])}, torch.tensor([IGNORE, 8])),
)


def wrote(*tokens: tuple[tuple[int, ...], ...]) -> Continuations:
    return Continuations(("",) * len(tokens), ("",) * len(tokens), tokens=tokens)


def test_rows_of_samples() -> None:
    decoding = Sampling(samples=2, max_new_tokens=3)
    rows = sample_rows(PROMPTS, wrote(((9, 9, 9), ()), ((1,), (2, 3))), decoding, role="written", end_token=0)
    assert [row.inputs["input_ids"].tolist() for row in rows] == [[4, 5, 9, 9, 9], [4, 5, 0], [7, 1, 0], [7, 2, 3, 0]]
    assert [row.labels[row.labels != IGNORE].tolist() for row in rows] == [[9, 9, 9], [0], [1, 0], [2, 3, 0]]
    assert [row.id for row in rows] == ["p@0", "p@1", "q@0", "q@1"]
    assert [row.group for row in rows] == ["p", "p", "q", "q"]
    assert {row.role for row in rows} == {"written"}


def test_samples_that_cannot_be_scored_are_refused() -> None:
    with pytest.raises(DataError, match="stop strings"):
        sample_rows(PROMPTS, wrote(((),), ((),)), Sampling(stop=("\n",)), role="r", end_token=0)
    with pytest.raises(DataError, match="2 prompts, but token ids of samples for 1"):
        sample_rows(PROMPTS, wrote(((),)), Sampling(), role="r", end_token=0)
    with pytest.raises(DataError, match="for 0"):
        sample_rows(PROMPTS, Continuations(("a", "b"), ("a", "b")), Sampling(), role="r", end_token=0)


def test_from_samples_to_score() -> None:
    """Generated by two models, turned into rows, scored by both: 0 against itself, and close to KL against another."""
    tokenizer = build_tokenizer(build_world())
    pair = {
        name: CausalLM(tiny_model("llama", vocabulary=len(tokenizer), seed=seed))
        for name, seed in (("model", 0), ("oracle", 1))
    }
    decoding = Sampling(samples=3, max_new_tokens=4)
    (end,) = end_tokens(tokenizer, pair["model"])
    metric, needs = Fade(), {of: Generated(decoding, "forget", of=of) for of in pair}
    seen = gather(pair, frozenset(needs.values()), {"forget": PROMPTS}, tokenizer=tokenizer)
    data = {
        role: sample_rows(PROMPTS, seen[needs[of]], decoding, role=role, end_token=end)
        for role, of in ((metric.written, "model"), (metric.oracle_written, "oracle"))
    }
    score = metric(gather(pair, metric.needs, data))
    assert score.n == 2
    assert min(score.parts.values()) > 0
    same = metric(gather({"model": pair["model"], "oracle": pair["model"]}, metric.needs, data))
    assert same.value == 0
