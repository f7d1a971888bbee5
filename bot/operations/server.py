"""The port that the bot listens on, for Slack's requests in HTTP mode and always for health checks."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Final

from aiohttp import web

from bot.metrics import Metrics
from bot.operations.descriptors import most_connections
from bot.operations.health import SIGN_OF_LIFE
from bot.operations.port import Handler, Port
from bot.operations.recent import Recent

_STOP_NOTICE: Final = timedelta(seconds=1)


async def _not_ready() -> bool:
    return False


class Server(Port):
    """Serves `/slack/events` if there is an ingress, `/healthz` (the process is alive), `/readyz` (it can be used).

    It can listen before the bot is ready: until `attach`, it answers "not ready", and Slack with a 503.
    """

    def __init__(
        self,
        ingress: Handler | None = None,
        is_ready: Callable[[], Awaitable[bool]] | None = None,
        most: int | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """Allow `most` open connections at a time; by default, a share of the process's limit."""
        routes = [
            web.post("/slack/events", self._take_request),
            web.get("/healthz", self._answer_health),
            web.get("/readyz", self._answer_readiness),
        ]
        super().__init__(routes, most_connections() if most is None else most, metrics or Metrics())
        self._take: Handler = _turn_away
        self._readiness = Recent(_not_ready, unknown=False)
        self._is_stopping = False
        if is_ready is not None:
            self.attach(ingress, is_ready)

    def attach(self, ingress: Handler | None, is_ready: Callable[[], Awaitable[bool]]) -> None:
        """From now on, pass Slack's requests to the ingress (None in Socket Mode), and answer /readyz."""
        self._take = _find_nothing if ingress is None else ingress
        self._readiness = Recent(is_ready, unknown=False)

    def look_again(self) -> None:
        """Forget the last answer of /readyz: during a start, it would hold for up to a second after the end."""
        self._readiness.forget()

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
        await super().stop()

    async def _take_request(self, request: web.Request) -> web.StreamResponse:
        return await self._take(request)

    async def _answer_health(self, _: web.Request) -> web.Response:
        return web.Response(text=SIGN_OF_LIFE)

    async def _answer_readiness(self, _: web.Request) -> web.Response:
        if not self._is_stopping and await self._readiness.ask():
            return web.Response(text="ready\n")
        return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text="not ready\n")


async def _turn_away(_: web.Request) -> web.Response:
    return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text="not ready\n")


async def _find_nothing(_: web.Request) -> web.Response:
    return web.Response(status=HTTPStatus.NOT_FOUND, text="not found\n")
