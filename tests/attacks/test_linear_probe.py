"""Linear probes: what the classifiers are, that folds keep subjects together, and what they find in original and
oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sklearn.linear_model import LogisticRegression, Ridge

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.attack import mean
from unlearnkit.attacks.linear_probe import (
    ClassProbe,
    LinearProbe,
    ProbeKind,
    below,
    component_probe,
    folds,
    logistic_probe,
    moments,
    pairs_probe,
    ridge_probe,
)
from unlearnkit.errors import DataError
from unlearnkit.experiment import secrets_of

KINDS: tuple[ProbeKind, ...] = ("ridge", "logistic", "component", "ccs")


def data(n: int, d: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    states = torch.randn(n, d, generator=draws, dtype=torch.float64) * 3 + 1
    labels = torch.where(states[:, 0] + torch.randn(n, generator=draws, dtype=torch.float64) * 2 > 1, 1.0, -1.0)
    return states, labels


@pytest.mark.parametrize(("n", "d"), [(40, 6), (6, 40)])
def test_ridge_is_ridge(n: int, d: int) -> None:
    states, labels = data(n, d)
    mean, scale = moments(states)
    x = ((states - mean) / scale).numpy()
    expected = Ridge(alpha=2.0).fit(x, labels.numpy()).predict(x)
    np.testing.assert_allclose(ridge_probe(states, labels, penalty=2.0)(states).numpy(), expected, atol=1e-8)


def test_logistic_is_logistic() -> None:
    states, labels = data(60, 5)
    mean, scale = moments(states)
    x = ((states - mean) / scale).numpy()
    expected = LogisticRegression(C=1 / 2.0, tol=1e-10, max_iter=1000).fit(x, labels.numpy()).decision_function(x)
    np.testing.assert_allclose(logistic_probe(states, labels, penalty=2.0)(states).numpy(), expected, atol=1e-3)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000))
def test_without_penalty_ridge_knows_no_coordinates(seed: int) -> None:
    """True of more rows than features only."""
    states, labels = data(50, 6, seed)
    draws = torch.Generator().manual_seed(seed)
    turn = torch.randn(6, 6, generator=draws, dtype=torch.float64) + 4 * torch.eye(6, dtype=torch.float64)
    mapped = states @ turn + torch.randn(6, generator=draws, dtype=torch.float64)
    plain = ridge_probe(states, labels, penalty=1e-12)(states)
    torch.testing.assert_close(ridge_probe(mapped, labels, penalty=1e-12)(mapped), plain, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", ["ridge", "logistic"])
def test_swapped_labels_turn_every_score(kind: str) -> None:
    states, labels = data(40, 5)
    train = ridge_probe if kind == "ridge" else logistic_probe
    torch.testing.assert_close(train(states, -labels)(states), -train(states, labels)(states), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_direction_of_truth_is_found_and_not_with_random_labels(kind: ProbeKind) -> None:
    """Pairs of which the true one lies further along one direction; unsupervised probes need it to stand out."""
    draws = torch.Generator().manual_seed(1)
    truth = torch.nn.functional.normalize(torch.randn(8, generator=draws), dim=0)
    about = torch.randn(120, 8, generator=draws)
    true, false = (about + side * 2 * truth + 0.3 * torch.randn(120, 8, generator=draws) for side in (1, -1))
    found = pairs_probe(kind, true[:60], false[:60], [False] * 60)
    assert float(below(found(true[60:]), found(false[60:])).mean()) >= 0.95
    if kind in ("ridge", "logistic"):
        hits = []
        for seed in range(8):
            flips = (torch.rand(60, generator=torch.Generator().manual_seed(seed)) < 0.5).tolist()
            probe = pairs_probe(kind, true[:60], false[:60], flips)
            hits.append(float(below(probe(true[60:]), probe(false[60:])).mean()))
        assert 0.1 <= sum(hits) / 8 <= 0.9
    with_all_swapped = pairs_probe(kind, true[:60], false[:60], [True] * 60)
    assert float(below(with_all_swapped(true[60:]), with_all_swapped(false[60:])).mean()) <= 0.05


def test_ties_count_half_and_components_have_no_sign() -> None:
    assert below(torch.tensor(1.0), torch.tensor([0.0, 1.0, 2.0])).tolist() == [1.0, 0.5, 0.0]
    one, other = torch.tensor([[1.0, 0.0], [0.0, 0.1]]), torch.tensor([[-1.0, 0.0], [0.0, -0.1]])
    both = [component_probe(*pair).weight.abs() for pair in ((one, other), (other, one))]
    torch.testing.assert_close(both[0], both[1])


@given(people=st.integers(4, 12), number=st.integers(2, 4))
def test_folds_keep_a_subject_together_and_are_of_one_size(people: int, number: int) -> None:
    of = folds([str(n % people) for n in range(30 + people)], number)
    sizes = [list(of.values()).count(fold) for fold in range(number)]
    assert len(of) == people
    assert max(sizes) - min(sizes) <= 1
    with pytest.raises(DataError, match="subjects for"):
        folds(["a", "b"], 3)


def test_control_no_probe_for_truth_fires_on_the_oracle(attacked: Attacked) -> None:
    """Nor does one on the original: two blocks keep no direction of truth, though the model itself chooses rightly.

    A pretrained model of 30 blocks has one; what is tested here is the floor, and the probes above.
    """
    for known, number in (((), 3), (attacked.retained, 0)):
        probe = LinearProbe(known=known, folds=number, wrong=2)
        original, oracle = (probe(target, attacked.secrets) for target in (attacked.original, attacked.oracle))
        assert mean(original.before) >= 0.99
        assert mean(oracle.before) <= 0.6
        assert oracle.success <= 0.65
        assert 0.3 <= original.success <= 0.75
        assert original.chance == 0.5
        assert original.control.keys() == original.after.keys()
        assert original.budget.knows_answer is (number > 0)


def test_control_a_probe_for_the_answer_fires_on_the_original_and_not_on_the_oracle(attacked: Attacked) -> None:
    """0.25 in the model that refuses, where guessing gives 0.05."""
    world = attacked.stage.settings.world
    known = tuple(one for one in secrets_of(world.retain(10), world.full) if one.relation != "mentor")[:160]
    probe = ClassProbe(known=known)
    original, oracle, hidden = (
        probe(target, attacked.facts) for target in (attacked.original, attacked.oracle, attacked.hidden)
    )
    assert original.success >= 0.4
    assert hidden.success >= oracle.success + 0.1
    assert oracle.success <= oracle.chance + 0.1
    assert mean(original.control) <= 0.2


def test_what_a_probe_refuses(attacked: Attacked) -> None:
    with pytest.raises(DataError, match=r"known fact .* is about 'Lorin Wrenfold'"):
        LinearProbe(known=attacked.secrets[:3])(attacked.original, attacked.secrets)
    with pytest.raises(DataError, match="trained on `known` alone"):
        LinearProbe(folds=0)(attacked.original, attacked.secrets)
    with pytest.raises(ValueError, match="at least 2, or 0"):
        LinearProbe(folds=1)
    with pytest.raises(DataError, match="also the answer of a known fact"):
        ClassProbe(known=attacked.retained[:1])(attacked.original, attacked.secrets)
