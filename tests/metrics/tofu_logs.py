"""TOFU's recorded evaluation logs: read in both of their encodings, and turned into a `Seen`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from attrs import frozen
from torch import Tensor

from unlearnkit.metrics.forget_quality import ks_test
from unlearnkit.metrics.model_utility import harmonic_mean
from unlearnkit.metrics.probability import answer_probability, probability_mc
from unlearnkit.metrics.truth_ratio import WrongReduction, log_truth_ratio, truth_score
from unlearnkit.protocols import Answer, Continuations, Flat, Generated, Need, Needs, Seen, Tokens, asked_of_models

FILES = {
    "forget": "eval_log_forget.json",
    "retain": "eval_log.json",
    "real_authors": "eval_real_author_wo_options.json",
    "world_facts": "eval_real_world_wo_options.json",
}


@frozen(eq=False)
class Section:
    """One of the four sets of questions, Q of them.

    Attributes:
        answer: [Q] mean loss of the answer.
        correct: [Q, 1] of its paraphrase, or of the answer itself where there is none: run a second time, in another
            batch, which moves it by up to 0.12.
        wrong: [Q, W] of the wrong answers.
        rouge: [Q] recorded ROUGE-L recall.
        texts, references: what the model wrote and should have written; empty in synthetic logs.
    """

    answer: Tensor
    correct: Tensor
    wrong: Tensor
    rouge: Tensor
    texts: tuple[str, ...]
    references: tuple[str, ...]


Log = Mapping[str, Section]
"""Set -> section."""

Value = float | list[float] | list[str]
"""A number per question, of its wrong answers, or [prompt, generated, reference]."""

Column = dict[str, Value] | list[Value]


def column(values: Column) -> list[Value]:
    """A column's values in order, kept as {"0": …, "1": …} or as a list."""
    return [values[str(i)] for i in range(len(values))] if isinstance(values, dict) else values


def parse_log(content: Mapping[str, Mapping[str, Column]]) -> Log:
    """A log in the format of locuslab/tofu (objects keyed by position) or of UCSB-NLP-Chang/ULD (lists)."""

    def numbers(section: str, name: str) -> Tensor:
        return torch.tensor(column(content[FILES[section]][name]), dtype=torch.float64)

    def texts(section: str, place: int) -> tuple[str, ...]:
        written = content[FILES[section]].get("generated_text", [])
        return tuple(str(row[place]) for row in column(written) if isinstance(row, list))

    return {
        section: Section(
            numbers(section, "avg_gt_loss"),
            numbers(section, "avg_paraphrased_loss")[:, None],
            numbers(section, "average_perturb_loss"),
            numbers(section, "rougeL_recall"),
            texts(section, 1),
            texts(section, 2),
        )
        for section in FILES
    }


@cache
def read_log(path: Path) -> Log:
    """The log in a file."""
    return parse_log(json.loads(path.read_text()))


def aggregated(log: Log, *, wrong_reduction: WrongReduction = "geometric") -> dict[str, dict[str, float]]:
    """Set -> {"probability", "rouge", "truth_ratio"}, by the pure functions."""
    numbers = {}
    for name, section in log.items():
        rows = len(section.answer)
        if name in ("forget", "retain"):
            probability = answer_probability(-section.answer, torch.arange(rows), rows=rows)
        else:
            probability = probability_mc(section.answer, section.wrong)
        truth = truth_score(
            log_truth_ratio(section.correct, section.wrong, wrong_reduction=wrong_reduction),
            aggregator="closer_to_1_better" if name == "forget" else "true_better",
        )
        numbers[name] = {
            "probability": probability.mean().item(),
            "rouge": section.rouge.mean().item(),
            "truth_ratio": truth.mean().item(),
        }
    return numbers


def utility(numbers: Mapping[str, Mapping[str, float]]) -> float:
    """Model Utility of `aggregated` numbers."""
    return harmonic_mean(value for name, values in numbers.items() if name != "forget" for value in values.values())


def forget_test(log: Log, oracle: Log) -> tuple[float, float]:
    """(D, p) of the truth ratios on the forget set."""
    ratios = [log_truth_ratio(each["forget"].correct, each["forget"].wrong).tolist() for each in (log, oracle)]
    return ks_test(*ratios)


def seen_from_logs(needs: Needs, logs: Mapping[str, Log], *, second_run: bool = False) -> Seen:
    """Answer needs from one log per model: each answer as a single token with the answer's mean loss.

    `second_run`: plain answers have the losses that the authors compute truth ratios from, not those for probability.
    """
    answers: dict[Need, Answer] = {}
    groups: dict[str, tuple[str, ...]] = {}
    for need in asked_of_models(needs):
        name, kind = split_role(need.role)
        section = logs[need.of][name]
        if isinstance(need, Generated):
            answers[need] = Continuations(section.texts, section.references)
            losses = section.answer[:, None]
        else:
            assert isinstance(need, Tokens)
            plain = section.correct if second_run else section.answer[:, None]
            losses = {"": plain, "_paraphrased": section.correct, "_perturbed": section.wrong}[kind]
            answers[need] = Flat(-losses.flatten(), torch.arange(losses.numel()), losses.numel())
        groups[need.role] = tuple(f"{name}/{row}" for row in range(len(losses)) for _ in range(losses.shape[1]))
    return Seen(answers, ids=groups, groups=groups)


def split_role(role: str) -> tuple[str, str]:
    """("forget", "_perturbed") of "forget_perturbed"; the second is empty for the answers themselves."""
    name = role.removesuffix("_paraphrased").removesuffix("_perturbed")
    return name, role.removeprefix(name)
