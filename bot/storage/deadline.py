"""Ends queries that PostgreSQL does not answer in time, by shutting the socket.

Psycopg cancels a query by asking the server, and waits for that. A frozen server never answers.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Final, Self

import psycopg

_GRACE: Final = 0.1


class Deadline:
    """Shuts the socket of the connection in use when time is over, and a moment later cancels any other wait.

    Not both at once: a cancelled psycopg would ask the server to cancel the query.
    """

    def __init__(self, at: float) -> None:
        self._at = at
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_at(at, self._end)
        self._socket: socket.socket | None = None
        self._timeout: asyncio.Timeout | None = None

    @classmethod
    @contextmanager
    def within(cls, limit: timedelta) -> Iterator[Self]:
        """Create a deadline that is `current` for everything called inside."""
        deadline = cls(asyncio.get_running_loop().time() + limit.total_seconds())
        token = _CURRENT.set(deadline)
        try:
            yield deadline
        finally:
            _CURRENT.reset(token)
            deadline._timer.cancel()
            deadline.unwatch()

    @property
    def is_over(self) -> bool:
        """Whether time is over. Right even just after a frozen process wakes, before its timers have run."""
        return self._loop.time() >= self._at

    @staticmethod
    def current() -> "Deadline":
        """Return the innermost deadline around the caller."""
        return _CURRENT.get()

    def watch(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Make this the connection in use."""
        self.unwatch()
        if connection.closed:
            return
        # A duplicate: the descriptor of a closed socket is reused, and an unrelated socket would be shut.
        self._socket = socket.socket(fileno=socket.dup(connection.fileno()))
        if self.is_over:
            self._shut()

    def unwatch(self) -> None:
        """Release the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    @asynccontextmanager
    async def limit(self) -> AsyncIterator[None]:
        """Raise TimeoutError a moment after time is over, whatever the body waits for."""
        async with asyncio.timeout(_GRACE if self.is_over else None) as timeout:
            self._timeout = timeout
            try:
                yield
            finally:
                self._timeout = None

    def _end(self) -> None:
        self._shut()
        if self._timeout is not None:
            self._timeout.reschedule(self._loop.time() + _GRACE)

    def _shut(self) -> None:
        if self._socket is not None:
            with suppress(OSError):  # the server has closed it already
                self._socket.shutdown(socket.SHUT_RDWR)


_CURRENT: Final[ContextVar[Deadline]] = ContextVar("deadline")
