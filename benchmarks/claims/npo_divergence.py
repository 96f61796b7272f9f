"""How fast gradient ascent and NPO leave the model they start from: like t, and like log t.

    python benchmarks/claims/npo_divergence.py

The random-feature toy of NPO's paper: a logistic model of two classes, full-batch descent from the trained model, the
losses put together from the library's formulas. Watched are the distance of the parameters from those of the trained
model, and KL(trained || model) on forget inputs. Two numbers tell the two laws apart:

    exponent     slope of log distance over log t, second half of the run in log t:  1 if linear, near 0 if log t
    doubling     (f(T) - f(T/2)) / (f(T/2) - f(T/4)):                                2 if linear, 1 if log t
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from attrs import frozen
from findings import Check, Clock, Finding, parser_of, publish, spread, started
from torch import Tensor

from unlearnkit.data.random_features import Fitting, Toy, ToySettings, descend, draw_toy, fit, toy_loss
from unlearnkit.objectives.retain_kl import forward_kl

CLAIM = (
    "Zhang et al. 2024 (NPO, theorem and toy experiment): gradient ascent leaves the initial model linearly in the "
    "number of steps, NPO only logarithmically."
)


@frozen
class Growth:
    """How a quantity grew over a run: see the head of this file; `last` is its final value."""

    exponent: float
    doubling: float
    last: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, unlearn, fit and write."""
    parser = parser_of(__doc__)
    parser.add_argument("--steps", type=int, default=4000, help="of unlearning, a multiple of 4")
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    parser.add_argument("--betas", type=float, nargs="+", default=[0.1, 0.5, 1.0, 5.0])
    parser.add_argument("--fitting", type=int, default=20_000, help="steps of the training before")
    options = started(parser, arguments)
    clock = Clock()
    methods: list[float | None] = [None, *options.betas]
    found: dict[tuple[float, float | None, str], list[Growth]] = {}
    for gap in (1.0, 0.0):
        for seed in range(options.seeds):
            toy = draw_toy(1000 * (seed + 1), ToySettings(gap=gap))
            trained = fit(toy, forget=True, fitting=Fitting(steps=options.fitting))
            for beta in methods:
                grown = follow(toy, trained, beta, learning_rate=options.learning_rate, steps=options.steps)
                for quantity, growth in grown.items():
                    found.setdefault((gap, beta, quantity), []).append(growth)
    rows = [
        (
            gap,
            named(beta),
            quantity,
            spread([each.exponent for each in growths]),
            spread([each.doubling for each in growths]),
            spread([each.last for each in growths]),
        )
        for (gap, beta, quantity), growths in found.items()
    ]
    publish(
        Finding(
            name="npo_divergence",
            claim=CLAIM,
            setting=(
                f"The paper's sizes (16 inputs, 128 features, 1000 retain and 200 forget samples), {options.seeds} seeds, "
                f"all losses at one rate of {options.learning_rate:g} for {options.steps} steps; the paper gives each "
                "loss a rate of its own. Mean (smallest … largest) over seeds."
            ),
            columns=("gap", "loss", "quantity", "exponent", "doubling", "at the end"),
            rows=rows,
            checks=checks(found),
            seconds=clock.seconds(),
        ),
        options.out,
    )


def named(beta: float | None) -> str:
    """None stands for gradient ascent."""
    return "gradient ascent" if beta is None else f"NPO, beta {beta:g}"


def follow(toy: Toy, trained: Tensor, beta: float | None, *, learning_rate: float, steps: int) -> dict[str, Growth]:
    """Unlearn, and see how distance and divergence from the trained model grew."""
    loss = toy_loss("grad_ascent" if beta is None else "non_paired_dpo", toy, trained, beta=beta)
    watched = sorted({round(step) for step in np.geomspace(10, steps, 60)} | {steps // 4, steps // 2, steps})
    before = toy.logits(toy.evaluated_forget, trained)
    moved, diverged = [], []
    for step, a in enumerate(descend(loss, trained, learning_rate=learning_rate, steps=steps)):
        if step in watched:
            moved.append(float(torch.linalg.vector_norm(a - trained)))
            diverged.append(float(forward_kl(toy.logits(toy.evaluated_forget, a), before).mean()))
    return {"|a - a_0|": growth(watched, moved), "KL": growth(watched, diverged)}


def growth(steps: Sequence[int], values: Sequence[float]) -> Growth:
    """Fit both numbers; `steps` holds the last one, its half and its quarter."""
    at = dict(zip(steps, values, strict=True))
    last = steps[-1]
    late = [step for step in steps if step >= math.sqrt(steps[0] * last)]
    exponent = np.polyfit(np.log(late), np.log([at[step] for step in late]), 1)[0]
    doubling = (at[last] - at[last // 2]) / (at[last // 2] - at[last // 4])
    return Growth(float(exponent), doubling, at[last])


def checks(found: dict[tuple[float, float | None, str], list[Growth]]) -> list[Check]:
    """Each loss against the law it should follow: nearer to a doubling of 2, or of 1, for every seed."""
    made = []
    for beta in dict.fromkeys(beta for _, beta, _ in found):
        growths = [each for (_, other, _), several in found.items() if other == beta for each in several]
        doublings = [each.doubling for each in growths]
        linear = beta is None
        made.append(
            Check(
                f"{named(beta)}: {'linear' if linear else 'logarithmic'}",
                f"doubling {spread(doublings)}, exponent {spread([each.exponent for each in growths])}",
                all(value > 1.75 for value in doublings) if linear else all(value < 1.25 for value in doublings),
            )
        )
    for gap in dict.fromkeys(gap for gap, _, _ in found):
        ends = [
            np.mean([each.last for each in found[gap, beta, "|a - a_0|"]])
            for beta in dict.fromkeys(beta for _, beta, _ in found)
        ]
        made.append(
            Check(
                f"the larger beta, the less it moves (gap {gap:g}; ascent is beta -> 0)",
                " > ".join(f"{end:.3g}" for end in ends),
                bool((np.diff(ends) < 0).all()),
            )
        )
    return made


if __name__ == "__main__":
    main()
