"""OpenUnlearning's logs: `*_EVAL.json` and `*_SUMMARY.json` to reports and back, so that existing logs can be used.

    EVAL      {metric: {"agg_value": number or null, "value_by_index": {index: {"prob" | "score" | "rougeL_…": number}}}}
    MIA       {metric: {"agg_value": AUC, "auc": AUC, "forget": {...value_by_index...}, "holdout": {...}}}
    SUMMARY   {metric: number}

Metrics are called there what `NAMES` says; others keep their name. A truth ratio stands there as wrong / correct before
it is aggregated, which is what forget quality compares (`forget_quality_of`); it is in `Score.samples` here, and so are
the scores of both sides of a membership attack. OpenUnlearning skips an answer without tokens, and its later ones then
stand under the index before; such logs cannot be told from others.

Checked: locuslab/open-unlearning@d3d7cf9 (its evaluator and metrics), on logs as they are written there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

from attrs import frozen

from unlearnkit.errors import DataError
from unlearnkit.metrics.forget_quality import forget_quality_of_samples
from unlearnkit.protocols import Direction, Score
from unlearnkit.report import Report, write_whole

NAMES: Mapping[str, str] = {
    "forget_probability": "forget_Q_A_Prob",
    "forget_paraphrased_probability": "forget_Q_A_PARA_Prob",
    "forget_perturbed_probability": "forget_Q_A_PERT_Prob",
    "forget_rouge": "forget_Q_A_ROUGE",
    "forget_paraphrased_rouge": "forget_Q_A_PARA_ROUGE",
    "forget_fluency": "forget_Q_A_gibberish",
    "retain_probability": "retain_Q_A_Prob",
    "retain_paraphrased_probability": "retain_Q_A_PARA_Prob",
    "retain_perturbed_probability": "retain_Q_A_PERT_Prob",
    "retain_rouge": "retain_Q_A_ROUGE",
    "retain_truth_ratio": "retain_Truth_Ratio",
    "real_authors_probability": "ra_Q_A_Prob_normalised",
    "real_authors_rouge": "ra_Q_A_ROUGE",
    "real_authors_truth_ratio": "ra_Truth_Ratio",
    "world_facts_probability": "wf_Q_A_Prob_normalised",
    "world_facts_rouge": "wf_Q_A_ROUGE",
    "world_facts_truth_ratio": "wf_Truth_Ratio",
    "forget_verbmem": "forget_verbmem_ROUGE",
    "forget_knowmem": "forget_knowmem_ROUGE",
    "retain_knowmem": "retain_knowmem_ROUGE",
}
"""Our name of a metric, and theirs. Names that are the same there are not listed."""

_OURS = {theirs: ours for ours, theirs in NAMES.items()}

FIELDS = ("prob", "score", "rougeL_recall", "rougeL_f1", "rouge1_recall")
"""What an entry of `value_by_index` may hold the number under; of several, the one whose mean was reported counts."""

SAMPLE = "truth_ratio"
"""What `Score.samples` calls the truth ratios, wrong / correct, of each question."""

_FORGETTING = {"forget_quality", "forget_truth_ratio", "memorization", "privacy", "privleak"}
_UTILITY = {"model_utility", "forget_fluency", "forget_ngram_entropy"}
_KNOWLEDGE = (
    "forget_",
    "retain_",
    "real_authors_",
    "world_facts_",
    "mia_",
    "exact_",
    "extraction_",
    "truth_ratio_",
    "rel_",
)


def _direction(name: str) -> Direction | None:
    """What a higher value means; None of a metric that is not known."""
    if name in _FORGETTING:
        return "forgetting"
    if name in _UTILITY:
        return "utility"
    return "knowledge" if name.startswith(_KNOWLEDGE) else None


def read_logs(path: Path) -> Report:
    """A report of a `*_EVAL.json`, a `*_SUMMARY.json`, or a folder that holds the former.

    Single examples come from the former only. A metric that is null there was not measured.

    Raises:
        DataError: names the file and the metric that cannot be read.
    """
    if path.is_dir():
        found = sorted(path.glob("*_EVAL.json"))
        if len(found) != 1:
            raise DataError(f"{path} holds {len(found)} files *_EVAL.json. Name the one that is meant.")
        path = found[0]
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as broken:
        raise DataError(f"{path}: not JSON ({broken}).") from broken
    except FileNotFoundError:
        raise DataError(f"there is no file {path}.") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: a JSON {type(content).__name__}, not an object of metrics by name.")
    scores = {}
    for theirs, entry in content.items():
        name: str = _OURS.get(str(theirs), str(theirs))
        if isinstance(entry, bool) or not isinstance(entry, dict | int | float | None):
            continue  # "config" and other notes
        if isinstance(entry, dict) and "agg_value" not in entry:
            continue
        try:
            scores[name] = _score(name, entry if isinstance(entry, dict) else {"agg_value": entry})
        except (TypeError, ValueError, AttributeError) as wrong:
            raise DataError(f"{path}: metric {theirs!r} cannot be read ({wrong}). Evaluate it again.") from wrong
    return Report(scores)


def _score(name: str, entry: Mapping[str, object]) -> Score:
    value, higher = entry["agg_value"], _direction(name)
    if value is None:
        return Score.not_measured("OpenUnlearning could not measure it (no retain model's log, in most cases)", higher)
    number = float(str(value))
    if "forget" in entry and "holdout" in entry:
        sides = {side: _by_index(_of(entry[theirs]), "score") for side, theirs in _SIDES.items()}
        measured = {side: {key: one for key, one in of.items() if one is not None} for side, of in sides.items()}
        return Score(number, higher, n=len(measured["members"]), samples=measured)
    each = next(
        (found for field in FIELDS if _mean_is(found := _by_index(entry, field), number)), _by_index(entry, *FIELDS)
    )
    given = {key: one for key, one in each.items() if one is not None}
    left_out = tuple(key for key, one in each.items() if one is None)
    samples: dict[str, dict[str, float]] = {}
    if name.endswith(SAMPLE):
        samples[SAMPLE] = given
        given = {key: _aggregated(name)(ratio) for key, ratio in given.items()}
    per_example = given if _mean_is(given, number) else {}
    return Score(number, higher, per_example, n=len(given), left_out=left_out, samples=samples)


def _mean_is(each: Mapping[str, float | None], number: float) -> bool:
    known = [one for one in each.values() if one is not None]
    return bool(known) and math.isclose(math.fsum(known) / len(known), number, abs_tol=1e-6)


_SIDES = {"members": "forget", "non_members": "holdout"}


def _aggregated(name: str) -> Callable[[float], float]:
    """What is averaged over questions: how near to 1 on the forget set, how true elsewhere."""
    if _direction(name) == "forgetting":
        return lambda ratio: min(ratio, 1 / (ratio + 1e-10))
    return lambda ratio: max(0.0, 1 - ratio)


def _of(entry: object) -> Mapping[str, object]:
    if not isinstance(entry, dict):
        raise TypeError(f"an object was expected, not {entry!r}")
    return entry


def _by_index(entry: Mapping[str, object], *names: str) -> dict[str, float | None]:
    """The number of each example under the first name it has: of several answers their mean, None if not measured."""
    found: dict[str, float | None] = {}
    for index, example in _of(entry.get("value_by_index") or {}).items():
        fields = {} if example is None else _of(example)
        value = next((fields[name] for name in names if name in fields), None)
        numbers = [float(str(one)) for one in (value if isinstance(value, list) else [value]) if one is not None]
        found[str(index)] = math.fsum(numbers) / len(numbers) if numbers else None
    return found


@frozen
class Written:
    """Where `write_logs` wrote."""

    evaluation: Path
    summary: Path


def write_logs(report: Report, folder: Path, *, suite: str = "TOFU") -> Written:
    """Write `<suite>_EVAL.json` and `<suite>_SUMMARY.json`, under OpenUnlearning's names of the metrics.

    What was not measured is null in the first and absent from the second, as there.
    """
    evaluation: dict[str, object] = {}
    summary: dict[str, float] = {}
    for ours, score in sorted(report.scores.items()):
        theirs = NAMES.get(ours, ours)
        evaluation[theirs] = _entry(theirs, score)
        if score.value is not None:
            summary[theirs] = score.value
    written = Written(folder / f"{suite}_EVAL.json", folder / f"{suite}_SUMMARY.json")
    write_whole(written.evaluation, json.dumps(evaluation, indent=4))
    write_whole(written.summary, json.dumps(summary, indent=4))
    return written


def _entry(theirs: str, score: Score) -> dict[str, object]:
    if score.samples.keys() >= _SIDES.keys():
        sides: dict[str, object] = {
            there: {"value_by_index": {key: {"score": one} for key, one in score.samples[side].items()}}
            for side, there in _SIDES.items()
        }
        return {"agg_value": score.value, "auc": score.value, **sides}
    each = score.samples.get(SAMPLE) or score.per_example
    rouge = "rougeL_f1" if "mem_ROUGE" in theirs else "rougeL_recall"  # MUSE's are f-measures
    field = "prob" if "Prob" in theirs else rouge if "ROUGE" in theirs else "score"
    by_index: dict[str, dict[str, float | None]] = {key: {field: one} for key, one in each.items()}
    if SAMPLE not in score.samples:  # their test between truth ratios takes every number there is
        by_index |= {key: {field: None} for key in score.left_out}
    return {"agg_value": score.value, **({"value_by_index": by_index} if by_index else {})}


def forget_quality_of(report: Report, oracle: Report) -> Score:
    """Forget quality of two logs: the test between their forget truth ratios, example by example the same ones.

    Raises:
        DataError: a log without truth ratios, or logs over different examples.
    """
    samples = []
    for which, log in (("model", report), ("oracle", oracle)):
        found = log.scores.get("forget_truth_ratio")
        if found is None or SAMPLE not in found.samples:
            raise DataError(
                f"the {which}'s log has no truth ratios of single forget questions. Evaluate `TruthRatio` on it, or "
                "pass its *_EVAL.json: a summary does not hold them."
            )
        samples.append(found.samples[SAMPLE])
    return forget_quality_of_samples(*samples)
