"""Counts events that a stranger can cause at will, so that the log grows by one line a second at most."""

import asyncio
import logging
from collections import Counter
from datetime import timedelta
from typing import Final

import structlog

PAUSE: Final = timedelta(seconds=1)

_log = structlog.get_logger()


class Tally:
    """Logs the first event at once, and those of the next second as one line with the count per reason."""

    def __init__(self, event: str, level: int = logging.WARNING) -> None:
        self._event = event
        self._level = level
        self._counts = Counter[str]()
        self._is_pausing = False

    def count(self, reason: str) -> None:
        """Count an event; needs a running loop."""
        self._counts[reason] += 1
        if not self._is_pausing:
            self._log()

    def _log(self) -> None:
        self._is_pausing = bool(self._counts)
        if self._is_pausing:
            _log.log(self._level, self._event, reasons=dict(self._counts))
            self._counts.clear()
            asyncio.get_running_loop().call_later(PAUSE.total_seconds(), self._log)
