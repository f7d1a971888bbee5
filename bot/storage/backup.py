"""Copies the SQLite database while the bot runs and writes. The copy holds no sealed value and no open submission.

What is open now must not be sent from a backup: by the time that it is put back, a newer token may be in the slot.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, NullPool, create_engine
from sqlalchemy.exc import DBAPIError

from bot.storage.database import SchemaTooNew
from bot.storage.migrations import is_up_to_date
from bot.storage.moves import forget_all_open

_BUSY_SECONDS: Final = 5.0
_IN_MEMORY: Final = ("PRAGMA journal_mode = DELETE", "PRAGMA journal_mode = MEMORY", "PRAGMA secure_delete = ON")
"""For the draft: no journal on the backup's disk, which would keep what is erased."""


class BackupRefused(Exception):  # noqa: N818 - reads as what it says
    """No backup was made; the message says why and names the fix."""


def back_up(database: Path, target: Path, at: datetime) -> int:
    """Write a copy of the database to a new file, mode 0600; return how many submissions were open, and end in it.

    Raises BackupRefused, and then leaves nothing behind. The file appears under its name only when it is complete and
    on disk.
    """
    if not database.is_file():
        message = f"{database}: there is no database here; set R2_CREDENTIAL_DATA_DIR or R2_CREDENTIAL_DATABASE_URL"
        raise BackupRefused(message)
    _require_free(target)
    try:
        with _draft(target, "draft") as draft, _draft(target, "vacuumed") as vacuumed:
            _copy(database, draft)
            ended = _forget(database, draft, at)
            _vacuum(draft, vacuumed)
            _publish(vacuumed, target)
    except OSError as error:
        _require_free(target)  # another process may have been faster
        message = f"{target} cannot be written ({error.strerror}); name a file on a local disk with room for it"
        raise BackupRefused(message) from None
    return ended


def _require_free(target: Path) -> None:
    if os.path.lexists(target):
        message = f"{target} already exists, and a backup never replaces one; choose another name"
        raise BackupRefused(message)


@contextmanager
def _draft(target: Path, kind: str) -> Iterator[Path]:
    """Make an empty file that only this user can read, and remove it in the end."""
    path = target.with_name(f".{target.name}.{kind}")
    path.unlink(missing_ok=True)  # left by a kill
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _copy(database: Path, draft: Path) -> None:
    """Copy all pages in one read transaction, which keeps no writer waiting."""
    try:
        with _opened(database) as source, _opened(draft) as copy:
            source.execute("BEGIN")
            source.execute(
                "SELECT count(*) FROM sqlite_master"
            ).fetchone()  # fails if locked; `backup` would wait forever
            source.backup(copy)
    except sqlite3.Error as error:
        raise _refusal(database, draft, error) from None


def _forget(database: Path, draft: Path, at: datetime) -> int:
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(draft), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            _require_ours(connection, database)
            for pragma in _IN_MEMORY:
                connection.exec_driver_sql(pragma)
            ended = forget_all_open(connection, at)
            connection.commit()
    except DBAPIError as error:
        raise _refusal(database, draft, error.orig) from None
    return ended


def _require_ours(connection: Connection, database: Path) -> None:
    try:
        if connection.exec_driver_sql("PRAGMA quick_check(1)").scalar() != "ok":
            raise _damaged(database)
        is_up_to_date(connection)  # an older one is kept as it is: the version before an upgrade needs it so
        if connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'submissions'").scalar() is None:
            message = f"{database} is no database of this bot; set R2_CREDENTIAL_DATABASE_URL to the one that is"
            raise BackupRefused(message)
    except SchemaTooNew:
        message = f"{database} belongs to a newer version of the bot; make the backup with that version"
        raise BackupRefused(message) from None


def _vacuum(draft: Path, vacuumed: Path) -> None:
    """Write only what the tables hold: a freed page can hold what was erased."""
    try:
        with _opened(draft) as connection:
            connection.execute("VACUUM INTO ?", (str(vacuumed),))
    except sqlite3.Error as error:
        raise _refusal(draft, vacuumed, error) from None


def _publish(vacuumed: Path, target: Path) -> None:
    """Sync the file, then give it its name; raises FileExistsError if another process was faster."""
    with vacuumed.open("rb") as file:
        os.fsync(file.fileno())
    os.link(vacuumed, target)
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    uri = f"{path.absolute().as_uri()}?mode=rw"  # a reader of the WAL writes to its index
    with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
        yield connection


def _refusal(database: Path, target: Path, error: BaseException | None) -> BackupRefused:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(database)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return BackupRefused(f"{target.parent} has no room for a backup, or fails ({name}); make room, or name another")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return BackupRefused(f"{database} is held by another program ({name}); end that program, and try again")
    fix = "run this as the bot's user, who can read and write the database's directory"
    return BackupRefused(f"{database} cannot be read ({name}); {fix}")


def _damaged(database: Path) -> BackupRefused:
    return BackupRefused(f"{database} is damaged; keep the last backup, and put it in its place")
