"""The standard experiment: original and oracle are what they should be, and every metric tells them apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from unlearnkit.experiment import (
    HERE,
    Budget,
    Settings,
    Stage,
    build_stage,
    controls,
    header,
    line,
    run_recipe,
    run_uld,
)
from unlearnkit.plan import check_data
from unlearnkit.report import Report

SETTINGS = Settings()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return build_stage(SETTINGS, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def reports(stage: Stage) -> dict[str, Report]:
    return {result.name: result.report for result in controls(stage)}


def value(report: Report, name: str) -> float:
    score = report[name].value
    assert score is not None, (name, report[name].reason)
    return score


def test_both_have_memorised_what_they_saw(reports: dict[str, Report]) -> None:
    assert value(reports["original"], "forget_probability") > 0.95
    for report in reports.values():
        for role in ("retain", "real_authors", "world_facts"):
            assert report[f"{role}_rouge"].value == pytest.approx(1.0, abs=0.02)
        assert value(report, "retain_probability") > 0.95


@pytest.mark.parametrize(
    ("metric", "least"),
    [
        ("forget_probability", 0.5),
        ("forget_rouge", 0.3),
        ("exact_memorization", 0.15),
        ("extraction_strength", 0.5),
    ],
)
def test_metrics_of_knowledge_fire_on_the_original_only(reports: dict[str, Report], metric: str, least: float) -> None:
    assert value(reports["original"], metric) > value(reports["retrained oracle"], metric) + least


def test_truth_ratio_and_forget_quality_tell_them_apart(reports: dict[str, Report]) -> None:
    original, oracle = reports["original"], reports["retrained oracle"]
    assert value(original, "forget_truth_ratio") < value(oracle, "forget_truth_ratio") - 0.1
    assert value(original, "forget_quality") < 0.01
    assert value(oracle, "forget_quality") == 1.0


def test_utility_is_that_of_the_kept_data(reports: dict[str, Report]) -> None:
    """The oracle is as useful as the original: the forget set does not enter."""
    utilities = [value(report, "model_utility") for report in reports.values()]
    assert utilities[0] == pytest.approx(utilities[1], abs=0.1)
    assert min(utilities) > 0.4


def test_ascent_collapses_and_npo_with_a_retain_term_does_not(stage: Stage) -> None:
    ascent = run_recipe(stage, HERE["ga"], Budget(), look_at=[10])
    npo = run_recipe(stage, HERE["npo_nll"], Budget())
    assert value(ascent.report, "model_utility") < 0.1
    assert any("collapsing" in message for message in ascent.warnings)
    assert set(ascent.path) == {10}
    assert value(npo.report, "model_utility") > value(ascent.report, "model_utility") + 0.2
    assert value(npo.report, "forget_probability") < 0.5
    assert len(line(npo)) == len(header())


def test_a_decode_time_method_is_measured_like_any_model(stage: Stage, reports: dict[str, Report]) -> None:
    uld = run_uld(stage, Budget()).report
    assert value(uld, "forget_probability") < 0.5
    assert value(uld, "model_utility") > value(reports["original"], "model_utility") - 0.1


def test_trained_models_are_found_again_and_broken_ones_made_again(stage: Stage, tmp_path: Path) -> None:
    settings = Settings(people=20, hidden_size=32, layers=1, epochs=1)
    calls: list[str] = []
    first = build_stage(settings, cache=tmp_path, progress=lambda what, _, __: calls.append(what))
    assert {"training the original", "training the retrained oracle"} == set(calls)
    calls.clear()
    second = build_stage(settings, cache=tmp_path, progress=lambda what, _, __: calls.append(what))
    assert not calls
    assert first.oracle_log.model == second.oracle_log.model
    broken = next(tmp_path.rglob("*.safetensors"))
    broken.write_bytes(b"torn")
    with pytest.warns(UserWarning, match="is not usable and is made again"):
        build_stage(settings, cache=tmp_path)


def test_all_rows_are_fit_to_be_used(stage: Stage) -> None:
    check_data(stage.rows)
    groups = {row.group for row in stage.rows["forget"]}
    for role in ("forget_paraphrased", "forget_perturbed", "idk"):
        assert {row.group for row in stage.rows[role]} == groups
