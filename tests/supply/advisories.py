"""Asks a public database for known vulnerabilities of the locked versions, and never takes silence for "none"."""

import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.project_checks import NotChecked, find_tool
from tests.supply.locked import DEVELOPMENT, RUNTIME

_QUESTION: Final = ("pip-audit", "--format=json", "--progress-spinner=off", "--require-hashes", "--disable-pip")


def find_vulnerable(directory: Path, *flags: str, patience_seconds: float = 300) -> str:
    """Return the locked versions with known vulnerabilities; raises NotChecked where any of them was not looked up."""
    locks = [f"--requirement={directory / lock}" for lock in (RUNTIME, DEVELOPMENT)]
    tool, *question = _QUESTION
    try:
        ended = subprocess.run(  # noqa: S603 - our own words, and flags from the command line
            [find_tool(tool) or tool, *question, *locks, *flags],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patience_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        message = f"pip-audit has no answer after {patience_seconds} s"
        raise NotChecked(message) from None
    return judge(ended.stdout, ended.stderr)


def judge(answer: str, complaint: str) -> str:
    """Return the known vulnerabilities in pip-audit's answer, whose exit code is 0 even if it could look up nothing.

    Raises NotChecked if there is no answer, or if it leaves a package out; not if it names a vulnerability.
    """
    try:
        listed: Sequence[Mapping[str, Any]] = json.loads(answer)["dependencies"]
    except (ValueError, KeyError):
        lines = complaint.strip().splitlines() or ["it says nothing"]
        message = f"pip-audit has no answer: {lines[-1]}"
        raise NotChecked(message) from None
    if found := [*_describe(listed)]:
        return "\n".join(found)
    unknown = [each["skip_reason"] for each in listed if "skip_reason" in each]
    if unknown or not listed:
        message = f"there is no answer for {len(unknown)} of {len(listed)} packages: {', '.join(unknown[:1])}"
        raise NotChecked(message)
    return ""


def _describe(listed: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for each in listed:
        for known in each.get("vulns", ()):
            fixed = ", ".join(known["fix_versions"]) or "no version"
            yield f"{each['name']} {each['version']}: {known['id']}, fixed in {fixed}"
