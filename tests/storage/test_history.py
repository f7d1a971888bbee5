"""What is older than the history is deleted on both engines, in batches; what something still needs stays."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import Connection, insert, select

from bot.model.catalog import StoredCredential
from bot.model.minted import MintedState
from bot.model.submission import State
from bot.storage.catalogs import note_stored
from bot.storage.database import Database
from bot.storage.history import BATCH, HistoryLimit
from bot.storage.minted_rows import add_token
from bot.storage.postgres import PostgresDatabase
from bot.storage.rows import new_row
from bot.storage.schema import MINTED_TOKENS, SUBMISSIONS
from bot.storage.sqlite import SqliteDatabase
from tests.make import CHAIN, NOW, make_key, make_minted_token, make_new_submission, make_stored_credential
from tests.postgres import delete_rows

YEAR = timedelta(days=365)
OLD, YOUNG = NOW - YEAR - timedelta(days=1), NOW - YEAR + timedelta(days=1)
Add = Callable[..., object]


@pytest_asyncio.fixture(params=["sqlite", "postgresql"])
async def tables(request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """Start the bot's database on either engine."""
    if request.param == "sqlite":
        yield request.getfixturevalue("database")
        return
    database = PostgresDatabase(request.getfixturevalue("tables_url"), time_limit=timedelta(seconds=30))
    await database.start()
    await database.run(delete_rows)
    yield database
    await database.stop()


async def add(
    tables: Database,
    *names: str,
    at: datetime = OLD,
    sent_at: datetime | None = None,
    reported_at: datetime | None = OLD,
    state: State = State.REFUSED,
    reason: str = "",
) -> None:
    """Record submissions of one moment, each for the bucket of its name."""
    rows = [
        new_row(make_new_submission(id=name, key=make_key(name), reason=reason))
        | {"sent_at": sent_at or at, "accepted_at": at, "next_attempt_at": at, "expires_at": at}
        | {"state": state.value, "ended_at": reported_at, "reported_at": reported_at}
        | {"attempts": 0, "possibly_written": False, "revision": 0}
        for name in names
    ]
    await tables.run(lambda connection: connection.execute(insert(SUBMISSIONS), rows).rowcount)


async def names_in(tables: Database) -> list[str]:
    """Return the ids of what is left, in order."""
    query = select(SUBMISSIONS.c.id).order_by(SUBMISSIONS.c.sequence)
    return await tables.run(lambda connection: list(connection.scalars(query)))


async def test_only_what_nothing_needs_is_deleted(tables: Database) -> None:
    """Open, unreported, young, of a future by a wrong clock, or named by the slot's record: all that stays."""
    await add(tables, "old-1")
    await add(tables, "open", reported_at=None, state=State.ACCEPTED)
    await add(tables, "in-the-slot", state=State.STORED)
    await add(tables, "old-2", state=State.UNCERTAIN)
    await add(tables, "reported-late", reported_at=YOUNG)
    await add(tables, "sent-in-the-future", sent_at=YOUNG)
    await add(tables, "young", at=YOUNG, reported_at=YOUNG)
    await add(tables, "old-3")
    stored = make_stored_credential("in-the-slot", submission_id="in-the-slot")
    await tables.run(lambda connection: _store(connection, stored))

    deleted = await HistoryLimit(tables, YEAR).enforce(NOW)

    assert deleted == 3
    assert await names_in(tables) == ["open", "in-the-slot", "reported-late", "sent-in-the-future", "young"]


async def test_what_the_slot_no_longer_holds_is_deleted(tables: Database) -> None:
    """Only the last submission that was stored is named."""
    await add(tables, "lake")
    stored = make_stored_credential("lake", submission_id="a newer one")
    await tables.run(lambda connection: _store(connection, stored))

    assert await HistoryLimit(tables, YEAR).enforce(NOW) == 1


async def test_many_are_deleted_in_batches_and_the_rest_next_time(tables: Database) -> None:
    """One call has a limit; the next one goes on where it ended, over rows that stay."""
    await add(tables, *(f"kept-{number}" for number in range(BATCH)), reported_at=None)
    await add(tables, *(f"old-{number}" for number in range(25 * BATCH)))
    await add(tables, "young", at=YOUNG, reported_at=YOUNG)
    limit = HistoryLimit(tables, YEAR)

    deleted = [await limit.enforce(NOW) for _ in range(4)]

    assert deleted == [19 * BATCH, 6 * BATCH, 0, 0]
    assert len(await names_in(tables)) == BATCH + 1


async def test_nothing_is_deleted_of_an_empty_table(tables: Database) -> None:
    """Nor of one with young rows alone."""
    limit = HistoryLimit(tables, YEAR)
    assert await limit.enforce(NOW) == 0
    await add(tables, "young", at=YOUNG)
    assert await limit.enforce(NOW) == 0


async def test_replicas_do_not_disturb_each_other(tables: Database) -> None:
    """Each has its own place, and a row is deleted once."""
    await add(tables, *(f"old-{number}" for number in range(2 * BATCH)))
    deleted = await asyncio.gather(*(HistoryLimit(tables, YEAR).enforce(NOW) for _ in range(3)))
    assert sum(deleted) == 2 * BATCH
    assert await names_in(tables) == []


async def test_deleted_text_is_overwritten_in_the_file(database: SqliteDatabase, database_path: Path) -> None:
    """SQLite's secure_delete holds for these rows as well."""
    await add(database, "old", reason="MARKEDREASON")
    await HistoryLimit(database, YEAR).enforce(NOW)
    database.stop()
    with closing(sqlite3.connect(database_path)) as connection:
        assert connection.execute("SELECT count(*) FROM submissions").fetchone() == (0,)
    assert b"MARKEDREASON" not in b"".join(_read_all(database_path.parent))


def _read_all(directory: Path) -> list[bytes]:
    return [path.read_bytes() for path in directory.iterdir()]


def _store(connection: Connection, stored: StoredCredential) -> None:
    note_stored(connection, stored)


@pytest.mark.parametrize("state", list(MintedState))
async def test_a_token_is_forgotten_once_nothing_is_left_of_it(tables: Database, state: MintedState) -> None:
    """What may be at Cloudflare is remembered, however long ago it was made."""
    for name, changed_at in (("old", OLD), ("young", YOUNG)):
        token = replace(make_minted_token(), name=name, state=state, intended_at=OLD, due_at=OLD, changed_at=changed_at)
        await tables.run(partial(add_token, chain=CHAIN, token=token))

    await HistoryLimit(tables, YEAR).enforce(NOW)

    left = await tables.run(lambda connection: sorted(connection.scalars(select(MINTED_TOKENS.c.name))))
    assert left == (["young"] if state in (MintedState.DEAD, MintedState.GONE) else ["old", "young"])
