"""The command line: a thin layer over the library's functions.

python -m unlearnkit demo       the fictitious world in a minute: three methods beside the retrained oracle
python -m unlearnkit unlearn    a model and JSON, CSV or parquet files in, an unlearned Hugging Face folder and a run record out
python -m unlearnkit oracle     train the model that never saw the forget set, and keep its log for comparisons
python -m unlearnkit evaluate   metrics of a model on such files, beside the oracle's log if there is one
python -m unlearnkit report     one HTML page from the reports of several models
python -m unlearnkit benchmarks which benchmarks there are, under which licence, and whether their data is at hand
python -m unlearnkit benchmark  measure a model by a benchmark's protocol, on its own data
python -m unlearnkit audit      attack a model, beside the model before unlearning and a retrained oracle
python -m unlearnkit list       what is implemented
python -m unlearnkit verify     compare methods with the numbers of their authors' code again (source checkout)

Under torchrun, `unlearn`, `oracle` and `evaluate` share their work among the processes (FSDP); the first one speaks and writes.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from attrs import evolve
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from unlearnkit.attacks.attack import mentions, recalls
from unlearnkit.attacks.audit import audit
from unlearnkit.attacks.secrets import read_secrets
from unlearnkit.attacks.standard import standard
from unlearnkit.batch import PlainTemplate, Row, Template, check_tokenizer, template_of
from unlearnkit.benchmarks.named import SHELF, benchmark
from unlearnkit.catalog import CATALOG
from unlearnkit.checkpoint import check_output, load_model, save_model
from unlearnkit.data.files import check_apart, fields_of, read_rows
from unlearnkit.data.refusals import draw_refusal
from unlearnkit.datasets.source import VARIABLE, Place
from unlearnkit.decoding.folders import GUARD, load_guarded
from unlearnkit.errors import CheckpointError, DataError, Preempted, UnlearnkitError
from unlearnkit.evaluate import content_of, evaluate, record
from unlearnkit.experiment import (
    HERE,
    TITLE,
    Budget,
    Settings,
    build_stage,
    controls,
    header,
    line,
    run_recipe,
)
from unlearnkit.memory import planned
from unlearnkit.metrics import ExactMemorization, ExtractionStrength, Probability, Rouge, tofu_metrics
from unlearnkit.metrics.membership import refuse_trained_on
from unlearnkit.models.causal import CausalLM
from unlearnkit.observe import prompt_length
from unlearnkit.open_unlearning import read_logs, write_logs
from unlearnkit.oracle import Training, cache_folder, fine_tuned, oracle_log, oracle_log_path
from unlearnkit.parallel import Single, Strategy, launched
from unlearnkit.progress import Bars
from unlearnkit.protocols import Generated, Greedy, Metric, Model, Score, Tokens, all_needs, asked_of_models
from unlearnkit.provenance import run_record
from unlearnkit.recipes import RECIPES, recipe
from unlearnkit.recording import Recording, fingerprint
from unlearnkit.report import Report, load_report, save_report
from unlearnkit.report_page import save_page
from unlearnkit.resume import Checkpoints
from unlearnkit.train import Step, unlearn
from unlearnkit.verify import badge, deviations, entries, table, verify, write

DEMO = ("ga", "npo_nll", "simnpo")
"""The methods of the demo."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, call, and say what was refused in one line: 0 if all went well or the run was stopped and saved, else 2."""
    options = _parser().parse_args(arguments)
    warnings.showwarning = _show_warning
    disable_progress_bar()  # transformers' own, in the middle of ours
    strategy: Strategy = Single()
    try:
        match options.command:
            case "demo":
                _demo(options)
            case "list":
                _list()
            case "verify":
                return _verify(options)
            case "report":
                _report(options)
            case "benchmarks":
                _benchmarks(options)
            case "benchmark":
                _benchmark(options)
            case "audit":
                _audit(options)
            case _:
                strategy = launched()
                if strategy.rank > 0:
                    warnings.showwarning = _ignore_warning  # they all meet the same
                {"unlearn": _unlearn, "oracle": _oracle, "evaluate": _evaluate}[options.command](options, strategy)
    except (UnlearnkitError, OSError) as refused:
        who = "unlearnkit" if strategy.rank == 0 else f"unlearnkit, rank {strategy.rank}"
        print(f"{who}: {refused}", file=sys.stderr)
        return 2
    except Preempted as stopped:
        _say(strategy, f"stopped as asked. The state is in {stopped.checkpoint}; the same command goes on from there.")
    return 0


def _say(strategy: Strategy, text: str) -> None:
    if strategy.rank == 0:
        print(text, flush=True)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"unlearnkit: warning: {message}", file=sys.stderr)


def _ignore_warning(*_: object, **__: object) -> None:
    pass


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="unlearnkit", description="Reference implementations of LLM unlearning.")
    commands = parser.add_subparsers(dest="command", required=True)

    demo = commands.add_parser("demo", help="a fictitious world in a minute: three methods beside the retrained oracle")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--cache", type=Path, default=cache_folder(), help="where trained models are kept")

    run = commands.add_parser("unlearn", help="unlearn data from a model")
    _add_model(run)
    _add_reading(run)
    run.add_argument("--forget", type=Path, required=True, help="file of what is to be forgotten")
    run.add_argument("--retain", type=Path, help="file of what is to be kept; most methods need it")
    run.add_argument("--allow-overlap", action="store_true", help="even if rows to be forgotten are to be kept as well")
    run.add_argument("--method", required=True, choices=list(RECIPES))
    run.add_argument("--out", type=Path, required=True, help="new folder for the model and its run record")
    run.add_argument("--steps", type=positive, help="optimizer steps (default: five passes over the forget set)")
    run.add_argument("--batch-size", type=positive, default=8, help="forget examples per step")
    run.add_argument(
        "--max-tokens", type=positive, default=4096, help="padded tokens per micro-batch: memory, not results"
    )
    run.add_argument("--learning-rate", type=float, help="default: the literature's for the method, 1e-5 for most")
    run.add_argument("--clip", type=float, default=1.0, help="largest gradient norm")
    run.add_argument("--seed", type=int, default=0)
    run.add_argument(
        "--checkpoints", type=Path, metavar="FOLDER", help="save the run's state there, and go on from the newest one"
    )
    run.add_argument(
        "--checkpoint-every", type=positive, metavar="N", help="steps between two saved states (default: 100)"
    )

    teach = commands.add_parser(
        "oracle", help="train the model that never saw the forget set, the way the original was trained, and its log"
    )
    _add_model(teach)
    _add_reading(teach)
    _add_data(teach)
    teach.add_argument("--train", type=Path, nargs="+", metavar="FILE", help="what it is taught (default: --retain)")
    recipe_of_original = Training()
    teach.add_argument("--epochs", type=positive, default=recipe_of_original.epochs)
    teach.add_argument("--batch-size", type=positive, default=recipe_of_original.batch_size)
    teach.add_argument("--learning-rate", type=above_zero, default=recipe_of_original.learning_rate)
    teach.add_argument("--weight-decay", type=share, default=recipe_of_original.weight_decay)
    teach.add_argument("--warmup", type=share, default=recipe_of_original.warmup, help="share of the steps")
    teach.add_argument("--seed", type=int, default=recipe_of_original.seed)
    teach.add_argument("--max-tokens", type=positive, default=4096, help="padded tokens per micro-batch")
    teach.add_argument("--cache", type=Path, default=cache_folder(), help="where models and logs are kept")
    teach.add_argument("--out", type=Path, help="also copy the log there")

    score = commands.add_parser("evaluate", help="measure a model on data")
    _add_model(score)
    _add_reading(score)
    _add_data(score)
    score.add_argument("--oracle", type=Path, metavar="LOG", help="log of the retrained model, made by `oracle`")
    score.add_argument("--generate", type=positive, default=64, metavar="N", help="tokens to generate for ROUGE")
    score.add_argument("--max-tokens", type=positive, default=4096, help="padded tokens per batch")
    score.add_argument("--resume", type=Path, metavar="FOLDER", help="keep finished passes there, and go on from them")
    score.add_argument("--out", type=Path, help="also write the report: .json with every example, .md or .html")
    score.add_argument(
        "--open-unlearning", type=Path, metavar="FOLDER", help="also write TOFU_EVAL.json and TOFU_SUMMARY.json there"
    )

    show = commands.add_parser("report", help="one HTML page from the reports of several models")
    show.add_argument(
        "reports", nargs="+", metavar="NAME=FILE", help="report .json of a model, or OpenUnlearning's *_EVAL.json"
    )
    show.add_argument("--out", type=Path, required=True, help="page to write, .html")
    show.add_argument("--title", default="Unlearning report")

    shelf = commands.add_parser("benchmarks", help="benchmarks: licence, size, and whether their data is at hand")
    shelf.add_argument("--data", type=Path, metavar="FOLDER", help=DATA_HELP)

    by_name = commands.add_parser("benchmark", help="measure a model by a benchmark's protocol, on its own data")
    by_name.add_argument("name", choices=[one.name for one in SHELF if one.opened is not None])
    by_name.add_argument("--split", help="part of the benchmark; see `unlearnkit benchmarks`")
    by_name.add_argument("--data", type=Path, metavar="FOLDER", help=DATA_HELP)
    by_name.add_argument("--no-verify", action="store_true", help="take files that differ from the published ones")
    by_name.add_argument("--first", type=positive, metavar="N", help="only the first examples of each set")
    by_name.add_argument("--oracle", help="folder of the model retrained without the forget set, where one is compared")
    by_name.add_argument("--original", help="folder of the model before unlearning, where one is compared")
    by_name.add_argument("--out", type=Path, help="also write the report: .json with every example, .md or .html")
    _add_model(by_name)

    attacked = commands.add_parser("audit", help="attack a model: is what it was to forget really gone?")
    _add_model(attacked)
    attacked.add_argument("--oracle", help="folder of the model retrained without the forget set: the floor")
    attacked.add_argument("--original", help="folder of the model before unlearning: the ceiling")
    attacked.add_argument(
        "--forget", type=Path, required=True, help="file of questions with answers: what is looked for"
    )
    attacked.add_argument("--known", type=Path, help="file of what an attacker knows: other facts of the same kind")
    attacked.add_argument("--retain", type=Path, help="file of what was to be kept")
    attacked.add_argument("--keys", nargs=2, metavar="FIELD", help="field names of question and answer")
    attacked.add_argument("--attacks", nargs="+", metavar="NAME", help="default: all; see docs/attacks.md")
    attacked.add_argument("--steps", type=positive, default=20, help="updates of attacks that train")
    attacked.add_argument("--learning-rate", type=above_zero, default=1e-5, help="of attacks that train")
    attacked.add_argument("--samples", type=positive, default=16, help="answers drawn to each question")
    attacked.add_argument("--generate", type=positive, default=48, metavar="N", help="tokens of an answer")
    attacked.add_argument("--first", type=positive, metavar="N", help="only the first questions of each file")
    attacked.add_argument("--out", type=Path, help="also write every number, as .json")

    commands.add_parser("list", help="what is implemented, and what it was checked against")

    again = commands.add_parser("verify", help="compare methods with the numbers of their authors' code again")
    again.add_argument("names", nargs="*", metavar="METHOD", help="default: all; with names, their deviations in full")
    again.add_argument("--write", action="store_true", help="keep the result: what the catalog calls methods by")
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--forget", type=Path, help="file of what should be forgotten")
    parser.add_argument("--retain", type=Path, help="file of what should be known")
    parser.add_argument("--holdout", type=Path, help="file like the forget set that no model was trained on")
    parser.add_argument("--real-authors", type=Path, help="file of questions about real people, with wrong answers")
    parser.add_argument("--world-facts", type=Path, help="file of general questions, with wrong answers")


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number


def above_zero(text: str) -> float:
    """A number above 0, for argparse."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def share(text: str) -> float:
    """A number from 0 to 1, for argparse."""
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 1")
    return number


DATA_HELP = f"holds the files, or folders of them named after benchmarks (default: {VARIABLE}, else the hub's cache)"


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="Hugging Face folder, or a model id together with --download")
    parser.add_argument("--gguf-file", help="name of a GGUF file inside the folder")
    parser.add_argument("--download", action="store_true", help="allow the network")
    parser.add_argument(
        "--device",
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="under torchrun each process uses its own, whatever is said here",
    )
    parser.add_argument("--template", choices=["auto", "plain"], default="auto", help="auto: the chat template, if any")


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keys", nargs="+", metavar="FIELD", help="field names of prompt and answer, or of the text")
    parser.add_argument("--max-length", type=positive, default=512, help="tokens of an example")
    parser.add_argument("--cut", action="store_true", help="cut longer examples, which are refused otherwise")


def _demo(options: argparse.Namespace) -> None:
    start = time.perf_counter()
    with Bars() as bars:
        stage = build_stage(Settings(seed=options.seed), cache=options.cache, progress=bars)
        bars.say(f"{TITLE}: {len(stage.rows['forget'])} forget questions\n{header()}")
        for control in controls(stage):
            bars.say(line(control))
        for name in DEMO:
            bars.say(line(run_recipe(stage, HERE[name], Budget(), seed=options.seed, progress=bars)))
    print(f"\n{time.perf_counter() - start:.0f} s. All methods, a picture and results.json: python -m nox -s benchmark")


def _load(options: argparse.Namespace, strategy: Strategy) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Template]:
    model, tokenizer = load_model(options.model, gguf_file=options.gguf_file, download=options.download)
    if isinstance(strategy, Single):  # others place it themselves
        nn.Module.to(model, options.device)
    check_tokenizer(tokenizer, CausalLM(model).vocabulary)
    return model, tokenizer, PlainTemplate() if options.template == "plain" else template_of(tokenizer)


def _read(
    options: argparse.Namespace,
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    files: Mapping[str, Path | None],
    answer: Callable[[str], str] | None = None,
) -> dict[str, tuple[Row, ...]]:
    return {
        role: read_rows(
            path,
            role=role,
            tokenizer=tokenizer,
            template=template,
            keys=options.keys,
            max_length=options.max_length,
            overlong="cut" if options.cut else "refuse",
            answer=answer,
        )
        for role, path in files.items()
        if path is not None
    }


def _unlearn(options: argparse.Namespace, strategy: Strategy) -> None:
    check_output(options.out)
    checkpoints = _checkpoints(options)
    model, tokenizer, template = _load(options, strategy)
    data = _read(options, tokenizer, template, {"forget": options.forget, "retain": options.retain})
    if both := check_apart(data["forget"], data.get("retain", ()), allow=options.allow_overlap):
        _say(strategy, f"{both} of {len(data['forget'])} rows to be forgotten are in the retain set too, as allowed")
    chosen = recipe(options.method)
    objective = chosen.objective(model)
    if "idk" in {need.role for need in objective.needs}:
        data |= _read(options, tokenizer, template, {"idk": options.forget}, partial(draw_refusal, seed=options.seed))
    of_reference = [need for need in asked_of_models(objective.needs) if need.of == "reference" and need.role in data]
    recorded = all(isinstance(need, Tokens) for need in of_reference)
    trained = sum(parameter.numel() for parameter in chosen.parameters(model))
    expected = planned(
        model,
        objective,
        data,
        trained=trained,
        batch_size=options.batch_size,
        max_tokens=options.max_tokens,
        strategy=strategy,
        references=0 if recorded else 1,
    )
    where = f"each of {strategy.size} devices" if strategy.size > 1 else "the device"
    _say(strategy, f"memory on {where}, estimated:\n{expected.table()}")
    before, start = fingerprint(model), time.perf_counter()
    models: dict[str, PreTrainedModel | Recording] = {}
    if not recorded:
        models["reference"] = copy.deepcopy(model)  # whole distributions or hidden states: no recording holds them
    elif of_reference:
        models["reference"] = record(
            model, frozenset(of_reference), data, max_tokens=options.max_tokens, strategy=strategy
        )
    rate = chosen.learning_rate if options.learning_rate is None else options.learning_rate
    epoch = -(-len(data["forget"]) // options.batch_size)
    steps = 5 * epoch if options.steps is None else options.steps
    with tqdm(total=steps, desc=options.method, disable=strategy.rank > 0) as bar:

        def show(step: Step) -> None:
            bar.set_postfix({name: f"{value:.3f}" for name, value in step.terms.items()})
            bar.update(step.number + 1 - bar.n)  # a run that goes on does not begin at 0

        unlearn(
            model,
            objective,
            data,
            # made after recording, which may have sharded the model
            optimizer=torch.optim.AdamW(chosen.parameters(model), lr=rate, weight_decay=0.01),
            steps=steps,
            models=models,
            batch_size=options.batch_size,
            max_tokens=options.max_tokens,
            seed=options.seed,
            clip=options.clip,
            strategy=strategy,
            checkpoints=checkpoints and evolve(checkpoints, tokenizer=tokenizer),
            on_step=show,
        )
    weights = strategy.weights(model)
    save_model(
        options.out,
        model,
        tokenizer,
        strategy=strategy,
        record=run_record(
            settings={
                **{name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()},
                "objective": str(objective),
                "steps": steps,
                "learning_rate": rate,
                "effective_batch": options.batch_size,
                "processes": strategy.size,
                "template": str(template),
            },
            data=data,
            tokenizer=tokenizer,
            before=before,
            after=weights,
            wall_seconds=time.perf_counter() - start,
        ),
    )
    _say(strategy, f"wrote {options.out}")


def _checkpoints(options: argparse.Namespace) -> Checkpoints | None:
    if options.checkpoints is None and options.checkpoint_every is not None:
        raise CheckpointError(
            f"--checkpoint-every {options.checkpoint_every} says how often the state is saved, but not where. "
            "Name a folder with --checkpoints."
        )
    if options.checkpoints is None:
        return None
    return Checkpoints(folder=options.checkpoints, every=options.checkpoint_every or 100)


ANSWERS = {"_paraphrased": "paraphrased_answer", "_perturbed": "perturbed_answer"}
"""TOFU's other answers to a question: what its role ends in, and its field."""


def _measured_data(
    options: argparse.Namespace, tokenizer: PreTrainedTokenizerBase, template: Template
) -> dict[str, tuple[Row, ...]]:
    """All rows that are measured, by role; the other answers of a question where its file has them."""
    files = {
        role: path
        for role in ("forget", "retain", "holdout", "real_authors", "world_facts")
        if (path := getattr(options, role)) is not None
    }
    data = _read(options, tokenizer, template, files)
    for role, path in files.items():
        for ending, field in ANSWERS.items():
            if {"question", field} <= fields_of(path):
                data[role + ending] = read_rows(
                    path,
                    role=role + ending,
                    tokenizer=tokenizer,
                    template=template,
                    keys=("question", field),
                    max_length=options.max_length,
                    overlong="cut" if options.cut else "refuse",
                )
    return data


def _metrics(data: Mapping[str, Sequence[Row]], generate: int, *, oracle: bool) -> dict[str, Metric]:
    """TOFU's suite if anything of it was given beside plain questions, else what two plain sets allow."""
    if oracle or not data.keys() <= {"forget", "retain"}:
        return tofu_metrics(generate)
    metrics: dict[str, Metric] = {}
    for role in data:
        metrics[f"{role}_probability"] = Probability(role)
        metrics[f"{role}_exact_memorization"] = ExactMemorization(role)
        metrics[f"{role}_extraction_strength"] = ExtractionStrength(role)
        metrics[f"{role}_rouge"] = Rouge(role, Greedy(generate))
    return metrics


def _oracle(options: argparse.Namespace, strategy: Strategy) -> None:
    _check_outputs(options.out, _inside(options.cache))
    model, tokenizer, template = _load(options, strategy)
    files = options.train or ([options.retain] if options.retain else [])
    if not files or options.forget is None:
        raise DataError(
            "an oracle is taught the retain set and compared on the forget set. Pass --retain (or --train) and --forget."
        )
    taught = [
        evolve(row, id=f"{path}, {row.id}") if len(files) > 1 else row
        for path in files
        for row in _read(options, tokenizer, template, {"train": path})["train"]
    ]
    data = _measured_data(options, tokenizer, template)
    training = Training(
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        warmup=options.warmup,
        seed=options.seed,
        max_tokens=options.max_tokens,
    )
    contents = {"taught": {str(place): content_of(row) for place, row in enumerate(taught)}}
    for role in ("forget", "holdout"):
        contents[role] = {row.id: content_of(row) for row in data.get(role, ())}
        refuse_trained_on(contents, role, ("taught",))
    with tqdm(total=training.steps(len(taught)), desc="oracle", disable=strategy.rank > 0) as bar:
        oracle = fine_tuned(
            model,
            taught,
            training,
            tokenizer=tokenizer,
            cache=options.cache,
            strategy=strategy,
            on_step=lambda step: bar.update(step.number + 1 - bar.n) and None,
        )
    needs = all_needs(tofu_metrics().values())
    if isinstance(strategy, Single):
        nn.Module.to(oracle, options.device)
    where = options.out or oracle_log_path(oracle, needs, data, cache=options.cache)
    # Another strategy: that of the training has sharded the model it trained, not the one that was read again.
    anew = launched()
    log = oracle_log(oracle, needs, data, cache=options.cache, max_tokens=options.max_tokens, strategy=anew)
    if strategy.rank == 0 and options.out is not None:
        log.save(options.out)
    _say(strategy, f"the oracle's log, for `unlearnkit evaluate --oracle`: {where}")


def _check_outputs(*paths: Path | None) -> None:
    """Refuse, before any work, files that cannot be written.

    Raises:
        CheckpointError: names the path.
    """
    for path in paths:
        if path is None:
            continue
        above = next(folder for folder in (path.parent, *path.parent.parents) if folder.exists())
        if path.is_dir() or not above.is_dir() or not os.access(above, os.W_OK):
            raise CheckpointError(f"{path} cannot be written: it is a folder, or what it lies in is none or is locked.")
        if path.suffix == ".html" and importlib.util.find_spec("matplotlib") is None:
            raise DataError(f"the pictures of {path} are drawn by matplotlib. Install unlearnkit[plot].")


def _inside(folder: Path | None) -> Path | None:
    return None if folder is None else folder / "any"


def _evaluate(options: argparse.Namespace, strategy: Strategy) -> None:
    _check_outputs(options.out, _inside(options.open_unlearning), _inside(options.resume))
    oracle = None if options.oracle is None else Recording.load(options.oracle)
    model, tokenizer, template = _load(options, strategy)
    data = _measured_data(options, tokenizer, template)
    if not data:
        raise DataError("there is nothing to measure the model on. Pass --forget, --retain or both.")
    models: dict[str, PreTrainedModel | Recording] = {"model": model}
    if oracle is not None:
        models["oracle"] = oracle
    metrics = _metrics(data, options.generate, oracle=oracle is not None)
    without = {role for role, rows in data.items() if any(prompt_length(row) < 2 for row in rows)}
    promptless = {
        name: Score.not_measured(f"plain text has no prompt to continue (data set {', '.join(sorted(found))})")
        for name, metric in metrics.items()
        if (found := {need.role for need in metric.needs if isinstance(need, Generated)} & without)
    }
    with Bars() as bars:
        report = evaluate(
            models,
            {name: metric for name, metric in metrics.items() if name not in promptless},
            data,
            tokenizer=tokenizer,
            intervals=True,
            max_tokens=options.max_tokens,
            strategy=strategy,
            progress=bars,
            resume=options.resume,
        )
    report = evolve(report, scores={name: promptless.get(name) or report[name] for name in metrics})
    _say(strategy, report.markdown())
    if strategy.rank > 0:
        return
    if options.open_unlearning is not None:
        write_logs(report, options.open_unlearning)
    _save(report, options)


def _save(report: Report, options: argparse.Namespace) -> None:
    """Write the report of `--model` where `--out` says, if it says so: a page, or JSON or Markdown."""
    if options.out is not None and options.out.suffix == ".html":
        save_page({Path(options.model).resolve().name: report}, options.out)
    elif options.out is not None:
        save_report(report, options.out)


def _report(options: argparse.Namespace) -> None:
    reports: dict[str, Report] = {}
    for given in options.reports:
        name, equals, file = given.partition("=")
        if not equals or not name or name in reports:
            raise DataError(f"{given!r} is not NAME=FILE with a name of its own, such as original=original.json.")
        path = Path(file)
        theirs = path.is_dir() or path.name.endswith(("_EVAL.json", "_SUMMARY.json"))
        reports[name] = read_logs(path) if theirs else load_report(path)
    if options.out.suffix != ".html":
        raise DataError(f"--out is {options.out}; the page is HTML, and so should its name end in .html.")
    _check_outputs(options.out)
    save_page(reports, options.out, title=options.title)
    print(f"wrote {options.out}")


def _benchmarks(options: argparse.Namespace) -> None:
    place = Place(options.data)
    print(f"{'name':<19} {'records':>8} {'at hand':<20} {'runs on':<18} {'licence':<30} splits")
    for listing in SHELF:
        runs = ["its data"] * (listing.opened is not None) + ["fictitious"] * (listing.invented is not None)
        sources = listing.sources
        rows = [file.rows for source in sources for file in source.files.values()]
        known = f"{sum(number or 0 for number in rows)}{'+' if None in rows else ''}"
        found = [source.at_hand(place) for source in sources]
        there, files, size = (sum(column) for column in zip(*found, strict=True))
        at_hand = f"{there} of {files}, {size / 1e6:.1f} MB" if there else "no"
        shown = f"{', '.join(listing.splits[:4])}{f' … ({len(listing.splits)})' if len(listing.splits) > 4 else ''}"
        licence = sources[0].licence if len(sources[0].licence) <= 30 else f"{sources[0].licence[:29]}…"
        print(f"{listing.name:<19} {known:>8} {at_hand:<20} {' + '.join(runs) or 'loader':<18} {licence:<30} {shown}")
    print(
        f"\nrecords: over all files, + where some are not counted. Data is looked for in --data, {VARIABLE} and the hub's "
        "cache.\npython -m unlearnkit benchmark tofu --model MODEL --data FOLDER measures a model."
    )


def _benchmark(options: argparse.Namespace) -> None:
    _check_outputs(options.out)
    chosen = benchmark(
        options.name,
        split=options.split,
        folder=options.data,
        download=options.download,
        verify=not options.no_verify,
    )
    if options.first is not None:
        chosen = chosen.first(options.first)
    model, tokenizer, template = _load(options, Single())
    models: dict[str, PreTrainedModel] = {"model": model}
    for name in ("oracle", "original"):
        if (folder := getattr(options, name)) is not None:
            models[name], _ = load_model(folder, download=options.download)
            nn.Module.to(models[name], options.device)
    with Bars() as bars:
        report = chosen.measure(
            models,
            tokenizer,
            template=template if options.template == "plain" else None,
            intervals=True,
            progress=bars,
        )
    print(f"{chosen.name}, {chosen.split}; it decides by {', '.join(chosen.headline)}\n\n{report.markdown()}")
    _save(report, options)


def _audit(options: argparse.Namespace) -> None:
    _check_outputs(options.out)
    files = {"secrets": options.forget, "known": options.known, "retained": options.retain}
    read = {
        name: () if path is None else read_secrets(path, keys=options.keys, limit=options.first)
        for name, path in files.items()
    }
    # What attacks show and train on says nothing of what the model kept: half of it is asked for.
    shown, retained = read["retained"][1::2], read["retained"][::2]
    attacks = standard(
        read["known"],
        shown,
        steps=options.steps,
        learning_rate=options.learning_rate,
        samples=options.samples,
    )
    if unknown := sorted(set(options.attacks or ()) - attacks.keys()):
        raise DataError(
            f"there is no attack {unknown[0]!r} that can be run on these files; there are {', '.join(attacks)}. Those that "
            "train or show examples want --known or --retain."
        )
    model: Model | PreTrainedModel
    if (Path(options.model) / GUARD).is_file():
        model, tokenizer = load_guarded(Path(options.model))
        template = PlainTemplate() if options.template == "plain" else template_of(tokenizer)
        if isinstance(model, nn.Module):
            model.to(options.device)
    else:
        model, tokenizer, template = _load(options, Single())
    controls: dict[str, PreTrainedModel] = {}
    for name in ("oracle", "original"):
        if (folder := getattr(options, name)) is not None:
            controls[name], _ = load_model(folder, download=options.download)
            check_tokenizer(tokenizer, CausalLM(controls[name]).vocabulary)
            nn.Module.to(controls[name], options.device)
    # Where no answer has a keyword it counts by how much of it comes out.
    by_keyword = any(secret.keywords != (secret.answer,) for secret in read["secrets"])
    with Bars() as bars:
        found = audit(
            model,
            {name: attack for name, attack in attacks.items() if not options.attacks or name in options.attacks},
            read["secrets"],
            tokenizer=tokenizer,
            oracle=controls.get("oracle"),
            original=controls.get("original"),
            retained=retained,
            template=template,
            leak=mentions if by_keyword else recalls,
            decoding=Greedy(options.generate),
            progress=bars,
        )
    print(found.table())
    print(f"\nwhat came out: {'a keyword in the text' if by_keyword else 'ROUGE-L recall of the answer'}")
    if options.out is not None:
        found.save(options.out)


def _list() -> None:
    for entry in CATALOG:
        known = badge(entry) or entry.confidence
        print(f"{entry.kind:<15} {entry.key:<24} {known:<24} {entry.where:<60} {entry.paper}, {entry.year}")
    print(f"\nmethods of `unlearnkit unlearn`: {', '.join(RECIPES)}")


def _verify(options: argparse.Namespace) -> int:
    """0 if everything agreed, else 1."""
    found, failures = verify(options.names)
    for line_ in table(found):
        print(line_)
    for entry in entries(options.names) if options.names else ():
        print(f"\n{entry.name}: deviations\n{deviations(entry) or 'none'}")
    if failures:
        print(f"\nwhat did not agree:\n{failures}", file=sys.stderr)
    elif options.write:
        print(f"\nwrote {write(found)}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
