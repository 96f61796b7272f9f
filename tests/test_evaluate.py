"""Evaluation: merged needs, few passes, order kept, and what is missing is said."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from attrs import field, frozen
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tests.toy import VOCABULARY, Toy, toy_rows
from unlearnkit.batch import Batch, Collate, PlainTemplate, Row, as_role, collate_text, tokenize
from unlearnkit.errors import DataError, NeedError, RecordingError, VocabularyError
from unlearnkit.evaluate import evaluate, gather, record
from unlearnkit.metrics import ExactMemorization, ExtractionStrength, ForgetQuality, Probability, Rouge
from unlearnkit.models.causal import CausalLM
from unlearnkit.models.generate import end_tokens
from unlearnkit.models.tiny import tiny_model
from unlearnkit.objectives.retain_kl import RetainKL
from unlearnkit.observe import Models, observe
from unlearnkit.protocols import Generated, Greedy, Metric, Need, Needs, Sampling, Score, Seen, Texts, Tokens
from unlearnkit.report import load_report, save_report
from unlearnkit.statistics import LabelLogProb
from unlearnkit.worlds.fictitious import build_tokenizer, build_world

T = TypeVar("T")
WORLD = build_world()
ROWS = toy_rows("forget", [(2, 3), (1, 6), (4, 1), (2, 2), (3, 3)])


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return build_tokenizer(WORLD)


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    return tiny_model("llama", vocabulary=len(tokenizer))


def questions(tokenizer: PreTrainedTokenizerBase, number: int = 5) -> tuple[Row, ...]:
    return tuple(
        tokenize(tokenizer, q.question, q.answer, id=q.id, role="forget", template=PlainTemplate())
        for q in WORLD.full[:number]
    )


def test_batches_do_not_change_scores_or_their_order() -> None:
    metrics: dict[str, Metric] = {"p": Probability("forget"), "em": ExactMemorization("forget")}
    whole = evaluate({"model": Toy()}, metrics, {"forget": ROWS})
    cut = evaluate({"model": Toy()}, metrics, {"forget": ROWS}, max_tokens=7)
    for name in metrics:
        assert list(cut[name].per_example) == [row.id for row in ROWS if row.id in whole[name].per_example]
        assert cut[name].per_example == pytest.approx(dict(whole[name].per_example), rel=1e-12)


def test_flat_values_come_back_in_the_order_of_the_data() -> None:
    """Batches are sorted by length, even if there is only one."""
    need = Tokens(LabelLogProb(), "forget")
    whole = observe({"model": Toy()}, ROWS, frozenset({need}))
    for max_tokens in (6, 10_000):
        check_order(gather({"model": Toy()}, frozenset({need}), {"forget": ROWS}, max_tokens=max_tokens), whole, need)


def check_order(cut: Seen, whole: Seen, need: Tokens) -> None:
    assert cut.ids["forget"] == tuple(row.id for row in ROWS)
    torch.testing.assert_close(cut[need].values, whole[need].values)
    assert cut[need].row.tolist() == whole[need].row.tolist()


def test_all_teacher_forced_metrics_share_one_pass() -> None:
    model = Toy()
    metrics: dict[str, Metric] = {
        "p": Probability("forget"),
        "em": ExactMemorization("forget"),
        "es": ExtractionStrength("forget"),
    }
    evaluate({"model": model}, metrics, {"forget": ROWS})
    assert model.calls == 1


def test_what_is_missing_is_not_measured_and_says_why(model: PreTrainedModel) -> None:
    metrics: dict[str, Metric] = {
        "p": Probability("forget"),
        "other": Probability("holdout"),
        "quality": ForgetQuality("forget"),
    }
    rows = {role: toy_rows(role, [(2, 2)]) for role in ("forget", "forget_paraphrased", "forget_perturbed")}
    report = evaluate({"model": Toy()}, metrics, rows)
    assert report["p"].value is not None
    assert report["other"].value is None
    assert report["other"].reason == "no data set holdout"
    assert report["quality"].reason == "no model or recording named oracle"
    assert "not measured: no data set holdout" in report.markdown()


def test_generation_is_scored_against_the_decoded_answer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    report = evaluate(
        {"model": model}, {"rouge": Rouge("forget", Greedy(4))}, {"forget": questions(tokenizer)}, tokenizer=tokenizer
    )
    assert report["rouge"].n == 5
    assert list(report["rouge"].per_example) == [q.id for q in WORLD.full[:5]]


def test_generating_without_a_tokenizer_or_with_a_foreign_one_is_refused(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    metrics = {"rouge": Rouge("forget", Greedy(4))}
    with pytest.raises(NeedError, match=r"asks for text. Pass the tokenizer="):
        evaluate({"model": model}, metrics, {"forget": questions(tokenizer)})
    small = tiny_model("llama", vocabulary=16)
    with pytest.raises(VocabularyError, match=r"the tokenizer has \d+ tokens but the model's vocabulary is 16"):
        evaluate({"model": small}, metrics, {"forget": questions(tokenizer)}, tokenizer=tokenizer)
    with pytest.raises(VocabularyError, match=r"row 'person000/\w+' of 'forget' has input id \d+"):
        evaluate({"model": small}, {"p": Probability("forget")}, {"forget": questions(tokenizer)})


def test_modes_are_put_back(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    model.train()
    evaluate({"model": model}, {"p": Probability("forget")}, {"forget": questions(tokenizer)})
    assert model.training
    model.eval()


def test_an_oracle_can_be_a_recording() -> None:
    rows = {
        role: toy_rows(role, [(2, 2), (1, 3)], seed=seed, groups="q")
        for seed, role in enumerate(("forget", "forget_paraphrased", "forget_perturbed"))
    }
    metric = ForgetQuality("forget")
    log = record(Toy(1), metric.needs, rows, of="oracle")
    live = evaluate({"model": Toy(0), "oracle": Toy(1)}, {"q": metric}, rows)
    recorded = evaluate({"model": Toy(0), "oracle": log}, {"q": metric}, rows)
    assert recorded["q"].value == live["q"].value


def test_reports_are_written_as_json_and_markdown(tmp_path: Path) -> None:
    report = evaluate({"model": Toy()}, {"p": Probability("forget")}, {"forget": ROWS}, intervals=True)
    save_report(report, tmp_path / "deep" / "report.json")
    content = json.loads((tmp_path / "deep" / "report.json").read_text())
    assert (content["schema"], content["version"]) == ("unlearnkit.report", 1)
    score = content["scores"]["p"]
    assert score["value"] == report["p"].value
    assert score["interval"]["low"] <= score["value"] <= score["interval"]["high"]
    assert len(score["per_example"]) == len(ROWS)
    assert load_report(tmp_path / "deep" / "report.json") == report
    save_report(report, tmp_path / "report.md")
    assert "| p | " in (tmp_path / "report.md").read_text()


def test_a_metric_whose_data_do_not_fit_together_is_not_measured_and_the_others_are() -> None:
    @frozen
    class Refuses:
        needs: Needs = frozenset({Tokens(LabelLogProb(), "forget")})

        def __call__(self, seen: Seen) -> Score:
            raise DataError("the questions have no answers")

    metrics: dict[str, Metric] = {"refused": Refuses(), "p": Probability("forget")}
    report = evaluate({"model": Toy()}, metrics, {"forget": ROWS}, intervals=True)
    assert report["refused"] == Score.not_measured("the questions have no answers")
    assert report["p"].value is not None


def test_what_cannot_be_gathered_or_recorded_is_refused_before_anything_runs() -> None:
    model = Toy()
    with pytest.raises(DataError, match=r"needs name the data set 'forget', but only \['retain'\] are given"):
        gather({"model": model}, Probability("forget").needs, {"retain": toy_rows("retain", [(2, 2)])})
    with pytest.raises(NeedError, match="has no prompt to continue: its first supervised token is at position 0"):
        gather({"model": model}, Rouge("forget", Greedy(4)).needs, {"forget": toy_rows("forget", [(2, 2), (0, 3)])})
    with pytest.raises(NeedError, match=r"nothing is needed of 'oracle'.*Needs name model"):
        record(model, Probability("forget").needs, {"forget": ROWS}, of="oracle")
    with pytest.raises(RecordingError, match="compares the logits of two live models"):
        record(model, RetainKL().needs, {"retain": toy_rows("retain", [(2, 2)])})

    class Bare:
        """A model that is no module."""

        vocabulary = VOCABULARY
        hidden, head, new_cache = model.hidden, model.head, model.new_cache

    with pytest.raises(NeedError, match="Bare is no torch module"):
        record(Bare(), Probability("forget").needs, {"forget": ROWS}, of="model")
    assert model.calls == 0


def test_progress_is_told_by_role_and_rows(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    told: list[tuple[str, int, int]] = []
    metrics: dict[str, Metric] = {"p": Probability("forget"), "rouge": Rouge("forget", Greedy(2))}
    rows = questions(tokenizer, 3)
    evaluate(
        {"model": model},
        metrics,
        {"forget": rows},
        tokenizer=tokenizer,
        max_tokens=1,
        progress=lambda what, done, total: told.append((what, done, total)),
    )
    assert told == [(what, done, 3) for what in ("forget", "forget, generating") for done in (1, 2, 3)]


def test_an_answer_ends_at_any_end_token_of_the_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    config = model.generation_config
    assert config is not None
    own = tokenizer.eos_token_id
    assert end_tokens(tokenizer, CausalLM(model)) == {own}
    before = config.eos_token_id
    try:
        for listed, expected in (([7, 9], {own, 7, 9}), (8, {own, 8})):
            config.eos_token_id = listed
            assert end_tokens(tokenizer, CausalLM(model)) == expected
    finally:
        config.eos_token_id = before
    assert end_tokens(tokenizer, Toy()) == {own}


def test_placed_parameters_are_freed_when_an_evaluation_ends() -> None:
    """Whatever reads or writes parameters next finds them as their strategy keeps them."""
    strategy = Watched()
    evaluate({"model": Toy()}, {"p": Probability("forget")}, {"forget": ROWS}, strategy=strategy)
    assert strategy.done == ["place", "work", "rest"]


@frozen
class Watched:
    """One process that notes what is asked of it."""

    done: list[str] = field(factory=list)
    cut_cost = 64
    rank = 0
    size = 1
    casts = False

    def place(self, models: Models, /) -> Watched:
        self.done.append("place")
        return self

    def __call__(self, work: Callable[[], T], /) -> T:
        self.done.append("work")
        return work()

    def part(self, last: bool, /) -> AbstractContextManager[None]:
        return nullcontext()

    def rest(self) -> None:
        self.done.append("rest")

    def sum(self, value: Tensor, /) -> Tensor:
        return value

    def gather(self, value: T, /) -> list[T]:
        return [value]

    def weights(self, model: nn.Module, /) -> dict[str, Tensor]:
        return dict(model.state_dict())


# --- going on after an interruption -----------------------------------------------------------------------------------


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each forward pass of any model."""
    made, plain = list[int](), CausalLM.hidden

    def hidden(self: CausalLM, *inputs: Mapping[str, Tensor], **settings: Any) -> object:
        made.append(1)
        return plain(self, *inputs, **settings)

    monkeypatch.setattr(CausalLM, "hidden", hidden)
    return made


def suite() -> dict[str, Metric]:
    return {"p": Probability("forget"), "em": ExactMemorization("other"), "r": Rouge("forget", Greedy(4))}


def test_finished_passes_are_not_run_again(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, passes: list[int]
) -> None:
    model = CausalLM(tiny_model("llama", vocabulary=len(tokenizer)))
    data = {"forget": questions(tokenizer), "other": as_role(questions(tokenizer, 3), "other")}
    whole = evaluate({"model": model}, suite(), data, tokenizer=tokenizer, resume=tmp_path)
    assert whole == evaluate({"model": model}, suite(), data, tokenizer=tokenizer)
    passes.clear()
    assert evaluate({"model": model}, suite(), data, tokenizer=tokenizer, resume=tmp_path) == whole
    assert not passes
    fewer: dict[str, Metric] = {"p": Probability("forget"), "es": ExtractionStrength("other")}  # reads what "em" reads
    assert evaluate({"model": model}, fewer, data, resume=tmp_path)["p"] == whole["p"]
    assert not passes
    files = set(tmp_path.iterdir())
    more = suite() | {"other": Probability("other")}
    assert evaluate({"model": model}, more, data, tokenizer=tokenizer, resume=tmp_path)["em"] == whole["em"]
    assert passes
    assert len(set(tmp_path.iterdir()) - files) == 1  # what was missing, and nothing else


def test_an_interrupted_evaluation_goes_on(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    model = CausalLM(tiny_model("llama", vocabulary=len(tokenizer)))
    data = {"forget": questions(tokenizer), "other": as_role(questions(tokenizer, 3), "other")}
    whole = evaluate({"model": model}, suite(), data, tokenizer=tokenizer)

    def stop(what: str, _: int, __: int) -> None:
        if what == "other":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate({"model": model}, suite(), data, tokenizer=tokenizer, resume=tmp_path, progress=stop)
    assert {path.name.split("-")[0] for path in tmp_path.iterdir()} == {"forget"}
    roles = list[str]()
    again = evaluate(
        {"model": model},
        suite(),
        data,
        tokenizer=tokenizer,
        resume=tmp_path,
        progress=lambda what, _, __: roles.append(what),
    )
    assert again == whole
    assert "forget" not in roles
    assert set(roles) == {"other", "forget, generating"}


def double(rows: Sequence[Row]) -> Batch:
    return collate_text(rows)


@frozen
class Scaled:
    """A statistic with a number that its repr does not show."""

    by: float = field(repr=False)
    uses_labels = False

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self.by * logits[:, 0]


@pytest.mark.parametrize("change", ["weights", "rows", "settings", "attention", "collate", "ends", "tokenizer"])
def test_nothing_is_served_for_anything_else(
    change: str, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, passes: list[int]
) -> None:
    model = CausalLM(tiny_model("llama", vocabulary=len(tokenizer)))
    data: dict[str, tuple[Row, ...]] = {"forget": questions(tokenizer)}
    metrics: dict[str, Metric] = {"p": Probability("forget"), "r": Rouge("forget", Greedy(3))}
    collate: Collate = collate_text
    before = evaluate({"model": model}, metrics, data, tokenizer=tokenizer, resume=tmp_path)
    if change == "weights":
        with torch.no_grad():
            next(model.parameters()).mul_(1.5)
    elif change == "settings":
        model.model.config.rms_norm_eps = 0.5
    elif change == "attention":
        model.model.set_attn_implementation("eager")
    elif change == "collate":
        collate = double
    elif change == "ends":
        assert model.model.generation_config is not None
        model.model.generation_config.eos_token_id = 7
    elif change == "tokenizer":
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.add_tokens(["another"])
        del metrics["p"]
    else:
        data = {"forget": questions(tokenizer)[::-1]}
    passes.clear()
    models = {"model": tiny_model("llama", vocabulary=len(tokenizer))} if change == "tokenizer" else {"model": model}
    after = evaluate(models, metrics, data, tokenizer=tokenizer, resume=tmp_path, collate=collate)
    assert passes
    assert after == evaluate(models, metrics, data, tokenizer=tokenizer, collate=collate)
    if change == "weights":
        assert after["p"].value != before["p"].value


def test_statistics_are_told_apart_by_numbers_they_do_not_show(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    model, data = CausalLM(tiny_model("llama", vocabulary=len(tokenizer))), {"forget": questions(tokenizer)}
    once, twice = (
        gather({"model": model}, frozenset({need}), data, resume=tmp_path)[need].values
        for need in (Tokens(Scaled(1.0), "forget"), Tokens(Scaled(2.0), "forget"))
    )
    torch.testing.assert_close(2 * once, twice)


def test_what_cannot_be_told_apart_is_refused(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    class Nameless:
        uses_labels = False

        def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
            return logits[:, 0]

    model, data = CausalLM(tiny_model("llama", vocabulary=len(tokenizer))), {"forget": questions(tokenizer)}
    hidden = frozenset[Need]({Tokens(Nameless(), "forget")})
    with pytest.raises(NeedError, match="does not show them"):
        gather({"model": model}, hidden, data, resume=tmp_path)
    plain = frozenset[Need]({Tokens(LabelLogProb(), "forget")})
    with pytest.raises(NeedError, match="knows functions by their names"):
        gather({"model": model}, plain, data, resume=tmp_path, collate=lambda rows: collate_text(rows))
    model.model.get_input_embeddings().register_forward_hook(lambda *_: None)
    with pytest.raises(NeedError, match=r"'model.embed_tokens' of 'model' has hooks"):
        gather({"model": model}, plain, data, resume=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_torn_file_is_done_again(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    model = CausalLM(tiny_model("llama", vocabulary=len(tokenizer)))
    data = {"forget": questions(tokenizer)}
    metrics: dict[str, Metric] = {"p": Probability("forget"), "r": Rouge("forget", Greedy(4))}
    whole = evaluate({"model": model}, metrics, data, tokenizer=tokenizer, resume=tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:20])
    assert evaluate({"model": model}, metrics, data, tokenizer=tokenizer, resume=tmp_path) == whole
    for path in tmp_path.glob("*.json"):
        for content in ("{}", "[1]", '{"texts": [], "references": [], "samples": [], "tokens": []}'):
            path.write_text(content)
            assert evaluate({"model": model}, metrics, data, tokenizer=tokenizer, resume=tmp_path) == whole


def test_a_check_sees_rows_that_no_metric_reads_and_ids_once() -> None:
    with pytest.raises(DataError, match="two rows of 'retain'"):
        evaluate(
            {"model": Toy()}, {"p": Probability("forget")}, {"forget": ROWS, "retain": [*as_role(ROWS, "retain")] * 2}
        )


def test_a_log_that_lacks_something_costs_the_metrics_that_want_it_only() -> None:
    rows = {role: toy_rows(role, [(2, 2), (1, 3)]) for role in ("forget", "holdout")}
    log = record(Toy(1), Probability("forget", of="oracle").needs, rows, of="oracle")
    metrics: dict[str, Metric] = {role: Probability(role, of="oracle") for role in rows}
    report = evaluate({"model": Toy(), "oracle": log}, metrics, rows)
    assert report["forget"].value is not None
    assert "has no LabelLogProb() of 'holdout'" in str(report["holdout"].reason)


def test_a_model_whose_settings_are_not_known_is_refused_at_once(tmp_path: Path) -> None:
    model = Toy()
    with pytest.raises(NeedError, match=r"settings of 'model', a Toy, are not known. Evaluate it without resume"):
        evaluate({"model": model}, {"p": Probability("forget")}, {"forget": ROWS}, resume=tmp_path)
    assert model.calls == 0


# --- samples, texts, refusals -----------------------------------------------------------------------------------------


def test_samples_do_not_depend_on_batches(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    need = Generated(Sampling(samples=3, max_new_tokens=5), "forget")
    data = {"forget": questions(tokenizer)}
    together = gather({"model": CausalLM(model)}, frozenset({need}), data, tokenizer=tokenizer)[need]
    apart = gather({"model": CausalLM(model)}, frozenset({need}), data, tokenizer=tokenizer, max_tokens=1)[need]
    assert together == apart
    assert [len(samples) for samples in together.samples] == [3] * 5
    assert together.texts == tuple(samples[0] for samples in together.samples)
    assert len({text for samples in together.samples for text in samples}) > 5
    assert [len(tokens) for tokens in together.tokens] == [3] * 5


def test_texts_are_read_without_any_model(tokenizer: PreTrainedTokenizerBase) -> None:
    need = Texts("forget")
    seen = gather({}, frozenset({need}), {"forget": questions(tokenizer)}, tokenizer=tokenizer)
    assert seen.ids["forget"] == tuple(question.id for question in WORLD.full[:5])
    for prompt, answer, question in zip(seen[need].prompts, seen[need].answers, WORLD.full, strict=False):
        assert question.question in prompt
        assert answer == question.answer
    with pytest.raises(NeedError, match=r"asks for text. Pass the tokenizer="):
        gather({}, frozenset({need}), {"forget": questions(tokenizer)})


def test_a_metric_that_checks_its_data_refuses_before_anything_is_run() -> None:
    @frozen
    class Wary:
        needs: Needs = frozenset({Tokens(LabelLogProb(), "forget")})

        def check(self, contents: Mapping[str, Mapping[str, str]]) -> None:
            assert contents["forget"].keys() == {row.id for row in ROWS}
            if set(contents["forget"].values()) & set(contents["other"].values()):
                raise DataError("the same text twice")

        def __call__(self, seen: Seen) -> Score:
            return Score(1.0, "knowledge")

    model = Toy()
    apart = {"forget": ROWS, "other": toy_rows("other", [(2, 4)], seed=5)}
    metrics: dict[str, Metric] = {"m": Wary()}
    assert evaluate({"model": model}, metrics, apart)["m"].value == 1.0
    calls = model.calls
    with pytest.raises(DataError, match="the same text twice"):
        evaluate({"model": model}, metrics, {"forget": ROWS, "other": as_role(ROWS[2:3], "other")})
    assert model.calls == calls
