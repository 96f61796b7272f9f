"""What the engine is compared with computes the same loss and the same gradient."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from attrs import evolve
from torch import Tensor
from transformers import PreTrainedModel

from tests.toy import VOCABULARY, toy_rows
from unlearnkit.models.causal import CausalLM
from unlearnkit.models.tiny import tiny_model
from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.objectives.npo import NPO
from unlearnkit.objectives.retain_kl import RetainKL
from unlearnkit.observe import HeadBudget
from unlearnkit.protocols import Objective
from unlearnkit.recording import digest
from unlearnkit.train import Engine

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import evaluation
import shard_means
import speed
from baselines import bare_minimum, common_way
from baselines.rows import ROLES, lengths, random_rows

BETA = 0.5
FORGET = toy_rows("forget", [(2, 3), (4, 1), (1, 6), (3, 3)])
RETAIN = toy_rows("retain", [(3, 2), (1, 7), (5, 4)], seed=1)
OBJECTIVES: dict[str, Objective] = {
    "nll": NPO(beta=BETA) + CrossEntropy("retain"),
    "kl": NPO(beta=BETA) + RetainKL(),
}
PIECES = [[*FORGET[:1], *RETAIN], FORGET[1:3], FORGET[3:]]
Backward = Callable[[PreTrainedModel, PreTrainedModel], float]


def common(loss: Callable[..., Tensor]) -> Backward:
    def backward(model: PreTrainedModel, reference: PreTrainedModel) -> float:
        value = loss(model, reference, FORGET, RETAIN, beta=BETA)
        value.backward()
        return float(value.detach())

    return backward


def bare_nll(model: PreTrainedModel, reference: PreTrainedModel) -> float:
    with torch.no_grad():
        batch = common_way.collate(FORGET)
        nll = common_way.sequence_nll(common_way.full_logits(reference, batch), batch["labels"])
    recorded = {row.id: -value for row, value in zip(FORGET, nll.tolist(), strict=True)}
    return bare_minimum.npo_retain_nll(model, recorded, PIECES, beta=BETA)


BASELINES: dict[tuple[str, str], Backward] = {
    ("common way", "nll"): common(common_way.npo_retain_nll),
    ("common way", "kl"): common(common_way.npo_retain_kl),
    ("bare minimum", "nll"): bare_nll,
    ("bare minimum", "kl"): lambda model, other: bare_minimum.npo_retain_kl(model, other, PIECES, beta=BETA),
}


@pytest.mark.parametrize("kept_bytes", [0, 2**30])
@pytest.mark.parametrize(("baseline", "retain"), BASELINES)
def test_loss_and_gradient_are_the_engines(baseline: str, retain: str, kept_bytes: int) -> None:
    reference = tiny_model("llama", vocabulary=VOCABULARY, seed=1)
    theirs, ours = (tiny_model("llama", vocabulary=VOCABULARY) for _ in range(2))
    loss = BASELINES[baseline, retain](theirs, reference)
    engine = Engine(
        models={"model": CausalLM(ours), "reference": CausalLM(reference)}, budget=HeadBudget(kept_bytes=kept_bytes)
    )
    _, total = engine.backward(OBJECTIVES[retain], [*FORGET, *RETAIN])
    assert loss == pytest.approx(float(total), rel=1e-5)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert mine.grad is not None
        torch.testing.assert_close(other.grad, mine.grad, rtol=1e-4, atol=1e-6)
    assert all(parameter.grad is None for parameter in reference.parameters())


@pytest.mark.parametrize("role", ROLES)
def test_random_rows_have_the_recorded_lengths(role: str) -> None:
    rows = random_rows(role, 97)
    answers = [int((row.labels >= 0).sum()) for row in rows]
    assert [(len(row) - answer, answer) for row, answer in zip(rows, answers, strict=True)] == lengths(role)
    assert len(rows) == 128
    assert max(int(row.inputs["input_ids"].max()) for row in rows) < 97


@pytest.mark.parametrize("objective", speed.OBJECTIVES)
def test_the_variants_that_are_timed_compute_the_same(objective: str, tmp_path: Path) -> None:
    size = speed.Size(vocabulary=50, hidden=32, layers=1, heads=2, intermediate=32)
    rows = {role: random_rows(role, size.vocabulary)[:4] for role in ROLES}
    batches = [[row for role in ROLES for row in rows[role][start : start + 2]] for start in (0, 2)]
    timed, apart = speed.times(size, objective, rows, batches, 64, tmp_path)
    assert apart < 1e-5
    assert set(timed) == set(speed.VARIANTS[objective])
    padded = sum(2 * max(map(len, batches[1][start : start + 2])) for start in (0, 2))
    assert timed[speed.COMMON].positions == padded
    assert all(len(one.seconds) == 1 for one in timed.values())


def test_rows_reach_another_process(tmp_path: Path) -> None:
    speed.write_rows(tmp_path / "rows.json", [FORGET, RETAIN])
    again = speed.read_rows(tmp_path / "rows.json")
    assert [digest(row) for rows in again for row in rows] == [digest(row) for row in (*FORGET, *RETAIN)]
    assert [row.role for row in again[1]] == ["retain"] * len(RETAIN)


def test_averaged_shard_means_are_another_gradient_and_the_engines_is_not() -> None:
    model = shard_means.small_llama(50, 32)
    rows = [evolve(row, role=shard_means.ROLE) for row in random_rows("forget", 50)[:8]]
    errors = shard_means.compare(model, rows)
    assert errors.averaged[1] == 0.0
    assert errors.averaged[8] > 0.01
    assert max(errors.engine.values()) < 1e-12


def test_shards_of_equally_many_tokens_may_be_averaged() -> None:
    model = shard_means.small_llama(VOCABULARY, 32)
    errors = shard_means.compare(model, toy_rows(shard_means.ROLE, [(length, 3) for length in range(1, 9)]))
    assert max(errors.averaged.values()) < 1e-12


def test_one_pass_gives_the_values_of_a_pass_per_metric() -> None:
    """What the evaluation benchmark times is the same measurement on every side."""
    stage = evaluation.build(evaluation.parse(["--quick"]))
    ours, rows = evaluation.run(evaluation.OURS, stage, max_tokens=500)
    passes = {}
    for side in (evaluation.COMMON, evaluation.REUSE):
        values, passes[side] = evaluation.run(side, stage)
        shared = values.keys() - {"teacher_forced_utility"}
        assert len(shared) >= 18
        assert {name: ours[name] for name in shared} == pytest.approx({name: values[name] for name in shared}, rel=1e-4)
    assert passes[evaluation.COMMON] > passes[evaluation.REUSE] > rows
