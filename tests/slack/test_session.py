"""Untrusted answers on each connection to Slack: redirects, cookies, compressed bodies and oversized ones."""

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from functools import partial

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from prometheus_client.samples import Sample
from slack_bolt.async_app import AsyncApp
from structlog.testing import capture_logs

from bot.metrics import SLACK_REFUSALS, Metrics
from bot.model.errors import SlackRefused, SlackTrouble
from bot.model.secret import Secret
from bot.sealing.hpke import KeyRing, generate_private_key, load_private_keys
from bot.slack.api import SlackWeb
from bot.slack.inbound.connection import SocketModeConnection
from bot.slack.response_url import SlackPost
from bot.slack.session import LARGEST_ANSWER_BYTES, SlackClient, open_session
from tests.between import Between, stand_between
from tests.clock import Clock
from tests.ingress import make_ingress
from tests.slack.test_api import CALLS

LONG = timedelta(minutes=5)
SAID = b'{"ok": true, "team_id": "T0ELSEWHERE", "url": "wss://elsewhere.example.com", "users": ["U0MALLORY"]}'
ACCOUNT = "5a4db0c0000000000000000000000001"

Way = Callable[["Line"], Awaitable[object]]


class Line:
    """The bot's end of a connection to a host that is not Slack."""

    def __init__(self, between: Between, http: aiohttp.ClientSession, clock: Clock) -> None:
        self.between = between
        self.http = http
        self.client = SlackClient(
            token="xoxb-made-up", base_url=f"{between.address}/api/", session=http, retry_handlers=[]
        )
        self.client.proxy = None
        self.web = SlackWeb(self.client)
        self.clock = clock

    async def post(self) -> bool | None:
        """Use a response URL."""
        url = Secret(f"{self.between.address}/response")
        return await SlackPost(self.http, self.between.address).post(url, {"text": "A text."})

    async def connect(self) -> None:
        """Open a Socket Mode connection: one try, whose errors are raised."""
        connection = self.make_connection()
        try:
            await connection.aiohttp_client_session.ws_connect(f"{self.between.address}/link")
        finally:
            await connection.close()

    def make_connection(self) -> SocketModeConnection:
        """Build one as Socket Mode does."""
        app = AsyncApp(client=self.client, signing_secret="made-up")
        key_ring = KeyRing(*load_private_keys(generate_private_key()))
        return SocketModeConnection(
            make_ingress(app, self.clock, key_ring),
            feel_pulse=lambda: None,
            app_token="xapp-made-up",
            web_client=self.client,
            logger=logging.getLogger("slack_sdk"),
        )


@pytest_asyncio.fixture
async def line(clock: Clock) -> AsyncIterator[Line]:
    """Make both ends."""
    async with stand_between() as between, open_session(LONG) as http:
        yield Line(between, http, clock)


def _call(method: str) -> Way:
    async def call(line: Line) -> object:
        return await CALLS[method](line.web)

    return call


WAYS: dict[str, Way] = {
    **{method: _call(method) for method in CALLS},
    "a response URL": lambda line: line.post(),
    "Socket Mode": lambda line: line.connect(),
}


REDIRECTS = [300, 301, 302, 303, 304, 307, 308, 399]


def _answer(_: web.Request, *, status: int = 200, body: bytes = SAID, headers: dict[str, str]) -> web.Response:
    return web.Response(status=status, body=body, headers={"Content-Type": "application/json"} | headers)


async def _go(line: Line, way: Way) -> object:
    """Return the result; only a failure that callers expect is caught."""
    try:
        return await way(line)
    except (SlackTrouble, aiohttp.ClientError):
        return None


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_no_redirect_is_followed(line: Line, way: Way) -> None:
    """The other host gets no request, nothing counts as done, and the operator reads what to check."""
    async with stand_between() as elsewhere:
        elsewhere.tamper = partial(_answer, headers={})
        for status in REDIRECTS:
            headers = {"Location": f"{elsewhere.address}/?xoxb-echoed"}
            line.between.tamper = partial(_answer, status=status, headers=headers)
            with capture_logs() as logs:
                assert not await _go(line, way)
            [log] = [log for log in logs if log["event"] == "slack_redirected"]
            assert (log["log_level"], log["host"], log["status"]) == ("error", "127.0.0.1", status)
            assert "SLACK_API_URL" in log["check"]
            assert "echoed" not in str(logs)

    assert elsewhere.asked == []
    assert len(line.between.asked) == len(REDIRECTS)


async def test_a_redirected_response_url_has_posted_nothing(line: Line) -> None:
    """That is certain, so the message goes another way."""
    line.between.tamper = lambda _: web.Response(status=307, headers={"Location": "/elsewhere"})
    assert await line.post() is False


async def test_a_redirected_handshake_is_no_connection(line: Line, pass_time: Callable[[timedelta], None]) -> None:
    """Neither the SDK nor the bot connects to the other address; the try ends in time."""
    line.between.tamper = lambda _: web.Response(status=302, headers={"Location": "/elsewhere"})
    connecting = asyncio.create_task(line.make_connection().open(f"{line.between.address}/link"))
    with capture_logs() as logs:
        while not connecting.done():
            await asyncio.sleep(0.005)  # real time for the sockets
            pass_time(timedelta(milliseconds=100))
    with pytest.raises(TimeoutError):
        await connecting
    assert {path for _, path, _ in line.between.asked} == {"/link"}
    assert "slack_redirected" in {log["event"] for log in logs}


async def test_no_cookie_is_kept_and_no_compression_requested(line: Line) -> None:
    """A cookie from an answer is sent with no later request, by any client."""
    line.between.tamper = partial(_answer, headers={"Set-Cookie": "echo=xoxb-made-up; Path=/"})
    for way in (*WAYS.values(), *WAYS.values()):
        await _go(line, way)

    assert len(line.between.asked) >= 2 * len(WAYS) - 1  # a channel is remembered
    assert line.between.cookies() == []
    assert {headers.get("accept-encoding") for _, _, headers in line.between.asked} == {"identity"}


ENCODINGS = ["gzip", "gzip, gzip", "deflate", "br", "zstd", "identity, gzip", "GZIP", "x"]


@pytest.mark.parametrize("way", ["auth.test", "chat.postMessage", "a response URL"])
async def test_a_compressed_answer_is_not_read(line: Line, way: str) -> None:
    """It is never unpacked, whatever its header or size."""
    body = gzip.compress(b'{"ok": true, "padding": "%s"}' % (b"0" * 1_000))
    for encoding in ENCODINGS:
        line.between.tamper = partial(_answer, body=body, headers={"Content-Encoding": encoding})
        with capture_logs() as logs:
            assert not await _go(line, WAYS[way])
        assert [log["event"] for log in logs if log["log_level"] == "error"] == ["slack_answer_encoded"]


def _say(size: int) -> bytes:
    head, tail = b'{"ok": true, "url": "', b'"}'
    return head + b"T" * (size - len(head) - len(tail)) + tail


def _say_to(line: Line, body: bytes, content_type: str = "application/json") -> None:
    line.between.tamper = partial(_answer, body=body, headers={"Content-Type": content_type})


async def test_the_largest_answer_is_read(line: Line) -> None:
    """The limit itself is still accepted."""
    _say_to(line, _say(LARGEST_ANSWER_BYTES))
    assert len(await line.web.open_connection("xapp-made-up")) > LARGEST_ANSWER_BYTES - 100


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/gzip", "text/html"])
async def test_a_larger_answer_is_not_read_to_the_end(line: Line, content_type: str) -> None:
    """However the SDK would read it; the failure is reported to the operator."""
    _say_to(line, _say(LARGEST_ANSWER_BYTES + 1), content_type)
    with capture_logs() as logs, pytest.raises(SlackTrouble):
        await line.web.identify()
    assert [log["event"] for log in logs if log["log_level"] != "debug"] == ["slack_answer_too_large"]


STRANGE: dict[str, tuple[bytes, str]] = {
    "as deep as it is long": (b"[" * 100_000, "application/json"),
    "in an encoding that takes long to decode": (b"x" * 10_000 + b"-\xff", "application/json; charset=punycode"),
    "in an encoding not for text": (b"{}", "application/json; charset=hex"),
    "text in an encoding not for text": (b"7b7d", "text/plain; charset=hex"),
    "a huge number": (b"1" * 100_000, "application/json"),
}


@pytest.mark.parametrize(("body", "content_type"), STRANGE.values(), ids=STRANGE)
async def test_a_malformed_answer_is_trouble(line: Line, body: bytes, content_type: str) -> None:
    """It breaks nothing but its own call."""
    _say_to(line, body, content_type)
    with pytest.raises(SlackTrouble):
        await line.web.identify()


@pytest.mark.parametrize("body", [b'{"ok": true, "url": "T\xc3\xa9"}'])
@pytest.mark.parametrize("charset", ["", "; charset=utf-8", "; charset=latin-1", "; charset=utf-16"])
async def test_json_is_utf_8_whatever_the_header_says(line: Line, body: bytes, charset: str) -> None:
    """RFC 8259 allows no other encoding between systems."""
    _say_to(line, body, f"application/json{charset}")
    assert await line.web.open_connection("xapp-made-up") == "T\u00e9"


@pytest.mark.parametrize("session", ["closed", "missing"])
async def test_without_its_session_nothing_is_called(line: Line, session: str) -> None:
    """The SDK would open another session, which follows redirects and keeps cookies."""
    line.between.tamper = partial(_answer, headers={})
    if session == "closed":
        await line.http.close()
    else:
        line.client.session = None
    for call in CALLS.values():
        with pytest.raises(SlackTrouble):
            await call(line.web)
    assert line.between.asked == []


async def test_a_refusal_is_counted_by_its_error(line: Line) -> None:
    """Slack answers those with status 200; a word that is not known is counted, and not shown."""
    metrics = Metrics()
    client = SlackClient(
        metrics=metrics,
        token="xoxb-made-up",
        base_url=f"{line.between.address}/api/",
        session=line.http,
        retry_handlers=[],
    )
    client.proxy = None
    for error in ("token_revoked", "marker_of_a_stranger"):
        line.between.tamper = partial(_refuse_with, error)
        with pytest.raises(SlackRefused, match=error):
            await SlackWeb(client).identify()

    values = {sample.labels["error"]: sample.value for sample in _counted(metrics)}
    assert {error: value for error, value in values.items() if value} == {"token_revoked": 1, "other": 1}


def _refuse_with(error: str, _: web.Request) -> web.Response:
    return web.json_response({"ok": False, "error": error})


def _counted(metrics: Metrics) -> list[Sample]:
    return [
        sample
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == SLACK_REFUSALS.name
    ]
