"""The file beside the database in which a backup is put together. A kill can leave it, but it holds nothing sealed."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


class AnotherBackup(Exception):  # noqa: N818 - reads as what it says
    """Another backup of the same database is being made."""


@contextmanager
def backup_draft(database: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Create the file, empty, and remove it in the end; yield its path, and the same file to read.

    It is locked meanwhile, so that a start of the bot tells it from one that a kill left. Raises AnotherBackup, and
    OSError.
    """
    path = _path(database)
    remove_stale_draft(database)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise AnotherBackup from None
    with os.fdopen(descriptor, "rb") as file:
        _lock(file, path)
        try:
            yield path, file
        finally:
            _remove(path)


def remove_stale_draft(database: Path) -> None:
    """Remove the file if a kill left it. Raises OSError."""
    path = _path(database)
    with suppress(FileNotFoundError, AnotherBackup), path.open("rb") as file:
        _lock(file, path)
        _remove(path)


def _remove(path: Path) -> None:
    path.with_name(f"{path.name}-journal").unlink(missing_ok=True)  # SQLite's, while it writes the file
    path.unlink(missing_ok=True)


def _lock(file: BinaryIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise AnotherBackup from None
    if not os.path.samestat(os.fstat(file.fileno()), path.stat()):  # removed and made anew meanwhile
        raise AnotherBackup


def _path(database: Path) -> Path:
    return database.with_name(f".{database.name}.backup")
