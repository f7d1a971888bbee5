"""Builds the wheel and tries it, with the locked versions, on every Python that it is for.

    python -m tests.wheels [PYTHON ...]

Without arguments, takes each one that is on this machine, and says which are not. For those as well, an index must have
a wheel of every locked version with the locked hash. Exits with 1 when anything failed.
"""

import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
LOCK: Final = ROOT / "requirements.lock"
UV: Final = Path(sys.executable).with_name("uv")
TRIAL: Final = Path(__file__).with_name("trial.py")
COMMANDS: Final = (("--version",), ("manifest",), ("check", "--help"))
VERSION_OF: Final = "import sys; print('%d.%d' % sys.version_info[:2])"


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One version of Python, and where it is on this machine."""

    version: str
    interpreter: str | None


def main(interpreters: list[str]) -> bool:
    """Try all, print a line for each, and return whether all that could be tried worked."""
    worked = True
    with tempfile.TemporaryDirectory() as name:
        wheel = build(Path(name))
        for each in list_tries(interpreters):
            print(f"Python {each.version}: ", end="", flush=True)
            try:
                print(try_wheel(each, wheel, Path(name) / each.version))
            except subprocess.CalledProcessError as error:
                worked = False
                print(f"FAILED: {' '.join(map(str, error.cmd))}\n{error.stdout}")
    return worked


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
        with suppress(OSError, subprocess.CalledProcessError):
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
    """Return what was done; raises CalledProcessError."""
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


def run(*command: str | Path) -> str:
    """Run a program in a directory without `bot`, and return what it printed."""
    with tempfile.TemporaryDirectory() as elsewhere:
        ended = subprocess.run(  # noqa: S603 - our own words
            command, cwd=elsewhere, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    return ended.stdout


if __name__ == "__main__":
    sys.exit(not main(sys.argv[1:]))
