"""Time that cannot be set."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


def steady_clock(started_at: datetime | None = None) -> Callable[[], datetime]:
    """Return a clock that cannot be set: no jump holds a delivery or ends one early.

    It starts with the given time, by default the machine's, and goes on while the machine sleeps, where the system can
    tell (CLOCK_BOOTTIME).
    """
    source = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    started, first = time.clock_gettime(source), started_at or datetime.now(UTC)
    return lambda: first + timedelta(seconds=time.clock_gettime(source) - started)
