r"""Adaptive Unlearning Score: accuracy that was kept, divided by how far the forget set is from its target.

    AUS = (1 - (A_original_test - A_test)) / (1 + D)
    class removal:  D = A_forget                 target: none of the removed class is recognised (on test data of it)
    homogeneous:    D = |A_forget - A_test|      target: forget examples are like any unseen ones

Higher is better. 1: forgotten at no cost; above 1 where test accuracy rose; 1/2: the original model in class removal if
it knew the class. Accuracies in [0, 1]; in class removal, test accuracy is that of the classes that stay. For language
models, a share in [0, 1] takes their place: exact memorization, multiple choice, ROUGE.

One number hides which of the two went wrong: a model that forgets nothing and one that lost half its accuracy can tie.

Paper: Cotogni, Bonato, Sabetta, Pelosin, Nicolosi. DUCK: Distance-based Unlearning via Centroid Kinematics. 2023,
arXiv:2312.02052.

Checked: OcraM17/DUCK@0961e3a (value and error, to 1e-9).

Deviations: the authors' errors take numerator and denominator as independent, though in homogeneous removal both hold
A_test: so do we by default; `shared_test=True` lets the error of A_test enter once, through both.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

from attrs import field, frozen
from attrs.validators import in_

from unlearnkit.errors import DataError
from unlearnkit.metrics.memorization import ExactMemorization
from unlearnkit.protocols import Metric, Needs, Score, Seen, all_needs

Removal = Literal["class", "homogeneous"]
"""What was to be forgotten: a whole class, or examples like those that stay."""


class Measurement(NamedTuple):
    """A value with its standard deviation (over seeds, say)."""

    value: float
    std: float = 0.0


def adaptive_unlearning_score(
    test: Measurement,
    original_test: Measurement,
    forget: Measurement,
    *,
    removal: Removal,
    shared_test: bool = False,
) -> Measurement:
    """AUS and its standard deviation by first-order propagation.

    Args:
        test: accuracy of the unlearned model on test data, in [0, 1].
        original_test: the same before unlearning.
        forget: accuracy of the unlearned model on the forget set (class removal: on test data of that class).
        removal: which target the forget accuracy has.
        shared_test: homogeneous removal: whether the error of `test` counts once, or as two independent ones.

    Raises:
        DataError: an accuracy outside [0, 1], or a negative deviation; names it.
    """
    for name, measured in (("test", test), ("original_test", original_test), ("forget", forget)):
        if not 0 <= measured.value <= 1 or not measured.std >= 0:
            raise DataError(
                f"`{name}` is {measured.value} with a deviation of {measured.std}; accuracies are shares in [0, 1] "
                "(divide percentages by 100) and deviations are not negative."
            )
    kept = 1 - (original_test.value - test.value)
    gap = forget.value - (test.value if removal == "homogeneous" else 0.0)
    divisor = 1 + abs(gap)
    score = kept / divisor
    side = math.copysign(1.0, gap)
    by_test = [1 / divisor]
    if removal == "homogeneous":
        through_divisor = side * score / divisor
        by_test = [by_test[0] + through_divisor] if shared_test else [by_test[0], through_divisor]
    terms = [slope * test.std for slope in by_test]
    std = math.hypot(*terms, original_test.std / divisor, score / divisor * forget.std)
    return Measurement(score, std)


@frozen
class AdaptiveUnlearningScore:
    """`adaptive_unlearning_score` of three metrics in [0, 1], higher for more knowledge. Higher: better unlearned.

    Parts: the three. Not measured as soon as one of them is not: the reason names it.

    Attributes:
        test: what takes the place of test accuracy, of the model.
        original_test: the same of the model before unlearning.
        forget: what takes the place of forget accuracy.
        removal: which target `forget` has: 0, or the value of `test`.
    """

    test: Metric = field(default=ExactMemorization("test"))
    original_test: Metric = field(default=ExactMemorization("test", of="original"))
    forget: Metric = field(default=ExactMemorization("forget"))
    removal: Removal = field(default="homogeneous", validator=in_(get_args(Removal)), kw_only=True)

    @property
    def needs(self) -> Needs:
        return all_needs((self.test, self.original_test, self.forget))

    def __call__(self, seen: Seen) -> Score:
        parts: dict[str, float] = {}
        n = 0
        for name, metric in (("test", self.test), ("original_test", self.original_test), ("forget", self.forget)):
            score = metric(seen)
            if score.value is None:
                return Score.not_measured(f"{name} was not measured: {score.reason}", "forgetting")
            parts[name] = score.value
            n += score.n if name != "original_test" else 0  # the same examples as `test`
        value, _ = adaptive_unlearning_score(
            Measurement(parts["test"]),
            Measurement(parts["original_test"]),
            Measurement(parts["forget"]),
            removal=self.removal,
        )
        return Score(value, "forgetting", n=n, parts=parts)
