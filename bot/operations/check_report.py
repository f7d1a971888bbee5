"""Prints what the command `check` finds: a line for each finding, with the fix behind it, or JSON."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, TextIO

from bot import __version__
from bot.model.finding import Finding, Mark, Part
from bot.operations.conditions import has_failed

_SIGNS: Final = {Mark.OK: "\N{CHECK MARK}", Mark.WARNING: "!", Mark.FAILED: "\N{BALLOT X}"}
_WORDS: Final = {Mark.OK: "ok", Mark.WARNING: "warning", Mark.FAILED: "FAILED"}
_COLORS: Final = {Mark.OK: "\x1b[32m", Mark.WARNING: "\x1b[33m", Mark.FAILED: "\x1b[31m"}
_NO_COLOR: Final = "\x1b[0m"
_CLEAR_LINE: Final = "\r\x1b[K"
_WIDTH: Final = max(len(part) for part in Part) + 1


class CheckReport:
    """Prints each finding as soon as it is there; on a terminal in colour, with what is being examined below."""

    def __init__(self, out: TextIO) -> None:
        """Print to `out`. Where its encoding has no tick and cross, words take their place."""
        self._out = out
        self._is_terminal = out.isatty() and os.environ.get("TERM") != "dumb"
        self._has_color = self._is_terminal and not os.environ.get("NO_COLOR")
        self._signs = _SIGNS if _can_print(out, "".join(_SIGNS.values())) else _WORDS

    def begin(self, parts: Iterable[Part]) -> None:
        """Show which parts are being examined."""
        names = ", ".join(parts)
        if self._is_terminal and names:
            self._out.write(f"{_CLEAR_LINE}  examining: {names} ...")
            self._out.flush()

    def tell(self, found: Iterable[Finding]) -> None:
        """Print findings."""
        if self._is_terminal:
            self._out.write(_CLEAR_LINE)
        for finding in found:
            sign = self._signs[finding.mark]
            if self._has_color:
                sign = f"{_COLORS[finding.mark]}{sign}{_NO_COLOR}"
            self._out.write(f"{sign} {finding.part + ':':{_WIDTH}} {_describe(finding)}\n")
        self._out.flush()

    def end(self, found: Sequence[Finding]) -> None:
        """Print how many of each there are."""
        counts = Counter(finding.mark for finding in found)
        failed, warnings = counts[Mark.FAILED], counts[Mark.WARNING]
        words = [
            f"{failed} failed" if failed else "nothing failed",
            f"{warnings} {'warning' if warnings == 1 else 'warnings'}" if warnings else "no warnings",
        ]
        self._out.write(f"{len(found)} findings: {', '.join(words)}.\n")
        self._out.flush()


def to_json(found: Sequence[Finding]) -> str:
    """Return the findings as a JSON object: `ok`, `version` and `findings`."""
    report = {
        "ok": not has_failed(found),
        "version": __version__,
        "findings": [_to_object(finding) for finding in found],
    }
    return json.dumps(report, indent=2, ensure_ascii=False, default=str)


def _to_object(finding: Finding) -> dict[str, object]:
    return {
        "part": finding.part,
        "mark": finding.mark,
        "event": finding.event,
        "text": finding.text,
        "setting": finding.setting or None,
        "fix": finding.fix or None,
        "blocks": finding.blocks,
        "known": dict(finding.known),
    }


def _describe(finding: Finding) -> str:
    """Return the sentence and the fix, in one line; the setting is named once."""
    what = finding.text.rstrip(".")
    if not finding.fix:
        names_setting = finding.mark is not Mark.OK and finding.setting and finding.setting not in what
        return f"{what} ({finding.setting})" if names_setting else what
    setting = f"{finding.setting}: " if finding.setting and finding.setting not in finding.fix else ""
    return f"{what}. Fix: {setting}{finding.fix}"


def _can_print(out: TextIO, text: str) -> bool:
    try:
        text.encode(out.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True
