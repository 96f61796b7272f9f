"""The command line, end to end on a toy model: what it writes, and what it says when refused."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.distributed.launch import torchrun
from unlearnkit.__main__ import main
from unlearnkit.catalog import CATALOG
from unlearnkit.checkpoint import RECORD, save_model
from unlearnkit.models.tiny import tiny_model
from unlearnkit.open_unlearning import read_logs
from unlearnkit.recipes import RECIPES
from unlearnkit.recording import Recording
from unlearnkit.report import load_report
from unlearnkit.worlds.fictitious import build_tokenizer, build_world

pytestmark = pytest.mark.filterwarnings("ignore::unlearnkit.errors.UnlearningWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy model and two JSONL files."""
    folder = tmp_path_factory.mktemp("cli")
    world = build_world()
    tokenizer = build_tokenizer(world)
    save_model(folder / "model", tiny_model("llama", vocabulary=len(tokenizer), layers=3), tokenizer)
    for role, questions in (("forget", world.forget(1)), ("retain", world.retain(1)[:8])):
        lines = (json.dumps({"question": q.question, "answer": q.answer}) for q in questions)
        (folder / f"{role}.jsonl").write_text("\n".join(lines))
    return folder


def arguments(folder: Path, command: str, *more: str) -> list[str]:
    files = ["--forget", str(folder / "forget.jsonl"), "--retain", str(folder / "retain.jsonl")]
    return [command, "--model", str(folder / "model"), "--device", "cpu", *files, *more]


@pytest.mark.parametrize("method", list(RECIPES))
def test_every_method_runs_and_leaves_a_model_and_its_record(folder: Path, method: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rate = ["--learning-rate", "1e-2", "--steps", "2", "--seed", "7"]
    assert main(arguments(folder, "unlearn", "--method", method, "--out", str(out), *rate)) == 0
    record = json.loads((out / RECORD).read_text())
    assert record["settings"]["seed"] == 7
    assert record["settings"]["effective_batch"] == 8
    assert set(record["hashes"]["data"]) >= {"forget", "retain"}
    assert record["hashes"]["weights_before"] != record["hashes"]["weights_after"]
    assert record["packages"]["torch"] == torch.__version__
    before, after = (AutoModelForCausalLM.from_pretrained(path) for path in (folder / "model", out))
    changed = {
        name
        for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True)
        if not torch.equal(old, new)
    }
    assert changed
    if method == "rmu":
        assert all("down_proj" in name for name in changed)


def test_evaluate_prints_a_table_and_writes_a_report(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(folder, "evaluate", "--generate", "4", "--out", str(tmp_path / "report.json"))) == 0
    printed = capsys.readouterr().out
    for name in ("forget_probability", "retain_rouge", "forget_extraction_strength"):
        assert f"| {name} | 0" in printed
    assert load_report(tmp_path / "report.json").scores.keys() >= {"forget_probability", "retain_rouge"}


def test_the_memory_of_the_run_is_estimated_before_it_begins(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["--steps", "1", "--learning-rate", "1e-3"]
    printed = {}
    for method in ("npo_nll", "npo_kl", "rmu"):
        assert main(arguments(folder, "unlearn", "--method", method, "--out", str(tmp_path / method), *run)) == 0
        printed[method] = capsys.readouterr().out
        assert re.match(r"memory on the device, estimated:\nweights +[\d.]+ MiB\n", printed[method])
        assert printed[method].index("\ntotal ") < printed[method].index("wrote ")
    assert "references" not in printed["npo_nll"]  # recorded
    assert "references" in printed["npo_kl"]
    assert "logits" not in printed["rmu"]  # it reads hidden states only


@pytest.mark.parametrize("stopped", ["finished", "asked to stop"])
def test_a_run_with_checkpoints_goes_on_where_it_was(
    folder: Path, tmp_path: Path, stopped: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(out: str, steps: int, *more: str) -> dict[str, torch.Tensor]:
        command = arguments(
            folder, "unlearn", "--method", "npo_kl", "--out", str(tmp_path / out), "--steps", str(steps)
        )
        assert main([*command, "--learning-rate", "1e-2", "--batch-size", "2", *more]) == 0
        weights = tmp_path / out / "model.safetensors"
        return load_file(weights) if weights.is_file() else {}

    expected = run("at once", 6)
    saved = ("--checkpoints", str(tmp_path / "run"), "--checkpoint-every", "2")
    if stopped == "finished":
        assert run("begun", 4, *saved)
    else:
        with monkeypatch.context() as patched:
            ask_to_stop_after(3, patched)
            assert not run("begun", 6, *saved)
        assert f"The state is in {tmp_path / 'run' / 'step-00000003'}" in capsys.readouterr().out
    found = run("gone on", 6, *saved)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def ask_to_stop_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM, while that step is at work."""
    of_step = torch.optim.AdamW.step
    done = iter(range(1, steps + 1))

    def step(optimizer: torch.optim.AdamW) -> None:
        of_step(optimizer)
        if next(done) == steps:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)


def test_how_often_to_save_without_where_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = ["--method", "ga", "--out", str(tmp_path / "new")]
    assert main(arguments(folder, "unlearn", *new, "--checkpoint-every", "5")) == 2
    assert "Name a folder with --checkpoints" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(  # the reference is recorded, or sharded beside the model
    "method", ["npo_nll", pytest.param("npo_kl", marks=pytest.mark.slow)]
)
def test_two_ranks_give_the_weights_of_one(folder: Path, tmp_path: Path, method: str) -> None:
    numbers = ["--steps", "3", "--learning-rate", "1e-3"]
    assert main(arguments(folder, "unlearn", "--method", method, "--out", str(tmp_path / "one"), *numbers)) == 0
    command = arguments(folder, "unlearn", "--method", method, "--out", str(tmp_path / "two"), *numbers)
    done = torchrun(2, "unlearnkit", *command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("memory on each of 2 devices, estimated:\n")
    assert done.stdout.count("wrote ") == 1
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert float((two[name] - tensor).norm()) <= 1e-4 * float(tensor.norm()), name
    records = [json.loads((tmp_path / name / RECORD).read_text()) for name in ("one", "two")]
    assert records[0]["hashes"]["weights_before"] == records[1]["hashes"]["weights_before"]
    assert [record["settings"]["processes"] for record in records] == [1, 2]


@pytest.mark.slow
def test_two_ranks_measure_what_one_does(folder: Path, tmp_path: Path) -> None:
    command = [
        "evaluate",
        "--model",
        str(folder / "model"),
        "--forget",
        str(folder / "forget.jsonl"),
        "--retain",
        str(folder / "retain.jsonl"),
        "--generate",
        "4",
    ]
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    assert main([*command, "--device", "cpu", "--out", str(one)]) == 0
    done = torchrun(2, "unlearnkit", *command, "--out", str(two))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("| forget_rouge |") == 1
    expected, found = (json.loads(path.read_text())["scores"] for path in (one, two))
    assert found.keys() == expected.keys()
    for name, score in expected.items():
        assert found[name]["per_example"] == pytest.approx(score["per_example"], rel=1e-4), name


def test_refusals_are_one_line_and_nothing_is_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    assert main(arguments(folder, "unlearn", "--method", "ga", "--out", str(tmp_path / "out"))) == 2
    assert "is not empty" in capsys.readouterr().err
    command = ["unlearn", "--model", str(folder / "model"), "--forget", str(folder / "forget.jsonl")]
    assert main([*command, "--method", "npo_nll", "--out", str(tmp_path / "new")]) == 2
    assert "reads the role 'retain', but the data has no such set" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("option", [["--steps", "0"], ["--batch-size", "-1"], ["--max-tokens", "0"]])
def test_numbers_that_make_no_sense_are_refused(
    folder: Path, tmp_path: Path, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments(folder, "unlearn", "--method", "ga", "--out", str(tmp_path / "new"), *option))
    assert "is not above 0" in capsys.readouterr().err


def test_nothing_to_evaluate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--model", str(folder / "model"), "--device", "cpu"]) == 2
    assert "Pass --forget, --retain or both" in capsys.readouterr().err


def test_plain_text_has_no_rouge(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.jsonl").write_text(json.dumps({"text": build_world().full[0].answer}))
    command = [
        "evaluate",
        "--model",
        str(folder / "model"),
        "--device",
        "cpu",
        "--forget",
        str(tmp_path / "text.jsonl"),
    ]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "| forget_probability |" in printed
    assert "| forget_rouge | not measured: plain text has no prompt" in printed


def test_audit_prints_its_table_and_writes_every_number(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "audit.json"
    model = str(folder / "model")
    few = ["--attacks", "plain question", "4 bits", "relearning, facts of others", "--steps", "2", "--generate", "4"]
    controls = ["--oracle", model, "--original", model, "--first", "4", "--out", str(out)]
    assert main(arguments(folder, "audit", *controls, *few)) == 0
    printed = capsys.readouterr().out
    assert "| plain question | text |" in printed
    assert "does not tell the original from the oracle" in printed  # the three models are one
    assert "ROUGE-L recall of the answer" in printed
    assert len(json.loads(out.read_text())["findings"]["4 bits"]["model"]["after"]) == 4


def test_an_audit_that_cannot_be_run_is_refused_before_any_work(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(folder, "audit", "--attacks", "plain question", "magic")) == 2
    assert (
        "there is no attack 'magic' that can be run on these files; there are plain question" in capsys.readouterr().err
    )
    assert main(arguments(folder, "audit", "--out", str(tmp_path))) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    for entry in CATALOG:
        assert entry.where in printed


# --- the auditor's way: an oracle, its log, the whole suite, and a page -------------------------------------------------


@pytest.fixture(scope="module")
def tofu_like(folder: Path) -> list[str]:
    """Files with other answers in TOFU's fields, and the options that name them."""
    world = build_world()
    options = []
    sets = {
        "forget": world.forget(1),
        "retain": world.retain(1)[:8],
        "holdout": world.holdout[:5],
        "real-authors": world.real_authors[:4],
        "world-facts": world.world_facts[:4],
    }
    for role, questions in sets.items():
        path = folder / f"tofu-{role}.json"
        lines = (
            json.dumps(
                {
                    "question": q.question,
                    "answer": q.answer,
                    "paraphrased_answer": q.paraphrased_answer,
                    "perturbed_answer": list(q.perturbed_answers),
                }
            )
            for q in questions
        )
        path.write_text("\n".join(lines))
        options += [f"--{role}", str(path)]
    return options


def test_an_oracle_its_log_the_suite_and_a_page(
    folder: Path, tofu_like: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, log = ["--model", str(folder / "model"), "--device", "cpu"], tmp_path / "oracle.safetensors"
    teach = ["oracle", *model, *tofu_like, "--epochs", "2", "--batch-size", "4", "--learning-rate", "1e-3"]
    assert main([*teach, "--cache", str(tmp_path / "cache"), "--out", str(log)]) == 0
    assert str(log) in capsys.readouterr().out
    out = {kind: tmp_path / f"report.{kind}" for kind in ("json", "html")}
    measure = ["evaluate", *model, *tofu_like, "--oracle", str(log), "--generate", "4"]
    theirs = ["--open-unlearning", str(tmp_path / "theirs"), "--resume", str(tmp_path / "kept")]
    assert main([*measure, *theirs, "--out", str(out["json"])]) == 0
    report = load_report(out["json"])
    assert {name: score.reason for name, score in report.scores.items() if score.value is None} == {}
    assert {"forget_quality", "privleak", "privacy", "model_utility", "memorization"} <= report.scores.keys()
    assert read_logs(tmp_path / "theirs")["forget_quality"].value == report["forget_quality"].value
    assert main([*measure, *theirs, "--out", str(out["html"])]) == 0
    assert out["html"].read_text().count("<svg") == 7  # forget against utility, truth ratios, five attacks
    page = tmp_path / "page.html"
    named = [f"ours={out['json']}", f"theirs={tmp_path / 'theirs'}"]
    assert main(["report", *named, "--out", str(page)]) == 0
    assert "theirs, AUC" in page.read_text()


@pytest.mark.slow
def test_two_ranks_train_an_oracle_and_record_it(folder: Path, tofu_like: list[str], tmp_path: Path) -> None:
    command = ["oracle", "--model", str(folder / "model"), *tofu_like[:6], "--epochs", "1", "--batch-size", "4"]
    command += ["--train", tofu_like[3], tofu_like[9], "--cache", str(tmp_path / "cache")]
    done = torchrun(2, "unlearnkit", *command)
    assert done.returncode == 0, done.stdout + done.stderr
    path = Path(done.stdout.split("--oracle`: ")[1].split("\n")[0])
    assert Recording.load(path).values
    again = torchrun(2, "unlearnkit", *command)  # model and log are there
    assert str(path) in again.stdout, again.stdout + again.stderr


def test_holdout_that_was_taught_is_refused(
    folder: Path, tofu_like: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["oracle", "--model", str(folder / "model"), "--device", "cpu", *tofu_like, "--train", tofu_like[5]]
    assert main([*command, "--cache", str(tmp_path / "cache")]) == 2
    assert "rows of 'holdout' hold the same tokens as rows that were trained on" in capsys.readouterr().err


def test_outputs_that_cannot_be_written_are_refused_before_any_work(
    folder: Path,
    tofu_like: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("unlearnkit.__main__.load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    measure = ["evaluate", "--model", str(folder / "model"), "--device", "cpu", *tofu_like]
    (tmp_path / "file").write_text("")
    for option in (["--out", str(tmp_path)], ["--resume", str(tmp_path / "file")], ["--oracle", str(tmp_path / "no")]):
        assert main([*measure, *option]) == 2
        assert str(tmp_path) in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main([*measure, "--out", str(tmp_path / "page.html")]) == 2
    assert "Install unlearnkit[plot]" in capsys.readouterr().err


def test_plain_text_generates_nothing_in_the_suite_either(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [question.answer for question in build_world().full[:6]]
    for name, lines in (("forget", texts[:3]), ("holdout", texts[3:])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in lines))
    files = ["--forget", str(tmp_path / "forget.jsonl"), "--holdout", str(tmp_path / "holdout.jsonl")]
    assert main(["evaluate", "--model", str(folder / "model"), "--device", "cpu", *files]) == 0
    printed = capsys.readouterr().out
    assert "| forget_rouge | not measured: plain text has no prompt to continue (data set forget)" in printed
    assert re.search(r"\| mia_min_k \| [01]", printed)


def test_without_oracle_and_holdout_the_rest_is_measured_and_the_missing_named(
    folder: Path, tofu_like: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", "--model", str(folder / "model"), "--device", "cpu", *tofu_like[:4], "--generate", "2"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "| forget_quality | not measured: no model or recording named oracle" in printed
    assert "| mia_loss | not measured: no data set holdout" in printed
    assert "| model_utility | not measured: no data set real_authors" in printed
    assert re.search(r"\| forget_truth_ratio \| 0\.\d+", printed)


def test_an_oracle_that_would_see_the_forget_set_is_refused(
    folder: Path, tofu_like: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["oracle", "--model", str(folder / "model"), "--device", "cpu", *tofu_like]
    train = ["--train", tofu_like[3], tofu_like[1], "--cache", str(tmp_path / "cache")]
    assert main([*command, *train]) == 2
    assert "rows of 'forget' hold the same tokens as rows that were trained on" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()
    assert main(["oracle", "--model", str(folder / "model"), "--device", "cpu", *tofu_like[:2]]) == 2
    assert "Pass --retain (or --train) and --forget" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["report.json", "=report.json"])
def test_a_report_without_a_name_is_refused(given: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", given, "--out", str(tmp_path / "page.html")]) == 2
    assert "is not NAME=FILE" in capsys.readouterr().err
