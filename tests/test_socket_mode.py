"""Socket Mode: whatever breaks, the bot comes back by a new address, and no payload stays in memory."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from conftest import Clock
from memory import find_holders
from slack_bolt.async_app import AsyncAck, AsyncApp, AsyncBoltContext
from slack_bolt.authorization import AuthorizeResult
from slack_sdk.web.async_client import AsyncWebClient

from bot.sandbox.slack import SmallSlack
from bot.sandbox.tokens import Behaviour, make_token
from bot.sealing import KeyRing, generate_private_key, load_private_keys
from bot.slack import modal
from bot.slack.ingress import PASTED_TOKEN, Ingress
from bot.slack.socket_mode import SocketModeIngress
from bot.submission import PastedToken

ADA = "U0ADA0001"
PLATFORM = "C0DATAPLT"
ACCOUNT = "5a4db0c0000000000000000000000001"
PATIENCE = timedelta(seconds=5)
STEP = timedelta(milliseconds=500)
PassTime = Callable[[timedelta], None]


@dataclass(slots=True, kw_only=True)
class Line:
    """A small Slack, the bot's end of Socket Mode, and what came out of it."""

    slack: SmallSlack
    ingress: SocketModeIngress
    pass_time: PassTime
    heard: asyncio.Queue[PastedToken | None]
    let_go: asyncio.Event

    @property
    def addresses(self) -> int:
        """How many addresses the bot has asked for."""
        return len(self.slack.calls_of("apps.connections.open"))

    async def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Let time run fast until something is so."""
        async with asyncio.timeout(60 * PATIENCE.total_seconds()):
            while not is_so():
                await asyncio.sleep(0.005)  # a real moment for the sockets: no event tells how far the SDK has come
                self.pass_time(STEP / 5)

    async def fail_handshakes(self) -> None:
        """Refuse connections until an address was tried in vain, and let all addresses of that time die."""
        asked = self.addresses
        await self.wait_until(lambda: self.addresses > asked + 1)
        self.slack.transport._tickets.clear()
        self.slack.transport.refuses_connections = False

    async def command(self) -> str:
        """Type the command, and return what came back over the socket."""
        outcome = await self.slack.type_command(ADA, PLATFORM, "/r2-credential")
        assert outcome.failure is None
        return outcome.message.text if outcome.message else ""


def make_app(heard: asyncio.Queue[PastedToken | None], let_go: asyncio.Event) -> AsyncApp:
    """Build an app that tells what it heard, and answers a submission when it may."""

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
        heard.put_nowait(context.get(PASTED_TOKEN))
        await let_go.wait()
        await ack()

    async def answer(ack: AsyncAck) -> None:
        await ack("heard you")

    app.view(modal.CALLBACK_ID)(take)
    app.command(modal.COMMAND)(answer)
    return app


@pytest_asyncio.fixture
async def line(log: io.StringIO, clock: Clock, pass_time: PassTime) -> AsyncIterator[Line]:
    """Put both ends there, not connected yet."""
    key_ring = KeyRing(*load_private_keys(generate_private_key()))
    heard, let_go = asyncio.Queue[PastedToken | None](), asyncio.Event()
    async with SmallSlack() as slack:
        client = AsyncWebClient(token=slack.config.bot_tokens[0], base_url=slack.api_url, retry_handlers=[])
        client.proxy = None
        ingress = SocketModeIngress(
            Ingress(make_app(heard, let_go), key_ring, ACCOUNT, clock),
            app_token=slack.config.app_token or "",
            web_client=client,
            logger=logging.getLogger("slack_sdk"),
        )
        yield Line(slack=slack, ingress=ingress, pass_time=pass_time, heard=heard, let_go=let_go)
        await ingress.close()  # type: ignore[no-untyped-call]  # slack_sdk does not annotate it


async def _drop(line: Line) -> None:
    line.slack.transport.refuses_connections = True
    await line.slack.transport.drop_connections()


async def _ask_to_reconnect(line: Line) -> None:
    line.slack.transport.refuses_connections = True
    await line.slack.transport.ask_to_reconnect()


async def _die_in_silence(line: Line) -> None:
    """End the socket in a way that nothing of the SDK notices."""
    line.slack.transport.refuses_connections = True
    ingress = line.ingress
    assert ingress.message_receiver is not None
    assert ingress.current_session_monitor is not None
    assert ingress.current_session is not None
    ingress.message_receiver.cancel()
    ingress.current_session_monitor.cancel()
    await ingress.current_session.close()


TROUBLE: dict[str, Callable[[Line], Awaitable[None]]] = {
    "dropped": _drop,
    "asked to reconnect": _ask_to_reconnect,
    "died in silence": _die_in_silence,
}


@pytest.mark.parametrize("make_trouble", TROUBLE.values(), ids=TROUBLE)
async def test_a_lost_connection_comes_back_by_a_new_address(
    line: Line, log: io.StringIO, make_trouble: Callable[[Line], Awaitable[None]]
) -> None:
    """The addresses of Slack's bad time are dead when it is over: trying one of them again would never end."""
    await line.ingress.connect()
    watch = asyncio.create_task(line.ingress.watch())

    await make_trouble(line)
    await line.fail_handshakes()
    await line.wait_until(lambda: bool(line.slack.transport.connections))

    assert await line.command() == "heard you"
    assert await line.ingress.is_connected()
    assert "ticket=" not in log.getvalue()
    watch.cancel()


async def test_a_first_handshake_that_fails_is_no_end(line: Line, log: io.StringIO) -> None:
    """A bot that is started while Slack is down connects when Slack is back."""
    line.slack.transport.refuses_connections = True
    connecting = asyncio.create_task(line.ingress.connect())

    await line.fail_handshakes()
    await line.wait_until(connecting.done)

    await connecting
    assert await line.command() == "heard you"
    assert "socket_mode_not_connected" in log.getvalue()


async def test_an_address_is_used_once(line: Line) -> None:
    """Also when a connection is lost right after it was made."""
    await line.ingress.connect()

    for connections in (2, 3, 4):
        await line.slack.transport.drop_connections()
        await line.slack.wait_for_connections()
        assert line.addresses == connections


async def test_a_good_connection_is_left_alone(line: Line) -> None:
    """The watchdog looks every ten seconds and does nothing."""
    await line.ingress.connect()
    watch = asyncio.create_task(line.ingress.watch())
    await asyncio.sleep(0)

    for _ in range(3):
        line.pass_time(timedelta(seconds=10))
        await line.command()

    assert line.addresses == 1
    assert not watch.done()
    watch.cancel()


async def test_one_loss_makes_one_new_connection(line: Line) -> None:
    """Receiver, watchdog and a person who presses nothing: whoever notices, the others find it mended."""
    await line.ingress.connect()
    await line.slack.transport.drop_connections()

    await asyncio.gather(*(line.ingress.connect_to_new_endpoint() for _ in range(5)))

    assert line.addresses == 2
    assert len(line.slack.transport.connections) == 1


async def test_close_ends_a_connection_for_good(line: Line) -> None:
    """Nothing that was on its way reconnects a bot that stops."""
    await line.ingress.connect()

    await line.ingress.close()  # type: ignore[no-untyped-call]  # slack_sdk does not annotate it
    await line.wait_until(lambda: not line.slack.transport.connections)
    await line.ingress._reconnect()

    assert line.addresses == 1
    assert line.ingress._tasks == set()


async def test_close_ends_the_tries_to_connect(line: Line) -> None:
    """A bot that is stopped while Slack is away does not go on knocking."""
    line.slack.transport.refuses_connections = True
    connecting = asyncio.create_task(line.ingress.connect())
    await line.wait_until(lambda: line.addresses == 1)

    await line.ingress.close()  # type: ignore[no-untyped-call]  # slack_sdk does not annotate it
    await line.wait_until(connecting.done)

    assert connecting.exception() is None
    assert line.addresses <= 2


async def test_slacks_pings_are_answered(line: Line) -> None:
    """Slack drops a connection that stays silent."""
    pongs: asyncio.Queue[aiohttp.WSMessage] = asyncio.Queue()

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        await socket.ping(b"Ping from Slack")
        async for frame in socket:
            if frame.type is aiohttp.WSMsgType.PONG:
                pongs.put_nowait(frame)
        return socket

    server = web.Application()
    server.router.add_get("/link", serve)
    async with TestServer(server, host="127.0.0.1") as running:
        line.ingress.wss_uri = str(running.make_url("/link"))
        await line.ingress.connect()
        async with asyncio.timeout(PATIENCE.total_seconds()):
            assert (await pongs.get()).data == b"Ping from Slack"
        await line.ingress.close()  # type: ignore[no-untyped-call]  # slack_sdk does not annotate it


def _paste(line: Line) -> str:
    """Make the frame of a submission; nothing of it is kept by the small Slack."""
    form = modal.build_form(nonce="the-nonce", bucket="analytics-events", catalogs_known=True)
    line.slack.modals.open(line.slack.workspace.users[ADA], PLATFORM, form)
    payload = line.slack.make_submission(ADA)
    payload["view"]["state"]["values"][modal.TOKEN_BLOCK][modal.TOKEN_BLOCK]["value"] = _pasted_token()
    envelope = {"envelope_id": "e1", "type": "interactive", "payload": payload, "accepts_response_payload": True}
    return json.dumps(envelope)


def _pasted_token() -> str:
    return make_token(Behaviour.GOOD, number=733)


async def test_nothing_holds_the_token_once_it_is_sealed(line: Line) -> None:
    """Neither while a listener works on it, nor while the next frame is waited for, which can take hours."""
    await line.ingress.connect()
    await line.slack.wait_for_connections()
    answered = line.slack.transport._waiting["e1"] = asyncio.get_running_loop().create_future()

    await line.slack.transport.connections[0].send_str(_paste(line))
    async with asyncio.timeout(PATIENCE.total_seconds()):
        told = await line.heard.get()
        during = find_holders(_pasted_token)
        line.let_go.set()
        await answered
    after = find_holders(_pasted_token)

    assert (during, after) == ([], [])
    assert told is not None
    assert told.last_four == _pasted_token()[-4:]


def test_a_token_that_is_held_is_found() -> None:
    """The search finds what is there, or it would prove nothing."""
    held: list[object] = [{"a body": ("of a request", _pasted_token().encode())}]

    assert "list" in find_holders(_pasted_token)
    held.clear()
