"""A host between the bot and a service: it answers some requests itself and forwards the rest."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

BODY: Final = web.RequestKey("body", bytes)
Tamper = Callable[[web.Request], web.StreamResponse | None]
"""Returns the answer to a request, whose body is `request[BODY]`, or None to forward it to the service."""

_OF_THE_CONNECTION: Final = frozenset({"content-length", "transfer-encoding", "connection", "host", "date", "server"})


@dataclass(slots=True, kw_only=True)
class Between:
    """The host; `tamper` may be changed at any time, and `asked` lists method, path and headers of what came in."""

    address: str = ""
    tamper: Tamper = lambda _: None
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def cookies(self) -> list[str]:
        """Return the cookies of all requests."""
        return [headers["cookie"] for _, _, headers in self.asked if "cookie" in headers]


@asynccontextmanager
async def stand_between(target: str = "") -> AsyncIterator[Between]:
    """Listen on loopback and forward to the host of `target`; without one, forward nothing."""
    between = Between()
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False) as http:

        async def handle(request: web.Request) -> web.StreamResponse:
            body = request[BODY] = await request.read()
            headers = {name.lower(): value for name, value in request.headers.items()}
            between.asked.append((request.method, request.path, headers))
            return between.tamper(request) or await _pass_on(http, target, request, body)

        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", handle)
        async with TestServer(app, host="127.0.0.1") as server:
            between.address = str(server.make_url("")).rstrip("/")
            yield between


async def _pass_on(http: aiohttp.ClientSession, target: str, request: web.Request, body: bytes) -> web.Response:
    headers = {name: value for name, value in request.headers.items() if name.lower() not in _OF_THE_CONNECTION}
    async with http.request(
        request.method, target + request.path_qs, data=body, headers=headers, allow_redirects=False
    ) as answer:
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _OF_THE_CONNECTION}
        return web.Response(status=answer.status, headers=kept, body=await answer.read())
