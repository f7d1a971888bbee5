"""Opens the database for a command beside a running bot: without its locks, and without changing the tables."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import Connection

from bot.model.errors import DatabaseTrouble, StartRefused
from bot.settings import DatabaseSettings
from bot.storage.audit import AuditChain
from bot.storage.chain_start import AUDIT_KEY, AUDIT_KEY_SETTING, load_chain, require_same_key
from bot.storage.database import Database, DatabaseBusy, DatabaseCorrupt, SchemaTooNew
from bot.storage.migrations import has_tables, is_up_to_date
from bot.storage.places import require_access, require_private, unusable
from bot.storage.records import postgres_of
from bot.storage.sqlite import SqliteDatabase
from bot.storage.trouble import DATA_DIR_SETTING, DATABASE_SETTING

_NO_DATABASE = f"there is no database of the bot here; set {DATA_DIR_SETTING} or {DATABASE_SETTING}"
_OTHER_VERSION = "the tables are of another version of the bot: run this command with the version that the bot has"


@asynccontextmanager
async def open_beside(settings: DatabaseSettings) -> AsyncIterator[tuple[Database, AuditChain]]:
    """Yield the database, and what its records are signed with. Raises StartRefused, also without the audit's key."""
    chain = _find_chain(settings)
    async with _open_postgres(settings) if settings.postgres_url is not None else _open_file(settings) as database:
        await _require_ours(database, settings)
        await database.run(lambda connection: require_same_key(connection, chain))
        yield database, chain


def _find_chain(settings: DatabaseSettings) -> AuditChain:
    """Return the chain, and never make a key: with a new one, everything would look forged."""
    is_in_file = settings.postgres_url is None and not settings.audit_keys
    if is_in_file and not (settings.data_dir / AUDIT_KEY).exists():
        message = f"{AUDIT_KEY_SETTING}: is not set, and there is no file {settings.data_dir / AUDIT_KEY}"
        raise StartRefused(message)
    try:
        return load_chain(settings)
    except OSError as error:
        raise unusable(settings, error) from None


async def _require_ours(database: Database, settings: DatabaseSettings) -> None:
    place = DATABASE_SETTING if settings.postgres_url is not None else str(settings.database_path)
    try:
        problem = None if await database.run(is_up_to_date) else _OTHER_VERSION
        if problem and not await database.run(has_tables):
            problem = _NO_DATABASE
    except SchemaTooNew:
        problem = _OTHER_VERSION
    except DatabaseTrouble:
        problem = f"{database.trouble.reason}. {database.trouble.fix}"
    if problem is not None:
        message = f"{place}: {problem}"
        raise StartRefused(message)


@asynccontextmanager
async def _open_file(settings: DatabaseSettings) -> AsyncIterator[Database]:
    path = settings.database_path
    if not path.is_file():
        message = f"{path}: {_NO_DATABASE}"
        raise StartRefused(message)
    database = SqliteDatabase(path, set_up=_leave_as_it_is)
    try:
        require_private(path, DATABASE_SETTING)
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


@asynccontextmanager
async def _open_postgres(settings: DatabaseSettings) -> AsyncIterator[Database]:
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
        message = f"{DATABASE_SETTING}: {database.trouble.reason}. {database.trouble.fix}"
        raise StartRefused(message) from None
    finally:
        await database.stop()


def _leave_as_it_is(_: Connection) -> None:
    """Do nothing: the bot's start brings tables up to date."""
