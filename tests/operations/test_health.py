"""The health check reaches the bot wherever it listens, without a proxy."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from bot.operations.health import is_alive
from bot.operations.server import Server

HOSTS = ["127.0.0.1", "localhost", "0.0.0.0"]  # noqa: S104 - what images set
HOSTS += ["::1", "::"] if socket.has_dualstack_ipv6() else []


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    """Build a server that does not listen yet."""
    server = Server()
    yield server
    await server.stop()


def _port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


@pytest.mark.parametrize("host", HOSTS)
async def test_a_bot_that_listens_is_alive(server: Server, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Even before it is ready, and with a proxy in the environment, where Docker's configuration may put one."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    port = _port_of(await server.listen(host, 0))
    assert await asyncio.to_thread(is_alive, host, port)
    await server.stop()
    assert not await asyncio.to_thread(is_alive, host, port)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_every_address_means_both_families(server: Server, host: str) -> None:
    """By itself, asyncio would accept only IPv6, and a load balancer or health check over IPv4 would find no bot."""
    address = await server.listen("::", 0)
    assert address.startswith("[::]:")
    assert await asyncio.to_thread(is_alive, host, _port_of(address))


def _answer(status: int) -> Callable[[web.Request], web.Response]:
    return lambda _: web.Response(status=status)


@pytest.mark.parametrize("status", [404, 500, 302])
async def test_another_program_on_the_port_is_not_a_bot(status: int) -> None:
    """Only a 200 counts."""
    app = web.Application()

    async def handle(request: web.Request) -> web.Response:
        return _answer(status)(request)

    app.router.add_get("/healthz", handle)
    async with TestServer(app, host="127.0.0.1") as other:
        assert not await asyncio.to_thread(is_alive, "127.0.0.1", other.port or 0)


async def test_a_server_without_http_is_not_a_bot() -> None:
    """The answer is no, without a traceback."""

    async def chat(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ESMTP\r\n")
        writer.close()

    async with await asyncio.start_server(chat, "127.0.0.1", 0) as other:
        assert not await asyncio.to_thread(is_alive, "127.0.0.1", other.sockets[0].getsockname()[1])
