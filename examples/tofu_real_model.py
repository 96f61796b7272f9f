"""A real chat model learns real TOFU questions, then unlearns some of them with NPO and a retain term.

    python examples/tofu_real_model.py --model SmolLM2-135M-Instruct.Q4_1.gguf --tofu path/to/tofu

`--model` is a Hugging Face folder, a GGUF file, or (with --download) a hub id; `--tofu` is a folder with the benchmark's
JSON files. The model is measured before it learns, after, and after unlearning; the unlearned one is saved, loaded
again with plain transformers, and asked two questions aloud.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from attrs import frozen
from tqdm import tqdm
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    get_linear_schedule_with_warmup,
    pipeline,
)
from transformers.utils.logging import disable_progress_bar

import unlearnkit as uk
from unlearnkit.batch import as_role
from unlearnkit.checkpoint import check_output
from unlearnkit.errors import CheckpointError
from unlearnkit.metrics import ExactMemorization, ExtractionStrength, Probability, Rouge, TruthRatio
from unlearnkit.train import Step


@frozen
class Question:
    """A question of TOFU with its answer, and (forget sets only) a paraphrase and wrong answers."""

    question: str
    answer: str
    paraphrased_answer: str = ""
    perturbed_answer: tuple[str, ...] = ()


METRICS: dict[str, uk.Metric] = {
    "forget_probability": Probability("forget"),
    "forget_rouge": Rouge("forget", uk.Greedy(40)),
    "forget_exact_memorization": ExactMemorization("forget"),
    "forget_extraction_strength": ExtractionStrength("forget"),
    "forget_truth_ratio": TruthRatio("forget"),
    "retain_probability": Probability("retain"),
    "retain_rouge": Rouge("retain", uk.Greedy(40)),
}


def main() -> None:
    """Learn, unlearn, measure, save, load again, ask."""
    options = parse()
    start = time.perf_counter()
    model, tokenizer = load(options.model, download=options.download)
    disable_progress_bar()  # transformers' own

    forgotten = read(options.tofu / "forget01_perturbed.json")[: options.forget]
    kept = read(options.tofu / "retain99.json")[: options.retain]
    forget = rows(tokenizer, "forget", [(question, [question.answer]) for question in forgotten])
    retain = rows(tokenizer, "retain", [(question, [question.answer]) for question in kept])
    measured = {
        "forget": forget,
        "retain": retain,
        "forget_paraphrased": rows(tokenizer, "forget_paraphrased", [(q, [q.paraphrased_answer]) for q in forgotten]),
        "forget_perturbed": rows(tokenizer, "forget_perturbed", [(q, q.perturbed_answer) for q in forgotten]),
    }
    reports: dict[str, uk.Report] = {}

    def measure(name: str) -> None:
        reports[name] = uk.evaluate({"model": model}, METRICS, measured, tokenizer=tokenizer)
        print(f"{time.perf_counter() - start:5.0f} s  {name}: measured", flush=True)

    measure("before learning")
    everything = as_role(forget, "train") + as_role(retain, "train")
    train(model, uk.CrossEntropy("train"), {"train": everything}, options.learn_epochs, options.learn_rate, {})
    measure("after learning")

    objective = uk.NPO(beta=0.1) + 1.0 * uk.CrossEntropy("retain")
    data = {"forget": forget, "retain": retain}
    reference = uk.record(model, objective.needs, data)  # in place of a second copy of the model
    train(model, objective, data, options.unlearn_epochs, options.unlearn_rate, {"reference": reference})
    measure("after unlearning")

    print(f"\n{len(forget)} forget and {len(retain)} retain questions of TOFU\n{table(reports)}\n")
    uk.save_model(options.out, model, tokenizer)
    ask(options.out, [forgotten[0], kept[0]])
    print(f"\n{time.perf_counter() - start:.0f} s in all; the unlearned model is in {options.out}")


def parse() -> argparse.Namespace:
    """The command line."""
    shared = Path(os.environ.get("UNLEARNKIT_SHARED", Path(__file__).parents[2] / "shared"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="Hugging Face folder, GGUF file, or hub id")
    parser.add_argument("--download", action="store_true", help="allow the network")
    parser.add_argument("--tofu", type=Path, default=shared / "data" / "tofu", help="folder of TOFU's JSON files")
    parser.add_argument("--out", type=Path, default=Path("results/tofu_real_model"), help="a new folder")
    parser.add_argument("--forget", type=int, default=40, help="questions to forget, of forget01's 40")
    parser.add_argument("--retain", type=int, default=40, help="questions to keep, of retain99's 3960")
    parser.add_argument("--learn-epochs", type=int, default=5)
    parser.add_argument("--learn-rate", type=float, default=3e-4)
    parser.add_argument("--unlearn-epochs", type=int, default=4)
    parser.add_argument("--unlearn-rate", type=float, default=5e-5)
    options = parser.parse_args()
    if not (options.tofu / "forget01_perturbed.json").is_file():
        parser.error(f"{options.tofu} does not hold TOFU's JSON files. Name their folder with --tofu.")
    try:
        check_output(options.out)
    except CheckpointError as used:
        parser.error(str(used))
    return options


def load(source: str, *, download: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model and its tokenizer."""
    path = Path(source)
    if path.suffix == ".gguf":
        return uk.load_model(path.parent, gguf_file=path.name)
    return uk.load_model(source, download=download)


def read(path: Path) -> list[Question]:
    """One JSON object per line."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    return [
        Question(
            line["question"],
            line["answer"],
            line.get("paraphrased_answer", ""),
            tuple(line.get("perturbed_answer", ())),
        )
        for line in lines
    ]


def rows(
    tokenizer: PreTrainedTokenizerBase, role: str, questions: Iterable[tuple[Question, Sequence[str]]]
) -> tuple[uk.Row, ...]:
    """One row per answer, in the model's chat template; answers of a question share a group."""
    return tuple(
        uk.tokenize(
            tokenizer,
            question.question,
            answer,
            id=f"{role}{number}.{variant}",
            role=role,
            template=uk.template_of(tokenizer),
            group=question.question,
        )
        for number, (question, answers) in enumerate(questions)
        for variant, answer in enumerate(answers)
    )


def train(
    model: PreTrainedModel,
    objective: uk.Objective,
    data: Mapping[str, tuple[uk.Row, ...]],
    epochs: int,
    rate: float,
    models: Mapping[str, uk.Recording],
) -> None:
    """AdamW with a short warm-up and linear decay, eight rows of the first role per step."""
    steps = epochs * -(-len(next(iter(data.values()))) // 8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    with tqdm(total=steps, desc=" + ".join(sorted(data))) as bar:

        def show(step: Step) -> None:
            bar.set_postfix({name: f"{value:.3f}" for name, value in step.terms.items()})
            bar.update()

        uk.unlearn(
            model,
            objective,
            data,
            optimizer=optimizer,
            scheduler=get_linear_schedule_with_warmup(optimizer, steps // 10, steps),
            steps=steps,
            models=models,
            batch_size=8,
            max_tokens=2048,
            clip=1.0,
            on_step=show,
        )


def table(reports: Mapping[str, uk.Report]) -> str:
    """Markdown, a column per report."""
    lines = ["| metric | " + " | ".join(reports) + " |", "|---|" + "---|" * len(reports)]
    for name in METRICS:
        values = [report[name].value for report in reports.values()]
        lines.append(f"| {name} | " + " | ".join("" if value is None else f"{value:.3f}" for value in values) + " |")
    return "\n".join(lines)


def ask(folder: Path, questions: Iterable[Question]) -> None:
    """Load with nothing but transformers, and let it answer."""
    answer = pipeline("text-generation", model=str(folder))
    for question in questions:
        chat = [{"role": "user", "content": question.question}]
        (reply,) = answer(chat, max_new_tokens=48, do_sample=False, return_full_text=False)
        print(f"Q: {question.question}\n   was taught: {question.answer}\n   says:       {reply['generated_text']}")


if __name__ == "__main__":
    warnings.simplefilter("default")
    main()
