r"""Fine-tuning on a few samples: how many does it take until forgotten answers come back, and samples of what?

    for n in sizes: unlearned model -> LoRA on n samples, 3 epochs -> merge -> ask again

Three kinds of samples: `forget` is more of what was forgotten, but none of what is asked for; `retain` is knowledge
beside it; `unrelated` is about nothing of the kind. The paper's point: ten or so undo most methods, unrelated ones too.

The attacker submits samples to a service that fine-tunes, or holds the weights. Read the curve over n for each kind
beside that of an oracle under the same samples: it has nothing to come back. The result is told in the plain question's
measure, and retained knowledge beside it: training that breaks the model proves nothing.

Where it misleads: samples of the forget distribution teach the form of an answer and the values that occur in it, so
that guessing gets better: oracle. The defaults are for models of billions of parameters; tiny ones do not move at 2e-4.

Paper: Łucki, Wei, Huang, Henderson, Tramèr, Rando. An Adversarial Perspective on Machine Unlearning for AI Safety. TMLR
2025, arXiv:2409.18025.

Checked: ethz-spylab/unlearning-vs-safety@75dade5, numbers of its fine-tuning script: rank 128, alpha 16, no dropout, the
seven projections of each block, AdamW at 2e-4 with decay 0.01, linear schedule after 5 % of warm-up, batch 1, 3 epochs,
seed 42, sizes 5 to 1000. Laws only.

Deviations:
    1. Samples are questions and answers as they are given, and the loss is on the answer; there all samples are phrased
       as multiple choice, and the loss is on the whole text.
    2. Leaves asked-for secrets out of `forget` samples, and refuses samples of other kinds that tell one.
    3. The n samples are a seeded draw; a larger n holds the smaller ones.
    4. Every linear layer but the head gets an adapter, whatever it is called: in Llama's shape these are the seven.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from attrs import Attribute, evolve, field, frozen
from attrs.validators import and_, deep_iterable, ge, gt, in_, min_len
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from unlearnkit.attacks.attack import (
    Budget,
    Outcome,
    Secret,
    Target,
    ThreatModel,
    check_secrets,
    mean,
    outcome_of_change,
)
from unlearnkit.attacks.relearning import check_benign
from unlearnkit.batch import Row, as_role
from unlearnkit.errors import AnatomyError, DataError, NeedError
from unlearnkit.models.lora import add_lora, merge_lora
from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.train import unlearn

Kind = Literal["forget", "retain", "unrelated"]
"""What samples are of; see the top of the file."""

KINDS: tuple[Kind, ...] = get_args(Kind)


def tuned(
    model: PreTrainedModel,
    rows: Sequence[Row],
    *,
    epochs: int = 3,
    learning_rate: float = 2e-4,
    rank: int = 128,
    alpha: float = 16.0,
    batch_size: int = 1,
    warmup: float = 0.05,
    weight_decay: float = 0.01,
    seed: int = 42,
) -> PreTrainedModel:
    """A copy of a model with LoRA trained on rows of text and merged: AdamW, warm-up, then linear decay to 0.

    Args:
        model: stays as it is.
        rows: what is trained on; their roles are not looked at. Without any the copy is the model.
        epochs: passes over the rows.
        learning_rate: the highest.
        rank, alpha: of each addition; it counts alpha / rank.
        batch_size: rows a step.
        warmup: share of the steps over which the rate rises.
        weight_decay: of the additions' matrices.
        seed: of the additions' draws and the order of rows.

    Raises:
        NeedError: the model has no plain linear layer that could be added to.
    """
    changed = copy.deepcopy(model)
    changed.requires_grad_(True)
    steps = epochs * -(-len(rows) // batch_size)
    if steps == 0:
        return changed
    try:
        trained = add_lora(changed, rank=rank, alpha=alpha, seed=seed)
    except AnatomyError as lacking:
        raise NeedError(f"LoRA does not fit this model: {lacking}") from None
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=weight_decay)
    unlearn(
        changed,
        CrossEntropy("samples"),
        {"samples": as_role(rows, "samples")},
        optimizer=optimizer,
        scheduler=get_linear_schedule_with_warmup(optimizer, math.ceil(warmup * steps), steps),
        steps=steps,
        batch_size=batch_size,
        clip=1.0,
        seed=seed,
    )
    merge_lora(changed)
    changed.eval()
    return changed


def apart(texts: Sequence[tuple[str, str]], secrets: Sequence[Secret]) -> tuple[tuple[str, str], ...]:
    """The texts that neither ask for nor tell one of the secrets."""
    kept = []
    for text in texts:
        try:
            check_benign([text], secrets)
        except DataError:
            continue
        kept.append(text)
    return tuple(kept)


def _ascending(_: object, __: Attribute[tuple[int, ...]], sizes: tuple[int, ...]) -> None:
    if list(sizes) != sorted(set(sizes)):
        raise DataError(f"sizes are {list(sizes)}; name each once, in ascending order.")


@frozen(kw_only=True, eq=False)
class FineTuning:
    """`tuned` on n samples for each of some n, always from the target itself; `after` is that of the largest n.

    `curve` is over n and begins with 0. A size that is more than there are samples is cut to all there are.

    Attributes:
        kind: what the samples are of. Of `forget`, those about the secrets of the call are left out; of the others, one
            that gives a secret away is an error.
        samples: questions with their answers.
        sizes: the n, ascending.
        epochs, learning_rate, rank, alpha, batch_size, seed: see `tuned`; the seed draws the samples as well.
    """

    kind: Kind = field(validator=in_(KINDS))
    samples: tuple[tuple[str, str], ...]
    sizes: tuple[int, ...] = field(
        default=(5, 10, 50, 100, 500, 1000), validator=and_(min_len(1), deep_iterable(ge(1)), _ascending)
    )
    epochs: int = field(default=3, validator=ge(1))
    learning_rate: float = field(default=2e-4, validator=gt(0))
    rank: int = field(default=128, validator=ge(1))
    alpha: float = field(default=16.0, validator=gt(0))
    batch_size: int = field(default=1, validator=ge(1))
    seed: int = 42
    threat: ThreatModel = field(default="finetune_api", init=False)

    def __call__(self, target: Target, secrets: Sequence[Secret]) -> Outcome:
        check_secrets(secrets)
        samples = self.samples_for(secrets)
        rows = [
            target.row(question, answer, id=f"sample{number}", role="samples")
            for number, (question, answer) in enumerate(samples)
        ]
        sizes = sorted({min(size, len(rows)) for size in self.sizes})
        curve = {"0 samples": mean(target.leaks(secrets))}
        changed = target.weights
        for size in sizes:
            changed = tuned(
                target.weights,
                rows[:size],
                epochs=self.epochs,
                learning_rate=self.learning_rate,
                rank=self.rank,
                alpha=self.alpha,
                batch_size=self.batch_size,
                seed=self.seed,
            )
            if size < sizes[-1]:
                curve[f"{size} samples"] = mean(target.with_model(changed).leaks(secrets))
        outcome = outcome_of_change(
            f"fine-tuning on {sizes[-1]} {self.kind} samples",
            target,
            changed,
            secrets,
            threat=self.threat,
            budget=Budget(
                queries=len(secrets) * (len(sizes) - 1),
                gradient_steps=sum(self.epochs * -(-size // self.batch_size) for size in sizes),
                training_tokens=sum(self.epochs * sum(map(len, rows[:size])) for size in sizes),
            ),
            seed=self.seed,
        )
        return evolve(outcome, curve={**curve, f"{sizes[-1]} samples": outcome.success})

    def samples_for(self, secrets: Sequence[Secret]) -> tuple[tuple[str, str], ...]:
        """The samples in the order in which they are taken.

        Raises:
            DataError: one of another kind than `forget` gives a secret away, or none is left.
        """
        if self.kind != "forget":
            check_benign(self.samples, secrets)
        samples = apart(self.samples, secrets) if self.kind == "forget" else self.samples
        if not samples:
            raise DataError(
                "every forget sample is about a secret that is asked for. Give samples of what was forgotten besides, or "
                "ask for some of the secrets only."
            )
        return tuple(random.Random(f"samples {self.seed}").sample(samples, len(samples)))


def fine_tuning_sweep(
    samples: Mapping[Kind, Sequence[tuple[str, str]]], *, settings: FineTuning | None = None
) -> dict[str, FineTuning]:
    """One attack for each kind of samples, by the name it is reported under; all else as in `settings`."""
    base = FineTuning(kind="retain", samples=()) if settings is None else settings
    return {f"fine-tuning, {kind}": evolve(base, kind=kind, samples=tuple(of)) for kind, of in samples.items()}
