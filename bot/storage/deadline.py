"""Ends what PostgreSQL does not answer in time, without asking PostgreSQL.

Psycopg gives up a query by telling the server, and waits for it. A frozen server never answers: shut the socket.
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
    """Shuts the socket of the connection in use when time is over, and a moment later ends whatever else is waited for.

    Not at the same time: cancelled, psycopg would turn to the server for help.
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
        """Make one that is `current` for everything that is called inside."""
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
        """Say whether time is over; also for a process that was frozen, before anything else happens in it."""
        return self._loop.time() >= self._at

    @staticmethod
    def current() -> "Deadline":
        """Return the one inside of which this is called."""
        return _CURRENT.get()

    def watch(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Take this connection as the one in use."""
        self.unwatch()
        if connection.closed:
            return
        # A copy of the number: that of a closed socket is used again, and somebody else's would be shut.
        self._socket = socket.socket(fileno=socket.dup(connection.fileno()))
        if self.is_over:
            self._shut()

    def unwatch(self) -> None:
        """Let go of the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    @asynccontextmanager
    async def limit(self) -> AsyncIterator[None]:
        """Raise TimeoutError a moment after time is over, whatever is waited for inside."""
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
            with suppress(OSError):  # the other side was faster
                self._socket.shutdown(socket.SHUT_RDWR)


_CURRENT: Final[ContextVar[Deadline]] = ContextVar("deadline")
