"""Locks: one process per data directory or database, one transaction per bucket."""

import fcntl
import os
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, text

from bot.model.catalog import BucketKey

_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")


class AlreadyRunning(Exception):  # noqa: N818 - reads as what it says
    """Another process uses the same data."""


class ProcessLock:
    """Lets one process use a data directory or a database; the kernel releases the lock when the process dies."""

    def __init__(self, path: Path) -> None:
        """Lock a file, created if missing; raises AlreadyRunning, and OSError where the file system has no locks."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise AlreadyRunning from None
        except OSError as error:
            os.close(self._descriptor)
            raise OSError(error.errno, error.strerror, str(path)) from None

    def release(self) -> None:
        """Release the lock."""
        os.close(self._descriptor)


def lock_bucket(connection: Connection, key: BucketKey) -> None:
    """Lock the records of a bucket until the end of the transaction.

    Recording a submission reads what was written, and recording a write reads what was submitted: two transactions
    that do not see each other would let an older token be sent after a newer one.
    """
    lock_name(connection, f"{key.account_id}/{key.bucket}")


def lock_name(connection: Connection, name: str) -> None:
    """Make other transactions that lock this name wait for the end of this one. SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK, {"name": f"r2-credential-bot {name}"})
