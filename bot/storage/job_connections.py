"""Connections for Procrastinate's worker that do not wait for a silent server.

Procrastinate and psycopg's pool limit the time only for connecting. After a failover behind a load balancer, a
connection can be half open: every byte is acknowledged, so the kernel notices nothing, and no answer ever comes.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, LiteralString, TypeVar
from weakref import WeakSet

import structlog
from procrastinate import PsycopgConnector
from procrastinate.sql import queries
from psycopg import AsyncConnection, Notify
from psycopg.abc import PQGen
from psycopg_pool import AsyncConnectionPool

from bot.storage.session import COMMON, set_up

ANSWER_LIMIT: Final = timedelta(seconds=4)
"""The most that one statement may take. A server that is alive ends it sooner (`statement_timeout`)."""

_CHECK_LIMIT: Final = timedelta(seconds=1)
_POOL_PATIENCE: Final = timedelta(seconds=3)
_OPEN_PATIENCE: Final = timedelta(seconds=6)
_SESSION: Final = {"statement_timeout": "3s", "idle_in_transaction_session_timeout": "3s", "TimeZone": "UTC"}
_CONNECTION: Final = {
    **COMMON,
    "connect_timeout": 2,
    "tcp_user_timeout": 5000,
    "application_name": "r2-credential-bot jobs",
}
_FETCH: Final = queries["fetch_job"]
_HEARTBEAT: Final = queries["update_heartbeat"]

_T = TypeVar("_T")
_log = structlog.get_logger()


class Pulse:
    """When the worker last fetched a job and last sent a heartbeat; kept across reconnections."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def note(self, query: str) -> None:
        """Note that the database has answered this query."""
        if query in {_FETCH, _HEARTBEAT}:
            self._last[query] = asyncio.get_running_loop().time()

    def is_slower_than(self, limit: timedelta, *, since: float = float("-inf"), is_full: bool = False) -> bool:
        """Return whether a fetch or a heartbeat is overdue, counted from `since`; a full worker fetches no jobs."""
        asked_for = {_HEARTBEAT} if is_full else {_FETCH, _HEARTBEAT}
        oldest = min(max(since, self._last.get(query, float("-inf"))) for query in asked_for)
        return asyncio.get_running_loop().time() - oldest > limit.total_seconds()


class JobConnections:
    """The connections of one run of the worker. If one falls silent, all of them are shut."""

    def __init__(self, url: str, pulse: Pulse) -> None:
        self._open = WeakSet[_BoundedConnection]()
        self.connector: Final = _NotingConnector(
            note=pulse.note,
            pool_factory=_make_pool,
            connection_class=_BoundedConnection,
            conninfo=url,
            min_size=1,
            max_size=4,
            timeout=_POOL_PATIENCE.total_seconds(),
            reconnect_timeout=_POOL_PATIENCE.total_seconds(),
            kwargs=_CONNECTION,
            configure=self._take,
        )

    def shut(self) -> None:
        """Shut all sockets, without asking the server (see `bot.storage.deadline`)."""
        for connection in list(self._open):
            _shut(connection)

    async def _take(self, connection: "_BoundedConnection") -> None:
        self._open.add(connection)
        await set_up(connection, _SESSION)
        connection.on_silence = self._end_all

    def _end_all(self) -> None:
        """Shut the idle ones too: whatever silenced one most likely silenced them, and checking each takes too long."""
        _log.warning("jobs_connection_silent")
        self.shut()


class _BoundedConnection(AsyncConnection[Any]):
    """Shuts its socket when an answer does not come in time; only notifications have no limit."""

    limit = ANSWER_LIMIT
    on_silence: Callable[[], None] | None = None
    _is_listening = False

    async def wait(self, gen: PQGen[_T], *args: Any, **kwargs: Any) -> _T:  # noqa: ANN401 - passed through
        if self._is_listening:
            return await super().wait(gen, *args, **kwargs)
        timer = asyncio.get_running_loop().call_later(self.limit.total_seconds(), self._end)
        try:
            return await super().wait(gen, *args, **kwargs)
        finally:
            timer.cancel()

    async def notifies(self, *, timeout: float | None = None, stop_after: int | None = None) -> AsyncGenerator[Notify]:  # noqa: ASYNC109 - psycopg's
        self._is_listening = True
        try:
            async for each in super().notifies(timeout=timeout, stop_after=stop_after):
                yield each
        finally:
            self._is_listening = False

    def _end(self) -> None:
        _shut(self)
        if self.on_silence is not None:
            self.on_silence()


class _BoundedPool(AsyncConnectionPool[_BoundedConnection]):
    """Opens with a limit shorter than the default of 30 s."""

    async def open(self, wait: bool = False, timeout: float = _OPEN_PATIENCE.total_seconds()) -> None:  # noqa: ASYNC109, FBT001, FBT002 - psycopg's
        await super().open(wait, timeout)


def _make_pool(**options: Any) -> _BoundedPool:  # noqa: ANN401 - Procrastinate's
    return _BoundedPool(**options | {"check": _check})


async def _check(connection: _BoundedConnection) -> None:
    connection.limit = _CHECK_LIMIT
    try:
        await AsyncConnectionPool.check_connection(connection)
    finally:
        connection.limit = ANSWER_LIMIT


class _NotingConnector(PsycopgConnector):
    """Notes which of Procrastinate's queries were answered."""

    def __init__(self, *, note: Callable[[str], None], **options: Any) -> None:  # noqa: ANN401 - passed through
        super().__init__(**options)
        self._note = note

    async def execute_query_async(self, query: LiteralString, **arguments: Any) -> None:  # noqa: ANN401 - passed through
        await super().execute_query_async(query, **arguments)
        self._note(query)

    async def execute_query_one_async(self, query: LiteralString, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - passed through
        answer: dict[str, Any] = await super().execute_query_one_async(query, **arguments)
        self._note(query)
        return answer


def _shut(connection: AsyncConnection[Any]) -> None:
    if not connection.closed:
        with socket.socket(fileno=socket.dup(connection.fileno())) as copy, suppress(OSError):
            copy.shutdown(socket.SHUT_RDWR)
