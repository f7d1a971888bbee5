"""Brings payloads to the app, by Socket Mode or signed HTTP, and takes its answer. Does not know what they mean."""

import asyncio
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlencode

import aiohttp
from aiohttp import web
from slack_sdk.signature import SignatureVerifier

from bot.sandbox.blocks import JsonObject
from bot.sandbox.workspace import Changes, FakeSlackConfig

PayloadKind = Literal["slash_commands", "interactive", "events_api"]
Failure = Literal["operation_timeout", "dispatch_failed"]

_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the app answered: a JSON object, a text, or nothing (both None); `failure` when there was no good answer."""

    failure: Failure | None = None
    status: int | None = None
    body: JsonObject | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A payload that went to the app, and what came back."""

    kind: PayloadKind
    payload: JsonObject
    answer: Answer
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RawAnswer:
    """The answer to a request made by hand; `status` 0 when there was none."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True, repr=False)
class Transport:
    """Sends payloads and remembers them; `request_url` decides which way they go.

    With `request_urls` (several replicas) they go there by turns, as a load balancer with passive health checks does
    it: one that refuses the connection or answers 503 is passed over for the next.

    `connections_of_others`: how many another bot has with the same app, of those that `hello` counts.

    `redelivers`: an envelope whose connection closes before it was acknowledged goes over another open one, within the
    same 3 s. Slack does not document that for commands and interactions: switch it off to see the other possibility.
    """

    config: FakeSlackConfig
    changes: Changes
    traffic: list[bytes]
    request_url: str | None
    signing_secret: str
    request_urls: list[str] = field(default_factory=list)
    refuses_connections: bool = False
    redelivers: bool = True
    connections_of_others: int = 0
    sent: list[Sent] = field(default_factory=list)
    connections: list[web.WebSocketResponse] = field(default_factory=list)
    _tickets: set[str] = field(default_factory=set)
    _waiting: dict[str, asyncio.Future[JsonObject | None]] = field(default_factory=dict)
    _closings: dict[web.WebSocketResponse, asyncio.Future[None]] = field(default_factory=dict)
    _client: aiohttp.ClientSession | None = None

    async def deliver(self, kind: PayloadKind, payload: JsonObject) -> Answer:
        """Send a payload, wait for its answer as long as Slack does, and remember both."""
        if self.request_url is None and not self.request_urls:
            answer = await self._deliver_by_socket(kind, payload)
        else:
            answer = await self._deliver_by_http(kind, payload)
        self.sent.append(Sent(kind=kind, payload=payload, answer=answer, at=self.config.clock()))
        return answer

    async def post(
        self, body: bytes, *, headers: Mapping[str, str] | None = None, timestamp: str | None = None
    ) -> RawAnswer:
        """POST a body to the app, signed; `headers` go over the signed ones, an empty value leaves that one out."""
        stamp = timestamp or str(int(self.config.clock()))
        signature = SignatureVerifier(self.signing_secret).generate_signature(timestamp=stamp, body=body)
        signed = {
            "Content-Type": _FORM,
            "User-Agent": "Slackbot 1.0 (sandbox)",
            "X-Slack-Request-Timestamp": stamp,
            "X-Slack-Signature": signature or "",
        }
        sent = {name: value for name, value in {**signed, **(headers or {})}.items() if value}
        async with asyncio.timeout(self.config.answer_timeout.total_seconds()):
            return await self._post_to_any(body, sent)

    def issue_ticket(self) -> str:
        """Return a ticket that opens one Socket Mode connection."""
        ticket = secrets.token_hex(16)
        self._tickets.add(ticket)
        return ticket

    async def serve_socket(self, request: web.Request) -> web.StreamResponse:
        """Serve one Socket Mode connection until it closes."""
        ticket = request.query.get("ticket", "")
        if self.refuses_connections or ticket not in self._tickets:
            return web.Response(status=403, text="refused")
        self._tickets.remove(ticket)
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        await self._greet(socket)
        self._closings[socket] = asyncio.get_running_loop().create_future()
        self.connections.append(socket)
        self.changes.announce()
        try:
            async for frame in socket:
                self._take_frame(frame)
        finally:
            self.connections.remove(socket)
            self._closings.pop(socket).cancel()
            self.changes.announce()
        return socket

    async def ask_to_reconnect(self, reason: str = "refresh_requested") -> None:
        """Send Slack's `disconnect` frame on every open connection; the app is to open new ones."""
        for socket in list(self.connections):
            await socket.send_json({"type": "disconnect", "reason": reason, "debug_info": {"host": "sandbox"}})

    async def drop_connections(self) -> None:
        """Close every Socket Mode connection at once."""
        for socket in list(self.connections):
            await socket.close(code=aiohttp.WSCloseCode.GOING_AWAY)

    async def close(self) -> None:
        """Close what is open, and give up what waits for an answer."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionResetError())
        await self.drop_connections()
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _post_to_any(self, body: bytes, headers: Mapping[str, str]) -> RawAnswer:
        """Try each request URL once, the next one first; return the first answer, or the last refusal."""
        if self._client is None:
            self._client = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False)
        answer = RawAnswer(status=0, headers={}, body=b"")
        for url in tuple(self.request_urls) or (self.request_url or "",):
            self.request_urls = [*self.request_urls[1:], *self.request_urls[:1]]
            try:
                async with self._client.post(url, data=body, headers=headers, allow_redirects=False) as response:
                    content = await response.read()
            except aiohttp.ClientConnectorError:
                continue
            except aiohttp.ClientError:
                return RawAnswer(status=0, headers={}, body=b"")  # it may have been taken: no other replica gets it
            self.traffic.append(content)
            answer = RawAnswer(status=response.status, headers=response.headers, body=content)
            if answer.status != web.HTTPServiceUnavailable.status_code:
                break
        return answer

    async def _greet(self, socket: web.WebSocketResponse) -> None:
        await socket.send_json(
            {
                "type": "hello",
                "num_connections": len(self.connections) + 1 + self.connections_of_others,
                "debug_info": {"host": "sandbox", "build_number": 1, "approximate_connection_time": 18060},
                "connection_info": {"app_id": self.config.app_id},
            }
        )

    def _take_frame(self, frame: aiohttp.WSMessage) -> None:
        content = frame.data if isinstance(frame.data, bytes) else str(frame.data).encode()
        self.traffic.append(content)
        try:
            acknowledgement = json.loads(content)
            envelope_id, payload = acknowledgement["envelope_id"], acknowledgement.get("payload")
        except (ValueError, KeyError, TypeError):
            return
        waiting = self._waiting.pop(envelope_id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(payload)

    async def _deliver_by_socket(self, kind: PayloadKind, payload: JsonObject) -> Answer:
        if not self.connections:
            return Answer(failure="dispatch_failed")
        envelope_id = secrets.token_hex(16)
        waiting = self._waiting[envelope_id] = asyncio.get_running_loop().create_future()
        envelope = _envelope(envelope_id, kind, payload)
        try:
            async with asyncio.timeout(self.config.answer_timeout.total_seconds()):
                body = await self._send_until_answered(envelope, waiting)
        except TimeoutError:
            return Answer(failure="operation_timeout")
        except ConnectionError:
            return Answer(failure="dispatch_failed")
        finally:
            self._waiting.pop(envelope_id, None)
        return Answer(status=200, body=body or None)

    async def _send_until_answered(
        self, envelope: JsonObject, waiting: asyncio.Future[JsonObject | None]
    ) -> JsonObject | None:
        """Send over one connection after the other, as long as they close without an answer."""
        while not waiting.done() and self.connections:
            # The first one takes it and goes to the end of the queue: connections share the load.
            socket = self.connections.pop(0)
            self.connections.append(socket)
            closing: asyncio.Future[Any] = self._closings[socket]
            try:
                await socket.send_json(envelope)
            except ConnectionError:  # it is about to close
                if not self.redelivers:
                    raise
                await asyncio.wait({closing})
            if not self.redelivers:
                break
            await asyncio.wait({waiting, closing}, return_when=asyncio.FIRST_COMPLETED)
        return await waiting

    async def _deliver_by_http(self, kind: PayloadKind, payload: JsonObject) -> Answer:
        body, content_type = _http_body(kind, payload)
        try:
            answer = await self.post(body, headers={"Content-Type": content_type})
        except TimeoutError:
            return Answer(failure="operation_timeout")
        if answer.status != web.HTTPOk.status_code:
            return Answer(failure="dispatch_failed", status=answer.status)
        text = answer.body.decode("utf-8", "replace")
        if kind != "events_api" and answer.headers.get("Content-Type", "").startswith("application/json"):
            return _json_answer(text)
        return Answer(status=200, text=text or None)


def _envelope(envelope_id: str, kind: PayloadKind, payload: JsonObject) -> JsonObject:
    envelope = {"envelope_id": envelope_id, "type": kind, "payload": payload}
    if kind != "events_api":
        return {**envelope, "accepts_response_payload": True}
    return {**envelope, "accepts_response_payload": False, "retry_attempt": 0, "retry_reason": ""}


def _http_body(kind: PayloadKind, payload: JsonObject) -> tuple[bytes, str]:
    if kind == "events_api":
        return json.dumps(payload).encode(), "application/json"
    fields = payload if kind == "slash_commands" else {"payload": json.dumps(payload)}
    return urlencode(fields).encode(), _FORM


def _json_answer(text: str) -> Answer:
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    return (
        Answer(status=200, body=body or None)
        if isinstance(body, dict)
        else Answer(failure="dispatch_failed", status=200)
    )
