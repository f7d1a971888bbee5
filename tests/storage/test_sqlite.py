"""The writer thread on real SQLite files: atomic, ordered, grouped, and no trace of erased values."""

import asyncio
import resource
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    NullPool,
    String,
    Table,
    create_engine,
    delete,
    event,
    insert,
    select,
)
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from bot.model.errors import CommitUnknown, DatabaseUnavailable
from bot.storage import sqlite
from bot.storage.database import DatabaseCorrupt
from bot.storage.sqlite import _PRAGMAS, SqliteDatabase, has_wal

METADATA = MetaData()
ENTRIES = Table(
    "entries", METADATA, Column("number", Integer, primary_key=True), Column("word", String, nullable=False)
)
MARKED = "sealed.v1.madeup.MADEUPCIPHERTEXTMADEUPCIPHERTEXT"
PATIENCE = timedelta(seconds=60)
MANY = 100
"""If each of them waited a second for a lock, patience would end."""
Work = Callable[[Connection], int]


@pytest.fixture
def entries(database_path: Path) -> Iterator[SqliteDatabase]:
    """Start a database with one small table."""
    database = SqliteDatabase(database_path, METADATA.create_all)
    database.start()
    yield database
    database.stop()


def _add(number: int, word: str = "made up") -> Work:
    def work(connection: Connection) -> int:
        connection.execute(insert(ENTRIES).values(number=number, word=word))
        return number

    return work


def _add_then_break(number: int) -> Work:
    def work(connection: Connection) -> int:
        _add(number)(connection)
        message = "made up"
        raise ValueError(message)

    return work


def _read(path: Path) -> list[int]:
    """Read what another process would see."""
    with closing(sqlite3.connect(path)) as connection:
        return [number for (number,) in connection.execute("SELECT number FROM entries ORDER BY number")]


def _files_with(directory: Path, text: str) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if text.encode() in path.read_bytes())


@asynccontextmanager
async def _busy_writer(database: SqliteDatabase) -> AsyncIterator[None]:
    """Keep the writer busy inside the block, so that all jobs given meanwhile wait together."""
    begun, released = threading.Event(), threading.Event()

    def hold(_: Connection) -> None:
        begun.set()
        released.wait(PATIENCE.total_seconds())

    holder = asyncio.create_task(database.run(hold))
    assert await asyncio.to_thread(begun.wait, PATIENCE.total_seconds())
    try:
        yield
    finally:
        released.set()
        await holder


async def _give(database: SqliteDatabase, *works: Work) -> list[asyncio.Task[int]]:
    """Pass these to the database, in this order, without waiting for any."""
    tasks = [asyncio.create_task(database.run(work)) for work in works]
    await asyncio.sleep(0)
    return tasks


async def _wait_until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while not is_so():  # noqa: ASYNC110 - a file and a queue of another thread set no event
            await asyncio.sleep(0.02)


async def test_a_result_comes_back_when_it_is_on_disk(entries: SqliteDatabase, database_path: Path) -> None:
    """By then, others see the change."""
    assert await entries.run(_add(7)) == 7
    assert _read(database_path) == [7]


async def test_a_function_runs_wholly_or_not_at_all(entries: SqliteDatabase, database_path: Path) -> None:
    """The changes of a failing function are rolled back, and the caller gets its exception."""
    with pytest.raises(ValueError, match="made up"):
        await entries.run(_add_then_break(1))
    assert _read(database_path) == []


async def test_a_database_error_comes_as_ours(entries: SqliteDatabase) -> None:
    """No error of SQLAlchemy, which quotes statement and values, leaves the module."""
    await entries.run(_add(1))
    with pytest.raises(DatabaseUnavailable) as caught:
        await entries.run(_add(1, MARKED))
    assert MARKED not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_a_failing_member_does_not_hurt_its_group(entries: SqliteDatabase, database_path: Path) -> None:
    """Each member of a failed group runs alone: once, or not at all."""
    async with _busy_writer(entries):
        tasks = await _give(entries, _add(1), _add_then_break(2), _add(1), _add(3), _add(4))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [int, ValueError, DatabaseUnavailable, int, int]
    assert _read(database_path) == [1, 3, 4]


async def test_functions_run_in_the_order_of_the_calls(entries: SqliteDatabase) -> None:
    """Also across two groups."""
    done: list[int] = []

    def note(number: int) -> Work:
        def work(_: Connection) -> int:
            done.append(number)
            return number

        return work

    async with _busy_writer(entries):
        tasks = await _give(entries, *map(note, range(300)))
    assert await asyncio.gather(*tasks) == list(range(300))
    assert done == list(range(300))


@pytest.mark.parametrize(
    ("waiting", "commits"),
    [pytest.param(1, 1, id="one"), pytest.param(127, 1, id="a full group"), pytest.param(128, 2, id="one more")],
)
async def test_waiting_functions_are_committed_together(
    entries: SqliteDatabase, database_path: Path, waiting: int, commits: int
) -> None:
    """One transaction, so one fsync, for up to 128 functions: the running one and those that arrived meanwhile."""
    counted: list[Connection] = []
    async with _busy_writer(entries):
        tasks = await _give(entries, *map(_add, range(waiting)))
        event.listen(entries._engine, "commit", counted.append)
    await asyncio.gather(*tasks)
    assert len(counted) == commits
    assert _read(database_path) == list(range(waiting))


async def test_after_a_quiet_second_nothing_erased_is_in_any_file(entries: SqliteDatabase, database_path: Path) -> None:
    """The WAL is moved into the file and truncated, and the file's freed pages hold zeros."""
    await entries.run(_add(1, MARKED))
    assert _files_with(database_path.parent, MARKED) == ["bot.sqlite-wal"]
    await entries.run(lambda connection: connection.execute(delete(ENTRIES)).rowcount)
    wal = database_path.with_name("bot.sqlite-wal")
    await _wait_until(lambda: wal.stat().st_size == 0)
    assert _files_with(database_path.parent, MARKED) == []
    await entries.run(_add(2))
    assert _read(database_path) == [2]


@dataclass(slots=True)
class SteadyAsking:
    """A database that is never idle, and the seconds that its clock shows."""

    path: Path
    seconds: float = 0.0
    database: SqliteDatabase = field(init=False)

    def __post_init__(self) -> None:
        self.database = SqliteDatabase(self.path, METADATA.create_all, clock=lambda: self.seconds)

    async def ask_for(self, seconds: float) -> None:
        """Query every half second, as a supervisor's readiness check does; the clock is simulated."""
        for _ in range(int(2 * seconds)):
            self.seconds += 0.5
            await self.database.run(lambda connection: connection.execute(select(1)).scalar_one())

    @property
    def wal_size(self) -> int:
        """Return the size of the WAL."""
        return self.path.with_name("bot.sqlite-wal").stat().st_size


@pytest.fixture
def asking(database_path: Path) -> Iterator[SteadyAsking]:
    """Start a database that is going to be queried all the time."""
    asking = SteadyAsking(database_path)
    asking.database.start()
    yield asking
    asking.database.stop()


async def test_nothing_erased_stays_for_longer_than_five_seconds(asking: SteadyAsking) -> None:
    """If there is never a quiet second, the WAL is emptied in between."""
    await asking.database.run(_add(1, MARKED))
    await asking.database.run(lambda connection: connection.execute(delete(ENTRIES)).rowcount)
    await asking.ask_for(5)
    assert asking.wal_size > 0
    await asking.ask_for(0.5)
    await _wait_until(lambda: asking.wal_size == 0)
    assert _files_with(asking.path.parent, MARKED) == []


async def test_a_checkpoint_that_a_reader_held_up_comes_after_it(asking: SteadyAsking) -> None:
    """Even without a quiet second: once the reader is gone, nothing erased is in any file."""
    await asking.database.run(_add(1, MARKED))
    with closing(sqlite3.connect(asking.path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM entries").fetchall()
        await asking.database.run(lambda connection: connection.execute(delete(ENTRIES)).rowcount)
        await asking.ask_for(6)
        assert asking.wal_size > 0
    await asking.ask_for(6)
    await _wait_until(lambda: asking.wal_size == 0)
    assert _files_with(asking.path.parent, MARKED) == []


async def test_a_checkpoint_that_a_reader_held_up_is_tried_again_in_the_next_quiet_second(
    entries: SqliteDatabase, database_path: Path
) -> None:
    """No call is needed for that."""
    await entries.run(_add(1, MARKED))
    await entries.run(lambda connection: connection.execute(delete(ENTRIES)).rowcount)
    wal = database_path.with_name("bot.sqlite-wal")
    with closing(sqlite3.connect(database_path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM entries").fetchall()
        await entries.run(_add(2))
        await asyncio.sleep(1.2)  # a quiet second is needed
        assert wal.stat().st_size > 0
    await _wait_until(lambda: wal.stat().st_size == 0)
    assert _files_with(database_path.parent, MARKED) == []


async def test_a_reader_delays_no_one(asking: SteadyAsking) -> None:
    """A backup may read for minutes: callers do not wait for the checkpoint that it blocks."""
    await asking.database.run(_add(1))
    with closing(sqlite3.connect(asking.path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM entries").fetchall()
        await asking.database.run(_add(2))
        asking.seconds += 6
        async with asyncio.timeout(PATIENCE.total_seconds()):
            await asking.ask_for(MANY)


async def test_after_a_stop_nothing_erased_is_in_any_file(entries: SqliteDatabase, database_path: Path) -> None:
    """A copy of a stopped bot's directory has only the file, without erased values."""
    await entries.run(_add(1, MARKED))
    await entries.run(lambda connection: connection.execute(delete(ENTRIES)).rowcount)
    entries.stop()
    assert [path.name for path in database_path.parent.iterdir()] == ["bot.sqlite"]
    assert _files_with(database_path.parent, MARKED) == []


async def test_a_reader_that_blocks_the_last_checkpoint_does_no_harm(
    entries: SqliteDatabase, database_path: Path
) -> None:
    """A backup that reads while the bot stops keeps the WAL alive; nothing is lost."""
    await entries.run(_add(1))
    with closing(sqlite3.connect(database_path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM entries").fetchall()
        await entries.run(_add(2))
        await asyncio.to_thread(entries.stop)
    assert _read(database_path) == [1, 2]


async def test_only_the_owner_reads_the_files(entries: SqliteDatabase, database_path: Path) -> None:
    """The file, its WAL and its directory are closed to all others."""
    await entries.run(_add(1))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in database_path.parent.iterdir()}
    assert modes == {"bot.sqlite": 0o600, "bot.sqlite-wal": 0o600, "bot.sqlite-shm": 0o600}
    assert stat.S_IMODE(database_path.parent.stat().st_mode) == 0o700


def test_a_file_that_others_could_read_is_closed(database_path: Path) -> None:
    """A file that came from elsewhere does not keep its mode."""
    database_path.parent.mkdir()
    database_path.touch(0o644)
    database = SqliteDatabase(database_path, METADATA.create_all)
    database.start()
    database.stop()
    assert stat.S_IMODE(database_path.stat().st_mode) == 0o600


def test_no_pragma_waits_longer_than_a_call_may() -> None:
    """The driver's own patience is five seconds, in which a start that meets a locked file would answer no probe."""
    assert _PRAGMAS[0] == "PRAGMA busy_timeout = 1000"


@pytest.mark.parametrize(
    ("pragma", "expected"),
    [
        pytest.param("journal_mode", "wal", id="readers never wait"),
        pytest.param("synchronous", 2, id="FULL: a commit is on disk"),
        pytest.param("secure_delete", 1, id="what is deleted is overwritten"),
        pytest.param("busy_timeout", 1000, id="a lock is waited for a second"),
        pytest.param("foreign_keys", 1, id="foreign keys hold"),
    ],
)
async def test_the_pragmas_are_in_force(entries: SqliteDatabase, pragma: str, expected: object) -> None:
    """Checked on the connection that writes."""
    assert await entries.run(lambda connection: connection.exec_driver_sql(f"PRAGMA {pragma}").scalar()) == expected


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(
            b"this is a text, and no database at all, however long it is; made up for a test. " * 9, id="text"
        ),
        pytest.param(b"SQLite format 3\x00" + b"\xff" * 4096, id="a broken header"),
    ],
)
def test_a_file_that_is_not_a_database_is_refused_and_left_alone(database_path: Path, content: bytes) -> None:
    """It may be someone's only copy of something."""
    database_path.parent.mkdir()
    database_path.write_bytes(content)
    database = SqliteDatabase(database_path, METADATA.create_all)
    with pytest.raises(DatabaseCorrupt):
        database.start()
    database.stop()
    assert database_path.read_bytes() == content


@pytest.mark.parametrize(("vfs", "expected"), [("unix", True), ("unix-dotfile", False), ("unix-none", False)])
def test_a_file_system_without_shared_memory_is_recognized(tmp_path: Path, vfs: str, *, expected: bool) -> None:
    """As on some network disks; SQLite says nothing, and uses a mode in which a kill can lose a submission."""
    uri = f"{(tmp_path / 'bot.sqlite').as_uri()}?vfs={vfs}"
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(uri, uri=True), poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        assert has_wal(connection) is expected


def test_a_directory_in_the_place_of_the_file_is_refused(database_path: Path) -> None:
    """SQLite's message for it is not shown."""
    database_path.mkdir(parents=True)
    database = SqliteDatabase(database_path, METADATA.create_all)
    with pytest.raises(DatabaseUnavailable):
        database.start()
    database.stop()


async def test_a_locked_database_refuses_the_whole_group(entries: SqliteDatabase, database_path: Path) -> None:
    """They wait for the lock together, one second and not one after the other; then calls work again."""
    with closing(sqlite3.connect(database_path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with asyncio.timeout(PATIENCE.total_seconds()):
            results = await asyncio.gather(*await _give(entries, *map(_add, range(MANY))), return_exceptions=True)
        assert [type(result) for result in results] == [DatabaseUnavailable] * MANY
        other.execute("ROLLBACK")
    assert await entries.run(_add(99)) == 99
    assert _read(database_path) == [99]


@contextmanager
def _no_room_for(path: Path) -> Iterator[None]:
    """Make every write past the file's present end fail, as on a broken disk: SQLite calls it an I/O error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("works", "outcomes"),
    [
        pytest.param([_add(1), _add(2)], [CommitUnknown] * 2, id="of a group"),
        pytest.param([_add(1), _add_then_break(2)], [CommitUnknown, ValueError], id="of one alone"),
    ],
)
async def test_a_commit_with_an_io_error_is_unknown(
    entries: SqliteDatabase, database_path: Path, works: list[Work], outcomes: list[type[Exception]]
) -> None:
    """It may be on disk or not, so nothing is repeated; once the disk is fixed, calls work again."""
    with ExitStack() as stack:
        stack.enter_context(capture_logs())  # there is no room for a log either
        with suppress(CommitUnknown):  # the busy job is in the same group
            async with _busy_writer(entries):
                tasks = await _give(entries, *works)
                stack.enter_context(_no_room_for(database_path.with_name("bot.sqlite-wal")))
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == outcomes
    assert await entries.run(_add(99)) == 99
    assert _read(database_path) == [99]


async def test_the_operator_reads_once_why_writing_fails(entries: SqliteDatabase, database_path: Path) -> None:
    """A full disk meets every submission: the cause and the fix are logged, not a line for each."""
    await entries.run(_add(0))
    with capture_logs() as logged, _no_room_for(database_path.with_name("bot.sqlite-wal")):
        for number in (1, 2):
            with pytest.raises((CommitUnknown, DatabaseUnavailable)):
                await entries.run(_add(number, "made up" * 10_000))
    assert logged == [
        {
            "event": "sqlite_failed",
            "log_level": "error",
            "cause": "SQLITE_IOERR_WRITE",
            "setting": "R2_CREDENTIAL_DATABASE_URL",
            "fix": "check the disk that holds the database, and that it is not full",
        }
    ]


async def test_a_file_that_was_removed_is_named_as_such(entries: SqliteDatabase, database_path: Path) -> None:
    """Whatever is written to it now would be lost."""
    await entries.run(_add(0))
    database_path.rename(database_path.with_name("elsewhere"))  # noqa: ASYNC240 - one call
    with capture_logs() as logged, pytest.raises(DatabaseUnavailable):
        await entries.run(_add(1))
    [line] = logged
    assert line["cause"].startswith("FileNotFoundError")
    assert line["fix"] == (
        "the database's file was removed while the bot ran: put a backup in place (docs/backup.md), then restart"
    )


async def test_a_file_that_was_replaced_needs_a_restart(entries: SqliteDatabase, database_path: Path) -> None:
    """Someone put a backup in its place under the running bot."""
    await entries.run(_add(0))
    database_path.rename(database_path.with_name("elsewhere"))  # noqa: ASYNC240 - one call
    database_path.touch()  # noqa: ASYNC240 - one call
    with capture_logs() as logged, pytest.raises(DatabaseUnavailable):
        await entries.run(_add(1))
    assert logged[0]["fix"] == "the database's file was replaced while the bot ran: restart it"


@pytest.mark.parametrize("name", ["what?.sqlite", "50%25.sqlite", ":memory:", "a#b", "file:x"])
def test_a_path_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Nothing in it is an option of SQLite's: the file is made where the settings say."""
    monkeypatch.chdir(tmp_path)
    database = SqliteDatabase(Path(name), METADATA.create_all)
    database.start()
    database.stop()
    assert [path.name for path in tmp_path.iterdir()] == [name]


async def test_unsupported_calls_are_refused(entries: SqliteDatabase, database_path: Path) -> None:
    """It lends its connection to no one, and has none after the stop."""

    async def afterwards(_: int, __: object) -> None:
        """Do nothing."""

    with pytest.raises(NotImplementedError):
        await entries.run(_add(1), afterwards)
    entries.stop()
    with pytest.raises(DatabaseUnavailable):
        await entries.run(_add(1))
    assert _read(database_path) == []


async def test_a_cancelled_callers_work_completes(entries: SqliteDatabase, database_path: Path) -> None:
    """A caller cancelled while waiting cannot know the outcome, and the others must not be affected."""
    async with _busy_writer(entries):
        first, second = await _give(entries, _add(1), _add(2))
        first.cancel()
    assert await second == 2
    assert first.cancelled()
    assert _read(database_path) == [1, 2]


def test_work_completes_even_if_the_loop_is_gone(database_path: Path) -> None:
    """A result that can no longer be delivered does not break the thread."""
    database = SqliteDatabase(database_path, METADATA.create_all)
    database.start()
    released = threading.Event()

    def work(connection: Connection) -> int:
        released.wait(PATIENCE.total_seconds())
        return _add(1)(connection)

    async def give_and_leave() -> None:
        [task] = await _give(database, work)
        task.cancel()

    asyncio.run(give_and_leave())
    released.set()
    database.stop()
    assert _read(database_path) == [1]


@pytest.mark.parametrize("works", [0, 1, 300], ids=["nothing waits", "one waits", "groups wait"])
async def test_stop_finishes_waiting_work(entries: SqliteDatabase, database_path: Path, works: int) -> None:
    """Everything passed before the stop, and even just after its call, is on disk when it returns."""
    async with _busy_writer(entries):
        tasks = await _give(entries, *map(_add, range(works)))
        stopping = asyncio.create_task(asyncio.to_thread(entries.stop))
        await _wait_until(lambda: entries._jobs.qsize() == works + 1)
        tasks += await _give(entries, *map(_add, range(works, 2 * works)))
    await stopping
    assert await asyncio.gather(*tasks) == list(range(2 * works))
    assert _read(database_path) == list(range(2 * works))


async def test_closing_does_not_block_the_loop_while_the_disk_hangs(entries: SqliteDatabase) -> None:
    """Whoever closes it may give up; the thread goes on when the disk does."""
    goes_on = threading.Event()
    hanging = asyncio.create_task(entries.run(lambda _: goes_on.wait()))
    closing = asyncio.create_task(entries.close())
    await asyncio.sleep(0)
    assert not closing.done()
    closing.cancel()
    await asyncio.wait({closing})
    assert not hanging.done()
    goes_on.set()
    await entries.close()
    assert await hanging is True


def test_stop_may_come_twice_or_without_a_start(database_path: Path) -> None:
    """A start that failed half-way is cleaned up by the same call."""
    SqliteDatabase(database_path, METADATA.create_all).stop()
    database = SqliteDatabase(database_path, METADATA.create_all)
    database.start()
    database.stop()
    database.stop()


class _BreakingClock:
    """Raises once it is broken: a fault of ours in the middle of the thread's work."""

    is_broken = False

    def __call__(self) -> float:
        if self.is_broken:
            raise ZeroDivisionError
        return 0


async def test_a_job_that_breaks_the_thread_is_answered_as_well(
    entries: SqliteDatabase,
) -> None:
    """Its future is in no queue any more; whether it was recorded, nobody knows."""

    def break_thread(*_: object) -> None:
        raise SystemExit

    assert await entries.run(_add(1)) == 1
    with pytest.raises(CommitUnknown):
        await entries.run(break_thread)
    await asyncio.to_thread(entries._thread.join)
    with pytest.raises(DatabaseUnavailable):
        await entries.run(_add(2))


async def test_a_thread_that_breaks_leaves_nobody_waiting(database_path: Path) -> None:
    """What waited is refused, and so is what comes later: a caller that waits forever would look like a hang."""
    clock = _BreakingClock()
    database = SqliteDatabase(database_path, METADATA.create_all, clock=clock)
    database.start()
    waiting: list[asyncio.Task[int]] = []

    with capture_logs() as logs:
        async with _busy_writer(database):
            clock.is_broken = True
            waiting += await _give(database, *map(_add, range(2 * sqlite._GROUP)))
        results = await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.to_thread(database._thread.join)

    recorded = [result for result in results if isinstance(result, int)]
    assert all(isinstance(result, (int, DatabaseUnavailable)) for result in results)
    assert len(recorded) < len(results)
    assert _read(database_path) == recorded
    with pytest.raises(DatabaseUnavailable):
        await database.run(_add(-1))
    assert [(line["event"], line["error"]) for line in logs] == [("database_broke", "ZeroDivisionError")]
    database.stop()


def test_a_file_that_only_a_writer_can_read_is_opened(database_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill during a write sometimes leaves a WAL index that answers readers with SQLITE_PROTOCOL."""
    look_through, looks = sqlite._check, 0

    def look(connection: Connection) -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            error = sqlite3.OperationalError("locking protocol")
            error.sqlite_errorcode = sqlite3.SQLITE_PROTOCOL
            raise DBAPIError(None, None, error)
        look_through(connection)

    before = SqliteDatabase(database_path)
    before.start()
    before.stop()
    monkeypatch.setattr(sqlite, "_check", look)
    database = SqliteDatabase(database_path)
    database.start()
    database.stop()
    assert looks == 2
