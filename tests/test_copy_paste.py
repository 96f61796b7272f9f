"""A method's formula can be copied into any file that imports torch: nothing else is in scope where it is run here."""

from __future__ import annotations

import ast
import builtins
import dis
import math
from pathlib import Path
from types import CodeType, FunctionType
from typing import Literal

import pytest
import torch

import unlearnkit

ROOT = Path(unlearnkit.__path__[0])
FOLDERS = ("objectives", "metrics", "scorers", "edits", "decoding", "procedures")
FILES = sorted([*(path for folder in FOLDERS for path in (ROOT / folder).glob("*.py")), ROOT / "statistics.py"])


def functions(file: Path) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)}


MADE = ("Detector",)
"""Modules that are made of tensors: no formula."""


def is_pure(function: ast.FunctionDef) -> bool:
    """Tensors in: the first argument says so. A public function that only returns one counts as well, if it runs no model."""
    first = [ast.unparse(argument.annotation) for argument in function.args.args[:1] if argument.annotation]
    if first == ["Model"] or (function.returns is not None and ast.unparse(function.returns) in MADE):
        return False
    makes = function.returns is not None and ast.unparse(function.returns) == "Tensor"
    return first == ["Tensor"] or (makes and not function.name.startswith("_"))


def with_helpers(name: str, found: dict[str, ast.FunctionDef]) -> set[str]:
    """The function and the pure functions of its file that it calls."""
    wanted, todo = set[str](), [name]
    while todo:
        wanted.add(current := todo.pop())
        called = {node.id for node in ast.walk(found[current]) if isinstance(node, ast.Name)}
        todo += [other for other in called & found.keys() - wanted if is_pure(found[other])]
    return wanted


def global_names(code: CodeType) -> set[str]:
    """Names a function looks up outside itself, those of functions inside it included."""
    names = {str(step.argval) for step in dis.get_instructions(code) if step.opname in {"LOAD_GLOBAL", "LOAD_NAME"}}
    return names.union(*(global_names(inner) for inner in code.co_consts if isinstance(inner, CodeType)))


def runs_with_only_torch(name: str, found: dict[str, ast.FunctionDef]) -> None:
    wanted = with_helpers(name, found)
    source = "\n\n".join(["from __future__ import annotations", *(ast.unparse(found[each]) for each in sorted(wanted))])
    scope: dict[str, object] = {"torch": torch, "math": math, "Tensor": torch.Tensor, "Literal": Literal}
    exec(compile(source, name, "exec"), scope)
    function = scope[name]
    assert isinstance(function, FunctionType)
    foreign = global_names(function.__code__) - {"torch", "math", *wanted, *dir(builtins)}
    assert not foreign, f"{name} cannot be copied without {sorted(foreign)}"


@pytest.mark.parametrize(
    ("file", "name"),
    [
        pytest.param(file, name, id=f"{file.parent.name}.{file.stem}.{name}")
        for file in FILES
        for name, function in functions(file).items()
        if is_pure(function)
    ],
)
def test_runs_with_only_torch_in_scope(file: Path, name: str) -> None:
    runs_with_only_torch(name, functions(file))


@pytest.mark.parametrize(
    "source",
    [
        "def loss(x: Tensor) -> Tensor:\n    return helper(x)\n\ndef helper(x: object) -> object:\n    return x",
        "def loss(x: Tensor) -> Tensor:\n    return [numpy.exp(value) for value in x]",
        "def loss(x: Tensor, ignore: int = IGNORE) -> Tensor:\n    return x",
    ],
)
def test_a_hidden_dependency_is_noticed(source: str, tmp_path: Path) -> None:
    file = tmp_path / "method.py"
    file.write_text(source)
    with pytest.raises((AssertionError, NameError)):
        runs_with_only_torch("loss", functions(file))
