"""What a process knows of the catalogs: equal to the database after every change by anyone, and cheaply so."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from sqlalchemy import Connection, text

from bot.model.catalog import CatalogStatus, CredentialStatus, Snapshot
from bot.model.errors import DatabaseUnavailable
from bot.model.known_catalogs import KnownCatalogs
from bot.model.timetable import RotationFailure
from bot.storage.catalogs import Catalogs, note_stored
from bot.storage.database import Database
from bot.storage.known_catalogs import _CHANGED, _STATE, MOST_CHANGES, CatalogReader
from bot.storage.postgres import PostgresDatabase
from bot.storage.sqlite import SqliteDatabase
from bot.storage.submissions import Submissions
from tests.make import ACCOUNT, NOW, TOKEN, make_catalog, make_key, make_stored_credential
from tests.postgres import delete_rows

SECOND = timedelta(seconds=1)
LAKE, POND = make_key("lake"), make_key("pond")

Act = Callable[[Catalogs], Awaitable[object]]


@pytest_asyncio.fixture
async def writer(tables: Database) -> Catalogs:
    """Return the records as another process writes them: a lake and a pond are listed, and stored in."""
    writer = Catalogs(tables, ACCOUNT)
    await _list("lake", "pond")(writer)
    for bucket in ("lake", "pond"):
        await tables.run(partial(note_stored, stored=make_stored_credential(bucket)))
    return writer


def _list(*buckets: str, at: timedelta = SECOND, status: CatalogStatus = CatalogStatus.ACTIVE) -> Act:
    filled = CredentialStatus.PRESENT
    listed = tuple(make_catalog(each, status=status, credential_status=filled, tested_at=None) for each in buckets)
    return lambda catalogs: catalogs.save_snapshot(Snapshot(catalogs=listed, refreshed_at=NOW + at))


def _run(statement: str) -> Act:
    def work(connection: Connection) -> None:
        connection.execute(text(statement))

    return lambda catalogs: catalogs._database.run(work)


CHANGES: dict[str, tuple[Act, list[str]]] = {
    "a credential was stored": (
        lambda catalogs: catalogs._database.run(
            partial(note_stored, stored=make_stored_credential("lake", submission_id="V2"))
        ),
        ["lake"],
    ),
    "a credential was tested": (
        lambda catalogs: catalogs.save_test(LAKE, CredentialStatus.INVALID, NOW + SECOND),
        ["lake"],
    ),
    "one of an unknown bucket was tested": (
        lambda catalogs: catalogs.save_test(make_key("bog"), CredentialStatus.VALID, NOW + SECOND),
        ["bog"],
    ),
    "a catalog was enabled": (lambda catalogs: catalogs.note_enabled(make_key("bog")), ["bog"]),
    "a catalog was requested": (
        lambda catalogs: catalogs.save_catalog(make_catalog("lake", status=CatalogStatus.INACTIVE)),
        ["lake"],
    ),
    "a reminder was posted": (
        lambda catalogs: catalogs.note_reminded(make_stored_credential("pond"), NOW),
        ["pond"],
    ),
    "a list with another one": (_list("lake", "pond", "bog"), ["bog"]),
    "a list without one": (_list("pond"), ["lake"]),
    "a list with another status": (_list("lake", status=CatalogStatus.INACTIVE), ["lake", "pond"]),
    "the same list": (_list("lake", "pond"), []),
    "all were tested": (lambda catalogs: catalogs.note_all_tested(NOW + SECOND), []),
    "an operator repaired a row": (_run("UPDATE catalogs SET status = 'inactive' WHERE bucket = 'pond'"), ["pond"]),
    "an operator deleted a row": (_run("DELETE FROM credentials WHERE bucket = 'pond'"), ["pond"]),
    "an operator wrote an unknown word": (_run("UPDATE catalogs SET status = 'great' WHERE bucket = 'pond'"), ["pond"]),
    "an operator renamed a row": (_run("UPDATE catalogs SET bucket = 'bog' WHERE bucket = 'pond'"), ["bog", "pond"]),
}


def _all(known: KnownCatalogs) -> tuple[object, ...]:
    return known.listing, known.catalogs, known.credentials


@pytest.mark.parametrize(("change", "buckets"), CHANGES.values(), ids=CHANGES)
async def test_another_process_sees_a_change_at_once(
    tables: Database, writer: Catalogs, change: Act, buckets: list[str]
) -> None:
    """By reading the buckets that changed, and no other; the same as a process that has just started."""
    reader = Catalogs(tables, ACCOUNT)
    before = [dict(each) for each in _all(await reader.catch_up())[1:]]  # type: ignore[call-overload]  # two of them
    told: list[str | None] = []
    reader.known.watch(told.append)

    await change(writer)

    known = await reader.catch_up()
    assert _all(known) == _all(await Catalogs(tables, ACCOUNT).catch_up())
    assert told == buckets
    assert (known.catalogs != before[0] or known.credentials != before[1]) is bool(buckets)
    await reader.catch_up()
    assert told in (buckets, buckets * 2)  # on PostgreSQL, what is newest may be read twice


async def test_a_change_of_another_account_is_none(tables: Database, writer: Catalogs) -> None:
    """Several accounts can share a database."""
    reader, told = Catalogs(tables, ACCOUNT), list[str | None]()
    (await reader.catch_up()).watch(told.append)
    await Catalogs(tables, "0" * 32).save_test(replace(LAKE, account_id="0" * 32), CredentialStatus.VALID, NOW)
    assert (await reader.catch_up()).catalog(LAKE) == (await writer.catch_up()).catalog(LAKE)
    assert told == []


async def test_after_many_changes_everything_is_read(tables: Database, writer: Catalogs) -> None:
    """No query has a list of 10,000 buckets."""
    reader, told = Catalogs(tables, ACCOUNT), list[str | None]()
    (await reader.catch_up()).watch(told.append)
    await _list(*(f"lake-{number:05d}" for number in range(MOST_CHANGES + 1)))(writer)
    assert len((await reader.catch_up()).catalogs) == MOST_CHANGES + 1
    assert told == [None]


async def test_an_older_database_is_read_anew(tables: Database, writer: Catalogs) -> None:
    """Someone restored it under the running process: its numbers mean other changes."""
    reader, told = Catalogs(tables, ACCOUNT), list[str | None]()
    (await reader.catch_up()).watch(told.append)
    await _list("lake", at=-SECOND)(writer)
    await _run("DELETE FROM catalog_changes")(writer)
    assert list((await reader.catch_up()).catalogs) == ["lake"]
    assert told == [None]
    await _run("DELETE FROM snapshots")(writer)
    assert (await reader.catch_up()).listing is None


async def test_what_no_trigger_notes_is_seen_within_an_hour(
    database: SqliteDatabase, pass_time: Callable[[timedelta], None]
) -> None:
    """Such as rows that were truncated, or another database that was put in the place of this one."""
    catalogs = Catalogs(database, ACCOUNT)
    await _list("lake")(catalogs)
    await catalogs.catch_up()
    await _run("DROP TRIGGER catalogs_update")(catalogs)
    await _run("UPDATE catalogs SET status = 'inactive'")(catalogs)
    pass_time(timedelta(minutes=59))
    assert (await catalogs.catch_up()).catalogs["lake"].status is CatalogStatus.ACTIVE
    pass_time(timedelta(minutes=1))
    assert (await catalogs.catch_up()).catalogs["lake"].status is CatalogStatus.INACTIVE


async def test_a_restored_database_is_read_anew(tables: Database, writer: Catalogs) -> None:
    """Its numbers and times may look like newer ones after a refresh. But it gets another id once it is found."""
    origin = "INSERT INTO origins (id, sent) VALUES ('{}', 0)"
    await _run(origin.format("before"))(writer)
    reader, told = Catalogs(tables, ACCOUNT), list[str | None]()
    (await reader.catch_up()).watch(told.append)
    await _run("DELETE FROM credentials WHERE bucket = 'lake'")(writer)
    await _run("UPDATE catalog_changes SET number = 1")(writer)  # as in the backup
    await _run("DELETE FROM origins")(writer)
    await _run(origin.format("restored"))(writer)
    assert list((await reader.catch_up()).credentials) == ["pond"]
    assert told == [None]
    await reader.catch_up()
    assert told == [None]


async def test_what_is_committed_late_is_not_missed(tables_url: str) -> None:
    """On PostgreSQL a transaction can be committed after one with a higher id was seen."""
    database = PostgresDatabase(tables_url, time_limit=timedelta(seconds=10))
    await database.start()
    await database.run(delete_rows)
    reader = Catalogs(database, ACCOUNT)
    await _list("lake", "pond")(reader)
    await reader.catch_up()
    async with await psycopg.AsyncConnection.connect(tables_url) as slow:
        await slow.execute("UPDATE catalogs SET status = 'inactive' WHERE bucket = 'lake'")
        await reader.save_test(POND, CredentialStatus.VALID, NOW)
        known = await reader.catch_up()
        assert known.catalogs["pond"].credential_status is CredentialStatus.VALID
        assert known.catalogs["lake"].status is CatalogStatus.ACTIVE
        await slow.commit()
    assert (await reader.catch_up()).catalogs["lake"].status is CatalogStatus.INACTIVE
    await database.stop()


async def test_rows_of_another_server_are_not_read_each_time(tables: Database, writer: Catalogs) -> None:
    """After a dump was restored on a new server, its numbers are far ahead of that server's."""
    await _run("UPDATE catalog_changes SET number = 4000000000000000000")(writer)
    reader, told = Catalogs(tables, ACCOUNT), list[str | None]()
    (await reader.catch_up()).watch(told.append)
    await writer.save_test(LAKE, CredentialStatus.INVALID, NOW + SECOND)
    assert (await reader.catch_up()).catalogs["lake"].credential_status is CredentialStatus.INVALID
    assert told == ["lake"]


class _Halting:
    """A database whose answers come when the test says so."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.trouble = database.trouble
        self.held: asyncio.Queue[asyncio.Event] | None = None

    async def run(self, work: Callable[[Connection], Any], afterwards: object = None) -> Any:  # noqa: ANN401 - as work's
        assert afterwards is None
        result = await self._database.run(work)
        if self.held is not None:
            answer = asyncio.Event()
            self.held.put_nowait(answer)
            await answer.wait()
        return result


async def test_an_answer_that_was_overtaken_takes_nothing_back(database: SqliteDatabase) -> None:
    """Two lookups at once: the second answer arrives first."""
    halting = _Halting(database)
    reader, writer = CatalogReader(halting, ACCOUNT), Catalogs(database, ACCOUNT)
    await _list("lake")(writer)
    await reader.catch_up()
    halting.held = held = asyncio.Queue[asyncio.Event]()
    await writer.save_test(LAKE, CredentialStatus.VALID, NOW + SECOND)
    first = asyncio.create_task(reader.catch_up())
    first_answer = await held.get()
    await writer.save_test(LAKE, CredentialStatus.INVALID, NOW + 2 * SECOND)
    second = asyncio.create_task(reader.catch_up())
    for answer, lookup in ((await held.get(), second), (first_answer, first)):
        answer.set()
        assert (await lookup).catalogs["lake"].credential_status is CredentialStatus.INVALID


async def test_all_who_wait_for_the_first_read_share_it(database: SqliteDatabase) -> None:
    """Reading 10,000 rows once for each of them would take seconds; a failure is each one's failure."""
    await _list("lake")(Catalogs(database, ACCOUNT))
    reader, told = CatalogReader(database, ACCOUNT), list[str | None]()
    reader.known.watch(told.append)
    await asyncio.gather(*(reader.catch_up() for _ in range(5)))
    assert told == [None]
    fresh = CatalogReader(database, ACCOUNT)
    await database.close()
    outcomes = await asyncio.gather(*(fresh.catch_up() for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * 3


# The plans of the queries.


async def _plan(tables: Database, statement: Any, parameters: dict[str, Any]) -> str:  # noqa: ANN401 - any statement
    """Return how the database finds the rows, although so few rows are read faster without an index."""

    def explain(connection: Connection) -> str:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        prefix = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
        bound = statement.params(parameters).compile(connection, compile_kwargs={"literal_binds": True})
        return "\n".join(str(row[-1]) for row in connection.exec_driver_sql(prefix + str(bound).replace("%", "%%")))

    return await tables.run(explain)


async def test_changes_are_found_by_an_index(tables: Database, writer: Catalogs) -> None:
    """Each lookup asks for them."""
    assert (await writer.catch_up()).listing is not None
    dialect = "sqlite" if isinstance(tables, SqliteDatabase) else "postgresql"
    changed, state = _CHANGED[dialect], _STATE[dialect]
    assert "catalog_changes_newest" in await _plan(tables, changed, {"its_account_id": ACCOUNT, "since": 5})
    plan = await _plan(tables, state, {"its_account_id": ACCOUNT})
    assert not re.search(r"SCAN (?!CONSTANT)|Seq Scan", plan), plan


@pytest.mark.parametrize(
    ("bucket", "index"), [(None, "submissions_newest"), ("lake", "submissions_history")], ids=["all", "a bucket"]
)
async def test_the_history_is_listed_without_sorting_it(tables: Database, bucket: str | None, index: str) -> None:
    """Sorting 1,000,000 submissions took 375 ms."""
    plan = await _plan(tables, Submissions.newest(ACCOUNT, bucket, 20), {})
    assert index in plan or ("submissions_newest" in plan and "Backward" in plan)  # PostgreSQL, of an empty table
    assert "TEMP B-TREE" not in plan
    assert "Sort" not in plan


MINTED = """
INSERT INTO minted_tokens (
    name, account_id, bucket, state, token_id, scope, epoch, intended_at, due_at, changed_at, was_sent, undone,
    revision, signature
) VALUES (
    '{bucket} token', '{account}', '{bucket}', '{state}', '{token}', 'bucket', 1, '2026-11-20 12:00:00.000000',
    '2026-11-20 12:00:00.000000', '2026-11-20 12:00:00.000000', TRUE, 0, 0, 'unread'
)
"""
FAILED = """
INSERT INTO rotation_failures (account_id, bucket, since, failed_at, failures, code)
VALUES ('{account}', 'lake', '2026-11-20 12:00:00.000000', '2026-11-20 13:00:00.000000', {failures}, 'throttled')
"""


def _minted(bucket: str = "lake", state: str = "proven", token: str = TOKEN.id) -> Act:
    return _run(MINTED.format(account=ACCOUNT, bucket=bucket, state=state, token=token))


async def test_what_is_ours_is_known_at_once(tables: Database, writer: Catalogs) -> None:
    """A proven token of the bot's own that is the one in the slot; not once it is replaced or over."""
    reader, lake = Catalogs(tables, ACCOUNT), make_stored_credential("lake")
    known, told = await reader.catch_up(), list[str | None]()
    known.watch(told.append)
    assert not known.is_ours(lake)
    await _minted()(writer)
    await _minted("pond", state="in_slot")(writer)
    assert (await reader.catch_up()).is_ours(lake)
    assert not known.is_ours(make_stored_credential("pond"))
    assert not known.is_ours(make_stored_credential("lake", token_id="ab" * 16))
    assert not known.is_ours(make_stored_credential("lake", token_id=None))
    assert {*told} == {"lake", "pond"}
    assert (await Catalogs(tables, ACCOUNT).catch_up()).is_ours(lake)
    await _run("UPDATE minted_tokens SET state = 'retired' WHERE bucket = 'lake'")(writer)
    assert not (await reader.catch_up()).is_ours(lake)


async def test_what_failed_is_known_at_once(tables: Database, writer: Catalogs) -> None:
    """Until something is stored in the bucket: a rotation, or what a person has pasted."""
    reader = Catalogs(tables, ACCOUNT)
    assert (await reader.catch_up()).failures == {}
    await _run(FAILED.format(account=ACCOUNT, failures=2))(writer)
    known = await reader.catch_up()
    hour = timedelta(hours=1)
    failure = RotationFailure(bucket="lake", since=NOW, failed_at=NOW + hour, failures=2, code="throttled")
    assert known.failures == (await Catalogs(tables, ACCOUNT).catch_up()).failures == {"lake": failure}
    await tables.run(partial(note_stored, stored=make_stored_credential("pond")))
    assert (await reader.catch_up()).failures == {"lake": failure}
    await tables.run(partial(note_stored, stored=make_stored_credential("lake")))
    assert (await reader.catch_up()).failures == {}


@pytest.mark.parametrize("failures", [0, -1, 2_000_000_000])
async def test_a_damaged_failure_is_set_aside(tables: Database, writer: Catalogs, failures: int) -> None:
    """The bucket counts as one that has not failed."""
    await _run(FAILED.format(account=ACCOUNT, failures=failures))(writer)
    assert (await Catalogs(tables, ACCOUNT).catch_up()).failures == {}
