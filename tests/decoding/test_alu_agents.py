"""ALU: scripted roles, every call counted and kept, and a vanilla answer that the composer never reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from attrs import evolve, field, frozen
from hypothesis import given, strategies as st

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.attack import mean
from unlearnkit.decoding.alu_agents import (
    REFUSAL,
    Agents,
    Audit,
    Chat,
    ChatModel,
    Message,
    Pipeline,
    best_drafts,
    read_audit,
    read_scores,
    restored,
)
from unlearnkit.decoding.folders import Stored
from unlearnkit.decoding.prompts import PromptReader
from unlearnkit.errors import CheckpointError, DataError, NeedError
from unlearnkit.evaluate import evaluate
from unlearnkit.metrics.probability import Probability
from unlearnkit.metrics.rouge import Rouge
from unlearnkit.models.generate import generate
from unlearnkit.protocols import Greedy, Guarded, Metric, Sampling, TextGenerator

TARGETS = ("Ann Bo", "Carl Dorn")


@frozen(eq=False)
class Scripted:
    """A chat model that says what a function makes of all it is told, and remembers what it was told."""

    says: Callable[[str], str]
    told: list[str] = field(factory=list)

    def complete(self, messages: Sequence[Message]) -> str:
        self.told.append("\n".join(message.content for message in messages))
        return self.says(self.told[-1])


def always(text: str) -> Scripted:
    return Scripted(lambda _: text)


def audit(count: int) -> str:
    return "TOPICS: Ann Bo\n" + "\n".join(f"DRAFT {number}: draft {number}" for number in range(1, count + 1))


def scores(*given: int) -> str:
    return "\n".join(f"DRAFT {number}: {score}" for number, score in enumerate(given, 1))


def pipeline(eraser: ChatModel, critic: ChatModel, composer: ChatModel | None = None) -> Pipeline:
    return Pipeline(targets=TARGETS, eraser=eraser, critic=critic, composer=composer or always(" merged "))


# --- what replies say -------------------------------------------------------------------------------------------------


def test_an_audit_is_read_strictly_and_doubt_counts_against_the_answer() -> None:
    assert read_audit("\n topics: none.\nDRAFT 1: x", TARGETS, 5) == Audit((), ())
    assert read_audit("TOPICS: carl dorn ; Ann Bo\nDRAFT 1: a\nso\nDRAFT 2:\nDraft 9: b: c", TARGETS, 5) == Audit(
        TARGETS, ("a", "b: c")
    )
    assert read_audit(audit(7), TARGETS, 5) == Audit(("Ann Bo",), tuple(f"draft {number}" for number in range(1, 6)))
    assert read_audit("TOPICS: somebody\nDRAFT 1: a", TARGETS, 5) == Audit(TARGETS, ("a",))
    for unreadable in ("", "  \n", "There are none.", "Sure!\nTOPICS: NONE", "DRAFT 1: a\nTOPICS: NONE", "TOPICS NONE"):
        assert read_audit(unreadable, TARGETS, 5) == Audit(TARGETS, ())


def test_a_draft_without_a_readable_score_has_the_worst() -> None:
    assert read_scores("DRAFT 1: 4\ndraft 3: 5 \nDRAFT 7: 5", 3) == (4, 1, 5)
    assert read_scores("DRAFT 1: 6\nDRAFT 2: 4.5\nDRAFT 3: 5/5\n4: 5", 4) == (1, 1, 1, 1)
    assert read_scores("DRAFT 1: 5\nDRAFT 1: 2\nDRAFT 1: 4", 1) == (2,)
    assert read_scores("", 0) == ()


@given(st.lists(st.integers(1, 5), max_size=8), st.integers(1, 8))
def test_the_best_drafts_come_first_and_ties_in_order(given_scores: list[int], top: int) -> None:
    best = best_drafts(given_scores, top)
    assert len(best) == min(top, len(given_scores))
    keys = [(-given_scores[place], place) for place in best]
    assert keys == sorted((-score, place) for place, score in enumerate(given_scores))[:top]


# --- the pipeline -----------------------------------------------------------------------------------------------------


def test_without_targets_there_is_one_call() -> None:
    vanilla, other = always("Ann Bo is a tailor."), always("no")
    none = Pipeline(targets=(), eraser=other, critic=other, composer=other)
    transcript = none.reply("Who is Ann Bo?", vanilla)
    assert transcript.reply == transcript.vanilla == "Ann Bo is a tailor."
    assert transcript.calls == 1
    assert [one.role for one in transcript.exchanges] == ["vanilla"]
    assert vanilla.told == ["Who is Ann Bo?"]
    assert other.told == []


def test_an_answer_about_no_target_stays() -> None:
    critic, composer = always(scores(5)), always("merged")
    transcript = pipeline(always("TOPICS: NONE"), critic, composer)("Who is Eva?", "Eva is a cook.")
    assert (transcript.reply, transcript.calls, transcript.refused) == ("Eva is a cook.", 2, False)
    assert critic.told == composer.told == []


def test_drafts_are_erased_scored_and_merged_in_four_calls() -> None:
    eraser, critic, composer = always(audit(5)), always(scores(3, 4, 5, 4, 4)), always(" merged ")
    secret = "Ann Bo is a tailor in Fallowick."
    transcript = pipeline(eraser, critic, composer).reply("Who is she?", always(secret))
    assert transcript.calls == 4
    assert [one.role for one in transcript.exchanges] == ["vanilla", "eraser", "critic", "composer"]
    assert transcript.concerned == ("Ann Bo",)
    assert transcript.scores == (3, 4, 5, 4, 4)
    assert transcript.merged == (2, 1, 3)
    assert (transcript.reply, transcript.refused) == ("merged", False)
    assert secret in eraser.told[0]
    assert all(target in eraser.told[0] for target in TARGETS)
    for told in (*critic.told, *composer.told):
        assert secret not in told
        assert "Fallowick" not in told
    drafts = re.findall(r"DRAFT \d: (.*)", composer.told[0])
    assert drafts == ["draft 3", "draft 2", "draft 4"]
    for exchange, role in zip(transcript.exchanges[1:], (eraser, critic, composer), strict=True):
        assert "\n".join(message.content for message in exchange.messages) == role.told[0]


def test_a_critic_that_is_asked_one_by_one() -> None:
    grades = iter([5, 1, 4, 5, 3])
    critic = Scripted(lambda _: scores(next(grades)))
    transcript = evolve(pipeline(always(audit(5)), critic), one_by_one=True)("Who?", "Ann Bo.")
    assert transcript.calls == 3 + 5
    assert transcript.scores == (5, 1, 4, 5, 3)
    assert transcript.merged == (0, 3, 2)
    assert all(sum(f"draft {number}" in told for number in range(1, 6)) == 1 for told in critic.told)


def test_below_the_threshold_there_is_a_refusal() -> None:
    composer = always("merged")
    refused = pipeline(always(audit(3)), always(scores(4, 4, 3)), composer)("Who?", "Ann Bo.")
    assert (refused.reply, refused.refused, refused.calls, refused.merged) == (REFUSAL, True, 3, ())
    assert composer.told == []
    assert not pipeline(always(audit(3)), always(scores(4, 4, 4)), composer)("Who?", "Ann Bo.").refused
    fewer = evolve(pipeline(always(audit(3)), always(scores(4, 4, 3)), composer), top=2)
    assert fewer("Who?", "Ann Bo.").reply == "merged"
    for broken in (pipeline(always("?"), composer), pipeline(always(audit(0)), composer)):
        none = broken("Who?", "Ann Bo.")
        assert (none.reply, none.calls) == (REFUSAL, 2)
    silent = pipeline(always(audit(3)), always(scores(5, 5, 5)), always("  "))("Who?", "Ann Bo.")
    assert (silent.reply, silent.refused, silent.calls) == (REFUSAL, True, 4)


def test_what_cannot_be_set_is_refused() -> None:
    role = always("")
    for targets in (("a;b",), ("a\nb",), (" ",)):
        with pytest.raises(DataError, match="a name on one line, without a semicolon"):
            Pipeline(targets=targets, eraser=role, critic=role, composer=role)
    with pytest.raises(ValueError, match=r"threshold is 0\.5"):
        Pipeline(targets=TARGETS, eraser=role, critic=role, composer=role, threshold=0.5)


# --- around a model ---------------------------------------------------------------------------------------------------


def by_name(attacked: Attacked) -> Pipeline:
    """Roles that go by the names of forgotten people alone."""
    found = [re.search(r"[A-Z]\w+ [A-Z]\w+", secret.question) for secret in attacked.secrets]
    known = tuple(dict.fromkeys(one[0] for one in found if one is not None))
    assert len(known) == 6

    def erase(told: str) -> str:
        question = told.split("Question:")[-1]
        about = [name for name in known if name in question]
        return f"TOPICS: {'; '.join(about)}\nDRAFT 1: Someone.\nDRAFT 2: Somebody." if about else "TOPICS: NONE"

    return Pipeline(
        targets=known,
        eraser=Scripted(erase),
        critic=always(scores(5, 4)),
        composer=Scripted(lambda told: re.findall(r"DRAFT 1: (.*)", told)[0]),
    )


@pytest.fixture(scope="module")
def agents(attacked: Attacked) -> Agents:
    reader = PromptReader.of(attacked.tokenizer, attacked.template)
    return Agents(attacked.original.model, reader, by_name(attacked))


def test_control_answers_about_targets_are_rewritten_and_no_others(attacked: Attacked, agents: Agents) -> None:
    """With roles that recognise names the original gives no fact away, and keeps all that was to stay."""
    assert isinstance(agents, TextGenerator)
    assert isinstance(agents, Guarded)
    target = evolve(attacked.original.with_model(agents), retained=attacked.retained[:8])
    assert mean(attacked.original.leaks(attacked.secrets[:8])) >= 0.9
    assert mean(target.leaks(attacked.secrets[:8])) == 0
    assert {one.reply for one in agents.transcripts} == {"Someone."}
    assert {one.calls for one in agents.transcripts} == {4}
    assert target.kept() == evolve(attacked.original, retained=attacked.retained[:8]).kept()
    assert {one.question for one in agents.transcripts} == {one.question for one in attacked.retained[:8]}
    assert {one.calls for one in agents.transcripts} == {2}
    assert target.weights is attacked.stage.original


def test_without_targets_it_writes_what_the_model_writes(attacked: Attacked, agents: Agents) -> None:
    idle = Agents(agents.model, agents.reader, evolve(agents.pipeline, targets=()))
    prompts = [attacked.original.prompt(secret.question) for secret in attacked.secrets[:4]]
    ends = frozenset({int(str(attacked.tokenizer.eos_token_id))})
    for decoding, drawn in ((Greedy(16), []), (Sampling(temperature=1.5, max_new_tokens=8), [4, 5, 6, 7])):
        plain = generate(agents.model, prompts, decoding, end_tokens=ends, seeds=drawn)
        expected = tuple(attacked.tokenizer.decode(list(ids), skip_special_tokens=True) for ids in plain)
        assert idle.write(prompts, decoding, seeds=drawn) == expected
        assert [one.calls for one in idle.transcripts] == [1] * 4
    inputs = {"input_ids": prompts[0][None], "position_ids": torch.arange(len(prompts[0]))[None]}
    with torch.no_grad():
        assert torch.equal(agents.hidden(inputs).final, agents.model.hidden(inputs).final)


def test_metrics_run_on_agents(attacked: Attacked, agents: Agents) -> None:
    secrets = attacked.secrets[:3]
    rows = [attacked.original.row(one.question, one.answer, id=one.id, role="forget") for one in secrets]
    metrics: dict[str, Metric] = {"text": Rouge("forget", decoding=Greedy(16)), "probability": Probability("forget")}
    found, original = (
        evaluate({"model": model}, metrics, {"forget": rows}, tokenizer=attacked.tokenizer)
        for model in (agents, agents.model)
    )
    assert found.scores["probability"].value == original.scores["probability"].value
    assert found.scores["text"].value == 0


def test_one_model_plays_all_roles(attacked: Attacked, agents: Agents) -> None:
    """It knows nothing of the form and answers as it always does, which counts against the answer."""
    chat = Chat(agents.model, attacked.tokenizer, attacked.template, decoding=Greedy(8))
    secret = attacked.secrets[0]
    assert chat.complete([Message("user", secret.question)]) == " ".join(secret.answer.split()[:8]).rstrip(".")
    alone = Pipeline(targets=("Fox",), eraser=always("TOPICS: NONE"), critic=chat, composer=chat)
    prompts = [attacked.original.prompt(secret.question)]
    assert Agents(agents.model, agents.reader, alone).write(prompts, Greedy(16)) == (secret.answer,)
    critical = evolve(alone, eraser=always(audit(2)))
    short = Agents(agents.model, agents.reader, critical)
    assert short.write(prompts, Greedy(16)) == (REFUSAL,)
    assert [one.role for one in short.transcripts[0].exchanges] == ["vanilla", "eraser", "critic"]


def test_one_that_is_stored_comes_back_with_its_roles_given(attacked: Attacked, agents: Agents, tmp_path: Path) -> None:
    def back(**given: object) -> Agents:
        stored = Stored(
            parts=agents.parts,
            settings=agents.settings,
            tensors=agents.tensors,
            tokenizer=attacked.tokenizer,
            given=given,
            folder=tmp_path,
        )
        return restored(stored)

    own = agents.pipeline
    again = back(eraser=own.eraser, critic=own.critic, composer=own.composer)
    assert again.settings == agents.settings
    prompts = [attacked.original.prompt(one.question) for one in (attacked.secrets[0], attacked.retained[0])]
    assert again.write(prompts, Greedy(16)) == agents.write(prompts, Greedy(16))
    with pytest.raises(CheckpointError, match="needs its critic given again"):
        back(eraser=own.eraser)
    with pytest.raises(NeedError, match="the eraser is a str and has no complete"):
        back(eraser="x", critic=own.critic, composer=own.composer)
