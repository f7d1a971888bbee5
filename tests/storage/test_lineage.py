"""A database that is older than what was done with it ends what it holds open; any other one is left alone."""

import asyncio
import errno
import io
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Connection, text

from bot.model.errors import DatabaseUnavailable, LeaseLost
from bot.model.move import Change, Changes, Move
from bot.model.submission import Lease, State
from bot.storage.backup import back_up
from bot.storage.catalogs import Catalogs, note_stored
from bot.storage.high_water_mark import HighWaterMark, Mark
from bot.storage.jobs import Jobs
from bot.storage.lineage import Lineage
from bot.storage.migrations import VERSIONS, bring_up_to_date
from bot.storage.postgres import PostgresDatabase
from bot.storage.sqlite import SqliteDatabase
from bot.storage.submissions import Submissions
from tests.make import (
    ACCOUNT,
    CHAIN,
    LAKE,
    NOW,
    make_catalog,
    make_key,
    make_new_submission,
    make_stored_credential,
)
from tests.postgres import execute, pg_programs


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One start of the bot: its tables, its mark, and the changes that it was told of."""

    submissions: Submissions
    lineage: Lineage
    told: list[Change]

    async def record(self, name: str) -> None:
        """Record a submission for a bucket of its name."""
        await self.submissions.add(make_new_submission(id=name, key=make_key(name)))

    async def send(self, name: str) -> Lease:
        """Record a submission, and that its write may be sent: what a delivery does right before it sends."""
        await self.record(name)
        lease = await self.submissions.take(make_key(name))
        await self.store(name, lease)
        return lease

    async def store(self, name: str, lease: Lease) -> None:
        """Record that a write may be sent."""
        for to, changes in ((State.VERIFYING, Changes()), (State.STORING, Changes(possibly_written=True))):
            submission = await self.submissions.find(name)
            assert submission is not None
            assert await self.submissions.apply(submission, Move(to=to, at=NOW, changes=changes), lease)

    async def state_of(self, name: str) -> tuple[State, str | None]:
        """Return its state, and why it ended."""
        submission = await self.submissions.find(name)
        assert submission is not None
        return submission.state, submission.error_code


OPEN = (State.ACCEPTED, None)
GIVEN_UP = (State.EXPIRED, "database_restored")


def build(submissions: Submissions, mark: HighWaterMark) -> Process:
    """Join the parts, as the composition root does."""
    told: list[Change] = []
    submissions.watch(told.append)
    lineage = Lineage(submissions, mark, lambda: NOW + timedelta(minutes=1))
    submissions.settle_by(lineage.settle)
    return Process(submissions=submissions, lineage=lineage, told=told)


@asynccontextmanager
async def started(path: Path) -> AsyncIterator[Process]:
    """Start on an SQLite file, whose mark lies beside it, and settle."""
    database = SqliteDatabase(path)
    database.start()
    mark = HighWaterMark(path.with_name("mark"), is_expected=True)
    mark.open()
    process = build(Submissions(database, CHAIN, mark=mark), mark)
    await process.lineage.settle()
    yield process
    mark.close()
    database.stop()


def events(log: io.StringIO) -> list[dict[str, Any]]:
    """Return the lines about the database's lineage."""
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    names = ("database_restored", "database_timeline_changed", "high_water_mark_not_written")
    return [line for line in lines if line["event"] in names]


async def test_a_start_after_a_stop_or_a_kill_changes_nothing(migrated_path: Path, log: io.StringIO) -> None:
    """The same database, and the mark of the last write."""
    async with started(migrated_path) as process:
        await process.record("a")
        await process.send("b")
    for _ in range(2):
        async with started(migrated_path) as process:
            assert await process.state_of("a") == OPEN
    assert events(log) == []


async def test_a_mark_that_a_power_cut_set_back_changes_nothing(migrated_path: Path, log: io.StringIO) -> None:
    """It is written after the commit: the database is ahead of it, and is taken as it is."""
    mark = migrated_path.with_name("mark")
    async with started(migrated_path) as process:
        await process.record("a")
        before = mark.read_bytes()
        await process.send("b")
    mark.write_bytes(before)
    async with started(migrated_path) as process:
        assert await process.state_of("a") == OPEN
    assert events(log) == []


@pytest.mark.parametrize("lost", ["nothing", "the mark", "what the mark says"])
async def test_an_older_file_ends_what_it_holds_open(migrated_path: Path, log: io.StringIO, lost: str) -> None:
    """Once: what is recorded afterwards goes on, also after another start."""
    copy, mark = migrated_path.with_name("copy"), migrated_path.with_name("mark")
    async with started(migrated_path) as process:
        await process.record("a")
    shutil.copy(migrated_path, copy)
    async with started(migrated_path) as process:
        await process.send("newer")
    shutil.copy(copy, migrated_path)
    if lost == "the mark":
        mark.unlink()
    elif lost != "nothing":
        mark.write_bytes(b"\0" * 58)

    async with started(migrated_path) as process:
        assert await process.state_of("a") == GIVEN_UP
        assert [(change.submission.id, change.is_new_state) for change in process.told] == [("a", True)]
        await process.record("b")
    async with started(migrated_path) as process:
        assert await process.state_of("b") == OPEN
    assert [(line["event"], line["level"], line["submissions_ended"]) for line in events(log)] == [
        ("database_restored", "warning", 1)
    ]


async def test_the_same_backup_is_recognised_each_time(migrated_path: Path, log: io.StringIO) -> None:
    """Also after a restore, when the numbers begin elsewhere."""
    copy = migrated_path.with_name("copy")
    async with started(migrated_path) as process:
        await process.record("a")
    shutil.copy(migrated_path, copy)
    for newer in ("b", "c"):
        async with started(migrated_path) as process:
            await process.send(newer)
        shutil.copy(copy, migrated_path)
    async with started(migrated_path) as process:
        assert await process.state_of("a") == GIVEN_UP
    assert len(events(log)) == 2


async def test_a_backup_is_recognised_even_if_nothing_was_sent_since(migrated_path: Path, log: io.StringIO) -> None:
    """What was open in it is told as given up, and is no forged record: the audit has its end."""
    copy = migrated_path.with_name("copy")
    async with started(migrated_path) as process:
        await process.record("a")
        assert back_up(migrated_path, copy, NOW) == 1
    shutil.copy(copy, migrated_path)
    migrated_path.with_name(f"{migrated_path.name}-wal").unlink(missing_ok=True)

    async with started(migrated_path) as process:
        assert await process.state_of("a") == GIVEN_UP
        [pending] = await process.submissions.work(await process.submissions.take(make_key("a")))
        assert pending.submission.id == "a"
    assert [line["event"] for line in events(log)] == ["database_restored"]


async def test_a_backup_from_before_the_marks_is_recognised(migrated_path: Path, log: io.StringIO) -> None:
    """It has no id, but this installation has a mark. An empty database in its place is a new beginning."""
    async with started(migrated_path) as process:
        await process.record("a")
        await _run(process, "DELETE FROM origins")
    async with started(migrated_path) as process:
        assert await process.state_of("a") == GIVEN_UP
        await _run(process, "DELETE FROM origins")
        await _run(process, "DELETE FROM submissions")
    async with started(migrated_path):
        pass
    assert len(events(log)) == 1


async def test_a_first_start_of_this_version_ends_nothing(migrated_path: Path, log: io.StringIO) -> None:
    """Open submissions of the version before go on."""
    database = SqliteDatabase(migrated_path)
    database.start()
    await Submissions(database, CHAIN).add(make_new_submission(id="a", key=make_key("a")))
    database.stop()
    async with started(migrated_path) as process:
        assert await process.state_of("a") == OPEN
    assert events(log) == []


async def test_the_operator_can_say_so(migrated_path: Path) -> None:
    """For a copy of the whole directory, in which the mark is as old as the database."""
    async with started(migrated_path) as process:
        await process.record("a")
        assert await process.lineage.settle(is_told=True) == 1
        assert await process.state_of("a") == GIVEN_UP
        assert await process.lineage.settle() == 0


@pytest.mark.parametrize(
    ("way", "ending"),
    [
        ((), GIVEN_UP),
        ((State.VERIFYING,), GIVEN_UP),
        ((State.VERIFYING, State.STORING), (State.UNCERTAIN, "database_restored")),
        ((State.VERIFYING, State.STORING, State.CONFIRMING), (State.STORED, None)),
        ((State.REFUSED,), (State.REFUSED, None)),
    ],
    ids=["accepted", "verifying", "storing", "confirming", "ended"],
)
async def test_each_state_ends_as_far_as_it_is_known(
    migrated_path: Path, way: tuple[State, ...], ending: tuple[State, str | None]
) -> None:
    """A delivery that still runs, in whichever process, can record nothing more."""
    async with started(migrated_path) as process:
        await process.record("a")
        lease = await process.submissions.take(make_key("a"))
        for to in way:
            submission = await process.submissions.find("a")
            assert submission is not None
            changes = Changes(possibly_written=True) if to is State.STORING else Changes()
            await process.submissions.apply(submission, Move(to=to, at=NOW, changes=changes), lease)
        await process.lineage.settle(is_told=True)

        assert await process.state_of("a") == ending
        assert not await process.submissions.holds(lease)


async def test_one_lease_may_serve_several_writes(migrated_path: Path) -> None:
    """A delivery works off what has arrived meanwhile without taking the bucket again: each write counts."""
    copy = migrated_path.with_name("copy")
    async with started(migrated_path) as process:
        await process.record("a")
        lease = await process.submissions.take(make_key("a"))
        with closing(sqlite3.connect(migrated_path)) as reader, closing(sqlite3.connect(copy)) as to:
            reader.backup(to)
        await process.submissions.add(make_new_submission(id="newer", key=make_key("a")))
        await process.store("newer", lease)
    shutil.copy(copy, migrated_path)
    async with started(migrated_path) as process:
        assert await process.state_of("a") == GIVEN_UP


async def test_questions_about_readiness_do_not_count(migrated_path: Path) -> None:
    """A database that was put back under the running bot must not catch up by being asked whether it can be written."""
    async with started(migrated_path) as process:
        await process.record("a")
        before = await _dump(process)
        await process.send("newer")
        _put_back(migrated_path, before)
        for _ in range(5):
            await process.submissions.ping()
        lease, work = await process.submissions.take_and_read(make_key("a"))

        assert await process.state_of("a") == GIVEN_UP
        assert work is None  # what was read is no longer so
        assert not await process.submissions.holds(lease)


async def test_a_write_is_not_sent_from_a_database_that_has_just_gone_back(migrated_path: Path) -> None:
    """It is the last moment at which that can be noticed: after the lease was taken, and before anything is sent."""
    async with started(migrated_path) as process:
        await process.record("a")
        lease = await process.submissions.take(make_key("a"))
        before = await _dump(process)
        await process.send("newer")
        _put_back(migrated_path, before)
        with pytest.raises(LeaseLost):
            await process.store("a", lease)

        assert await process.state_of("a") == (State.UNCERTAIN, "database_restored")
        assert not await process.submissions.holds(lease)


async def test_another_database_with_the_same_mark_is_an_older_one(migrated_path: Path, tmp_path: Path) -> None:
    """Someone set another URL for a while: what was sent from there is not in this one."""
    async with started(migrated_path) as process:
        await process.record("a")
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "bot.sqlite"
    database = SqliteDatabase(other)
    database.start()
    mark = HighWaterMark(migrated_path.with_name("mark"), is_expected=True)
    mark.open()
    elsewhere = build(Submissions(database, CHAIN, mark=mark), mark)
    await elsewhere.lineage.settle()
    await elsewhere.send("newer")
    mark.close()
    database.stop()

    async with started(migrated_path) as process:
        assert await process.state_of("a") == GIVEN_UP


async def test_a_kill_while_the_id_is_recorded_ends_nothing(migrated_path: Path, log: io.StringIO) -> None:
    """The first start after an upgrade: before the commit, or after it and before the mark says so."""
    async with started(migrated_path) as process:
        await process.record("a")
    mark = migrated_path.with_name("mark")
    position = Mark.read(mark.read_text())
    assert position is not None
    mark.write_text(str(replace(position, is_new=True)))
    async with started(migrated_path) as process:
        assert await process.state_of("a") == OPEN
        await _run(process, "DELETE FROM origins")
    mark.write_text(str(replace(position, is_new=True)))
    async with started(migrated_path) as process:
        assert await process.state_of("a") == OPEN
        [(recorded,)] = await _read(process, "SELECT id FROM origins")
    assert recorded == position.database_id
    assert events(log) == []


@pytest.mark.parametrize("damaged", [2**62, 2**63 - 1, -1, "'text'", "1.5"])
async def test_a_damaged_number_stops_nothing(migrated_path: Path, damaged: object) -> None:
    """It counts as a restore: what is open ends, and what comes afterwards is delivered."""
    async with started(migrated_path) as process:
        await process.send("sent")
        await process.record("a")
        await _run(process, f"UPDATE origins SET sent = {damaged}")  # noqa: S608 - our own values
    async with started(migrated_path) as process:
        assert await process.state_of("a") == GIVEN_UP
        lease = await process.send("b")
        assert await process.submissions.holds(lease)


async def test_a_mark_that_cannot_be_opened_is_an_error(migrated_path: Path, tmp_path: Path) -> None:
    """A bot that went on without it would take its own database for a restored one at the next start."""
    (tmp_path / "mark").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        HighWaterMark(tmp_path / "mark", is_expected=True).open()
    HighWaterMark(tmp_path / "mark", is_expected=False).open()
    assert not (tmp_path / "elsewhere").exists()


async def test_nothing_is_sent_while_the_mark_cannot_be_written(
    migrated_path: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    """The write waits, as for a database; the operator reads why."""

    def refuse(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async with started(migrated_path) as process:
        await process.record("a")
        lease = await process.submissions.take(make_key("a"))
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", refuse)
            with pytest.raises(DatabaseUnavailable):
                await process.store("a", lease)
        assert [(line["event"], line["cause"]) for line in events(log)] == [
            ("high_water_mark_not_written", os.strerror(errno.EIO))
        ]


@pytest.mark.parametrize("content", ["", "one", "an id and more", "id number", "\0" * 58])
def test_a_file_that_is_no_mark_counts_as_none(content: str) -> None:
    """Whatever wrote it."""
    assert Mark.read(content) is None


async def _dump(process: Process) -> bytes:
    """Return the whole database, as a copy of its file would be."""

    def read(connection: Connection) -> bytes:
        return _raw(connection).serialize()

    return await process.submissions._database.run(read)


def _put_back(path: Path, image: bytes) -> None:
    """Put a copy back in place, as `.restore` of SQLite's shell does under a running bot."""
    with closing(sqlite3.connect(":memory:")) as source, closing(sqlite3.connect(path)) as target:
        source.deserialize(image[:18] + b"\1\1" + image[20:])  # in memory there is no write-ahead log
        source.backup(target)


def _raw(connection: Connection) -> sqlite3.Connection:
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    return raw


async def _read(process: Process, statement: str) -> list[Any]:
    return await process.submissions._database.run(
        lambda connection: [tuple(row) for row in connection.execute(text(statement)).all()]
    )


async def _run(process: Process, statement: str) -> None:
    await process.submissions._database.run(lambda connection: connection.execute(text(statement)).rowcount)


# PostgreSQL, with its own programs.


@pytest.fixture
def as_ordinary_role(postgres_url: str) -> Iterator[str]:
    """Return the URL of an empty database for a role that owns it, and has no other right."""
    role = f"role_{uuid4().hex}"
    execute(postgres_url, f"CREATE ROLE {role} LOGIN")
    name = urlsplit(postgres_url).path[1:]
    execute(postgres_url, f"ALTER DATABASE {name} OWNER TO {role}")
    execute(postgres_url, f"ALTER SCHEMA public OWNER TO {role}")
    yield postgres_url.replace("//postgres@", f"//{role}@")
    execute(postgres_url, f"REASSIGN OWNED BY {role} TO postgres")
    execute(postgres_url, f"DROP OWNED BY {role}")
    execute(postgres_url, f"DROP ROLE {role}")


@asynccontextmanager
async def joined(url: str, mark: HighWaterMark | None = None) -> AsyncIterator[Process]:
    """Start one of several processes on a PostgreSQL database, and settle."""
    database = PostgresDatabase(url, time_limit=timedelta(seconds=30))
    await database.start()
    jobs = Jobs(database)
    await jobs.prepare()
    mark = mark or HighWaterMark(None, is_expected=False)
    mark.open()
    process = build(Submissions(database, CHAIN, enqueue=jobs.deliver_in, mark=mark), mark)
    await process.lineage.settle()
    yield process
    mark.close()
    await database.stop()


def dump(url: str, to: Path) -> None:
    """Back up with PostgreSQL's own program, as docs/backup.md says."""
    subprocess.run([pg_programs() / "pg_dump", "--format=custom", f"--file={to}", url], check=True)  # noqa: S603 - our own words


def restore(url: str, dumped: Path, *options: str) -> None:
    """Restore over what is there, as docs/backup.md says."""
    options = options or ("--clean", "--if-exists", "--no-owner", "--single-transaction")
    command = [str(pg_programs() / "pg_restore"), *options, f"--dbname={url}", str(dumped)]
    subprocess.run(command, check=True)  # noqa: S603 - our own words


async def test_a_dump_that_was_put_back_is_recognised_once(
    as_ordinary_role: str, tmp_path: Path, log: io.StringIO
) -> None:
    """By the oids of its tables, with an ordinary role's rights; by the first process, for all."""
    async with joined(as_ordinary_role) as process:
        await process.record("a")
    dump(as_ordinary_role, tmp_path / "dump")
    async with joined(as_ordinary_role) as process:
        assert await process.state_of("a") == OPEN
    restore(as_ordinary_role, tmp_path / "dump")

    async with joined(as_ordinary_role) as first, joined(as_ordinary_role) as second:
        assert await first.state_of("a") == GIVEN_UP
        await second.record("b")
        async with joined(as_ordinary_role) as third:
            assert await third.state_of("b") == OPEN
        assert ([len(first.told), len(second.told)], len(third.told)) == ([1, 0], 0)
    assert [line["submissions_ended"] for line in events(log)] == [1]
    assert [(b,) for b in ("a", "b")] == execute(
        as_ordinary_role, "SELECT args ->> 'bucket' FROM procrastinate_jobs WHERE priority = 1 GROUP BY 1 ORDER BY 1"
    )


async def test_data_alone_can_be_put_back(as_ordinary_role: str, tmp_path: Path) -> None:
    """Into tables that were kept: the triggers of these run, without a search path."""
    async with joined(as_ordinary_role) as process:
        await process.submissions._database.run(partial(note_stored, stored=make_stored_credential()))
        await Catalogs(process.submissions._database, ACCOUNT).save_catalog(make_catalog())
    dump(as_ordinary_role, tmp_path / "dump")
    tables = execute(as_ordinary_role, "SELECT string_agg(tablename, ',') FROM pg_tables WHERE schemaname = 'public'")
    execute(as_ordinary_role, f"TRUNCATE {tables[0][0]}")
    restore(as_ordinary_role, tmp_path / "dump", "--data-only", "--single-transaction")
    assert execute(as_ordinary_role, "SELECT bucket FROM catalogs") == [(LAKE.bucket,)]


async def test_a_dump_of_before_the_upgrade_can_be_upgraded_again(as_ordinary_role: str, tmp_path: Path) -> None:
    """What only the newer version had is still there after the restore."""
    for step in VERSIONS[0].glob("000[1-4]_*.py"):
        (tmp_path / step.name).write_text(step.read_text())
    database = PostgresDatabase(as_ordinary_role, time_limit=timedelta(seconds=30))
    await database.start(migrates=False)
    await database.run(partial(bring_up_to_date, versions=[tmp_path]))
    await database.stop()
    dump(as_ordinary_role, tmp_path / "dump")
    for _ in range(2):
        async with joined(as_ordinary_role) as process:
            await process.record("a")
        restore(as_ordinary_role, tmp_path / "dump")
    assert execute(as_ordinary_role, "SELECT version_num FROM alembic_version") == [("0004",)]


async def test_a_dump_in_another_database_is_recognised(
    as_ordinary_role: str, postgres_url: str, tmp_path: Path
) -> None:
    """Restored into a new database of the same server."""
    async with joined(as_ordinary_role) as process:
        await process.record("a")
    name = f"other_{uuid4().hex}"
    execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE {urlsplit(postgres_url).path[1:]}")
    other = urlsplit(postgres_url)._replace(path=f"/{name}").geturl()
    try:
        async with joined(other) as process:
            assert await process.state_of("a") == GIVEN_UP
        async with joined(as_ordinary_role) as process:
            assert await process.state_of("a") == OPEN
    finally:
        execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


async def test_a_running_worker_recognises_that_its_database_went_back(postgres_url: str, tmp_path: Path) -> None:
    """At its next delivery, before it sends anything, although it was not restarted: by the number that it knows."""
    async with joined(postgres_url) as worker:
        await worker.record("a")
        await worker.send("b")
        execute(postgres_url, "UPDATE origins SET sent = 0")  # as data alone put back under it: no oid differs

        lease = await worker.submissions.take(make_key("a"))

        assert await worker.state_of("a") == GIVEN_UP
        assert not await worker.submissions.holds(lease)


async def test_a_mark_on_a_workers_volume_is_compared(postgres_url: str, tmp_path: Path) -> None:
    """It is found although nothing else tells; the mark of another database is ignored."""
    path = tmp_path / "mark"
    async with joined(postgres_url, HighWaterMark(path, is_expected=False)) as worker:
        await worker.record("a")
        await worker.send("b")
    path.write_text(str(Mark(database_id="0" * 32, sent=10**9)))
    async with joined(postgres_url, HighWaterMark(path, is_expected=False)) as worker:
        assert await worker.state_of("a") == OPEN
    execute(postgres_url, "UPDATE origins SET sent = 0")
    async with joined(postgres_url, HighWaterMark(path, is_expected=False)) as worker:
        assert await worker.state_of("a") == GIVEN_UP


async def test_a_promoted_standby_loses_nothing_and_is_mentioned(postgres_url: str, log: io.StringIO) -> None:
    """A timeline alone may be a failover or a recovery to an earlier time: the operator knows, and reads what to do."""
    async with joined(postgres_url) as process:
        await process.record("a")
    execute(postgres_url, "UPDATE origins SET timeline = '00000000'")
    async with joined(postgres_url) as process:
        assert await process.state_of("a") == OPEN
    async with joined(postgres_url):
        pass
    assert [line["event"] for line in events(log)] == ["database_timeline_changed"]


async def test_a_write_that_is_sent_meanwhile_is_counted(postgres_url: str) -> None:
    """The number that another process raises while a new timeline is recorded does not fall back."""
    async with joined(postgres_url) as process:
        await process.send("a")
        execute(postgres_url, "UPDATE origins SET timeline = '00000000'")
        async with await psycopg.AsyncConnection.connect(postgres_url) as other:
            await other.execute("UPDATE origins SET sent = sent + 1")
            settling = asyncio.create_task(process.lineage.settle())
            while not execute(postgres_url, "SELECT 1 FROM pg_locks WHERE NOT granted"):
                assert not settling.done()
                await asyncio.sleep(0.01)
        assert await settling == 0
    assert execute(postgres_url, "SELECT sent FROM origins") == [(2,)]


async def test_a_server_that_says_nothing_of_itself_is_no_reason(
    as_ordinary_role: str, postgres_url: str, log: io.StringIO
) -> None:
    """Rights that were taken away: what is left is compared, and nothing fails."""
    async with joined(as_ordinary_role) as process:
        await process.record("a")
    refused = ("pg_control_system()", "pg_walfile_name(pg_lsn)")
    for function in refused:
        execute(postgres_url, f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")
    for _ in range(2):
        async with joined(as_ordinary_role) as process:
            assert await process.state_of("a") == OPEN
    assert execute(as_ordinary_role, "SELECT server_id, timeline, table_oid IS NULL FROM origins") == [
        (None, None, False)
    ]
    assert events(log) == []
