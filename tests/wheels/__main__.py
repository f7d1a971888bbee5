"""Builds the wheel and tries it, with the locked versions, on every Python that it is for.

    python -m tests.wheels [PYTHON ...]

Without arguments, takes each one that is on this machine, and says which are not. For those as well, an index must have
a wheel of every locked version with the locked hash. Exits with 1 when anything failed.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
LOCK: Final = ROOT / "requirements.lock"
UV: Final = Path(sys.executable).with_name("uv")
TRIAL: Final = Path(__file__).with_name("trial.py")
COMMANDS: Final = (("--version",), ("manifest",), ("check", "--help"))
UV_TOOL: Final = "uv tool install --constraints requirements.lock '.[postgres]'"
VERSION_OF: Final = "import sys; print('%d.%d' % sys.version_info[:2])"


class FailedTry(Exception):  # noqa: N818 - it tells of a try, not of an error of this program
    """What was tried does not work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One version of Python, and where it is on this machine."""

    version: str
    interpreter: str | None


def main(interpreters: list[str]) -> bool:
    """Try all, print a line for each, and return whether all that could be tried worked."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        wheel = build(directory)
        tries = [
            tell(f"Python {each.version}", partial(try_wheel, each, wheel, directory / each.version))
            for each in list_tries(interpreters)
        ]
        return all([*tries, tell(UV_TOOL, partial(try_uv_tool, directory / "tool"))])


def tell(what: str, attempt: Callable[[], str]) -> bool:
    """Print what is tried and how it went, and return whether it worked."""
    print(f"{what}: ", end="", flush=True)
    try:
        print(attempt())
    except FailedTry as failure:
        print(f"FAILED: {failure}")
        return False
    return True


def list_tries(interpreters: list[str]) -> Iterator[Try]:
    """Yield what was asked for; by default, each version of the classifiers."""
    for interpreter in interpreters:
        yield Try(version=run(interpreter, "-c", VERSION_OF).strip(), interpreter=interpreter)
    if not interpreters:
        for version in list_versions():
            yield Try(version=version, interpreter=find_interpreter(version))


def find_interpreter(version: str) -> str | None:
    """Return the path of a Python that runs, in PATH or of pyenv, whose entries in PATH may lead nowhere."""
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin"))
    for directory in (*os.get_exec_path(), *map(str, pyenv)):
        with suppress(OSError, FailedTry):
            interpreter = str(Path(directory) / f"python{version}")
            if run(interpreter, "-c", VERSION_OF).strip() == version:
                return interpreter
    return None


def list_versions() -> list[str]:
    """Return the versions that the package claims to work on."""
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    versions = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("Programming Language :: Python")]
    return [version for version in versions if version.startswith("3.")]


def build(target: Path) -> Path:
    """Build the wheel from an sdist, as an index's users may."""
    run(UV, "build", "--offline", "--no-build-isolation", "--python", sys.executable, "--out-dir", target, ROOT)
    [wheel] = target.glob("*.whl")
    return wheel


def try_wheel(each: Try, wheel: Path, directory: Path) -> str:
    """Return what was done; raises FailedTry."""
    locked = directory / "locked"
    pip_download = (sys.executable, "-m", "pip", "download", "--only-binary=:all:", "--python-version", each.version)
    run(*pip_download, "--no-deps", "--require-hashes", "--requirement", LOCK, "--dest", locked)
    if each.interpreter is None:
        return f"all locked wheels exist; NOT RUN, there is no python{each.version} here"
    environment = directory / "environment"
    run(each.interpreter, "-m", "venv", environment)
    python = environment / "bin" / "python"
    install = (python, "-m", "pip", "install", "--no-index", "--no-deps")
    run(*install, "--find-links", locked, "--require-hashes", "--requirement", LOCK)
    run(*install, wheel)
    run(python, "-m", "pip", "check")
    for command in COMMANDS:
        run(environment / "bin" / "r2-credential-bot", *command)
    run(python, "-P", TRIAL)
    return "all locked wheels exist; installed, commands run, a token stored"


def try_uv_tool(directory: Path) -> str:
    """Install as the README says; raises FailedTry, for other versions than the locked ones too."""
    places = {"UV_TOOL_DIR": str(directory), "UV_TOOL_BIN_DIR": str(directory / "bin")}
    program, *arguments = shlex.split(UV_TOOL)
    run(UV.with_name(program), *arguments, "--python", sys.executable, cwd=ROOT, **places)
    run(directory / "bin" / "r2-credential-bot", "--version")
    installed = run(UV, "pip", "freeze", "--quiet", "--python", directory / "r2-credential-bot").splitlines()
    locked = re.findall(r"^\S+==\S+", LOCK.read_text(), re.MULTILINE)
    if other := {line for line in installed if "==" in line} - {*locked}:
        message = f"other versions than the locked ones: {other}"
        raise FailedTry(message)
    return "installed, the locked versions"


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """Run a program, by default in a directory without `bot`, and return what it printed."""
    with tempfile.TemporaryDirectory() as elsewhere:
        ended = subprocess.run(  # noqa: S603 - our own words
            command,
            cwd=cwd or elsewhere,
            env=os.environ | environment,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    if ended.returncode != 0:
        message = f"{shlex.join(map(str, command))}\n{ended.stdout}"
        raise FailedTry(message)
    return ended.stdout


if __name__ == "__main__":
    sys.exit(not main(sys.argv[1:]))
