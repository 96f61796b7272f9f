"""One small world for all attacks: the original, the retrained oracle and a model that was taught to refuse, made once."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

import pytest
from attrs import field, frozen
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unlearnkit.attacks.attack import Secret, Target
from unlearnkit.batch import Row, Template
from unlearnkit.experiment import HERE, Settings, Stage, adamw, build_stage, secrets_of
from unlearnkit.train import unlearn


@frozen(kw_only=True, eq=False)
class Attacked:
    """What attacks are tried on.

    Attributes:
        stage: original and oracle, and what they were taught.
        unlearned: the original after 30 steps of IdkNLL: it refuses, and much is left beneath.
        secrets: 30 facts about 6 people, all forgotten; the right one is one of 24 values, for mentors of 5.
        retained: 30 facts about people who were to be kept.
    """

    stage: Stage
    unlearned: PreTrainedModel
    secrets: tuple[Secret, ...]
    retained: tuple[Secret, ...]
    facts: tuple[Secret, ...] = field()

    @facts.default
    def _but_mentors(self) -> tuple[Secret, ...]:
        """The secrets that no other secret's answer mentions."""
        return tuple(secret for secret in self.secrets if secret.relation != "mentor")

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.stage.tokenizer

    @property
    def template(self) -> Template:
        assert self.stage.benchmark.template is not None
        return self.stage.benchmark.template

    def target(self, model: PreTrainedModel) -> Target:
        """A model as attacks meet it."""
        return Target(
            model, self.tokenizer, template=self.template, original=self.stage.original, retained=self.retained
        )

    @property
    def original(self) -> Target:
        return self.target(self.stage.original)

    @property
    def oracle(self) -> Target:
        return self.target(self.stage.oracle)

    @property
    def hidden(self) -> Target:
        return self.target(self.unlearned)


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Attacked:
    """About 20 seconds, once for all folders of tests that use it."""
    return build(tmp_path_factory.getbasetemp() / "attacked")


@cache
def build(folder: Path) -> Attacked:
    """The models, trained or found in a folder."""
    settings = Settings(people=60, hidden_size=96, epochs=20, evaluated_retain=30)
    stage = build_stage(settings, cache=folder)
    unlearned = copy.deepcopy(stage.original)
    data: dict[str, tuple[Row, ...]] = dict(stage.learn)
    unlearn(
        unlearned,
        HERE["idk_nll"].objective(stage.original),
        data,
        optimizer=adamw(list(unlearned.parameters()), 1e-3),
        steps=30,
        batch_size=16,
        clip=1.0,
    )
    unlearned.eval()
    world = settings.world
    return Attacked(
        stage=stage,
        unlearned=unlearned,
        secrets=secrets_of(world.forget(10), world.full),
        retained=secrets_of(world.retain(10)[:30], world.full),
    )
