"""Keeps a second process off what one process alone may use."""

import fcntl
import os
from pathlib import Path


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
