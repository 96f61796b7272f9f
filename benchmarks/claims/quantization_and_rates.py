"""Whether rounding to 4 bits brings back what small steps unlearned, and whether large or masked steps prevent it.

    python benchmarks/claims/quantization_and_rates.py

On the fictitious world the original unlearns ten people by NPO and by gradient ascent, each with a retain term, at rates
from 5e-5 to 2e-3 until a tenth of the questions at most is still answered; and at the largest rate with SURE, which
updates only the tenth of the rows of weights that the forget gradient is largest in. Only linear weights are trained:
those that are rounded. Then weights are rounded to 8, 4 and 3 bits and to FP4, and all questions are asked again.
`equal codes` is the share of weights that have one code in the rounded original and in the rounded unlearned model.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import torch
from attrs import frozen
from findings import Check, Clock, Finding, parser_of, publish, spread, started
from torch import nn
from transformers import PreTrainedModel

from unlearnkit.attacks.attack import Target, mean
from unlearnkit.attacks.quantization_attack import Quantizing, equal_codes
from unlearnkit.edits.quantization import FourBit, Quantizer, RoundToNearest
from unlearnkit.errors import UnlearningWarning
from unlearnkit.experiment import Settings, Stage, build_stage, secrets_of
from unlearnkit.gradient import exact
from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.objectives.gradient_ascent import GradientAscent
from unlearnkit.objectives.npo import NPO
from unlearnkit.optim import SalientUpdates
from unlearnkit.oracle import cache_folder
from unlearnkit.protocols import Greedy, Objective
from unlearnkit.train import unlearn
from worlds import ForgottenError, stop_once_forgotten

CLAIM = (
    "Zhang et al. 2025: unlearning moves weights by less than a quantization step, so that rounding to 4 bits brings back most "
    "of what was unlearned (21 % retained before, 83 % after) while 8 bits bring back nothing; large rates, on the rows with "
    "the largest forget gradient (SURE), prevent it."
)
QUANTIZERS: Mapping[str, Quantizer] = {
    "8 bits": RoundToNearest(bits=8),
    "4 bits": RoundToNearest(bits=4),
    "FP4": FourBit("fp4"),
    "3 bits": RoundToNearest(bits=3),
}
OBJECTIVES: Mapping[str, Objective] = {
    "NPO": NPO(beta=0.5) + 5.0 * CrossEntropy("retain"),
    "GA": GradientAscent("forget") + 5.0 * CrossEntropy("retain"),
}
RATES = (5e-5, 1e-4, 5e-4, 2e-3)
MOST = 400
"""Steps at most."""


@frozen
class Way:
    """A way to unlearn."""

    objective: str
    rate: float
    sure: bool = False

    def __str__(self) -> str:
        return f"{self.objective}, {self.rate:g}{', SURE' if self.sure else ''}"


WAYS = (
    *(Way(objective, rate) for objective in OBJECTIVES for rate in RATES),
    *(Way(objective, RATES[-1], sure=True) for objective in OBJECTIVES),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all seeds, print and write what was found."""
    parser = parser_of(__doc__)
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="where trained models are kept")
    options = started(parser, arguments)
    clock = Clock()
    warnings.simplefilter("ignore", UnlearningWarning)
    told: dict[tuple[str, str], list[float]] = {}
    for seed in range(options.seeds):
        one_seed(seed, options.cache, told)
    publish(finding(told, options.seeds, clock.seconds()), options.out)


def one_seed(seed: int, cache: Path, told: dict[tuple[str, str], list[float]]) -> None:
    """What each way and each rounding tell, added to what there is."""
    stage = build_stage(Settings(seed=seed), cache=cache)
    world, template = stage.settings.world, stage.benchmark.template
    assert template is not None
    secrets = secrets_of(world.forget(10), world.full)
    retained = secrets_of(world.retain(10)[:40], world.full)

    def target(model: PreTrainedModel) -> Target:
        return Target(model, stage.tokenizer, template=template, retained=retained, decoding=Greedy(16))

    def note(name: str, model: PreTrainedModel) -> None:
        row = {"as it is": mean(target(model).leaks(secrets))}
        for called, quantizer in QUANTIZERS.items():
            outcome = Quantizing(quantizer)(target(model), secrets)
            assert outcome.kept is not None
            row |= {called: outcome.success, "kept": outcome.kept[0], f"kept at {called}": outcome.kept[1]}
        row["equal codes at 4 bits"] = equal_codes(stage.original, model, QUANTIZERS["4 bits"])
        for called, value in row.items():
            told.setdefault((name, called), []).append(value)
        print(f"seed {seed}  {name:<18} " + "  ".join(f"{key} {value:.2f}" for key, value in row.items()), flush=True)

    note("original", stage.original)
    note("oracle", stage.oracle)
    for way in WAYS:
        note(str(way), unlearned(stage, way, lambda model: mean(target(model).leaks(secrets)), seed))


def unlearned(stage: Stage, way: Way, told: Callable[[PreTrainedModel], float], seed: int) -> PreTrainedModel:
    """The original, unlearned until at most a tenth is told, looked at every five steps."""
    model = copy.deepcopy(stage.original)
    head = model.get_output_embeddings()
    parameters = [module.weight for module in model.modules() if isinstance(module, nn.Linear) and module is not head]
    optimizer = torch.optim.AdamW(parameters, lr=way.rate, weight_decay=0.0)

    look = stop_once_forgotten(told)

    with suppress(ForgottenError):
        unlearn(
            model,
            OBJECTIVES[way.objective],
            {role: stage.learn[role] for role in ("forget", "retain")},
            optimizer=optimizer,
            steps=MOST,
            batch_size=16,
            clip=1.0,
            seed=seed,
            models={"reference": stage.original},
            gradient=SalientUpdates(optimizer) if way.sure else exact,
            on_step=lambda step: look(step.number + 1, model),
        )
    model.eval()
    return model


def finding(told: Mapping[tuple[str, str], Sequence[float]], seeds: int, seconds: float) -> Finding:
    """The claim beside the figures."""
    columns = ("as it is", *QUANTIZERS, "equal codes at 4 bits", "kept", "kept at 4 bits")
    models = tuple(dict.fromkeys(name for name, _ in told))
    rows = [(name, *(spread(told[name, column]) for column in columns)) for name in models]

    def average(name: str, column: str) -> float:
        return sum(told[name, column]) / len(told[name, column])

    def rise(name: str, column: str) -> float:
        return average(name, column) - average(name, "as it is")

    checks = []
    sparing = []
    for objective in OBJECTIVES:
        small, large, sure = (
            str(Way(objective, RATES[0])),
            str(Way(objective, RATES[-1])),
            str(Way(objective, RATES[-1], sure=True)),
        )
        sparing.append(f"{average(sure, 'kept'):.2f} where {objective} alone keeps {average(large, 'kept'):.2f}")
        checks += [
            Check(
                f"{objective}, smallest rate: 4 bits bring back at least 0.1 more than 8 bits",
                f"{rise(small, '4 bits'):+.2f} against {rise(small, '8 bits'):+.2f} (FP4 {rise(small, 'FP4'):+.2f})",
                rise(small, "4 bits") >= rise(small, "8 bits") + 0.1,
            ),
            Check(
                f"{objective}: the smaller the rate, the more codes stay as they were",
                ", ".join(f"{average(str(Way(objective, rate)), 'equal codes at 4 bits'):.2f}" for rate in RATES),
                all(
                    average(str(Way(objective, slow)), "equal codes at 4 bits")
                    >= average(str(Way(objective, fast)), "equal codes at 4 bits")
                    for slow, fast in pairwise(RATES)
                ),
            ),
            Check(
                f"{objective}: 4 bits bring back less after SURE than after the smallest rate, which they bring something back of",
                f"{rise(sure, '4 bits'):+.2f} against {rise(small, '4 bits'):+.2f} (largest rate {rise(large, '4 bits'):+.2f})",
                rise(sure, "4 bits") < rise(small, "4 bits") and rise(small, "4 bits") >= 0.05,
            ),
        ]
    return Finding(
        name="quantization_and_rates",
        claim=CLAIM,
        setting=(
            f"Fictitious world, ten people forgotten, {seeds} seeds, 50 questions; AdamW without weight decay on linear weights, "
            f"five times the retain term, {MOST} steps at most."
        ),
        columns=("model", *columns),
        rows=rows,
        checks=checks,
        remark=(
            "Why equal codes need not mean recovery: a weight near the border of two codes flips by a whole step, so that the "
            "mean of what unlearning moved survives rounding, with noise that the original survives as well. What SURE changes "
            f"is what stays: of retained facts {' and '.join(sparing)}, at the same large rate."
        ),
        seconds=seconds,
    )


if __name__ == "__main__":
    main()
