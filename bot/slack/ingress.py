"""Where Slack's payloads enter: verify -> parse -> seal -> Bolt, for HTTP and for Socket Mode.

Behind this module no payload holds a token. It must not log, store or answer with anything of a payload.
"""

import asyncio
import json
import logging
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl

import structlog
from aiohttp import web
from slack_bolt.adapter.socket_mode.async_internals import send_async_response
from slack_bolt.async_app import AsyncApp, AsyncBoltRequest
from slack_bolt.response import BoltResponse
from slack_sdk.signature import SignatureVerifier
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.async_client import AsyncBaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.web.async_client import AsyncWebClient

from bot.pasted import STORABLE, classify, mask_tokens, trim
from bot.sealing import RESPONSE_URL, TOKEN, KeyRing, SealingContext, SealingKey
from bot.slack import modal
from bot.slack.blocks import Json
from bot.submission import PastedToken, SealedResponseUrl, SealedToken

BODY_LIMIT: Final = 1024 * 1024
PASTED_TOKEN: Final = "pasted_token"  # noqa: S105 - the key in Bolt's context under which listeners find a PastedToken

_ANSWER_TIMEOUT: Final = timedelta(seconds=2.5)
"""Slack gives 3 s from its own clock; the rest is for the way there and back."""

_UNMASKED: Final = frozenset({"trigger_id"})
"""Made by Slack, needed unchanged, and never shown to anyone."""

_TOO_LATE: Final = (
    "The bot did not answer in time, and it is not known whether this was recorded. Press Store again: that is safe, "
    "nothing is stored twice."
)
_COMMAND_TOO_LATE: Final = "The bot did not answer in time. If no form opens, type the command again."
_INTEGER: Final = re.compile(r"[0-9]{1,12}")

_log = structlog.get_logger()


class Ingress:
    """Hands sealed payloads to Bolt, counts what is under way, and answers in time whatever happens behind it."""

    def __init__(self, app: AsyncApp, key_ring: KeyRing, account_id: str) -> None:
        self._app = app
        self._key_ring = key_ring
        self._account_id = account_id
        self._under_way: set[asyncio.Task[BoltResponse]] = set()

    async def dispatch(self, verified_body: Json) -> BoltResponse:
        """Seal, then let Bolt answer. `verified_body` came with a good signature or over Slack's own socket.

        Raises RecursionError for JSON nested deeper than any payload of Slack's.
        """
        sealed = seal_payload(verified_body, self._key_ring.sealing_key, self._account_id)
        del verified_body
        task = asyncio.create_task(self._ask_bolt(sealed))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        done, _ = await asyncio.wait({task}, timeout=_ANSWER_TIMEOUT.total_seconds())
        return task.result() if done else _too_late(sealed.body)

    async def _ask_bolt(self, sealed: "SealedPayload") -> BoltResponse:
        """Our listeners' faults come to the app's error handler; what breaks Bolt itself must not reach a traceback."""
        try:
            request = AsyncBoltRequest(body=sealed.body, mode="socket_mode", context={PASTED_TOKEN: sealed.pasted})
            return await self._app.async_dispatch(request)
        except Exception as error:  # noqa: BLE001 - Bolt trusts the shape of a payload, down to any KeyError
            reference = secrets.token_hex(4)
            _log.error("slack_payload_broke", error=type(error).__name__, reference=reference)
            return BoltResponse(status=HTTPStatus.INTERNAL_SERVER_ERROR, body=f"reference {reference}\n")

    async def drain(self) -> None:
        """Wait for what is under way; the transport takes nothing new by now."""
        if self._under_way:
            await asyncio.wait(self._under_way)


class HttpIngress:
    """Takes Slack's signed requests at `/slack/events` (https://docs.slack.dev/authentication/verifying-requests-from-slack)."""

    def __init__(self, ingress: Ingress, verifiers: Sequence[SignatureVerifier]) -> None:
        """Take a verifier for each signing secret: two during a rotation."""
        self._ingress = ingress
        self._verifiers = verifiers

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request: 401 for a bad signature, 400 for a malformed body, 413 for one over `BODY_LIMIT`."""
        unverified_body = await request.read()
        if unverified_body.startswith(b"ssl_check=1&") and _parse_ssl_check(unverified_body):
            return web.Response()  # Slack checks the certificate and wants nothing but a 200
        if not self._is_signed(request, unverified_body):
            return _turn_away(HTTPStatus.UNAUTHORIZED, "bad_signature")
        body = _parse(request.content_type, unverified_body)
        if body is None:
            return _turn_away(HTTPStatus.BAD_REQUEST, "malformed_body")
        if body.get("type") == "url_verification":
            return web.json_response({"challenge": str(body.get("challenge", ""))})
        return await self._answer(body)

    async def _answer(self, verified_body: Json) -> web.Response:
        try:
            response = await self._ingress.dispatch(verified_body)
        except RecursionError:
            return _turn_away(HTTPStatus.BAD_REQUEST, "malformed_body")
        return web.Response(
            status=response.status, text=response.body, headers=response.first_headers_without_set_cookie()
        )

    def _is_signed(self, request: web.Request, unverified_body: bytes) -> bool:
        timestamp = request.headers.get("X-Slack-Request-Timestamp", "")
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


class SocketModeIngress(SocketModeClient):
    """Takes Slack's frames over a WebSocket and seals them before the SDK's machinery hands them around.

    The SDK's receiving loop itself holds the last frame until the next one comes: a pong, within `ping_interval`.
    """

    def __init__(self, ingress: Ingress, *, app_token: str, web_client: AsyncWebClient, logger: logging.Logger) -> None:
        super().__init__(app_token, logger=logger, web_client=web_client, ping_interval=5)
        self._ingress = ingress
        self._frames: set[asyncio.Future[None]] = set()
        self.socket_mode_request_listeners.append(self._answer)

    async def process_message(self) -> None:
        """Replace the SDK's step, which would keep the raw frame as long as its listeners run."""
        message = _parse_json(await self.message_queue.get())
        if message is not None:
            task = asyncio.ensure_future(self.run_message_listeners(message, ""))
            self._frames.add(task)
            task.add_done_callback(self._frames.discard)

    async def _answer(self, client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        started_at = time.time()
        response = await self._ingress.dispatch(request.payload)
        await send_async_response(client, request, response, started_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedPayload:
    """A payload without any token in it, and what was pasted into the form's token field, sealed."""

    body: Json
    pasted: PastedToken | None


def seal_payload(unverified_body: Json, key: SealingKey, account_id: str) -> SealedPayload:
    """Take the token out of a payload, mask what is token-shaped elsewhere, and remove every response URL.

    A submission's token and the response URL of its result channel come back sealed, bound to workspace, user, view,
    account and bucket. The given body is used up.
    """
    view = unverified_body.get("view")
    token = modal.take_token(view) if isinstance(view, dict) else ""
    response_urls = unverified_body.pop("response_urls", None)
    unverified_body.pop("response_url", None)
    body = _mask(unverified_body)
    if not isinstance(view, dict) or body.get("type") != "view_submission":
        return SealedPayload(body=body, pasted=None)
    context = _sealing_context(body, account_id)
    channel_id = modal.parse_form(body["view"]).channel_id
    return SealedPayload(body=body, pasted=_seal(token, _find_url(response_urls, channel_id), key, context))


def _seal(token: str, response_url: str | None, key: SealingKey, context: SealingContext) -> PastedToken:
    trimmed = trim(token)
    kind = classify(trimmed)
    if kind not in STORABLE:
        return PastedToken(kind=kind, last_four="", sealed=None)
    url = key.seal(response_url, replace(context, purpose=RESPONSE_URL)) if response_url else None
    return PastedToken(
        kind=kind,
        last_four=trimmed[-4:],
        sealed=SealedToken(key.seal(trimmed, context)),
        sealed_response_url=SealedResponseUrl(url) if url else None,
    )


def _sealing_context(body: Json, account_id: str) -> SealingContext:
    view = body["view"]
    return SealingContext(
        purpose=TOKEN,
        team_id=modal.installed_team_id(body),
        user_id=str(_object(body.get("user")).get("id", "")),
        view_id=str(view.get("id", "")),
        account_id=account_id,
        bucket=modal.parse_form(view).bucket,
    )


def _find_url(response_urls: object, channel_id: str) -> str | None:
    """Return the response URL that Slack made for the chosen channel."""
    for entry in response_urls if isinstance(response_urls, list) else []:
        if isinstance(entry, dict) and entry.get("channel_id") == channel_id:
            url = entry.get("response_url")
            return url if isinstance(url, str) else None
    return None


def _too_late(body: Json) -> BoltResponse:
    """Say what is known, which is little: the submission may be recorded a moment later."""
    reference = _object(body.get("view")).get("id") or secrets.token_hex(4)
    _log.error("slack_answer_too_late", type=body.get("type") or body.get("command"), reference=reference)
    if body.get("type") == "view_submission":
        errors = {modal.TOKEN_BLOCK: f"{_TOO_LATE} Reference: {reference}"}
        return BoltResponse(status=HTTPStatus.OK, body={"response_action": "errors", "errors": errors})
    if "command" in body:
        return BoltResponse(status=HTTPStatus.OK, body=f"{_COMMAND_TOO_LATE} Reference: {reference}")
    return BoltResponse(status=HTTPStatus.SERVICE_UNAVAILABLE)


def _turn_away(status: HTTPStatus, reason: str) -> web.Response:
    reference = secrets.token_hex(4)
    _log.warning("slack_request_refused", reason=reason, reference=reference)
    return web.Response(status=status, text=f"{reason} {reference}\n")


def _parse_ssl_check(unverified_body: bytes) -> bool:
    """Whether this is nothing but Slack's check of the certificate, which may come unsigned."""
    return {name for name, _ in parse_qsl(unverified_body.decode("ascii", "replace"))} <= {"ssl_check", "token"}


def _parse(content_type: str, raw: bytes) -> Json | None:
    """Read JSON, a form with a `payload` of JSON, or a plain form (commands); return None for anything else."""
    try:
        text = raw.decode()
        if content_type == "application/json":
            return _parse_json(text)
        form = dict(parse_qsl(text, keep_blank_values=True, strict_parsing=True))
    except ValueError:
        return None
    return _parse_json(form["payload"]) if "payload" in form else form or None


def _parse_json(text: str) -> Json | None:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _mask(value: Any) -> Any:  # noqa: ANN401 - JSON in, JSON out
    """Return the value with every token-shaped text masked, however deep it lies."""
    if isinstance(value, dict):
        return {name: part if name in _UNMASKED else _mask(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_mask(part) for part in value]
    return mask_tokens(value) if isinstance(value, str) else value
