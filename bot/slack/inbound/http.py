"""Requests from Slack over HTTP: `/slack/events`, signed (https://docs.slack.dev/authentication/verifying-requests-from-slack).

Must not log, store or answer with anything from a request, and drops its bytes before Bolt is asked.
"""

import asyncio
import binascii
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web
from slack_sdk.signature import SignatureVerifier

from bot.metrics import REQUESTS_REFUSED, Metrics
from bot.model.tally import Tally
from bot.slack.blocks import Json
from bot.slack.inbound.ingress import Ingress, parse_json_object
from bot.slack.inbound.lateness import Lateness

BODY_LIMIT: Final = 1024 * 1024
READ_TIMEOUT: Final = timedelta(seconds=3)

_TIMESTAMP: Final = "X-Slack-Request-Timestamp"
_LONGEST_AGE_SECONDS: Final = 300
_LONGEST_SSL_CHECK: Final = 200
_FREE_CHUNKS: Final = 64
_SHORTEST_CHUNK: Final = 256
"""On average. A proxy's chunks are far longer; a megabyte in one-byte chunks would keep the bot busy for a second."""

_MOST_FIELDS: Final = 64
"""Slack sends a dozen with a command. Each takes time, and a megabyte holds half a million."""

_SMALL_BYTES: Final = 64 * 1024
"""A larger body is parsed in a thread: it can take half a second, in which no other request would be answered."""

_PAYLOAD: Final = re.compile(rb"payload=((?:[^%=&;\r\n\x80-\xff]|%[0-9A-Fa-f]{2})*+)")
"""An interaction: one field, well-formed. Anything else takes the longer way."""

_INTEGER: Final = re.compile(r"[0-9]{1,12}")


class HttpIngress:
    """Reads and verifies requests, and passes their payloads on."""

    def __init__(
        self,
        ingress: Ingress,
        verifiers: Sequence[SignatureVerifier],
        lateness: Lateness | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """Take one verifier for each signing secret: two during a rotation."""
        self._ingress = ingress
        self._verifiers = verifiers
        self._lateness = lateness or Lateness()
        self._refusals = Tally("slack_request_refused")
        self._metrics = metrics or Metrics()

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request: 401 for a bad or stale signature, 400 for a malformed body, 408, 413, 415 as usual.

        Log and answer say which of the two a 401 was: a stale one may mean that our clock is wrong.
        """
        taken = await self._take(request)
        if isinstance(taken, web.Response):
            return taken
        if taken.get("type") == "url_verification":
            return web.json_response({"challenge": str(taken.get("challenge", ""))})
        signed_at = datetime.fromtimestamp(int(request.headers[_TIMESTAMP]), UTC)
        return await self._answer(taken, signed_at)

    async def _take(self, request: web.Request) -> Json | web.Response:
        """Return the verified payload, or a refusal. Only this frame holds the bytes."""
        refusal = _refuse_unread(request)
        if refusal is not None:
            return self._turn_away(*refusal)
        try:
            async with asyncio.timeout(READ_TIMEOUT.total_seconds()):
                unverified_body = await _read(request)
        except (TimeoutError, ConnectionError) as error:  # no one receives this answer, but it is logged
            error.with_traceback(None)  # the request keeps the error, whose frames would keep the body
            return self._turn_away(HTTPStatus.REQUEST_TIMEOUT, "slow_body")
        if unverified_body is None:
            return self._turn_away(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "large_body")
        if _is_ssl_check(unverified_body):
            return web.Response()  # Slack checks the certificate and expects only a 200
        if not self._is_signed(request, unverified_body):
            reason, seconds = _find_fault(request)
            return self._turn_away(HTTPStatus.UNAUTHORIZED, reason, seconds)
        parse = partial(_parse, request.content_type, unverified_body)
        parsed = await asyncio.to_thread(parse) if len(unverified_body) > _SMALL_BYTES else parse()
        return parsed or self._turn_away(HTTPStatus.BAD_REQUEST, "malformed_body")

    async def _answer(self, verified_body: Json, signed_at: datetime) -> web.Response:
        is_given_up = self._lateness.is_given_up(signed_at)
        try:
            response = await self._ingress.dispatch(verified_body, sent_at=signed_at, is_given_up=is_given_up)
        except RecursionError:
            return self._turn_away(HTTPStatus.BAD_REQUEST, "malformed_body")
        return web.Response(
            status=response.status, text=response.body, headers=response.first_headers_without_set_cookie()
        )

    def _is_signed(self, request: web.Request, unverified_body: bytes) -> bool:
        timestamp = request.headers.get(_TIMESTAMP, "")
        signature = request.headers.get("X-Slack-Signature", "")
        if not _INTEGER.fullmatch(timestamp) or not signature.isascii():
            return False  # the verifier would raise
        try:
            return any(
                verifier.is_valid(body=unverified_body, timestamp=timestamp, signature=signature)
                for verifier in self._verifiers
            )
        except UnicodeDecodeError:
            return False

    def _turn_away(self, status: HTTPStatus, reason: str, seconds: int | None = None) -> web.Response:
        """Refuse a request; `seconds` is the age of a stale signature, negative for one from the future."""
        self._metrics.count(REQUESTS_REFUSED, reason)
        if seconds is None:
            self._refusals.count(reason)
        else:
            self._refusals.count(reason, seconds=seconds)
        return web.Response(status=status, text=f"{reason}\n")


def _refuse_unread(request: web.Request) -> tuple[HTTPStatus, str, int | None] | None:
    """Refuse what no body could make valid, so that a stranger cannot make us read one."""
    if "Content-Encoding" in request.headers:
        return (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "encoded_body", None)
    length = request.content_length
    if length is not None and length > BODY_LIMIT:
        return (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "large_body", None)
    if length is not None and length <= _LONGEST_SSL_CHECK:
        return None  # may be the certificate check, which may be unsigned
    reason, seconds = _find_fault(request)
    is_promising = seconds is None and _age_of(request) is not None and "X-Slack-Signature" in request.headers
    return None if is_promising else (HTTPStatus.UNAUTHORIZED, reason, seconds)


def _find_fault(request: web.Request) -> tuple[str, int | None]:
    """Return what is wrong with a request's signature, by its headers: stale, with its age in seconds, or bad.

    The timestamp is unverified: anyone can send an old one.
    """
    age = _age_of(request)
    if age is not None and abs(age) > _LONGEST_AGE_SECONDS and "X-Slack-Signature" in request.headers:
        return "stale_timestamp", age
    return "bad_signature", None


def _age_of(request: web.Request) -> int | None:
    timestamp = request.headers.get(_TIMESTAMP, "")
    return int(time.time()) - int(timestamp) if _INTEGER.fullmatch(timestamp) else None


async def _read(request: web.Request) -> bytes | None:
    """Read the body, or return None if it is too large, or in chunks too small to process for a stranger.

    `request.read()` would keep it while the connection lives.
    """
    received, chunks = bytearray(), 0
    while not request.content.at_eof():  # `iter_chunks()` never ends if there is no body
        piece, is_end_of_chunk = await request.content.readchunk()
        received += piece
        chunks += is_end_of_chunk
        if len(received) > BODY_LIMIT or chunks > _FREE_CHUNKS + len(received) // _SHORTEST_CHUNK:
            return None
    return bytes(received)


def _is_ssl_check(unverified_body: bytes) -> bool:
    if len(unverified_body) > _LONGEST_SSL_CHECK or not unverified_body.startswith(b"ssl_check=1"):
        return False
    form = dict(parse_qsl(unverified_body.decode("ascii", "replace")))
    return form.get("ssl_check") == "1" and form.keys() <= {"ssl_check", "token"}


def _parse(content_type: str, verified_body: bytes) -> Json | None:
    """Read JSON, a form with a `payload` of JSON, or a plain form (commands); return None for anything else."""
    try:
        if content_type == "application/json":
            return parse_json_object(verified_body.decode())
        if payload := _PAYLOAD.fullmatch(verified_body):
            return parse_json_object(_unquote(payload[1]).decode("utf-8", "replace"))
        text = verified_body.decode()
        form = dict(parse_qsl(text, keep_blank_values=True, strict_parsing=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        return None
    return parse_json_object(form["payload"]) if "payload" in form else form or None


def _unquote(value: bytes) -> bytes:
    """Decode a well-formed value of a form (https://url.spec.whatwg.org/#urlencoded-parsing).

    Percent-encoding is quoted-printable with another sign, which the standard library decodes in C: 10 KB in 0.12
    instead of 0.24 ms, where a whole acknowledgement takes about one.
    """
    return binascii.a2b_qp(value.replace(b"+", b" ").replace(b"%", b"="))
