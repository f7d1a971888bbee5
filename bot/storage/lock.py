"""Keeps a second process off what one process alone may use, and a second transaction off a bucket."""

import fcntl
import os
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, text

from bot.model.catalog import BucketKey

_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")


class AlreadyRunning(Exception):  # noqa: N818 - reads as what it says
    """Another process works on the same data."""


class ProcessLock:
    """Keeps a second process off a data directory or a database; the kernel frees it when the process dies."""

    def __init__(self, path: Path) -> None:
        """Take the lock on a file, made when missing; raises AlreadyRunning."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise AlreadyRunning from None

    def release(self) -> None:
        """Let the next process in."""
        os.close(self._descriptor)


def lock_bucket(connection: Connection, key: BucketKey) -> None:
    """Lock all that is recorded and written for a bucket.

    Recording a submission reads what is written, and noting a write reads what is recorded: two that see nothing of
    each other would leave an older token to be sent after a newer one.
    """
    lock_name(connection, f"{key.account_id}/{key.bucket}")


def lock_name(connection: Connection, name: str) -> None:
    """Let no other transaction that locks this name go on until this one is over. SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK, {"name": f"r2-credential-bot {name}"})
