"""The connections to the port: one request each, limited in number, in bytes and in time.

Until it is whole, an attacker's request cannot be distinguished from Slack's, which arrives within milliseconds.
So if there are too many connections, the oldest unfinished one is closed; if too many bytes, the one that sent most.
"""

import asyncio
import logging
from collections.abc import Iterator
from datetime import timedelta
from http import HTTPStatus
from typing import Final

from aiohttp import StreamReader, web
from aiohttp.http import HttpRequestParser

from bot.metrics import CONNECTIONS_REFUSED, Metrics
from bot.model.tally import Tally

HEAD_TIMEOUT: Final = timedelta(seconds=5)
"""From the connection to the end of the headers, however steadily they trickle."""

MOST_BYTES: Final = 8 * 1024 * 1024
"""The limit for the bytes of all requests. Each is held until its signature is checked, and takes twice its length.

A connection that has sent no more than its share is never closed for this, so the sum may be twice the limit briefly.
"""

_LINGER: Final = timedelta(seconds=1)
"""How long the body of a refused request is read and discarded: closing at once could lose the answer."""

_READ_AHEAD: Final = 4 * 1024
"""Also limits how many chunks of one or two bytes are parsed before the connection is counted again."""

_LONGEST_LINE: Final = 8190
_MOST_HEADERS: Final = 64
"""Slack sends a dozen, and a proxy adds another dozen. A short header takes seventy times its length in memory."""


class Connections:
    """The open connections, the oldest first, each with the number of bytes received."""

    def __init__(self, most: int, metrics: Metrics) -> None:
        self._most = most
        self._metrics = metrics
        self._received: dict[Connection, int] = {}
        self._cut = Tally("connection_cut")
        self._faults = Tally("request_broke", logging.ERROR)

    def __len__(self) -> int:
        return len(self._received)

    def has_room(self, expected: int = 0) -> bool:
        """Whether one more fits besides those that are `expected`, closing an unfinished one if necessary."""
        return len(self._received) + expected < self._most or next(self._unfinished(), None) is not None

    def add(self, connection: "Connection") -> None:
        """Count a new connection, and close the oldest unfinished one if there are now too many."""
        self._received[connection] = 0
        if len(self._received) > self._most:
            self._cut_off(next(self._unfinished()), "too_many_connections")

    def count(self, connection: "Connection", size: int) -> None:
        """Count bytes received, and close the connections that sent most until the rest is within the limit."""
        if connection not in self._received:
            return  # cut off already, and about to close
        self._received[connection] += size
        while sum(self._received.values()) > MOST_BYTES:
            greedy = (one for one in self._unfinished() if self._received[one] > MOST_BYTES // self._most)
            largest = max(greedy, key=self._received.__getitem__, default=None)
            if largest is None:
                return  # only whole requests are left, which are about to be verified or refused
            self._cut_off(largest, "too_many_bytes")

    def refuse(self, reason: str) -> None:
        """Count a refusal for the log and the metrics."""
        self._cut.count(reason)
        self._metrics.count(CONNECTIONS_REFUSED, reason)

    def report_fault(self, fault: object) -> None:
        """Log an error of ours by its type only: a traceback may quote the request."""
        self._faults.count(type(fault).__name__)

    def forget(self, connection: "Connection") -> None:
        """Stop counting a connection that has ended."""
        self._received.pop(connection, None)

    def _unfinished(self) -> Iterator["Connection"]:
        return (connection for connection in self._received if not connection.is_whole)

    def _cut_off(self, connection: "Connection", reason: str) -> None:
        self.refuse(reason)
        self.forget(connection)
        connection.force_close()


class Connection(web.RequestHandler):
    """A connection for a single request, so that an attacker cannot hold a place by keeping it alive."""

    __slots__ = ("_body", "_connections")

    def __init__(self, manager: web.Server, connections: Connections) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            manager,
            loop=loop,
            keepalive_timeout=HEAD_TIMEOUT.total_seconds(),  # counts from the connection, not from the last byte
            tcp_keepalive=False,
            access_log=None,  # type: ignore[arg-type] # None is "no access log" to aiohttp's runners as well
            lingering_time=_LINGER.total_seconds(),
            read_bufsize=_READ_AHEAD,
        )
        self._connections = connections
        self._body: StreamReader | None = None
        # By default 32 requests are read ahead: a connection that sends only short headers would take half a megabyte
        self._max_msg_queue_size, self._msg_queue_resume_size = 1, 0
        self._parser = HttpRequestParser(
            self,
            loop,
            _READ_AHEAD,
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
            max_headers=_MOST_HEADERS,
            payload_exception=web.RequestPayloadError,
            auto_decompress=False,  # the body is read before its sender is verified: it could be a bomb
            max_msg_queue_size=1,
        )

    @property
    def is_whole(self) -> bool:
        """Whether the whole request has been received."""
        return self._body is not None and self._body.is_eof()

    def note_head(self, body: StreamReader) -> None:
        """Note that the headers are complete and `body` follows."""
        self._body = body

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection."""
        super().connection_made(transport)
        self._connections.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop counting the connection, and free its body."""
        self._connections.forget(self)
        super().connection_lost(exc)
        self._body = None  # a reference cycle would keep the body until the next garbage collection

    def data_received(self, data: bytes) -> None:
        """Count the bytes before they are stored: a connection that has sent too much stores nothing."""
        if self.is_whole:
            return  # a second request, or data after an upgrade
        self._connections.count(self, len(data))
        super().data_received(data)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send a response, then end the connection. aiohttp's error pages may quote the request: replace them."""
        if isinstance(resp, web.HTTPException):
            resp.text = _page(resp.status)
        resp.force_close()
        sent = await super().finish_response(request, resp, start_time)
        if not self.is_whole:
            self.close()  # discard the rest unparsed: parsing costs us more than sending costs an attacker
        return sent

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - the answer repeats nothing of it
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp quotes the bytes that it could not parse
    ) -> web.StreamResponse:
        """Answer a request that is not HTTP, or an error of ours, with only the status."""
        if status == HTTPStatus.BAD_REQUEST:
            self._connections.refuse("malformed_request")
        else:
            self._connections.report_fault(exc)
        return web.Response(status=status, text=_page(status))

    def log_exception(self, *_: object, **known: object) -> None:
        """Log an error of ours that aiohttp caught."""
        self._connections.report_fault(known.get("exc_info"))


def _page(status: int) -> str:
    return f"{HTTPStatus(status).phrase}\n"
