"""Sets the bot's own clock right when the machine's was wrong at the start, once that does no harm.

What relies on the bot's clock, and why a step in a moment without open submissions does it no harm:
- Deadlines and tries of submissions: there are none. A step of 60 days would else expire them all, or keep them.
- Which submission is newer: over HTTP it is Slack's time that counts. Over Socket Mode it is ours, so the clock is not
  set back behind what is recorded: a new Submit would be taken for an older one, and end as superseded. What is more
  than a day ahead comes from a wrong clock and does not count (`FURTHEST_BACK`), as at a start.
- Leases have epochs and no times. What is remembered for a while counts as old when its time lies ahead. The pace of
  requests has a clock of its own, which is never set.
- An open form may have to be opened again, or can be sent for longer; whether Slack gave up on it is told by Slack's
  own time (`bot.slack.inbound.lateness`).
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
"""How many times in a row the clocks have to differ: a machine's clock may be set twice until it is right."""

_log = structlog.get_logger()


class ClockWatch:
    """Compares a clock with the one that all processes share: the machine's, or the database server's."""

    def __init__(
        self,
        clock: SteadyClock,
        tell_time: Callable[[], Awaitable[datetime]],
        not_before: Callable[[datetime], Awaitable[datetime]],
        is_idle: Callable[[], Awaitable[bool]],
    ) -> None:
        """Take what tells the right time, what moves that behind all that is recorded, and whether nothing is open."""
        self._clock = clock
        self._tell_time = tell_time
        self._not_before = not_before
        self._is_idle = is_idle
        self._differed = 0

    async def run(self) -> None:
        """Look again and again, until this is cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY.total_seconds())
            try:
                await self.look()
            except DatabaseTrouble:
                continue  # told elsewhere

    async def look(self) -> None:
        """Compare once, and set the clock where it has differed for long enough; raises DatabaseTrouble."""
        now = await self._tell_time()
        if abs(now - self._clock()) < TOLERANCE:
            self._differed = 0
            return
        self._differed += 1
        if self._differed < LOOKS:
            return
        aim = await self._not_before(now)
        step = aim - self._clock()
        if abs(step) >= TOLERANCE and await self._is_idle():  # asked last: what comes in meanwhile would expire
            self._clock.set_to(aim)
            _log.warning("clock_was_off", seconds=round(step.total_seconds()))
