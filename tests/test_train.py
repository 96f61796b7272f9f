"""The engine: the same gradient however a step is cut, and runs that stop or warn when they should."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import pytest
import torch
from attrs import evolve, frozen
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.toy import VOCABULARY, Toy, toy_rows
from unlearnkit.batch import Row
from unlearnkit.errors import (
    AnatomyError,
    DataError,
    GradientError,
    MissingModelError,
    NonFiniteError,
    UnlearningWarning,
    VocabularyError,
)
from unlearnkit.models.tiny import tiny_model
from unlearnkit.objectives.cross_entropy import CrossEntropy
from unlearnkit.objectives.gradient_ascent import GradientAscent
from unlearnkit.objectives.npo import NPO
from unlearnkit.objectives.retain_kl import RetainKL
from unlearnkit.observe import HeadBudget
from unlearnkit.protocols import Additive, Loss, Needs, Objective, Seen, Term, Tokens, Unit
from unlearnkit.statistics import LabelLogProb
from unlearnkit.train import Engine, Step, unlearn


@frozen
class RatioOfMeans(Additive):
    """A loss that is no sum: forget probability over retain probability, on the whole step."""

    needs: Needs = frozenset({Tokens(LabelLogProb(), "forget"), Tokens(LabelLogProb(), "retain")})

    def __call__(self, seen: Seen) -> Loss:
        forget, retain = (seen[Tokens(LabelLogProb(), role)].sums().exp().mean() for role in ("forget", "retain"))
        return Loss(Term("ratio", forget.log() - (retain + forget).log()))


@frozen
class Counting(Additive):
    """A stateful objective: its weight is how many steps it has seen."""

    inner: Objective
    seen: int = 1

    @property
    def needs(self) -> Needs:
        return self.inner.needs

    def __call__(self, seen: Seen) -> Loss:
        return Loss(*(evolve(term, weight=float(self.seen)) for term in self.inner(seen)))

    def after_step(self, means: Mapping[str, float]) -> Counting:
        assert set(means) == {"nll_forget"}
        return evolve(self, seen=self.seen + 1)


OBJECTIVES: dict[str, Objective] = {
    "sums": NPO(beta=0.5) + 0.7 * CrossEntropy("retain") + 2.0 * RetainKL(),
    "whole step": RatioOfMeans(),
    "both": NPO(beta=0.5) + 0.3 * RatioOfMeans() + RetainKL(),
}
lengths = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6)), min_size=1, max_size=6)


def gradient(objective: Objective, rows: list[Row], max_tokens: int, budget: HeadBudget) -> tuple[Tensor, float]:
    model = Toy(0)
    engine = Engine(models={"model": model, "reference": Toy(1)}, max_tokens=max_tokens, budget=budget)
    _, total = engine.backward(objective, rows)
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]), float(total)


@pytest.mark.parametrize("name", OBJECTIVES)
@given(forget=lengths, retain=lengths, max_tokens=st.integers(1, 60), recompute=st.booleans())
def test_the_gradient_does_not_depend_on_the_cut(
    name: str, forget: list[tuple[int, int]], retain: list[tuple[int, int]], max_tokens: int, recompute: bool
) -> None:
    rows = [*toy_rows("forget", forget), *toy_rows("retain", retain, seed=1)]
    whole, total = gradient(OBJECTIVES[name], rows, 10_000, HeadBudget())
    budget = HeadBudget(chunk_bytes=8 * VOCABULARY * 3, kept_bytes=0) if recompute else HeadBudget()
    cut, cut_total = gradient(OBJECTIVES[name], rows, max_tokens, budget)
    assert cut_total == pytest.approx(total, rel=1e-12)
    assert float((cut - whole).norm()) <= 1e-12 * max(1.0, float(whole.norm()))


@pytest.mark.parametrize("family", ["gpt2", "llama", "mixtral"])
def test_nor_that_of_a_transformer_in_training_mode(family: str) -> None:
    """GPT-2 has dropout 0.1, which is off; norms and rotations are computed in float32 whatever the dtype."""
    data = {"forget": toy_rows("forget", [(2, 3), (4, 1), (1, 6), (3, 3)]), "retain": DATA["retain"]}
    trained = []
    for max_tokens in (10_000, 1):
        model = tiny_model(family, vocabulary=VOCABULARY, dtype=torch.float64)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        unlearn(
            model,
            CrossEntropy("forget") + CrossEntropy("retain"),
            data,
            optimizer=optimizer,
            steps=1,
            batch_size=4,
            max_tokens=max_tokens,
        )
        trained.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(*trained, rtol=1e-6, atol=1e-7)


def test_two_terms_meet_in_one_sum() -> None:
    rows = [*toy_rows("forget", [(2, 3)] * 2), *toy_rows("retain", [(2, 5)] * 3, seed=1)]
    forget, _ = gradient(NPO(beta=0.5), rows, 10_000, HeadBudget())
    retain, _ = gradient(CrossEntropy("retain"), rows, 10_000, HeadBudget())
    both, _ = gradient(NPO(beta=0.5) + 3.0 * CrossEntropy("retain"), rows, 10_000, HeadBudget())
    torch.testing.assert_close(both, forget + 3.0 * retain)


DATA = {
    "forget": toy_rows("forget", [(2, 3)] * 6),
    "retain": toy_rows("retain", [(2, 3)] * 9, seed=1),
}


def adam(model: nn.Module, lr: float = 0.02) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=lr)


def test_ascent_forgets_and_the_retain_term_keeps() -> None:
    model = Toy(0)
    unlearn(model, CrossEntropy("forget") + CrossEntropy("retain"), DATA, optimizer=adam(model), steps=150)
    run = unlearn(
        model,
        NPO(beta=0.5) + CrossEntropy("retain"),
        DATA,
        optimizer=adam(model),
        steps=60,
        models={"reference": Toy(3)},
    )
    forget, retain = run.probes["forget"], run.probes["retain"]
    assert forget[60] > forget[0] + 1.0
    assert retain[60] < retain[0] + 0.5


def test_the_same_seed_gives_the_same_run() -> None:
    runs = []
    for _ in range(2):
        model = Toy(0)
        unlearn(model, CrossEntropy("forget"), DATA, optimizer=adam(model), steps=7, batch_size=4, seed=5)
        runs.append(model.readout.detach())
    assert torch.equal(*runs)


def test_what_the_optimizer_does_not_hold_stays_and_is_thawed_again() -> None:
    model = Toy(0)
    before = model.embedding.detach().clone()
    optimizer = torch.optim.SGD([model.readout], lr=0.1)
    unlearn(model, CrossEntropy("forget"), DATA, optimizer=optimizer, steps=2)
    assert torch.equal(model.embedding, before)
    assert model.embedding.requires_grad


def test_references_have_no_dropout_and_get_their_mode_back() -> None:
    model = tiny_model("gpt2", vocabulary=VOCABULARY)
    reference = copy.deepcopy(model).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-12)
    with pytest.warns(UnlearningWarning, match="did not move"):
        run = unlearn(
            model,
            RetainKL() + NPO(),
            DATA,
            optimizer=optimizer,
            steps=1,
            models={"reference": reference},
        )
    assert run.steps[0].terms["kl_retain"] == pytest.approx(0.0, abs=1e-6)
    assert reference.training


def test_stateful_objectives_are_replaced_after_each_step() -> None:
    model = Toy(0)
    steps: list[Step] = []
    unlearn(model, Counting(CrossEntropy("forget")), DATA, optimizer=adam(model), steps=3, on_step=steps.append)
    for step in steps:
        assert step.loss == pytest.approx((step.number + 1) * step.terms["nll_forget"])


class TestRefusals:
    """Before any work is done."""

    def test_unknown_role(self) -> None:
        model = Toy()
        with pytest.raises(
            DataError, match=r"reads the role 'forgte', but the data has no such set; it has \['forget'"
        ):
            unlearn(model, CrossEntropy("forgte"), DATA, optimizer=adam(model), steps=1)

    def test_reference_that_would_be_trained_along(self) -> None:
        model = Toy()
        with pytest.raises(
            MissingModelError, match=r"models\['reference'\] shares parameters with the model that is train"
        ):
            unlearn(model, NPO(), DATA, optimizer=adam(model), steps=1, models={"reference": model})

    def test_empty_set_that_is_only_watched(self) -> None:
        model = Toy()
        with pytest.raises(DataError, match="the retain set is empty"):
            unlearn(model, CrossEntropy("forget"), DATA | {"retain": ()}, optimizer=adam(model), steps=1)

    def test_what_is_no_model(self) -> None:
        with pytest.raises(AnatomyError, match="str is neither a transformers model nor a Model"):
            unlearn("model", CrossEntropy("forget"), DATA, optimizer=adam(Toy()), steps=1)  # type: ignore[arg-type]

    def test_empty_set(self) -> None:
        model = Toy()
        with pytest.raises(DataError, match="the forget set is empty"):
            unlearn(model, CrossEntropy("forget"), {"forget": ()}, optimizer=adam(model), steps=1)

    def test_missing_reference(self) -> None:
        model = Toy()
        with pytest.raises(
            MissingModelError, match=r"no model or recording has that name.*models=\{'reference': \.\.\.\}"
        ):
            unlearn(model, NPO(), DATA, optimizer=adam(model), steps=1)

    def test_label_outside_the_vocabulary(self) -> None:
        model = Toy(vocabulary=5)
        with pytest.raises(VocabularyError, match="outside the model's vocabulary of 5"):
            unlearn(model, CrossEntropy("forget"), DATA, optimizer=adam(model), steps=1)

    def test_optimizer_of_another_model(self) -> None:
        with pytest.raises(GradientError, match="no parameter of the model"):
            unlearn(Toy(), CrossEntropy("forget"), DATA, optimizer=adam(Toy()), steps=1)

    def test_trainable_tensor_without_gradient(self) -> None:
        class Spare(Toy):
            def __init__(self) -> None:
                super().__init__()
                self.spare = nn.Parameter(torch.zeros(3))

        model = Spare()
        before = model.readout.detach().clone()
        with pytest.raises(GradientError, match="1 of 5 trainable tensors got no gradient, spare among them"):
            unlearn(model, CrossEntropy("forget"), DATA, optimizer=adam(model), steps=1)
        assert torch.equal(model.readout, before)

    def test_non_finite_loss_stops_before_the_update(self) -> None:
        model = Toy()
        with torch.no_grad():
            model.bias[0] = math.nan
        before = model.readout.detach().clone()
        with pytest.raises(
            NonFiniteError, match=r"step 0: the term 'nll_forget' is nan on the examples forget:forget\d"
        ):
            unlearn(model, CrossEntropy("forget"), DATA, optimizer=adam(model), steps=1)
        assert torch.equal(model.readout, before)


class TestWarnings:
    """Runs that finish but did not do what was wanted."""

    def test_nothing_happened(self) -> None:
        model = Toy()
        with pytest.warns(UnlearningWarning, match="the forget loss did not move"):
            unlearn(model, CrossEntropy("forget"), DATA, optimizer=adam(model, lr=1e-9), steps=2)

    def test_collapse(self) -> None:
        model = Toy()
        with pytest.warns(UnlearningWarning, match="utility on the retain rows is collapsing"):
            unlearn(model, GradientAscent(), DATA, optimizer=adam(model, lr=0.5), steps=20)

    def test_updates_lost_to_rounding(self) -> None:
        model = Toy().to(torch.bfloat16)
        with (
            pytest.warns(UnlearningWarning, match="did not change in the first step"),
            pytest.warns(UnlearningWarning, match="the forget loss did not move"),
        ):
            unlearn(
                model,
                CrossEntropy("forget"),
                DATA,
                optimizer=torch.optim.SGD(model.parameters(), lr=1e-6),
                steps=1,
                master_weights=False,
            )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_train_like_float32_ones(dtype: torch.dtype) -> None:
    """Their losses are those of float32 to rounding, at each step: every step computes with the newest weights."""
    losses = []
    for start in (dtype, torch.float32):
        model = tiny_model("llama", vocabulary=VOCABULARY, dtype=dtype)
        nn.Module.to(model, start)
        run = unlearn(
            model,
            CrossEntropy("forget"),
            {"forget": DATA["forget"]},
            optimizer=torch.optim.SGD(model.parameters(), lr=0.2),
            steps=8,
        )
        assert all(parameter.dtype == start for parameter in model.parameters())
        losses.append([step.loss for step in run.steps])
    assert losses[0] == pytest.approx(losses[1], abs=0.15)
    assert losses[1][-1] < losses[1][0] - 1.0


def test_a_unit_that_nobody_has_counts_nothing() -> None:
    @frozen
    class Empty:
        needs: Needs = frozenset({Tokens(LabelLogProb(), "forget")})

        def __call__(self, seen: Seen) -> Loss:
            flat = seen[Tokens(LabelLogProb(), "forget")]
            return Loss(
                Term("a", -flat.values.sum(), per=Unit("answer", "forget")),
                Term("b", flat.values.sum() * 0, per=Unit("answer", "idk")),
            )

    model = Toy()
    means, _ = Engine(models={"model": model}).backward(Empty(), list(DATA["forget"]))
    assert means["b"] == 0.0
