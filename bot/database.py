"""The SQLite file: one thread owns its only connection and commits what waits in one transaction (group commit).

One thread, since SQLite has one writer anyway; a group, since an fsync for each submission would be the bottleneck.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, MetaData, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError

from bot.errors import DatabaseUnavailable

_T = TypeVar("_T")
_GROUP: Final = 128
_IDLE_SECONDS: Final = 1.0
_PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA secure_delete = ON",
    "PRAGMA busy_timeout = 1000",
    "PRAGMA foreign_keys = ON",
)


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    work: Callable[[Connection], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class Database:
    """Runs functions of a connection, each atomic, in the order they were given."""

    def __init__(self, path: Path, metadata: MetaData) -> None:
        self._path = path
        self._metadata = metadata
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="database", daemon=True)
        self._engine: Engine | None = None

    def start(self) -> None:
        """Open the file, make missing tables, start the thread; raises DatabaseUnavailable."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._engine = _engine(self._path)
        try:
            self._metadata.create_all(self._engine)
        except DBAPIError:
            raise DatabaseUnavailable from None
        for path in (self._path, *self._path.parent.glob(self._path.name + "-*")):
            path.chmod(0o600)
        self._thread.start()

    async def run(self, work: Callable[[Connection], _T]) -> _T:
        """Return what `work` returns, once it is on disk; its database errors come as DatabaseUnavailable.

        `work` may run twice (its group is repeated one by one when a member fails): it must do nothing but talk to the
        connection. A cancelled caller's work is done all the same.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        self._jobs.put(_Job(work, future, loop))
        return await future

    def stop(self) -> None:
        """Finish what waits, move the WAL into the file and close."""
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join()
        if self._engine is not None:
            self._engine.dispose()

    def _serve(self) -> None:
        assert self._engine is not None  # noqa: S101 - start() opened it
        with self._engine.connect() as connection:
            while (group := self._next_group(connection)) is not None:
                _run_group(connection, group)
            _truncate_wal(connection)

    def _next_group(self, connection: Connection) -> list[_Job] | None:
        try:
            first = self._jobs.get(timeout=_IDLE_SECONDS)
        except queue.Empty:
            _truncate_wal(connection)  # so that erased ciphertext does not stay there while nothing happens
            first = self._jobs.get()
        group = []
        while first is not None:
            group.append(first)
            if len(group) == _GROUP:
                return group
            try:
                first = self._jobs.get_nowait()
            except queue.Empty:
                return group
        if group:
            self._jobs.put(None)  # the end was in the middle of a group: meet it again after the group
            return group
        return None


def _engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:  # noqa: ANN401 - sqlite3's connection is untyped here
        connection.isolation_level = None  # the driver begins nothing: "begin" below does
        for pragma in _PRAGMAS:
            connection.execute(pragma)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _run_group(connection: Connection, group: list[_Job]) -> None:
    try:
        results = _commit(connection, group)
    except Exception:  # noqa: BLE001 - whatever a member raised, the others must not suffer: each runs alone
        for job in group:
            _run_alone(connection, job)
        return
    for job, result in zip(group, results, strict=True):
        _tell(job, result, None)


def _commit(connection: Connection, group: list[_Job]) -> list[Any]:
    with connection.begin():
        return [job.work(connection) for job in group]


def _run_alone(connection: Connection, job: _Job) -> None:
    try:
        [result] = _commit(connection, [job])
    except DBAPIError:
        _tell(job, None, DatabaseUnavailable())
    except Exception as error:  # noqa: BLE001 - handed to the caller, who is on another thread
        _tell(job, None, error)
    else:
        _tell(job, result, None)


def _tell(job: _Job, result: object, error: Exception | None) -> None:
    def resolve() -> None:
        if job.future.cancelled():
            return
        if error is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(error)

    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        job.loop.call_soon_threadsafe(resolve)


def _truncate_wal(connection: Connection) -> None:
    raw = connection.connection.driver_connection  # through SQLAlchemy it would run inside a transaction, and fail
    assert isinstance(raw, sqlite3.Connection)  # noqa: S101 - the engine is ours
    with suppress(sqlite3.Error):  # busy: the next quiet second does it
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
