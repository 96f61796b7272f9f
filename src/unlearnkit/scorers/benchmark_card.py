r"""Benchmark cards: what a benchmark is, for whom, on which data, how it scores, and what it does not say.

Six sections of texts and lists. A text that is absent, empty or "N/A" is None, an absent list is empty; `missing` names
all that nobody filled in, and `unknown_metrics` the metrics that nothing computes. Reading refuses what has another
form; it does not judge what is written.

Needs a card as JSON. Known failure modes: "N/A - not stated" is a text like any other.

Paper: Sokol, Daly, Hind, Piorkowski, Zhang, Moniz, Chawla. BenchmarkCards: Standardized Documentation for Large
Language Model Benchmarks. NeurIPS 2025 Datasets and Benchmarks, arXiv:2410.12974.

Checked: template and cards of SokolAnn/BenchmarkCards@2ee1a80.

Deviations: the template has a field for the risk's place in the AI Risk Atlas; published cards hold a list of risks
with subcategories instead ("atlas_risks"). `risk_ai_task` is either, as "category: subcategory". "is_benchmark" is not
kept. A list given as one text has one entry.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from attrs import field, fields, frozen

from unlearnkit.errors import DataError

Text = str | None
List = tuple[str, ...]


@frozen(kw_only=True)
class BenchmarkDetails:
    """What the benchmark is."""

    name: Text = None
    abbreviation: Text = None
    overview: Text = None
    data_type: Text = None
    domains: List = ()
    languages: List = ()
    similar_benchmarks: List = ()
    resources: List = ()


@frozen(kw_only=True)
class Purpose:
    """What it is for, and what not."""

    goal: Text = None
    audience: List = ()
    tasks: List = ()
    limitations: Text = None
    out_of_scope_uses: List = ()


@frozen(kw_only=True)
class Data:
    """What it is made of."""

    source: Text = None
    size: Text = None
    format: Text = None
    annotation: Text = None


@frozen(kw_only=True)
class Methodology:
    """How it scores."""

    methods: List = ()
    metrics: List = ()
    calculation: Text = None
    interpretation: Text = None
    baseline_results: Text = None
    validation: Text = None


@frozen(kw_only=True)
class TargetedRisks:
    """What harm it is about."""

    risk_categories: List = ()
    risk_ai_task: List = ()
    demographic_analysis: Text = None
    harm: List = ()


@frozen(kw_only=True)
class EthicalAndLegal:
    """Under which terms it may be used."""

    privacy_and_anonymity: Text = None
    data_licensing: Text = None
    consent_procedures: Text = None
    compliance_with_regulations: Text = None


@frozen(kw_only=True)
class BenchmarkCard:
    """The documentation of a benchmark; sections are named as in its JSON form."""

    benchmark_details: BenchmarkDetails = field(factory=BenchmarkDetails)
    purpose_and_intended_users: Purpose = field(factory=Purpose)
    data: Data = field(factory=Data)
    methodology: Methodology = field(factory=Methodology)
    targeted_risks: TargetedRisks = field(factory=TargetedRisks)
    ethical_and_legal_considerations: EthicalAndLegal = field(factory=EthicalAndLegal)


def missing(card: BenchmarkCard) -> tuple[str, ...]:
    """Fields without content, as "section.field"."""
    return tuple(
        f"{section.name}.{each.name}"
        for section in fields(BenchmarkCard)
        for each in fields(type(getattr(card, section.name)))
        if not getattr(getattr(card, section.name), each.name)
    )


def unknown_metrics(card: BenchmarkCard, known: Collection[str]) -> tuple[str, ...]:
    """Metrics of the card that are not among the names known; case, hyphens and blanks make no difference."""
    names = {_folded(name) for name in known}
    return tuple(metric for metric in card.methodology.metrics if _folded(metric) not in names)


def _folded(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def parse_card(content: object) -> BenchmarkCard:
    """A card from its JSON form; sections and fields that it lacks are empty.

    Raises:
        DataError: names the section or field that no card has, or that holds something else.
    """
    sections = _mapping(content, "the card")
    known = [each.name for each in fields(BenchmarkCard)]
    if unknown := sections.keys() - set(known):
        raise DataError(f"section {sorted(unknown)[0]!r} is none of a benchmark card's: {', '.join(known)}.")
    details, purpose, data, methodology, risks, ethics = (_Section(name, sections.get(name, {})) for name in known)
    card = BenchmarkCard(
        benchmark_details=BenchmarkDetails(
            name=details.text("name"),
            abbreviation=details.text("abbreviation"),
            overview=details.text("overview"),
            data_type=details.text("data_type"),
            domains=details.texts("domains"),
            languages=details.texts("languages"),
            similar_benchmarks=details.texts("similar_benchmarks"),
            resources=details.texts("resources"),
        ),
        purpose_and_intended_users=Purpose(
            goal=purpose.text("goal"),
            audience=purpose.texts("audience"),
            tasks=purpose.texts("tasks"),
            limitations=purpose.text("limitations"),
            out_of_scope_uses=purpose.texts("out_of_scope_uses"),
        ),
        data=Data(
            source=data.text("source"),
            size=data.text("size"),
            format=data.text("format"),
            annotation=data.text("annotation"),
        ),
        methodology=Methodology(
            methods=methodology.texts("methods"),
            metrics=methodology.texts("metrics"),
            calculation=methodology.text("calculation"),
            interpretation=methodology.text("interpretation"),
            baseline_results=methodology.text("baseline_results"),
            validation=methodology.text("validation"),
        ),
        targeted_risks=TargetedRisks(
            risk_categories=risks.texts("risk_categories"),
            risk_ai_task=risks.texts("risk_ai_task") + _atlas_risks(risks.take("atlas_risks")),
            demographic_analysis=risks.text("demographic_analysis"),
            harm=risks.texts("harm"),
        ),
        ethical_and_legal_considerations=EthicalAndLegal(
            privacy_and_anonymity=ethics.text("privacy_and_anonymity"),
            data_licensing=ethics.text("data_licensing"),
            consent_procedures=ethics.text("consent_procedures"),
            compliance_with_regulations=ethics.text("compliance_with_regulations"),
        ),
    )
    details.take("is_benchmark")
    for section in (details, purpose, data, methodology, risks, ethics):
        section.nothing_left()
    return card


def read_card(path: Path) -> BenchmarkCard:
    """`parse_card` of a JSON file.

    Raises:
        DataError: names the file: it is not there, is no JSON, or no card.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}.")
    try:
        return parse_card(json.loads(path.read_text(encoding="utf-8-sig")))
    except json.JSONDecodeError as broken:
        raise DataError(f"{path}: not JSON ({broken.msg} at line {broken.lineno}).") from broken
    except DataError as refused:
        raise DataError(f"{path}: {refused}") from refused


class _Section:
    """Takes fields out of a section of the JSON form, so that what is left over is noticed."""

    def __init__(self, name: str, content: object) -> None:
        self.name = name
        self.left = dict(_mapping(content, f"section {name!r}"))

    def take(self, field_name: str) -> object:
        return self.left.pop(field_name, None)

    def text(self, field_name: str) -> Text:
        return _text(self.take(field_name), f"{self.name}.{field_name}")

    def texts(self, field_name: str) -> List:
        value = self.take(field_name)
        entries = value if isinstance(value, list) else [value]
        texts = (_text(entry, f"an entry of {self.name}.{field_name}") for entry in entries)
        return tuple(text for text in texts if text is not None)

    def nothing_left(self) -> None:
        if self.left:
            raise DataError(f"section {self.name!r} of a benchmark card has no field {sorted(self.left)[0]!r}.")


def _atlas_risks(content: object) -> List:
    risks = _mapping(content, "targeted_risks.atlas_risks").get("risks") if content is not None else None
    if risks is None:
        return ()
    if not isinstance(risks, list):
        raise DataError(f"targeted_risks.atlas_risks.risks is {risks!r}; a list of categories is needed.")
    found: list[str] = []
    for place, risk in enumerate(risks):
        section = _Section(f"targeted_risks.atlas_risks.risks[{place}]", risk)
        category = section.text("category")
        found += [f"{category}: {name}" for name in section.texts("subcategory")]
    return tuple(found)


def _mapping(content: object, what: str) -> Mapping[str, object]:
    if not isinstance(content, dict):
        raise DataError(f"{what} is a {type(content).__name__}; a JSON object is needed.")
    return content


def _text(value: object, what: str) -> Text:
    if value is not None and not isinstance(value, str):
        raise DataError(f'{what} is {value!r}; a text is needed, or null or "N/A" where there is none.')
    return None if value is None or value.strip().upper() in ("", "N/A") else value
