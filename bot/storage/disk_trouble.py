"""Tells the operator when the file system keeps the SQLite file from being written: a full disk, no right, no disk."""

import sqlite3
from collections.abc import Mapping
from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError

_FIXES: Final[Mapping[int, str]] = {
    sqlite3.SQLITE_FULL: "the disk is full: make room where the database is",
    sqlite3.SQLITE_READONLY: "the database is read-only for the bot: check owner, mode and mount",
    sqlite3.SQLITE_CANTOPEN: "a file of the database cannot be opened: check owner and mode of its directory",
    sqlite3.SQLITE_PERM: "the bot has no right to the database: check owner and mode",
    sqlite3.SQLITE_IOERR: "the disk does not answer as it should: check the system's log",
}

_log = structlog.get_logger()


def log_disk_trouble(error: DBAPIError) -> None:
    """Log what only the operator can change, by SQLite's name for it; quotes no statement and no value."""
    code = getattr(error.orig, "sqlite_errorcode", 0)
    fix = _FIXES.get(code & 0xFF)
    if fix is not None:
        cause = getattr(error.orig, "sqlite_errorname", "")
        _log.error("database_not_written", cause=cause, setting="R2_CREDENTIAL_DATABASE_URL", fix=fix)
