"""The listening sockets: lets a connection in when there is a place for it, and leaves the others to the system.

asyncio would accept as long as there are descriptors, and write a hundred tracebacks at a time when there are none.
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
"""How many the system keeps waiting; who comes then tries again after a second."""

_AT_ONCE: Final = 16
"""How many are let in before others get their turn."""

_PAUSE: Final = timedelta(milliseconds=100)
"""How long nobody is let in when there is no place or no descriptor: the socket itself would wake the loop at once."""

_RECEIVE_BUFFER: Final = 16 * 1024
"""The system keeps this much of each connection, and hands it over in one piece: four megabytes from all together."""


class Listener:
    """Accepts on every address of a host."""

    def __init__(self, connections: Connections, make_connection: Callable[[], Connection]) -> None:
        self._connections = connections
        self._make_connection = make_connection
        self._sockets: list[socket.socket] = []
        self._arriving = Background("connection_broke")

    async def open(self, host: str, port: int) -> str:
        """Listen, and return `host:port` as it is then; raises OSError. `::` takes IPv4 as well."""
        self._sockets = [_bind_both(port)] if host == _EVERY_ADDRESS else await _bind(host, port)
        for entrance in self._sockets:
            entrance.settimeout(0)
            entrance.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            entrance.listen(_BACKLOG)
            self._watch(entrance)
        address = self._sockets[0].getsockname()
        return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"

    async def close(self) -> None:
        """Close the port, and let in whom the system has let in already: closing alone would cut them off."""
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
                return None  # that was the last one, or it went away
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


async def _bind(host: str, port: int) -> list[socket.socket]:
    bound = await asyncio.get_running_loop().create_server(asyncio.Protocol, host, port, start_serving=False)
    try:
        return [entrance.dup() for entrance in bound.sockets]
    finally:
        bound.close()


def _bind_both(port: int) -> socket.socket:
    """Take IPv4 where the system can hand it to a socket of IPv6: asyncio always switches that off."""
    takes_both = socket.has_dualstack_ipv6()
    return socket.create_server((_EVERY_ADDRESS, port), family=socket.AF_INET6, dualstack_ipv6=takes_both)
