"""The log has each method called and its outcome, and never a secret address."""

import asyncio
import io
import json
from datetime import timedelta

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import generate_latest
from yarl import URL

from bot.metrics import Metrics
from bot.network import DIRECT
from bot.sandbox.process import find_free_port
from bot.sandbox.slack import FakeSlack
from bot.slack.session import open_session
from bot.slack.traffic import SlackTraffic, describe_address

ADDRESSES = {
    "a method": ("https://slack.com/api/chat.postMessage", "chat.postMessage"),
    "a method of three words": (
        "https://slack.com/api/usergroups.users.list?usergroup=S0MARKER",
        "usergroups.users.list",
    ),
    "the URL of a button": ("https://hooks.slack.com/actions/T0MARKER/1/MARKER", "{response_url}"),
    "the URL of a command": ("https://hooks.slack.com/commands/T0MARKER/1/MARKER", "{response_url}"),
    "one that looks like a method": ("https://slack.com/api/MARKER", "{response_url}"),
    "a socket": ("wss://wss-primary.slack.com/link/?ticket=MARKER&app_id=MARKER", "{socket}"),
    "a socket to aiohttp": ("https://wss-primary.slack.com/link/?ticket=MARKER", "{socket}"),
}


@pytest.mark.parametrize(("address", "described"), ADDRESSES.values(), ids=ADDRESSES)
def test_an_address_is_described_without_its_secrets(address: str, described: str) -> None:
    """Anyone who holds a response URL can post with it."""
    assert describe_address(URL(address)) == described


async def test_a_call_is_one_line_with_the_granted_scopes(log: io.StringIO) -> None:
    """Method, status and duration at debug; the bot token's scopes from the answer's header."""
    traffic = SlackTraffic()
    async with FakeSlack() as slack, open_session(timedelta(minutes=1), DIRECT, traffic) as http:
        headers = {"Authorization": f"Bearer {slack.config.bot_tokens[0]}"}
        async with http.post(f"{slack.api_url}auth.test", headers=headers) as answer:
            await answer.read()
    [line] = [json.loads(line) for line in log.getvalue().splitlines()]
    assert {name: line[name] for name in ("event", "level", "method", "path", "status")} == {
        "event": "slack_request",
        "level": "debug",
        "method": "POST",
        "path": "auth.test",
        "status": 200,
    }
    assert line["seconds"] >= 0
    assert traffic.granted_scopes == frozenset(slack.config.scopes)


async def test_failures_to_reach_slack_are_logged_and_counted(log: io.StringIO) -> None:
    """By method and type of the cause; a hundred failures are not a hundred lines."""
    async with open_session(timedelta(minutes=1), DIRECT, SlackTraffic()) as http:
        for _ in range(100):
            with pytest.raises(aiohttp.ClientError):
                await http.post(f"http://127.0.0.1:{find_free_port()}/api/auth.test")
    [line] = [json.loads(line) for line in log.getvalue().splitlines()]
    assert (line["event"], line["level"]) == ("slack_not_heard", "warning")
    assert line["reasons"] == {"auth.test ConnectionRefusedError ECONNREFUSED": 1}


async def test_each_request_is_counted_also_one_that_was_given_up() -> None:
    """By method and status; a response URL has no method, and shows nothing of itself."""
    metrics, heard = Metrics(), asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        heard.set()
        await asyncio.Event().wait()
        raise AssertionError

    app = web.Application()
    app.router.add_post("/api/views.open", hang)
    traffic = SlackTraffic(metrics=metrics)
    async with TestServer(app, host="127.0.0.1") as server, open_session(timedelta(minutes=1), DIRECT, traffic) as http:
        async with http.post(server.make_url("/commands/MARKER")) as answer:
            assert answer.status == 404
        asking = asyncio.create_task(http.post(server.make_url("/api/views.open")))
        await heard.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    text = generate_latest(metrics.registry).decode()
    assert 'slack_requests_total{method="response_url",status="404"} 1.0' in text
    assert 'slack_requests_total{method="views.open",status="none"} 1.0' in text
    assert "MARKER" not in text
