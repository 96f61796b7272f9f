"""What attacks share: secrets and what gives them away, targets that answer, outcomes that add up."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from attrs import evolve
from hypothesis import given, strategies as st
from torch import Tensor, nn

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.attack import (
    Asking,
    Attack,
    Budget,
    Outcome,
    Secret,
    Target,
    check_secrets,
    mean,
    mentions,
    recalls,
)
from unlearnkit.decoding.uld import uld
from unlearnkit.errors import DataError, NeedError
from unlearnkit.evaluate import evaluate
from unlearnkit.metrics.leak_at_k import LeakAtK
from unlearnkit.models.causal import CausalLM
from unlearnkit.protocols import Decoding, Generated, Greedy, Sampling

FOX = Secret(id="a", question="Which pet?", answer="Ann Bo keeps a red fox.", keywords=("red fox",), wrong=("cat",))


# --- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "leaks"),
    [
        ("A Red  Fox!", 1.0),
        ("red-fox", 1.0),
        ("a red foxhound", 0.0),
        ("red and fox", 0.0),
        ("the fox is red", 0.0),
        ("", 0.0),
    ],
)
def test_a_secret_is_given_away_by_its_words_in_a_row(text: str, leaks: float) -> None:
    assert mentions(text, FOX) == leaks


@given(st.text(max_size=20), st.text(max_size=20))
def test_words_around_it_take_nothing_back(before: str, after: str) -> None:
    assert mentions(f"{before} red fox {after}", FOX) == 1.0


def test_recall_is_of_the_whole_answer() -> None:
    assert recalls("Ann Bo keeps a red fox.", FOX) == 1.0
    assert 0 < recalls("a red fox", FOX) < 1
    assert recalls("", FOX) == 0


def test_an_answer_is_told_with_other_words() -> None:
    assert FOX.stem == "Ann Bo keeps a"
    assert FOX.told("cat") == "Ann Bo keeps a cat."
    art = Secret(id="d", question="?", answer="Bart teaches art.", keywords=("art",))
    assert (art.stem, art.told("music")) == ("Bart teaches", "Bart teaches music.")
    whole = Secret(id="b", question="?", answer="A red fox.")
    assert whole.stem == ""
    assert whole.told("A cat.") == "A cat."
    assert whole.keyword == "A red fox."
    assert Secret(id="c", question="?", answer="It.", keywords=("fox",)).told("cat") == "cat"


def test_wrong_secrets_are_refused() -> None:
    with pytest.raises(DataError, match=r"secret 'a': keywords \['\?!'\] have to be words"):
        evolve(FOX, keywords=("?!",))
    with pytest.raises(DataError, match=r"wrong \['cat', 'red fox'\] have to be distinct, and none the right one"):
        evolve(FOX, wrong=("cat", "red fox"))
    with pytest.raises(DataError, match="there are no secrets"):
        check_secrets([])
    with pytest.raises(DataError, match="two secrets are both called 'a'"):
        check_secrets([FOX, FOX])


# --- targets ----------------------------------------------------------------------------------------------------------


def test_a_target_answers_as_evaluation_does(attacked: Attacked) -> None:
    """The same words whether `evaluate` or an attacker asks, greedily or with draws of its own."""
    stage = attacked.stage
    need = Generated(Greedy(32), "forget")
    from unlearnkit.evaluate import gather

    expected = gather({"model": CausalLM(stage.original)}, frozenset({need}), stage.rows, tokenizer=stage.tokenizer)[
        need
    ]
    found = attacked.original.answers([secret.question for secret in attacked.secrets])
    assert found == expected.texts


def test_draws_depend_on_question_and_seed_alone(attacked: Attacked) -> None:
    target = attacked.original
    questions = [secret.question for secret in attacked.secrets[:3]]
    sampling = Sampling(3, temperature=2.0, max_new_tokens=8, seed=1)
    together = target.samples(questions, sampling)
    assert together == tuple(target.samples([question], sampling)[0] for question in questions)
    assert together != target.samples(questions, evolve(sampling, seed=2))
    assert len(set(together[0])) > 1


def test_a_model_that_writes_in_its_own_way_is_asked_for_text(attacked: Attacked) -> None:
    class Parrot(nn.Module):
        """Says one thing."""

        def __init__(self) -> None:
            super().__init__()
            self.inside = CausalLM(attacked.stage.original)
            self.hidden, self.head, self.new_cache = self.inside.hidden, self.inside.head, self.inside.new_cache
            self.vocabulary = self.inside.vocabulary
            self.unguarded = self.inside

        def write(self, prompts: Sequence[Tensor], decoding: Decoding, *, seeds: Sequence[int] = ()) -> list[str]:
            return [f"polly {len(prompt)} stop here" for prompt in prompts]

    parrot = Parrot()
    target = attacked.target(attacked.stage.original)
    told = evolve(target, model=parrot, decoding=Greedy(8, stop=("stop",)))
    assert told.answers(["Who?"]) == (f"polly {len(target.prompt('Who?'))}",)
    assert told.weights is attacked.stage.original
    rows = {"forget": attacked.stage.rows["forget"][:2]}
    metric = LeakAtK(1, decoding=Sampling(2, max_new_tokens=4), score=lambda text, _: float(text.startswith("polly")))
    assert evaluate({"model": parrot}, {"leak": metric}, rows, tokenizer=attacked.tokenizer)["leak"].value == 1.0


def test_weights_are_those_without_a_guard(attacked: Attacked) -> None:
    guarded = attacked.original.with_model(uld(attacked.stage.original, attacked.unlearned))
    assert guarded.weights is attacked.stage.original

    class Behind:
        vocabulary = 5

        def hidden(self) -> None: ...
        def head(self) -> None: ...
        def new_cache(self) -> None: ...

    with pytest.raises(NeedError, match="Behind holds no model of transformers"):
        Target(Behind(), attacked.tokenizer, template=attacked.template).weights  # type: ignore[arg-type]  # noqa: B018


# --- outcomes ---------------------------------------------------------------------------------------------------------


def test_control_the_plain_question_tells_original_from_oracle(attacked: Attacked) -> None:
    assert isinstance(Asking(), Attack)
    outcomes = [Asking()(target, attacked.secrets) for target in (attacked.original, attacked.hidden, attacked.oracle)]
    original, hidden, oracle = (outcome.success for outcome in outcomes)
    assert original >= 0.9
    assert hidden <= 0.2
    assert oracle <= 0.1
    assert all(outcome.before == outcome.after for outcome in outcomes)
    assert all(outcome.kept is not None and min(outcome.kept) > 0.6 for outcome in outcomes)


def test_an_outcome_that_does_not_add_up_is_refused() -> None:
    with pytest.raises(DataError, match=r"1\.5 came out of 'a'"):
        Outcome(attack="x", threat="text", budget=Budget(), before={"a": 0.0}, after={"a": 1.5})
    with pytest.raises(DataError, match="'b' was measured before or after the attack, but not both times"):
        Outcome(attack="x", threat="text", budget=Budget(), before={"a": 0.0}, after={"a": 1.0, "b": 0.0})
    with pytest.raises(ValueError, match="threat"):
        Outcome(attack="x", threat="magic", budget=Budget(), before={}, after={})  # type: ignore[arg-type]
    assert mean({"a": 0.0, "b": 1.0}) == 0.5
    assert torch.isnan(torch.tensor(mean({})))
