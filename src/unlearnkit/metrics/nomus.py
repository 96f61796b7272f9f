r"""NoMUS: test accuracy, and how little an attack on the losses can tell forget examples from unseen ones.

    NoMUS = w * accuracy + (1 - w) * (1 - 2 |a - 1/2|),    w = 1/2
    a: accuracy of a logistic regression that guesses from an example's loss whether it is a forget example

In [0, 1], higher is better: 1 at full accuracy and an attack at chance (1/2). An attack that is always wrong (0) counts
like one that is always right: both can tell. The attack sees as many forget as unseen examples, is fitted on nine
tenths and scored on the rest, and a is its mean over 10 such splits.

Needs examples the model never saw, distributed like the forget set: against others the attack measures the difference
of the two sets (the retrained oracle shows how much). A threshold on a one-dimensional loss is a weak attack: chance
here is no proof of forgetting. Accuracy makes up for leakage one to two: read the parts.

Paper: Choi, Na. Towards Machine Unlearning Benchmarks: Forgetting the Personal Identities in Facial Recognition
Systems. AAAI-24 workshop, 2024, arXiv:2311.02240.

Checked: the 45 published scores of ndb796/MachineUnlearning@9813cd7 for MUFAC and MUCAC, to all printed digits; the
regression against scikit-learn's.

Deviations: the column "MIA" of the published tables is |a - 1/2|, not a. The authors' splits come from scikit-learn's
random numbers; ours are stratified alike but drawn from numpy's generator, with a tenth of each side, rounded up, held
out. Losses of language models are means per token of an answer, which is our reading.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from attrs import field, frozen
from attrs.validators import ge, le
from numpy.typing import NDArray

from unlearnkit.errors import DataError
from unlearnkit.metrics.probability import Probability
from unlearnkit.protocols import Flat, Metric, Needs, Score, Seen, Tokens
from unlearnkit.statistics import LabelLogProb

Floats = NDArray[np.float64]


def nomus(accuracy: float, attack_accuracy: float, *, weight: float = 0.5) -> float:
    """NoMUS in [0, 1] from the test accuracy and the attack's accuracy a (not the |a - 1/2| of published tables).

    Args:
        accuracy: of the model on test data, in [0, 1].
        attack_accuracy: share of examples the attack places correctly, in [0, 1]; 1/2 is chance.
        weight: of accuracy, in [0, 1].

    Raises:
        DataError: a number outside [0, 1]; names it.
    """
    for name, value in (("accuracy", accuracy), ("attack_accuracy", attack_accuracy), ("weight", weight)):
        if not 0 <= value <= 1:
            raise DataError(f"`{name}` is {value}; it is a share in [0, 1] (divide percentages by 100).")
    return weight * accuracy + (1 - weight) * (1 - 2 * abs(attack_accuracy - 0.5))


class Logistic(NamedTuple):
    """P(member | x) = sigmoid(slope * x + intercept)."""

    slope: float
    intercept: float


def logistic_regression(values: Sequence[float], members: Sequence[bool], *, penalty: float = 1.0) -> Logistic:
    """The slope and intercept that minimise the summed log-loss plus penalty/2 * slope^2, by Newton steps.

    Args:
        values: one number per example.
        members: which examples are members; some have to be, and some not.
        penalty: > 0, so that separable values have a finite slope.
    """
    x, y = np.asarray(values, dtype=np.float64), np.asarray(members, dtype=np.float64)
    centre = float(x.mean())  # the intercept is not penalised: centring changes the arithmetic, not the result
    features = np.stack([x - centre, np.ones_like(x)])
    ridge = np.array([penalty, 0.0])

    def loss(weights: Floats) -> float:
        z = weights @ features
        return float((np.logaddexp(0.0, z) - y * z).sum() + (ridge * weights**2).sum() / 2)

    weights: Floats = np.zeros(2)
    for _ in range(100):
        z = weights @ features
        share = np.exp(-np.logaddexp(0.0, -z))
        gradient = features @ (share - y) + ridge * weights
        hessian = (features * (share * (1 - share))) @ features.T + np.diag(ridge)
        step = np.linalg.solve(hessian + 1e-12 * np.eye(2), gradient)
        size, before = 1.0, loss(weights)
        while size > 1e-10 and loss(weights - size * step) > before:
            size /= 2
        weights = weights - size * step
        if float(np.abs(size * step).max()) < 1e-12 * (1 + float(np.abs(weights).max())):
            break
    slope, intercept = weights.tolist()
    return Logistic(slope, intercept - slope * centre)


def loss_attack_accuracy(
    forget_losses: Sequence[float], unseen_losses: Sequence[float], *, splits: int = 10, seed: int = 0
) -> float:
    """Mean share of held-out examples that a logistic regression on their losses places correctly, in [0, 1].

    The larger side is cut, at random, to the size of the smaller.

    Args:
        forget_losses: loss of each forget example, in nats.
        unseen_losses: loss of each example that was never trained on.
        splits: how many random splits are averaged.
        seed: of the draws.

    Raises:
        DataError: fewer than two losses on a side, or one that is not finite; names the side.
    """
    sides: list[Floats] = []
    for name, losses in (("forget_losses", forget_losses), ("unseen_losses", unseen_losses)):
        values = np.asarray(losses, dtype=np.float64)
        if len(values) < 2 or not np.isfinite(values).all():
            odd = [value for value in values.tolist() if not math.isfinite(value)]
            raise DataError(
                f"`{name}` holds {len(values)} losses, {len(odd)} of them not finite{f' ({odd[0]})' if odd else ''}; "
                "the attack needs two or more on each side, all finite. Leave examples without a loss out."
            )
        sides.append(values)
    generator = np.random.default_rng(seed)
    size = min(map(len, sides))
    cut = [generator.permutation(side)[:size] for side in sides]
    hits = [_hit_share(cut, held) for held in _held_out(size, splits, generator)]
    return math.fsum(hits) / splits


def _held_out(size: int, splits: int, generator: np.random.Generator) -> Iterator[tuple[NDArray[np.bool_], ...]]:
    """For each split, which examples of either side are held out: a tenth, rounded up."""
    for _ in range(splits):
        yield tuple(generator.permutation(size) < math.ceil(size / 10) for _ in range(2))


def _hit_share(sides: Sequence[Floats], held: Sequence[NDArray[np.bool_]]) -> float:
    forget, unseen = (side[~out] for side, out in zip(sides, held, strict=True))
    fitted = logistic_regression([*forget, *unseen], [True] * len(forget) + [False] * len(unseen))
    tested = [side[out] for side, out in zip(sides, held, strict=True)]
    says_forget = [fitted.slope * side + fitted.intercept > 0 for side in tested]
    hits = int(says_forget[0].sum()) + int((~says_forget[1]).sum())
    return hits / sum(map(len, tested))


@frozen
class NoMUS:
    """`nomus` of a metric in [0, 1] and the loss attack. Higher: accurate, and the forget set looks unseen.

    Parts: `accuracy`, `attack_accuracy`, and `leakage` = |attack_accuracy - 1/2|. An example without a finite loss
    cannot be attacked and is in `left_out`.

    Attributes:
        accuracy: what takes the place of test accuracy; of a language model, the probability of held-out answers, say.
        role: the forget set.
        unseen: data like it that was never trained on, not the oracle's training data either.
        weight: of accuracy.
        splits, seed: as in `loss_attack_accuracy`.
        of: the model that is attacked.
    """

    accuracy: Metric = field(default=Probability("test"))
    role: str = field(default="forget", kw_only=True)
    unseen: str = field(default="holdout", kw_only=True)
    weight: float = field(default=0.5, validator=[ge(0.0), le(1.0)], kw_only=True)
    splits: int = field(default=10, validator=ge(1), kw_only=True)
    seed: int = field(default=0, kw_only=True)
    of: str = field(default="model", kw_only=True)

    def tokens(self, role: str) -> Tokens:
        return Tokens(LabelLogProb(), role, of=self.of)

    @property
    def needs(self) -> Needs:
        return self.accuracy.needs | {self.tokens(self.role), self.tokens(self.unseen)}

    def check(self, contents: Mapping[str, Mapping[str, str]]) -> None:
        """Refuse an `unseen` set that shares rows with the forget set.

        Raises:
            DataError: names the rows.
        """
        forget = {digest: row for row, digest in contents.get(self.role, {}).items()}
        for row, digest in contents.get(self.unseen, {}).items():
            if digest in forget:
                raise DataError(
                    f"row {row!r} of {self.unseen!r} holds the same tokens as row {forget[digest]!r} of {self.role!r}: "
                    "the attack would compare the forget set with itself. Pass data that was never trained on."
                )

    def __call__(self, seen: Seen) -> Score:
        accuracy = self.accuracy(seen)
        if accuracy.value is None:
            return Score.not_measured(f"accuracy was not measured: {accuracy.reason}", "forgetting")
        losses = {role: _losses(seen, self.tokens(role)) for role in (self.role, self.unseen)}
        finite = {role: [loss for loss in each.values() if math.isfinite(loss)] for role, each in losses.items()}
        left_out = tuple(name for each in losses.values() for name, loss in each.items() if not math.isfinite(loss))
        if short := [role for role, each in finite.items() if len(each) < 2]:
            reason = f"{short[0]!r} has {len(finite[short[0]])} examples with a finite loss; the attack needs two"
            return Score(None, "forgetting", reason=reason, left_out=left_out)
        attack = loss_attack_accuracy(finite[self.role], finite[self.unseen], splits=self.splits, seed=self.seed)
        value = nomus(accuracy.value, attack, weight=self.weight)
        parts = {"accuracy": accuracy.value, "attack_accuracy": attack, "leakage": abs(attack - 0.5)}
        n = accuracy.n + 2 * min(map(len, finite.values()))
        return Score(value, "forgetting", n=n, parts=parts, left_out=left_out)


def _losses(seen: Seen, need: Tokens) -> dict[str, float]:
    """Mean negative log-probability of each answer, in nats per token; nan without supervised tokens."""
    flat = seen[need]
    nats = Flat(flat.values.double(), flat.row, flat.rows).sums()
    return dict(zip(seen.ids[need.role], (-nats / flat.counts()).tolist(), strict=True))
