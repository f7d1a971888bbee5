"""Reads the audit's entries in order, some at a time, to verify, to export and to send them. Writes nothing."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import Connection, StaticPool, bindparam, create_engine, inspect, select, text
from sqlalchemy.exc import DBAPIError

from bot.model.errors import DatabaseTrouble
from bot.sealing.private_places import find_exposure
from bot.settings import DatabaseSettings
from bot.storage.database import SchemaTooNew
from bot.storage.migrations import is_up_to_date
from bot.storage.records import postgres_of
from bot.storage.schema import AUDIT
from bot.storage.sqlite_faults import find_fault
from bot.storage.trouble import DATA_DIR_SETTING, DATABASE_SETTING

BATCH: Final = 1000
"""Entries in one query: PostgreSQL answers within the time limit of a call, however slow."""

COLUMNS: Final = tuple(column.name for column in AUDIT.columns)
EntryRow = Mapping[str, Any]
"""An entry by the names of its columns."""

_T = TypeVar("_T")
_BUSY_SECONDS: Final = 5.0
_TIMES_BATCH: Final = 20_000
_ONLY_READ: Final = text("SET TRANSACTION READ ONLY")
_FIRST: Final = select(AUDIT).order_by(AUDIT.c.number).limit(bindparam("most"))
_NEXT: Final = _FIRST.where(AUDIT.c.number > bindparam("after"))
_TIMES: Final = (
    select(AUDIT.c.number, AUDIT.c.at)
    .where(AUDIT.c.number > bindparam("after"))
    .order_by(AUDIT.c.number)
    .limit(_TIMES_BATCH)
)


class AuditUnreadable(Exception):  # noqa: N818 - carries what the operator is told
    """The audit cannot be read; the message names the setting and the fix."""


class Reads(Protocol):
    """A database, as far as a reader needs it."""

    async def run(self, work: Callable[[Connection], _T]) -> _T:
        """Return the result of `work`."""
        ...


async def read_batches(database: Reads, after: int | None = None, most: int = BATCH) -> AsyncIterator[list[EntryRow]]:
    """Yield the entries behind a number, or all, until there are no more; also what is appended meanwhile.

    Each batch is a query of its own: a long read transaction would keep the database from tidying up.
    """
    last = after
    while rows := await database.run(partial(read_entries, after=last, most=most)):
        yield rows
        last = rows[-1]["number"]


def read_entries(connection: Connection, after: int | None, most: int) -> list[EntryRow]:
    """Return the first entries behind a number, or at all."""
    query = _FIRST if after is None else _NEXT
    rows = connection.execute(query, {"most": most} | ({} if after is None else {"after": after}))
    return [dict(row._mapping) for row in rows]  # noqa: SLF001 - public in SQLAlchemy, with this name


async def find_before(database: Reads, since: datetime) -> int:
    """Return the number before the first entry of that time or later, or that of the last entry.

    From there on all entries belong together: clocks of several processes differ a little, and an export without gaps
    can be verified.
    """
    last = 0
    while rows := await database.run(partial(_read_times, after=last)):
        found = next((number for number, at in rows if at is not None and at >= since), None)
        if found is not None:
            return found - 1
        last = rows[-1][0]
    return last


def _read_times(connection: Connection, after: int) -> list[tuple[int, datetime | None]]:
    return [(row.number, row.at) for row in connection.execute(_TIMES, {"after": after})]


@asynccontextmanager
async def open_to_read(settings: DatabaseSettings) -> AsyncIterator[Reads]:
    """Open the database beside a running bot: no lock, no migration, no change. Raises AuditUnreadable, also later."""
    try:
        opener = _open_file(settings.database_path) if settings.postgres_url is None else _open_server(settings)
        async with opener as database:
            await _require_audit(database)
            yield database
    except SchemaTooNew:
        message = f"{DATABASE_SETTING}: the database belongs to a newer version of the bot; run this with that version"
        raise AuditUnreadable(message) from None


async def _require_audit(database: Reads) -> None:
    def has_audit(connection: Connection) -> bool:
        is_up_to_date(connection)
        return inspect(connection).has_table(AUDIT.name)

    if not await database.run(has_audit):
        message = f"{DATABASE_SETTING}: there is no audit in this database; the first start of this version begins it"
        raise AuditUnreadable(message)


class _File:
    """An SQLite file that this connection cannot change."""

    def __init__(self, raw: sqlite3.Connection, path: Path) -> None:
        self._engine = create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool)
        self._path = path

    async def run(self, work: Callable[[Connection], _T]) -> _T:
        return await asyncio.to_thread(self._run, work)

    def _run(self, work: Callable[[Connection], _T]) -> _T:
        try:
            with self._engine.connect() as connection:
                return work(connection)
        except DBAPIError as error:
            raise _unreadable(self._path, error) from None


@asynccontextmanager
async def _open_file(path: Path) -> AsyncIterator[Reads]:
    _require_file(path)
    with closing(_connect(path)) as raw:
        yield _File(raw, path)


def _connect(path: Path) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=rw"  # a reader of the write-ahead log writes to its index
    try:
        raw = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        raw.execute("PRAGMA query_only = ON")
    except sqlite3.Error as error:
        raise _unreadable(path, DBAPIError("", None, error)) from None
    raw.text_factory = lambda value: value.decode(errors="replace")  # a damaged text is found by its signature
    return raw


def _require_file(path: Path) -> None:
    try:
        path.stat()
        exposure = find_exposure(path.parent) or find_exposure(path)
    except FileNotFoundError:
        message = f"{path}: there is no database here; set {DATA_DIR_SETTING} or {DATABASE_SETTING}"
        raise AuditUnreadable(message) from None
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror}); run this as the bot's user"
        raise AuditUnreadable(message) from None
    if exposure:
        message = f"{path} cannot be used: {exposure}"
        raise AuditUnreadable(message)


def _unreadable(path: Path, error: DBAPIError) -> AuditUnreadable:
    fault = find_fault(error)
    why = f" ({fault.cause}): {fault.fix}" if fault else ""
    return AuditUnreadable(f"{DATABASE_SETTING}: {path} cannot be read{why}")


class _Server:
    """A PostgreSQL database in transactions that cannot change it."""

    def __init__(self, database: Any) -> None:  # noqa: ANN401 - the extra "postgres"
        self._database = database

    async def run(self, work: Callable[[Connection], _T]) -> _T:
        def read(connection: Connection) -> _T:
            connection.execute(_ONLY_READ)
            return work(connection)

        try:
            result: _T = await self._database.run(read)
        except DatabaseTrouble:
            raise _unanswered(self._database) from None
        return result


@asynccontextmanager
async def _open_server(settings: DatabaseSettings) -> AsyncIterator[Reads]:
    try:
        database = postgres_of(settings)
    except ImportError:
        message = f"{DATABASE_SETTING}: PostgreSQL needs the extra: pip install '.[postgres]' in the bot's directory"
        raise AuditUnreadable(message) from None
    except ValueError as error:
        message = f"{DATABASE_SETTING}: {error}"
        raise AuditUnreadable(message) from None
    try:
        await database.start(migrates=False)
    except DatabaseTrouble:
        raise _unanswered(database) from None
    try:
        yield _Server(database)
    finally:
        await database.stop()


def _unanswered(database: Any) -> AuditUnreadable:  # noqa: ANN401 - the extra "postgres"
    trouble = database.trouble
    fix = f"; {trouble.fix}" if trouble.fix else ""
    return AuditUnreadable(f"{DATABASE_SETTING}: {trouble.reason}{fix}")
