"""Which commands of this project install something, and whether each compares what it gets with a locked hash."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FILES: Final = ("Makefile", "Dockerfile", ".ci/run", "compose.yaml", "deploy/*")

_FETCHES: Final = re.compile(
    r"(\bpip3?|\$\(PIP\))\s(.*\s)?(install|download|wheel)\s|\buv\s(sync|run|build|add|tool|pip install|pip sync)\s"
    r"|\b(uvx|pipx|npx|npm|curl|wget|easy_install|git clone|go install|cargo install|ADD https?:)\s"
)
_LOCKED: Final = ("--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement")
"""A source distribution with a locked hash would not do: to build it, pip fetches build tools without any."""

_BUILT_HERE: Final = ("--no-deps", "--no-build-isolation")
_NOTHING_FETCHED: Final = ("build", "--offline", "--no-build-isolation")
_ITSELF: Final = re.compile(r"\s(--editable )?\.(\s|$)")


def find_unlocked(directory: Path) -> list[str]:
    """Return the commands that would take what they get from elsewhere without comparing its hash.

    A package of Debian's is not among them: apt compares what it gets with what Debian signed.
    """
    paths = sorted(path for pattern in FILES for path in directory.glob(pattern) if path.is_file())
    return [
        f"{path.relative_to(directory)}: {command}"
        for path in paths
        for command in _list_commands(path.read_text())
        if _FETCHES.search(command) and not _is_safe(command)
    ]


def _is_safe(command: str) -> bool:
    """Say whether all that comes from elsewhere has a locked hash; the project itself comes from here."""
    words = command.split()
    is_itself = {*_BUILT_HERE} <= {*words} and _ITSELF.search(command) is not None
    return {*_LOCKED} <= {*words} or is_itself or {*_NOTHING_FETCHED} <= {*words}


def _list_commands(text: str) -> Iterator[str]:
    """Yield each simple command, and each comment that could be one, with continued lines joined."""
    for line in text.replace("\\\n", " ").splitlines():
        for command in re.split(r"&&|\|\||;|\|", line):
            yield " ".join(command.split()).lstrip("#@- ")
