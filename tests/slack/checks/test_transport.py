"""The check of Socket Mode: in a running bot by its connections, in the command by a fresh address."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web as aiohttp_web
from slack_bolt.async_app import AsyncApp

from bot.model.finding import Finding, Mark
from bot.sandbox.process import find_free_port
from bot.sandbox.slack import FakeSlack
from bot.slack.api import SlackWeb
from bot.slack.checks.transport import address_check, http_check, socket_check
from bot.slack.inbound.socket_mode import SocketModeIngress
from bot.slack.session import SlackClient
from tests.between import stand_between
from tests.clock import Clock
from tests.ingress import make_ingress
from tests.slack.checks.conftest import Line

PassTime = Callable[[timedelta], None]

ADA = "U0ADA0001"
ACCOUNT = "5a4db0c0000000000000000000000001"
APP_TOKEN = "xapp-sandbox-app"
HOME = {"type": "home", "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "A home."}}]}


@pytest_asyncio.fixture
async def socket(slack: FakeSlack, line: Line, clock: Clock) -> AsyncIterator[SocketModeIngress]:
    """Build the bot's end of Socket Mode, not connected yet."""
    client = SlackClient(token=slack.config.bot_tokens[0], base_url=slack.api_url, session=line.http, retry_handlers=[])
    app = AsyncApp(client=client, signing_secret="made-up")
    socket = SocketModeIngress(
        make_ingress(app, clock),
        app_token=APP_TOKEN,
        web_client=client,
        logger=logging.getLogger("slack_sdk"),
    )
    yield socket
    await socket.close()


async def _examine(socket: SocketModeIngress, web: SlackWeb, *, is_alone: bool = True) -> Finding:
    [found] = await socket_check(socket, web, is_alone=is_alone).examine()
    return found


async def test_an_open_connection_is_good(socket: SocketModeIngress, web: SlackWeb) -> None:
    """With the app's id, which an operator can compare."""
    await socket.connect()
    found = await _examine(socket, web)

    assert (found.event, found.mark, found.known) == ("socket_open", Mark.OK, {"connections": 1, "app": "A0R2CREDS"})


async def test_a_closed_connection_blocks(socket: SocketModeIngress, web: SlackWeb) -> None:
    """Slack cannot reach the bot."""
    found = await _examine(socket, web)

    assert (found.event, found.mark, found.blocks) == ("socket_closed", Mark.FAILED, True)


async def _wait_until(is_so: Callable[[], object], pass_time: PassTime, step: timedelta = timedelta(0)) -> None:
    async with asyncio.timeout(3600):  # in the bot's time
        while not is_so():
            await asyncio.sleep(0.005)  # real time for the sockets: no event says how far the bot has come
            pass_time(step)


FAILURES: dict[str, tuple[dict[str, Any], str, str]] = {
    "a revoked app token": ({"error": "token_revoked"}, "slack_app_token_refused", "generate an App-Level Token"),
    "Socket Mode is off": ({"error": "socket_mode_not_enabled"}, "slack_app_token_refused", "switch it on"),
    "Slack is down": ({"status": 503}, "slack_not_reached", ""),
}


@pytest.mark.parametrize("kind", FAILURES)
async def test_a_connection_that_cannot_be_opened_says_why(
    slack: FakeSlack, socket: SocketModeIngress, web: SlackWeb, pass_time: PassTime, kind: str
) -> None:
    """And the cause is forgotten when one is open."""
    failure, event, fix = FAILURES[kind]
    slack.fail_next("apps.connections.open", **failure)
    connecting = asyncio.create_task(socket.connect())
    await _wait_until(lambda: socket.failure, pass_time)
    found = await _examine(socket, web)
    await connecting

    assert (found.event, found.mark, found.blocks) == (event, Mark.FAILED, True)
    assert fix in found.fix
    assert (await _examine(socket, web)).event == "socket_open"


async def test_an_address_that_does_not_answer_is_a_firewall_or_proxy(
    slack: FakeSlack, socket: SocketModeIngress, web: SlackWeb, pass_time: PassTime
) -> None:
    """Slack accepts the token, but no WebSocket opens."""
    slack.transport.refuses_connections = True
    connecting = asyncio.create_task(socket.connect())
    await _wait_until(lambda: socket.failure is not None, pass_time, timedelta(milliseconds=100))
    found = await _examine(socket, web)
    slack.transport.refuses_connections = False
    await _wait_until(connecting.done, pass_time, timedelta(milliseconds=100))

    assert (found.event, found.blocks) == ("socket_closed", True)
    assert "wss-primary.slack.com" in found.fix


async def test_socket_mode_that_is_switched_off_and_on_recovers(
    slack: FakeSlack, socket: SocketModeIngress, web: SlackWeb, pass_time: PassTime
) -> None:
    """Slack ends the connections, and gives no new address."""
    await socket.connect()
    watching = asyncio.create_task(socket.watch())
    await slack.switch_socket_mode(on=False)
    await _wait_until(lambda: socket.failure, pass_time, timedelta(seconds=1))
    off = await _examine(socket, web)
    await slack.switch_socket_mode(on=True)
    await _wait_until(lambda: socket.own_connections == 2, pass_time, timedelta(seconds=1))
    on = await _examine(socket, web)
    watching.cancel()

    assert "Socket Mode is switched off in the app" in off.text
    assert on.event == "socket_open"


async def test_another_bot_on_the_same_app_is_noticed_and_its_end_too(
    slack: FakeSlack, socket: SocketModeIngress, web: SlackWeb, pass_time: PassTime
) -> None:
    """Slack gives it a share of the payloads. One high count is not enough: it may be of a process that crashed."""
    slack.transport.connections_of_others = 2
    await socket.connect()
    watching = asyncio.create_task(socket.watch())
    await slack.wait_for_connections(2)
    first = await _examine(socket, web)
    await _wait_until(lambda: socket.sharing.others, pass_time, timedelta(seconds=1))
    shared = await _examine(socket, web)
    among_many = await _examine(socket, web, is_alone=False)
    slack.transport.connections_of_others = 0
    await _wait_until(lambda: not socket.sharing.others, pass_time, timedelta(seconds=1))
    after = await _examine(socket, web)
    watching.cancel()

    assert first.event == "socket_open"
    assert (shared.event, shared.mark, shared.known["of_others"]) == ("slack_app_shared", Mark.FAILED, 2)
    assert not shared.blocks
    assert among_many.mark is Mark.OK
    assert "that the app has" in among_many.text
    assert after.event == "socket_open"


async def test_tokens_of_two_apps_are_noticed_when_slack_names_them(
    slack: FakeSlack, socket: SocketModeIngress, web: SlackWeb
) -> None:
    """Only a view tells the app of the bot token: auth.test does not."""
    slack.transport.config = replace(slack.config, app_id="A0ANOTHER")
    await socket.connect()
    before = await _examine(socket, web)
    await web.publish_home(ADA, HOME)
    found = await _examine(socket, web)

    assert before.event == "socket_open"
    assert (found.event, found.mark, found.blocks) == ("slack_tokens_of_two_apps", Mark.FAILED, True)
    assert "A0R2CREDS" in found.text
    assert "A0ANOTHER" in found.text


async def test_the_command_proves_the_app_token_without_a_connection(slack: FakeSlack, line: Line) -> None:
    """A connection beside a running bot would get a share of the payloads."""
    [found] = await address_check(line.web, line.http, APP_TOKEN).examine()

    assert (found.event, found.mark) == ("slack_app_token_accepted", Mark.OK)
    assert len(slack.calls_of("apps.connections.open")) == 1
    assert slack.transport.connections == []


@pytest.mark.parametrize("kind", FAILURES)
async def test_the_command_names_what_is_wrong_with_the_app_token(slack: FakeSlack, line: Line, kind: str) -> None:
    """In the words of the running bot."""
    failure, event, fix = FAILURES[kind]
    slack.fail_next("apps.connections.open", **failure)
    [found] = await address_check(line.web, line.http, APP_TOKEN).examine()

    assert (found.event, found.mark, found.blocks) == (event, Mark.FAILED, True)
    assert fix in found.fix


ADDRESSES = {
    "a host that is closed": ("ws://127.0.0.1:{port}/link/?ticket=MARKER", "no connection is made (ECONNREFUSED)"),
    "no address": ("MARKER", "something else answers there"),
    "nothing": (None, "something else answers there"),
}


@pytest.mark.parametrize(("address", "because"), ADDRESSES.values(), ids=ADDRESSES)
async def test_the_command_notices_that_websockets_are_not_reached(
    slack: FakeSlack, line: Line, address: str | None, because: str
) -> None:
    """A firewall may let slack.com pass, but not wss-primary.slack.com. The address is a secret."""
    async with stand_between(slack.api_url.removesuffix("/api/")) as between:
        url = address and address.format(port=find_free_port())
        between.tamper = lambda _: aiohttp_web.json_response({"ok": True, "url": url})
        client = SlackClient(token="xoxb-x", base_url=f"{between.address}/api/", session=line.http, retry_handlers=[])
        [found] = await address_check(SlackWeb(client), line.http, APP_TOKEN).examine()

    assert (found.event, found.mark, found.blocks) == ("slack_sockets_not_reached", Mark.FAILED, True)
    assert because in found.text
    assert "MARKER" not in str(found)


async def test_a_redirect_at_the_websockets_host_is_an_answer(line: Line) -> None:
    """It is reached, and that is all."""
    async with stand_between() as between:
        url = between.address.replace("http://", "ws://", 1)
        answers = [
            aiohttp_web.Response(status=302, headers={"Location": "/x"}),
            aiohttp_web.json_response({"ok": True, "url": url}),
        ]
        between.tamper = lambda _: answers.pop()
        client = SlackClient(token="xoxb-x", base_url=f"{between.address}/api/", session=line.http, retry_handlers=[])
        [found] = await address_check(SlackWeb(client), line.http, APP_TOKEN).examine()

    assert found.mark is Mark.OK


@pytest.mark.parametrize(("secrets", "words"), [(1, "a signing secret is set"), (2, "2 signing secrets are set")])
async def test_http_mode_names_the_way_to_prove_it(secrets: int, words: str) -> None:
    """From inside, nothing more can be told."""
    [found] = await http_check(secrets).examine()

    assert found.mark is Mark.OK
    assert words in found.text
    assert "check --url" in found.text
