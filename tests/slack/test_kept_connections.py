"""Kept connections that Slack, or a balancer before it, closes at the moment of their reuse."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from bot.model.errors import SlackConnectionBroke, SlackRefused, SlackTimedOut
from bot.model.secret import Secret
from bot.slack.api import TIMEOUT, SlackWeb
from bot.slack.response_url import SlackPost
from bot.slack.session import SlackClient, open_session
from tests.slack.test_api import CALLS

GRANTED = {
    "ok": True,
    "team_id": "T0SANDBOX",
    "url": "wss://127.0.0.1/link",
    "users": ["U0ADA0001"],
    "view": {"id": "V0OPENED"},
    "channel": {"id": "C0DATAPLT"},
}
LONG = timedelta(minutes=5)
REPEATED = [method for method in CALLS if method != "chat.postMessage"]
MOST_TRIES = {"chat.postMessage": 1, "conversations.info": 4, "usergroups.users.list": 4, "users.info": 4}
"""Otherwise two; aiohttp itself retries a GET once."""
KEPT = [method for method in REPEATED if method not in {"views.update", "views.publish"}]


@dataclass(slots=True, kw_only=True)
class Host:
    """Answers the first request of each connection and offers to keep it; closes it at the second."""

    address: str = ""
    answer: dict[str, object] = field(default_factory=lambda: dict(GRANTED))
    requests: list[str] = field(default_factory=list)
    hangs: bool = False
    hanging: asyncio.Event = field(default_factory=asyncio.Event)
    closes_at_once: bool = False
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        try:
            await self._take(reader)
            if self.hangs:
                self.hanging.set()
                await reader.read()
            if not self.closes_at_once:
                body = json.dumps(self.answer).encode()
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                await self._take(reader)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    async def _take(self, reader: asyncio.StreamReader) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next((line[15:] for line in head.splitlines() if line.lower().startswith("content-length:")), "0")
        await reader.readexactly(int(length))
        self.requests.append(head.split()[1].rpartition("/")[2].partition("?")[0])


@asynccontextmanager
async def open_host() -> AsyncIterator[Host]:
    """Listen on loopback."""
    host = Host()
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0)
    async with server:
        host.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield host


@asynccontextmanager
async def open_line() -> AsyncIterator[tuple[Host, SlackWeb, SlackPost]]:
    """Build the clients of Slack as the composition root does."""
    async with (
        open_host() as host,
        open_session(LONG) as kept,
        open_session(LONG, keeps_connections=False) as fresh,
        open_session(LONG) as patient_kept,
    ):
        clients = [
            SlackClient(token="xoxb-made-up", base_url=f"{host.address}/api/", session=http, retry_handlers=[])
            for http in (kept, fresh, patient_kept)
        ]
        for client in clients:
            client.proxy = None
        web = SlackWeb(clients[0], patient_client=clients[1], patient_kept_client=clients[2])
        yield host, web, SlackPost(fresh, host.address)


@pytest.mark.parametrize("method", KEPT)
async def test_an_idempotent_call_is_retried_once(method: str) -> None:
    """The form opens, and no one reads of the retry."""
    async with open_line() as (host, web, _):
        await web.identify()
        await CALLS[method](web)
        assert host.requests == ["auth.test", method, method]


async def test_a_message_reuses_no_connection() -> None:
    """So that none is lost with a connection, and no one has to guess whether it was posted."""
    async with open_line() as (host, web, _):
        for _ in range(3):
            await CALLS["chat.postMessage"](web)
        assert (host.requests, host.connections) == (["chat.postMessage"] * 3, 3)


@pytest.mark.parametrize("method", ["views.update", "views.publish"])
async def test_a_view_is_updated_over_a_kept_connection(method: str) -> None:
    """A handshake for each would cost more than the call; if the connection breaks, the call is repeated."""
    async with open_line() as (host, web, _):
        for _ in range(2):
            await CALLS[method](web)
        assert (host.requests, host.connections) == ([method] * 3, 2)


async def test_a_response_url_reuses_no_connection() -> None:
    """It is valid for five posts, and a retry after a lost answer could post a second message."""
    async with open_line() as (host, _, post):
        for _ in range(3):
            assert await post.post(Secret(f"{host.address}/response"), {"text": "made up"}) is True
        assert host.requests == ["response"] * 3


@pytest.mark.parametrize("method", CALLS)
async def test_a_host_that_always_closes_gets_a_few_requests_at_most(method: str) -> None:
    """And it is reported as such, not as a slow Slack."""
    async with open_line() as (host, web, _):
        host.closes_at_once = True
        with pytest.raises(SlackConnectionBroke):
            await CALLS[method](web)
        assert host.requests == [method] * MOST_TRIES.get(method, 2)


async def test_a_form_whose_answer_was_lost_is_open() -> None:
    """Its trigger is used: "too late, try again" would be said to a person who has the form open."""
    async with open_line() as (host, web, _):
        await web.identify()
        host.answer = {"ok": False, "error": "exchanged_trigger_id"}
        assert await web.open_view("1.2.3", {}) is None


@pytest.mark.parametrize(
    ("breaks_first", "slack_error"),
    [(False, "exchanged_trigger_id"), (True, "expired_trigger_id"), (True, "invalid_arguments")],
)
async def test_any_other_refusal_of_a_form_is_a_refusal(breaks_first: bool, slack_error: str) -> None:  # noqa: FBT001 - a table
    """Without a lost answer another request used the trigger; with one, the form is not known to be open."""
    async with open_line() as (host, web, _):
        if breaks_first:
            await web.identify()
        host.answer = {"ok": False, "error": slack_error}
        with pytest.raises(SlackRefused) as raised:
            await web.open_view("1.2.3", {})
        assert raised.value.slack_error == slack_error


async def test_both_tries_share_one_time_limit(pass_time: Callable[[timedelta], None]) -> None:
    """A trigger is valid for 3 s, and both tries take the person's time."""
    async with open_line() as (host, web, _):
        await web.identify()
        host.hangs = True
        asked = asyncio.create_task(web.open_view("1.2.3", {}))
        await host.hanging.wait()
        pass_time(TIMEOUT)
        with pytest.raises(SlackTimedOut):
            await asked
