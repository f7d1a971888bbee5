"""The web page of the fake Slack, and the JSON and server-sent events behind it. All rules are in `user_actions`."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from aiohttp import web

from bot.sandbox.blocks import JsonObject
from bot.sandbox.homes import Home, HomeView
from bot.sandbox.modals import Modal, OpenView
from bot.sandbox.page_state import PageState
from bot.sandbox.user_actions import ClickOutcome, UserActions
from bot.sandbox.workspace import ImpossibleStepError, Message, reject_step

_FILES = Path(__file__).with_name("page")
_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
_SCRIPTS = ("page", "back", "blocks", "combobox", "dom", "drafts", "follower", "home", "modal", "panel", "text")
_NAMES = frozenset({"index.html", "page.css", "icon.svg", *(f"{name}.js" for name in _SCRIPTS)})
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(slots=True)
class Page:
    """Serves the page and passes on what people do with it."""

    actions: UserActions
    state: PageState
    press_panel: Callable[[str], None]
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
                # Take the signal before reading the state: what changes while it is sent is then sent as well.
                next_change = self.actions.workspace.changes.next_change()
                state = json.dumps(self.state.seen_by(user_id))
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
            "open": self._open,
            "click": self._click,
            "press": self._press,
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
        value = _plain_value(next(part for name, part in state.items() if name != "type"))
        if isinstance(view, HomeView):
            return _clicked(await self.actions.click(asked["user"], view.snapshot(), asked["block"], value))
        return _clicked(await self.actions.fill(asked["user"], asked["block"], value))

    async def _submit(self, asked: JsonObject) -> JsonObject:
        self._take_values(asked)
        outcome = await self.actions.submit(asked["user"])
        return {"kind": outcome.kind}

    async def _close(self, asked: JsonObject) -> JsonObject:
        self._modal(asked)
        await self.actions.close(asked["user"], whole_stack=bool(asked.get("whole_stack")))
        return {}

    async def _open(self, asked: JsonObject) -> JsonObject:
        outcome = await self.actions.open_home(asked["user"], tab=asked["tab"])
        return {"failure": outcome.failure}

    async def _click(self, asked: JsonObject) -> JsonObject:
        where: Message | Modal | Home | None
        if "view" in asked or "home" in asked:
            where = self._take_values(asked).snapshot()
        else:
            where = self.actions.workspace.find_message(asked["message"])
        if where is None:
            reject_step("that message is gone")
        return _clicked(await self.actions.click(asked["user"], where, asked["action"], asked.get("value")))

    async def _press(self, asked: JsonObject) -> JsonObject:
        self.press_panel(asked["press"])
        self.actions.workspace.changes.announce()
        return {}

    def _modal(self, asked: JsonObject) -> OpenView:
        view = self.actions.modals.top(asked["user"])
        if view is None or view.id != asked["view"]:
            reject_step("that form is no longer open")
        return view

    def _home(self, asked: JsonObject) -> HomeView:
        view = self.actions.homes.of(asked["user"])
        if view is None or view.id != asked["home"]:
            reject_step("that Home tab is gone")
        return view

    def _take_values(self, asked: JsonObject) -> OpenView | HomeView:
        view: OpenView | HomeView = self._home(asked) if "home" in asked else self._modal(asked)
        for one in view.fields:
            value = asked["values"].get(one.block_id, {}).get(one.action_id)
            if value is not None:
                self.actions.modals.fill(view, one, value)
        return view


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
