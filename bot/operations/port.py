"""A port of the bot: its routes, with the limits of `connections`, from the first request to a stop without losses."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Final, cast

from aiohttp import web

from bot.metrics import Metrics
from bot.model.request_log import start_request
from bot.operations.connections import Connection, Connections
from bot.operations.listener import Listener

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""A coroutine that answers a request."""

_ANSWER_PATIENCE: Final = timedelta(seconds=3)
_LINGER: Final = timedelta(milliseconds=500)
_CHECK_EVERY: Final = timedelta(milliseconds=10)


class Port:
    """Listens, and answers the requests for its routes; any other one is not found, and not logged."""

    def __init__(self, routes: Iterable[web.AbstractRouteDef], most: int, metrics: Metrics) -> None:
        """Allow `most` open connections at a time."""
        app = web.Application(middlewares=[_note_head])
        app.add_routes(routes)
        self._runner = web.AppRunner(app, shutdown_timeout=_ANSWER_PATIENCE.total_seconds())
        self._connections = Connections(most, metrics)
        self._listener = Listener(self._connections, self._make_connection)

    async def listen(self, host: str, port: int) -> str:
        """Start, and return the actual `host:port`; raises OSError."""
        await self._runner.setup()
        return await self._listener.open(host, port)

    async def stop(self) -> None:
        """Stop listening, answer the requests on open connections, and close."""
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
