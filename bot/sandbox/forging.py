"""What Slack would send about its people, made although no one did it, so that a test can change it and send it."""

import html
from dataclasses import dataclass, field, replace

from bot.sandbox.blocks import JsonObject
from bot.sandbox.handles import ResponseUrls, Triggers
from bot.sandbox.homes import Home, Homes, HomeView
from bot.sandbox.modals import Modals, OpenView
from bot.sandbox.payloads import Payloads, Tab
from bot.sandbox.transport import Answer, PayloadKind, Transport
from bot.sandbox.workspace import Message, User, Workspace, reject_step


@dataclass(slots=True, kw_only=True, repr=False)
class Forge:
    """The parts of the fake Slack, and the payloads that can be made from them, each with fresh handles.

    `as_user` puts somebody else's name into a payload; with a `team_id`, that of an outside Slack Connect user.
    """

    workspace: Workspace
    modals: Modals
    homes: Homes
    triggers: Triggers
    response_urls: ResponseUrls
    payloads: Payloads
    transport: Transport
    problems: list[str] = field(default_factory=list)

    def make_command(self, user_id: str, channel_id: str, line: str) -> JsonObject:
        """Return the payload of a typed command."""
        user, channel = self.workspace.users[user_id], self.workspace.channels[channel_id]
        command, _, text = line.partition(" ")
        return {
            **self.payloads.command(user, channel, command, html.escape(text.strip(), quote=False)),
            "trigger_id": self.triggers.issue(user, channel.id),
            "response_url": self.response_urls.issue(user.id, channel.id),
        }

    def make_submission(self, user_id: str, *, as_user: User | None = None) -> JsonObject:
        """Return the payload of submitting the user's open view now."""
        view = self._open_view(user_id)
        if as_user is not None:
            view = replace(view, user=as_user)
        payload = self.payloads.submission(view, self._response_urls(view))
        return {**payload, "trigger_id": self.triggers.issue(view.user, view.channel_id)}

    def make_message_action(
        self, user_id: str, message: Message, action: JsonObject, *, as_user: User | None = None
    ) -> JsonObject:
        """Return the payload of an action in a message."""
        user, channel = as_user or self.workspace.users[user_id], self.workspace.channels[message.channel_id]
        payload = self.payloads.message_action(user, channel, message, self._stamped(action))
        return {
            **payload,
            "trigger_id": self.triggers.issue(user, channel.id),
            "response_url": self.response_urls.issue(user.id, channel.id, original_ts=message.ts),
        }

    def make_home_action(
        self, user_id: str, home: Home, action: JsonObject, *, as_user: User | None = None
    ) -> JsonObject:
        """Return the payload of an action on a Home tab, which is the user's own unless it is forged."""
        view = replace(self._home_view(home.user_id), user=as_user or self.workspace.users[user_id])
        payload = self.payloads.view_action(view, self._stamped(action))
        return {**payload, "trigger_id": self.triggers.issue(view.user, None)}

    def make_home_opened(self, user_id: str, *, tab: Tab = "home", as_user: User | None = None) -> JsonObject:
        """Return the payload of the event that the user opened a tab of the App Home."""
        view = self.homes.of(user_id) if tab == "home" else None
        return self.payloads.home_opened(as_user or self.workspace.users[user_id], tab, view)

    async def deliver(self, kind: PayloadKind, payload: JsonObject) -> Answer:
        """Send any payload as Slack would, properly signed; nothing is done with the answer."""
        return await self.transport.deliver(kind, payload)

    def _open_view(self, user_id: str) -> OpenView:
        view = self.modals.top(user_id)
        if view is None:
            reject_step(f"{user_id} has no view open")
        return view

    def _home_view(self, user_id: str) -> HomeView:
        view = self.homes.of(user_id)
        if view is None:
            reject_step(f"nothing is on the Home tab of {user_id}")
        return view

    def _response_urls(self, view: OpenView) -> list[JsonObject]:
        chosen = (
            (one, view.values[one.block_id, one.action_id]["selected_conversation"])
            for one in view.fields
            if one.element.get("response_url_enabled")
        )
        return [
            {
                "block_id": one.block_id,
                "action_id": one.action_id,
                "channel_id": channel_id,
                "response_url": self.response_urls.issue(view.user.id, channel_id),
            }
            for one, channel_id in chosen
            if channel_id is not None
        ]

    def _stamped(self, action: JsonObject) -> JsonObject:
        return {**action, "action_ts": f"{self.workspace.config.clock():.6f}"}
