"""Whoever is connected to the port: for one request each, so many at a time, so many bytes, and not for long.

No stranger can be told from Slack before a request has come as a whole. Slack's comes within milliseconds: so what is
cut off when there are too many is the connection that keeps the bot waiting longest, or that has sent most.
"""

import asyncio
import logging
from collections.abc import Iterator
from datetime import timedelta
from http import HTTPStatus
from typing import Final

from aiohttp import StreamReader, web
from aiohttp.http import HttpRequestParser

from bot.model.tally import Tally

HEAD_TIMEOUT: Final = timedelta(seconds=5)
"""From the connection to the end of the headers, however steadily they trickle."""

MOST_BYTES: Final = 8 * 1024 * 1024
"""What all requests together may have sent. Each is held until its signature is checked, and takes twice its length.

Who has sent no more than a fair part of it is left alone: so it may be twice as much for a moment.
"""

_LINGER: Final = timedelta(seconds=1)
"""How long a body is thrown away that was refused unread: closing at once could cut off the answer."""

_READ_AHEAD: Final = 4 * 1024
"""Also bounds how many chunks of a byte or two are taken apart before anyone looks at them."""

_LONGEST_LINE: Final = 8190
_MOST_HEADERS: Final = 64
"""Slack sends a dozen, a proxy adds another. A short header takes seventy times its length in memory."""


class Connections:
    """The open ones, the oldest first, each with the number of bytes that came of it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._received: dict[Connection, int] = {}
        self._cut = Tally("connection_cut")
        self._faults = Tally("request_broke", logging.ERROR)

    def __len__(self) -> int:
        return len(self._received)

    def has_room(self, expected: int = 0) -> bool:
        """Whether one more can be served beside those that are `expected`, if need be in the place of another."""
        return len(self._received) + expected < self._most or next(self._unfinished(), None) is not None

    def add(self, connection: "Connection") -> None:
        """Count a new one, and cut off the one that has kept us waiting longest if there are too many now."""
        self._received[connection] = 0
        if len(self._received) > self._most:
            self._cut_off(next(self._unfinished()), "too_many_connections")

    def count(self, connection: "Connection", size: int) -> None:
        """Count what has come, and cut off whoever sent most as long as it is too much."""
        if connection not in self._received:
            return  # cut off, and closed in a moment
        self._received[connection] += size
        while sum(self._received.values()) > MOST_BYTES:
            greedy = (one for one in self._unfinished() if self._received[one] > MOST_BYTES // self._most)
            largest = max(greedy, key=self._received.__getitem__, default=None)
            if largest is None:
                return  # what has come as a whole is verified or refused in a moment
            self._cut_off(largest, "too_many_bytes")

    def refuse(self, reason: str) -> None:
        """Log what was not taken."""
        self._cut.count(reason)

    def tell_fault(self, fault: object) -> None:
        """Log a fault of ours by its type: a traceback may quote what a stranger sent, as often as they like."""
        self._faults.count(type(fault).__name__)

    def forget(self, connection: "Connection") -> None:
        """Stop counting one that has ended."""
        self._received.pop(connection, None)

    def _unfinished(self) -> Iterator["Connection"]:
        return (connection for connection in self._received if not connection.is_whole)

    def _cut_off(self, connection: "Connection", reason: str) -> None:
        self.refuse(reason)
        self.forget(connection)
        connection.force_close()


class Connection(web.RequestHandler):
    """One connection, for one request: nobody keeps a place by keeping it alive, and none is closed under a request."""

    __slots__ = ("_body", "_connections")

    def __init__(self, manager: web.Server, connections: Connections) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            manager,
            loop=loop,
            keepalive_timeout=HEAD_TIMEOUT.total_seconds(),  # is counted from the connection, not from the last byte
            tcp_keepalive=False,
            access_log=None,  # type: ignore[arg-type] # None is "no access log" to aiohttp's runners as well
            lingering_time=_LINGER.total_seconds(),
            read_bufsize=_READ_AHEAD,
        )
        self._connections = connections
        self._body: StreamReader | None = None
        # By default 32 requests are read ahead: a connection that sends nothing but short headers takes half a megabyte
        self._max_msg_queue_size, self._msg_queue_resume_size = 1, 0
        self._parser = HttpRequestParser(
            self,
            loop,
            _READ_AHEAD,
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
            max_headers=_MOST_HEADERS,
            payload_exception=web.RequestPayloadError,
            auto_decompress=False,  # nobody has been let in yet when a body is read
            max_msg_queue_size=1,
        )

    @property
    def is_whole(self) -> bool:
        """Whether the request has come to its end."""
        return self._body is not None and self._body.is_eof()

    def meet(self, body: StreamReader) -> None:
        """Take note that the head of the request has come, and its body is coming."""
        self._body = body

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it."""
        super().connection_made(transport)
        self._connections.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count it no more."""
        self._connections.forget(self)
        super().connection_lost(exc)
        self._body = None  # it knows this connection: the two would keep what had come until the collector finds them

    def data_received(self, data: bytes) -> None:
        """Count before anything is kept: one that has sent too much is closed then, and takes nothing."""
        if self.is_whole:
            return  # a second request, or what should follow an upgrade
        self._connections.count(self, len(data))
        super().data_received(data)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer, after which the connection ends. The library's own pages may quote what they refuse."""
        if isinstance(resp, web.HTTPException):
            resp.text = _page(resp.status)
        resp.force_close()
        sent = await super().finish_response(request, resp, start_time)
        if not self.is_whole:
            self.close()  # what still comes is thrown away as it is: taking it apart costs more than sending it
        return sent

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - nothing of it is told
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - the library quotes the bytes on which it stumbled
    ) -> web.StreamResponse:
        """Answer what is no HTTP, and a fault of ours, with nothing but the status."""
        if status == HTTPStatus.BAD_REQUEST:
            self._connections.refuse("malformed_request")
        else:
            self._connections.tell_fault(exc)
        return web.Response(status=status, text=_page(status))

    def log_exception(self, *_: object, **known: object) -> None:
        """Log a fault of ours that the library noticed."""
        self._connections.tell_fault(known.get("exc_info"))


def _page(status: int) -> str:
    return f"{HTTPStatus(status).phrase}\n"
