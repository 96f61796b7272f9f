"""DUA: one suffix for many questions, tried on none it was made on, the same code whichever model it is searched on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from attrs import evolve

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.attack import Secret
from unlearnkit.attacks.dua import DUA, StaticAttack, check_disjoint, universal_suffix
from unlearnkit.errors import DataError, NeedError
from unlearnkit.models.causal import CausalLM

SMALL = DUA(length=4, steps=2, candidates=24, top=32)


def of_subjects(facts: Sequence[Secret], first: int, last: int) -> tuple[Secret, ...]:
    subjects = list(dict.fromkeys(one.subject for one in facts))[first:last]
    return tuple(one for one in facts if one.subject in subjects)


def secret(id: str, question: str, subject: str) -> Secret:
    return Secret(id=id, question=question, answer="a fox", subject=subject)


def test_no_suffix_is_the_plain_question(attacked: Attacked) -> None:
    outcome = DUA(length=0, steps=5)(attacked.original, attacked.facts[:4])
    assert outcome.after == outcome.before
    assert outcome.budget.gradient_steps == 0
    assert outcome.kept is not None
    assert outcome.kept[0] == outcome.kept[1]


def test_what_it_is_made_on_is_not_what_it_is_tried_on() -> None:
    ann, bo = secret("1", "Who is Ann?", "Ann"), secret("2", "Who is Bo?", "Bo")
    check_disjoint([ann], ["Who is Ann?"], [ann], "within_query")
    check_disjoint([ann], ["What do you know of Ann?"], [ann], "cross_query")
    check_disjoint([bo], ["Who is Bo?"], [ann], "cross_target")
    with pytest.raises(DataError, match=r"'who is ann\?' is what the suffix is made on.*'1': cross_query"):
        check_disjoint([ann], ["who is ann?"], [ann], "cross_query")
    with pytest.raises(DataError, match="made on 'Ann' and tried on it"):
        check_disjoint([ann], ["What about Ann?"], [evolve(ann, question="Who else?")], "cross_target")


def test_needs(attacked: Attacked) -> None:
    fact = attacked.facts[0]
    with pytest.raises(NeedError, match="no secret has paraphrases"):
        DUA(tried_on="cross_query")(attacked.original, [evolve(fact, paraphrases=())])
    with pytest.raises(DataError, match="no questions to make a suffix for"):
        DUA(tried_on="cross_target")(attacked.original, [fact])
    lacking = attacked.hidden
    lacking.original = None
    with pytest.raises(NeedError, match="pass it as `original`"):
        DUA(searched_on="original")(lacking, [fact])
    with pytest.raises(NeedError, match="no questions to ask"):
        StaticAttack()(attacked.original, [evolve(fact, paraphrases=())])


def test_only_the_model_is_another_when_it_is_searched_on_the_original(attacked: Attacked) -> None:
    facts = [evolve(one, wrong=()) for one in attacked.facts[:2]]
    own = SMALL(attacked.original, facts)
    sent = evolve(SMALL, searched_on="original")(attacked.original, facts)
    assert sent.found == own.found
    assert (own.threat, sent.threat) == ("weights", "text")
    assert sent.budget.queries == len(facts)
    assert sent.budget.model_calls + len(facts) == own.budget.queries
    model = attacked.original.model
    assert isinstance(model, CausalLM)
    pairs = [(one.question, one.answer) for one in facts]
    suffix = universal_suffix(attacked.hidden, model, pairs, length=4, steps=2, candidates=24, top=32)
    assert len(suffix.found.ids) == 4
    hidden = evolve(SMALL, searched_on="original")(attacked.hidden, facts)
    assert list(hidden.found.values()) == list(attacked.hidden.answers([suffix.asked(one.question) for one in facts]))


def test_across_queries_it_is_made_on_paraphrases(attacked: Attacked) -> None:
    attack = evolve(SMALL, steps=1, tried_on="cross_query")
    fact = evolve(attacked.facts[0], wrong=())
    assert attack(attacked.original, [fact]).after.keys() == {fact.id}
    with pytest.raises(DataError, match="is what the suffix is made on"):
        attack(attacked.original, [evolve(fact, paraphrases=(fact.question,))])


def test_control_dua_fires_on_the_original_and_not_on_the_oracle(attacked: Attacked) -> None:
    """Six steps towards the answers of one person. Out of a refusing model hardly more comes than without a search."""
    facts = [evolve(one, wrong=()) for one in of_subjects(attacked.facts, 0, 1)]
    attack = evolve(SMALL, length=2, steps=6)
    original, oracle = attack(attacked.original, facts), attack(attacked.oracle, facts)
    assert original.success >= 0.5
    assert oracle.success <= 0.25
    assert not original.control
    assert original.budget.knows_answer
    hidden = SMALL(attacked.hidden, attacked.facts[:2])
    assert hidden.control.keys() == hidden.after.keys()


def test_control_across_subjects_nothing_is_known_of_what_is_looked_for(attacked: Attacked) -> None:
    attack = evolve(SMALL, steps=3, tried_on="cross_target", others=of_subjects(attacked.facts, 2, 3))
    facts = of_subjects(attacked.facts, 0, 2)
    original, oracle = attack(attacked.original, facts), attack(attacked.oracle, facts)
    assert original.success >= 0.25
    assert oracle.success <= 0.1
    assert not original.budget.knows_answer
    assert not original.control


def test_control_static_questions(attacked: Attacked) -> None:
    """Paraphrases as they are: what a refusing model hides comes out in part, and never of the oracle."""
    original, hidden, oracle = (
        StaticAttack()(target, attacked.facts[:12]) for target in (attacked.original, attacked.hidden, attacked.oracle)
    )
    assert original.success >= 0.3
    assert hidden.success > 0.0
    assert oracle.success <= 0.1
    given = StaticAttack(questions={attacked.facts[0].id: (attacked.facts[0].question, "Who?")})
    half = given(attacked.original, [evolve(one, paraphrases=()) for one in attacked.facts[:2]])
    assert half.after == {attacked.facts[0].id: 0.5}
    assert half.left_out.keys() == {attacked.facts[1].id}
