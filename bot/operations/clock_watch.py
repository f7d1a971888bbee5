"""Corrects the bot's own clock if the machine's was wrong at the start, at a moment when that does no harm.

What depends on the bot's clock, and why a step is harmless while no submission is open:
- Deadlines and tries of submissions: there are none. Otherwise a step of 60 days would expire or keep them all.
- Which submission is newer: over HTTP, Slack's time decides. Over Socket Mode it is ours, so the clock is never set
  to before the latest record: a new Submit would count as older, and end as superseded. A record more than a day
  ahead comes from a wrong clock and is ignored (`FURTHEST_BACK`), as at the start.
- Leases use epochs instead of times. A cached value with a time in the future counts as stale. The pace of requests
  uses another clock, which is never set.
- How long a token of the bot's own was disabled before the slot is tested: a step waits until that was long enough.
  A test that comes earlier can be of what Cloudflare knew before, and the token that the slot needs be deleted.
- An open form may have to be opened again, or can be sent for longer; whether Slack gave up on it is decided by
  Slack's time (`bot.slack.inbound.lateness`).
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.model.clock import SteadyClock
from bot.model.errors import DatabaseTrouble

TOLERANCE: Final = timedelta(minutes=1)
LOOK_EVERY: Final = timedelta(seconds=15)
LOOKS: Final = 5
"""How many times in a row the clocks must differ: a machine's clock may be set twice before it is right."""

_log = structlog.get_logger()


class ClockWatch:
    """Compares the bot's clock with the one that all processes share: the machine's or the database server's."""

    def __init__(
        self,
        clock: SteadyClock,
        tell_time: Callable[[], Awaitable[datetime]],
        not_before: Callable[[datetime], Awaitable[datetime]],
        is_idle: Callable[[], Awaitable[bool]],
    ) -> None:
        """Take functions: the right time, that time moved after all records, and whether no submission is open."""
        self._clock = clock
        self._tell_time = tell_time
        self._not_before = not_before
        self._is_idle = is_idle
        self._differed = 0

    async def run(self) -> None:
        """Compare every `LOOK_EVERY`, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY.total_seconds())
            try:
                await self.look()
            except DatabaseTrouble:
                continue  # reported elsewhere

    async def look(self) -> None:
        """Compare once, and set the clock if it has differed `LOOKS` times in a row; raises DatabaseTrouble."""
        now = await self._tell_time()
        if abs(now - self._clock()) < TOLERANCE:
            self._differed = 0
            return
        self._differed += 1
        if self._differed < LOOKS:
            return
        aim = await self._not_before(now)
        step = aim - self._clock()
        if abs(step) >= TOLERANCE and await self._is_idle():  # asked last: a new submission would expire
            self._clock.set_to(aim)
            _log.warning("clock_was_off", seconds=round(step.total_seconds()))
