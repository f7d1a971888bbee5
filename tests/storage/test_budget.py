"""The budget as a PostgreSQL row: it is read back as written, and no change is lost."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import pytest_asyncio
from sqlalchemy import Connection, event, text

from bot.cloudflare.budget import Budget, Limits, Urgency
from bot.cloudflare.pace import SharedPace
from bot.model.errors import DatabaseTrouble
from bot.storage.budget import PaceRows
from bot.storage.postgres import PostgresDatabase
from tests.clock import Clock

ACCOUNT, OTHER_ACCOUNT = "a" * 32, "b" * 32


@pytest_asyncio.fixture
async def shared(postgres_url: str) -> AsyncIterator[PostgresDatabase]:
    """Start a database."""
    database = PostgresDatabase(postgres_url)
    await database.start()
    yield database
    await database.stop()


async def _read(rows: PaceRows) -> tuple[Budget, datetime]:
    return await rows.change(lambda budget, now: (budget, (budget, now)))


async def _take(rows: PaceRows) -> None:
    await rows.change(lambda budget, now: (budget.take(now), None))


async def test_an_account_starts_with_a_fresh_budget(shared: PostgresDatabase) -> None:
    """Each account has a separate one."""
    mine, others = PaceRows(shared, ACCOUNT), PaceRows(shared, OTHER_ACCOUNT)
    await _take(mine)
    (my_budget, _), (other_budget, now) = await _read(mine), await _read(others)
    assert (my_budget.spent.total, other_budget.spent.total) == (1, 0)
    assert replace(other_budget, next_at=now, spent=Budget.fresh(now).spent) == Budget.fresh(now)


async def test_every_part_of_a_budget_survives(shared: PostgresDatabase) -> None:
    """To the microsecond, in UTC."""
    rows = PaceRows(shared, ACCOUNT)
    heard = Limits(quota=120, window=timedelta(seconds=10), remaining=7, resets_in=timedelta(seconds=3))

    def change(budget: Budget, now: datetime) -> tuple[Budget, Budget]:
        for _ in range(5):
            budget = budget.take(now)
        budget = replace(budget.corrected(heard, now, 1), spare=6).blocked(now + timedelta(seconds=2))
        return budget, budget

    written = await rows.change(change)
    read, _ = await _read(rows)
    assert read == written
    assert None not in (read.spare, read.resets_at, read.blocked_until)


async def test_no_change_is_lost(shared: PostgresDatabase) -> None:
    """Even if many change it at once, including the first ones."""
    processes = [PaceRows(shared, ACCOUNT) for _ in range(20)]
    await asyncio.gather(*(_take(rows) for rows in processes))
    budget, _ = await _read(processes[0])
    assert budget.spent.total == 20


async def test_a_change_takes_two_statements_and_waits_for_no_disk(shared: PostgresDatabase) -> None:
    """Each request to Cloudflare waits for one; the setting ends with the transaction."""
    rows, statements = PaceRows(shared, ACCOUNT), list[str]()
    setting = text("SHOW synchronous_commit")
    await _take(rows)

    def change(connection: Connection) -> tuple[int, object]:
        event.listen(connection, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
        rows._change(connection, lambda budget, now: (budget.take(now), None))
        return len(statements), connection.scalar(setting)

    assert await shared.run(change) == (2, "off")
    assert await shared.run(lambda connection: connection.scalar(setting)) == "on"
    budget, _ = await _read(rows)
    assert budget.spent.total == 2


async def test_a_block_holds_for_the_other_process(shared: PostgresDatabase, clock: Clock) -> None:
    """From its next turn on."""
    first, second = (SharedPace(PaceRows(shared, ACCOUNT), clock) for _ in range(2))
    assert await second.turn(Urgency.WRITE) is None
    await first.block(timedelta(minutes=5))
    back = await second.turn(Urgency.WRITE)
    assert back is not None
    assert timedelta(minutes=4, seconds=50) < back - clock() <= timedelta(minutes=5)


async def test_the_time_is_the_servers(shared: PostgresDatabase) -> None:
    """A wrong clock here changes nothing."""
    before = await shared.now()
    _, now = await _read(PaceRows(shared, ACCOUNT))
    assert before <= now <= await shared.now()


async def test_a_failing_database_is_reported(shared: PostgresDatabase, clock: Clock) -> None:
    """A turn raises; a block still holds in this process, and a later turn works."""
    pace = SharedPace(PaceRows(shared, ACCOUNT), clock)
    await shared.stop()
    with pytest.raises(DatabaseTrouble):
        await pace.turn(Urgency.WRITE)
    await pace.block(timedelta(minutes=5))
    assert await pace.turn(Urgency.WRITE) == clock() + timedelta(minutes=5)
