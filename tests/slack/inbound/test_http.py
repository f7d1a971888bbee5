"""The HTTP server, byte by byte: how much it reads from strangers, and that no token stays in memory."""

import asyncio
import gc
import io
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from slack_bolt.async_app import AsyncAck, AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_sdk.signature import SignatureVerifier
from slack_sdk.web.async_client import AsyncWebClient

from bot.model.catalog import BucketKey
from bot.operations.server import Server
from bot.sandbox.slack import FakeSlack
from bot.sandbox.tokens import Behaviour, make_token
from bot.slack import form as modal
from bot.slack.inbound.http import BODY_LIMIT, READ_TIMEOUT, HttpIngress
from bot.slack.inbound.ingress import Ingress
from tests.clock import Clock
from tests.ingress import make_ingress
from tests.memory import find_holders

ADA = "U0ADA0001"
PLATFORM = "C0DATAPLT"
ACCOUNT = "5a4db0c0000000000000000000000001"
SECRET = "0123456789abcdef-made-up"
FORM = "application/x-www-form-urlencoded"
PATIENCE_SECONDS = 60
PassTime = Callable[[timedelta], None]


@dataclass(slots=True, kw_only=True)
class Port:
    """The bot's port with an app behind it, opened as the composition root does."""

    host: str
    number: int
    heard: asyncio.Queue[None]
    let_go: asyncio.Event
    ingress: Ingress
    connections: list["Connection"] = field(default_factory=list)

    async def connect(self) -> "Connection":
        """Open a connection as a reverse proxy does: it stays open."""
        connection = Connection(*await asyncio.open_connection(self.host, self.number))
        self.connections.append(connection)
        return connection


@dataclass(frozen=True, slots=True)
class Connection:
    """One TCP connection, on which the test chooses every byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send_head(self, **headers: str) -> None:
        """Send the head of a request; `_` becomes `-`."""
        lines = {"Host": "bot", "Content-Type": FORM} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.writer.write(f"POST /slack/events HTTP/1.1\r\n{head}\r\n".encode())

    def send_signed(self, body: bytes, secret: str = SECRET, seconds_ago: int = 0) -> None:
        """Send a whole request at once."""
        timestamp = str(int(time.time()) - seconds_ago)
        signature = SignatureVerifier(secret).generate_signature(timestamp=timestamp, body=body) or ""
        self.send_head(X_Slack_Request_Timestamp=timestamp, X_Slack_Signature=signature, Content_Length=str(len(body)))
        self.writer.write(body)

    async def status(self) -> int:
        """Return the status of the next answer."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            head = await self.reader.readuntil(b"\r\n\r\n")
        return int(head.split()[1])


@pytest_asyncio.fixture
async def port(clock: Clock, log: io.StringIO) -> AsyncIterator[Port]:
    """Open the port before an app that answers when the test lets it."""
    heard, let_go = asyncio.Queue[None](), asyncio.Event()

    async def authorize(**_: object) -> AuthorizeResult:
        return AuthorizeResult(team_id="T0SANDBOX", enterprise_id=None)

    async def take(ack: AsyncAck) -> None:
        heard.put_nowait(None)
        await let_go.wait()
        await ack()

    app = AsyncApp(
        client=AsyncWebClient(),
        authorize=authorize,
        request_verification_enabled=False,
        process_before_response=True,
        logger=logging.getLogger("slack_bolt"),
    )
    app.view(modal.CALLBACK_ID)(take)
    app.options(modal.BUCKET_ACTION)(take)
    ingress = make_ingress(app, clock)

    async def is_ready() -> bool:
        return True

    server = Server(HttpIngress(ingress, [SignatureVerifier(SECRET)]).handle, is_ready)
    host, _, number = (await server.listen("127.0.0.1", 0)).partition(":")
    port = Port(host=host, number=int(number), heard=heard, let_go=let_go, ingress=ingress)
    yield port
    for connection in port.connections:
        connection.writer.close()
        with suppress(ConnectionError):
            await connection.writer.wait_closed()
    await server.stop()


def _body() -> bytes:
    """Make the body of a submission without keeping any part of it."""
    slack = FakeSlack()
    form = modal.build_form(
        nonce="the-nonce",
        filling=modal.Filling(key=BucketKey(account_id="a" * 32, bucket="analytics-events")),
        catalogs=(),
    )
    slack.modals.open(slack.workspace.users[ADA], PLATFORM, form)
    payload = slack.make_submission(ADA)
    for block in (modal.TOKEN_BLOCK, modal.REASON_BLOCK):  # the reason is the wrong place for a token, and is masked
        payload["view"]["state"]["values"][block][block]["value"] = _pasted_token()
    return urlencode({"payload": json.dumps(payload)}).encode()


def _pasted_token() -> str:
    return make_token(Behaviour.GOOD, number=734)


async def test_nothing_holds_the_token_once_it_is_sealed(port: Port) -> None:
    """Neither while a listener runs, nor while the connection stays open afterwards."""
    connection = await port.connect()

    connection.send_signed(_body())
    await port.heard.get()
    during = find_holders(_pasted_token)
    port.let_go.set()
    status = await connection.status()
    after = find_holders(_pasted_token)

    assert status == 200
    assert (during, after) == ([], [])


async def test_a_submit_that_slack_has_given_up_on_is_not_taken(port: Port, log: io.StringIO) -> None:
    """It was delayed on its way, and its person has read that it failed. A payload that records nothing is answered."""
    port.let_go.set()
    search = urlencode({"payload": json.dumps({"type": "block_suggestion", "action_id": modal.BUCKET_ACTION})}).encode()

    statuses = []
    for body, seconds_ago in ((search, 0), (_body(), 20), (search, 20), (_body(), 0)):
        connection = await port.connect()
        connection.send_signed(body, seconds_ago=seconds_ago)
        statuses.append(await connection.status())

    assert statuses == [200] * 4
    assert port.heard.qsize() == 3
    [refused] = [line for line in log.getvalue().splitlines() if "submit_came_too_late" in line]
    assert json.loads(refused)["reference"].startswith("V")


async def test_nothing_holds_the_token_of_a_refused_body(port: Port) -> None:
    """An unverified body may hold a real token too: a signing secret may have been rotated."""
    connection = await port.connect()

    connection.send_signed(_body(), secret="another one")

    assert await connection.status() == 401
    assert find_holders(_pasted_token) == []


def _fresh() -> dict[str, str]:
    return {"X_Slack_Request_Timestamp": str(int(time.time())), "X_Slack_Signature": "v0=made-up"}


UNREAD: dict[str, tuple[dict[str, str], int]] = {
    "of unknown length, unsigned": ({"Transfer_Encoding": "chunked"}, 401),
    "too long by a byte": ({"Content_Length": str(BODY_LIMIT + 1)}, 413),
    "longer than an ssl_check": ({"Content_Length": "201"}, 401),
    "without a timestamp": ({"Content_Length": "1000", "X_Slack_Signature": "v0=x"}, 401),
    "six minutes old": (
        {"Content_Length": "1000", "X_Slack_Request_Timestamp": "1", "X_Slack_Signature": "v0=x"},
        401,
    ),
    "compressed": ({"Content_Length": "10", "Content_Encoding": "gzip"}, 415),
}


@pytest.mark.parametrize(("headers", "status"), UNREAD.values(), ids=UNREAD)
async def test_a_request_that_must_be_refused_is_answered_before_its_body(
    port: Port, headers: dict[str, str], status: int
) -> None:
    """The head alone is refused: no one can make the bot wait for a body or keep one."""
    connection = await port.connect()

    connection.send_head(**headers)

    assert await connection.status() == status


@pytest.mark.parametrize("length", [50, 1000], ids=["read", "unread"])
async def test_a_wrong_clock_is_distinguished_from_a_wrong_secret(port: Port, log: io.StringIO, length: int) -> None:
    """Both are a 401; the log has the difference in seconds, so that the operator does not check the secret in vain."""
    early, late, unsigned = await port.connect(), await port.connect(), await port.connect()
    early.send_signed(b"x" * length, seconds_ago=4000)
    assert await early.status() == 401
    late.send_signed(b"x" * length, seconds_ago=-4000)
    assert await late.status() == 401
    unsigned.send_signed(b"x" * length, secret="another one")
    assert await unsigned.status() == 401

    first, second = [json.loads(line) for line in log.getvalue().splitlines() if "slack_request_refused" in line]
    assert first["reasons"] == {"stale_timestamp": 1}
    assert 4000 <= first["seconds"] < 4000 + PATIENCE_SECONDS
    assert second["reasons"] == {"stale_timestamp": 1, "bad_signature": 1}
    assert -4000 <= second["seconds"] < -4000 + PATIENCE_SECONDS


async def test_a_slow_body_is_abandoned(port: Port, log: io.StringIO, pass_time: PassTime) -> None:
    """A byte now and then does not keep the bot busy: the time limit is for the whole body."""
    connection = await port.connect()
    connection.send_head(**_fresh(), Content_Length="1000")
    answer = asyncio.create_task(connection.status())

    while not answer.done():
        connection.writer.write(b"x")
        await asyncio.sleep(0.01)  # no event says that the server has read it
        pass_time(READ_TIMEOUT / 10)

    assert await answer == 408
    assert "slow_body" in log.getvalue()


async def test_an_incomplete_body_is_no_fault_of_ours(port: Port, log: io.StringIO) -> None:
    """A client that disconnects causes no traceback, and the next one is served."""
    connection = await port.connect()
    connection.send_head(**_fresh(), Content_Length="1000")
    connection.writer.write(b"MARKER")
    await connection.writer.drain()
    connection.writer.close()
    await connection.writer.wait_closed()

    other = await port.connect()
    port.let_go.set()
    other.send_signed(_body())

    assert await other.status() == 200
    assert "MARKER" not in log.getvalue()
    assert "Traceback" not in log.getvalue()


async def test_nothing_holds_the_token_of_an_incomplete_body(port: Port, log: io.StringIO) -> None:
    """Not even in a reference cycle that the garbage collector has not found yet."""
    gc.disable()
    connection = await port.connect()
    connection.send_head(**_fresh(), Content_Length="100000")
    connection.writer.write(_body())
    await connection.writer.drain()
    await asyncio.sleep(0.01)  # no event says that the server has read it
    connection.writer.close()
    await connection.writer.wait_closed()
    while "slow_body" not in log.getvalue():  # noqa: ASYNC110 - no event is set
        await asyncio.sleep(0.001)

    try:
        assert find_holders(_pasted_token, collect=False) == []
    finally:
        gc.enable()


async def test_an_oversized_ssl_check_is_not_read(port: Port) -> None:
    """One that is longer than Slack's is refused: a megabyte of it is neither read nor parsed."""
    connection = await port.connect()
    body = b"ssl_check=1&" + b"a=b&" * 60

    connection.send_head(Content_Length=str(len(body)))
    connection.writer.write(body)

    assert await connection.status() == 401


async def test_a_body_in_tiny_chunks_is_refused(port: Port) -> None:
    """Each costs more to read than to send. Chunks of the usual size are read, and the signature decides."""
    tiny, large = await port.connect(), await port.connect()
    for connection in (tiny, large):
        connection.send_head(**_fresh(), Transfer_Encoding="chunked")

    tiny.writer.write(b"2\r\nxx\r\n" * 1000)
    large.writer.write((b"400\r\n" + b"x" * 1024 + b"\r\n") * 1000 + b"0\r\n\r\n")

    assert (await tiny.status(), await large.status()) == (413, 401)


CHECKS = {
    "as Slack sends it": (b"ssl_check=1&token=made-up", 200),
    "with another field": (b"ssl_check=1&text=x", 401),
    "not at the beginning": (b"token=made-up&ssl_check=1", 401),
}


@pytest.mark.parametrize(("body", "status"), CHECKS.values(), ids=CHECKS)
async def test_a_chunked_ssl_check_is_refused(port: Port, body: bytes, status: int) -> None:
    """An unsigned check must have a Content-Length and no other fields."""
    unsized, sized = await port.connect(), await port.connect()

    unsized.send_head(Transfer_Encoding="chunked")
    sized.send_head(Content_Length=str(len(body)))
    sized.writer.write(body)

    assert (await unsized.status(), await sized.status()) == (401, status)


MALFORMED = {
    "chunks that contradict themselves": b"6\r\nMARKER\r\nMARKER\r\n\r\n",
    "a chunk of a malformed size": b"MARKER\r\n",
}


@pytest.mark.parametrize("chunks", MALFORMED.values(), ids=MALFORMED)
async def test_malformed_http_is_not_quoted(port: Port, log: io.StringIO, chunks: bytes) -> None:
    """It is answered with 400; the part of the body that the library could not parse is not logged."""
    connection = await port.connect()

    connection.send_head(**_fresh(), Transfer_Encoding="chunked")
    connection.writer.write(chunks)

    assert await connection.status() == 400
    assert "MARKER" not in log.getvalue()
    assert "malformed_request" in log.getvalue()


async def test_a_stop_does_not_wait_forever_for_running_requests(port: Port, pass_time: PassTime) -> None:
    """It waits for the time that an answer may take; then it cuts them off."""
    connection = await port.connect()
    connection.send_signed(_body())
    await port.heard.get()

    draining = asyncio.create_task(port.ingress.drain())
    await asyncio.sleep(0)
    pass_time(timedelta(seconds=1.5))  # a second less, in case a busy machine stands still
    await asyncio.sleep(0.01)  # if the drain were over, this would show it
    assert not draining.done()
    pass_time(timedelta(seconds=1.1))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await draining

    assert port.ingress._under_way.tasks == frozenset()


async def test_a_search_that_takes_too_long_is_answered_in_time(port: Port, pass_time: PassTime) -> None:
    """The type-ahead cannot show a sentence, so Slack gets an empty answer."""
    connection = await port.connect()
    search = {"type": "block_suggestion", "action_id": modal.BUCKET_ACTION, "block_id": "bucket", "value": "x"}
    connection.send_signed(urlencode({"payload": json.dumps(search)}).encode())
    await port.heard.get()

    pass_time(timedelta(seconds=2.5))

    assert await connection.status() == 503
    port.let_go.set()
    await port.ingress.drain()
