"""Attackers at the port: how long they may be silent, which connections are closed, and what they can read."""

import asyncio
import io
import json
import os
import resource
import select
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
import pytest_asyncio
from aiohttp import web

from bot.operations.connections import HEAD_TIMEOUT, LIFETIME, MOST_BYTES
from bot.operations.server import Server

PATIENCE_SECONDS = 60
MOST = 4
PassTime = Callable[[timedelta], None]
ASK = b"GET /healthz HTTP/1.1\r\nHost: bot\r\n\r\n"
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Visitor:
    """A connection on which the test chooses every byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        """Send bytes until the connection is closed."""
        self.writer.write(data)

    async def read(self) -> bytes:
        """Return everything received until the connection ends."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def ask(self) -> int:
        """Return the status of a health check."""
        self.send(ASK)
        return int((await self.read()).split()[1])


@dataclass(slots=True, kw_only=True)
class Port:
    """The bot's port with room for few connections, and `answer` behind it."""

    server: Server
    host: str
    number: int
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]]
    visitors: list[Visitor] = field(default_factory=list)

    async def visit(self) -> Visitor:
        """Open a connection, which the bot has not necessarily accepted."""
        visitor = Visitor(*await asyncio.open_connection(self.host, self.number))
        self.visitors.append(visitor)
        return visitor

    async def visit_silently(self) -> Visitor:
        """Open a connection, and wait until the bot has accepted it."""
        before = len(self.server._connections)
        visitor = await self.visit()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.server._connections) == before:  # noqa: ASYNC110 - no event says that it is accepted
                await asyncio.sleep(0.001)
        return visitor


@pytest_asyncio.fixture
async def port(log: io.StringIO) -> AsyncIterator[Port]:
    """Open the port; `answer` answers the requests to Slack's path."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text="served")

    async def ask(request: web.Request) -> web.StreamResponse:
        return await opened.answer(request)

    async def is_ready() -> bool:
        return True

    server = Server(ask, is_ready, most=MOST)
    host, _, number = (await server.listen("127.0.0.1", 0)).partition(":")
    opened = Port(server=server, host=host, number=int(number), answer=answer)
    yield opened
    for visitor in opened.visitors:
        visitor.writer.close()
    await server.stop()


def _told(log: io.StringIO) -> list[tuple[str, dict[str, int]]]:
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    return [(line["event"], line["reasons"]) for line in lines if line["level"] != "debug"]


BEGINNINGS = {
    "nothing": b"",
    "half a line": b"POST /slack/ev",
    "headers without an end": b"GET /healthz HTTP/1.1\r\nHost: bot\r\nX-A: b\r\n",
}


@pytest.mark.parametrize("beginning", BEGINNINGS.values(), ids=BEGINNINGS)
async def test_a_connection_without_headers_is_closed(port: Port, pass_time: PassTime, beginning: bytes) -> None:
    """A connection without complete headers is closed after five seconds, and no byte extends that."""
    visitor = await port.visit_silently()
    visitor.send(beginning)
    reading = asyncio.create_task(visitor.read())

    for _ in range(10):
        assert len(port.server._connections) == 1
        visitor.send(b"x" if beginning else b"")
        await asyncio.sleep(0.001)  # a real moment for the sockets
        pass_time(HEAD_TIMEOUT / 10)

    assert await reading == b""
    assert len(port.server._connections) == 0


@pytest.mark.parametrize("requests", [1, 3, 100])
async def test_a_connection_is_for_one_request(port: Port, requests: int) -> None:
    """It ends with the answer, so an earlier request does not hold a place."""
    visitor = await port.visit()

    visitor.send(ASK * requests)
    answer = await visitor.read()

    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b"HTTP/1.1") == 1
    assert b"Connection: close" in answer


async def test_the_oldest_silent_connection_makes_room(port: Port, log: io.StringIO) -> None:
    """However many there are, a real request is answered, and younger connections stay open."""
    visitors = [await port.visit_silently() for _ in range(MOST)]

    assert await (await port.visit()).ask() == 200

    assert await visitors[0].read() == b""
    assert [await visitor.ask() for visitor in visitors[1:]] == [200] * (MOST - 1)
    assert _told(log) == [("connection_cut", {"too_many_connections": 1})]


async def test_a_connection_that_waits_for_an_answer_is_not_closed(port: Port, pass_time: PassTime) -> None:
    """If whole requests fill every place, the next connection waits in the backlog and is served after them."""
    heard, let_go = asyncio.Queue[None](), asyncio.Event()

    async def hold(_: web.Request) -> web.StreamResponse:
        heard.put_nowait(None)
        await let_go.wait()
        return web.Response(text="served")

    port.answer = hold
    answers = []
    for number in range(MOST + 1):
        visitor = await port.visit()
        visitor.send(b"POST /slack/events HTTP/1.1\r\nHost: bot\r\nContent-Length: 1\r\n\r\nx")
        answers.append(asyncio.create_task(visitor.read()))
        if number < MOST:
            await heard.get()
    await asyncio.sleep(0.01)  # time to accept the last one, if there were a place
    assert heard.empty()
    assert len(port.server._connections) == MOST

    let_go.set()
    while not all(answer.done() for answer in answers):
        await asyncio.sleep(0.001)
        pass_time(timedelta(milliseconds=100))

    assert [(await answer).endswith(b"served") for answer in answers] == [True] * (MOST + 1)


LARGE = 16 * MIB
"""More than the system buffers for a client that does not read."""


async def _visit_without_reading(port: Port) -> socket.socket:
    """Ask for a large answer on a connection that never reads, and wait until the bot begins to send it."""
    client = socket.create_connection((port.host, port.number))
    client.sendall(b"POST /slack/events HTTP/1.1\r\nHost: bot\r\nContent-Length: 1\r\n\r\nx")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not select.select([client], [], [], 0)[0]:  # noqa: ASYNC110 - a client that reads would end it
            await asyncio.sleep(0.001)
    return client


async def test_a_client_that_does_not_read_is_cut_in_time(port: Port, log: io.StringIO, pass_time: PassTime) -> None:
    """A whole request is never cut for room; without a limit, its client could keep the place by reading nothing."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=bytes(LARGE))

    port.answer = answer
    with await _visit_without_reading(port) as client:
        pass_time(LIFETIME - timedelta(seconds=1))
        await asyncio.sleep(0.01)  # time to cut it, if that were due
        assert len(port.server._connections) == 1
        pass_time(timedelta(seconds=1))
        assert len(await asyncio.to_thread(_drain, client)) < LARGE

    assert len(port.server._connections) == 0
    assert _told(log) == [("connection_cut", {"too_slow": 1})]


async def test_clients_that_do_not_read_make_room(port: Port, log: io.StringIO) -> None:
    """Slack and Prometheus read at once; those that do not cannot keep them out until their time is over."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=bytes(LARGE))

    port.answer = answer
    async with AsyncExitStack() as stack:
        for _ in range(MOST):
            stack.enter_context(await _visit_without_reading(port))
        assert await (await port.visit()).ask() == 200

    assert _told(log) == [("connection_cut", {"too_many_connections": 1})]


async def test_a_handler_goes_on_when_its_connection_is_cut(port: Port, log: io.StringIO, pass_time: PassTime) -> None:
    """What it was recording is not lost, and nobody was told that it was."""
    heard, let_go, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def hold(_: web.Request) -> web.StreamResponse:
        heard.set()
        await let_go.wait()
        done.set()
        return web.Response(text="served")

    port.answer = hold
    visitor = await port.visit()
    visitor.send(b"POST /slack/events HTTP/1.1\r\nHost: bot\r\nContent-Length: 1\r\n\r\nx")
    await heard.wait()
    reading = asyncio.create_task(visitor.read())
    pass_time(LIFETIME)
    assert await reading == b""
    let_go.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await done.wait()
        await port.server.stop()
    assert _told(log) == [("connection_cut", {"too_slow": 1})]


def _drain(client: socket.socket) -> bytes:
    received = bytearray()
    with suppress(ConnectionError):
        while piece := client.recv(MIB):
            received += piece
    return bytes(received)


async def test_the_connection_that_sent_most_makes_room(port: Port, log: io.StringIO) -> None:
    """The sum of all bytes is limited: the largest senders are closed, and a small request among them is served."""

    async def read(request: web.Request) -> web.StreamResponse:
        with suppress(ConnectionError):  # closed
            return web.Response(text=str(len(await request.content.read())))
        return web.Response()

    port.answer = read
    small = await port.visit_silently()
    small.send(b"POST /slack/events HTTP/1.1\r\nHost: bot\r\nContent-Length: 10\r\n\r\nhalf ")
    greedy = await port.visit_silently()
    greedy.send(b"POST /slack/events HTTP/1.1\r\nHost: bot\r\nContent-Length: %d\r\n\r\n" % (MOST_BYTES * 2))
    for _ in range(2):
        greedy.send(b"x" * (MOST_BYTES // 2))

    assert await greedy.read() == b""
    small.send(b"done!")

    assert (await small.read()).endswith(b"\r\n\r\n10")
    assert _told(log) == [("connection_cut", {"too_many_bytes": 1})]


HEAD = b"GET /healthz HTTP/1.1\r\nHost: bot\r\n"
REFUSED: dict[str, tuple[bytes, bytes]] = {
    "no HTTP": (b"MARKER\r\n\r\n", b"400 Bad Request"),
    "TLS": (b"\x16\x03\x01MARKER\r\n\r\n", b"400 Bad Request"),
    "a strange method": (b"MARKER / HTTP/1.1\r\nHost: bot\r\n\r\n", b"400 Bad Request"),
    "a strange version": (b"GET /MARKER HTTP/9.9\r\nHost: bot\r\n\r\n", b"400 Bad Request"),
    "a strange address": (b"GET http://[MARKER HTTP/1.1\r\nHost: bot\r\n\r\n", b"400 Bad Request"),
    "no host": (b"GET /MARKER HTTP/1.1\r\n\r\n", b"400 Bad Request"),
    "a header that is none": (HEAD + b"MARKER\x00 : x\r\n\r\n", b"400 Bad Request"),
    "a header with a control character": (HEAD + b"X: MARKER\x01\r\n\r\n", b"400 Bad Request"),
    "an endless header": (HEAD + b"X: " + b"MARKER" * 2000 + b"\r\n\r\n", b"400 Bad Request"),
    "an endless line": (b"GET /" + b"MARKER" * 2000 + b" HTTP/1.1\r\nHost: bot\r\n\r\n", b"400 Bad Request"),
    "too many headers": (HEAD + b"MARKER: x\r\n" * 65 + b"\r\n", b"400 Bad Request"),
    "two lengths": (HEAD + b"Content-Length: 1\r\nContent-Length: MARKER\r\n\r\n", b"400 Bad Request"),
    "a strange chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nMARKER\r\n", b"400 Bad Request"),
    "a strange expectation": (HEAD + b"Expect: MARKER\r\n\r\n", b"417 Expectation Failed"),
    "an expectation that is no text": (HEAD + b"Expect: MARKER\xff\r\n\r\n", b"400 Bad Request"),
    "no such page": (b"GET /MARKER HTTP/1.1\r\nHost: bot\r\n\r\n", b"404 Not Found"),
    "no such method": (b"PUT /healthz HTTP/1.1\r\nHost: bot\r\nX: MARKER\r\n\r\n", b"405 Method Not Allowed"),
}


@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED)
async def test_a_refusal_repeats_nothing(port: Port, log: io.StringIO, sent: bytes, status: bytes) -> None:
    """Neither the log nor the answer quotes the request: the answer is the status and its phrase."""
    visitor = await port.visit()

    visitor.send(sent)
    answer = await visitor.read()

    assert answer.split(b" ", 1)[1].startswith(status)
    assert answer.endswith(b"\r\n\r\n" + status[4:] + b"\n")
    assert b"MARKER" not in answer
    assert "MARKER" not in log.getvalue()
    assert "Traceback" not in log.getvalue()
    assert "request_broke" not in log.getvalue()


async def test_malformed_requests_are_one_log_line_a_second(port: Port, log: io.StringIO) -> None:
    """An attacker who sends garbage all day does not fill the disk."""
    for _ in range(20):
        visitor = await port.visit()
        visitor.send(b"rubbish\r\n\r\n")
        await visitor.read()

    first, *others = _told(log)
    assert first == ("connection_cut", {"malformed_request": 1})
    assert len(others) < 20


async def test_an_error_of_ours_is_logged_by_its_type(port: Port, log: io.StringIO) -> None:
    """A traceback may quote the request; the sender learns only that it is not their fault."""

    async def divide(_: web.Request) -> web.StreamResponse:
        message = "MARKER"
        raise ZeroDivisionError(message)

    port.answer = divide
    visitor = await port.visit()
    visitor.send(b"POST /slack/events HTTP/1.1\r\nHost: bot\r\nContent-Length: 0\r\n\r\n")

    answer = await visitor.read()

    assert answer.startswith(b"HTTP/1.1 500")
    assert answer.endswith(b"\r\n\r\nInternal Server Error\n")
    assert _told(log) == [("request_broke", {"ZeroDivisionError": 1})]


async def test_an_answer_that_cannot_be_sent_is_an_error_of_ours(port: Port, log: io.StringIO) -> None:
    """The library (aiohttp) catches it, and would log a traceback."""

    async def forge(_: web.Request) -> web.StreamResponse:
        return web.Response(headers={"X-Forged": "MARKER\r\nX-More: x"})

    port.answer = forge
    visitor = await port.visit()
    visitor.send(b"POST /slack/events HTTP/1.1\r\nHost: bot\r\nContent-Length: 0\r\n\r\n")

    assert await visitor.read() == b""
    assert _told(log) == [("request_broke", {"ValueError": 1})]


async def test_without_descriptors_no_connection_is_accepted_for_a_moment(
    port: Port, log: io.StringIO, pass_time: PassTime
) -> None:
    """One line in the log and no busy loop; waiting connections are served once descriptors are free."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    visitor = await port.visit_silently()
    waiting = socket.socket()
    waiting.settimeout(0)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        with suppress(BlockingIOError):
            waiting.connect((port.host, port.number))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not log.getvalue():  # noqa: ASYNC110 - only the log shows it
                await asyncio.sleep(0.001)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert _told(log) == [("connection_cut", {"no_descriptor_left": 1})]
    assert await visitor.ask() == 200

    waiting.send(ASK)
    pass_time(timedelta(milliseconds=100))

    async with asyncio.timeout(PATIENCE_SECONDS):
        assert (await asyncio.get_running_loop().sock_recv(waiting, 1000)).startswith(b"HTTP/1.1 200")
    waiting.close()
