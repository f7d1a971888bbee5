"""The port as anyone can reach it, byte by byte, and what is behind it for whom Slack's signature admits."""

import asyncio
import io
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from aiohttp import web
from hypothesis import strategies as st
from slack_sdk.signature import SignatureVerifier

from bot.operations.server import Server
from bot.slack.inbound.http import HttpIngress
from bot.storage.sqlite import SqliteDatabase
from tests.captured_log import captured_log
from tests.clock import Clock
from tests.desk import Desk, open_desk
from tests.fuzz.payloads import make_documents
from tests.fuzz.target import DEEP, PLANTED, STAND_IN, TEXT, Check, Target, as_json, changed_bytes, mutated
from tests.leaks import find_leaks

_PATIENCE: Final = 10.0
_BROKE: Final = 500
"""For a signed payload of no shape of Slack's: Bolt trusts the shape, so it raises anything, which the ingress logs."""

_TURNS: Final = 20
"""Of the event loop: after as many, the bot waits for bytes that do not come."""

_ANSWERED: Final = frozenset({200, 400, 401, 404, 405, 408, 413, 415, 417, 503})
"""What the port may answer to anything; a 500 is a fault of ours."""

_GO_ON: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_JSON_TYPE: Final = "application/json"
_FORM_TYPE: Final = "application/x-www-form-urlencoded"


class _Wire(asyncio.Transport):
    """The other end of a connection, in memory; `over` is set when the bot has closed it."""

    def __init__(self) -> None:
        super().__init__()
        self.received = bytearray()
        self.over = asyncio.Event()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep what the bot answers."""
        self.received += data

    def is_closing(self) -> bool:
        """Return whether the bot has closed."""
        return self.over.is_set()

    def close(self) -> None:
        """Note that the bot has closed."""
        self.over.set()

    def abort(self) -> None:
        """Note that the bot has closed at once."""
        self.over.set()

    def pause_reading(self) -> None:
        """Do nothing: whoever sends here does not wait."""

    def resume_reading(self) -> None:
        """Do nothing, as above."""


class _Port:
    """The bot's port, without a socket."""

    def __init__(self, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
        self._server = Server(answer, _is_ready, most=4)

    async def open(self) -> None:
        """Prepare what a port prepares before it listens."""
        await self._server._runner.setup()

    async def close(self) -> None:
        """Close."""
        await self._server._runner.cleanup()

    async def ask(self, *pieces: bytes) -> bytearray:
        """Send bytes in pieces, then nothing more, and return the answer, empty where more must come first."""
        wire, connection = _Wire(), self._server._make_connection()
        connection.connection_made(wire)
        for piece in pieces:
            connection.data_received(piece)
            await asyncio.sleep(0)
        for _ in range(_TURNS):
            if wire.over.is_set() or connection.waits:
                break
            await asyncio.sleep(0)
        if connection.waits:  # a whole request is answered
            async with asyncio.timeout(_PATIENCE):
                await wire.over.wait()
        connection.eof_received()
        connection.connection_lost(None)
        await asyncio.sleep(0)
        return wire.received.removeprefix(_GO_ON)


async def _is_ready() -> bool:
    return True


async def _pass_nothing(_: web.Request) -> web.StreamResponse:
    raise AssertionError  # nobody has the signature


@contextmanager
def _bytes() -> Iterator[Check]:
    """Without the secret, whatever the bytes are: a defined status, and nothing of the request in answer or log."""
    with asyncio.Runner() as runner, captured_log() as log:
        ingress = HttpIngress(_NeverAsked(), [SignatureVerifier("made-up-secret")])  # type: ignore[arg-type]
        port = _Port(ingress.handle)
        runner.run(port.open())

        def check(data: bytes) -> None:
            _clear(log)
            sent = data.replace(STAND_IN.encode(), PLANTED.encode()).replace(b"{now}", b"%d" % time.time())
            for pieces in ((sent,), (sent[: len(sent) // 2], sent[len(sent) // 2 :])):
                answer = runner.run(port.ask(*pieces))
                assert not answer or _status(answer) in _ANSWERED, answer
                _check_silence(answer, log)

        yield check
        runner.run(port.close())


class _NeverAsked:
    """Stands where payloads are dispatched: none may come through without the secret."""

    async def dispatch(self, *_: object, **__: object) -> None:
        raise AssertionError


@contextmanager
def _signed() -> Iterator[Check]:
    """With the secret: the payload gets to the stories, which answer it, and the token nowhere."""
    with asyncio.Runner() as runner, captured_log() as log, tempfile.TemporaryDirectory() as directory:
        stack = AsyncExitStack()
        desk, port = runner.run(_open_desk(stack, Path(directory)))

        def check(data: bytes) -> None:
            _clear(log)
            kind, _, body = data.replace(STAND_IN.encode(), PLANTED.encode()).partition(b"\n")
            answer = runner.run(port.ask(_sign(kind, body, desk.slack.config.signing_secret)))
            said = log.getvalue()
            assert _status(answer) in _ANSWERED or (_status(answer) == _BROKE and "slack_payload_broke" in said), answer
            _check_silence(answer if b"challenge" not in body else b"", log)
            assert find_leaks(desk.slack.traffic_received(), PLANTED) == []

        yield check
        runner.run(stack.aclose())


async def _open_desk(stack: AsyncExitStack, directory: Path) -> tuple[Desk, _Port]:
    database = SqliteDatabase(directory / "data" / "bot.sqlite")
    (directory / "data").mkdir(mode=0o700)
    database.start()
    stack.callback(database.stop)
    desk = await stack.enter_async_context(open_desk(database, directory / "data" / "bot.sqlite", Clock()))
    assert desk.door is not None
    port = _Port(desk.door.handle)
    await port.open()
    stack.push_async_callback(port.close)
    return desk, port


def _sign(kind: bytes, body: bytes, secret: str) -> bytes:
    stamp = str(int(time.time()))
    try:
        signature = SignatureVerifier(secret).generate_signature(timestamp=stamp, body=body) or ""
    except UnicodeDecodeError:
        signature = "v0=none"  # Slack signs text only
    media = _FORM_TYPE if kind == b"form" else _JSON_TYPE
    head = (
        f"POST /slack/events HTTP/1.1\r\nHost: bot\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n"
        f"X-Slack-Request-Timestamp: {stamp}\r\nX-Slack-Signature: {signature}\r\n\r\n"
    )
    return head.encode() + body


def _status(answer: bytes | bytearray) -> int:
    return int(answer.split(None, 2)[1])


def _clear(log: io.StringIO) -> None:
    log.seek(0)
    log.truncate()


def _check_silence(answer: bytes | bytearray, log: io.StringIO) -> None:
    """Neither the answer nor the log has the token or a traceback, and nothing of ours broke."""
    said = answer + log.getvalue().encode()
    assert find_leaks(bytes(said), PLANTED) == []
    for sign in (b"Traceback", b"request_broke", b"listener_broke", b"connection_broke"):
        assert sign not in said, said


_HEAD: Final = "POST /slack/events HTTP/1.1\r\nHost: bot\r\n"
_REQUESTS: Final = tuple(
    text.encode("utf-8", "surrogateescape")
    for text in (
        "GET /healthz HTTP/1.1\r\nHost: bot\r\n\r\n",
        "GET /readyz HTTP/1.0\r\n\r\n",
        f"GET /{STAND_IN}?{STAND_IN} HTTP/1.1\r\nHost: {STAND_IN}\r\n\r\n",
        (
            f"{_HEAD}X-Slack-Request-Timestamp: {{now}}\r\nX-Slack-Signature: v0={STAND_IN}\r\n"
            f"Content-Length: 7\r\n\r\n{STAND_IN}"
        ),
        f"{_HEAD}X-Slack-Request-Timestamp: 9\r\nX-Slack-Signature: v0=\udcff\r\nContent-Length: 300\r\n\r\n"
        + "x" * 300,
        f"{_HEAD}Transfer-Encoding: chunked\r\n\r\n7\r\n{STAND_IN}\r\n0\r\n\r\n",
        f"{_HEAD}Content-Length: 24\r\n\r\nssl_check=1&token={STAND_IN[:6]}",
        f"{_HEAD}Content-Length: 11\r\n\r\nssl_check=1",
        f"{_HEAD}Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        f"{_HEAD}Content-Length: 99999999999999999999\r\n\r\n",
        f"{_HEAD}Content-Length: -1\r\n\r\n",
        f"{_HEAD}Content-Length: 3\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\nabc",
        f"{_HEAD}Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        f"{_HEAD}Content-Type: ;;;charset=\r\nContent-Length: 3\r\n\r\nabc",
        f"{_HEAD}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "PUT /slack/events HTTP/1.1\r\nHost: bot\r\n\r\n",
        "CONNECT bot:443 HTTP/1.1\r\nHost: bot\r\n\r\n",
        "GET http://[::1/ HTTP/1.1\r\nHost: bot\r\n\r\n",
        "GET //healthz HTTP/1.1\r\nHost: bot\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: bot\r\n\r\n",
        "GET /%zz%00%ff HTTP/1.1\r\nHost: bot\r\nCookie: \udcff\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\r\n\r\n",
    )
)
_DOCUMENTS: Final = make_documents()


def _as_form(document: object) -> bytes:
    return b"form\n" + urlencode({"payload": json.dumps(document)}).encode()


def _as_fields(fields: dict[str, str]) -> bytes:
    return b"form\n" + urlencode(fields, errors="replace").encode()


_SIGNED: Final = (
    *(_as_form(document) for document in _DOCUMENTS),
    *(b"json\n" + json.dumps(document).encode() for document in _DOCUMENTS),
    *(b"json\n" + body for body in (b"", b"null", b"\xff", b'{"type":"url_verification","challenge":[[[]]]}', *DEEP)),
    *(b"form\npayload=" + body for body in (b"", b"%", b"%7B%7D", b"{}", b"%ff", b"+", *DEEP)),
    b'json\n{"type":"url_verification","challenge":' + b"[" * 960 + b"]" * 960 + b"}",
    b"form\na=b&a=c&command=%2Fr2-credential&text=" + STAND_IN.encode(),
    b"form\ncommand=/r2-credential&user_id=U0ADA0001&team_id=T0SANDBOX&channel_id=C0DATAPLT&trigger_id=1.2.a",
    b"form\n" + b"a=b&" * 3000,
)
_FIELDS: Final = st.dictionaries(
    st.sampled_from(["command", "text", "user_id", "team_id", "channel_id", "trigger_id", "response_url", "payload"]),
    TEXT,
)

TARGETS: Final = (
    Target(
        name="bytes at the port",
        open=_bytes,
        seeds=_REQUESTS,
        inputs=changed_bytes(_REQUESTS) | st.binary(max_size=100),
    ),
    Target(
        name="signed requests",
        open=_signed,
        seeds=_SIGNED,
        inputs=mutated(_DOCUMENTS).map(_as_form)
        | as_json(mutated(_DOCUMENTS)).map(b"json\n".__add__)
        | _FIELDS.map(_as_fields)
        | changed_bytes(_SIGNED[:20]),
    ),
)
