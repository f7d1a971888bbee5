"""The listening sockets: accepts a connection when there is room for it, and leaves the others in the backlog.

asyncio would accept until no descriptor is left, and then log a hundred tracebacks at a time.
"""

import asyncio
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from bot.model.background import Background
from bot.operations.connections import Connection, Connections

_EVERY_ADDRESS: Final = "::"

_BACKLOG: Final = 512
"""How many connections the system keeps waiting; further clients retry after a second."""

_AT_ONCE: Final = 16
"""How many are accepted before the event loop does other work."""

_PAUSE: Final = timedelta(milliseconds=100)
"""How long to accept none when there is no room or descriptor: the socket would wake the loop again at once."""

_RECEIVE_BUFFER: Final = 16 * 1024
"""The system buffers this much per connection and delivers it in one piece: 4 MB from all connections together."""


class Listener:
    """Accepts on every address of a host."""

    def __init__(self, connections: Connections, make_connection: Callable[[], Connection]) -> None:
        self._connections = connections
        self._make_connection = make_connection
        self._sockets: list[socket.socket] = []
        self._arriving = Background("connection_broke")

    async def open(self, host: str, port: int) -> str:
        """Listen, and return the actual `host:port`; raises OSError. `::` includes IPv4."""
        self._sockets = await _bind_all(host, port)
        for entrance in self._sockets:
            entrance.settimeout(0)
            entrance.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            entrance.listen(_BACKLOG)
            self._watch(entrance)
        address = self._sockets[0].getsockname()
        return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"

    async def close(self) -> None:
        """Accept what is in the backlog, and close the port: closing alone would reset those connections."""
        entrances, self._sockets = self._sockets, []
        for entrance in entrances:
            asyncio.get_running_loop().remove_reader(entrance)
            with entrance:
                self._let_in(entrance, _BACKLOG)
        await self._arriving.drain()

    def _watch(self, entrance: socket.socket) -> None:
        if entrance in self._sockets:
            asyncio.get_running_loop().add_reader(entrance, self._let_in, entrance)

    def _let_in(self, entrance: socket.socket, at_most: int = _AT_ONCE) -> None:
        for _ in range(at_most):
            if not self._connections.has_room(expected=len(self._arriving.tasks)):
                return self._pause(entrance)
            try:
                arrived, _ = entrance.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return None  # no more are waiting, or the client left
            except OSError:
                self._connections.refuse("no_descriptor_left")
                return self._pause(entrance)
            self._arriving.start(self._serve(arrived))
        return None

    async def _serve(self, arrived: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(self._make_connection, arrived)

    def _pause(self, entrance: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(entrance)
        loop.call_later(_PAUSE.total_seconds(), self._watch, entrance)


async def try_to_bind(host: str, port: int) -> None:
    """Bind as `open` would, and close at once; raises OSError."""
    for entrance in await _bind_all(host, port):
        entrance.close()


async def _bind_all(host: str, port: int) -> list[socket.socket]:
    return [_bind_both(port)] if host == _EVERY_ADDRESS else await _bind(host, port)


async def _bind(host: str, port: int) -> list[socket.socket]:
    bound = await asyncio.get_running_loop().create_server(asyncio.Protocol, host, port, start_serving=False)
    try:
        return [entrance.dup() for entrance in bound.sockets]
    finally:
        bound.close()


def _bind_both(port: int) -> socket.socket:
    """Accept IPv4 on the IPv6 socket where the system can: asyncio always switches that off."""
    takes_both = socket.has_dualstack_ipv6()
    return socket.create_server((_EVERY_ADDRESS, port), family=socket.AF_INET6, dualstack_ipv6=takes_both)
