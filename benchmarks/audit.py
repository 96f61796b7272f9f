"""Methods × attacks on the fictitious world: how much of what was to be forgotten each attack brings out.

    python benchmarks/audit.py                    all methods and attacks, three seeds
    python benchmarks/audit.py --seeds 1 --methods npo_nll input_filter --attacks "plain question" "4 bits"

Original and oracle are those of the quality benchmark. Half of the forgotten facts are asked for, the other half is what
an attacker knows who trains on other facts. Each cell is `exposed`: where the attacked model stands between the attacked
oracle (0) and the attacked original (1), over the secrets of all seeds, with a 95 % interval over people. An attack that
does not tell original and oracle apart has no number: it did not fire.

Writes results.json (every outcome by secret), table.md and audit.png.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from attrs import asdict, evolve, frozen
from matplotlib import pyplot
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from unlearnkit.attacks.attack import Attack, Outcome, Secret, Target
from unlearnkit.attacks.audit import Audit, Finding, compare
from unlearnkit.attacks.standard import standard
from unlearnkit.attacks.worst_case import total
from unlearnkit.batch import Template, prompt_tokens
from unlearnkit.decoding.eco_prompts import CorruptedPrompts, Corruption
from unlearnkit.decoding.guard_generation import Guard, content_of, fit_detector, prompt_features
from unlearnkit.decoding.guardrail_baselines import Gate, InputFilter, Keywords, OutputFilter, Refusal
from unlearnkit.decoding.prompts import PromptReader
from unlearnkit.errors import UnlearningWarning, UnlearnkitError
from unlearnkit.experiment import (
    HERE,
    TITLE,
    Budget,
    Settings,
    Stage,
    build_stage,
    secrets_of,
    setup_of,
    uld_of,
    unlearned_by,
)
from unlearnkit.models.causal import CausalLM
from unlearnkit.oracle import cache_folder
from unlearnkit.protocols import Greedy, Model

CONTROLS = ("original", "oracle")
ASKED = 60
"""Retained facts that models are asked for; attacks and detectors learn from others."""

TRAINED = ("ga", "grad_diff", "npo_nll", "simnpo", "idk_nll", "rmu")
"""What is trained with the quality benchmark's budget, by recipe."""


@frozen(kw_only=True, eq=False)
class Ground:
    """What all models of a seed are attacked with.

    Attributes:
        stage: original, oracle and what they were taught.
        asked: the secrets.
        known: what an attacker knows of the same people.
        retained: knowledge that was to stay, the first of which is asked for.
    """

    stage: Stage
    asked: tuple[Secret, ...]
    known: tuple[Secret, ...]
    retained: tuple[Secret, ...]

    @property
    def template(self) -> Template:
        """How questions are put."""
        assert self.stage.benchmark.template is not None
        return self.stage.benchmark.template

    @property
    def attacks(self) -> Mapping[str, Attack]:
        """The standard set, at rates for tiny models."""
        return standard(
            self.known,
            self.retained[ASKED:],
            steps=30,
            learning_rate=5e-4,
            samples=32,
            seed=self.stage.settings.seed,
        )


@cache
def ground(seed: int, folder: Path) -> Ground:
    """Original and oracle are trained, or found on disk."""
    torch.set_num_threads(1)
    disable_progress_bar()
    settings = Settings(seed=seed)
    stage = build_stage(settings, cache=folder)
    world = settings.world
    # Mentors are left out: other facts of the forgotten tell them.
    facts = [one for one in secrets_of(world.forget(10), world.full) if one.relation != "mentor"]
    return Ground(
        stage=stage,
        asked=tuple(facts[::2]),
        known=tuple(facts[1::2]),
        retained=secrets_of(world.retain(10)[:260], world.full),
    )


def guards(of: Ground) -> dict[str, Callable[[], Model]]:
    """Decode-time methods around the original, by name."""
    stage, template = of.stage, of.template
    original = CausalLM(stage.original)
    names = Keywords(sorted({one.subject for one in of.asked}))
    gate = Gate.of(stage.tokenizer, names, template=template)

    def guard() -> Model:
        prompts = {
            kind: [prompt_tokens(stage.tokenizer, template, one.question) for one in facts]
            for kind, facts in (("forget", (*of.asked, *of.known)), ("other", of.retained[ASKED:]))
        }
        features = prompt_features(original, [*prompts["forget"], *prompts["other"]])
        about = [True] * len(prompts["forget"]) + [False] * len(prompts["other"])
        answers = content_of([one.answer for one in (*of.asked, *of.known)])
        return Guard(
            original,
            PromptReader.of(stage.tokenizer, template),
            fit_detector(features, about),
            answers,
            similarity=1.0,
            nearest=6,
        )

    return {
        "uld": lambda: uld_of(stage, Budget(), seed=stage.settings.seed),
        "input_filter": lambda: InputFilter(
            original, gate, Refusal.of(stage.tokenizer, "I do not know.", template=template)
        ),
        "output_filter": lambda: OutputFilter(original, names, stage.tokenizer),
        "eco_prompts": lambda: CorruptedPrompts(original, gate, Corruption(strength=20.0)),
        "guard": guard,
    }


GUARDS = ("uld", "input_filter", "output_filter", "eco_prompts", "guard")
NAMES = (*TRAINED, *GUARDS)


def target_of(of: Ground, model: Model | PreTrainedModel) -> Target:
    """A model as attacks meet it."""
    return Target(
        model,
        of.stage.tokenizer,
        template=of.template,
        original=of.stage.original,
        retained=of.retained[:ASKED],
        decoding=Greedy(16),
    )


def made(name: str, of: Ground) -> Model | PreTrainedModel:
    """A model by name."""
    stage = of.stage
    if name in CONTROLS:
        return {"original": stage.original, "oracle": stage.oracle}[name]
    if name in TRAINED:
        setup, budget = setup_of(stage, HERE[name], Budget())
        return unlearned_by(stage, setup, budget, seed=stage.settings.seed)
    return guards(of)[name]()


def ready(task: tuple[int, Path]) -> None:
    """Train a seed's original and oracle, or find them on disk."""
    ground(*task)


def attacked(task: tuple[int, str, tuple[str, ...], Path]) -> tuple[dict[str, Outcome], dict[str, str], float]:
    """One model under all attacks: outcomes, what was refused, seconds."""
    seed, name, chosen, folder = task
    of = ground(seed, folder)
    warnings.simplefilter("ignore", UnlearningWarning)  # what methods do to the model is in the table
    start = time.perf_counter()
    target = target_of(of, made(name, of))
    outcomes, refused = {}, {}
    for attack in chosen:
        try:
            outcomes[attack] = of.attacks[attack](target, of.asked)
        except UnlearnkitError as lacking:
            refused[attack] = str(lacking)
    return outcomes, refused, time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, print rows as they are ready, write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--attacks", nargs="+", metavar="ATTACK", help="default: the standard set")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds of world and models, from 0")
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--out", type=Path, default=Path("results/audit"))
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="where trained models are kept")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    seeds = range(options.seeds)
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        list(pool.map(ready, [(seed, options.cache) for seed in seeds]))
        of_seed = {seed: ground(seed, options.cache) for seed in seeds}
        chosen = tuple(options.attacks or of_seed[0].attacks)
        tasks = [(seed, name, chosen, options.cache) for seed in seeds for name in (*CONTROLS, *options.methods)]
        found: dict[str, dict[str, Outcome]] = {}
        refused: dict[str, dict[str, str]] = {}
        for (seed, name, _, _), (outcomes, lacking, seconds) in zip(tasks, pool.map(attacked, tasks), strict=True):
            said = "  ".join(f"{attack} {outcome.success:.2f}" for attack, outcome in outcomes.items())
            print(f"seed {seed}  {name:<14} {seconds:5.0f} s  {said}", flush=True)
            refused.setdefault(name, {}).update(lacking)
            for attack, outcome in outcomes.items():
                pooled = found.setdefault(name, {})
                own = of_seeds(outcome, seed)
                pooled[attack] = own if attack not in pooled else together(pooled[attack], own)
    secrets = [
        evolve(one, id=f"{seed}/{one.id}", subject=f"{seed}/{one.subject}")
        for seed in seeds
        for one in of_seed[seed].asked
    ]
    audits = {
        name: compare(
            found[name], secrets, oracle=found["oracle"], original=found["original"], refused=refused.get(name, {})
        )
        for name in options.methods
    }
    write(options.out, audits, found, chosen, options.seeds, time.perf_counter() - start)


def of_seeds(outcome: Outcome, seed: int) -> Outcome:
    """An outcome whose ids tell the seed."""

    def told(values: Mapping[str, float]) -> dict[str, float]:
        return {f"{seed}/{key}": value for key, value in values.items()}

    return evolve(
        outcome,
        before=told(outcome.before),
        after=told(outcome.after),
        control=told(outcome.control),
        found={f"{seed}/{key}": text for key, text in outcome.found.items()},
        left_out={f"{seed}/{key}": why for key, why in outcome.left_out.items()},
    )


def together(one: Outcome, other: Outcome) -> Outcome:
    """Two seeds' outcomes as one; what was kept is averaged by their secrets."""
    shares = len(one.after) / (len(one.after) + len(other.after))
    kept = None
    if one.kept is not None and other.kept is not None:
        before, after = (shares * a + (1 - shares) * b for a, b in zip(one.kept, other.kept, strict=True))
        kept = (before, after)
    return evolve(
        one,
        before={**one.before, **other.before},
        after={**one.after, **other.after},
        control={**one.control, **other.control},
        found={**one.found, **other.found},
        left_out={**one.left_out, **other.left_out},
        budget=total([one.budget, other.budget]),
        curve={key: shares * value + (1 - shares) * other.curve.get(key, value) for key, value in one.curve.items()},
        kept=kept,
    )


# --- what is written --------------------------------------------------------------------------------------------------


def write(
    folder: Path,
    audits: Mapping[str, Audit],
    found: Mapping[str, Mapping[str, Outcome]],
    chosen: Sequence[str],
    seeds: int,
    seconds: float,
) -> None:
    """results.json, table.md, audit.png."""
    folder.mkdir(parents=True, exist_ok=True)
    command = " ".join(["python", *sys.argv])
    content = {
        "title": TITLE,
        "command": command,
        "seconds": round(seconds, 1),
        "audits": {name: asdict(audit) for name, audit in audits.items()},
    }
    (folder / "results.json").write_text(json.dumps(content))
    text = (
        f"# Audit on the {TITLE}: {seeds} seed(s)\n\n{table(audits, found, chosen)}\n\n`{command}`, {seconds:.0f} s\n"
    )
    (folder / "table.md").write_text(text)
    picture(folder / "audit.png", audits, chosen)
    print(f"\n{text}\n{folder / 'table.md'}, {folder / 'audit.png'}, {folder / 'results.json'}")


def cell(finding: Finding | None, refused: str) -> str:
    """`exposed` with its interval."""
    if finding is None:
        return "not run" if refused else ""
    return "did not fire" if finding.exposed is None else str(finding.exposed)


def table(audits: Mapping[str, Audit], found: Mapping[str, Mapping[str, Outcome]], chosen: Sequence[str]) -> str:
    """Markdown: attacks down, methods across; then what came out in plain shares."""
    lines = [
        "Exposed, with 95 % intervals over people: 0 as little as the oracle under the same attack, 1 as much as the "
        "original.\n",
        f"| attack | holds | {' | '.join(audits)} |",
        "|---|---|" + "---|" * len(audits),
    ]
    for attack in chosen:
        holds = next((outcomes[attack].threat for outcomes in found.values() if attack in outcomes), "")
        cells = [cell(audit.findings.get(attack), audit.refused.get(attack, "")) for audit in audits.values()]
        lines.append(f"| {attack} | {holds} | {' | '.join(cells)} |")
    models = [*CONTROLS, *audits]
    lines += [
        "\nShare of secrets that came out, and the share of retained facts that the model still tells under the attack:\n",
        f"| attack | {' | '.join(models)} |",
        "|---|" + "---|" * len(models),
    ]
    for attack in chosen:
        cells = []
        for name in models:
            outcome = found[name].get(attack)
            kept = "" if outcome is None or outcome.kept is None else f" (kept {outcome.kept[1]:.2f})"
            cells.append("" if outcome is None else f"{outcome.success:.2f}{kept}")
        lines.append(f"| {attack} | {' | '.join(cells)} |")
    return "\n".join(lines)


def picture(path: Path, audits: Mapping[str, Audit], chosen: Sequence[str]) -> None:
    """Methods × attacks, coloured by what each exposes."""
    mpl.use("Agg")
    values = np.full((len(chosen), len(audits)), np.nan)
    for column, audit in enumerate(audits.values()):
        for row, attack in enumerate(chosen):
            finding = audit.findings.get(attack)
            if finding is not None and finding.exposed is not None:
                values[row, column] = finding.exposed.value
    figure, axes = pyplot.subplots(figsize=(1.0 * len(audits) + 3.6, 0.42 * len(chosen) + 2.0))
    shown = axes.imshow(np.ma.masked_invalid(values), cmap="viridis", vmin=0, vmax=1, aspect="auto")
    axes.set_facecolor("#dddddd")
    for row in range(len(chosen)):
        for column in range(len(audits)):
            value = values[row, column]
            said = "-" if np.isnan(value) else f"{value:.2f}"
            ink = "black" if np.isnan(value) or value > 0.6 else "white"
            axes.text(column, row, said, ha="center", va="center", color=ink, fontsize=9)
    axes.set_xticks(range(len(audits)), list(audits), rotation=35, ha="right")
    axes.set_yticks(range(len(chosen)), list(chosen))
    axes.axvline(sum(name in TRAINED for name in audits) - 0.5, color="white", linewidth=3)
    axes.set_title(
        "Exposed: 0 as little as the retrained oracle, 1 as much as the original\ntrained | acting at decoding",
        fontsize=10,
    )
    figure.colorbar(shown, ax=axes, fraction=0.04)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
