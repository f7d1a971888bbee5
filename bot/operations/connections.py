"""The connections to the port: one request each, limited in number, in bytes and in time.

Until it is whole, an attacker's request cannot be distinguished from Slack's, which arrives within milliseconds. And
Slack reads an answer as fast. So if there are too many connections, the oldest one that is not waiting for its answer
is closed; if too many bytes, the one that sent most.
"""

import asyncio
import logging
from collections.abc import Iterator
from datetime import timedelta
from http import HTTPStatus
from typing import Final, cast

from aiohttp import StreamReader, web
from aiohttp.http import HttpRequestParser

from bot.metrics import CONNECTIONS_REFUSED, Metrics
from bot.model.tally import Tally

HEAD_TIMEOUT: Final = timedelta(seconds=5)
"""From the connection to the end of the headers, however steadily they trickle."""

LIFETIME: Final = timedelta(seconds=10)
"""From the connection to the last byte of the answer: a client that does not read would keep its place without a limit.

Slack waits three seconds for an answer. A handler that is still working goes on, so it loses nothing.
"""

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
        """Whether one more fits besides those that are `expected`, closing another one if necessary."""
        return len(self._received) + expected < self._most or next(self._may_go(), None) is not None

    def add(self, connection: "Connection") -> None:
        """Count a new connection, and close the oldest one that may go if there are now too many."""
        self._received[connection] = 0
        if len(self._received) > self._most:
            self.cut_off(next(self._may_go()), "too_many_connections")

    def count(self, connection: "Connection", size: int) -> None:
        """Count bytes received, and close the connections that sent most until the rest is within the limit."""
        if connection not in self._received:
            return  # cut off already, and about to close
        self._received[connection] += size
        while sum(self._received.values()) > MOST_BYTES:
            greedy = (one for one in self._may_go() if self._received[one] > MOST_BYTES // self._most)
            largest = max(greedy, key=self._received.__getitem__, default=None)
            if largest is None:
                return  # only whole requests are left, which are about to be verified or refused
            self.cut_off(largest, "too_many_bytes")

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

    def cut_off(self, connection: "Connection", reason: str) -> None:
        """Close a connection at once."""
        self.refuse(reason)
        self.forget(connection)
        connection.abort()

    def _may_go(self) -> Iterator["Connection"]:
        return (connection for connection in self._received if not connection.waits)


class Connection(web.RequestHandler):
    """A connection for a single request, so that an attacker cannot hold a place by keeping it alive."""

    __slots__ = ("_body", "_connections", "_end", "_is_answered", "_socket")

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
        self._is_answered = False
        self._socket: asyncio.Transport | None = None
        self._end: asyncio.TimerHandle | None = None
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

    @property
    def waits(self) -> bool:
        """Whether the whole request has been received, and the bot has not answered it yet."""
        return self.is_whole and not self._is_answered

    def abort(self) -> None:
        """Close without sending the rest: an orderly end waits until the client has read everything."""
        self.force_close()
        if self._socket is not None:
            self._socket.abort()

    def note_head(self, body: StreamReader) -> None:
        """Note that the headers are complete and `body` follows."""
        self._body = body

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, and limit its time."""
        super().connection_made(transport)
        self._socket = cast("asyncio.Transport", transport)
        self._end = self._loop.call_later(LIFETIME.total_seconds(), self._connections.cut_off, self, "too_slow")
        self._connections.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop counting the connection, and free its body."""
        self._connections.forget(self)
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)
        self._body = self._socket = None  # a reference cycle would keep the body until the next garbage collection

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
        self._is_answered = True
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
        """Answer a request that is not HTTP, or an error of ours, with only the status.

        aiohttp quotes a request in its own refusals, and breaks at bytes that are no text: that is no fault of ours.
        """
        if status == HTTPStatus.BAD_REQUEST or isinstance(exc, UnicodeEncodeError):
            status = HTTPStatus.BAD_REQUEST
            self._connections.refuse("malformed_request")
        else:
            self._connections.report_fault(exc)
        return web.Response(status=status, text=_page(status))

    def log_exception(self, *_: object, **known: object) -> None:
        """Log an error of ours that aiohttp caught."""
        self._connections.report_fault(known.get("exc_info"))


def _page(status: int) -> str:
    return f"{HTTPStatus(status).phrase}\n"
