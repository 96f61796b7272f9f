"""Official numbers of combinations that have no class of their own: sums of objectives, written out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from attrs import evolve
from torch import Tensor

from tests.objectives.conformance import assert_agrees, assert_reproduces, loss_of
from tests.tables import Recorded, random_table, recorded
from unlearnkit.objectives.cross_entropy import CrossEntropy, Reduction
from unlearnkit.objectives.dpo import DPO
from unlearnkit.objectives.ga_kl import GradientAscentKL
from unlearnkit.objectives.grad_diff import GradDiff
from unlearnkit.objectives.gradient_ascent import GradientAscent
from unlearnkit.objectives.npo import NPO
from unlearnkit.objectives.retain_kl import RetainKL
from unlearnkit.protocols import Objective
from unlearnkit.testing import Table


def assert_same(source: str, case: str, loss: Tensor, file: Recorded, *, tolerance: float = 1e-9) -> None:
    """The loss and every gradient of a recorded case, and no others."""
    assert_agrees(source, case, loss, file.cases[case].loss, tolerance=tolerance)
    for name, table in file.model.items():
        (grad,) = torch.autograd.grad(loss, table.logits, allow_unused=True, retain_graph=True)
        assert (grad is None) == (name not in file.cases[case].grad), f"{case}: gradient of {name!r}"
        if grad is not None:
            assert_agrees(source, case, grad, file.cases[case].grad[name], tolerance=tolerance)


def everywhere(tables: dict[str, Table]) -> dict[str, Table]:
    """Padding declared real: official code averages over every position."""
    return {name: evolve(table, mask=torch.ones_like(table.mask)) for name, table in tables.items()}


def entropy(table: Table) -> Tensor:
    """Mean entropy over all positions, padding included."""
    log_probs = torch.log_softmax(table.logits, -1)
    return -(log_probs.exp() * log_probs).sum(-1).mean()


def tolerance_of_the_epsilon(model: Table, reference: Table) -> float:
    """What 1e-12 inside the logarithm can change of a cross-entropy and of its gradient, at most, beside 1e-9."""
    ratio = torch.softmax(reference.logits, -1) / torch.softmax(model.logits.detach(), -1)
    return 1e-9 + 2e-12 * float(ratio.max())


# --- inverted facts: fine-tuning on contradicting answers -------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "objective"),
    [
        ("meow", CrossEntropy("inverted")),
        ("meow_grad_diff", 0.9 * CrossEntropy("inverted") + 0.1 * CrossEntropy("retain")),
        ("meow_forgetKL", CrossEntropy("inverted") + RetainKL("inverted")),
    ],
)
def test_official_numbers_of_inverted_facts(shared: Path, case: str, objective: Objective) -> None:
    assert_reproduces(shared, "meow", case, objective)


def test_official_numbers_of_inverted_facts_as_losers(shared: Path) -> None:
    beta = recorded(shared, "meow").cases["meow_dpo"].hyper["beta"]
    assert_reproduces(shared, "meow", "meow_dpo", DPO(beta=beta, win="retain", lose="inverted"))


# --- unlearning of pre-trained models: ascent with descent, or with the KL --------------------------------------------


@pytest.mark.parametrize("reduction", ["token", "sequence_mean", "sequence_sum"])
def test_gradient_difference_reduces_both_terms_alike(reduction: Reduction) -> None:
    tables = {"forget": random_table(1, [(2, 3), (1, 1)]), "retain": random_table(2, [(1, 4), (3, 2)])}
    loss = loss_of(GradDiff(forget_weight=0.3, retain_weight=2.0, reduction=reduction), tables)
    forget, retain = (loss_of(CrossEntropy(role, reduction=reduction), tables) for role in ("forget", "retain"))
    torch.testing.assert_close(loss, 2 * retain - 0.3 * forget)
    with pytest.raises(ValueError, match="'reduction' must be in"):
        GradDiff(reduction="mean")  # type: ignore[arg-type]


def test_released_gradient_differences() -> None:
    assert GradDiff.released("tofu") == GradDiff()
    assert GradDiff.released("pretrained-unlearning") == GradDiff(
        forget_weight=0.5, retain_weight=0.5, reduction="sequence_mean"
    )


def test_official_numbers_of_ascent_and_descent(shared: Path) -> None:
    """One mean over the rows of both batches, retain rows multiplied by a factor."""
    file = recorded(shared, "pretrained_unlearning")
    forget, retain = (len(file.model[role].labels) for role in ("forget", "retain"))
    found = [name for name in file.cases if name.startswith("ascent_plus_descent")]
    assert found
    for case in found:
        factor = file.cases[case].hyper["positive_factor"]
        objective = evolve(
            GradDiff.released("pretrained-unlearning"),
            forget_weight=forget / (forget + retain),
            retain_weight=factor * retain / (forget + retain),
        )
        if factor == 1 and forget == retain:
            assert objective == GradDiff.released("pretrained-unlearning")
        assert_reproduces(shared, "pretrained_unlearning", case, objective)


def test_official_numbers_of_ascent_and_kl(shared: Path) -> None:
    """The code's cross-entropy is the KL plus the reference's entropy, but for 1e-12 inside the logarithm."""
    file = recorded(shared, "pretrained_unlearning")
    found = [name for name in file.cases if name.startswith("ascent_plus_kl")]
    assert found
    tolerance = tolerance_of_the_epsilon(file.model["retain"], file.reference["retain"])
    for case in found:
        factor = file.cases[case].hyper["positive_factor"]
        ours = loss_of(GradientAscentKL(retain_weight=factor), everywhere(file.model), everywhere(file.reference))
        loss = ours + factor * entropy(file.reference["retain"])
        assert_same("pretrained_unlearning", case, loss, file, tolerance=(1 + factor) * tolerance)


# --- FIT's loss helpers: every real token is supervised ---------------------------------------------------------------


def fit(shared: Path) -> tuple[Recorded, dict[str, Table], dict[str, Table]]:
    """The recorded file, and its tables with every real token supervised and padding declared real."""
    file = recorded(shared, "fit")
    batches = json.loads((shared / "conformance" / "fit_a.json").read_text())["batches"]

    def whole(tables: dict[str, Table]) -> dict[str, Table]:
        return everywhere(
            {
                name: evolve(table, labels=torch.tensor(batches[name]["input_ids"]).masked_fill(~table.mask, -100))
                for name, table in tables.items()
            }
        )

    return file, whole(file.model), whole(file.reference)


def from_the_model(model: Table, reference: Table) -> Tensor:
    """FIT's retain term: the reference's cross-entropy under the *model*, minimal where the model is certain."""
    probs, log_reference = torch.softmax(model.logits, -1), (torch.softmax(reference.logits, -1) + 1e-12).log()
    return -(probs * log_reference).sum(-1).mean()


def test_official_numbers_of_fit(shared: Path) -> None:
    file, model, reference = fit(shared)
    npo = loss_of(NPO(beta=file.cases["npo"].hyper["beta"]), model, reference)
    assert_same("fit", "npo", npo, file)
    kl = loss_of(RetainKL(), model, reference)
    assert_same("fit", "retain_kl__paper", kl, file)


def test_official_numbers_of_fit_with_its_own_retain_term(shared: Path) -> None:
    file, model, reference = fit(shared)
    kept = from_the_model(file.model["retain"], file.reference["retain"])
    assert_same("fit", "retain_cross_entropy_from_model__as_released", kept, file)
    npo = loss_of(NPO(beta=file.cases["npo_kl__as_released"].hyper["beta"]), model, reference)
    assert_same("fit", "npo_kl__as_released", npo + kept, file)
    assert_same("fit", "ga_kl__as_released", loss_of(GradientAscent(), model) + kept, file)
