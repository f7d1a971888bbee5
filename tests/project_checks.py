"""Checks of the project's files by a tool: each can refuse them, or say why it was not run here."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

Command = Sequence[str]

_PATIENCE_SECONDS: Final = 300


class NotChecked(Exception):  # noqa: N818 - it says that there is no answer, not that the answer is bad
    """What a check needs is not to be had here; the text says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Whether a check could run here, and what it found."""

    skipped: str = ""
    problems: str = ""


def _nothing() -> str:
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A tool and what it is asked about the files in a directory."""

    name: str
    run: Callable[[Path], str]
    """Returns what is wrong, or nothing; raises NotChecked if that cannot be found out."""

    missing: Callable[[], str] = _nothing
    """Names what this machine lacks for the check, or nothing."""

    needs: Sequence[Path] = ()
    """Without these files there is nothing to check."""

    def check(self, directory: Path) -> Outcome:
        """Run the tool, if it and its files are there."""
        absent = [str(path) for path in self.needs if not (directory / path).exists()]
        lacks = self.missing() or (f"there is no {' and no '.join(absent)}" if absent else "")
        if lacks:
            return Outcome(skipped=lacks)
        try:
            return Outcome(problems=self.run(directory))
        except NotChecked as reason:
            return Outcome(skipped=str(reason) or "no reason given")


def report(checks: Sequence[Check], directory: Path) -> list[Outcome]:
    """Run all, print a line for each and what it found, and return their outcomes."""
    outcomes = []
    for check in checks:
        outcome = check.check(directory)
        verdict = f"skipped: {outcome.skipped}" if outcome.skipped else "refused" if outcome.problems else "ok"
        print(f"{check.name:26}{verdict}", *filter(None, [outcome.problems]), sep="\n", flush=True)
        outcomes.append(outcome)
    return outcomes


def find_tool(name: str) -> str | None:
    """Return the path of a program of this environment or of the machine."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)


def lacks(tool: str) -> Callable[[], str]:
    """Return a question that names the tool if it is not here."""
    return lambda: "" if find_tool(tool) else f"there is no {tool} here"


def ask(directory: Path, command: Command, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Return the exit code of a tool, and all that it said."""
    tool, *arguments = command
    ended = subprocess.run(  # noqa: S603 - our own words
        [find_tool(tool) or tool, *arguments],
        cwd=directory,
        env=os.environ | dict(environment or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_PATIENCE_SECONDS,
        check=False,
    )
    return ended.returncode, ended.stdout.decode(errors="replace").strip()


def find_problems(directory: Path, command: Command, environment: Mapping[str, str] | None = None) -> str:
    """Return what the tool says if it refuses, or nothing."""
    code, said = ask(directory, command, environment)
    return "" if code == 0 else said or f"exit code {code}"


def run(*command: str) -> Callable[[Path], str]:
    """Return a check that is one call of a tool."""
    return lambda directory: find_problems(directory, command)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """A fault that a test plants into a file, and the words by which the check must name it."""

    check: str
    file: str
    good: str
    bad: str
    named: str
