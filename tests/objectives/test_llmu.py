"""LLMU: half of gradient ascent, a KL that is a cross-entropy minus a constant, official numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from attrs import evolve
from torch import Tensor

from tests.objectives.conformance import assert_agrees, loss_of
from tests.tables import Recorded, random_table, recorded
from unlearnkit.objectives.cross_entropy import CrossEntropy, sequence_nll
from unlearnkit.objectives.gradient_ascent import GradientAscent
from unlearnkit.objectives.llmu import LLMU
from unlearnkit.objectives.retain_kl import RetainKL, forward_kl
from unlearnkit.protocols import Tokens
from unlearnkit.statistics import LabelLogProb
from unlearnkit.testing import Table, seen_from_tables


def test_without_its_company_it_is_half_of_gradient_ascent() -> None:
    roles = ("forget", "random_answers", "retain")
    tables = {role: random_table(place, [(2, 2), (1, 3)]) for place, role in enumerate(roles)}
    loss = loss_of(LLMU(mismatch_weight=0.0, retain_weight=0.0), tables, tables)
    torch.testing.assert_close(loss, 0.5 * loss_of(GradientAscent(reduction="sequence_mean"), tables))


def test_three_terms_with_their_weights() -> None:
    roles = ("forget", "random_answers", "retain")
    tables = {role: random_table(place, [(2, 2), (1, 3)]) for place, role in enumerate(roles)}
    reference = {role: evolve(table, logits=table.logits.detach().flip(-1)) for role, table in tables.items()}
    options = {"forget_weight": 0.3, "mismatch_weight": 2.0, "retain_weight": 5.0}
    found = loss_of(LLMU(**options, reduction="token", positions="answer"), tables, reference)
    ascent, descent = loss_of(GradientAscent(), tables), loss_of(CrossEntropy("random_answers"), tables)
    kl = loss_of(RetainKL(positions="answer"), tables, reference)
    torch.testing.assert_close(found, 0.3 * ascent + 2 * descent + 5 * kl)


def test_no_gradient_from_normal_data_at_the_reference() -> None:
    roles = ("forget", "random_answers", "retain")
    tables = {role: random_table(place, [(2, 2), (1, 3)]) for place, role in enumerate(roles)}
    (grad,) = torch.autograd.grad(loss_of(LLMU(), tables, tables), tables["retain"].logits)
    torch.testing.assert_close(grad, torch.zeros_like(grad))


def test_options_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'mismatch_weight' must be a finite number: nan"):
        LLMU(mismatch_weight=math.nan)
    with pytest.raises(ValueError, match="'reduction' must be in"):
        LLMU(reduction="mean")  # type: ignore[arg-type]


def test_released_settings() -> None:
    assert LLMU.released("llmu") == LLMU(forget_weight=0.5, mismatch_weight=1.0, retain_weight=1.0)
    assert LLMU.released("closer-look") == LLMU(forget_weight=1.0, reduction="token")


def test_official_numbers_of_one_mismatch(shared: Path) -> None:
    """The other code base that has LLMU calls the random answers "mismatch"."""
    file = recorded(shared, "closer_look")
    found = [name for name, case in file.cases.items() if str(case.hyper.get("loss_type")) == "LLMU"]
    assert found
    for case in found:
        hyper = file.cases[case].hyper
        weight = hyper["regularization_coeff"]
        objective = evolve(
            LLMU.released("closer-look"),
            forget_weight=hyper["forget_coeff"],
            mismatch_weight=weight,
            retain_weight=weight,
        )
        models = [
            {of: evolve(table, mask=torch.ones_like(table.mask)) for of, table in tables.items()}
            for tables in (file.model, file.reference)
        ]
        model, reference = ({**tables, "random_answers": tables["mismatch"]} for tables in models)
        assert_same(case, loss_of(objective, model, reference), file, "closer_look")


def assert_same(case: str, loss: Tensor, file: Recorded, source: str, tolerance: float = 1e-9) -> None:
    """The loss and every gradient of a recorded case, and no others."""
    assert_agrees(source, case, loss, file.cases[case].loss, tolerance=tolerance)
    for name, table in file.model.items():
        (grad,) = torch.autograd.grad(loss, table.logits, allow_unused=True, retain_graph=True)
        assert (grad is None) == (name not in file.cases[case].grad), f"{case}: gradient of {name!r}"
        if grad is not None:
            assert_agrees(source, case, grad, file.cases[case].grad[name], tolerance=tolerance)


# --- the authors' own code: their labels hold the prompt, and their KL is a cross-entropy with 1e-12 in its logarithm --


def answers(shared: Path) -> dict[str, Table]:
    """The recorded batches with the prompt's labels taken away."""
    batches = json.loads((shared / "conformance" / "llmu_a.json").read_text())["batches"]
    found = {}
    for name, table in recorded(shared, "llmu").model.items():
        prompt = torch.tensor(batches[name]["prompt_lengths"])[:, None]
        labels = table.labels.where(torch.arange(table.labels.shape[1]) >= prompt, -100)
        found[name] = evolve(table, labels=labels, mask=torch.ones_like(table.mask))
    return found


def entropy(table: Table) -> Tensor:
    """Mean entropy of a reference over all positions, padding included."""
    log_probs = torch.log_softmax(table.logits, -1)
    return -(log_probs.exp() * log_probs).sum(-1).mean()


def tolerance_of_the_epsilon(model: Table, reference: Table) -> float:
    """What 1e-12 inside the logarithm can change of a cross-entropy and of its gradient, at most, beside 1e-9."""
    ratio = torch.softmax(reference.logits, -1) / torch.softmax(model.logits.detach(), -1)
    return 1e-9 + 2e-12 * float(ratio.max())


def normal_cross_entropy(shared: Path) -> tuple[Tensor, float]:
    file = recorded(shared, "llmu")
    model, reference = file.model["normal"], file.reference["normal"]
    everywhere = [evolve(table, mask=torch.ones_like(table.mask)) for table in (model, reference)]
    kl = loss_of(RetainKL(), {"retain": everywhere[0]}, {"retain": everywhere[1]})
    return kl + entropy(reference), tolerance_of_the_epsilon(model, reference)


def test_official_numbers_of_both_answer_terms(shared: Path) -> None:
    file, tables = recorded(shared, "llmu"), answers(shared)
    ascent = loss_of(GradientAscent(reduction="sequence_mean"), tables)
    descent = loss_of(CrossEntropy("random", reduction="sequence_mean"), tables)
    assert_same("answer_ga__paper", ascent, file, "llmu")
    assert_same("answer_gd__paper", descent, file, "llmu")


def test_official_kl_is_ours_plus_the_entropy_of_the_reference(shared: Path) -> None:
    loss, tolerance = normal_cross_entropy(shared)
    assert_same("normal_ce_to_ref", loss, recorded(shared, "llmu"), "llmu", tolerance)


def released_nll(table: Table, role: str) -> Tensor:
    """The mean over answers of their NLL divided by one token too many."""
    need = Tokens(LabelLogProb(), role)
    flat = seen_from_tables(frozenset({need}), {"model": {role: table}})[need]
    return (sequence_nll(flat.values, flat.row, rows=flat.rows) / (flat.counts() + 1)).mean()


def test_official_numbers_divide_by_a_token_too_many(shared: Path) -> None:
    file, tables = recorded(shared, "llmu"), answers(shared)
    ascent, descent = -released_nll(tables["forget"], "forget"), released_nll(tables["random"], "random")
    assert_same("answer_ga__as_released", ascent, file, "llmu")
    assert_same("answer_gd__as_released", descent, file, "llmu")
    kept, tolerance = normal_cross_entropy(shared)
    case = "llmu_total__as_released"
    weights = json.loads((shared / "conformance" / "llmu_a.json").read_text())["objectives"][case]["hyper"]["eps"]
    total = weights[0] * ascent + weights[1] * descent + weights[2] * kept
    assert_same(case, total, file, "llmu", tolerance)


def test_official_parts_make_up_the_objective(shared: Path) -> None:
    """The corrected terms, weighted and with the entropy taken off, are what the class computes."""
    file, tables = recorded(shared, "llmu"), answers(shared)
    model = {"forget": tables["forget"], "random_answers": tables["random"], "retain": tables["normal"]}
    normal = file.reference["normal"]
    reference = {"retain": evolve(normal, mask=torch.ones_like(normal.mask))}
    found = loss_of(LLMU.released("llmu"), model, reference)
    parts = [file.cases[case].loss for case in ("answer_ga__paper", "answer_gd__paper", "normal_ce_to_ref")]
    expected = 0.5 * parts[0] + parts[1] + parts[2] - float(entropy(normal))
    assert_agrees("llmu", "answer_ga__paper", found, expected, tolerance=normal_cross_entropy(shared)[1])


def test_the_authors_cross_entropy_has_the_gradient_of_the_kl() -> None:
    model, reference = random_table(1, [(2, 3)]), random_table(2, [(2, 3)])
    log_probs = torch.log_softmax(model.logits, -1)
    cross = -(torch.softmax(reference.logits, -1).detach() * log_probs).sum(-1)
    kl = forward_kl(model.logits, reference.logits)
    (one,), (other,) = (torch.autograd.grad(each.sum(), model.logits, retain_graph=True) for each in (cross, kl))
    torch.testing.assert_close(one, other)
