"""The one budget of a stop: every stage is cut off at a time counted from the signal, whatever the others took.

What is recorded is safe to kill anywhere, so a stage that hangs costs the next start some work, and no submission.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from enum import StrEnum
from typing import Final

import structlog

LONGEST_STOP: Final = timedelta(seconds=8)
"""From the signal to the end of the process. Docker kills after 10 s unless told otherwise."""

LAST_RESORT: Final = timedelta(seconds=7.5)
"""When the process is ended from outside the event loop; the rest is for the last lines of the log."""

_GRACE: Final = timedelta(milliseconds=100)
"""How long a stage that was cut off has for its cancellation."""

_log = structlog.get_logger()


class Stage(StrEnum):
    """The stages in their order: what accepts work stops first, what stores it last."""

    ANSWERS = "answers"
    """No new payloads; those accepted are answered."""
    DELIVERIES = "deliveries"
    """Running steps finish, a write to Cloudflare above all; the next start goes on with the rest."""
    MODALS = "modals"
    """Open modals show the latest state."""
    DATABASE = "database"
    """What was handed to the database is on disk."""
    PORT = "port"
    """Health checks get their last answer."""


LATEST: Final[Mapping[Stage, timedelta]] = {
    Stage.ANSWERS: timedelta(seconds=3.5),
    Stage.DELIVERIES: timedelta(seconds=4.75),
    Stage.MODALS: timedelta(seconds=5.25),
    Stage.DATABASE: timedelta(seconds=6.9),  # a transaction on PostgreSQL may take 1.5 s
    Stage.PORT: timedelta(seconds=7.2),
}
"""When each stage is cut off. One that ends early leaves its time to the next."""


class StopBudget:
    """Counts from the first `begin`; safe to use from any thread."""

    def __init__(self, time: Callable[[], float] | None = None) -> None:
        """Take the time in seconds; by default that of the running event loop."""
        self._time = time or asyncio.get_running_loop().time
        self._began_at: float | None = None

    def begin(self) -> None:
        """Start the clock, unless it runs already."""
        if self._began_at is None:
            self._began_at = self._time()

    def left(self, until: timedelta) -> timedelta:
        """Return the time left until then: all of it before the stop begins, and zero once it has passed."""
        if self._began_at is None:
            return until
        return max(until - timedelta(seconds=self._time() - self._began_at), timedelta(0))

    @asynccontextmanager
    async def stage(self, stage: Stage) -> AsyncIterator[AsyncExitStack]:
        """Lend a stack whose callbacks are run within the stage; leaving it begins the stop."""
        stack = AsyncExitStack()
        try:
            yield stack
        finally:
            await self._close(stage, stack)

    async def _close(self, stage: Stage, stack: AsyncExitStack) -> None:
        self.begin()
        closing = asyncio.create_task(stack.aclose(), name=f"stop {stage}")
        await asyncio.wait({closing}, timeout=self.left(LATEST[stage]).total_seconds())
        if not closing.done():
            _log.warning("stop_stage_cut_off", stage=stage.value)
            closing.cancel()
            await asyncio.wait({closing}, timeout=_GRACE.total_seconds())
        if closing.done() and not closing.cancelled():
            closing.result()
