"""What can be checked of the files for deployment without a cluster, an engine or a running systemd.

Each check runs a tool in a directory laid out like this repository. A tool that this machine lacks is reported as such.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

Command = Sequence[str]

UNIT: Final = Path("deploy", "r2-credential-bot.service")
MOST_EXPOSED: Final = 20
"""The highest exposure that `systemd-analyze security` may find, in tenths."""

_PATIENCE_SECONDS: Final = 300
_PRESENT: Final = "/bin/true"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Whether a check could run here, and what its tool found."""

    skipped: str = ""
    problems: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A tool and what it is asked about the files in a directory."""

    name: str
    run: Callable[[Path], str]
    missing: Callable[[], str]
    """Names what this machine lacks for the check, or nothing."""

    needs: Sequence[Path] = ()
    """Without these files there is nothing to check."""

    def check(self, directory: Path) -> Outcome:
        """Run the tool, if it and its files are there."""
        absent = [str(path) for path in self.needs if not (directory / path).exists()]
        lacks = self.missing() or (f"there is no {' and no '.join(absent)}" if absent else "")
        return Outcome(skipped=lacks) if lacks else Outcome(problems=self.run(directory))


def find_tool(name: str) -> str | None:
    """Return the path of a program of this environment or of the machine."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)


def _lacks(tool: str) -> Callable[[], str]:
    return lambda: "" if find_tool(tool) else f"there is no {tool} here"


@cache
def _lacks_compose() -> str:
    if find_tool("docker") is None:
        return "there is no docker here"
    return "docker has no compose plugin here" if _problems(Path(), ["docker", "compose", "version"]) else ""


def _ask(directory: Path, command: Command, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
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


def _problems(directory: Path, command: Command, environment: Mapping[str, str] | None = None) -> str:
    """Return what the tool says if it refuses, or nothing."""
    code, said = _ask(directory, command, environment)
    return "" if code == 0 else said or f"exit code {code}"


def _run(*command: str) -> Callable[[Path], str]:
    return lambda directory: _problems(directory, command)


def _ask_compose(directory: Path) -> str:
    command = ["docker", "compose", "--env-file", os.devnull, "config", "--quiet"]
    return _problems(directory, command, {"CLOUDFLARE_ACCOUNT_ID": "0" * 32})


def _verify_unit(directory: Path) -> str:
    """Verify a copy whose program exists. systemd ignores what it does not know and exits with 0: any word counts."""
    with TemporaryDirectory() as copies:
        copy = Path(copies, UNIT.name)
        copy.write_text("".join(_with_a_program((directory / UNIT).read_text())))
        code, said = _ask(directory, ["systemd-analyze", "verify", "--man=no", str(copy)])
    return said.replace(str(copy), str(UNIT)) or ("" if code == 0 else f"exit code {code}")


def _with_a_program(unit: str) -> Iterator[str]:
    for line in unit.splitlines(keepends=True):
        yield f"ExecStart={_PRESENT}\n" if line.startswith("ExecStart=") else line


def _judge_unit(directory: Path) -> str:
    question = ["security", "--no-pager", "--offline=true", f"--threshold={MOST_EXPOSED}"]
    return _problems(directory, ["systemd-analyze", *question, str(UNIT)])


_ALERTS, _ALERT_TESTS = Path("deploy", "alerts.yml"), Path("deploy", "alerts.test.yml")

CHECKS: Final = (
    Check(name="yamllint", run=_run("yamllint", "--strict", "."), missing=_lacks("yamllint")),
    Check(name="hadolint", run=_run("hadolint", "Dockerfile"), missing=_lacks("hadolint")),
    Check(
        name="compose schema",
        run=_run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"),
        missing=_lacks("check-jsonschema"),
    ),
    Check(name="docker compose config", run=_ask_compose, missing=_lacks_compose),
    Check(
        name="kubernetes-validate",
        run=_run("kubernetes-validate", "--strict", "--quiet", "deploy/kubernetes.yaml"),
        missing=_lacks("kubernetes-validate"),
    ),
    Check(name="systemd-analyze verify", run=_verify_unit, missing=_lacks("systemd-analyze")),
    Check(name="systemd-analyze security", run=_judge_unit, missing=_lacks("systemd-analyze")),
    Check(
        name="promtool check rules",
        run=_run("promtool", "check", "rules", "--lint-fatal", str(_ALERTS)),
        missing=_lacks("promtool"),
        needs=[_ALERTS],
    ),
    Check(
        name="promtool test rules",
        run=_run("promtool", "test", "rules", str(_ALERT_TESTS)),
        missing=_lacks("promtool"),
        needs=[_ALERTS, _ALERT_TESTS],
    ),
)
