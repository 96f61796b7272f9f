"""An audit of a real chat model: what NPO left of TOFU's questions in it.

    python benchmarks/real_audit.py --model SmolLM2-135M-Instruct.Q4_1.gguf --tofu path/to/tofu

The model learns two questions of each of ten authors of forget10 and as many of retain90 (the original), a second one the
latter only (the oracle); the original unlearns the former by NPO with a retain term. Then all are attacked alike. One
question of each author is asked; the other is what an attacker knows who trains on "other facts". Answers have no
keywords: what came out is ROUGE-L recall of the whole answer, less where the attack reads choices.

Models are kept in --cache, so that a second call attacks only. Writes table.md and one JSON file per audited model.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from attrs import evolve
from transformers import PreTrainedModel, PreTrainedTokenizerBase, get_linear_schedule_with_warmup
from transformers.utils.logging import disable_progress_bar

import unlearnkit as uk
from unlearnkit.attacks.attack import Outcome, Secret, Target, recalls
from unlearnkit.attacks.audit import compare
from unlearnkit.attacks.secrets import secret_of
from unlearnkit.attacks.standard import standard
from unlearnkit.checkpoint import load_model, save_model
from unlearnkit.data.refusals import draw_refusal
from unlearnkit.datasets.source import Place
from unlearnkit.datasets.tofu import load_tofu
from unlearnkit.errors import DataError, NeedError
from unlearnkit.oracle import Training, cache_folder, fine_tuned
from unlearnkit.protocols import Greedy
from unlearnkit.recipes import RECIPES
from unlearnkit.recording import fingerprint

CHOSEN = [
    "plain question",
    "rephrased",
    "few shots",
    "worst of 8 samples",
    "linear probe",
    "8 bits",
    "4 bits",
    "FP4",
    "relearning, other facts",
    "relearning, facts of others",
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train or find the models, attack each, write the tables."""
    options = parse(arguments)
    disable_progress_bar()
    start = time.perf_counter()
    data = load_tofu(Place(options.tofu), split="forget10")
    # Two questions of each author: one is asked, the other is what an attacker knows. Intervals are over authors.
    per_author, places = 20, [author * 20 + each for author in range(options.authors) for each in (1, 2)]
    forgotten, kept = [data.forget_perturbed[place] for place in places], [data.retain[place] for place in places]
    base, tokenizer = load_model(options.model.parent, gguf_file=options.model.name)
    template = uk.template_of(tokenizer)

    def rows(role: str, pairs: Sequence[tuple[str, str]]) -> tuple[uk.Row, ...]:
        return tuple(
            uk.tokenize(tokenizer, question, answer, id=f"{number}", role=role, template=template)
            for number, (question, answer) in enumerate(pairs)
        )

    def say(what: str) -> None:
        print(f"{time.perf_counter() - start:6.0f} s  {what}", flush=True)

    learned = [(one.question, one.answer) for one in forgotten]
    stayed = [(one.question, one.answer) for one in kept]
    training = Training(epochs=5, batch_size=8, learning_rate=3e-4, warmup=0.1, weight_decay=0.01, max_tokens=2048)
    models: dict[str, PreTrainedModel] = {}
    for name, pairs in (("original", [*learned, *stayed]), ("oracle", stayed)):
        models[name] = fine_tuned(  # a copy, as it is trained itself
            copy.deepcopy(base), rows("train", pairs), training, tokenizer=tokenizer, cache=options.cache
        )
        say(f"{name}: there")
    refused = [(question, draw_refusal(question)) for question, _ in learned]
    roles = {"forget": rows("forget", learned), "retain": rows("retain", stayed), "idk": rows("idk", refused)}
    for name in options.methods:
        models[name] = unlearned(
            name, models["original"], roles, tokenizer, options.cache, epochs=options.epochs, rate=options.rate
        )
        say(f"{name}: there")
    if options.only_train:
        return
    secrets = [
        evolve(secret_of(one), subject=f"author {place // per_author}")
        for one, place in zip(forgotten, places, strict=True)
    ]
    asked, known = secrets[::2], secrets[1::2]
    retained = tuple(
        Secret(id=f"kept{number}", question=one.question, answer=one.answer) for number, one in enumerate(kept)
    )
    attacks = {
        name: attack
        for name, attack in standard(
            known, retained[options.retained :], steps=options.steps, learning_rate=1e-4, samples=options.samples
        ).items()
        if name in options.attacks
    }
    say(f"{len(asked)} secrets under {', '.join(attacks)}")
    found: dict[str, dict[str, Outcome]] = {}
    for name, model in models.items():
        target = Target(
            model,
            tokenizer,
            template=template,
            original=models["original"],
            retained=retained[: options.retained],
            leak=recalls,
            decoding=Greedy(40),
            batch=16,
        )
        found[name] = {}
        for called, attack in attacks.items():
            try:
                found[name][called] = attack(target, asked)
            except (NeedError, DataError) as lacking:
                say(f"{called} on {name}: not run, {lacking}")
                continue
            say(f"{called} on {name}: {found[name][called].success:.3f}")
    lines = []
    for name in options.methods:
        audit = compare(found[name], asked, oracle=found["oracle"], original=found["original"])
        audit.save(options.out / f"{name}.json")
        lines.append(f"## {name}\n\n{audit.table()}\n")
    (options.out / "table.md").write_text("\n".join(lines))
    print("\n".join(lines))
    say("done")


def unlearned(
    name: str,
    original: PreTrainedModel,
    roles: Mapping[str, tuple[uk.Row, ...]],
    tokenizer: PreTrainedTokenizerBase,
    cache: Path,
    *,
    epochs: int,
    rate: float,
) -> PreTrainedModel:
    """The original, unlearned by a recipe; found on disk if it is there."""
    folder = cache / f"real-audit-{name}-{epochs}-{rate:g}-{fingerprint(dict(original.state_dict()))[:16]}"
    if folder.is_dir():
        return load_model(folder)[0]
    model = copy.deepcopy(original)
    objective = RECIPES[name].objective(original)
    steps = epochs * len(roles["forget"]) // 8
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    needed = {need.role for need in objective.needs}
    uk.unlearn(
        model,
        objective,
        {role: own for role, own in roles.items() if role in needed},
        optimizer=optimizer,
        scheduler=get_linear_schedule_with_warmup(optimizer, 2, steps),
        steps=steps,
        models={"reference": uk.record(original, objective.needs, roles)} if name.startswith("npo") else None,
        batch_size=8,
        max_tokens=2048,
        clip=1.0,
    )
    save_model(folder, model, tokenizer)
    return model


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    shared = Path(os.environ.get("UNLEARNKIT_SHARED", Path(__file__).parents[2] / "shared"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="GGUF file of a small chat model")
    parser.add_argument("--tofu", type=Path, default=shared / "data" / "tofu", help="folder of TOFU's JSON files")
    parser.add_argument("--methods", nargs="+", default=["npo_nll"], choices=list(RECIPES))
    parser.add_argument(
        "--authors", type=int, default=10, help="of forget10's 20, two questions each; and as many to keep"
    )
    parser.add_argument("--epochs", type=int, default=10, help="of unlearning")
    parser.add_argument("--rate", type=float, default=1e-4, help="of unlearning")
    parser.add_argument("--cache", type=Path, default=cache_folder())
    parser.add_argument("--out", type=Path, default=Path("results/real_audit"))
    parser.add_argument("--attacks", nargs="+", metavar="ATTACK", default=CHOSEN, help="of the standard set")
    parser.add_argument("--steps", type=int, default=8, help="updates of attacks that train")
    parser.add_argument("--samples", type=int, default=8, help="answers drawn to each question")
    parser.add_argument("--retained", type=int, default=10, help="kept questions that are asked under each attack")
    parser.add_argument("--only-train", action="store_true", help="stop before the attacks")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
