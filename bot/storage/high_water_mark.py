"""How far this installation has come with its database, kept outside of it: a restored database lags behind."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import structlog

_LONGEST: Final = 200

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The database's id, and how many leases had been taken in it."""

    database_id: str
    taken: int

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return the mark in a file, or None if there is none."""
        try:
            database_id, taken = path.read_text(encoding="ascii", errors="replace")[:_LONGEST].split()
            return cls(database_id=database_id, taken=int(taken))
        except (OSError, ValueError):
            return None

    def __str__(self) -> str:
        return f"{self.database_id} {self.taken:020d}\n"


class HighWaterMark:
    """The highest number of leases that this process has seen in its database, in memory and in a file.

    The number is always written after the commit, so the database is never behind it, unless it is an older one. It is
    written in place and without a sync, since it is written with every delivery: a killed process loses nothing, and a
    power cut loses the last seconds, after which the database is ahead. A rename without a sync could lose the file.
    """

    def __init__(self, path: Path | None, *, is_expected: bool) -> None:
        """Keep it in this file, or only in memory. `is_expected`: whether a file that cannot be written is an error."""
        self._path = path
        self._is_expected = is_expected
        self._descriptor: int | None = None
        self._mark: Mark | None = None

    @property
    def is_expected(self) -> bool:
        """Whether a database that has been used before has a mark."""
        return self._is_expected

    def current(self) -> Mark | None:
        """Return what is known from this process or, before that, from its file."""
        if self._mark is None and self._path is not None:
            return Mark.read(self._path)
        return self._mark

    @property
    def taken(self) -> int:
        """The number that is known to be committed; read it before the database is asked, which then has no less."""
        return self._mark.taken if self._mark else 0

    def note(self, taken: int) -> None:
        """Note a number that is committed."""
        if self._mark is not None:
            self.adopt(Mark(database_id=self._mark.database_id, taken=taken))

    def adopt(self, mark: Mark) -> None:
        """Take this mark; of two for the same database, the higher one stays."""
        is_same = self._mark is not None and mark.database_id == self._mark.database_id
        if is_same and mark.taken <= self.taken:
            return
        self._mark = mark
        if self._path is None:
            return
        try:
            if self._descriptor is None:
                self._descriptor = _open(self._path, mark)
            os.pwrite(self._descriptor, str(mark).encode("ascii"), 0)
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Sync and close the file."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            try:
                os.fsync(descriptor)
            except OSError as error:
                self._give_up(error)
            finally:
                os.close(descriptor)

    def _give_up(self, error: OSError) -> None:
        """Go on in memory: without the file, a restore is still found by other signs, or by the operator."""
        if self._is_expected:
            fix = "let the bot's user write to this file's directory, and restart it"
            _log.error("high_water_mark_not_written", path=str(self._path), cause=error.strerror, fix=fix)
        self._path = None


def _open(path: Path, mark: Mark) -> int:
    """Open the file; a new one is on disk, with its name, before the first delivery relies on it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    os.pwrite(descriptor, str(mark).encode("ascii"), 0)
    os.ftruncate(descriptor, len(str(mark)))
    os.fsync(descriptor)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return descriptor
