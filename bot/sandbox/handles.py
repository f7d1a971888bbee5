"""The short-lived handles that payloads carry: trigger ids (3 s, once) and response URLs (30 minutes, five times)."""

import json
import secrets
from dataclasses import dataclass, field
from typing import NoReturn

from aiohttp import web

from bot.sandbox.block_rules import message_problems
from bot.sandbox.blocks import JsonObject, complete
from bot.sandbox.faults import Faults
from bot.sandbox.workspace import Message, User, Workspace

RESPONSE_URL_SECONDS = 30 * 60.0
RESPONSE_URL_USES = 5
LONGEST_TEXT = 40_000


class RefusedError(Exception):
    """Slack refuses a call; `error` is Slack's name for why, `needed` the scope that the app lacks."""

    def __init__(self, error: str, *messages: str, needed: str = "") -> None:
        super().__init__(error, *messages)
        self.error = error
        self.messages = messages
        self.needed = needed


def refuse(error: str, *messages: str, needed: str = "") -> NoReturn:
    """Raise a RefusedError."""
    raise RefusedError(error, *messages, needed=needed) from None


@dataclass(slots=True, kw_only=True)
class Trigger:
    """A person did something a moment ago, so a modal may open in front of them."""

    user: User
    channel_id: str | None
    issued_at: float
    is_used: bool = False


@dataclass(slots=True)
class Triggers:
    """The trigger ids that were issued."""

    workspace: Workspace
    _issued: dict[str, Trigger] = field(default_factory=dict)

    def issue(self, user: User, channel_id: str | None) -> str:
        """Return a new trigger id."""
        trigger_id = f"{secrets.randbelow(10**13)}.{secrets.randbelow(10**12)}.{secrets.token_hex(16)}"
        self._issued[trigger_id] = Trigger(user=user, channel_id=channel_id, issued_at=self.workspace.config.clock())
        return trigger_id

    def exchange(self, trigger_id: object) -> Trigger:
        """Use up a trigger id; raises RefusedError when it is unknown, used or too old."""
        trigger = self._issued.get(trigger_id) if isinstance(trigger_id, str) else None
        if trigger is None:
            refuse("invalid_trigger_id")
        if trigger.is_used:
            refuse("exchanged_trigger_id")
        age = self.workspace.config.clock() - trigger.issued_at
        if age > self.workspace.config.trigger_lifetime.total_seconds():
            refuse("expired_trigger_id")
        trigger.is_used = True
        return trigger


@dataclass(slots=True, kw_only=True)
class ResponseUrl:
    """A right to answer in one conversation; `original_ts` is the message that it may replace or delete."""

    user_id: str
    channel_id: str
    expires_at: float
    original_ts: str | None = None
    uses: int = 0


@dataclass(slots=True)
class ResponseUrls:
    """The response URLs that were issued, and what is posted to them."""

    workspace: Workspace
    faults: Faults
    traffic: list[bytes]
    base_url: str = ""
    _issued: dict[str, ResponseUrl] = field(default_factory=dict)

    def issue(self, user_id: str, channel_id: str, *, original_ts: str | None = None) -> str:
        """Return a new response URL."""
        secret = secrets.token_urlsafe(18)
        self._issued[secret] = ResponseUrl(
            user_id=user_id,
            channel_id=channel_id,
            expires_at=self.workspace.config.clock() + RESPONSE_URL_SECONDS,
            original_ts=original_ts,
        )
        return f"{self.base_url}/response/{secret}"

    def remember_original(self, url: str, ts: str) -> None:
        """Note the message that the app answered with, so that the URL can replace it."""
        self._issued[url.rpartition("/")[2]].original_ts = ts

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Serve one POST to a response URL."""
        body = await request.read()
        self.traffic.append(request.path_qs.encode() + b"\n" + body)
        return await self.faults.around("response_url", request, lambda: self._answer(request, body))

    def _answer(self, request: web.Request, body: bytes) -> web.Response:
        try:
            self._respond(self._usable(request.match_info["secret"]), _parse(body))
        except RefusedError as refused:
            status = {"expired_url": 404, "used_url": 404, "channel_is_archived": 410}.get(refused.error, 400)
            return web.json_response({"ok": False, "error": refused.error}, status=status)
        return web.Response(text="ok")

    def _usable(self, secret: str) -> ResponseUrl:
        url = self._issued.get(secret)
        if url is None or self.workspace.config.clock() >= url.expires_at:
            refuse("expired_url")
        if url.uses >= RESPONSE_URL_USES:
            refuse("used_url")
        if self.workspace.channels[url.channel_id].is_archived:
            refuse("channel_is_archived")
        return url

    def _respond(self, url: ResponseUrl, content: JsonObject) -> None:
        if content.get("delete_original") and url.original_ts:
            self.workspace.delete_message(url.original_ts)
        else:
            text, blocks = said(content)
            if content.get("replace_original") and url.original_ts:
                self.workspace.replace_message(url.original_ts, text, blocks)
            else:
                ephemeral_to = None if content.get("response_type") == "in_channel" else url.user_id
                message = from_app(self.workspace, url.channel_id, (text, blocks), ephemeral_to=ephemeral_to)
                posted = self.workspace.post(message)
                url.original_ts = url.original_ts or posted.ts
        url.uses += 1


def said(content: JsonObject) -> tuple[str, tuple[JsonObject, ...]]:
    """Return the text and completed blocks of what an app says; raises RefusedError for what Slack would refuse."""
    text, blocks = content.get("text") or "", content.get("blocks") or []
    if isinstance(blocks, str):
        try:
            blocks = json.loads(blocks)
        except ValueError:
            refuse("invalid_blocks_format")
    if not isinstance(text, str):
        refuse("invalid_arguments", "[ERROR] must be a string [json-pointer:/text]")
    if not text and not blocks:
        refuse("no_text")
    if len(text) > LONGEST_TEXT:
        refuse("msg_too_long")
    if problems := message_problems(blocks):
        refuse("invalid_blocks", *problems)
    return text, tuple(complete(blocks))


def from_app(
    workspace: Workspace,
    channel_id: str,
    content: tuple[str, tuple[JsonObject, ...]],
    *,
    ephemeral_to: str | None = None,
    client_msg_id: str | None = None,
) -> Message:
    """Return a message that the app says; posting gives it its timestamp."""
    text, blocks = content
    return Message(
        ts="",
        channel_id=channel_id,
        user_id=workspace.config.bot_user_id,
        bot_id=workspace.config.bot_id,
        text=text,
        blocks=blocks,
        ephemeral_to=ephemeral_to,
        client_msg_id=client_msg_id,
    )


def _parse(body: bytes) -> JsonObject:
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        refuse("invalid_payload")
    return content
