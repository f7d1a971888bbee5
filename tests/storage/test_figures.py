"""The figures for the operator on both engines: what waits, what is in which state, and what expires."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
import pytest_asyncio
from sqlalchemy import text, update

from bot.model.catalog import CatalogStatus, CredentialStatus, Snapshot
from bot.model.errors import DatabaseUnavailable
from bot.model.move import Changes, Move
from bot.model.submission import State, Task
from bot.storage.catalogs import Catalogs, note_stored
from bot.storage.database import Database
from bot.storage.figures import Figures, read_figures
from bot.storage.postgres import PostgresDatabase
from bot.storage.schema import CATALOGS, SUBMISSIONS
from bot.storage.sqlite import SqliteDatabase
from bot.storage.submissions import Submissions
from tests.make import ACCOUNT, CHAIN, at, make_catalog, make_key, make_new_submission, make_stored_credential

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


@pytest_asyncio.fixture(params=["sqlite", "postgresql"])
async def tables(request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """Start an empty database, once per engine."""
    if request.param == "sqlite":
        yield request.getfixturevalue("database")
        return
    database = PostgresDatabase(request.getfixturevalue("postgres_url"), time_limit=timedelta(seconds=10))
    await database.start()
    yield database
    await database.stop()


async def _submit(submissions: Submissions, number: int, task: Task, accepted_at: datetime) -> None:
    new = make_new_submission(id=f"V{number}", key=make_key(f"lake-{number}"), task=task, **at(accepted_at))
    await submissions.add(new)


async def _end(submissions: Submissions, number: int, *, reported: bool) -> None:
    submission = await submissions.find(f"V{number}")
    assert submission is not None
    [ended] = await submissions.apply(submission, Move(to=State.DENIED, at=NOW))
    if reported:
        lease = await submissions.take(ended.key)
        await submissions.apply(ended, Move(to=State.DENIED, at=NOW, changes=Changes(reported_at=NOW)), lease)


async def test_nothing_waits_in_an_empty_database(tables: Database) -> None:
    """Before the first submission and the first refresh."""
    assert await read_figures(tables, Catalogs(tables, ACCOUNT)) == Figures(
        waiting={}, oldest_waiting_at=None, unposted=0, unapproved=0, catalogs={}, refreshed_at=None, expiries={}
    )


async def test_what_waits_is_counted_by_task_with_the_oldest(tables: Database) -> None:
    """What has ended is not waiting; until its result is posted it is counted apart."""
    submissions = Submissions(tables, CHAIN)
    await _submit(submissions, 1, Task.STORE, NOW - 9 * MINUTE)
    await _submit(submissions, 2, Task.STORE, NOW - 5 * MINUTE)
    await _submit(submissions, 3, Task.STORE, NOW - 4 * MINUTE)
    await _submit(submissions, 4, Task.CHECK, NOW - 7 * MINUTE)
    await _end(submissions, 1, reported=True)
    await _end(submissions, 3, reported=False)

    figures = await read_figures(tables, Catalogs(tables, ACCOUNT))

    assert figures.waiting == {"store": 1, "check": 1}
    assert figures.oldest_waiting_at == NOW - 7 * MINUTE
    assert figures.unposted == 1


async def test_what_waits_for_an_approval_is_counted(tables: Database) -> None:
    """Among what waits."""
    submissions = Submissions(tables, CHAIN)
    for number in range(3):
        await _submit(submissions, number, Task.STORE, NOW)
    for number in range(2):
        submission = await submissions.find(f"V{number}")
        assert submission is not None
        for state in (State.VERIFYING, State.AWAITING_APPROVAL):
            [submission] = await submissions.apply(submission, Move(to=state, at=NOW))
    figures = await read_figures(tables, Catalogs(tables, ACCOUNT))
    assert (figures.waiting, figures.unapproved) == ({"store": 3}, 2)


async def test_catalogs_are_counted_by_state(tables: Database) -> None:
    """The result of a test counts more than the list; other accounts do not count."""
    catalogs = Catalogs(tables, ACCOUNT)
    listed = (
        make_catalog("bog", credential_status=CredentialStatus.PRESENT),
        make_catalog("lake", credential_status=CredentialStatus.PRESENT),
        make_catalog("pond", credential_status=CredentialStatus.ABSENT),
        make_catalog("sea", status=CatalogStatus.INACTIVE, credential_status=CredentialStatus.ABSENT),
    )
    await catalogs.save_snapshot(Snapshot(catalogs=listed, refreshed_at=NOW))
    await catalogs.save_test(make_key("lake"), CredentialStatus.INVALID, NOW)

    figures = await read_figures(tables, Catalogs(tables, ACCOUNT))

    assert figures.catalogs == {
        ("active", "present"): 1,
        ("active", "invalid"): 1,
        ("active", "absent"): 1,
        ("inactive", "absent"): 1,
    }
    assert figures.refreshed_at == NOW
    assert (await read_figures(tables, Catalogs(tables, "0" * 32))).catalogs == {}


@pytest.mark.parametrize(
    ("status", "tested_at", "is_shown"),
    [
        pytest.param(CredentialStatus.VALID, None, True, id="it works"),
        pytest.param(CredentialStatus.INVALID, None, True, id="it has stopped working"),
        pytest.param(CredentialStatus.ABSENT, None, False, id="the slot was emptied"),
        pytest.param(CredentialStatus.VALID, NOW + 91 * DAY, False, id="another one works after the expiry"),
    ],
)
async def test_only_what_is_in_the_slot_expires(
    tables: Database, status: CredentialStatus, tested_at: datetime | None, *, is_shown: bool
) -> None:
    """As the table in Slack and the reminders judge it: an alert about a replaced token would be false."""
    catalogs = Catalogs(tables, ACCOUNT)
    stored = make_stored_credential(expires_at=NOW + 90 * DAY)
    await tables.run(partial(note_stored, stored=stored))
    await catalogs.save_snapshot(Snapshot(catalogs=(make_catalog(credential_status=status),), refreshed_at=NOW))
    if tested_at is not None:
        await catalogs.save_test(stored.key, status, tested_at)

    figures = await read_figures(tables, Catalogs(tables, ACCOUNT))

    assert figures.expiries == ({"lake": NOW + 90 * DAY} if is_shown else {})


async def test_what_never_expires_or_has_no_catalog_is_left_out(tables: Database) -> None:
    """A bucket that was deleted raises no alert forever."""
    for stored in (make_stored_credential("pond", expires_at=None), make_stored_credential("gone")):
        await tables.run(partial(note_stored, stored=stored))
    await Catalogs(tables, ACCOUNT).save_snapshot(Snapshot(catalogs=(make_catalog("pond"),), refreshed_at=NOW))

    assert (await read_figures(tables, Catalogs(tables, ACCOUNT))).expiries == {}


async def test_damaged_rows_cost_nothing_else(database: SqliteDatabase) -> None:
    """SQLite keeps anything anywhere: what cannot be read is left out, and the rest is counted."""
    submissions, catalogs = Submissions(database, CHAIN), Catalogs(database, ACCOUNT)
    await _submit(submissions, 1, Task.STORE, NOW)
    await _submit(submissions, 2, Task.STORE, NOW)
    for bucket in ("lake", "pond"):
        stored = make_stored_credential(bucket, expires_at=NOW + DAY)
        await database.run(partial(note_stored, stored=stored))
    listed = (make_catalog("lake"), make_catalog("pond"))
    await catalogs.save_snapshot(Snapshot(catalogs=listed, refreshed_at=NOW))
    await database.run(
        lambda connection: (
            connection.execute(update(SUBMISSIONS).where(SUBMISSIONS.c.id == "V2").values(task="rob")),
            connection.execute(text("UPDATE submissions SET accepted_at = 'x' WHERE id = 'V2'")),
            connection.execute(update(CATALOGS).where(CATALOGS.c.bucket == "pond").values(status="odd")),
            connection.execute(text("UPDATE credentials SET stored_by = x'00' WHERE bucket = 'lake'")),
        )
    )

    figures = await read_figures(database, Catalogs(database, ACCOUNT))

    assert figures.waiting == {"store": 1, "rob": 1}
    assert figures.oldest_waiting_at == NOW
    assert figures.catalogs == {("active", "valid"): 1, ("odd", "valid"): 1}
    assert figures.expiries == {"pond": NOW + DAY}


async def test_a_database_that_is_away_is_trouble(database: SqliteDatabase) -> None:
    """The source of the gauges reports it."""
    database.stop()

    with pytest.raises(DatabaseUnavailable):
        await read_figures(database, Catalogs(database, ACCOUNT))
