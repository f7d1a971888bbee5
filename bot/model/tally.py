"""Counts events that a stranger can cause at will, and limits the log to one line a minute in the long run."""

import asyncio
import logging
from collections import Counter
from datetime import timedelta
from typing import Final

import structlog

from bot.model.reference import context_about

PAUSE: Final = timedelta(seconds=1)
LONGEST_PAUSE: Final = timedelta(minutes=1)

_log = structlog.get_logger()


class Tally:
    """Logs the first event of each reason at once, and then one line for each interval, with the counts.

    Each interval with an event doubles the next one, and a quiet minute resets it. So both a flood and a scanner
    with one request a second end up at one line a minute.
    """

    def __init__(self, event: str, level: int = logging.WARNING) -> None:
        self._event = event
        self._level = level
        self._counts = Counter[str]()
        self._latest: dict[str, int] = {}
        self._known: set[str] = set()

    def count(self, reason: str, **latest: int) -> None:
        """Count an event; needs a running loop. The next line carries the last values of `latest`.

        Only a line that is logged at once has the caller's reference.
        """
        self._counts[reason] += 1
        self._latest |= latest
        is_first = not self._known
        if reason not in self._known:
            self._known.add(reason)
            self._log()
        if is_first:
            self._wait(PAUSE, quiet_for=timedelta(0))

    def _log(self) -> None:
        _log.log(self._level, self._event, reasons=dict(self._counts), **self._latest)
        self._counts.clear()
        self._latest.clear()

    def _wait(self, pause: timedelta, quiet_for: timedelta) -> None:
        asyncio.get_running_loop().call_later(
            pause.total_seconds(), self._end_interval, pause, quiet_for + pause, context=context_about()
        )

    def _end_interval(self, pause: timedelta, quiet_for: timedelta) -> None:
        if self._counts:
            self._log()
            self._wait(min(2 * pause, LONGEST_PAUSE), quiet_for=timedelta(0))
        elif quiet_for < LONGEST_PAUSE:
            self._wait(pause, quiet_for)
        else:
            self._known.clear()
