"""Makes inputs with atheris, which keeps those that reach a new branch of our code, until a time is over.

It ends its process, so each run is one: `python -m tests.fuzz.guided NAME SECONDS DIRECTORY`, where the directory holds
the seeds, and afterwards the input that broke a property.
"""

import re
import subprocess
import sys
import tempfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tests.fuzz.run import Run
from tests.fuzz.target import Target

HAS_ATHERIS: Final = find_spec("atheris") is not None
"""It has wheels for Linux on x86-64, and for Python up to 3.13."""

_SPARE_SECONDS: Final = 60.0
"""For the start: the bot's code is instrumented first."""

_LONGEST_INPUT: Final = 16 * 1024
_SLOWEST_SECONDS: Final = 5
"""An input that takes longer breaks a property too: the event loop would stand still."""

_COUNT: Final = re.compile(rb"stat::number_of_executed_units:\s+(\d+)|^#(\d+)\s", re.MULTILINE)


def run(target: Target, seconds: float) -> Run:
    """Run atheris in a process of its own, and read what it found."""
    with tempfile.TemporaryDirectory() as directory:
        corpus = Path(directory) / "corpus"
        corpus.mkdir()
        for number, data in enumerate(target.seeds):
            (corpus / str(number)).write_bytes(data)
        command = [sys.executable, "-m", "tests.fuzz.guided", target.name, str(seconds), directory]
        ended = subprocess.run(command, capture_output=True, check=False, timeout=seconds + _SPARE_SECONDS)  # noqa: S603 - our own words
        counts = [int(first or second) for first, second in _COUNT.findall(ended.stderr)]
        found = {path.read_bytes(): _describe(ended) for path in Path(directory).glob("found-*")}
        if ended.returncode != 0 and not found:
            found = {b"": _describe(ended)}
        return Run(tried=max(counts, default=0), broke=found)


def _describe(ended: subprocess.CompletedProcess[bytes]) -> str:
    """Return the line of a traceback that names the error, or else the last line."""
    lines = (ended.stdout + ended.stderr).decode(errors="replace").splitlines()
    errors = [
        line for line in lines if re.match(r"\s*=*\s*(Uncaught|[\w.]*(Error|Exception)\b|ERROR: libFuzzer)", line)
    ]
    return " | ".join(errors[-3:] or lines[-1:])


def main(name: str, seconds: str, directory: str) -> None:
    """Fuzz one target; does not return."""
    atheris = import_module("atheris")  # it is not installed everywhere
    with atheris.instrument_imports(include=["bot"], enable_loader_override=False):
        targets = import_module("tests.fuzz.targets").TARGETS
    target = next(each for each in targets if each.name == name)
    with target.open() as check:
        options = {
            "max_total_time": int(float(seconds)) or 1,
            "max_len": _LONGEST_INPUT,
            "timeout": _SLOWEST_SECONDS,
            "rss_limit_mb": 2048,
            "print_final_stats": 1,
            "artifact_prefix": f"{directory}/found-",
        }
        flags = [f"-{option}={value}" for option, value in options.items()]
        atheris.Setup([name, *flags, f"{directory}/corpus"], check)
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
