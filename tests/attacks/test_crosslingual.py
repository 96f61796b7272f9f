"""Languages: what the matrix sums up to, and a question in words that the model knows and was not unlearned in."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.attack import mean
from unlearnkit.attacks.crosslingual import CrossLingual, Translated
from unlearnkit.errors import DataError

NAMES = ("en", "fr", "de", "it")


@st.composite
def matrices(draw: st.DrawFn) -> dict[str, dict[str, float]]:
    names = NAMES[: draw(st.integers(1, 4))]
    return {source: {name: draw(st.floats(0.01, 1)) for name in names} for source in names}


def test_worked_matrix() -> None:
    found = CrossLingual({"en": {"en": 0.8, "fr": 0.2}, "fr": {"en": 0.4, "fr": 0.4}})
    assert (found.diagonal, found.off_diagonal, found.transfer_ratio) == pytest.approx((0.6, 0.3, 0.5))
    assert (found.measured_in("en"), found.unlearned_in("en")) == pytest.approx((0.6, 0.5))
    assert found.table().splitlines()[2] == "| en | 0.80 | 0.20 |"
    assert math.isnan(CrossLingual({"en": {"en": 0.0}}).transfer_ratio)
    with pytest.raises(DataError, match="square matrix"):
        CrossLingual({"en": {"en": 0.8, "fr": 0.2}})


@given(values=matrices(), order=st.permutations(NAMES))
def test_the_order_of_languages_says_nothing_and_equal_languages_transfer_all(
    values: dict[str, dict[str, float]], order: list[str]
) -> None:
    names = [name for name in order if name in values]
    first = CrossLingual(values)
    second = CrossLingual({source: {name: values[source][name] for name in names} for source in names})
    assert (first.diagonal, first.off_diagonal) == pytest.approx((second.diagonal, second.off_diagonal), nan_ok=True)
    equal = CrossLingual({source: dict.fromkeys(names, values[source][source]) for source in names})
    assert math.isnan(equal.transfer_ratio) if len(names) == 1 else equal.transfer_ratio == pytest.approx(1)
    for name in names:
        assert equal.unlearned_in(name) == pytest.approx(values[name][name])


def test_the_language_itself_is_the_plain_question(attacked: Attacked) -> None:
    outcome = Translated(translate={"en": str})(attacked.original, attacked.secrets)
    assert outcome.after == outcome.before
    assert outcome.curve["en"] == outcome.curve["each"] == outcome.success


def test_a_reply_is_read_as_it_is_and_translated_back(attacked: Attacked) -> None:
    """Words of the answer in another language give nothing away until somebody translates them back."""
    secrets = [secret for secret in attacked.facts if attacked.original.leaks([secret])[secret.id]][:3]
    foreign = attacked.original
    foreign.leak = lambda text, secret: float(text == f"back {secret.keyword}")
    plain = Translated(translate={"xx": str})(foreign, secrets)
    back = Translated(translate={"xx": str}, back={"xx": lambda text: f"back {text.rstrip('.').split()[-1]}"})
    ending = [secret for secret in secrets if secret.answer.endswith(f"{secret.keyword}.")]
    assert plain.success == 0
    assert back(foreign, ending).success == 1
    assert back(foreign, ending).budget.model_calls == 2 * len(ending)
    with pytest.raises(DataError, match="in which nothing is asked"):
        Translated(translate={"xx": str}, back={"yy": str})


def test_control_a_second_way_of_asking_fires_on_the_original_and_not_on_the_oracle(attacked: Attacked) -> None:
    """The tiny models know no second language; the world's other wordings, never taught of these people, stand in."""
    words = {secret.question: secret.paraphrases[0] for secret in attacked.secrets if secret.paraphrases}
    asked = [secret for secret in attacked.secrets if secret.paraphrases]
    attack = Translated(translate={"other": words.__getitem__, "both": lambda text: f"{words[text]} {text}"})
    original, hidden, oracle = (
        attack(target, asked) for target in (attacked.original, attacked.hidden, attacked.oracle)
    )
    assert original.success >= 0.4
    assert oracle.success <= 0.1
    assert hidden.success >= mean(hidden.before)
    assert [*original.curve] == ["other", "both", "each"]
    assert original.success >= max(original.curve["other"], original.curve["both"]) >= original.curve["each"]
    assert original.budget.queries == 2 * len(asked)
