"""The fake Slack: an aiohttp server on loopback that stands in for Slack to one app, and its composition.

It knows nothing of the app but its configuration. Start it with `async with FakeSlack(config) as slack:`, then point
the app at `slack.api_url`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Self

from aiohttp import web

from bot.sandbox.blocks import Field
from bot.sandbox.faults import Fault, Faults
from bot.sandbox.handles import ResponseUrls, Triggers
from bot.sandbox.homes import Homes
from bot.sandbox.modals import Modals, OpenView
from bot.sandbox.page import Page
from bot.sandbox.page_state import PageState, PanelData
from bot.sandbox.payloads import Payloads
from bot.sandbox.transport import RawAnswer, Sent, Transport
from bot.sandbox.user_actions import UserActions
from bot.sandbox.web_api import ApiCall, WebApi
from bot.sandbox.workspace import PATIENCE, Changes, FakeSlackConfig, Workspace, fits_filter, reject_step

_LARGEST_BODY = 8 * 1024 * 1024
_SHUTDOWN_SECONDS = 2.0


class FakeSlack(UserActions):
    """One workspace with one installed app, served on loopback; `UserActions` holds what its people can do and see."""

    def __init__(self, config: FakeSlackConfig | None = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.config = config or FakeSlackConfig()
        self.host, self.port = host, port
        self.faults, self._traffic, problems = Faults(), list[bytes](), list[str]()
        workspace = Workspace(self.config, Changes())
        modals = Modals(self.config, workspace.changes, self._default_conversation)
        homes = Homes(self.config, workspace.changes)
        triggers = Triggers(workspace)
        super().__init__(
            workspace=workspace,
            modals=modals,
            homes=homes,
            triggers=triggers,
            response_urls=ResponseUrls(workspace, self.faults, self._traffic),
            payloads=Payloads(self.config),
            transport=Transport(
                config=self.config,
                changes=workspace.changes,
                traffic=self._traffic,
                request_url=self.config.request_url,
                signing_secret=self.config.signing_secret,
            ),
            problems=problems,
        )
        self._web_api = WebApi(
            workspace=workspace,
            modals=modals,
            homes=homes,
            triggers=triggers,
            transport=self.transport,
            faults=self.faults,
            traffic=self._traffic,
            problems=problems,
        )
        # The composition of the sandbox puts its own here, and calls `notify_panel` when it has something new.
        self.panel: Callable[[], PanelData] = PanelData
        self.press_panel: Callable[[str], None] = reject_step
        self._page = Page(self, PageState(self, self._panel_now), self._press_panel)
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; the port is known afterwards."""
        server = web.Application(client_max_size=_LARGEST_BODY)
        server.router.add_route("*", "/api/{method}", self._web_api.serve)
        server.router.add_post("/response/{secret}", self.response_urls.serve)
        server.router.add_get("/link/", self.transport.serve_socket)
        self._page.add_routes(server.router)
        self._runner = web.AppRunner(server, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, self.port).start()
        self.port = self._runner.addresses[0][1]
        self._web_api.base_url = self.response_urls.base_url = self.url.rstrip("/")

    async def stop(self) -> None:
        """Close every connection and stop listening."""
        self._page.stop()
        await self.transport.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def url(self) -> str:
        """The address of the web page."""
        return f"http://{self.host}:{self.port}/"

    @property
    def api_url(self) -> str:
        """The base address of the Web API, as `base_url` of a Slack client."""
        return f"{self.url}api/"

    @property
    def calls(self) -> list[ApiCall]:
        """Every Web API call that arrived, in order."""
        return self._web_api.calls

    @property
    def sent(self) -> list[Sent]:
        """Every payload that went to the app, with the answer."""
        return self.transport.sent

    @property
    def request_url(self) -> str | None:
        """Where payloads go by signed HTTP; None: they go by Socket Mode."""
        return self.transport.request_url

    @request_url.setter
    def request_url(self, url: str | None) -> None:
        self.transport.request_url = url

    def calls_of(self, method: str) -> list[ApiCall]:
        """Return the calls of one method."""
        return [call for call in self.calls if call.method == method]

    def traffic_received(self) -> bytes:
        """Return all that the app ever sent here: requests, headers, Socket Mode frames and its answers over HTTP."""
        return b"\n".join(self._traffic)

    def fail_next(  # noqa: PLR0913 - the fields of a Fault, named at the call
        self,
        method: str,
        *,
        error: str | None = None,
        status: int | None = None,
        retry_after: int | None = None,
        times: int = 1,
        delay: timedelta | None = None,
        drop_connection: bool = False,
        after_effect: bool = False,
    ) -> None:
        """Fail the next `times` calls of a method, or of `response_url`.

        `retry_after` alone is a 429, `delay` alone a late success; with `after_effect` the call is carried out first.
        """
        fault = Fault(
            error=error,
            status=status,
            retry_after=retry_after,
            delay=delay,
            drop_connection=drop_connection,
            after_effect=after_effect,
        )
        self.faults.add(method, fault, times)

    def change_channel(
        self,
        channel_id: str,
        *,
        bot_is_member: bool | None = None,
        is_archived: bool | None = None,
        is_ext_shared: bool | None = None,
    ) -> None:
        """Change a channel."""
        channel = self.workspace.channels[channel_id]
        changed = replace(
            channel,
            bot_is_member=channel.bot_is_member if bot_is_member is None else bot_is_member,
            is_archived=channel.is_archived if is_archived is None else is_archived,
            is_ext_shared=channel.is_ext_shared if is_ext_shared is None else is_ext_shared,
        )
        self.workspace.change_channel(changed)

    def refuse_bot_token(self, error: str | None = "token_revoked") -> None:
        """Refuse every call with the bot token, as after a revocation; None: accept it again."""
        self._web_api.bot_token_refusal = error

    def grant(self, *scopes: str) -> None:
        """Replace the scopes of the bot token."""
        self.workspace.config = replace(self.workspace.config, scopes=scopes)

    async def switch_socket_mode(self, *, on: bool) -> None:
        """Switch Socket Mode on, or off: every connection ends."""
        self._web_api.is_socket_mode_on = on
        if not on:
            await self.transport.ask_to_reconnect("link_disabled")
            await self.transport.drop_connections()

    async def wait_for_connections(self, count: int = 1, within: timedelta = PATIENCE) -> None:
        """Wait until the app holds at least this many Socket Mode connections."""

        def look() -> bool | None:
            return len(self.transport.connections) >= count or None

        await self.workspace.changes.wait_until(look, within, f"{count} Socket Mode connections")

    async def post_raw(
        self, body: bytes, *, headers: Mapping[str, str] | None = None, timestamp: str | None = None
    ) -> RawAnswer:
        """POST bytes to the app's request URL, signed; `headers` override, an empty value leaves a header out."""
        return await self.transport.post(body, headers=headers, timestamp=timestamp)

    def notify_panel(self) -> None:
        """Say that the panel has something new."""
        self.workspace.changes.announce()

    def _panel_now(self) -> PanelData:
        return self.panel()

    def _press_panel(self, press: str) -> None:
        self.press_panel(press)

    def _default_conversation(self, one: Field, view: OpenView) -> str | None:
        channel = self.workspace.channels.get(view.channel_id or "")
        return channel.id if channel is not None and fits_filter(channel, one.element.get("filter")) else None
