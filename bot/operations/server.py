"""The port that the bot listens on, for Slack's requests in HTTP mode and always for health checks."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from http import HTTPStatus
from typing import Final, cast

from aiohttp import web

from bot.model.background import Background
from bot.model.request_log import start_request
from bot.operations.connections import Connection, Connections
from bot.operations.descriptors import most_connections
from bot.operations.listener import Listener

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""A coroutine that answers a request."""

_ANSWER_PATIENCE: Final = timedelta(seconds=3)
_STOP_NOTICE: Final = timedelta(seconds=1)
_LINGER: Final = timedelta(milliseconds=500)
_CHECK_EVERY: Final = timedelta(milliseconds=10)
_OLDEST_READINESS: Final = timedelta(seconds=1)
"""Anyone may ask at any rate, and each fresh answer costs a commit."""


async def _not_ready() -> bool:
    return False


class Server:
    """Serves `/slack/events` if there is an ingress, `/healthz` (the process is alive), `/readyz` (it can be used).

    It can listen before the bot is ready: until `attach`, it answers "not ready", and Slack with a 503.
    """

    def __init__(
        self,
        ingress: Handler | None = None,
        is_ready: Callable[[], Awaitable[bool]] | None = None,
        most: int | None = None,
    ) -> None:
        """Allow `most` open connections at a time; by default, a share of the process's limit."""
        self._take: Handler = _turn_away
        self._readiness = _Readiness(_not_ready)
        self._is_stopping = False
        if is_ready is not None:
            self.attach(ingress, is_ready)
        app = web.Application(middlewares=[_note_head])
        app.router.add_post("/slack/events", self._take_request)
        app.router.add_get("/healthz", self._answer_health)
        app.router.add_get("/readyz", self._answer_readiness)
        self._runner = web.AppRunner(app, shutdown_timeout=_ANSWER_PATIENCE.total_seconds())
        self._connections = Connections(most_connections() if most is None else most)
        self._listener = Listener(self._connections, self._make_connection)

    async def listen(self, host: str, port: int) -> str:
        """Start, and return the actual `host:port`; raises OSError."""
        await self._runner.setup()
        return await self._listener.open(host, port)

    def attach(self, ingress: Handler | None, is_ready: Callable[[], Awaitable[bool]]) -> None:
        """From now on, pass Slack's requests to the ingress (None in Socket Mode), and answer /readyz."""
        self._take = _find_nothing if ingress is None else ingress
        self._readiness = _Readiness(is_ready)

    def begin_stop(self) -> None:
        """Answer "not ready", so that load balancers choose another process. Requests are still answered."""
        self._is_stopping = True

    async def stop_after_notice(self) -> None:
        """Answer everything for a while, but "not ready", so that load balancers send no more requests; then stop."""
        self.begin_stop()
        await asyncio.sleep(_STOP_NOTICE.total_seconds())
        await self.stop()

    async def stop(self) -> None:
        """Stop listening, answer the requests on open connections, and close."""
        self.begin_stop()
        await self._listener.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER.total_seconds()):
                await self._wait_until_all_left()
        await self._runner.cleanup()

    def _make_connection(self) -> Connection:
        return Connection(cast("web.Server", self._runner.server), self._connections)  # set by `setup`

    async def _wait_until_all_left(self) -> None:
        while len(self._connections):  # noqa: ASYNC110 - for half a second at most
            await asyncio.sleep(_CHECK_EVERY.total_seconds())

    async def _take_request(self, request: web.Request) -> web.StreamResponse:
        return await self._take(request)

    async def _answer_health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _answer_readiness(self, _: web.Request) -> web.Response:
        if not self._is_stopping and await self._readiness.ask():
            return web.Response(text="ready\n")
        return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text="not ready\n")


class _Readiness:
    """Asks whether the bot can be used, at most once a second however many clients ask."""

    def __init__(self, is_ready: Callable[[], Awaitable[bool]]) -> None:
        self._is_ready = is_ready
        self._asking = Background("readiness_unknown")
        self._asked_at = -_OLDEST_READINESS.total_seconds()
        self._answer = False

    async def ask(self) -> bool:
        """Return an answer that is less than a second old."""
        age = asyncio.get_running_loop().time() - self._asked_at
        if age < _OLDEST_READINESS.total_seconds() and not self._asking.tasks:
            return self._answer
        return await self._asking.shield(self._ask, name="is_ready")

    async def _ask(self) -> bool:
        self._asked_at, self._answer = asyncio.get_running_loop().time(), False  # the answer if asking fails
        self._answer = await self._is_ready()
        return self._answer


@web.middleware
async def _note_head(request: web.Request, handler: Handler) -> web.StreamResponse:
    cast("Connection", request.protocol).note_head(request.content)
    resource = request.match_info.route.resource
    if resource is None:  # not a path of ours: it is not logged, since anyone may put anything there
        return await handler(request)
    end = start_request("http_request", method=request.method, path=resource.canonical)
    answer = await handler(request)
    end(answer.status)
    return answer


async def _turn_away(_: web.Request) -> web.Response:
    return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text="not ready\n")


async def _find_nothing(_: web.Request) -> web.Response:
    return web.Response(status=HTTPStatus.NOT_FOUND, text="not found\n")
