"""The standard experiment on the fictitious world: original, retrained oracle, and any number of methods, measured alike.

A small transformer is trained on the whole world and a second one, the oracle, on everything but the forget set; methods
unlearn the original; every model is measured by the same metrics. `unlearnkit demo` and the quality benchmark run it.
Trained models are kept on disk by a hash of what they were made from and with.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from attrs import evolve, field, frozen
from attrs.validators import ge
from torch import nn
from torch.optim import Optimizer
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    get_constant_schedule_with_warmup,
)

from unlearnkit.attacks.attack import Secret
from unlearnkit.batch import PlainTemplate, Row
from unlearnkit.benchmarks.benchmark import Benchmark
from unlearnkit.benchmarks.named import Listing
from unlearnkit.benchmarks.tofu import tofu
from unlearnkit.decoding.combined import Combined
from unlearnkit.decoding.uld import first_layers, uld
from unlearnkit.errors import DataError, UnlearningWarning
from unlearnkit.evaluate import Progress, evaluate
from unlearnkit.gradient import Gradient, exact
from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.objectives.npo import NPO
from unlearnkit.objectives.retain_kl import RetainKL
from unlearnkit.objectives.rmu import RMU
from unlearnkit.objectives.uniform_kl import UniformKL
from unlearnkit.observe import Adversary
from unlearnkit.optim.averaging import average_weights, take_average
from unlearnkit.oracle import Training, fine_tuned, oracle_log
from unlearnkit.plan import Pairing
from unlearnkit.protocols import Metric, Model, Objective, Tokens, all_needs, asked_of_models
from unlearnkit.recipes import RECIPES, Recipe, rmu_layer
from unlearnkit.recording import Recording
from unlearnkit.report import Report
from unlearnkit.train import Step, unlearn
from unlearnkit.worlds.fictitious import FictitiousWorld, Percent, Question, build_world
from unlearnkit.worlds.language import word_tokenizer
from unlearnkit.worlds.tofu import tofu_of

TITLE = "fictitious world (invented people, tiny model)"
"""Said in the title of every table and picture made here."""


@frozen(kw_only=True)
class Settings:
    """What the experiment depends on; its hash names the trained models on disk.

    Attributes:
        seed: of the world, the initial weights and the order of training.
        people, questions_per_person, forget_percent: size of the world and of the forget set.
        hidden_size, layers: of the transformer (Llama architecture).
        epochs, batch_size, learning_rate: of original and oracle.
        evaluated_retain: retain questions that are measured (TOFU measures 400 of 3600).
    """

    seed: int = 0
    people: int = 100
    questions_per_person: int = 5
    forget_percent: Percent = 10
    hidden_size: int = 128
    layers: int = 2
    epochs: int = field(default=24, validator=ge(1))
    batch_size: int = 32
    learning_rate: float = 5e-3
    evaluated_retain: int = 50

    @property
    def world(self) -> FictitiousWorld:
        """The world of this seed and size."""
        return build_world(self.seed, people=self.people, questions_per_person=self.questions_per_person)

    @property
    def training(self) -> Training:
        """How original and oracle are trained."""
        return Training(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            warmup=0.1,
            betas=(0.9, 0.98),
            weight_decay=0.0,
            seed=self.seed,
        )


@frozen(kw_only=True)
class Budget:
    """How long and how hard a method unlearns: the same for all, as in the literature's tables.

    Attributes:
        steps: optimizer steps; 50 are a dozen passes over the forget set.
        batch_size: forget questions per step.
        learning_rate: of most methods, those that the literature runs at 1e-5; others in proportion.
    """

    steps: int = field(default=50, validator=ge(1))
    batch_size: int = 16
    learning_rate: float = 5e-4

    def rate(self, recipe: Recipe) -> float:
        """The learning rate of a recipe."""
        return self.learning_rate * recipe.learning_rate / 1e-5


def adamw(parameters: Sequence[nn.Parameter], learning_rate: float) -> Optimizer:
    """What methods are trained with, if they do not bring an optimizer."""
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)


@frozen(kw_only=True, eq=False)
class Setup:
    """Everything a method brings to a run, but the model and the budget.

    Attributes:
        objective: what is minimised.
        data: rows of roles beside "forget", "retain" and "idk", or in their place.
        models: beside "reference", the original.
        trains: names of the parameters that are trained; None: all.
        pairing: see `unlearn`.
        gradient, adversary: see `unlearn`.
        optimizer: made from the trained parameters and the learning rate.
        averaged: keep the mean of the weights over all steps.
    """

    objective: Objective
    data: Mapping[str, Sequence[Row]] = field(factory=dict)
    models: Mapping[str, Model | Recording] = field(factory=dict)
    trains: frozenset[str] | None = None
    pairing: Mapping[str, Pairing] = field(factory=dict)
    gradient: Gradient = exact
    adversary: Adversary | None = None
    optimizer: Callable[[Sequence[nn.Parameter], float], Optimizer] = adamw
    averaged: bool = False


@frozen(eq=False)
class Stage:
    """Everything a method meets: a benchmark, original and oracle, and the metrics all models are measured by.

    Attributes:
        settings: what original and oracle were made with.
        benchmark: what they were taught, what methods learn from, and how models are measured.
        tokenizer: made for its texts.
        rows: what models are measured on, and the refusals ("idk"), by role.
        learn: what methods learn from, by role.
        original, oracle: taught everything, and everything but what is to be forgotten.
        oracle_log: the oracle's answers, in its place; the oracle itself where metrics ask more than can be written down.
        metrics: by the name they are reported under.
    """

    settings: Settings
    benchmark: Benchmark
    tokenizer: PreTrainedTokenizerBase
    rows: Mapping[str, tuple[Row, ...]]
    learn: Mapping[str, tuple[Row, ...]]
    original: PreTrainedModel
    oracle: PreTrainedModel
    oracle_log: Recording | PreTrainedModel
    metrics: Mapping[str, Metric]


@frozen
class Result:
    """One line of the table.

    Attributes:
        name: the method, "original" or "retrained oracle".
        report: its scores.
        seconds: unlearning time, without measuring.
        warnings: what the run warned of.
        path: scores at steps on the way, by step.
    """

    name: str
    report: Report
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    path: Mapping[int, Report] = field(factory=dict)


HERE: Mapping[str, Recipe] = {
    **RECIPES,
    # NPO compares sums over an answer. Answers have some 9 tokens here and 50 in TOFU, where beta is 0.1: the same pull
    # per token fades at the same place with 0.5.
    "npo": evolve(RECIPES["npo"], objective=lambda _: NPO(beta=0.5)),
    "npo_nll": evolve(RECIPES["npo_nll"], objective=lambda _: NPO(beta=0.5) + CrossEntropy("retain")),
    "npo_kl": evolve(RECIPES["npo_kl"], objective=lambda _: NPO(beta=0.5) + RetainKL()),
    # The released numbers are for hidden states of Zephyr-7B. Those here have a norm of about 20: the control vector is
    # given twice that, and the retain term, 1200 there, the same weight as the other, or nothing moves.
    "rmu": evolve(
        RECIPES["rmu"],
        objective=lambda model: RMU(
            layer=rmu_layer(model), hidden_size=model.config.hidden_size, coefficient=50.0, retain_weight=1.0
        ),
    ),
}
"""The recipes as they are run on the fictitious world; what is not mentioned has the literature's numbers."""


def _silent(_: str, __: int, ___: int) -> None:
    pass


def build_stage(settings: Settings, *, cache: Path, progress: Progress = _silent) -> Stage:
    """TOFU's shape of the world: original and oracle trained (or found on disk), and the oracle's log."""
    world = settings.world
    shaped = tofu_of(world, settings.forget_percent, measured_retain=settings.evaluated_retain)
    benchmark = tofu(shaped, max_new_tokens=16, general=True, seed=settings.seed)
    return stage_of(
        evolve(benchmark, template=PlainTemplate()), settings, words=world.texts(), cache=cache, progress=progress
    )


def secrets_of(questions: Sequence[Question], values: Sequence[Question] = ()) -> tuple[Secret, ...]:
    """Questions of the fictitious world as secrets: the fact is what gives one away.

    Args:
        questions: what was to be forgotten, or kept.
        values: whose facts are the wrong ones of the same relation. Default: the same questions.
    """
    known: dict[str, dict[str, None]] = {}
    for one in values or questions:
        known.setdefault(one.relation, {})[one.fact] = None
    return tuple(
        Secret(
            id=one.id,
            question=one.question,
            answer=one.answer,
            keywords=(one.fact,),
            wrong=tuple(value for value in sorted(known[one.relation]) if value != one.fact),
            paraphrases=() if one.paraphrased_question == one.question else (one.paraphrased_question,),
            subject=one.subject,
            relation=one.relation,
        )
        for one in questions
    )


def settings_of(listing: Listing, seed: int = 0) -> Settings:
    """With which tiny models learn the fictitious world of a benchmark."""
    return Settings(seed=seed, epochs=listing.epochs, learning_rate=listing.learning_rate)


def stage_of(
    benchmark: Benchmark,
    settings: Settings,
    *,
    cache: Path,
    words: Iterable[str] = (),
    progress: Progress = _silent,
) -> Stage:
    """A benchmark on which tiny models are taught what they are to forget.

    Args:
        benchmark: with something in `taught` and `kept`; its texts are short.
        settings: of the models; those of the world are not looked at.
        words: texts whose words the tokenizer knows beside the benchmark's own.
        cache: where trained models are kept.
        progress: called during training.

    Raises:
        DataError: the benchmark teaches nothing.
    """
    if not benchmark.taught or not benchmark.kept:
        raise DataError(
            f"{benchmark.name} teaches its models nothing: it is for a pretrained model, not for a tiny one."
        )
    tokenizer = word_tokenizer(words or benchmark.texts())
    learn = benchmark.training_rows(tokenizer)
    rows = benchmark.rows(tokenizer)
    if "idk" in learn:
        rows["idk"] = learn["idk"]
    taught = benchmark.taught_rows(tokenizer)
    longest = max(len(row) for of in (*rows.values(), *taught.values()) for row in of)
    original, oracle = (
        _trained(name, settings, tokenizer, taught[role], longest, cache, progress)
        for name, role in (("original", "original"), ("retrained oracle", "oracle"))
    )
    log: Recording | PreTrainedModel = oracle
    asked = {need for need in asked_of_models(all_needs(benchmark.metrics.values())) if need.of == "oracle"}
    if asked and all(isinstance(need, Tokens) for need in asked):
        log = oracle_log(oracle, all_needs(benchmark.metrics.values()), rows, cache=cache)
    return Stage(settings, benchmark, tokenizer, rows, learn, original, oracle, log, benchmark.metrics)


def _trained(
    name: str,
    settings: Settings,
    tokenizer: PreTrainedTokenizerBase,
    rows: tuple[Row, ...],
    longest: int,
    cache: Path,
    progress: Progress,
) -> PreTrainedModel:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=2 * settings.hidden_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=4,
        max_position_embeddings=max(128, longest + 64),
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)  # torch.manual_seed would reach other devices too
        start = LlamaForCausalLM(config)
    steps = settings.training.steps(len(rows))

    def show(step: Step) -> None:
        progress(f"training the {name}", step.number + 1, steps)

    return fine_tuned(start, rows, settings.training, tokenizer=tokenizer, cache=cache, on_step=show)


def measure(stage: Stage, model: Model | PreTrainedModel) -> Report:
    """All metrics, against the oracle, and the original where a metric compares with it."""
    models: dict[str, Model | PreTrainedModel | Recording] = {"model": model, "oracle": stage.oracle_log}
    if "original" in {need.of for need in asked_of_models(all_needs(stage.metrics.values()))}:
        models["original"] = stage.original
    return evaluate(models, stage.metrics, stage.rows, tokenizer=stage.tokenizer)


def run_recipe(
    stage: Stage,
    recipe: Recipe,
    budget: Budget,
    *,
    seed: int = 0,
    look_at: Sequence[int] = (),
    progress: Progress = _silent,
) -> Result:
    """Unlearn a copy of the original by one method and measure it, on the way too at the steps of `look_at`."""
    setup, budget = setup_of(stage, recipe, budget)
    return run_setup(stage, recipe.name, setup, budget, seed=seed, look_at=look_at, progress=progress)


def run_setup(
    stage: Stage,
    name: str,
    setup: Setup,
    budget: Budget,
    *,
    seed: int = 0,
    look_at: Sequence[int] = (),
    progress: Progress = _silent,
) -> Result:
    """Unlearn a copy of the original as a setup says, at the budget's learning rate, and measure it like `run_recipe`."""
    path: dict[int, Report] = {}
    measuring = 0.0

    def look(step: int, model: PreTrainedModel) -> None:
        nonlocal measuring
        progress(name, step, budget.steps)
        if step in look_at and step < budget.steps:
            start = time.perf_counter()
            path[step] = measure(stage, model)
            measuring += time.perf_counter() - start

    start = time.perf_counter()
    with _collected_warnings() as messages:
        model = unlearned_by(stage, setup, budget, seed=seed, look=look)
    seconds = time.perf_counter() - start - measuring
    return Result(name, measure(stage, model), seconds, tuple(messages), path)


def setup_of(stage: Stage, recipe: Recipe, budget: Budget) -> tuple[Setup, Budget]:
    """What a recipe brings to a run, and the budget at its learning rate."""
    setup = Setup(
        objective=recipe.objective(stage.original),
        trains=None if recipe.trains is None else recipe.trains(stage.original),
    )
    return setup, evolve(budget, learning_rate=budget.rate(recipe))


def unlearned_by(
    stage: Stage,
    setup: Setup,
    budget: Budget,
    *,
    seed: int = 0,
    look: Callable[[int, PreTrainedModel], None] | None = None,
) -> PreTrainedModel:
    """A copy of the original, unlearned as a setup says; `look` is called with it after each step, counted from 1."""
    model = copy.deepcopy(stage.original)
    trained = [p for key, p in model.named_parameters() if setup.trains is None or key in setup.trains]
    optimizer = setup.optimizer(trained, budget.learning_rate)
    scheduler = get_constant_schedule_with_warmup(optimizer, budget.steps // 10)
    if setup.averaged:
        average_weights(optimizer)

    def show(step: Step) -> None:
        if look is not None:
            look(step.number + 1, model)

    unlearn(
        model,
        setup.objective,
        {**stage.learn, **{role: tuple(rows) for role, rows in setup.data.items()}},
        optimizer=optimizer,
        scheduler=scheduler,
        steps=budget.steps,
        batch_size=budget.batch_size,
        pairing=setup.pairing,
        clip=1.0,
        seed=seed,
        models={"reference": stage.original, **setup.models},
        gradient=setup.gradient,
        adversary=setup.adversary,
        on_step=show,
    )
    if setup.averaged:
        take_average(optimizer)
    model.eval()
    return model


@contextmanager
def _collected_warnings() -> Iterator[list[str]]:
    """What a run warns of, as a list in place of warnings."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UnlearningWarning)
        yield messages
    messages += [str(warning.message) for warning in caught if issubclass(warning.category, UnlearningWarning)]


def run_uld(stage: Stage, budget: Budget, *, seed: int = 0, progress: Progress = _silent) -> Result:
    """ULD, see `uld_of`, measured. Text is scored and written by one head, ULD's scoring form."""
    start = time.perf_counter()
    model = uld_of(stage, budget, seed=seed, progress=progress)
    seconds = time.perf_counter() - start
    return Result("uld", measure(stage, model), seconds)


def uld_of(stage: Stage, budget: Budget, *, seed: int = 0, progress: Progress = _silent) -> Combined:
    """Teach a small assistant the forget set and nothing else, and subtract its logits from the original's.

    The assistant is the original cut off after its first block. It is new knowledge to it, so that it is trained four
    times as long as a method unlearns, at twice the rate.
    """
    assistant = first_layers(stage.original, 1)
    data = stage.learn
    steps = 4 * budget.steps

    def show(step: Step) -> None:
        progress("uld", step.number + 1, steps)

    with _collected_warnings():  # that it knows nothing of the retain set is what it is for
        unlearn(
            assistant,
            CrossEntropy("forget") + 5.0 * UniformKL("retain"),
            {"forget": data["forget"], "retain": data["retain"]},
            optimizer=torch.optim.AdamW(assistant.parameters(), lr=2 * budget.learning_rate, weight_decay=0.01),
            steps=steps,
            batch_size=budget.batch_size,
            clip=1.0,
            seed=seed,
            on_step=show,
        )
    return uld(stage.original, assistant.eval())


def controls(stage: Stage) -> tuple[Result, Result]:
    """The two lines every table begins with."""
    return Result("original", measure(stage, stage.original)), Result("retrained oracle", measure(stage, stage.oracle))


# --- the table --------------------------------------------------------------------------------------------------------

COLUMNS: Mapping[str, str] = {
    "forget_probability": "forget prob",
    "forget_rouge": "forget ROUGE",
    "exact_memorization": "EM",
    "extraction_strength": "ES",
    "forget_truth_ratio": "truth ratio",
    "forget_quality": "forget quality",
    "privleak": "PrivLeak",
    "memorization": "memorization",
    "retain_probability": "retain prob",
    "model_utility": "utility",
}
"""The metrics of the table, and their headings. Forget quality is a p-value, PrivLeak in percent (0 is best);
memorization is a pillar of OpenUnlearning's ranking, which is high where little is left."""


def header() -> str:
    """The table's heading."""
    return f"{'method':<18}" + "".join(f"{heading:>15}" for heading in COLUMNS.values()) + f"{'seconds':>9}"


def line(result: Result) -> str:
    """A result as a line of the table."""
    cells = "".join(f"{shown(result.report, name):>15}" for name in COLUMNS)
    return f"{result.name:<18}{cells}{result.seconds:>9.1f}"


def shown(report: Report, name: str) -> str:
    """A score as it is printed."""
    value = report[name].value
    if value is None:
        return "not measured"
    return f"{value:.1e}" if name == "forget_quality" else f"{value:.1f}" if name == "privleak" else f"{value:.3f}"
