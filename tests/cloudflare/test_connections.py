"""The connections to Cloudflare: which request uses which, and which are closed."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Self

import httpcore
import httpx
import pytest

from bot.cloudflare.auth import ApiToken
from bot.cloudflare.client import CloudflareClient
from bot.cloudflare.connections import KEPT_FOR, Connections
from bot.cloudflare.errors import CloudflareError
from bot.cloudflare.pace import MOST_IN_FLIGHT
from bot.model.secret import Secret
from bot.model.submission import TokenKind
from bot.sandbox.cloudflare import SANDBOX_ACCOUNT_ID, SANDBOX_API_TOKEN
from bot.sandbox.tokens import Behaviour, make_token

REQUEST = httpx.Request("GET", "https://api.example.com/")


class Body(httpx.AsyncByteStream):
    """Two parts, and then what its test orders."""

    def __init__(self, failure: Exception | None = None) -> None:
        self._failure = failure

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"
        if self._failure is not None:
            raise self._failure


class Line(httpx.AsyncBaseTransport):
    """One of the transports below; answers once it may, and knows how many requests it has at a time."""

    def __init__(self, office: "Office") -> None:
        self._office = office
        self.in_flight = self.served = 0
        self.is_closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        assert not self.is_closed
        self.in_flight += 1
        try:
            assert self.in_flight == 1
            await self._office.may_answer.wait()
            if self._office.failure is not None:
                raise self._office.failure
        finally:
            self.in_flight -= 1
        self.served += 1
        return httpx.Response(200, stream=Body(self._office.failure_in_body), request=request)

    async def aclose(self) -> None:
        """Close, or fail at that."""
        self.is_closed = True
        if self._office.failure_at_the_end is not None:
            raise self._office.failure_at_the_end


class Office:
    """The connections under test, and the transports that they have made."""

    def __init__(self, most_idle: int = 4) -> None:
        self.now = 100.0
        self.lines: list[Line] = []
        self.failure: Exception | None = None
        self.failure_in_body: Exception | None = None
        self.failure_at_the_end: Exception | None = None
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.connections = Connections(self._make, most_idle=most_idle, timer=lambda: self.now)

    def _make(self) -> Line:
        self.lines.append(Line(self))
        return self.lines[-1]

    @property
    def open_lines(self) -> list[Line]:
        """The transports that are not closed."""
        return [line for line in self.lines if not line.is_closed]

    async def ask(self) -> bytes:
        """Send a request, and read and close its answer."""
        answer = await self.connections.handle_async_request(REQUEST)
        try:
            return await answer.aread()
        finally:
            await answer.aclose()

    async def wait_for(self, requests: int) -> None:
        """Wait until so many requests are in flight."""
        async with asyncio.timeout(10):
            while sum(line.in_flight for line in self.lines) < requests:  # noqa: ASYNC110 - each step of the loop is one of theirs
                await asyncio.sleep(0)

    async def ask_at_once(self, requests: int) -> None:
        """Send so many requests, and let them be answered once all are in flight."""
        self.may_answer.clear()
        tasks = [asyncio.create_task(self.ask()) for _ in range(requests)]
        await self.wait_for(requests)
        self.may_answer.set()
        assert await asyncio.gather(*tasks) == [b"onetwo"] * requests


async def test_each_request_in_flight_has_a_transport_of_its_own() -> None:
    """Never two on one; and as many as were needed at a time."""
    office = Office()
    for _ in range(3):
        await office.ask_at_once(3)
    assert [line.served for line in office.lines] == [3, 3, 3]


@pytest.mark.parametrize("failure", [OSError(), httpx.CloseError("")], ids=lambda error: type(error).__name__)
async def test_one_that_cannot_be_closed_harms_no_other(failure: Exception) -> None:
    """Old ones are closed when the next request is about to be sent; and at the end, all of them are."""
    office = Office()
    await office.ask_at_once(3)
    office.now += KEPT_FOR.total_seconds() + 1
    office.failure_at_the_end = failure
    await office.ask_at_once(2)
    await office.connections.aclose()
    assert office.open_lines == []


async def test_one_after_the_other_uses_one() -> None:
    """The one that was used last, so that the others grow old."""
    office = Office()
    await office.ask_at_once(3)
    office.now += KEPT_FOR.total_seconds()
    for _ in range(5):
        await office.ask()
    assert sorted(line.served for line in office.lines) == [1, 1, 6]

    office.now += 1
    await office.ask()
    assert [line.served for line in office.open_lines] == [7]


async def test_one_that_is_too_old_is_not_used() -> None:
    """As in httpx's own pool."""
    office = Office()
    await office.ask()
    office.now += KEPT_FOR.total_seconds() + 1
    await office.ask()
    assert [line.served for line in office.open_lines] == [1]
    assert len(office.lines) == 2


async def test_only_so_many_are_kept() -> None:
    """However many a burst needed."""
    office = Office(most_idle=2)
    await office.ask_at_once(5)
    assert len(office.lines) == 5
    assert len(office.open_lines) == 2


async def test_a_cancelled_request_takes_its_transport_with_it() -> None:
    """Its pool may hold a connection that nobody frees."""
    office = Office()
    await office.ask()
    office.may_answer.clear()
    task = asyncio.create_task(office.ask())
    await office.wait_for(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert office.open_lines == []
    office.may_answer.set()
    assert await office.ask() == b"onetwo"


@pytest.mark.parametrize("place", ["failure", "failure_in_body"])
async def test_a_failed_request_takes_its_transport_with_it(place: str) -> None:
    """Before the headers, or in the body."""
    office = Office()
    setattr(office, place, httpx.ReadError("x"))
    with pytest.raises(httpx.ReadError):
        await office.ask()
    setattr(office, place, None)
    assert office.open_lines == []
    assert await office.ask() == b"onetwo"


async def test_an_answer_that_is_not_read_takes_its_transport_with_it() -> None:
    """What is left of it must not be taken for the next answer."""
    office = Office()
    answer = await office.connections.handle_async_request(REQUEST)
    await answer.aclose()
    assert office.open_lines == []


async def test_closing_closes_all() -> None:
    """Also one that is used; and what is given back later is closed."""
    office = Office()
    await office.ask_at_once(2)
    answer = await office.connections.handle_async_request(REQUEST)
    assert len(office.open_lines) == 2
    await office.connections.aclose()
    assert office.open_lines == []
    await answer.aread()
    await answer.aclose()
    assert office.open_lines == []


@pytest.mark.parametrize("status", ["200 OK", "500 Internal Server Error"])
async def test_the_client_keeps_its_connection(status: str) -> None:
    """Over a real socket: one connection for requests in turn, and all are closed with the client."""
    async with _Server(status) as server:
        client = server.make_client()
        for _ in range(3):
            await server.ask(client)
        assert (server.requests, server.accepted, server.open_now) == (3, 1, 1)
        await asyncio.gather(*(server.ask(client) for _ in range(MOST_IN_FLIGHT)))
        assert server.accepted <= MOST_IN_FLIGHT
        await client.aclose()
        await server.wait_until(lambda: server.open_now == 0)


async def test_a_pasted_token_does_not_wait_for_the_garbage_collector() -> None:
    """What is in a cycle when the collector is told to leave alone what there is would stay as long as the process."""
    pasted = make_token(Behaviour.GOOD, number=7)
    async with _Server("200 OK") as server:
        client = server.make_client()
        gc.disable()
        try:
            with suppress(CloudflareError):
                await client.verify_token(Secret(pasted), TokenKind.USER, _yes)
            requests = [each for each in gc.get_objects() if isinstance(each, httpx.Request | httpcore.Request)]
        finally:
            gc.enable()
        assert server.requests == 1
        assert [each for each in requests if pasted in repr(getattr(each.headers, "raw", each.headers))] == []
        await client.aclose()
        await server.wait_until(lambda: server.open_now == 0)


async def _yes() -> bool:
    return True


class _Server:
    """Answers each request with the same status, and counts connections."""

    def __init__(self, status: str) -> None:
        self._status = status
        self._changed = asyncio.Condition()
        self.accepted = self.open_now = self.requests = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    def make_client(self) -> CloudflareClient:
        """Return a client of this server."""
        host, port = self._server.sockets[0].getsockname()
        auth = ApiToken(token=Secret(SANDBOX_API_TOKEN))
        return CloudflareClient(account_id=SANDBOX_ACCOUNT_ID, base_url=f"http://{host}:{port}", auth=auth)

    @staticmethod
    async def ask(client: CloudflareClient) -> None:
        """Send a request; its answer may be an error."""
        try:
            await client.list_catalogs()
        except CloudflareError as error:
            assert error.status == 500  # noqa: PT017 - only one of the two answers is an error

    async def wait_until(self, holds: Callable[[], bool]) -> None:
        """Wait for it, at most ten seconds."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(holds)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.open_now += 1
        body = b'{"success": true, "errors": [], "result": []}'
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                writer.write(f"HTTP/1.1 {self._status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        except asyncio.IncompleteReadError:
            writer.close()
        async with self._changed:
            self.open_now -= 1
            self._changed.notify_all()
