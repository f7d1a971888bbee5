"""The time with which a start begins: after the machine's clock was set, and not before what is recorded."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from bot.model.clock import FURTHEST_BACK
from bot.model.finding import Finding, Mark, Part
from bot.storage.submissions import Submissions

_PAUSE_LONG: Final = timedelta(seconds=10)
_WRITTEN: Final = datetime(2026, 1, 1, tzinfo=UTC)

_log = structlog.get_logger()


def read_clock() -> datetime:
    """Return the time of the machine."""
    return datetime.now(UTC)


async def wait_for_the_clock(tell: Callable[[Finding], None], read: Callable[[], datetime] = read_clock) -> None:
    """Wait until the machine's clock is after this code: a machine without one begins in 1970, and asks the network.

    Every certificate would be refused, and every key be from the future, which ends the start.
    """
    while (now := read()) < _WRITTEN:
        tell(
            Finding(
                part=Part.CLOCK,
                event="clock_not_set",
                text=f"the machine's clock says {now.isoformat(timespec='seconds')}",
                mark=Mark.FAILED,
                fix="set the clock of this machine (NTP)",
                blocks=True,
            )
        )
        await asyncio.sleep(_PAUSE_LONG.total_seconds())


async def latest_time(submissions: Submissions, now: datetime) -> datetime:
    """Return the time to start with: if the clock was set back since the last run, no delivery must wait for it."""
    latest = await not_before_what_is_recorded(submissions, now)
    if latest > now:
        _log.warning("clock_was_set_back", seconds=int((latest - now).total_seconds()))
    return latest


async def not_before_what_is_recorded(submissions: Submissions, now: datetime) -> datetime:
    """Return `now` or, if it is later, the latest recorded past time; times over a day ahead are ignored."""
    return max(now, await submissions.latest_time(until=now + FURTHEST_BACK) or now)


async def machine_time() -> datetime:
    """Return the time of the machine: with SQLite in the place of `PostgresDatabase.now`, which has to ask a server."""
    return read_clock()
