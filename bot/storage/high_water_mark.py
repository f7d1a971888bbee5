"""How far this installation has come with its database, kept outside of it: a restored database lags behind."""

import os
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

import structlog

from bot.model.errors import DatabaseUnavailable

_LONGEST: Final = 200
_NEW: Final = "new"

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The database's id, and how many writes to slots were about to be sent from it.

    `is_new`: the id is being recorded in the database, which may or may not have happened.
    """

    database_id: str
    sent: int
    is_new: bool = False

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Return the mark in a text, or None if there is none."""
        try:
            database_id, sent, *rest = text.split()
            return cls(database_id=database_id, sent=int(sent), is_new=rest == [_NEW])
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{self.database_id} {self.sent:020d} {_NEW if self.is_new else '   '}\n"


class HighWaterMark:
    """The highest number that this process has seen in its database, in memory and in a file; safe in any thread.

    A number is on disk here after it was committed and before anything is sent. So the database is never behind it,
    unless it is an older one. The file is overwritten in place, in one sector: after a kill or a power cut, it has the
    old number or the new one.
    """

    def __init__(self, path: Path | None, *, is_expected: bool) -> None:
        """Keep it in this file, or only in memory. `is_expected`: a database that was used before has a mark."""
        self.is_expected = is_expected
        self._path = path
        self._descriptor: int | None = None
        self._mark: Mark | None = None
        self._writing = threading.Lock()

    def open(self) -> None:
        """Open the file, created if missing, and read it. Raises OSError, if a mark is expected."""
        if self._path is None:
            return
        try:
            self._descriptor = _open(self._path)
        except OSError:
            if self.is_expected:
                raise
            return
        self._mark = Mark.read(os.pread(self._descriptor, _LONGEST, 0).decode("ascii", "replace"))

    @property
    def current(self) -> Mark | None:
        """What is known from this process or, before that, from its file."""
        return self._mark

    @property
    def sent(self) -> int:
        """The number that is known to be committed; read it before the database is asked, which then has no less."""
        return self._mark.sent if self._mark else 0

    def note(self, sent: int) -> None:
        """Put a committed number on disk; a lower one than is known changes nothing. Raises DatabaseUnavailable."""
        if self._mark is not None:
            self.adopt(replace(self._mark, sent=sent))

    def adopt(self, mark: Mark) -> None:
        """Take this mark; of two for the same database, the higher number stays. Raises DatabaseUnavailable."""
        with self._writing:
            before = self._mark
            if before is not None and before.database_id == mark.database_id and mark.sent < before.sent:
                mark = replace(mark, sent=before.sent)
            if mark != before:
                self._write(mark)
                self._mark = mark

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            with suppress(OSError):  # every number is on disk already
                os.close(descriptor)

    def _write(self, mark: Mark) -> None:
        if self._descriptor is None:
            return
        try:
            os.pwrite(self._descriptor, str(mark).encode("ascii"), 0)
            os.fsync(self._descriptor)
        except OSError as error:
            fix = "check the disk that holds this file, and that it is not full"
            _log.error("high_water_mark_not_written", path=str(self._path), cause=error.strerror, fix=fix)
            if self.is_expected:
                raise DatabaseUnavailable from None


def read_mark(path: Path) -> Mark | None:
    """Return the mark in a file, or None if there is none; changes nothing. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return Mark.read(file.read(_LONGEST).decode("ascii", "replace"))


def _open(path: Path) -> int:
    """Open the file; a new one is on disk, with its name and its room, before the first delivery relies on it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_size == 0:
            os.pwrite(descriptor, b" " * len(str(Mark(database_id="0" * 32, sent=0))), 0)
            os.fsync(descriptor)
            directory = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
