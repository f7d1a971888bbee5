"""A clock that does not jump when the machine's clock is set."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

FURTHEST_BACK: Final = timedelta(days=1)
"""A recorded time further ahead than this comes from a clock that was wrong then; nothing waits for it."""

_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def steady_seconds() -> float:
    """Return seconds since an arbitrary moment, unaffected by clock changes; on Linux they include sleep."""
    return time.clock_gettime(_STEADY)


class SteadyClock:
    """A clock that ignores jumps of the machine's, which would otherwise delay a delivery or end one early.

    It starts with the given time, by default the machine's. If that was wrong, `bot.operations.clock_watch` calls
    `set_to` when that does no harm.
    """

    def __init__(self, started_at: datetime | None = None, timer: Callable[[], float] = steady_seconds) -> None:
        self._timer = timer
        self.set_to(started_at or datetime.now(UTC))

    def __call__(self) -> datetime:
        """Return the time."""
        return self._time + timedelta(seconds=self._timer() - self._at)

    def set_to(self, now: datetime) -> None:
        """Continue from this time."""
        self._at, self._time = self._timer(), now


def steady_clock(started_at: datetime | None = None) -> SteadyClock:
    """Return a SteadyClock that starts at this time."""
    return SteadyClock(started_at)
