"""Detects requests that Slack had given up on before they were read here: the person already saw a failure."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from bot.model.clock import steady_seconds

GIVEN_UP_AFTER: Final = timedelta(seconds=3)
"""How long Slack waits for an answer (https://docs.slack.dev/interactivity/handling-user-interaction)."""

_RESOLUTION: Final = timedelta(seconds=1)
"""Slack signs whole seconds: a request that seems 3.9 s old may be 2.9 s old."""

_LATELY: Final = timedelta(minutes=5)


class Lateness:
    """Compares, by Slack's signed time, how long a request took with the fastest recent one.

    So neither clock has to be right. Without this, a frozen gateway or a stalled network would make an old Submit look
    new.
    """

    def __init__(
        self, timer: Callable[[], float] = steady_seconds, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._timer = timer
        self._wall_clock = wall_clock
        self._smallest: float | None = None
        self._smallest_before: float | None = None
        self._began_at = timer()

    def is_given_up(self, signed_at: datetime) -> bool:
        """Return whether Slack has certainly given up on a request that it signed at that time and that arrives now."""
        now = self._timer()
        offset = now - signed_at.timestamp()
        self._turn_over(now)
        known = [each for each in (self._smallest, self._smallest_before) if each is not None]
        usual = min(known, default=now - self._wall_clock())  # nothing to compare with: assume that the clocks agree
        self._smallest = offset if self._smallest is None else min(self._smallest, offset)
        return timedelta(seconds=offset - usual) > GIVEN_UP_AFTER + _RESOLUTION

    def _turn_over(self, now: float) -> None:
        """Forget what was measured more than five to ten minutes ago: two clocks drift apart."""
        passed = timedelta(seconds=now - self._began_at)
        if passed >= _LATELY:
            self._smallest_before = self._smallest if passed < 2 * _LATELY else None
            self._smallest, self._began_at = None, now
