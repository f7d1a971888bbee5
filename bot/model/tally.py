"""Counts what happens as often as a stranger likes, so that the log grows by a line a second at most."""

import asyncio
import logging
from collections import Counter
from datetime import timedelta
from typing import Final

import structlog

PAUSE: Final = timedelta(seconds=1)

_log = structlog.get_logger()


class Tally:
    """The first time is logged at once; what follows within a second makes one line, with the count per reason."""

    def __init__(self, event: str, level: int = logging.WARNING) -> None:
        self._event = event
        self._level = level
        self._counts = Counter[str]()
        self._is_pausing = False

    def count(self, reason: str) -> None:
        """Count once more; needs a running loop."""
        self._counts[reason] += 1
        if not self._is_pausing:
            self._log()

    def _log(self) -> None:
        self._is_pausing = bool(self._counts)
        if self._is_pausing:
            _log.log(self._level, self._event, reasons=dict(self._counts))
            self._counts.clear()
            asyncio.get_running_loop().call_later(PAUSE.total_seconds(), self._log)
