"""Examines whether the package `bot` that runs is the installed one: the name is common, and Python takes the first."""

import base64
import csv
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import Distribution, distributions
from itertools import islice
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

import bot
from bot.model.finding import Check, Finding, Mark, Part

_NAME: Final = "r2-credential-bot"
_PACKAGE: Final = "bot"
_RECORDED: Final = re.compile(rf"^{_PACKAGE}(/|\.py,)", re.MULTILINE)
_MOST_NAMES: Final = 3
_OWN_ENVIRONMENT: Final = "install the bot into an environment of its own: see Installing it in README.md"


def installation_check() -> Check:
    """Return the check of the package that this process runs."""

    async def examine() -> Sequence[Finding]:
        return list(find_in_installation())

    return Check(part=Part.INSTALLATION, examine=examine)


def find_in_installation(running: Path | None = None, search_path: Sequence[str] | None = None) -> Iterator[Finding]:
    """Yield what is wrong with the installed package, or that nothing is.

    `running` is the folder of the package that runs, `search_path` where installed distributions are looked for; by
    default, those of this process.
    """
    running = running or Path(bot.__file__).parent
    path = list(sys.path if search_path is None else search_path)
    own = next(iter(distributions(name=_NAME, path=path)), None)
    if own is None:
        text = f"the bot runs from {running} and is not installed, so nothing holds its libraries to the right versions"
        yield _warn("package_not_installed", text)
        return
    faults = [*_find_shadow(own, running), *_find_others(distributions(path=path)), *_find_changes(own)]
    yield from faults or [_is_own(own, running)]


def _find_shadow(own: Distribution, running: Path) -> Iterator[Finding]:
    installed = _folder_of(own)
    if installed.resolve() != running.resolve():
        yield _warn(
            "package_shadowed",
            f"the bot runs from {running}, but is installed in {installed}",
            "start `r2-credential-bot` without PYTHONPATH, or `python -m bot` where there is no folder named bot",
        )


def _find_others(found: Iterable[Distribution]) -> Iterator[Finding]:
    names = sorted({each.name for each in found if _brings_package(each)} - {_NAME})
    if names:
        text = f"another package in this environment is named {_PACKAGE} too, and may replace files: {_some(names)}"
        yield _warn("package_shared", text)


def _find_changes(own: Distribution) -> Iterator[Finding]:
    folder = Path(str(own.locate_file("")))
    changed = [path for path, digest in _list_recorded(own) if _digest(folder / path) != digest]
    if changed:
        yield _warn("package_changed", f"files of the bot are not the installed ones: {_some(changed)}")


def _folder_of(own: Distribution) -> Path:
    """Return where the package should be: of an editable installation, only its source directory is recorded."""
    origin = json.loads(own.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        return Path(url2pathname(urlsplit(origin["url"]).path)) / _PACKAGE
    return Path(str(own.locate_file(_PACKAGE)))


def _brings_package(other: Distribution) -> bool:
    top_level = (other.read_text("top_level.txt") or "").split()
    return _PACKAGE in top_level or _RECORDED.search(other.read_text("RECORD") or "") is not None


def _list_recorded(own: Distribution) -> Iterator[tuple[str, str]]:
    """Yield each installed file of the package and its digest; from Python 3.12 on, `files` omits what is missing."""
    for path, digest, _ in csv.reader((own.read_text("RECORD") or "").splitlines()):
        if path.startswith(f"{_PACKAGE}/") and digest.startswith("sha256="):
            yield path, digest


def _digest(path: Path) -> str:
    try:
        digest = hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return ""
    return f"sha256={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(islice(names, _MOST_NAMES)) + more


def _warn(event: str, text: str, fix: str = _OWN_ENVIRONMENT) -> Finding:
    return Finding(part=Part.INSTALLATION, event=event, text=text, mark=Mark.WARNING, fix=fix)


def _is_own(own: Distribution, running: Path) -> Finding:
    return Finding(
        part=Part.INSTALLATION,
        event="package_own",
        text=f"version {own.version}, and no other package named {_PACKAGE}",
        known={"version": own.version, "folder": str(running)},
    )
