"""A clock that was wrong at the start is corrected, if nothing is open, and never to before the latest record."""

import io
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from bot.model.clock import FURTHEST_BACK, SteadyClock
from bot.operations.clock_watch import LOOKS, ClockWatch
from bot.storage.sqlite import SqliteDatabase
from bot.storage.start_clock import not_before_what_is_recorded
from bot.storage.submissions import Submissions
from tests.make import CHAIN, at, make_new_submission

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
DAYS = timedelta(days=60)
HOUR = timedelta(hours=1)


@dataclass(slots=True, kw_only=True)
class Machine:
    """A machine's clock, and the bot's own clock that started from it."""

    submissions: Submissions
    clock: SteadyClock
    watch: ClockWatch = field(init=False)
    time: datetime = NOW
    is_idle: bool = True

    def __post_init__(self) -> None:
        self.watch = ClockWatch(self.clock, self._tell_time, self._not_before, self._say_whether_idle)

    async def _tell_time(self) -> datetime:
        return self.time

    async def _not_before(self, now: datetime) -> datetime:
        return await not_before_what_is_recorded(self.submissions, now)

    async def _say_whether_idle(self) -> bool:
        return self.is_idle

    async def look(self, times: int = LOOKS) -> None:
        """Let that much time pass."""
        for _ in range(times):
            await self.watch.look()


@pytest.fixture
def machine(database: SqliteDatabase) -> Machine:
    """Start at the right time; no time passes by itself."""
    return Machine(submissions=Submissions(database, CHAIN), clock=SteadyClock(NOW, timer=lambda: 0.0))


@pytest.mark.parametrize("off", [DAYS, -DAYS, HOUR, -HOUR], ids=["60 days on", "60 days back", "on", "back"])
async def test_a_clock_that_was_wrong_is_set_once_it_has_differed_for_long(
    machine: Machine, log: io.StringIO, off: timedelta
) -> None:
    """It is set once, with a warning, and not at the first difference."""
    machine.time += off
    await machine.look(LOOKS - 1)
    assert machine.clock() == NOW
    await machine.look()
    assert machine.clock() == NOW + off
    [line] = [json.loads(line) for line in log.getvalue().splitlines()]
    assert (line["event"], line["level"], line["seconds"]) == ("clock_was_off", "warning", off.total_seconds())


async def test_a_jump_that_passes_is_not_followed(machine: Machine, log: io.StringIO) -> None:
    """A machine that wakes up may have another time for a moment."""
    for _ in range(3):
        machine.time = NOW + DAYS
        await machine.look(LOOKS - 1)
        machine.time = NOW
        await machine.look(1)
    assert (machine.clock(), log.getvalue()) == (NOW, "")


async def test_no_step_expires_an_open_submission(machine: Machine) -> None:
    """The clock is set once nothing is open."""
    machine.time += DAYS
    machine.is_idle = False
    await machine.look(100)
    assert machine.clock() == NOW
    machine.is_idle = True
    await machine.look(1)
    assert machine.clock() == NOW + DAYS


RECORDED = {
    "an hour ahead": (HOUR, HOUR),
    "a minute less than a day ahead": (FURTHEST_BACK - timedelta(minutes=1), FURTHEST_BACK - timedelta(minutes=1)),
    "two days ahead": (2 * FURTHEST_BACK, timedelta(0)),
}


@pytest.mark.parametrize(("ahead", "set_to"), RECORDED.values(), ids=RECORDED)
async def test_no_step_makes_a_new_submission_older_than_a_recorded_one(
    machine: Machine, ahead: timedelta, set_to: timedelta
) -> None:
    """It would end as superseded; a record more than a day ahead still counts as older."""
    machine.clock.set_to(NOW + 3 * FURTHEST_BACK)
    await machine.submissions.add(make_new_submission(**at(NOW + ahead)))
    await machine.look()
    assert machine.clock() == NOW + set_to
