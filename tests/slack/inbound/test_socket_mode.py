"""Socket Mode: after any failure the bot reconnects by a new address, and no payload stays in memory."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from slack_bolt.async_app import AsyncAck, AsyncApp, AsyncBoltContext
from slack_bolt.authorization import AuthorizeResult
from slack_sdk.web.async_client import AsyncWebClient

from bot.metrics import SOCKET_RECONNECTS
from bot.model.catalog import BucketKey
from bot.model.submission import PastedToken
from bot.sandbox.slack import FakeSlack
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.transport import Answer
from bot.sandbox.workspace import FakeSlackConfig
from bot.slack import form as modal
from bot.slack.blocks import Json
from bot.slack.inbound.connection import _REASONS, RENEWAL
from bot.slack.inbound.payloads import Submit
from bot.slack.inbound.routes import PAYLOAD
from bot.slack.inbound.socket_mode import SocketModeIngress
from bot.slack.subcommands import COMMAND
from tests.clock import Clock
from tests.ingress import make_ingress as build_ingress
from tests.load import Load
from tests.memory import find_holders

ADA = "U0ADA0001"
PLATFORM = "C0DATAPLT"
ACCOUNT = "5a4db0c0000000000000000000000001"
PATIENCE = timedelta(seconds=60)
MORE = 5
"""How many answers each person gets between two steps of a restart."""
STEP = timedelta(milliseconds=100)
PassTime = Callable[[timedelta], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """How long something took in the bot's time: the time that the test advanced, and that plus the real time.

    Real time counts as well and depends on the machine: compare `at_least` with an upper bound only, and `at_most` with
    a lower bound only.
    """

    at_least: timedelta
    at_most: timedelta


@dataclass(slots=True, kw_only=True)
class Line:
    """A fake Slack, the bot's end of Socket Mode, and what it received."""

    slack: FakeSlack
    ingress: SocketModeIngress
    pass_time: PassTime
    heard: asyncio.Queue[PastedToken | None]
    let_go: asyncio.Event
    watching: asyncio.Task[None] | None = None

    @property
    def addresses(self) -> int:
        """Return how many addresses the bot has asked for."""
        return len(self.slack.calls_of("apps.connections.open"))

    @property
    def open(self) -> list[web.WebSocketResponse]:
        """Return the connections that Slack holds."""
        return self.slack.transport.connections

    async def start(self) -> None:
        """Connect, and watch the connections as the composition root does."""
        await self.ingress.connect()
        self.watching = asyncio.create_task(self.ingress.watch())

    async def start_both(self) -> None:
        """Wait until both connections are open."""
        await self.start()
        await self.wait_until(lambda: len(self.open) == 2)

    async def wait_until(self, is_so: Callable[[], bool], step: timedelta = STEP) -> Taken:
        """Advance the time until the condition holds, and return how long that took."""
        loop = asyncio.get_running_loop()
        started, turned = loop.time(), timedelta(0)
        async with asyncio.timeout(600):  # in the bot's time
            while not is_so():
                await asyncio.sleep(0.005)  # real time for the sockets: no event says how far the bot has come
                self.pass_time(step)
                turned += step
        return Taken(at_least=turned, at_most=timedelta(seconds=loop.time() - started))

    async def wait_for_addresses(self, count: int) -> None:
        """Wait until that many addresses were asked for and as many connections made."""
        await self.wait_until(lambda: self.addresses == count)
        await self.wait_until(lambda: len(self.open) >= 2)

    async def submit(self) -> asyncio.Task[Answer]:
        """Press Submit, and return once a listener runs for it."""
        form = modal.build_form(
            nonce="the-nonce",
            filling=modal.Filling(key=BucketKey(account_id="a" * 32, bucket="analytics-events")),
            catalogs=(),
        )
        self.slack.modals.open(self.slack.workspace.users[ADA], PLATFORM, form)
        submitting = asyncio.create_task(self.slack.deliver("interactive", self.slack.make_submission(ADA)))
        async with asyncio.timeout(PATIENCE.total_seconds()):
            await self.heard.get()
        return submitting

    async def command(self) -> str:
        """Type the command, and return the answer from the socket."""
        outcome = await self.slack.type_command(ADA, PLATFORM, "/r2-credential")
        assert outcome.failure is None
        return outcome.message.text if outcome.message else ""


def make_app(heard: asyncio.Queue[PastedToken | None], let_go: asyncio.Event) -> AsyncApp:
    """Build an app that records what it receives, and answers a submission when the test lets it."""

    async def authorize(**_: object) -> AuthorizeResult:
        return AuthorizeResult(team_id="T0SANDBOX", enterprise_id=None)

    app = AsyncApp(
        client=AsyncWebClient(),
        authorize=authorize,
        request_verification_enabled=False,
        process_before_response=True,
        logger=logging.getLogger("slack_bolt"),
    )

    async def take(ack: AsyncAck, context: AsyncBoltContext) -> None:
        payload = context[PAYLOAD]
        heard.put_nowait(payload.pasted if isinstance(payload, Submit) else None)
        await let_go.wait()
        await ack()

    async def answer(ack: AsyncAck) -> None:
        await ack("heard you")

    app.view(modal.CALLBACK_ID)(take)
    app.command(COMMAND)(answer)
    return app


@pytest_asyncio.fixture
async def line(log: io.StringIO, clock: Clock, pass_time: PassTime) -> AsyncIterator[Line]:
    """Make both ends, not connected yet."""
    heard, let_go = asyncio.Queue[PastedToken | None](), asyncio.Event()
    async with FakeSlack() as slack:
        ingress = make_ingress(slack, make_app(heard, let_go), clock)
        line = Line(slack=slack, ingress=ingress, pass_time=pass_time, heard=heard, let_go=let_go)
        yield line
        if line.watching is not None:
            line.watching.cancel()
            await asyncio.gather(line.watching, return_exceptions=True)
        await ingress.close()


def make_ingress(slack: FakeSlack, app: AsyncApp, clock: Clock) -> SocketModeIngress:
    """Build the bot's end as the composition root does."""
    client = AsyncWebClient(token=slack.config.bot_tokens[0], base_url=slack.api_url, retry_handlers=[])
    client.proxy = None
    return SocketModeIngress(
        build_ingress(app, clock),
        app_token=slack.config.app_token or "",
        web_client=client,
        logger=logging.getLogger("slack_sdk"),
    )


@asynccontextmanager
async def serve_lines(talk: Callable[[web.WebSocketResponse], Awaitable[None]]) -> AsyncIterator[str]:
    """Serve Socket Mode connections without the fake Slack, and yield their address."""

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        await talk(socket)
        return socket

    server = web.Application()
    server.router.add_get("/link", serve)
    async with TestServer(server, host="127.0.0.1") as running:
        yield str(running.make_url("/link"))


async def test_one_connection_is_enough_and_the_other_follows(line: Line) -> None:
    """The bot is ready at once; each connection used a different address."""
    await line.ingress.connect()
    assert line.ingress.open_connections
    assert len(line.open) == 1

    line.watching = asyncio.create_task(line.ingress.watch())
    await line.slack.wait_for_connections(2)

    assert line.addresses == 2
    assert [await line.command() for _ in range(4)] == ["heard you"] * 4


async def test_a_second_connection_that_is_refused_forever_does_no_harm(line: Line, log: io.StringIO) -> None:
    """The bot stays ready and answers; it retries with pauses."""
    await line.ingress.connect()
    line.slack.transport.refuses_connections = True
    line.watching = asyncio.create_task(line.ingress.watch())

    taken = await line.wait_until(lambda: log.getvalue().count("socket_mode_not_connected") == 6)

    assert taken.at_most > timedelta(seconds=0.5 + 1 + 2 + 4 + 8)
    assert line.addresses == 7
    assert line.ingress.open_connections
    assert await line.command() == "heard you"


async def _drop(line: Line) -> None:
    await line.open[0].close(code=aiohttp.WSCloseCode.GOING_AWAY)


async def _abort(line: Line) -> None:
    """Abort TCP without a WebSocket close."""
    transport = line.open[0]._req.transport if line.open[0]._req else None
    assert transport is not None
    transport.abort()


async def _freeze(line: Line) -> None:
    """Let the other end hold the connection open and read nothing more, as a machine that vanished."""
    request = line.open[0]._req
    assert request is not None
    assert isinstance(request.transport, asyncio.Transport)
    request.transport.pause_reading()


async def _disable(line: Line) -> None:
    await line.open[0].send_json({"type": "disconnect", "reason": "link_disabled"})


async def _have_too_many(line: Line) -> None:
    await line.open[0].send_json({"type": "disconnect", "reason": "too_many_websockets"})


async def _say_something_new(line: Line) -> None:
    await line.open[0].send_json({"type": "disconnect", "reason": ["MARKER"]})


async def _stop_listening_inside(line: Line) -> None:
    """Break the bot's own end."""
    connection = line.ingress._lanes[0]._connection
    assert connection is not None
    assert connection.message_receiver is not None
    connection.message_receiver.cancel()


TROUBLE: dict[str, Callable[[Line], Awaitable[None]]] = {
    "closed": _drop,
    "aborted": _abort,
    "half open": _freeze,
    "Socket Mode switched off": _disable,
    "too many": _have_too_many,
    "unknown reason": _say_something_new,
    "our end broke": _stop_listening_inside,
}


@pytest.mark.parametrize("make_trouble", TROUBLE.values(), ids=TROUBLE)
async def test_a_dead_connection_is_rebuilt_within_thirty_seconds(
    line: Line, log: io.StringIO, make_trouble: Callable[[Line], Awaitable[None]]
) -> None:
    """The other connection stays as it is, and the bot is ready all the time."""
    await line.start_both()
    first, second = line.open

    await make_trouble(line)
    taken = await line.wait_until(lambda: any(socket not in (first, second) for socket in line.open))

    assert taken.at_least < timedelta(seconds=30)
    assert line.addresses == 3
    assert len({first, second} & set(line.open)) >= 1
    assert line.ingress.open_connections
    assert "socket_mode_down" in log.getvalue()
    assert "MARKER" not in log.getvalue()


def test_every_reason_for_another_connection_can_be_counted() -> None:
    """One that the metric does not list would be counted as "other", which its documentation does not explain."""
    [label] = SOCKET_RECONNECTS.labels
    assert set(label.values) == _REASONS | {RENEWAL, "closed", "unknown"}


@pytest.mark.parametrize("reason", ["warning", "refresh_requested"])
async def test_a_connection_is_replaced_before_it_ends(line: Line, reason: str) -> None:
    """Both are replaced at once, each old one staying until its successor is open."""
    await line.start_both()
    before = list(line.open)

    fewest = 2
    await line.slack.transport.ask_to_reconnect(reason)
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while set(before) & set(line.open):
            change = line.slack.workspace.changes.next_change()
            fewest = min(fewest, len(line.open))
            waiting = asyncio.create_task(change.wait())
            while not waiting.done():
                await asyncio.sleep(0.005)
                line.pass_time(STEP / 10)

    assert fewest == 2
    assert len(line.open) == 2
    assert line.addresses == 4
    assert await line.command() == "heard you"


async def test_an_old_connection_answers_what_it_took(line: Line) -> None:
    """Slack asks for a new connection while a listener runs: the answer still takes the connection of its request."""
    await line.start_both()
    submitting = await line.submit()

    await line.slack.transport.ask_to_reconnect()
    await line.wait_for_addresses(4)
    line.let_go.set()

    assert (await submitting).failure is None
    assert line.heard.empty()


async def test_an_address_that_never_answers_is_abandoned(line: Line, log: io.StringIO) -> None:
    """It accepts the connection and says nothing: after four seconds the bot asks for the next address."""

    async def say_nothing(socket: web.WebSocketResponse) -> None:
        await socket.receive()

    async with serve_lines(say_nothing) as address:
        line.ingress.wss_uri = address
        connecting = asyncio.create_task(line.ingress.connect())
        taken = await line.wait_until(connecting.done)

    assert timedelta(seconds=4) < taken.at_most
    assert taken.at_least < timedelta(seconds=30)
    assert line.addresses == 1
    assert "socket_mode_not_connected" in log.getvalue()


async def test_a_failed_first_handshake_is_retried(line: Line, log: io.StringIO) -> None:
    """A bot started while Slack is down connects, by a new address, when Slack is back."""
    line.slack.transport.refuses_connections = True
    connecting = asyncio.create_task(line.ingress.connect())

    await line.wait_until(lambda: line.addresses == 2)
    line.slack.transport._tickets.clear()
    line.slack.transport.refuses_connections = False
    await line.wait_until(connecting.done)

    await connecting
    assert await line.command() == "heard you"
    assert "socket_mode_not_connected" in log.getvalue()
    assert "ticket=" not in log.getvalue()


NO_ADDRESS: dict[str, tuple[dict[str, Any], str, tuple[int, int]]] = {
    "a revoked token": ({"error": "invalid_auth"}, "socket_mode_refused", (61, 100)),
    "a proxy's page": ({"status": 503}, "socket_mode_not_connected", (35, 70)),
    "a broken connection": ({"drop_connection": True}, "socket_mode_not_connected", (35, 70)),
    "rate-limited": ({"retry_after": 20}, "socket_mode_not_connected", (140, 200)),
}


@pytest.mark.parametrize(("trouble", "event", "seconds"), NO_ADDRESS.values(), ids=NO_ADDRESS)
async def test_without_an_address_the_bot_asks_with_growing_pauses(
    line: Line, log: io.StringIO, trouble: dict[str, Any], event: str, seconds: tuple[int, int]
) -> None:
    """After seven failures it recovers by itself; the log has each of them, and the pauses are kept."""
    tries = 2 if trouble.get("drop_connection") else 1  # the SDK retries at once over another connection
    line.slack.fail_next("apps.connections.open", times=7 * tries, **trouble)

    connecting = asyncio.create_task(line.ingress.connect())
    taken = await line.wait_until(connecting.done, 3 * STEP)

    assert log.getvalue().count(event) == 7
    assert timedelta(seconds=seconds[0]) < taken.at_most
    assert taken.at_least < timedelta(seconds=seconds[1])
    assert line.ingress.open_connections


async def test_connections_that_live_for_a_moment_are_rebuilt_with_pauses(line: Line) -> None:
    """Slack says hello and hangs up, again and again: the pauses still grow."""
    await line.start()
    loop = asyncio.get_running_loop()
    started, asked = loop.time(), line.addresses

    for _ in range(10):
        await line.wait_until(lambda: bool(line.open))
        await line.slack.transport.drop_connections()

    assert loop.time() - started > 5
    assert line.addresses - asked <= 12


async def test_a_good_connection_is_left_alone(line: Line) -> None:
    """The bot asks nothing of Slack while it talks."""
    await line.start_both()

    for _ in range(20):
        line.pass_time(timedelta(seconds=2))
        await line.command()

    assert line.addresses == 2
    assert line.watching is not None
    assert not line.watching.done()


async def test_close_ends_a_connection_for_good(line: Line) -> None:
    """Nothing reconnects a bot that stops."""
    await line.start_both()

    await line.ingress.close()
    await line.wait_until(lambda: not line.open)
    await line.ingress.connect()
    await line.ingress.watch()

    assert line.addresses == 2
    assert not line.ingress.open_connections


async def test_close_ends_the_attempts_to_connect(line: Line) -> None:
    """A bot stopped while Slack is away does not go on trying."""
    await line.start()
    line.slack.transport.refuses_connections = True
    await line.slack.transport.drop_connections()
    await line.wait_until(lambda: line.addresses >= 3)

    await line.ingress.close()
    asked = line.addresses
    line.pass_time(timedelta(minutes=5))
    assert line.watching is not None
    await line.watching

    assert line.addresses == asked


async def test_close_cancels_running_work(line: Line, log: io.StringIO) -> None:
    """Callers that want answers call `stop_taking` first; no task is left, and no fault is logged."""
    line.slack.transport.redelivers = False
    await line.start()
    submitting = await line.submit()

    await line.ingress.close()
    line.let_go.set()

    line.pass_time(timedelta(seconds=3))
    assert (await submitting).failure == "operation_timeout"
    assert "socket_mode_not_answered" not in log.getvalue()


async def test_an_ingress_that_never_connected_can_be_stopped_and_closed(line: Line) -> None:
    """A start may fail before that."""
    await line.ingress.stop_taking()
    await line.ingress.close()

    assert line.addresses == 0


async def test_close_does_not_wait_for_a_dead_connection(line: Line) -> None:
    """The other end does not close: the bot waits a second."""
    await line.start_both()
    await _freeze(line)

    closing = asyncio.create_task(line.ingress.close())
    taken = await line.wait_until(closing.done)

    assert timedelta(seconds=1) <= taken.at_most
    assert taken.at_least < timedelta(seconds=3)


async def test_a_stop_answers_what_was_taken(line: Line) -> None:
    """Then it closes the connections; `close` has nothing left to do."""
    await line.start_both()
    submitting = await line.submit()

    stopping = asyncio.create_task(line.ingress.stop_taking())
    await asyncio.sleep(0.02)  # no event says that it waits
    assert not stopping.done()
    line.let_go.set()
    await stopping

    assert (await submitting).failure is None
    await line.wait_until(lambda: not line.open)
    assert not line.ingress.open_connections
    await line.ingress.close()
    assert line.addresses == 2


async def test_a_stop_takes_nothing_new_under_constant_load(line: Line) -> None:
    """Running work is answered, later frames are not touched: Slack sends them elsewhere, or reports a failure."""
    await line.start_both()
    submitting = await line.submit()

    stopping = asyncio.create_task(line.ingress.stop_taking())
    await line.wait_until(lambda: len(line.open) == 1)  # the quiet one has closed
    line.pass_time(timedelta(seconds=1))
    await asyncio.sleep(0.02)  # no event says that its patience has ended
    late = asyncio.create_task(line.slack.type_command(ADA, PLATFORM, "/r2-credential"))
    await asyncio.sleep(0.02)
    line.let_go.set()
    await stopping

    assert (await submitting).failure is None
    line.pass_time(timedelta(seconds=3))
    assert (await late).failure == "operation_timeout"


async def test_a_stop_during_a_listener_that_hangs_ends(line: Line) -> None:
    """It ends within five seconds, whatever hangs."""
    await line.start_both()
    submitting = await line.submit()

    stopping = asyncio.create_task(line.ingress.stop_taking())
    taken = await line.wait_until(stopping.done)

    assert taken.at_least < timedelta(seconds=5)
    await submitting
    line.let_go.set()


async def test_an_answer_too_late_for_its_connection_is_logged(line: Line, log: io.StringIO) -> None:
    """The connection was aborted meanwhile: Slack asks again elsewhere, and the log has the reason."""
    line.slack.transport.redelivers = False
    await line.start()
    submitting = await line.submit()

    connection = line.ingress._lanes[0]._connection
    assert connection is not None
    assert connection.current_session is not None
    connection.over.set = lambda: None  # type: ignore[method-assign]  # the lane would give its answers up
    await _abort(line)
    await line.wait_until(lambda: not connection.is_open)
    line.let_go.set()
    await line.wait_until(lambda: "socket_mode_not_answered" in log.getvalue())

    line.pass_time(timedelta(seconds=3))
    assert (await submitting).failure == "operation_timeout"


def make_echo(heard: list[str]) -> AsyncApp:
    """Build an app that repeats what it received, after a moment."""
    app = make_app(asyncio.Queue(), asyncio.Event())
    app._async_listeners.clear()

    async def echo(ack: AsyncAck, command: dict[str, str]) -> None:
        heard.append(command["text"])
        await asyncio.sleep(0.005)  # work, so that a request is always running
        await ack(command["text"])

    app.command(COMMAND)(echo)
    return app


async def test_a_rolling_restart_loses_duplicates_and_delays_nothing(clock: Clock, log: io.StringIO) -> None:
    """Two replicas under a steady load restart in turn: each person keeps getting answers."""
    heard: list[str] = []
    config = FakeSlackConfig(answer_timeout=PATIENCE)
    async with (
        asyncio.timeout(PATIENCE.total_seconds()),
        FakeSlack(config) as slack,
        AsyncExitStack() as stack,
    ):
        replicas = [await _start_replica(slack, heard, clock, stack) for _ in range(2)]
        await slack.wait_for_connections(4)
        async with Load(slack) as load:
            for old, watching in replicas:
                await load.wait_for_more(MORE)
                await old.stop_taking()
                await old._ingress.drain()
                await old.close()
                await watching
                await load.wait_for_more(MORE)
                await _start_replica(slack, heard, clock, stack)
            await load.wait_for_more(MORE)

    assert load.failed == []
    assert sorted(heard) == sorted(load.sent)


async def _start_replica(
    slack: FakeSlack, heard: list[str], clock: Clock, stack: AsyncExitStack
) -> tuple[SocketModeIngress, asyncio.Task[None]]:
    """Connect until the stack is closed."""
    ingress = make_ingress(slack, make_echo(heard), clock)
    stack.push_async_callback(ingress.close)
    await ingress.connect()
    return ingress, asyncio.create_task(ingress.watch())


async def test_slacks_pings_are_answered(line: Line) -> None:
    """Slack drops a connection that stays silent."""
    pongs: asyncio.Queue[aiohttp.WSMessage] = asyncio.Queue()

    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.send_json({"type": "hello"})
        await socket.ping(b"Ping from Slack")
        async for frame in socket:
            if frame.type is aiohttp.WSMsgType.PONG:
                pongs.put_nowait(frame)

    async with serve_lines(talk) as address:
        line.ingress.wss_uri = address
        await line.ingress.connect()
        async with asyncio.timeout(PATIENCE.total_seconds()):
            assert (await pongs.get()).data == b"Ping from Slack"
        await line.ingress.close()


def _stand_still(line: Line) -> None:
    """Let the last beat be long ago, as after a freeze."""
    line.ingress._pulse._felt_at -= 10


async def test_what_lay_in_the_socket_of_a_frozen_process_is_not_taken(line: Line, log: io.StringIO) -> None:
    """Slack has given up on it, and its person may have submitted another token since. The next try is taken."""
    await line.start_both()
    _stand_still(line)
    late = await line.slack.deliver("interactive", _open_and_submit(line))
    await line.wait_until(lambda: all(each._doubts_until is None for each in line.ingress._connections))
    line.let_go.set()
    again = await line.submit()

    assert late.body is not None
    assert "Press the button again" in late.body["errors"][modal.TOKEN_BLOCK]
    assert (await again).failure is None
    assert line.heard.empty()
    assert "submit_came_too_late" in log.getvalue()


async def test_a_standstill_is_noticed_without_a_frame(line: Line, log: io.StringIO) -> None:
    """So that a prompt request after it is accepted."""
    await line.start_both()
    _stand_still(line)

    await line.wait_until(lambda: "socket_mode_stood_still" in log.getvalue())
    await line.wait_until(lambda: all(each._doubts_until is None for each in line.ingress._connections))
    line.let_go.set()

    assert (await (await line.submit())).failure is None


@pytest.mark.parametrize("pong", [None, b"another word"], ids=["no pong", "the pong of another ping"])
async def test_nothing_is_taken_before_the_pong(line: Line, pong: bytes | None) -> None:
    """Data sent before the ping is read before its pong: a frame may still be in the socket after a standstill."""
    answers: asyncio.Queue[Json] = asyncio.Queue()

    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.send_json({"type": "hello"})
        async for frame in socket:
            if frame.type is aiohttp.WSMsgType.PING:
                if pong is not None:
                    await socket.pong(pong)
                await socket.send_json(_envelope(line))
            elif frame.type is aiohttp.WSMsgType.TEXT:
                answers.put_nowait(json.loads(frame.data))

    async with serve_lines(talk) as address:
        line.ingress.wss_uri = address
        await line.ingress.connect()
        line.ingress._doubt()
        async with asyncio.timeout(PATIENCE.total_seconds()):
            answer = await answers.get()
        await line.ingress.close()

    assert "Press the button again" in answer["payload"]["errors"][modal.TOKEN_BLOCK]
    assert line.heard.empty()


async def test_a_ping_into_a_closed_connection_does_no_harm(line: Line, log: io.StringIO) -> None:
    """It ended during the standstill, and is rebuilt like any other."""
    await line.start_both()
    for connection in list(line.ingress._connections):
        await connection.close()
    line.ingress._doubt()
    await line.wait_until(lambda: len(line.open) == 2 and line.addresses == 4)

    assert "ping_broke" not in log.getvalue()


def _open_and_submit(line: Line) -> Json:
    """Return the payload of a form that was filled in and submitted."""
    return dict(_envelope(line)["payload"])


def _envelope(line: Line) -> Json:
    return dict(json.loads(_paste(line)))


def _paste(line: Line) -> str:
    """Make the frame of a submission; the fake Slack keeps nothing of it."""
    form = modal.build_form(
        nonce="the-nonce",
        filling=modal.Filling(key=BucketKey(account_id="a" * 32, bucket="analytics-events")),
        catalogs=(),
    )
    line.slack.modals.open(line.slack.workspace.users[ADA], PLATFORM, form)
    payload = line.slack.make_submission(ADA)
    for block in (modal.TOKEN_BLOCK, modal.REASON_BLOCK):  # the reason is the wrong place for a token, and is masked
        payload["view"]["state"]["values"][block][block]["value"] = _pasted_token()
    envelope = {"envelope_id": "e1", "type": "interactive", "payload": payload, "accepts_response_payload": True}
    return json.dumps(envelope)


def _pasted_token() -> str:
    return make_token(Behaviour.GOOD, number=733)


async def test_nothing_holds_the_token_once_it_is_sealed(line: Line) -> None:
    """Neither while a listener runs, nor while waiting for the next frame, which can take hours."""
    await line.ingress.connect()
    await line.slack.wait_for_connections()
    answered = line.slack.transport._waiting["e1"] = asyncio.get_running_loop().create_future()

    await line.slack.transport.connections[0].send_str(_paste(line))
    async with asyncio.timeout(PATIENCE.total_seconds()):
        pasted = await line.heard.get()
    during = find_holders(_pasted_token)
    line.let_go.set()
    async with asyncio.timeout(PATIENCE.total_seconds()):
        await answered
    after = find_holders(_pasted_token)

    assert (during, after) == ([], [])
    assert pasted is not None
    assert pasted.last_four == _pasted_token()[-4:]


def test_a_held_token_is_found() -> None:
    """The search must find a token, or it would prove nothing."""
    held: list[object] = [{"a body": ("of a request", _pasted_token().encode())}]

    assert "list" in find_holders(_pasted_token)
    held.clear()
