"""The web page of the small Slack, and the JSON and server-sent events behind it. All rules are in `user_actions`."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from aiohttp import web

from bot.sandbox.blocks import JsonObject
from bot.sandbox.modals import Modal, OpenView
from bot.sandbox.user_actions import ClickOutcome, UserActions
from bot.sandbox.workspace import Channel, ImpossibleStepError, Message, fits_filter, reject_step

_FILES = Path(__file__).with_name("page")
_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
_NAMES = frozenset(
    {"index.html", "page.css", "icon.svg", "page.js", "dom.js", "text.js", "combobox.js", "blocks.js", "modal.js"}
)
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_SHOWN_MESSAGES = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelToken:
    """A token to try, as the side panel offers it."""

    label: str
    explanation: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelSlot:
    """A catalog's credential slot, with the exact value stored in it: this is a sandbox."""

    bucket: str
    catalog_state: str
    credential_state: str
    stored: str | None = None
    stored_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelData:
    """What the side panel shows; without tokens and slots there is no panel."""

    tokens: tuple[PanelToken, ...] = ()
    slots: tuple[PanelSlot, ...] = ()


@dataclass(slots=True)
class Page:
    """Serves the page and passes on what people do with it."""

    actions: UserActions
    panel: Callable[[], PanelData]
    _is_stopping: bool = False

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the page's routes to the server's."""
        router.add_get("/", self._serve_file)
        router.add_get("/page/events", self._serve_events)
        router.add_get("/page/{name}", self._serve_file)
        router.add_post("/page/{action}", self._serve_action)

    def stop(self) -> None:
        """End the event streams."""
        self._is_stopping = True
        self.actions.workspace.changes.announce()

    async def _serve_file(self, request: web.Request) -> web.StreamResponse:
        _refuse_strangers(request)
        name = request.match_info.get("name", "index.html")
        if name not in _NAMES:
            raise web.HTTPNotFound
        text = await asyncio.to_thread((_FILES / name).read_text, encoding="utf-8")
        return web.Response(text=text, content_type=_TYPES[name.rpartition(".")[2]], charset="utf-8", headers=_HEADERS)

    async def _serve_events(self, request: web.Request) -> web.StreamResponse:
        _refuse_strangers(request)
        user_id = request.query.get("user", "")
        if user_id not in self.actions.workspace.users:
            user_id = next(iter(self.actions.workspace.users))
        stream = web.StreamResponse(headers={**_HEADERS, "Content-Type": "text/event-stream"})
        await stream.prepare(request)
        last = ""
        try:
            while not self._is_stopping:
                # Take the signal before the look: what changes while the state is sent is sent as well.
                next_change = self.actions.workspace.changes.next_change()
                state = json.dumps(self._state(user_id))
                if state != last:
                    last = state
                    await stream.write(f"retry: 500\ndata: {state}\n\n".encode())
                await next_change.wait()
        except ConnectionError:
            pass
        return stream

    async def _serve_action(self, request: web.Request) -> web.Response:
        _refuse_strangers(request)
        actions: dict[str, Callable[[JsonObject], Awaitable[JsonObject]]] = {
            "say": self._say,
            "search": self._search,
            "fill": self._fill,
            "submit": self._submit,
            "close": self._close,
            "click": self._click,
        }
        action = actions.get(request.match_info["action"])
        if action is None:
            raise web.HTTPNotFound
        try:
            answer = await action(await request.json())
        except (ImpossibleStepError, KeyError, ValueError, TypeError) as wrong:
            return web.json_response({"error": str(wrong)}, status=409)
        return web.json_response(answer)

    async def _say(self, asked: JsonObject) -> JsonObject:
        user_id, channel_id, text = asked["user"], asked["channel"], asked["text"].strip()
        if text.startswith("/"):
            await self.actions.type_command(user_id, channel_id, text)
        elif text:
            await self.actions.say(user_id, channel_id, text)
        return {}

    async def _search(self, asked: JsonObject) -> JsonObject:
        self._take_values(asked)
        outcome = await self.actions.search_options(asked["user"], asked["block"], asked["query"])
        return {"options": [asdict(option) for option in outcome.options], "failure": outcome.failure}

    async def _fill(self, asked: JsonObject) -> JsonObject:
        view = self._take_values(asked)
        state = view.values[asked["block"], asked["action"]]
        value = next(part for name, part in state.items() if name != "type")
        return _clicked(await self.actions.fill(asked["user"], asked["block"], _plain_value(value)))

    async def _submit(self, asked: JsonObject) -> JsonObject:
        self._take_values(asked)
        outcome = await self.actions.submit(asked["user"])
        return {"kind": outcome.kind}

    async def _close(self, asked: JsonObject) -> JsonObject:
        self._view(asked)
        await self.actions.close(asked["user"], whole_stack=bool(asked.get("whole_stack")))
        return {}

    async def _click(self, asked: JsonObject) -> JsonObject:
        where: Message | Modal | None
        if "view" in asked:
            where = self._take_values(asked).snapshot()
        else:
            where = self.actions.workspace.find_message(asked["message"])
        if where is None:
            reject_step("that message is gone")
        return _clicked(await self.actions.click(asked["user"], where, asked["action"], asked.get("value")))

    def _view(self, asked: JsonObject) -> OpenView:
        view = self.actions.modals.top(asked["user"])
        if view is None or view.id != asked["view"]:
            reject_step("that form is no longer open")
        return view

    def _take_values(self, asked: JsonObject) -> OpenView:
        view = self._view(asked)
        for one in view.fields:
            value = asked["values"].get(one.block_id, {}).get(one.action_id)
            if value is not None:
                self.actions.modals.fill(view, one, value)
        return view

    def _state(self, user_id: str) -> JsonObject:
        workspace = self.actions.workspace
        config, transport, panel = workspace.config, self.actions.transport, self.panel()
        view = self.actions.modals.top(user_id)
        return {
            "workspace": config.team_name,
            "app": {"name": config.app_name, "is_here": bool(transport.request_url or transport.connections)},
            "app_user": config.bot_user_id,
            "you": user_id,
            "users": [{"id": user.id, "name": user.real_name} for user in workspace.users.values()],
            "groups": [{"id": group.id, "name": group.handle} for group in workspace.user_groups.values()],
            "commands": [asdict(command) for command in config.commands],
            "channels": [self._channel(channel, user_id) for channel in workspace.seen_channels(user_id)],
            "view": None if view is None else self._shown_view(view),
            "panel": {
                "tokens": [asdict(token) for token in panel.tokens],
                "slots": [
                    {**asdict(slot), "stored_at": slot.stored_at and slot.stored_at.isoformat()} for slot in panel.slots
                ],
            },
        }

    def _channel(self, channel: Channel, user_id: str) -> JsonObject:
        config = self.actions.workspace.config
        messages = self.actions.messages(channel.id, user_id)[-_SHOWN_MESSAGES:]
        return {
            "id": channel.id,
            "name": config.app_name if channel.dm_with else channel.name,
            "topic": channel.topic,
            "is_dm": channel.dm_with is not None,
            "is_private": channel.is_private,
            "is_shared": channel.is_ext_shared,
            "is_archived": channel.is_archived,
            "has_app": channel.bot_is_member or channel.dm_with is not None,
            "messages": [self._message(message) for message in messages],
        }

    def _message(self, message: Message) -> JsonObject:
        author = self.actions.workspace.users.get(message.user_id)
        is_app = message.bot_id is not None
        return {
            "ts": message.ts,
            "author": author.real_name if author else self.actions.workspace.config.app_name if is_app else "System",
            "author_id": message.user_id,
            "is_app": is_app,
            "text": message.text,
            "blocks": list(message.blocks),
            "is_ephemeral": message.ephemeral_to is not None,
            "is_edited": message.edited,
        }

    def _shown_view(self, view: OpenView) -> JsonObject:
        definition, channels = view.definition, self.actions.workspace.seen_channels(view.user.id)
        return {
            "id": view.id,
            "hash": view.hash,
            "title": definition["title"],
            "submit": definition.get("submit"),
            "close": definition.get("close"),
            "is_stacked": view.previous_view_id is not None,
            "blocks": view.blocks,
            "values": view.state()["values"],
            "errors": view.errors,
            "notice": view.notice,
            "is_busy": view.is_busy,
            "conversations": {
                one.block_id: [
                    channel.id
                    for channel in channels
                    if not channel.is_archived and fits_filter(channel, one.element.get("filter"))
                ]
                for one in view.fields
                if one.kind == "conversations_select"
            },
        }


def _refuse_strangers(request: web.Request) -> None:
    # A page of another site, or a name that was pointed at loopback, must not drive the sandbox from the same browser.
    host = request.headers.get("Host", "")
    origin = request.headers.get("Origin")
    if host.rsplit(":", 1)[0] not in _LOOPBACK or origin not in {None, f"http://{host}"}:
        raise web.HTTPForbidden


def _plain_value(value: object) -> str | list[str]:
    if isinstance(value, list):
        return [option["value"] for option in value]
    if isinstance(value, dict):
        return str(value["value"])
    return str(value or "")


def _clicked(outcome: ClickOutcome) -> JsonObject:
    return {"failure": outcome.failure}
