"""The standard set: what it takes is what it runs, and it runs as a whole."""

from __future__ import annotations

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.attack import Attack
from unlearnkit.attacks.audit import audit
from unlearnkit.attacks.standard import standard


def test_without_knowledge_attacks_that_want_some_are_left_out() -> None:
    alone = standard((), ())
    assert {"plain question", "4 bits", "linear probe"} <= alone.keys()
    assert not {name for name in alone if name.startswith(("relearning", "few"))}
    assert all(isinstance(attack, Attack) for attack in alone.values())


def test_control_the_whole_set_tells_the_hidden_model_from_the_oracle(attacked: Attacked) -> None:
    known, asked = attacked.facts[::2], attacked.facts[1::2]
    found = audit(
        attacked.unlearned,
        standard(known, attacked.retained, steps=10, learning_rate=5e-4, samples=4),
        asked,
        tokenizer=attacked.tokenizer,
        oracle=attacked.stage.oracle,
        original=attacked.stage.original,
        template=attacked.template,
    )
    assert not found.refused
    plain = found.findings["plain question"].exposed
    assert plain is not None
    assert found.worst is not None
    worst = found.findings[found.worst].exposed
    assert worst is not None
    assert worst.value >= plain.value + 0.3
