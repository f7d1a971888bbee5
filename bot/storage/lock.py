"""Keeps a second process off what one process alone may use, and a second transaction off a bucket."""

import fcntl
import os
from pathlib import Path

from sqlalchemy import Connection, text

from bot.model.catalog import BucketKey


class AlreadyRunning(Exception):  # noqa: N818 - reads as what it says
    """Another process works on the same data."""


class ProcessLock:
    """Keeps a second process off a data directory or a database; the kernel frees it when the process dies."""

    def __init__(self, path: Path) -> None:
        """Take the lock on a file, made when missing; raises AlreadyRunning."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise AlreadyRunning from None

    def release(self) -> None:
        """Let the next process in."""
        os.close(self._descriptor)


def lock_bucket(connection: Connection, key: BucketKey) -> None:
    """Let no other transaction that locks this bucket go on until this one is over.

    Recording a submission reads what is written, and noting a write reads what is recorded: two that see nothing of
    each other would leave an older token to be sent after a newer one. SQLite has one writer anyway.
    """
    if connection.dialect.name == "postgresql":
        statement = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
        connection.execute(statement, {"name": f"r2-credential-bot {key.account_id}/{key.bucket}"})
