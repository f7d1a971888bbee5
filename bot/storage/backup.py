"""Copies the SQLite database while the bot runs and writes. The copy holds no sealed value and no open submission.

What is open now must not be sent from a backup: by the time that it is put back, a newer token may be in the slot. So
the sealed values never reach a file with a name: however this ends, also by SIGKILL, none is left behind. SQLite opens
nothing in the target's directory, where another user may have planted its files.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final
from uuid import uuid4

from sqlalchemy import Connection, StaticPool, create_engine, inspect, update
from sqlalchemy.exc import DBAPIError

from bot.model.errors import StartRefused
from bot.storage.backup_draft import AnotherBackup, backup_draft
from bot.storage.database import SchemaTooNew
from bot.storage.migrations import is_up_to_date
from bot.storage.moves import forget_all_open
from bot.storage.places import require_file
from bot.storage.schema import ORIGINS

_BUSY_SECONDS: Final = 5.0
_LEFT_FOR_THE_BOT: Final = 16 * 1024 * 1024
_PAGES_AT_ONCE: Final = 1000
"""Between two of these parts, a signal can end the command."""

_AS_ITS_USER: Final = "run this as the bot's user, who can read and write the database's directory"


def back_up(database: Path, target: Path, at: datetime) -> int:
    """Write a copy of the database to a new file, mode 0600; return how many submissions were open, and end in it.

    Raises StartRefused, and then leaves nothing behind. The file appears under its name only when it is complete and
    on disk. Needs room for two copies in the database's directory. One backup of a database at a time.
    """
    try:
        _require_database(database)
        _require_free(target)
        with backup_draft(database) as (draft, clean), _copy(database) as copy:
            ended = _forget(copy, database, at)
            _vacuum(copy, draft)
            _write(clean, target)
    except AnotherBackup:
        message = f"another backup of {database} is being made; wait for its end, and try again"
        raise StartRefused(message) from None
    except OSError as error:
        message = f"{database.parent} cannot be written ({error.strerror}), and a backup is put together there"
        raise StartRefused(message) from None
    return ended


def _require_database(database: Path) -> None:
    require_file(database)
    if shutil.disk_usage(database.parent).free < 2 * database.stat().st_size + _LEFT_FOR_THE_BOT:
        message = f"{database.parent} has no room for two copies of the database, as a backup needs; make room there"
        raise StartRefused(message)


def _require_free(target: Path) -> None:
    if os.path.lexists(target):
        message = f"{target} already exists, and a backup never replaces one; choose another name"
        raise StartRefused(message)


@contextmanager
def _copy(database: Path) -> Iterator[sqlite3.Connection]:
    """Copy all pages in one read transaction, which keeps no writer waiting.

    The copy is a temporary database: SQLite keeps it in memory, and what does not fit in a file that it unlinks as soon
    as it is open.
    """
    with closing(sqlite3.connect("", isolation_level=None)) as copy, _spilled_to(copy, database.parent):
        copy.execute("PRAGMA journal_mode = MEMORY")
        copy.execute("PRAGMA secure_delete = ON")
        try:
            with _opened(database) as source:
                source.execute("BEGIN")
                source.execute(
                    "SELECT count(*) FROM sqlite_master"
                ).fetchone()  # fails if locked; `backup` would wait forever
                source.backup(copy, pages=_PAGES_AT_ONCE)
        except sqlite3.Error as error:
            raise _refusal(database, error) from None
        yield copy


@contextmanager
def _spilled_to(copy: sqlite3.Connection, directory: Path) -> Iterator[None]:
    """Keep SQLite's temporary files on the database's disk: blocks of /tmp would outlive the destroyed keys' disk."""
    quoted = str(directory.absolute()).replace("'", "''")
    copy.execute(f"PRAGMA temp_store_directory = '{quoted}'")  # no value can be bound in a pragma
    try:
        yield
    finally:
        copy.execute("PRAGMA temp_store_directory = ''")


def _forget(copy: sqlite3.Connection, database: Path, at: datetime) -> int:
    engine = create_engine("sqlite://", creator=lambda: copy, poolclass=StaticPool)
    try:
        with engine.connect() as connection:
            _require_ours(connection, database)
            connection.exec_driver_sql("BEGIN")
            ended = forget_all_open(connection, at)
            _tell_apart(connection)
            connection.exec_driver_sql("COMMIT")
    except DBAPIError as error:
        raise _refusal(database, error.orig) from None
    return ended


def _tell_apart(connection: Connection) -> None:
    """Give the copy an id of its own, so that a start knows it for a backup even if nothing was sent since."""
    if inspect(connection).has_table(ORIGINS.name):  # an earlier version has none
        connection.execute(update(ORIGINS).values(id=uuid4().hex))


def _require_ours(connection: Connection, database: Path) -> None:
    try:
        if connection.exec_driver_sql("PRAGMA quick_check(1)").scalar() != "ok":
            raise _damaged(database)
        is_up_to_date(connection)  # an older one is kept as it is: the version before an upgrade needs it so
        if connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'submissions'").scalar() is None:
            message = f"{database} is no database of this bot; set R2_CREDENTIAL_DATABASE_URL to the one that is"
            raise StartRefused(message)
    except SchemaTooNew:
        message = f"{database} belongs to a newer version of the bot; make the backup with that version"
        raise StartRefused(message) from None


def _vacuum(copy: sqlite3.Connection, draft: Path) -> None:
    """Write only what the tables hold: a freed page can hold what was erased."""
    try:
        copy.execute("VACUUM INTO ?", (str(draft.absolute()),))
    except sqlite3.Error as error:
        raise _refusal(draft, error) from None


def _write(clean: BinaryIO, target: Path) -> None:
    """Write the file, then give it its name."""
    unfinished = target.with_name(f".{target.name}.draft")
    try:
        with _created(unfinished) as file:
            shutil.copyfileobj(clean, file)
            file.flush()
            os.fsync(file.fileno())
            os.link(unfinished, target)
        _sync(target.parent)
    except OSError as error:
        _require_free(target)  # another process was faster
        message = f"{target} cannot be written ({error.strerror}); name a file on a local disk with room for it"
        raise StartRefused(message) from None


@contextmanager
def _created(path: Path) -> Iterator[BinaryIO]:
    """Create a file that only this user can read, and remove it in the end."""
    path.unlink(missing_ok=True)  # left by a kill; it holds nothing sealed
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
    finally:
        path.unlink(missing_ok=True)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    uri = f"{path.absolute().as_uri()}?mode=rw"  # a reader of the WAL writes to its index
    with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
        yield connection


def _refusal(database: Path, error: BaseException | None) -> StartRefused:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(database)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return StartRefused(f"{database.parent} has no room for a backup, or fails ({name}); make room there")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StartRefused(f"{database} is held by another program ({name}); end that program, and try again")
    return StartRefused(f"{database} cannot be read ({name}); {_AS_ITS_USER}")


def _damaged(database: Path) -> StartRefused:
    return StartRefused(f"{database} is damaged; keep the last backup, and put it in its place")
