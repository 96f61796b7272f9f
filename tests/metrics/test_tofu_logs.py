"""Published numbers of TOFU from its recorded evaluation logs, and the authors' aggregation on synthetic ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.metrics.tofu_logs import (
    FILES,
    Column,
    Log,
    aggregated,
    column,
    forget_test,
    parse_log,
    read_log,
    seen_from_logs,
    utility,
)
from unlearnkit.metrics import (
    ForgetQuality,
    ModelUtility,
    ProbabilityMC,
    Rouge,
    TruthRatio,
    harmonic_mean,
    tofu_metrics,
)
from unlearnkit.protocols import Need

PUBLISHED_UTILITY = {"full": 0.6226773637, "retain90": 0.6137449952, "retain95": 0.6005765317, "retain99": 0.6207444756}

CASES = [
    "recorded::llama2-7b_full_wd0.01::vs::llama2-7b_retain90_wd0.01",
    "recorded::llama2-7b_retain90_wd0.01::vs::llama2-7b_retain90_wd0.01",
    "recorded::llama2-7b_retain95_wd0.01",
    "recorded::llama2-7b_retain99_wd0.01::vs::llama2-7b_retain95_wd0.01",
    "recorded::uld_llama2-7b_retain90::vs::llama2-7b_retain90_wd0.01",
    *(f"synthetic_{number}" for number in range(6)),
    "edge_identical_forget",
    "edge_zero_rouge",
    "edge_all_known",
]

THEIR_SETS = {"Retain": "retain", "Real Authors": "real_authors", "Real World": "world_facts", "Forget": "forget"}


def recorded_log(shared: Path, model: str) -> Log:
    path = shared / "data" / "tofu_eval_logs" / f"llama2-7b_{model}_wd0.01.json"
    if not path.exists():
        pytest.skip(f"no recorded log at {path}")
    return read_log(path)


@pytest.mark.parametrize("name", CASES)
def test_authors_aggregation(shared: Path, name: str) -> None:
    content = json.loads((shared / "conformance" / "metrics_tofu_a.json").read_text())["cases"]
    (case,) = (case for case in content if case["name"] == name)

    def log(which: str) -> Log | None:
        if (file := case["inputs"].get(f"{which}_file")) is None:
            return parse_log(case["inputs"][which]) if which in case["inputs"] else None
        path = shared / "data" / file
        if not path.exists():
            pytest.skip(f"the recorded log {file} is not carried")
        return read_log(path)

    model, oracle = log("log"), log("retain_log")
    assert model is not None
    expected = case["expected"]
    geometric, arithmetic = aggregated(model), aggregated(model, wrong_reduction="arithmetic")
    for theirs, ours in THEIR_SETS.items():
        for measure, key in (("ROUGE", "rouge"), ("Prob.", "probability"), ("Truth Ratio", "truth_ratio")):
            assert geometric[ours][key] == pytest.approx(
                expected["model_utility_dict"][f"{measure} {theirs}"], rel=1e-9
            )
        for measure, key in (("ROUGE", "rouge"), ("Probability", "probability"), ("Truth Ratio", "truth_ratio")):
            variant = expected["__arithmetic_wrong_variant"][f"{theirs} {measure}"]
            assert arithmetic[ours][key] == pytest.approx(variant, rel=1e-9)
    assert utility(geometric) == pytest.approx(expected["model_utility_dict"]["Model Utility"], rel=1e-9)
    assert utility(arithmetic) == pytest.approx(expected["__arithmetic_wrong_variant"]["Model Utility"], rel=1e-9)
    if oracle is not None:
        quality = expected["forget_quality"]
        assert forget_test(model, oracle) == pytest.approx(
            (quality["KS Test Forget"], quality["Forget Quality"]), rel=1e-9
        )


def test_every_recorded_case_is_run(shared: Path) -> None:
    content = json.loads((shared / "conformance" / "metrics_tofu_a.json").read_text())["cases"]
    assert {case["name"] for case in content} == set(CASES)


@pytest.mark.parametrize(("model", "expected"), PUBLISHED_UTILITY.items())
def test_published_utility_from_recorded_texts_and_losses(shared: Path, model: str, expected: float) -> None:
    metric, logs = ModelUtility(), {"model": recorded_log(shared, model)}
    parts = {
        name: term(seen_from_logs(term.needs, logs, second_run=name.endswith("_truth_ratio"))).value
        for name, term in metric.terms.items()
    }
    assert harmonic_mean(value for value in parts.values() if value is not None) == pytest.approx(expected, abs=5e-11)
    # With one run for both, as here in use, the numbers move by what the authors' two batches differ in.
    score = metric(seen_from_logs(metric.needs, logs))
    assert score.value == pytest.approx(expected, abs=1.5e-4)
    assert (score.higher, score.n, len(score.parts), len(parts)) == ("utility", 300 + 100 + 117, 9, 9)


def test_published_forget_quality(shared: Path) -> None:
    full, retained = recorded_log(shared, "full"), recorded_log(shared, "retain90")
    metric = ForgetQuality()
    score = metric(seen_from_logs(metric.needs, {"model": full, "oracle": retained}))
    assert score.value == pytest.approx(1.834066e-21, rel=1e-6)
    assert score.parts == pytest.approx({"statistic": 0.3966667, "log10_p": -20.736585}, abs=1e-6)
    assert (score.higher, score.n) == ("forgetting", 300)
    # The control: the retrained model cannot be told from itself.
    assert metric(seen_from_logs(metric.needs, {"model": retained, "oracle": retained})).value == 1.0


@pytest.mark.parametrize(
    ("model", "geometric", "arithmetic", "share"),
    [("full", 0.5159854, 0.5303700, 0.6611364), ("retain90", 0.6740193, 0.6796518, 0.5542611)],
)
def test_published_truth_ratios(shared: Path, model: str, geometric: float, arithmetic: float, share: float) -> None:
    log = recorded_log(shared, model)
    for metric, expected in (
        (TruthRatio(), geometric),
        (TruthRatio(wrong_reduction="arithmetic"), arithmetic),
        (TruthRatio(aggregator="prob_mean"), share),
    ):
        assert metric(seen_from_logs(metric.needs, {"model": log})).value == pytest.approx(expected, abs=6e-8)


def test_published_probability_over_options(shared: Path) -> None:
    log = recorded_log(shared, "full")
    for role, expected in (("real_authors", 0.455482), ("world_facts", 0.418562)):
        metric = ProbabilityMC(role)
        assert metric(seen_from_logs(metric.needs, {"model": log})).value == pytest.approx(expected, abs=5e-7)


@pytest.mark.parametrize("model", PUBLISHED_UTILITY)
@pytest.mark.parametrize("role", FILES)
def test_recorded_rouge_of_each_generation(shared: Path, model: str, role: str) -> None:
    log = recorded_log(shared, model)
    metric = Rouge(role)
    each = metric(seen_from_logs(metric.needs, {"model": log})).per_example
    assert list(each.values()) == pytest.approx(log[role].rouge.tolist(), rel=1e-12)


def test_whole_suite_on_recorded_logs(shared: Path) -> None:
    logs = {"model": recorded_log(shared, "full"), "oracle": recorded_log(shared, "retain90")}
    # Logs hold losses, not what single tokens are.
    token_wise = ("exact_", "extraction_", "memorization", "forget_confidence")
    metrics = {name: each for name, each in tofu_metrics(holdout=None).items() if not name.startswith(token_wise)}
    seen = seen_from_logs(frozenset[Need]().union(*(metric.needs for metric in metrics.values())), logs)
    scores = {name: metric(seen) for name, metric in metrics.items()}
    assert all(score.value is not None for score in scores.values())
    assert {name: scores[name].value for name in scores["model_utility"].parts} == scores["model_utility"].parts
    assert scores["forget_probability"].value == pytest.approx(0.9909385566403208, rel=1e-9)


def test_both_encodings_hold_the_same_values() -> None:
    keyed: Column = {str(i): float(i) for i in reversed(range(12))}
    assert column(keyed) == column([float(i) for i in range(12)])
