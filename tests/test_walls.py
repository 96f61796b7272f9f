"""Imports point one way, and a method knows nothing of devices, processes or files."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import unlearnkit

ROOT = Path(unlearnkit.__path__[0])
FOUNDATION = {"protocols", "batch", "statistics", "errors"}
"""What a method may build on, beside its own folder."""

OUT_OF_BOUNDS = {"distributed", "cuda", "device", "item", "pickle", "load", "save"}
"""Devices, other ranks, host synchronisation and files belong to the engine."""


def files(*folders: str) -> list[object]:
    return [
        pytest.param(path, id=f"{folder}.{path.stem}".lstrip("."))
        for folder in folders
        for path in sorted((ROOT / folder).glob("*.py"))
    ]


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules a file imports, those imported inside functions included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relative to itself"
            if node.module == "unlearnkit":
                yield from (f"unlearnkit.{name.name}" for name in node.names)
            else:
                yield str(node.module)


def own_imports(path: Path) -> set[str]:
    """The parts of the library a file imports: the first name after `unlearnkit`."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("unlearnkit.")}


def spoken_names(path: Path) -> set[str]:
    """Attributes, plain names, keyword arguments and imported names that occur in a file."""
    names = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name) | ast.keyword(arg=str(name)):
                names.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                names |= {part for alias in aliases for part in alias.name.split(".")}
    return names


@pytest.mark.parametrize("path", files("objectives", "metrics"))
def test_methods_and_metrics_import_only_what_lies_below_them(path: Path) -> None:
    assert own_imports(path) <= FOUNDATION | {path.parent.name}


@pytest.mark.parametrize("path", files("scorers"))
def test_scorers_stand_on_metrics(path: Path) -> None:
    assert own_imports(path) <= FOUNDATION | {"metrics", "scorers"}


@pytest.mark.parametrize("path", files("datasets"))
def test_data_sets_know_what_their_records_are_about_and_no_model(path: Path) -> None:
    assert own_imports(path) <= {"datasets", "errors", "metrics", "scorers"}


@pytest.mark.parametrize("path", files("worlds"))
def test_worlds_tell_data_sets(path: Path) -> None:
    assert own_imports(path) <= {"data", "datasets", "errors", "metrics", "scorers", "worlds"}


@pytest.mark.parametrize("path", files("benchmarks"))
def test_protocols_measure_and_do_not_train(path: Path) -> None:
    below = {"batch", "errors", "evaluate", "metrics", "models", "protocols", "recording", "report", "scorers"}
    known = {"worlds"} if path.stem == "named" else set()
    assert own_imports(path) <= below | known | {"benchmarks", "data", "datasets"}


@pytest.mark.parametrize("path", files("edits"))
def test_edits_know_models_and_no_engine(path: Path) -> None:
    assert own_imports(path) <= MODELS | {"edits"}


@pytest.mark.parametrize("path", files("objectives"))
def test_an_objective_needs_torch_and_attrs_only(path: Path) -> None:
    packages = {name.split(".")[0] for name in imports(path)}
    assert packages - sys.stdlib_module_names <= {"torch", "attrs", "unlearnkit"}


@pytest.mark.parametrize("path", files("objectives"))
def test_an_objective_never_speaks_of_devices_ranks_or_files(path: Path) -> None:
    assert not spoken_names(path) & OUT_OF_BOUNDS


BELOW: dict[str, set[str]] = {
    "errors": set(),
    "statistics": {"errors"},
    "draws": set(),
    "protocols": {"errors"},
    "batch": {"errors", "protocols"},
    "testing": {"batch", "errors", "protocols", "statistics"},
    "catalog": set(),
    "plan": {"batch", "draws", "errors", "protocols"},
    "recording": {"batch", "errors", "protocols", "statistics"},
    "gradient": {"protocols"},
    "observe": {"batch", "draws", "errors", "models", "protocols", "recording"},
    "parallel": {"errors", "models", "observe", "plan", "recording"},
    "checkpoint": {"errors", "models", "parallel"},
    "resume": {"errors", "parallel"},
    "survival": {"errors", "parallel", "protocols", "resume"},
    "report": {"errors", "protocols"},
    "provenance": {"batch", "recording"},
    "answers": {"batch", "errors", "models", "protocols", "recording"},
    "evaluate": {
        *("answers", "batch", "errors", "metrics", "models", "observe", "parallel", "plan", "protocols"),
        *("provenance", "recording", "report"),
    },
}
"""What each part of the core may know: nothing that is built on it."""

MODELS = {"batch", "errors", "models", "protocols"}
DISTRIBUTED = {"parallel", "resume", "survival"}
"""What speaks of processes."""

SHARDS = {"recording", "train", "noise"}
"""What knows a sharded tensor when it sees one."""


@pytest.mark.parametrize("module", BELOW)
def test_a_part_of_the_core_knows_nothing_above_it(module: str) -> None:
    assert own_imports(ROOT / f"{module}.py") <= BELOW[module]


@pytest.mark.parametrize("path", files("adversaries"))
def test_adversaries_ask_and_do_not_train(path: Path) -> None:
    assert own_imports(path) <= FOUNDATION | {"adversaries", "draws", "observe"}


@pytest.mark.parametrize("path", files("optim"))
def test_optimizers_know_a_step_and_not_the_loop(path: Path) -> None:
    assert own_imports(path) <= {"errors", "draws", "gradient", "optim", "protocols"}


@pytest.mark.parametrize("path", files("models", "decoding"))
def test_models_know_neither_the_engine_nor_how_they_are_laid_out(path: Path) -> None:
    files_too = {"checkpoint"} if path.stem == "folders" else set()
    assert own_imports(path) <= MODELS | files_too | {path.parent.name}


@pytest.mark.parametrize("path", files("attacks"))
def test_attacks_use_what_anyone_can_use_and_know_no_experiment(path: Path) -> None:
    assert not own_imports(path) & {"__main__", "benchmarks", "experiment", "oracle", "worlds"}


def test_training_stands_on_the_core_and_on_nothing_beside_it() -> None:
    assert own_imports(ROOT / "train.py") <= BELOW.keys() - {"testing", "catalog"} | {"models"}


@pytest.mark.parametrize(
    "path",
    files(
        *("", "objectives", "metrics", "scorers", "procedures", "edits", "decoding", "models", "data"),
        *("adversaries", "optim", "datasets", "worlds", "benchmarks", "attacks"),
    ),
)
def test_few_know_that_there_are_other_processes(path: Path) -> None:
    spoken = {name for name in imports(path) if f"{name}.".startswith("torch.distributed.")}
    if path.stem in SHARDS:
        assert spoken == {"torch.distributed.tensor"}
    elif path.stem not in DISTRIBUTED:
        assert not spoken
        assert "distributed" not in spoken_names(path)


def test_the_parts_of_the_library_know_each_other_one_way_only() -> None:
    known = dict[str, set[str]]()
    for path in ROOT.rglob("*.py"):
        part = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if part not in ("__init__", "__main__"):
            known.setdefault(part, set()).update(own_imports(path) - {part})
    tuple(TopologicalSorter(known).static_order())  # raises CycleError, and names the circle


@pytest.mark.parametrize(
    "line",
    ["torch.distributed.all_reduce(loss)", "loss.item()", "torch.zeros(3, device=place)", "from torch import cuda"],
)
def test_a_breach_is_noticed(line: str, tmp_path: Path) -> None:
    path = tmp_path / "method.py"
    path.write_text(line)
    assert spoken_names(path) & OUT_OF_BOUNDS
