"""Reaches the fake Cloudflare without a socket, so that its time can be virtual."""

from datetime import datetime
from typing import Protocol
from urllib.parse import parse_qsl

import httpx
from aiohttp import web

from bot.sandbox.cloudflare import ReceivedRequest
from bot.sandbox.failures import Dropped


class Server(Protocol):
    """What the fake Cloudflare is to its callers."""

    def now(self) -> datetime:
        """Return the time there."""
        ...

    async def respond(self, received: ReceivedRequest) -> web.Response:
        """Answer a request, or raise Dropped."""
        ...


class InMemory(httpx.AsyncBaseTransport):
    """Hands each request to the fake Cloudflare, and tells httpx's trace when the headers would go out."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer, or break the connection."""
        trace = request.extensions.get("trace")
        if trace is not None:
            await trace("http11.send_request_headers.started", {})
        received = ReceivedRequest(
            method=request.method,
            path=request.url.path,
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.aread(),
            at=self._server.now(),
            query=dict(parse_qsl(request.url.query.decode())),
        )
        try:
            answer = await self._server.respond(received)
        except Dropped:
            message = "the connection broke"
            raise httpx.ReadError(message) from None
        return httpx.Response(answer.status, headers=dict(answer.headers), content=_content(answer))


def _content(answer: web.Response) -> bytes:
    assert answer.body is None or isinstance(answer.body, bytes | bytearray)
    return bytes(answer.body or b"")
