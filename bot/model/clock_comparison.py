"""Compares the machine's clock with the `Date` of Cloudflare's and Slack's answers, and logs a difference."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

import structlog

TOLERANCE: Final = timedelta(minutes=1)
ANSWERS: Final = 3
"""How many answers in a row must differ: a single one may come from a cache or have been delayed."""

_AGAIN_AFTER: Final = timedelta(hours=1)

_log = structlog.get_logger()


class ClockComparison:
    """Counts, for each service, the answers that name another time. It only logs: a stranger must not set the clock."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._differing = Counter[str]()
        self._told_at: datetime | None = None

    def note(self, whose: str, date: str | None) -> None:
        """Compare the `Date` header of one answer."""
        said = _read(date)
        if said is None:
            return
        difference = said - self._clock()
        self._differing[whose] = self._differing[whose] + 1 if abs(difference) > TOLERANCE else 0
        if self._differing[whose] >= ANSWERS and not self._is_told():
            self._told_at = self._clock()
            _log.error(
                "clock_differs",
                whose=whose,
                seconds=round(difference.total_seconds()),
                setting="the machine's clock",
                fix="set it and keep it right (NTP): `timedatectl set-ntp true`, or restart its time service",
            )

    def _is_told(self) -> bool:
        return self._told_at is not None and abs(self._clock() - self._told_at) < _AGAIN_AFTER


def _read(date: str | None) -> datetime | None:
    try:
        said = parsedate_to_datetime(date or "")
    except (ValueError, OverflowError):
        return None
    return said if said.tzinfo is not None else said.replace(tzinfo=UTC)
