"""What the page shows to one person: the whole workspace as they see it, and the side panel, as JSON."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime

from bot.sandbox.blocks import JsonObject
from bot.sandbox.modals import OpenView
from bot.sandbox.user_actions import UserActions
from bot.sandbox.views import View
from bot.sandbox.workspace import Channel, Message, fits_filter

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
class PanelAccountToken:
    """An API token of the account. `title` and `detail` are its name, in parts; a name without parts is all title.

    `next` says what follows, `until` when at the earliest. `presses` are the buttons, each with what is sent when it is
    pressed.
    """

    id: str
    group: str
    title: str
    detail: str = ""
    status: str
    slots: tuple[str, ...] = ()
    expires_at: datetime | None = None
    note: str = ""
    next: str = ""
    until: datetime | None = None
    presses: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelSwitch:
    """Something that can be made to go wrong; `press` is what is sent to turn it on or off."""

    group: str
    label: str
    explanation: str
    is_on: bool
    press: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelData:
    """What the side panel shows; with nothing to show there is no panel.

    `start` is what somebody new does first, in mrkdwn, a line each: it stands where a conversation begins, and `also`
    below it. `about` stands above the account's tokens.
    """

    start: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    tokens: tuple[PanelToken, ...] = ()
    slots: tuple[PanelSlot, ...] = ()
    about: str = ""
    account: tuple[PanelAccountToken, ...] = ()
    switches: tuple[PanelSwitch, ...] = ()

    def describe(self) -> JsonObject:
        """Return it as JSON, times in ISO 8601."""
        return {name: _as_json(value) for name, value in asdict(self).items()}


@dataclass(slots=True)
class PageState:
    """Describes the workspace to the page."""

    actions: UserActions
    panel: Callable[[], PanelData]

    def seen_by(self, user_id: str) -> JsonObject:
        """Return all that the page shows to a person."""
        workspace = self.actions.workspace
        config, transport = workspace.config, self.actions.transport
        modal, home = self.actions.modals.top(user_id), self.actions.homes.of(user_id)
        return {
            "workspace": config.team_name,
            "app": {
                "name": config.app_name,
                "is_here": bool(transport.request_url or transport.connections),
                "has_home": config.home_tab_enabled,
            },
            "app_user": config.bot_user_id,
            "you": user_id,
            "users": [{"id": user.id, "name": user.real_name} for user in workspace.users.values()],
            "groups": [{"id": group.id, "name": group.handle} for group in workspace.user_groups.values()],
            "commands": [asdict(command) for command in config.commands],
            "channels": [self._channel(channel, user_id) for channel in workspace.seen_channels(user_id)],
            "view": None if modal is None else self._modal(modal),
            "home": None if home is None else self._view(home),
            "panel": self.panel().describe(),
        }

    def _channel(self, channel: Channel, user_id: str) -> JsonObject:
        config = self.actions.workspace.config
        messages = self.actions.messages(channel.id, user_id)[-_SHOWN_MESSAGES:]
        return {
            "id": channel.id,
            "name": config.app_name if channel.dm_with else channel.name,
            "topic": channel.topic,
            "is_dm": channel.dm_with is not None,
            "is_private": channel.is_secret,
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

    def _modal(self, view: OpenView) -> JsonObject:
        definition = view.definition
        return {
            **self._view(view),
            "title": definition["title"],
            "submit": definition.get("submit"),
            "close": definition.get("close"),
            "is_stacked": view.previous_view_id is not None,
            "errors": view.errors,
            "notice": view.notice,
            "is_busy": view.is_busy,
        }

    def _view(self, view: View) -> JsonObject:
        channels = self.actions.workspace.seen_channels(view.user.id)
        return {
            "id": view.id,
            "hash": view.hash,
            "blocks": view.blocks,
            "values": view.state()["values"],
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


def _as_json(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {name: _as_json(one) for name, one in value.items()}
    return [_as_json(one) for one in value] if isinstance(value, list | tuple) else value
