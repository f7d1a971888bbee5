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


def steady_clock(started_at: datetime | None = None) -> Callable[[], datetime]:
    """Return a clock that cannot be set: no jump holds a delivery or ends one early.

    It starts with the given time, by default the machine's.
    """
    started, first = steady_seconds(), started_at or datetime.now(UTC)
    return lambda: first + timedelta(seconds=steady_seconds() - started)
