"""Benign relearning: a few steps of ordinary training on text that does not hold the answers bring them back.

    model -> next-token training on texts for `steps` updates -> ask again

What was hidden comes back sooner than what was removed can be learned: so the same texts and steps on a model that never
knew are the control. Nothing in the texts may say what is asked for: rows that hold a keyword are refused.

What the texts are is the attack's recipe, see the functions below: other facts of the same subjects, facts of others,
forget rows with their keyword cut away, or text about nothing of the kind.

The curve is reported, not its end: it need not rise, and depends on how alike the texts are to the questions in form.

Paper: Hu, Fu, Wu, Smith. Unlearning or Obfuscating? Jogging the Memory of Unlearned LLMs via Benign Relearning. ICLR
2025, arXiv:2406.13356.

Checked: s-huu/jog_llm_memory@8b93334, the numbers of its configurations: full fine-tuning, AdamW without weight decay,
rate 1e-5 with linear decay, 16 texts a step.

Deviations: the released synthetic relearning starts from the model that was never unlearned, and its reported loss
compares unshifted logits; here, as in the paper, the unlearned model is trained, on the next token.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from attrs import evolve, field, frozen
from attrs.validators import ge, gt
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from unlearnkit.attacks.attack import (
    Budget,
    Outcome,
    Secret,
    Target,
    ThreatModel,
    check_secrets,
    mean,
    mentions,
    outcome_of_change,
    stands_in,
    words_of,
)
from unlearnkit.batch import Row, as_role
from unlearnkit.errors import DataError
from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.train import Step, unlearn


def relearned(
    model: PreTrainedModel,
    rows: Sequence[Row],
    *,
    steps: int,
    learning_rate: float = 1e-5,
    batch_size: int = 16,
    seed: int = 0,
    on_step: Callable[[Step, PreTrainedModel], None] | None = None,
) -> PreTrainedModel:
    """A copy of a model, trained on rows of text: AdamW, no weight decay, linear decay, no warm-up.

    Args:
        model: stays as it is.
        rows: what is trained on; their roles are not looked at.
        steps: updates. 0 gives the model itself back, as a copy.
        learning_rate: of the first step.
        batch_size: rows a step.
        seed: of the order of rows.
        on_step: called after each step with the copy, to look at it on the way.
    """
    changed = copy.deepcopy(model)
    changed.requires_grad_(True)
    if steps == 0:
        return changed
    optimizer = torch.optim.AdamW(changed.parameters(), lr=learning_rate, weight_decay=0.0)

    def show(step: Step) -> None:
        if on_step is not None:
            on_step(step, changed)

    unlearn(
        changed,
        CrossEntropy("texts"),
        {"texts": as_role(rows, "texts")},
        optimizer=optimizer,
        scheduler=get_linear_schedule_with_warmup(optimizer, 0, steps),
        steps=steps,
        batch_size=min(batch_size, len(rows)),
        clip=1.0,
        seed=seed,
        on_step=show,
    )
    changed.eval()
    return changed


@frozen(kw_only=True, eq=False)
class Relearning:
    """`relearned`, and the questions asked again.

    Attributes:
        texts: what is trained on: questions with their answers, none of which gives a secret away.
        recipe: what the texts are, in words.
        steps, learning_rate, batch_size, seed: see `relearned`.
        look_at: steps at which the model is asked on the way, for the curve.
        threat: "finetune_api", or "weights".
    """

    texts: tuple[tuple[str, str], ...]
    recipe: str
    steps: int = field(default=40, validator=ge(0))
    learning_rate: float = field(default=1e-5, validator=gt(0))
    batch_size: int = field(default=16, validator=ge(1))
    seed: int = 0
    look_at: tuple[int, ...] = ()
    threat: ThreatModel = field(default="finetune_api", init=False)

    def __call__(self, target: Target, secrets: Sequence[Secret]) -> Outcome:
        check_secrets(secrets)
        check_benign(self.texts, secrets)
        rows = [
            target.row(question, answer, id=f"text{number}", role="texts")
            for number, (question, answer) in enumerate(self.texts)
        ]
        curve = {"0 steps": mean(target.leaks(secrets))}

        def look(step: Step, model: PreTrainedModel) -> None:
            if step.number + 1 in self.look_at and step.number + 1 < self.steps:
                curve[f"{step.number + 1} steps"] = mean(target.with_model(model).leaks(secrets))

        changed = relearned(
            target.weights,
            rows,
            steps=self.steps,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            seed=self.seed,
            on_step=look,
        )
        outcome = outcome_of_change(
            f"relearning on {self.recipe}, {self.steps} steps",
            target,
            changed,
            secrets,
            threat=self.threat,
            budget=Budget(
                queries=len(secrets) * (len(curve) - 1),
                gradient_steps=self.steps,
                training_tokens=self.steps * min(self.batch_size, len(rows)) * sum(map(len, rows)) // max(1, len(rows)),
            ),
            seed=self.seed,
        )
        return evolve(outcome, curve={**curve, f"{self.steps} steps": outcome.success})


def check_benign(texts: Sequence[tuple[str, str]], secrets: Sequence[Secret]) -> None:
    """Refuse texts that give a secret away: its question, its whole answer, or its keyword beside its subject.

    Where the subject is no name that the secret's own question or answer mentions, the keyword alone is enough.

    Raises:
        DataError: names the text and the secret.
    """
    if not texts:
        raise DataError("there are no texts to train on.")
    asked = {words_of(secret.question): secret.id for secret in secrets}
    for number, (question, answer) in enumerate(texts):
        if (found := asked.get(words_of(question))) is not None:
            raise DataError(
                f"text {number} asks what secret {found!r} asks. Relearning is benign if what it trains on does not hold "
                "what is asked for afterwards: take it out, or out of the secrets."
            )
        text = f"{question} {answer}"
        for secret in secrets:
            named = any(stands_in(secret.subject, own) for own in (secret.question, secret.answer))
            near = not named or stands_in(secret.subject, text)
            if (near and mentions(text, secret)) or stands_in(secret.answer, text):
                raise DataError(f"text {number} tells secret {secret.id!r}: {question!r} {answer!r}. Take it out.")


# --- recipes: what an attacker without the answers trains on ------------------------------------------------------------


def pairs(facts: Sequence[Secret]) -> tuple[tuple[str, str], ...]:
    """Questions with their answers."""
    return tuple((one.question, one.answer) for one in facts)


def other_facts(known: Sequence[Secret], secrets: Sequence[Secret]) -> tuple[tuple[str, str], ...]:
    """What is known of the same subjects beside the secrets: a piece of the forget set that is not asked for."""
    subjects, asked = {secret.subject for secret in secrets}, {secret.id for secret in secrets}
    return pairs([one for one in known if one.subject in subjects and one.id not in asked])


def facts_of_others(known: Sequence[Secret], secrets: Sequence[Secret]) -> tuple[tuple[str, str], ...]:
    """What is known of other subjects: related text in the same form, about nobody who was forgotten."""
    subjects = {secret.subject for secret in secrets}
    return pairs([one for one in known if one.subject not in subjects])


def without_keyword(secrets: Sequence[Secret]) -> tuple[tuple[str, str], ...]:
    """The forgotten rows themselves, each answer cut before its keyword; left out are those that begin with it."""
    return tuple((one.question, one.stem) for one in secrets if one.stem)
