"""The one port that the bot listens on: Slack's requests in HTTP mode, and health checks always."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from http import HTTPStatus
from typing import Final, cast

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""What answers a request."""

_ANSWER_PATIENCE: Final = timedelta(seconds=3)
_LINGER: Final = timedelta(milliseconds=500)
_LOOK_EVERY: Final = timedelta(milliseconds=10)


async def _not_ready() -> bool:
    return False


class Server:
    """`/slack/events` where there is an ingress, `/healthz` (the process lives), `/readyz` (it can be used).

    Without arguments it can listen before the bot is ready: it says so, and 503 to Slack, until `attach`.
    """

    def __init__(self, ingress: Handler | None = None, is_ready: Callable[[], Awaitable[bool]] | None = None) -> None:
        self._take: Handler = _turn_away
        self._is_ready: Callable[[], Awaitable[bool]] = _not_ready
        self._is_stopping = False
        self._listener: asyncio.Server | None = None
        if is_ready is not None:
            self.attach(ingress, is_ready)
        app = web.Application()
        app.router.add_post("/slack/events", self._take_request)
        app.router.add_get("/healthz", self._tell_health)
        app.router.add_get("/readyz", self._tell_readiness)
        app.on_response_prepare.append(self._tell_stop)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=_ANSWER_PATIENCE.total_seconds(),
            auto_decompress=False,  # nobody has been let in yet when a body is read
        )

    async def listen(self, host: str, port: int) -> str:
        """Start, and return `host:port` as it is then; raises OSError."""
        await self._runner.setup()
        self._listener = await asyncio.get_running_loop().create_server(self._serve_connection, host, port)
        address = self._listener.sockets[0].getsockname()
        return f"{address[0]}:{address[1]}"

    def attach(self, ingress: Handler | None, is_ready: Callable[[], Awaitable[bool]]) -> None:
        """Take Slack's requests from now on (never without an ingress, as in Socket Mode), and tell readiness."""
        self._take = _find_nothing if ingress is None else ingress
        self._is_ready = is_ready

    def begin_stop(self) -> None:
        """Tell load balancers to go elsewhere: not ready, and no connection is kept. Requests are still answered."""
        self._is_stopping = True

    async def stop(self) -> None:
        """Stop listening, answer what is under way, and close; a request on a connection that is open still counts."""
        self.begin_stop()
        if self._listener is not None:
            await self._stop_listening(self._listener)
            self._listener = None
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER.total_seconds()):
                await self._wait_until_all_left()
        await self._runner.cleanup()

    async def _stop_listening(self, listener: asyncio.Server) -> None:
        """Close the port, and let in whom the system has let in already: closing alone would cut them off."""
        loop = asyncio.get_running_loop()
        for entrance in listener.sockets:
            loop.remove_reader(entrance.fileno())
        for _ in range(2):
            await asyncio.sleep(0)  # asyncio needs two steps from an accepted connection to our protocol
        entrances = [entrance.dup() for entrance in listener.sockets]
        listener.close()
        for late in [late for entrance in entrances for late in _let_in(entrance)]:
            await loop.connect_accepted_socket(self._serve_connection, late)

    def _serve_connection(self) -> asyncio.BaseProtocol:
        return cast("web.Server", self._runner.server)()  # there from `setup` on

    async def _wait_until_all_left(self) -> None:
        server = self._runner.server
        while server is not None and any(connection.transport for connection in server.connections):  # noqa: ASYNC110 - aiohttp tells nobody
            await asyncio.sleep(_LOOK_EVERY.total_seconds())

    async def _take_request(self, request: web.Request) -> web.StreamResponse:
        return await self._take(request)

    async def _tell_health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _tell_readiness(self, _: web.Request) -> web.Response:
        if not self._is_stopping and await self._is_ready():
            return web.Response(text="ready\n")
        return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text="not ready\n")

    async def _tell_stop(self, _: web.Request, response: web.StreamResponse) -> None:
        if self._is_stopping:
            response.force_close()
            response.headers["Connection"] = "close"  # the other headers are made already


def _let_in(entrance: socket.socket) -> list[socket.socket]:
    """Return who waits at the entrance, and close it."""
    late: list[socket.socket] = []
    with entrance, suppress(OSError):  # BlockingIOError: that was the last one
        while True:
            late.append(entrance.accept()[0])
    for connection in late:
        connection.settimeout(0)
    return late


async def _turn_away(_: web.Request) -> web.Response:
    return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text="not ready\n")


async def _find_nothing(_: web.Request) -> web.Response:
    return web.Response(status=HTTPStatus.NOT_FOUND, text="not found\n")
