"""Refused attempts are in the audit, each of them, and nobody can make it grow without a bound."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Row, select

from bot.model.audit import Event
from bot.model.catalog import BucketKey
from bot.model.errors import BucketNotAllowed, DatabaseUnavailable, NotAllowed
from bot.operations.refused_attempts import MINUTE, MOST_KINDS, RefusedAttempts
from bot.policy.attempt import RefusedAttempt
from bot.policy.rules import Verb
from bot.storage.schema import AUDIT
from bot.storage.sqlite import SqliteDatabase
from tests.clock import Clock
from tests.make import CHAIN, LAKE

STRANGER = RefusedAttempt(user_id="U0MALLORY", team_id="T0SANDBOX", refusal=NotAllowed())


class Unsteady:
    """A database that fails as often as it is told to, and says when it has written."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self.failures = 0
        self.has_written = asyncio.Event()

    async def run(self, work: Callable[[Connection], Any], afterwards: object = None) -> Any:  # noqa: ANN401 - as the real one
        """Fail, or do the work."""
        if self.failures:
            self.failures -= 1
            raise DatabaseUnavailable
        result = await self._database.run(work)
        self.has_written.set()
        return result

    @property
    def trouble(self) -> Any:  # noqa: ANN401 - as the real one
        """What is wrong with the database."""
        return self._database.trouble


@pytest.fixture
def unsteady(database: SqliteDatabase) -> Unsteady:
    """Return a database that can fail."""
    return Unsteady(database)


@asynccontextmanager
async def _running(unsteady: Unsteady, clock: Clock) -> AsyncIterator[RefusedAttempts]:
    attempts = RefusedAttempts(unsteady, CHAIN, clock)
    task = asyncio.create_task(attempts.run())
    await asyncio.sleep(0)
    try:
        yield attempts
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _entries(database: SqliteDatabase) -> list[Row[Any]]:
    query = select(AUDIT).order_by(AUDIT.c.number)
    return [*await database.run(lambda connection: connection.execute(query).fetchall())]


async def test_an_attempt_says_who_what_where_and_why_not(
    database: SqliteDatabase, unsteady: Unsteady, clock: Clock
) -> None:
    """It is written at once, and is a part of the chain."""
    async with _running(unsteady, clock) as attempts:
        attempts.note(
            RefusedAttempt(
                user_id="U0ADA0001", refusal=BucketNotAllowed(), verb=Verb.STORE, key=LAKE, channel_id="C0DATAPLT"
            )
        )
        await unsteady.has_written.wait()
        [entry] = await _entries(database)
    assert (entry.event, entry.user_id, entry.channel_id) == (Event.REFUSED, "U0ADA0001", "C0DATAPLT")
    assert (entry.task, entry.bucket, entry.code) == ("store", LAKE.bucket, BucketNotAllowed.code)
    assert CHAIN.is_authentic(entry)


async def test_more_of_the_same_kind_are_one_entry_a_minute(
    database: SqliteDatabase, unsteady: Unsteady, clock: Clock
) -> None:
    """Each attempt is counted, and a flood costs two entries a minute."""
    async with _running(unsteady, clock) as attempts:
        for _ in range(1000):
            attempts.note(STRANGER)
        await unsteady.has_written.wait()
        assert len(await _entries(database)) == 1
        clock.now += MINUTE
        unsteady.has_written.clear()
        attempts.note(STRANGER)
        attempts.note(RefusedAttempt(user_id="U0OTHER01", refusal=NotAllowed()))  # wakes it
        await unsteady.has_written.wait()
        entries = await _entries(database)
    assert [entry.user_id for entry in entries] == ["U0MALLORY", "U0OTHER01", "U0MALLORY"]
    assert json.loads(entries[-1].details) == {"more": 1000}


async def test_what_is_not_written_yet_is_written_at_the_stop(
    database: SqliteDatabase, unsteady: Unsteady, clock: Clock
) -> None:
    """Also the number of the others of the last minute."""
    async with _running(unsteady, clock) as attempts:
        attempts.note(STRANGER)
        attempts.note(STRANGER)
    assert [entry.details for entry in await _entries(database)] == ["", '{"more": 1}']


async def test_without_the_database_they_wait(
    database: SqliteDatabase, unsteady: Unsteady, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """The refusal itself needs no record, so nobody notices."""
    unsteady.failures = 1
    async with _running(unsteady, clock) as attempts:
        attempts.note(STRANGER)
        await unsteady.has_written.wait()
        assert len(await _entries(database)) == 1
    assert "attempts_not_recorded" in capsys.readouterr().out


async def test_nobody_can_fill_the_memory_with_kinds(
    database: SqliteDatabase, unsteady: Unsteady, clock: Clock
) -> None:
    """Beyond so many in a minute, they are counted together."""
    async with _running(unsteady, clock) as attempts:
        for number in range(2 * MOST_KINDS):
            key = BucketKey(account_id=LAKE.account_id, bucket=f"made-up-{number}")
            attempts.note(RefusedAttempt(user_id="U0MALLORY", refusal=NotAllowed(), key=key))
        clock.now += timedelta(seconds=1)
    entries = await _entries(database)
    assert len(entries) == MOST_KINDS + 2
    assert {entry.user_id for entry in entries[MOST_KINDS:]} == {"many"}
    assert json.loads(entries[-1].details) == {"more": MOST_KINDS - 1}
