"""Writes the log to standard error from a separate thread: if the pipe is not read, only that thread waits.

If the event loop wrote to it, a full pipe (64 KiB on Linux) would stop the whole bot.
"""

import io
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Final

MOST_BYTES: Final = 1024 * 1024
"""The limit of the queue, some 5,000 lines; the batch that is being written is not counted."""

FLUSH_PATIENCE: Final = timedelta(seconds=2)
"""How long the process waits at its end for the log to be written."""

_LONGEST_UNFINISHED: Final = 64 * 1024


class LogWriter(io.TextIOBase):
    """A stream that never blocks. When it is full, the oldest lines are dropped and counted.

    The newest are kept, since the last lines before a crash matter most. `describe_loss` makes the line that marks
    where lines are missing. The text is written unchanged: mask it first.
    """

    def __init__(
        self,
        descriptor: int,
        describe_loss: Callable[[int], str],
        most_bytes: int = MOST_BYTES,
        note_loss: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Start writing to a descriptor, which is never closed; `note_loss` gets each number of lost lines."""
        self._note_loss = note_loss
        self._descriptor = descriptor
        self._describe_loss = describe_loss
        self._most_bytes = most_bytes
        self._waiting = deque[bytes]()
        self._size = 0
        self._lost = 0
        self._is_writing = False
        self._changed = threading.Condition()
        # A daemon: otherwise Python would wait at its end for a thread that waits for a reader
        threading.Thread(target=self._write_on, name="log-writer", daemon=True).start()

    def isatty(self) -> bool:
        """Return whether the log goes to a terminal."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Queue a text without blocking."""
        with self._changed:
            self._waiting.append(text.encode("utf-8", "backslashreplace"))
            self._size += len(self._waiting[-1])
            while self._size > self._most_bytes and len(self._waiting) > 1:
                oldest = self._waiting.popleft()
                self._size -= len(oldest)
                self._lose(oldest.count(b"\n"))
            self._changed.notify_all()
        return len(text)

    def drain(self, patience: timedelta = FLUSH_PATIENCE) -> bool:
        """Wait until everything is written; return False if `patience` ran out first. `flush` does not wait."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._waiting or self._is_writing), patience.total_seconds())

    def _write_on(self) -> None:
        while True:
            batch, lost = self._take()
            lines = [self._describe_loss(lost).encode(), *batch] if lost else batch
            is_written = self._write_all(b"".join(lines))
            with self._changed:
                if not is_written:  # the reader is gone or the disk full: reported with the next line that is written
                    self._lost += lost
                    self._lose(sum(text.count(b"\n") for text in batch))
                self._is_writing = False
                self._changed.notify_all()

    def _lose(self, lines: int) -> None:
        self._lost += lines
        self._note_loss(lines)

    def _take(self) -> tuple[list[bytes], int]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            batch, lost = list(self._waiting), self._lost
            self._waiting.clear()
            self._size, self._lost, self._is_writing = 0, 0, True
        return batch, lost

    def _write_all(self, text: bytes) -> bool:
        rest = memoryview(text)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # another process that shares the pipe has made it non-blocking
                select.select([], [self._descriptor], [])
            except OSError:
                return False
        return True


class StrayText(io.TextIOBase):
    """Replaces `sys.stderr`: masks what Python and libraries print, line by line, and never blocks."""

    encoding = "utf-8"

    def __init__(self, writer: LogWriter, scrub: Callable[[str], str]) -> None:
        self.writer = writer
        self._scrub = scrub
        self._unfinished = ""

    def isatty(self) -> bool:
        """Return whether the log goes to a terminal."""
        return self.writer.isatty()

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Write only whole lines: a secret that is split in two would not be masked."""
        lines, ending, self._unfinished = (self._unfinished + text).rpartition("\n")
        if len(self._unfinished) > _LONGEST_UNFINISHED:
            lines, ending, self._unfinished = lines + ending + self._unfinished, "\n", ""
        if ending:
            self.writer.write(self._scrub(lines) + ending)
        return len(text)
