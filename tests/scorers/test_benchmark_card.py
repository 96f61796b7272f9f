"""Benchmark cards: published ones, what is missing, and what is no card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unlearnkit.errors import DataError
from unlearnkit.scorers import BenchmarkCard, missing, parse_card, read_card, unknown_metrics

FIELDS = 31


def filled() -> dict[str, dict[str, object]]:
    """A card with every field; lists hold two entries."""
    return {
        "benchmark_details": {
            **dict.fromkeys(("name", "abbreviation", "overview", "data_type"), "text"),
            **{name: ["one", "two"] for name in ("domains", "languages", "similar_benchmarks", "resources")},
        },
        "purpose_and_intended_users": {
            **dict.fromkeys(("goal", "limitations"), "text"),
            **{name: ["one", "two"] for name in ("audience", "tasks", "out_of_scope_uses")},
        },
        "data": dict.fromkeys(("source", "size", "format", "annotation"), "text"),
        "methodology": {
            "methods": ["one"],
            "metrics": ["Truth Ratio", "ROUGE-L"],
            **dict.fromkeys(("calculation", "interpretation", "baseline_results", "validation"), "text"),
        },
        "targeted_risks": {
            **{name: ["one"] for name in ("risk_categories", "risk_ai_task", "harm")},
            "demographic_analysis": "text",
        },
        "ethical_and_legal_considerations": dict.fromkeys(
            ("privacy_and_anonymity", "data_licensing", "consent_procedures", "compliance_with_regulations"), "text"
        ),
    }


def test_control_published_cards(shared: Path) -> None:
    cards = {path.stem: read_card(path) for path in sorted((shared / "data" / "benchmark_cards").glob("*.json"))}
    assert {"TOFU", "RWKU", "KnowUnDo", "OpenUnlearning"} <= cards.keys()
    tofu = cards["TOFU"]
    assert tofu.methodology.metrics == ("Truth Ratio", "ROUGE-L")
    assert "ethical_and_legal_considerations.data_licensing" in missing(tofu)
    assert "purpose_and_intended_users.limitations" in missing(tofu)
    assert "data.size" not in missing(tofu)
    assert cards["OpenUnlearning"].benchmark_details.abbreviation is None
    assert cards["RWKU"].targeted_risks.risk_ai_task[0] == "Privacy: Personal information in data"
    assert unknown_metrics(tofu, ("truth_ratio", "rouge l")) == ()
    assert unknown_metrics(tofu, ("truth_ratio",)) == ("ROUGE-L",)
    for card in cards.values():
        assert card.benchmark_details.name


def test_a_full_card_lacks_nothing_and_an_empty_one_everything() -> None:
    assert missing(parse_card(filled())) == ()
    assert len(missing(BenchmarkCard())) == FIELDS
    assert parse_card({}) == BenchmarkCard()


@pytest.mark.parametrize("section", filled())
def test_every_field_taken_away_is_missed(section: str) -> None:
    for name in filled()[section]:
        for nothing in (None, "", "N/A", " n/a "):
            content = filled()
            content[section][name] = nothing
            assert missing(parse_card(content)) == (f"{section}.{name}",)
        content = filled()
        del content[section][name]
        assert missing(parse_card(content)) == (f"{section}.{name}",)


def test_lists_may_be_one_text_and_hold_nothing_empty() -> None:
    content = filled()
    content["targeted_risks"]["harm"] = "Loss of knowledge"
    content["methodology"]["methods"] = ["", "N/A", "one"]
    card = parse_card(content)
    assert card.targeted_risks.harm == ("Loss of knowledge",)
    assert card.methodology.methods == ("one",)


@pytest.mark.parametrize(
    ("section", "name", "value", "says"),
    [
        ("data", "size", 3, r"data.size is 3"),
        ("data", "colour", "red", "no field 'colour'"),
        ("methodology", "metrics", [3], "an entry of methodology.metrics is 3"),
        ("targeted_risks", "atlas_risks", {"risks": "x"}, "risks is 'x'"),
        ("targeted_risks", "atlas_risks", ["x"], "atlas_risks is a list"),
    ],
)
def test_fields_of_another_form_are_refused(section: str, name: str, value: object, says: str) -> None:
    content = filled()
    content[section][name] = value
    with pytest.raises(DataError, match=says):
        parse_card(content)


def test_other_content_is_refused() -> None:
    with pytest.raises(DataError, match="section 'summary' is none"):
        parse_card({"summary": {}})
    with pytest.raises(DataError, match="the card is a list"):
        parse_card([])
    with pytest.raises(DataError, match="section 'data' is a str"):
        parse_card({"data": "x"})


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    with pytest.raises(DataError, match="there is no file"):
        read_card(path)
    path.write_text(json.dumps(filled()), encoding="utf-8")
    assert read_card(path) == parse_card(filled())
    path.write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"card\.json: not JSON"):
        read_card(path)
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match=r"card\.json: the card is a list"):
        read_card(path)
