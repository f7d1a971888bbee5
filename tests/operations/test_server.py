"""The port: its answers before the bot is ready and while it stops, and a restart that loses nothing."""

import asyncio
import io
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta

import aiohttp
import pytest_asyncio
from slack_bolt.async_app import AsyncAck, AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_sdk.signature import SignatureVerifier
from slack_sdk.web.async_client import AsyncWebClient

from bot.operations.server import Server
from bot.sandbox.slack import FakeSlack
from bot.sandbox.workspace import FakeSlackConfig
from bot.slack.inbound.http import HttpIngress
from bot.slack.subcommands import COMMAND
from tests.clock import Clock
from tests.ingress import make_ingress as build_ingress
from tests.load import Load

ADA = "U0ADA0001"
PLATFORM = "C0DATAPLT"
ACCOUNT = "5a4db0c0000000000000000000000001"
PATIENCE_SECONDS = 60
MORE = 5
"""How many answers each user gets between two steps of a restart."""
PassTime = Callable[[timedelta], None]
Work = Callable[[str], Awaitable[None]]


def make_ingress(slack: FakeSlack, clock: Clock, work: Work) -> HttpIngress:
    """Build an ingress to an app that repeats the text of the command, after some work."""

    async def authorize(**_: object) -> AuthorizeResult:
        return AuthorizeResult(team_id="T0SANDBOX", enterprise_id=None)

    async def echo(ack: AsyncAck, command: dict[str, str]) -> None:
        await work(command["text"])
        await ack(command["text"])

    app = AsyncApp(
        client=AsyncWebClient(), authorize=authorize, request_verification_enabled=False, process_before_response=True
    )
    app.command(COMMAND)(echo)
    ingress = build_ingress(app, clock)
    return HttpIngress(ingress, [SignatureVerifier(slack.config.signing_secret)])


async def be_ready() -> bool:
    """Return True."""
    return True


@dataclass(slots=True, kw_only=True)
class Door:
    """A fake Slack, and the bot's port with an app behind it that answers when the test allows."""

    slack: FakeSlack
    server: Server
    address: str
    ingress: HttpIngress
    http: aiohttp.ClientSession
    heard: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    async def get(self, path: str) -> int:
        """Return the status of a page."""
        async with self.http.get(f"http://{self.address}{path}") as answer:
            await answer.read()
            return answer.status

    async def command(self, text: str) -> str | None:
        """Type the command; return its answer, or its error."""
        outcome = await self.slack.type_command(ADA, PLATFORM, f"/r2-credential {text}")
        return outcome.failure or (outcome.message.text if outcome.message else None)


@pytest_asyncio.fixture
async def door(clock: Clock) -> AsyncIterator[Door]:
    """Open the port; nothing is attached to it yet."""
    heard, let_go = asyncio.Queue[str](), asyncio.Event()

    async def work(text: str) -> None:
        heard.put_nowait(text)
        await let_go.wait()

    async with FakeSlack() as slack, aiohttp.ClientSession() as http:
        server = Server()
        address = await server.listen("127.0.0.1", 0)
        slack.request_url = f"http://{address}/slack/events"
        ingress = make_ingress(slack, clock, work)
        yield Door(slack=slack, server=server, address=address, ingress=ingress, http=http, heard=heard, let_go=let_go)
        let_go.set()
        await server.stop()


async def test_it_listens_before_the_bot_is_ready(door: Door) -> None:
    """A supervisor sees that it is alive, a load balancer that it is not ready, and Slack gets a 503."""
    assert [await door.get(path) for path in ("/healthz", "/readyz")] == [200, 503]
    assert await door.command("early") == "dispatch_failed"
    assert door.slack.sent[-1].answer.status == 503

    door.let_go.set()
    door.server.attach(door.ingress.handle, be_ready)

    assert [await door.get(path) for path in ("/healthz", "/readyz")] == [200, 200]
    assert await door.command("now") == "now"


async def test_readiness_is_asked_for_once_a_second(door: Door, pass_time: PassTime) -> None:
    """Anyone may ask at any rate: simultaneous requests share an answer, which is valid for a second."""
    asked, let_go = asyncio.Queue[None](), asyncio.Event()

    async def is_ready() -> bool:
        asked.put_nowait(None)
        await let_go.wait()
        return True

    door.server.attach(None, is_ready)
    waiting = [asyncio.create_task(door.get("/readyz")) for _ in range(20)]
    await asked.get()
    while len(door.server._connections) < len(waiting):  # noqa: ASYNC110 - no event says that they wait
        await asyncio.sleep(0.001)
    let_go.set()

    assert await asyncio.gather(*waiting) == [200] * 20
    assert [await door.get("/readyz") for _ in range(3)] == [200] * 3
    assert asked.empty()
    pass_time(timedelta(seconds=1))
    assert await door.get("/readyz") == 200
    assert asked.qsize() == 1


async def test_the_end_of_the_start_is_seen_at_once(door: Door) -> None:
    """The answer of a moment before it is forgotten, so that nobody waits a second longer for the bot."""
    answers = [False, True]

    async def is_ready() -> bool:
        return answers.pop(0)

    door.server.attach(None, is_ready)
    assert [await door.get("/readyz") for _ in range(2)] == [503, 503]
    door.server.look_again()
    assert await door.get("/readyz") == 200


async def test_a_bot_that_cannot_check_whether_it_is_ready_is_not(door: Door, pass_time: PassTime) -> None:
    """An error means "not ready", at once and during the second for which the answer is valid."""
    faults = [False, True]

    async def is_ready() -> bool:
        if faults.pop(0):
            raise ZeroDivisionError
        return True

    door.server.attach(None, is_ready)
    assert await door.get("/readyz") == 200
    pass_time(timedelta(seconds=1))

    assert [await door.get("/readyz") for _ in range(2)] == [500, 503]


async def test_without_an_ingress_there_is_nothing_for_slack(door: Door) -> None:
    """In Socket Mode the port is for health checks only."""
    door.server.attach(None, be_ready)

    assert await door.get("/readyz") == 200
    assert await door.command("x") == "dispatch_failed"
    assert door.slack.sent[-1].answer.status == 404


async def test_a_server_that_never_listened_can_be_stopped() -> None:
    """A start may be refused before it listens."""
    await Server(None, be_ready).stop()


async def test_a_stop_is_announced_while_everything_is_answered(door: Door) -> None:
    """It is not ready, but still answers, and each connection ends with its answer."""
    door.let_go.set()
    door.server.attach(door.ingress.handle, be_ready)

    door.server.begin_stop()

    assert await door.get("/readyz") == 503
    assert await door.get("/healthz") == 200
    assert await door.command("late") == "late"
    for path in ("/healthz", "/nothing"):
        async with door.http.get(f"http://{door.address}{path}") as answer:
            assert answer.headers["Connection"] == "close"


async def test_a_stop_answers_open_requests_and_accepts_no_new_ones(door: Door) -> None:
    """New connections are refused, so that a load balancer chooses another process."""
    door.server.attach(door.ingress.handle, be_ready)
    asking = asyncio.create_task(door.command("under way"))
    assert await door.heard.get() == "under way"

    stopping = asyncio.create_task(door.server.stop())
    await _wait_until_refused(door)
    assert await door.command("too late") == "dispatch_failed"
    assert not stopping.done()
    door.let_go.set()

    assert await asking == "under way"
    await stopping


async def _wait_until_refused(door: Door) -> None:
    host, _, port = door.address.partition(":")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except ConnectionError:
                return
            writer.close()
            await asyncio.sleep(0.005)  # no event says that the port is closed


async def test_a_connection_that_is_open_may_still_ask(door: Door) -> None:
    """After the port is closed, a request on an open connection is still answered."""
    host, _, port = door.address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))

    stopping = asyncio.create_task(door.server.stop())
    await _wait_until_refused(door)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: bot\r\n\r\n")
    async with asyncio.timeout(PATIENCE_SECONDS):
        answer = await reader.read()
        await stopping

    assert answer.startswith(b"HTTP/1.1 200")
    assert b"Connection: close" in answer
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def test_connections_in_the_backlog_are_served(door: Door) -> None:
    """They are in the kernel's queue when the port is closed, and are not reset."""
    host, _, port = door.address.partition(":")
    late = [socket.create_connection((host, int(port))) for _ in range(3)]  # blocking: the loop accepts none
    for connection in late:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: bot\r\n\r\n")

    await door.server.stop()

    for connection in late:
        with connection:
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")


async def test_a_silent_connection_does_not_hold_up_a_stop(door: Door) -> None:
    """It never sends anything, and is closed."""
    host, _, port = door.address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))

    async with asyncio.timeout(PATIENCE_SECONDS):
        await door.server.stop()
        assert await reader.read() == b""
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def test_a_handler_that_hangs_does_not_hold_up_a_stop(door: Door, pass_time: PassTime) -> None:
    """It has as much time as an answer may take."""
    door.server.attach(door.ingress.handle, be_ready)
    asking = asyncio.create_task(door.command("hangs"))
    await door.heard.get()

    stopping = asyncio.create_task(door.server.stop())
    while not stopping.done():
        await asyncio.sleep(0.005)  # a real moment for the sockets
        pass_time(timedelta(milliseconds=100))

    assert await asking != "hangs"


async def test_a_rolling_restart_loses_repeats_and_delays_nothing(clock: Clock, log: io.StringIO) -> None:
    """Two replicas behind a load balancer under a steady load: each is stopped and started again, in turn.

    Everybody goes on being answered before, during and after each stop.
    """
    heard: list[str] = []

    async def work(text: str) -> None:
        heard.append(text)
        await asyncio.sleep(0.005)  # so that something is always under way

    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        FakeSlack(FakeSlackConfig(answer_timeout=timedelta(seconds=PATIENCE_SECONDS))) as slack,
        AsyncExitStack() as stack,
    ):
        ingress = make_ingress(slack, clock, work)
        replicas = [await _start_replica(ingress, stack) for _ in range(2)]
        slack.transport.request_urls = [f"http://{address}/slack/events" for _, address in replicas]
        async with Load(slack) as load:
            for old, address in replicas:
                await load.wait_for_more(MORE)
                old.begin_stop()
                await load.wait_for_more(MORE)
                await old.stop()
                await load.wait_for_more(MORE)
                await _start_replica(ingress, stack, int(address.rpartition(":")[2]))
            await load.wait_for_more(MORE)

    assert load.failed == []
    assert sorted(heard) == sorted(load.sent)


async def _start_replica(ingress: HttpIngress, stack: AsyncExitStack, port: int = 0) -> tuple[Server, str]:
    """Listen until the stack is closed; return the server and its address."""
    server = Server(ingress.handle, be_ready)
    stack.push_async_callback(server.stop)
    return server, await server.listen("127.0.0.1", port)
