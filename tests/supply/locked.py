"""What a lock file pins, and whether that is what pyproject.toml leads to."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from itertools import product
from pathlib import Path
from typing import Any, Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

Installed = Mapping[NormalizedName, Distribution]

RUNTIME: Final = Path("requirements.lock")
DEVELOPMENT: Final = Path("requirements-dev.lock")
DECLARED: Final = "pyproject.toml"
NOT_LOCKED: Final = frozenset({canonicalize_name("pip")})
"""Each virtual environment brings it; while it installs the others, it must not replace itself."""

_HASH: Final = re.compile(r"sha256:[0-9a-f]{64}")
_MACHINES: Final = [
    {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": system, "platform_system": name}
    | {"implementation_name": implementation, "platform_python_implementation": implementation_name}
    for python, (system, name), (implementation, implementation_name) in product(
        ("3.11", "3.12", "3.13", "3.14"),
        (("linux", "Linux"), ("darwin", "Darwin"), ("win32", "Windows")),
        (("cpython", "CPython"), ("pypy", "PyPy")),
    )
]
"""A lock file is for all of them, so a requirement of any of them counts."""


class NotALock(Exception):  # noqa: N818 - it says what the file is not
    """Something in the file could be installed without its hash being compared; the text says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A version that is locked, and the hashes of the files that may be installed for it."""

    name: NormalizedName
    version: Version
    hashes: tuple[str, ...]


def read_lock(text: str) -> list[Pin]:
    """Return what is pinned; raises NotALock for a range, an option, an address or a missing hash."""
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [_read_pin(line) for line in lines if line and not line.startswith("#")]


def _read_pin(line: str) -> Pin:
    wanted, *hashes = line.split(" --hash=")
    try:
        requirement = Requirement(wanted)
    except InvalidRequirement as error:
        message = f"not a package with a version: {wanted.strip()}"
        raise NotALock(message) from error
    exact = re.fullmatch(r"==([^*,]+)", str(requirement.specifier))
    if exact is None:
        message = f"no exact version: {wanted.strip()}"
        raise NotALock(message)
    if not hashes or not all(_HASH.fullmatch(each.strip()) for each in hashes):
        message = f"not only SHA-256 hashes: {wanted.strip()}"
        raise NotALock(message)
    digests = tuple(each.strip().removeprefix("sha256:") for each in hashes)
    return Pin(name=canonicalize_name(requirement.name), version=Version(exact[1]), hashes=digests)


def list_installed(*path: str) -> Installed:
    """Return the distributions of this environment, or of the directories."""
    found = distributions(path=[*path]) if path else distributions()
    return {canonicalize_name(each.metadata["Name"]): each for each in found}


def list_declared(pyproject: str, *groups: str) -> list[Requirement]:
    """Return what pyproject.toml asks for: dependencies, those of all extras, and those of the groups."""
    declared: dict[str, Any] = tomllib.loads(pyproject)
    extras = declared["project"].get("optional-dependencies", {}).values()
    grouped = [declared["dependency-groups"][group] for group in groups]
    return [Requirement(each) for listed in (declared["project"]["dependencies"], *extras, *grouped) for each in listed]


def find_disagreements(declared: Iterable[Requirement], pins: Iterable[Pin], installed: Installed) -> list[str]:
    """Return what is needed and not locked so, and what is locked and not needed.

    What a package needs is read from the installed one. One that is locked for other machines only is taken as it is.
    """
    locked = {pin.name: pin for pin in pins}
    needed: set[NormalizedName] = set()
    problems = []
    for by, requirement in list_needed(declared, installed):
        name = canonicalize_name(requirement.name)
        needed.add(name)
        if name in NOT_LOCKED:
            continue
        if name not in locked:
            problems.append(f"{by} needs {requirement}, which is not locked")
        elif not requirement.specifier.contains(locked[name].version, prereleases=True):
            problems.append(f"{by} needs {requirement}, and {locked[name].version} is locked")
    problems += [f"{name} is locked, and nothing needs it" for name in locked.keys() - needed]
    return sorted({*problems})


def find_other_versions(pins: Iterable[Pin], installed: Installed) -> list[str]:
    """Return which locked packages are not installed in the locked version: what is read from those says nothing."""
    found = {pin: installed.get(pin.name) for pin in pins}
    return [
        f"{pin.name} {pin.version} is locked, and {each.version if each else 'none'} is installed"
        for pin, each in found.items()
        if each is None or Version(each.version) != pin.version
    ]


def list_needed(declared: Iterable[Requirement], installed: Installed) -> Iterator[tuple[str, Requirement]]:
    """Yield each requirement, of whatever depth, with the name of what has it: DECLARED for the given ones."""
    waiting = [(DECLARED, requirement) for requirement in declared]
    seen: set[tuple[NormalizedName, str]] = set()
    while waiting:
        by, requirement = waiting.pop()
        yield by, requirement
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if name in installed and (name, extra) not in seen:
                seen.add((name, extra))
                waiting += [(name, each) for each in requirements_of(installed[name], extra)]


def requirements_of(distribution: Distribution, extra: str = "") -> Iterator[Requirement]:
    """Yield what a distribution, or one extra of it, needs on any machine that the lock files are for."""
    for requirement in map(Requirement, distribution.requires or ()):
        marker = requirement.marker
        if marker is None:
            if not extra:
                yield requirement
        elif any(marker.evaluate({**machine, "extra": extra}) for machine in _MACHINES):
            yield requirement
