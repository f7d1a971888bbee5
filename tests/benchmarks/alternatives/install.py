"""How much is installed for a contender: the files of its packages and of all that they require."""

from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def python_bytes(packages: Iterable[str]) -> int:
    """Return the size of these packages and their requirements as they are installed here, without bytecode.

    Extras count only where a package asks for them.
    """
    return sum(_size(found) for found in _closure(Requirement(package) for package in packages).values())


def tree_bytes(directory: Path) -> int:
    """Return the size of all files under a directory, without bytecode."""
    files = (path for path in directory.rglob("*") if path.suffix != ".pyc" and not path.is_symlink())
    return sum(path.stat().st_size for path in files if path.is_file())


def _closure(wanted: Iterable[Requirement]) -> dict[str, Distribution]:
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = list(wanted)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        found.setdefault(name, distribution(name))
        for extra in ("", *sorted(requirement.extras)):
            if (name, extra) not in seen:
                seen.add((name, extra))
                waiting += _requirements(found[name], extra)
    return found


def _requirements(found: Distribution, extra: str) -> list[Requirement]:
    parsed = [Requirement(line) for line in found.requires or ()]
    return [each for each in parsed if each.marker is None or each.marker.evaluate({"extra": extra})]


def _size(found: Distribution) -> int:
    files = [Path(str(file.locate())) for file in found.files or () if file.suffix != ".pyc"]
    return sum(path.stat().st_size for path in files if path.is_file())
