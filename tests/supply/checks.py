"""What must hold of everything that comes from elsewhere, and of what this project hands on."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.deploy.checks import IMAGES
from tests.project_checks import Check, find_problems, lacks, run
from tests.supply.advisories import find_vulnerable
from tests.supply.bom import find_faults, make_project_bom
from tests.supply.installs import find_unlocked
from tests.supply.licences import find_refused
from tests.supply.locked import (
    DEVELOPMENT,
    RUNTIME,
    NotALock,
    Pin,
    find_disagreements,
    find_other_versions,
    list_declared,
    list_installed,
    read_lock,
)

_GROUPS: Final = {RUNTIME: ("build",), DEVELOPMENT: ("build", "dev")}


def _judge_locks(directory: Path) -> str:
    """Both files hold exact versions with hashes, those that pyproject.toml leads to, and agree."""
    try:
        pins = {lock: read_lock((directory / lock).read_text()) for lock in _GROUPS}
    except NotALock as error:
        return str(error)
    pyproject = (directory / "pyproject.toml").read_text()
    problems = [
        f"{lock}: {problem}"
        for lock, groups in _GROUPS.items()
        for problem in find_disagreements(list_declared(pyproject, *groups), pins[lock], list_installed())
    ]
    problems += [f"{pin.name}: {DEVELOPMENT} has another" for pin in pins[RUNTIME] if pin not in pins[DEVELOPMENT]]
    return "\n".join(problems)


def _of_runtime(find: Callable[[list[Pin]], list[str]]) -> Callable[[Path], str]:
    return lambda directory: "\n".join(find(read_lock((directory / RUNTIME).read_text())))


def _judge_imports_of_tests(directory: Path) -> str:
    """Let tests import what is declared for development; tools that are declared there are not imported."""
    question = ["deptry", ".", "--no-ansi", "--exclude=^[.](venv|git)$", "--ignore=DEP002,DEP004"]
    return find_problems(directory, [*question, "--known-first-party=bot", "--known-first-party=tests"])


HERE: Final = (
    Check(name="locked with hashes", run=_judge_locks),
    Check(name="locked is installed", run=_of_runtime(lambda pins: find_other_versions(pins, list_installed()))),
    Check(name="nothing else installed", run=lambda directory: "\n".join(find_unlocked(directory))),
    Check(name="deptry: bot", run=run("deptry", ".", "--no-ansi"), missing=lacks("deptry")),
    Check(name="deptry: tests", run=_judge_imports_of_tests, missing=lacks("deptry")),
    Check(name="licences", run=_of_runtime(lambda pins: find_refused(pins, list_installed()))),
    Check(name="bill of materials", run=lambda directory: "\n".join(find_faults(make_project_bom(directory)))),
    IMAGES,
)
"""Checks that ask nobody."""


def ask_for_advisories(*flags: str) -> Check:
    """Return the check that asks a public database, with more flags of pip-audit."""
    return Check(
        name="known vulnerabilities",
        run=lambda directory: find_vulnerable(directory, *flags),
        missing=lacks("pip-audit"),
    )
