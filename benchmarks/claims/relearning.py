"""Whether a few steps on loosely related text bring back what was unlearned, and whether they teach it to the oracle.

    python benchmarks/claims/relearning.py

On the fictitious world methods unlearn ten people, until a tenth of what is asked for at most is told. Then every model, the original and the retrained oracle with it, is
trained for up to 40 steps on texts that hold no answer that is asked for: other facts of the forgotten people (beside
facts of others), facts of others alone, or nothing of the kind (general knowledge). `came back` is the share of the
secrets that a model tells after the best number of steps, less what it told before; the curve's points are in the table.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import evolve
from findings import Check, Clock, Finding, parser_of, publish, spread, started
from transformers import PreTrainedModel

from unlearnkit.attacks.attack import Outcome, Secret, Target, mean
from unlearnkit.attacks.relearning import Relearning, pairs
from unlearnkit.errors import UnlearningWarning
from unlearnkit.experiment import HERE, Budget, Settings, Stage, build_stage, secrets_of, setup_of, unlearned_by
from unlearnkit.oracle import cache_folder
from unlearnkit.protocols import Greedy
from worlds import ForgottenError, stop_once_forgotten

CLAIM = (
    "Hu et al. 2025: a few steps of training on public, related text that does not hold the answers bring back what GA, "
    "gradient difference, KL and NPO had unlearned. Without the retrained model as control, which they lack, it is not said "
    "whether the texts taught it."
)
METHODS = ("ga", "grad_diff", "npo_nll", "simnpo", "idk_nll")
MOST = 100
"""Steps of unlearning at most; it stops where little enough is told, so that ascent does not destroy the model."""

LOOKS = (5, 10, 20)
STEPS = 40


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all seeds, print and write what was found."""
    parser = parser_of(__doc__)
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="where trained models are kept")
    options = started(parser, arguments)
    clock = Clock()
    warnings.simplefilter("ignore", UnlearningWarning)
    found: dict[tuple[str, str], list[Outcome]] = {}
    for seed in range(options.seeds):
        one_seed(seed, options.cache, found)
    publish(finding(found, options.seeds, clock.seconds()), options.out)


def one_seed(seed: int, cache: Path, found: dict[tuple[str, str], list[Outcome]]) -> None:
    """Outcomes by model and recipe, added to what there is."""
    settings = Settings(seed=seed)
    stage = build_stage(settings, cache=cache)
    world = settings.world
    facts = [one for one in secrets_of(world.forget(10), world.full) if one.relation != "mentor"]
    asked, known = facts[::2], facts[1::2]
    retained = secrets_of(world.retain(10)[:110], world.full)
    general = secrets_of((*world.real_authors, *world.world_facts))
    recipes = {
        "other facts": (*pairs(known), *pairs(retained[30:70])),
        "facts of others": pairs(retained[30:]),
        "general knowledge": pairs(general),
    }
    models: dict[str, PreTrainedModel] = {"original": stage.original, "oracle": stage.oracle}
    for name in METHODS:
        models[name] = until_forgotten(stage, name, asked, seed)
    for name, model in models.items():
        target = target_of(stage, model, retained[:30])
        for recipe, texts in recipes.items():
            attack = Relearning(texts=texts, recipe=recipe, steps=STEPS, learning_rate=5e-4, look_at=LOOKS, seed=seed)
            outcome = attack(target, asked)
            found.setdefault((name, recipe), []).append(outcome)
            curve = ", ".join(f"{value:.2f}" for value in outcome.curve.values())
            print(f"seed {seed}  {name:<10} {recipe:<18} {curve}  kept {outcome.kept}", flush=True)


def until_forgotten(stage: Stage, method: str, asked: Sequence[Secret], seed: int) -> PreTrainedModel:
    """The original, unlearned until it tells a tenth of the secrets at most."""
    setup, budget = setup_of(stage, HERE[method], evolve(Budget(), steps=MOST))
    look = stop_once_forgotten(lambda model: mean(target_of(stage, model, ()).leaks(asked)), every=2)
    try:
        return unlearned_by(stage, setup, budget, seed=seed, look=look)
    except ForgottenError as forgotten:
        return forgotten.model


def target_of(stage: Stage, model: PreTrainedModel, retained: Sequence[Secret]) -> Target:
    """A model as the attacker meets it."""
    assert stage.benchmark.template is not None
    return Target(
        model,
        stage.tokenizer,
        template=stage.benchmark.template,
        retained=tuple(retained),
        decoding=Greedy(16),
    )


def highest(outcomes: Sequence[Outcome]) -> list[float]:
    """By seed: the highest point of the curve."""
    return [max(outcome.curve.values()) for outcome in outcomes]


def came_back(outcomes: Sequence[Outcome]) -> list[float]:
    """By seed: the highest point of the curve, less its beginning."""
    return [max(outcome.curve.values()) - next(iter(outcome.curve.values())) for outcome in outcomes]


def finding(found: Mapping[tuple[str, str], Sequence[Outcome]], seeds: int, seconds: float) -> Finding:
    """The claim beside the figures."""
    points = tuple(f"{steps} steps" for steps in (0, *LOOKS, STEPS))
    rows = [
        (
            name,
            recipe,
            *(spread([outcome.curve[point] for outcome in outcomes]) for point in points),
            spread(came_back(outcomes)),
            spread([outcome.kept[1] for outcome in outcomes if outcome.kept is not None]),
        )
        for (name, recipe), outcomes in found.items()
    ]
    checks = []
    oracle = highest(found["oracle", "other facts"])
    for name in METHODS:
        own, rise = highest(found[name, "other facts"]), came_back(found[name, "other facts"])
        checks.append(
            Check(
                f"{name}: other facts of the same people bring back 0.1 of the secrets or more, to 0.1 above the oracle or more",
                f"{spread(rise)} more, to {spread(own)}; oracle {spread(oracle)}",
                sum(rise) / len(rise) >= 0.1 and sum(own) / len(own) >= sum(oracle) / len(oracle) + 0.1,
            )
        )
    worst = max(max(came_back(outcomes)) for (name, _), outcomes in found.items() if name == "oracle")
    checks.append(
        Check(
            "the oracle learns no more than 0.1 of the secrets, whatever it is trained on",
            f"{worst:.2f} at most",
            worst <= 0.1,
        )
    )
    unrelated = {name: came_back(found[name, "general knowledge"]) for name in METHODS}
    related = {name: came_back(found[name, "other facts"]) for name in METHODS}
    mean_of = {
        kind: sum(map(sum, of.values())) / sum(map(len, of.values()))
        for kind, of in (("general knowledge", unrelated), ("other facts", related))
    }
    checks.append(
        Check(
            "related text brings back more than unrelated text, over methods",
            f"{mean_of['other facts']:.2f} against {mean_of['general knowledge']:.2f}",
            mean_of["other facts"] > mean_of["general knowledge"],
        )
    )
    return Finding(
        name="relearning",
        claim=CLAIM,
        setting=(
            f"Fictitious world, ten people forgotten, {seeds} seeds; 20 facts asked for (1 of 24 values each), 20 others of "
            f"the same people known to the attacker; AdamW at 5e-4, 16 texts a step, up to {STEPS} steps. Methods unlearn at "
            f"5e-4 until a tenth of the 20 is told, or for {MOST} steps."
        ),
        columns=("model", "trained on", *points, "came back at most", "kept after"),
        rows=rows,
        checks=checks,
        seconds=seconds,
    )


if __name__ == "__main__":
    main()
