"""Time that cannot be set."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

FURTHEST_BACK: Final = timedelta(days=1)
"""What was recorded later than this from now comes from a clock that was wrong then; nobody waits until it is right."""

_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def steady_seconds() -> float:
    """Return seconds since some moment: they cannot be set, and go on while the machine sleeps, where it can tell."""
    return time.clock_gettime(_STEADY)


class SteadyClock:
    """A clock that follows no jump of the machine's: none holds a delivery or ends one early.

    It starts with the given time, by default the machine's. Where that was wrong, `set_to` says what time it is, when
    that does no harm (`bot.operations.clock_watch`).
    """

    def __init__(self, started_at: datetime | None = None, timer: Callable[[], float] = steady_seconds) -> None:
        self._timer = timer
        self.set_to(started_at or datetime.now(UTC))

    def __call__(self) -> datetime:
        """Tell the time."""
        return self._time + timedelta(seconds=self._timer() - self._at)

    def set_to(self, now: datetime) -> None:
        """Go on from this time."""
        self._at, self._time = self._timer(), now


def steady_clock(started_at: datetime | None = None) -> SteadyClock:
    """Return such a clock."""
    return SteadyClock(started_at)
