"""The HTML page: one file, everything in it, and nothing in it that was not measured."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from unlearnkit.errors import DataError
from unlearnkit.protocols import Interval, Score
from unlearnkit.report import Report
from unlearnkit.report_page import page, save_page

SIDES = {"members": {"a": 1.0, "b": 2.0}, "non_members": {"c": 1.5, "d": 3.5}}


def report(utility: float, forget: float) -> Report:
    return Report(
        {
            "forget_quality": Score(forget, "forgetting", n=2),
            "model_utility": Score(utility, "utility", n=9),
            "forget_truth_ratio": Score(
                0.7,
                "forgetting",
                {"a": 0.5, "b": 0.9},
                n=2,
                interval=Interval(0.5, 0.9, 0.95),
                samples={"truth_ratio": {"a": 0.5, "b": 0.9}},
            ),
            "forget_probability": Score(0.3, "knowledge", {"<b>": 0.5, "q2": 0.1}, n=2, left_out=("q3",)),
            "mia_min_k": Score(0.75, "knowledge", samples=SIDES),
        },
        {"data": {"forget": "0123abcd"}},
    )


REPORTS = {
    "original": report(0.7, 1e-20),
    "<npo & co>": report(0.6, 0.3),
    "bare": Report({"model_utility": Score.not_measured("no data set <world_facts>", "utility")}),
}


class Balanced(HTMLParser):
    """Counts open tags that were not closed."""

    VOID = frozenset({"meta", "br", "link", "path", "use", "rect", "circle"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_it_is_one_well_formed_file_that_needs_no_other() -> None:
    text = page(REPORTS, title="A & B")
    parser = Balanced()
    parser.feed(text)
    assert not parser.open
    assert "<script" not in text
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert all(source.startswith("#") for source in sources)
    assert "<title>A &amp; B</title>" in text


def test_names_of_models_and_examples_cannot_break_it() -> None:
    text = page(REPORTS, title="t")
    assert "<npo" not in text
    assert "&lt;npo &amp; co&gt;" in text
    assert "&lt;b&gt; (0.500)" in text


def test_what_was_not_measured_says_why() -> None:
    text = page(REPORTS, title="t")
    assert "not measured <sup>1</sup>" in text
    assert "<li>no data set &lt;world_facts&gt;</li>" in text
    assert "not asked" in text
    assert "1 left out" in text


def test_all_three_pictures_are_there() -> None:
    text = page(REPORTS, title="t")
    assert text.count("<svg") == 3
    for heading in ("forget_quality against model_utility", "Truth ratio of each", "Membership attack mia_min_k"):
        assert f"<h2>{heading}" in text
    assert "AUC 0.750" in text


def test_pictures_without_data_are_not_drawn() -> None:
    text = page({"bare": REPORTS["bare"]}, title="t")
    assert "<svg" not in text
    assert "Made from" not in text


def test_the_same_reports_make_the_same_page(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_page(REPORTS, tmp_path / f"{name}.html")
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_axes_can_be_chosen() -> None:
    text = page(REPORTS, title="t", forget="forget_probability", utility="forget_truth_ratio")
    assert "<h2>forget_probability against forget_truth_ratio" in text


def test_truth_ratios_at_the_edge_of_numbers_are_drawn() -> None:
    edge = Score(0.5, "forgetting", samples={"truth_ratio": {"a": 0.0, "b": float("inf"), "c": 1e-300}})
    assert "<svg" in page({"m": Report({"forget_truth_ratio": edge})}, title="t")


def test_nothing_to_show_and_no_matplotlib_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="no reports"):
        save_page({}, tmp_path / "page.html")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(DataError, match=r"Install unlearnkit\[plot\]"):
        save_page(REPORTS, tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a$^$", "_hidden"])
def test_names_that_matplotlib_reads_its_own_way_are_in_the_legend(name: str) -> None:
    text = page({name: REPORTS["original"]}, title="t")
    assert name.strip("_$^a") in re.sub(r"<[^>]*>", "", text[text.index("<svg") :])


def test_a_metric_without_a_direction_can_be_an_axis() -> None:
    neither = Report({"gap": Score(3.0, None), "model_utility": Score(0.5, "utility")})
    assert "Vertical: 0 is best" in page({"m": neither}, title="t", forget="gap")
