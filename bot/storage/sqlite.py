"""SQLite: one thread owns its only connection and commits all waiting work in one transaction (group commit).

One thread, since SQLite has one writer anyway; a group, since an fsync for each submission would be the bottleneck.
"""

import asyncio
import math
import queue
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError

from bot.model.errors import CommitUnknown, DatabaseTrouble, DatabaseUnavailable
from bot.storage.backup_draft import remove_stale_draft
from bot.storage.database import DatabaseBusy, DatabaseCorrupt
from bot.storage.migrations import bring_up_to_date, is_up_to_date
from bot.storage.sqlite_faults import NO_WAL, Fault, find_fault
from bot.storage.trouble import Trouble

_T = TypeVar("_T")
_GROUP: Final = 128
_IDLE_SECONDS: Final = 1.0
_LONGEST_WAL_SECONDS: Final = 5.0
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_BUSY_TIMEOUT: Final = "PRAGMA busy_timeout = 1000"
_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_USE_WAL: Final = "PRAGMA journal_mode = WAL"
_PRAGMAS: Final = (
    _BUSY_TIMEOUT,  # first, or the others would wait for the driver's 5 s, and so would the event loop during a start
    "PRAGMA synchronous = FULL",
    "PRAGMA secure_delete = ON",
    "PRAGMA foreign_keys = ON",
)
_SAY_AGAIN_SECONDS: Final = 60.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    work: Callable[[Connection], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class SqliteDatabase:
    """Runs functions that take a connection, each atomically, in the order of the calls."""

    def __init__(
        self,
        path: Path,
        set_up: Callable[[Connection], None] = bring_up_to_date,
        clock: Callable[[], float] = time.monotonic,
        *,
        is_only_examined: bool = False,
    ) -> None:
        """`is_only_examined`: what is rolled back leaves the file, its mode and its journal's as they are."""
        self._is_only_examined = is_only_examined
        self._path = path
        self._set_up = set_up
        self._clock = clock
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(name="database")
        self._engine: Engine | None = None
        self._inode = 0
        self._is_over = False
        self._ended = Future[None]()
        self._group: list[_Job] = []
        self._said_at: dict[Fault, float] = {}
        self.fault: Fault | None = None  # the latest one

    @property
    def trouble(self) -> Trouble:
        """Why the latest failed call failed, as far as that is known."""
        fault = self.fault
        if fault is None:
            return Trouble(reason="SQLite is not running", fix="restart the bot")
        return Trouble(reason=f"SQLite failed ({fault.cause})", fix=fault.fix)

    def start(self) -> None:
        """Open the file, bring its tables up to date, start the thread.

        Raises DatabaseUnavailable, DatabaseBusy while another program is writing, or DatabaseCorrupt and SchemaTooNew,
        which leave the files unchanged.
        """
        if not self._is_only_examined:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            remove_stale_draft(self._path)
        try:
            was_inspected = _inspect(self._path)
            self._engine = _engine(self._path, _PRAGMAS if self._is_only_examined else (*_PRAGMAS, _USE_WAL))
            with self._engine.begin() as connection:
                if not self._is_only_examined and not has_wal(connection):
                    self.fault = NO_WAL
                    raise DatabaseUnavailable
                if not was_inspected:
                    _check(connection)
                self._set_up(connection)
            self._inode = self._path.stat().st_ino
            if not self._is_only_examined:
                self._make_private()
            connection = self._engine.connect()  # not in the thread: a file that just went away fails the start instead
        except DBAPIError as error:
            code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
            if code in _BUSY:
                raise DatabaseBusy from None
            if code in _CORRUPT:
                raise DatabaseCorrupt from None
            self.fault = find_fault(error)
            raise DatabaseUnavailable from None
        self._ended = Future()
        self._thread = threading.Thread(target=self._serve, args=(connection,), name="database", daemon=True)
        self._thread.start()

    def _make_private(self) -> None:
        for path in (self._path, *self._path.parent.glob(self._path.name + "-*")):
            path.chmod(0o600)

    async def run(
        self, work: Callable[[Connection], _T], afterwards: Callable[[_T, Any], Awaitable[None]] | None = None
    ) -> _T:
        """Return the result of `work` once it is on disk. It runs again if another job of its group fails."""
        if afterwards is not None:
            raise NotImplementedError
        if self._is_over or not self._thread.is_alive():
            raise DatabaseUnavailable
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        self._jobs.put(_Job(work, future, loop))
        if self._is_over:  # since the check: the thread may not have seen this job, which would be awaited forever
            self._refuse_all()
        return await future

    async def close(self) -> None:
        """Do what `stop` does without blocking the event loop: a disk can hang, and the stop must not."""
        if self._thread.is_alive():
            self._jobs.put(None)
            await asyncio.shield(asyncio.wrap_future(self._ended))
        self.stop()

    def stop(self) -> None:
        """Finish the waiting work, move the WAL into the file and close."""
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join()
        if self._engine is not None:
            self._engine.dispose()

    def _serve(self, connection: Connection) -> None:
        """Run all jobs until the stop. However this ends, no caller is left waiting."""
        try:
            with connection:
                self._run_jobs(connection)
        except BaseException as error:  # noqa: BLE001 - the thread's outermost frame
            _log.critical("database_broke", error=type(error).__name__)
        finally:
            self._is_over = True
            _resolve_all([(job, None, CommitUnknown()) for job in self._group])
            self._refuse_all()
            self._ended.set_result(None)

    def _run_jobs(self, connection: Connection) -> None:
        truncate_at = self._clock() + _LONGEST_WAL_SECONDS
        while (first := self._next_job(connection)) is not None:
            self._group = [first]
            self._run_group(connection, self._group)
            self._group = []
            if self._clock() > truncate_at:
                is_done = self._truncate_wal(connection)
                truncate_at = self._clock() + (_LONGEST_WAL_SECONDS if is_done else _IDLE_SECONDS)
        self._truncate_wal(connection)

    def _truncate_wal(self, connection: Connection) -> bool:
        return self._is_only_examined or _truncate_wal(connection)

    def _refuse_all(self) -> None:
        """Refuse the jobs that wait; safe to call from any thread."""
        with suppress(queue.Empty):
            while True:
                job = self._jobs.get_nowait()
                if job is not None:
                    _resolve_all([(job, None, DatabaseUnavailable())])

    def _next_job(self, connection: Connection) -> _Job | None:
        """Wait for a job; after a quiet second empty the WAL, so that no erased ciphertext stays in it."""
        while True:
            try:
                return self._jobs.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                if self._truncate_wal(connection):
                    return self._jobs.get()

    def _run_group(self, connection: Connection, group: list[_Job]) -> None:
        """Run a job and those that arrive meanwhile, and commit them together; when one fails, each runs alone."""
        try:
            self._require_file()
            transaction = connection.begin()
        except (DBAPIError, OSError) as error:  # locked: all are refused, since each alone would wait again
            self._note(error, group[0].loop)
            _resolve_all([(job, None, DatabaseUnavailable()) for job in self._gather(group)])
            return
        is_committing = False
        try:
            with transaction:
                results = [job.work(connection) for job in self._gather(group)]
                is_committing = True
        except Exception as error:  # noqa: BLE001 - whatever one job raises, the others still run
            self._note(error, group[0].loop)
            if is_committing and _failure(error) is CommitUnknown:
                _resolve_all([(job, None, CommitUnknown()) for job in group])
                return
            for job in group:
                _run_alone(connection, job)
            return
        _resolve_all([(job, result, None) for job, result in zip(group, results, strict=True)])

    def _note(self, error: Exception, loop: asyncio.AbstractEventLoop) -> None:
        """Log what the operator has to fix, each cause once a minute: every submission meets a full disk.

        On the loop, since this thread must not end for a log that cannot be written: every caller would wait forever.
        """
        fault, now = find_fault(error), self._clock()
        self.fault = fault or self.fault
        if fault is None or now < self._said_at.get(fault, -math.inf) + _SAY_AGAIN_SECONDS:
            return
        self._said_at[fault] = now
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(_log_fault, fault)

    def _require_file(self) -> None:
        """Raise OSError when the file was removed or replaced: writes to a removed file would be lost."""
        if self._path.stat().st_ino != self._inode:
            raise FileNotFoundError

    def _gather(self, group: list[_Job]) -> Iterator[_Job]:
        """Yield the first job of the group and those that wait, adding each before it runs."""
        yield group[0]
        while len(group) < _GROUP:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            if job is None:  # the stop came in the middle of a group: handle it after the group
                self._jobs.put(None)
                return
            group.append(job)
            yield job


def _log_fault(fault: Fault) -> None:
    _log.error("sqlite_failed", cause=fault.cause, setting="R2_CREDENTIAL_DATABASE_URL", fix=fault.fix)


def _inspect(path: Path) -> bool:
    """Check the file without writing to it; raises DatabaseCorrupt and SchemaTooNew.

    Return whether that was possible: after a kill in the middle of a write, only a writer can read the file.
    """
    journal, wal, shm = (path.with_name(f"{path.name}-{ending}") for ending in ("journal", "wal", "shm"))
    if not path.exists() or journal.exists():  # missing, or the process was killed while creating it
        return False
    has_wal = wal.exists() and wal.stat().st_size > 0
    with _shared_memory(shm) if has_wal else nullcontext():
        uri = f"{path.absolute().as_uri()}?mode=ro&{'readonly_shm=1' if has_wal else 'immutable=1'}"
        engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(uri, uri=True), poolclass=NullPool)
        try:
            with engine.connect() as connection:
                _check(connection)
                is_up_to_date(connection)
        except DBAPIError as error:
            if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _CORRUPT:
                raise DatabaseCorrupt from None
            return False
    return True


def has_wal(connection: Connection) -> bool:
    """Return whether the write-ahead log is in use: where it cannot be, SQLite stays in another mode without an error.

    A kill or a power cut in that mode could lose what was acknowledged.
    """
    return connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def _check(connection: Connection) -> None:
    if connection.exec_driver_sql("PRAGMA quick_check(1)").scalar() != "ok":
        raise DatabaseCorrupt


@contextmanager
def _shared_memory(path: Path) -> Iterator[None]:
    """Provide the file without which SQLite reads no WAL; a reader does not change an empty one."""
    is_ours = not path.exists()
    path.touch(0o600)
    try:
        yield
    finally:
        if is_ours:
            path.unlink()


def _engine(path: Path, pragmas: Sequence[str]) -> Engine:
    thread_of_its_own = {"check_same_thread": False}  # opened by one thread, used by another, never by both
    # From parts: in a URL as text, a "?" in the path would begin options, and ":memory:" would not be a file
    url = URL.create("sqlite", database=str(path.absolute()))
    engine = create_engine(url, poolclass=NullPool, connect_args=thread_of_its_own)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:  # noqa: ANN401 - sqlite3's connection is untyped here
        connection.text_factory = _read_text
        connection.isolation_level = None  # the driver begins no transaction; "begin" below does
        for pragma in pragmas:
            connection.execute(pragma)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _read_text(raw: bytes) -> str:
    """Read damaged text as well: an exception here would fail every other row of the query."""
    return raw.decode(errors="replace")


def _run_alone(connection: Connection, job: _Job) -> None:
    is_committing = False
    try:
        with connection.begin():
            result = job.work(connection)
            is_committing = True
    except DBAPIError as error:
        _resolve_all([(job, None, _failure(error)() if is_committing else DatabaseUnavailable())])
    except Exception as error:  # noqa: BLE001 - raised in the caller, on another thread
        _resolve_all([(job, None, error)])
    else:
        _resolve_all([(job, result, None)])


def _failure(error: Exception) -> type[DatabaseTrouble]:
    """Return what a failed COMMIT means: after an I/O error the file may still hold the transaction when reopened."""
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", 0)
    return CommitUnknown if code & 0xFF == sqlite3.SQLITE_IOERR else DatabaseUnavailable


def _resolve_all(outcomes: Sequence[tuple[_Job, object, Exception | None]]) -> None:
    """Pass each result or error to its caller's event loop, with one call for each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Job, object, Exception | None]]] = {}
    for outcome in outcomes:
        by_loop.setdefault(outcome[0].loop, []).append(outcome)
    for loop, its_outcomes in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed: no one is waiting
            loop.call_soon_threadsafe(_resolve, its_outcomes)


def _resolve(outcomes: Sequence[tuple[_Job, object, Exception | None]]) -> None:
    for job, result, error in outcomes:
        if job.future.done():  # cancelled, or resolved before the thread broke
            continue
        if error is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(error)


def _truncate_wal(connection: Connection) -> bool:
    """Move the WAL into the file and truncate it; return False if a reader prevented that."""
    raw = connection.connection.driver_connection  # through SQLAlchemy it would run inside a transaction, and fail
    assert isinstance(raw, sqlite3.Connection)  # noqa: S101 - the engine is ours
    try:
        raw.execute("PRAGMA busy_timeout = 0")  # a backup may read for minutes: do not wait for it
        is_busy, *_ = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error:
        return False
    finally:
        raw.execute(_BUSY_TIMEOUT)
    return not is_busy
