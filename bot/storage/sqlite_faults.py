"""Names why SQLite could not open, read or write its file, and what helps, for the operator. Quotes no statement."""

import sqlite3
from dataclasses import dataclass
from typing import Final

from bot.model.cause import name_cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A failure: SQLite's own name of it or the system's, and the fix where one is known."""

    cause: str
    fix: str


ROOM: Final = "make room on the disk that holds the database"
_ACCESS: Final = "let the bot's user read and write the database's directory and all files in it"
_FIXES: Final = {
    sqlite3.SQLITE_FULL: ROOM,
    sqlite3.SQLITE_IOERR: "check the disk that holds the database, and that it is not full",
    sqlite3.SQLITE_READONLY: _ACCESS,
    sqlite3.SQLITE_CANTOPEN: _ACCESS,
    sqlite3.SQLITE_PERM: _ACCESS,
    sqlite3.SQLITE_BUSY: "end the other program that holds the database",
    sqlite3.SQLITE_LOCKED: "end the other program that holds the database",
    sqlite3.SQLITE_CORRUPT: "stop the bot and put a backup of the database in its place",
    sqlite3.SQLITE_NOTADB: "stop the bot and put a backup of the database in its place",
}
NO_WAL: Final = Fault(
    cause="its file system offers no shared memory, so there is no write-ahead log",
    fix="put the database on a local disk, or use PostgreSQL",
)
_REMOVED: Final = (
    "the database's file was removed while the bot ran: put a backup in place (docs/backup.md), then restart"
)
_REPLACED: Final = "the database's file was replaced while the bot ran: restart it"


def find_fault(error: BaseException) -> Fault | None:
    """Return what an error of the driver, or of the file system, was; None for an error of anything else."""
    if isinstance(error, OSError):
        return Fault(cause=name_cause(error), fix=_find_fix(error))
    origin = getattr(error, "orig", None)
    name = getattr(origin, "sqlite_errorname", None)
    if name is None:
        return None
    fix = _FIXES.get(getattr(origin, "sqlite_errorcode", 0) & 0xFF, "restart the bot, and report this if it lasts")
    return Fault(cause=name, fix=fix)


def _find_fix(error: OSError) -> str:
    if not isinstance(error, FileNotFoundError):
        return _ACCESS
    return _REMOVED if error.errno else _REPLACED  # the system's own error, or ours about another file in its place
