"""Opens the database for a command beside a running bot: without its locks, and without changing the tables."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from sqlalchemy import Connection, StaticPool, create_engine, inspect, text
from sqlalchemy.exc import DBAPIError

from bot.model.errors import DatabaseTrouble, DatabaseUnavailable, StartRefused
from bot.model.minted import Standing
from bot.settings import DatabaseSettings
from bot.storage.audit import AuditChain
from bot.storage.audit_reading import Reads
from bot.storage.chain_start import read_authenticity, require_same_key
from bot.storage.database import Database, DatabaseBusy, DatabaseCorrupt, SchemaTooNew
from bot.storage.installations import read_standing
from bot.storage.migrations import has_tables, is_up_to_date
from bot.storage.places import NO_DATABASE, NoRecordsYet, require_access, require_file
from bot.storage.records import postgres_of
from bot.storage.schema import AUDIT, INSTALLATIONS
from bot.storage.sqlite import SqliteDatabase
from bot.storage.sqlite_faults import find_fault
from bot.storage.trouble import DATABASE_SETTING

if TYPE_CHECKING:
    from bot.storage.postgres import PostgresDatabase

_T = TypeVar("_T")
_BUSY_SECONDS: Final = 5.0
_ONLY_READ: Final = text("SET TRANSACTION READ ONLY")
_OTHER_VERSION: Final = (
    "the tables are of another version of the bot: run this command with the version that the bot has"
)
_NO_AUDIT: Final = "there is no audit in this database; the first start of this version begins it"


@asynccontextmanager
async def open_beside(settings: DatabaseSettings) -> AsyncIterator[tuple[Database, AuditChain]]:
    """Yield the database, and what its records are signed with. Raises StartRefused, also without the audit's key."""
    chain = AuditChain(read_authenticity(settings))
    opener = _open_file(settings.database_path) if settings.postgres_url is None else _open_server(settings)
    async with opener as database:
        await _require_ours(database, settings)
        await database.run(lambda connection: require_same_key(connection, chain))
        yield database, chain


@asynccontextmanager
async def open_to_read(settings: DatabaseSettings) -> AsyncIterator[Reads]:
    """Yield the database in transactions that cannot change it, also damaged or of an earlier version with an audit.

    Raises StartRefused, also later.
    """
    opener = _open_file_to_read if settings.postgres_url is None else _open_server_to_read
    async with opener(settings) as database:
        await _require_audit(database, settings)
        yield database


async def find_standing(settings: DatabaseSettings, account_id: str) -> Standing | None:
    """Return what a minter last noted, or None if there was never one. Raises DatabaseUnavailable."""

    def read(connection: Connection) -> Standing | None:
        is_there = inspect(connection).has_table(INSTALLATIONS.name)  # an earlier version has none
        return read_standing(connection, account_id) if is_there else None

    try:
        async with open_to_read(settings) as database:
            return await database.run(read)
    except NoRecordsYet:
        return None
    except StartRefused:  # the finding about the database says why
        raise DatabaseUnavailable from None


async def _require_ours(database: Database, settings: DatabaseSettings) -> None:
    try:
        problem = None if await database.run(is_up_to_date) else _OTHER_VERSION
        if problem and not await database.run(has_tables):
            problem = NO_DATABASE
    except SchemaTooNew:
        problem = _OTHER_VERSION
    _refuse_for(problem, settings)


async def _require_audit(database: Reads, settings: DatabaseSettings) -> None:
    def has_audit(connection: Connection) -> bool:
        is_up_to_date(connection)
        return inspect(connection).has_table(AUDIT.name)

    try:
        problem = None if await database.run(has_audit) else _NO_AUDIT
    except SchemaTooNew:
        problem = _OTHER_VERSION
    _refuse_for(problem, settings)


def _refuse_for(problem: str | None, settings: DatabaseSettings) -> None:
    if problem is not None:
        place = DATABASE_SETTING if settings.postgres_url is not None else settings.database_path
        message = f"{place}: {problem}"
        raise (NoRecordsYet if problem in (NO_DATABASE, _NO_AUDIT) else StartRefused)(message)


@asynccontextmanager
async def _open_file(path: Path) -> AsyncIterator[Database]:
    require_file(path)
    database = SqliteDatabase(path, set_up=_leave_as_it_is)
    try:
        require_access(path)
        database.start()
    except (DatabaseTrouble, DatabaseBusy, DatabaseCorrupt, OSError):
        message = f"{path}: cannot be opened as a database of this bot"
        raise StartRefused(message) from None
    try:
        yield database
    except DatabaseTrouble:
        message = f"{path}: {database.trouble.reason}; {database.trouble.fix}"
        raise StartRefused(message) from None
    finally:
        await database.close()


def _leave_as_it_is(_: Connection) -> None:
    """Do nothing: the bot's start brings tables up to date."""


@asynccontextmanager
async def _open_file_to_read(settings: DatabaseSettings) -> AsyncIterator[Reads]:
    path = settings.database_path
    require_file(path)
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


def _unreadable(path: Path, error: DBAPIError) -> StartRefused:
    fault = find_fault(error)
    why = f" ({fault.cause}): {fault.fix}" if fault else ""
    return StartRefused(f"{DATABASE_SETTING}: {path} cannot be read{why}")


@asynccontextmanager
async def _open_server(settings: DatabaseSettings) -> AsyncIterator["PostgresDatabase"]:
    try:
        database = postgres_of(settings)
    except ImportError:
        message = f"{DATABASE_SETTING}: PostgreSQL needs the extra: pip install '.[postgres]' in the bot's directory"
        raise StartRefused(message) from None
    except ValueError as error:
        message = f"{DATABASE_SETTING}: {error}"
        raise StartRefused(message) from None
    try:
        await database.start(migrates=False)
        yield database
    except DatabaseTrouble:
        fix = f"; {database.trouble.fix}" if database.trouble.fix else ""
        message = f"{DATABASE_SETTING}: {database.trouble.reason}{fix}"
        raise StartRefused(message) from None
    finally:
        await database.stop()


@asynccontextmanager
async def _open_server_to_read(settings: DatabaseSettings) -> AsyncIterator[Reads]:
    async with _open_server(settings) as database:
        yield _Server(database)


class _Server:
    """A PostgreSQL database in transactions that cannot change it."""

    def __init__(self, database: "PostgresDatabase") -> None:
        self._database = database

    async def run(self, work: Callable[[Connection], _T]) -> _T:
        def read(connection: Connection) -> _T:
            connection.execute(_ONLY_READ)
            return work(connection)

        return await self._database.run(read)
