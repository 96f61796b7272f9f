"""Whether NPO forgets long sequences faster than short ones, and SimNPO both alike.

    python benchmarks/claims/simnpo_length.py

Sequences of three Markov chains: one to retain and two to forget. A tiny transformer learns all of them, another, the
retrained one, only the retain chain; then both forget sets are unlearned together, without a retain term. Watched is
KL(retrained || model) per token on test sequences of each forget set: by how many steps has it fallen to half? Of the
two forget sets one has long sequences and the other short ones. `ratio` is steps of the short set over steps of the long
one: 1 if both go alike, above 1 if the long one goes faster. A trained model may give up one chain's states more easily
than the other's, whatever their lengths; so each seed is run a second time with the lengths exchanged, and its ratio is
the geometric mean of both runs. `chain` is what cancels: how much faster the first chain goes than the second.
"""

from __future__ import annotations

import copy
import statistics
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
from attrs import frozen
from findings import Check, Clock, Finding, parser_of, publish, spread, started
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

import unlearnkit as uk
from unlearnkit.batch import as_role
from unlearnkit.data.markov_chains import Chain, Sequences, chain_rows
from unlearnkit.errors import UnlearningWarning
from unlearnkit.models.causal import as_model
from unlearnkit.objectives.retain_kl import ForwardKL
from unlearnkit.protocols import Compared, Objective

CLAIM = (
    "Fan et al. 2025 (SimNPO, experiment on Markov chains): NPO unlearns long forget sequences faster than short "
    "ones; SimNPO, normalised by length and without reference, treats them alike."
)
FORGET = ("forget1", "forget2")
Rows = tuple[uk.Row, ...]


@frozen(kw_only=True)
class World:
    """Rows and the two models everything begins with."""

    forget: Rows
    tested: Mapping[str, Rows]
    pretrained: PreTrainedModel
    retrained: PreTrainedModel


@frozen(kw_only=True)
class Pace:
    """Of one run: the long set's KL before it, and steps until each set's is halved."""

    before: float
    long: float
    short: float

    @property
    def ratio(self) -> float:
        """Above 1 if the long set goes faster."""
        return self.short / self.long


@frozen(kw_only=True)
class Sizes:
    """Of data, model and training."""

    retain: int
    forget: int
    tested: int
    hidden: int
    layers: int
    epochs: int
    learning_rate: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, unlearn, compare and write."""
    parser = parser_of(__doc__)
    parser.add_argument("--retain", type=int, default=2000, help="sequences; each forget set has half of it")
    parser.add_argument("--tested", type=int, default=60, help="test sequences of each set")
    parser.add_argument("--long", type=int, default=20)
    parser.add_argument("--short", type=int, default=5)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="of the training before")
    parser.add_argument("--unlearning-rate", type=float, default=5e-4)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--orders", type=int, default=5, help="of unlearning, per seed")
    parser.add_argument("--beta", type=float, default=1.0)
    options = started(parser, arguments)
    clock = Clock()
    sizes = Sizes(
        retain=options.retain,
        forget=options.retain // 2,
        tested=options.tested,
        hidden=options.hidden,
        layers=options.layers,
        epochs=options.epochs,
        learning_rate=options.learning_rate,
    )
    methods: dict[str, Objective] = {"NPO": uk.NPO(beta=options.beta), "SimNPO": uk.SimNPO(beta=options.beta)}
    found: dict[str, list[tuple[Pace, Pace]]] = {name: [] for name in methods}
    for seed in range(options.seeds):
        retrained = trained(draw(seed, sizes, {"retain": options.long}, "train")["retain"], sizes, seed)
        paces: dict[str, list[Pace]] = {name: [] for name in methods}
        for long, short in (FORGET, FORGET[::-1]):
            lengths = {"retain": options.long, long: options.long, short: options.short}
            world = build(seed, sizes, lengths, retrained)
            for name, objective in methods.items():
                orders = [
                    forget(world, objective, long, short, seed=order, rate=options.unlearning_rate, steps=options.steps)
                    for order in range(options.orders)
                ]
                paces[name].append(mean_pace(orders))
        for name, (one, other) in paces.items():
            found[name].append((one, other))
    ratios = {name: [(one.ratio * other.ratio) ** 0.5 for one, other in pairs] for name, pairs in found.items()}
    rows = [
        (
            name,
            spread([pace.before for pair in pairs for pace in pair]),
            spread([pace.long for pair in pairs for pace in pair]),
            spread([pace.short for pair in pairs for pace in pair]),
            spread(ratios[name]),
            spread([(one.ratio / other.ratio) ** 0.5 for one, other in pairs]),
        )
        for name, pairs in found.items()
    ]
    faster, alike = ratios["NPO"], ratios["SimNPO"]
    publish(
        Finding(
            name="simnpo_length",
            claim=CLAIM,
            setting=(
                f"Smaller than the paper: Llama of {sizes.layers} blocks and width {sizes.hidden} (paper: a network of "
                f"its own with learned positions, 4 blocks, width 128), {sizes.retain} + {sizes.forget} + {sizes.forget} "
                f"sequences (8000 + 4000 + 4000), {sizes.epochs} epochs at {sizes.learning_rate:g} (5 at 5e-4). As in "
                f"the paper: batches of 128, then {options.steps} unlearning steps of batch 4 at "
                f"{options.unlearning_rate:g}, beta {options.beta:g}. {options.seeds} seeds, in each of which "
                f"{options.orders} orders of unlearning are averaged; mean (smallest … largest) over seeds."
            ),
            columns=("method", "KL before, long set", "steps to half, long", "steps to half, short", "ratio", "chain"),
            rows=rows,
            checks=[
                Check("NPO: the long set goes faster (ratio > 1 in every seed)", spread(faster), min(faster) > 1.0),
                Check(
                    "SimNPO: alike (ratio within 15 % of 1 in every seed)",
                    spread(alike),
                    all(abs(r - 1) < 0.15 for r in alike),
                ),
                Check(
                    "NPO favours the long set more than SimNPO does (quotient of ratios > 1 in every seed)",
                    spread([npo / simnpo for npo, simnpo in zip(faster, alike, strict=True)]),
                    all(npo > simnpo for npo, simnpo in zip(faster, alike, strict=True)),
                ),
            ],
            remark="Ratio seed by seed: "
            + "; ".join(f"{name} {' '.join(f'{each:.2f}' for each in several)}" for name, several in ratios.items())
            + ".",
            seconds=clock.seconds(),
        ),
        options.out,
    )


def draw(seed: int, sizes: Sizes, lengths: Mapping[str, int], split: Literal["train", "test"]) -> dict[str, Rows]:
    """Sequences of each role that has a length."""
    numbers = {"retain": sizes.retain, **dict.fromkeys(FORGET, sizes.forget)}
    return {
        role: chain_rows(
            Chain(role=role),
            Sequences(
                number=numbers[role] if split == "train" else sizes.tested, length=length, seed=seed, split=split
            ),
        )
        for role, length in lengths.items()
    }


def build(seed: int, sizes: Sizes, lengths: Mapping[str, int], retrained: PreTrainedModel) -> World:
    """Draw sequences, and train a model on all of them."""
    train = draw(seed, sizes, lengths, "train")
    return World(
        forget=as_role([row for role in FORGET for row in train[role]], "forget"),
        tested=draw(seed, sizes, {role: lengths[role] for role in FORGET}, "test"),
        pretrained=trained([row for rows in train.values() for row in rows], sizes, seed),
        retrained=retrained,
    )


def mean_pace(paces: Sequence[Pace]) -> Pace:
    """Of several orders of one seed."""
    return Pace(
        before=statistics.mean(pace.before for pace in paces),
        long=statistics.mean(pace.long for pace in paces),
        short=statistics.mean(pace.short for pace in paces),
    )


def trained(rows: Sequence[uk.Row], sizes: Sizes, seed: int) -> PreTrainedModel:
    """A transformer that starts from the seed's weights and learns these rows."""
    config = LlamaConfig(
        vocab_size=Chain(role="retain").states,
        hidden_size=sizes.hidden,
        intermediate_size=2 * sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=4,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model: PreTrainedModel = LlamaForCausalLM(config)
    uk.unlearn(
        model,
        uk.CrossEntropy("train"),
        {"train": as_role(rows, "train")},
        optimizer=torch.optim.AdamW(model.parameters(), lr=sizes.learning_rate),
        steps=sizes.epochs * -(-len(rows) // 128),
        batch_size=128,
        seed=seed,
    )
    model.eval()
    return model


def forget(
    world: World, objective: Objective, long: str, short: str, *, seed: int, rate: float, steps: int, every: int = 2
) -> Pace:
    """Unlearn both forget sets together, and see how fast each approaches the retrained model."""
    model = copy.deepcopy(world.pretrained)
    path = {role: [divergence(world, model, role)] for role in FORGET}

    def watch(step: uk.Step) -> None:
        if (step.number + 1) % every == 0:
            for role, values in path.items():
                values.append(divergence(world, model, role))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnlearningWarning)  # there is no retain term, so that the model may collapse
        uk.unlearn(
            model,
            objective,
            {"forget": world.forget},
            optimizer=torch.optim.AdamW(model.parameters(), lr=rate),
            steps=steps,
            batch_size=4,
            models={"reference": world.pretrained},
            seed=seed,
            on_step=watch,
        )
    after = {role: steps_to_half(values, every=every) for role, values in path.items()}
    return Pace(before=path[long][0], long=after[long], short=after[short])


def divergence(world: World, model: PreTrainedModel, role: str) -> float:
    """KL(retrained || model), the mean over the predicted tokens of a test set."""
    need = Compared(ForwardKL(), role, of="retrained")
    models = {"model": as_model(model), "retrained": as_model(world.retrained)}
    with torch.no_grad():
        return float(uk.observe(models, world.tested[role], frozenset({need}))[need].values.mean())


def steps_to_half(values: Sequence[float], *, every: int) -> float:
    """The step at which the first value is halved, interpolated; the number of steps if it never is."""
    for place, (one, other) in enumerate(pairwise(values)):
        if other <= values[0] / 2:
            return every * (place + (one - values[0] / 2) / (one - other))
    return float(every * (len(values) - 1))


if __name__ == "__main__":
    main()
