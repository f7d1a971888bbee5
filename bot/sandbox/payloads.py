"""The payloads that Slack sends to an app, in Slack's shapes. Builds them from the workspace's state, sends nothing.

Shapes: https://docs.slack.dev/reference/interaction-payloads, https://docs.slack.dev/interactivity/implementing-slash-commands
and https://docs.slack.dev/reference/events/app_home_opened
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

from bot.sandbox.blocks import JsonObject, elements_of
from bot.sandbox.modals import OpenView
from bot.sandbox.views import View, options_of
from bot.sandbox.workspace import Channel, FakeSlackConfig, Message, User, dm_id, new_id, reject_step

Tab = Literal["home", "messages"]


@dataclass(frozen=True, slots=True)
class Payloads:
    """Builds payloads; each returned dict is new, and may be changed to forge one."""

    config: FakeSlackConfig

    def command(self, user: User, channel: Channel, command: str, text: str) -> JsonObject:
        """Return a slash command, without `trigger_id` and `response_url`; all values are strings."""
        return {
            "token": self.config.verification_token,
            "team_id": self.config.team_id,
            "team_domain": self.config.team_domain,
            "channel_id": channel.id,
            "channel_name": _channel_name(channel),
            "user_id": user.id,
            "user_name": user.name,
            "command": command,
            "text": text,
            "api_app_id": self.config.app_id,
            "is_enterprise_install": "false",
        }

    def options(self, view: OpenView, block_id: str, action_id: str, query: str) -> JsonObject:
        """Return a `block_suggestion`: somebody types into an external select."""
        return {
            **self._common("block_suggestion", view.user),
            "container": {"type": "view", "view_id": view.id},
            "action_id": action_id,
            "block_id": block_id,
            "value": query,
            "view": view.as_json(self.config),
        }

    def submission(self, view: OpenView, response_urls: list[JsonObject]) -> JsonObject:
        """Return a `view_submission`, without `trigger_id`."""
        return {
            **self._common("view_submission", view.user),
            "view": view.as_json(self.config),
            "response_urls": response_urls,
        }

    def closed(self, view: OpenView, *, is_cleared: bool) -> JsonObject:
        """Return a `view_closed`."""
        return {
            **self._common("view_closed", view.user),
            "view": view.as_json(self.config),
            "is_cleared": is_cleared,
        }

    def view_action(self, view: View, action: JsonObject) -> JsonObject:
        """Return a `block_actions` from a view, without `trigger_id`: it carries the full state of the view."""
        return {
            **self._common("block_actions", view.user),
            "container": {"type": "view", "view_id": view.id},
            "view": view.as_json(self.config),
            "actions": [action],
        }

    def message_action(self, user: User, channel: Channel, message: Message, action: JsonObject) -> JsonObject:
        """Return a `block_actions` from a message, without `trigger_id` and `response_url`."""
        is_ephemeral = message.ephemeral_to is not None
        payload = {
            **self._common("block_actions", user),
            "container": {
                "type": "message",
                "message_ts": message.ts,
                "channel_id": channel.id,
                "is_ephemeral": is_ephemeral,
            },
            "channel": {"id": channel.id, "name": _channel_name(channel)},
            "state": {"values": {}},
            "actions": [action],
        }
        if not is_ephemeral:
            payload["message"] = message_json(message, self.config)
        return payload

    def home_opened(self, user: User, tab: Tab, view: View | None) -> JsonObject:
        """Return the event that somebody opened the App Home; the view is what stands on its Home tab, if anything."""
        now = self.config.clock()
        event: JsonObject = {"type": "app_home_opened", "user": user.id, "channel": dm_id(user.id), "tab": tab}
        if view is not None:
            event["view"] = view.as_json(self.config)
        return {
            "token": self.config.verification_token,
            "team_id": user.team_id or self.config.team_id,
            "api_app_id": self.config.app_id,
            "event": {**event, "event_ts": f"{now:.6f}"},
            "type": "event_callback",
            "event_id": new_id("Ev"),
            "event_time": int(now),
            "authorizations": [
                {
                    "enterprise_id": None,
                    "team_id": self.config.team_id,
                    "user_id": self.config.bot_user_id,
                    "is_bot": True,
                    "is_enterprise_install": False,
                }
            ],
            "is_ext_shared_channel": False,
        }

    def _common(self, kind: str, user: User) -> JsonObject:
        team_id = user.team_id or self.config.team_id
        domain = self.config.team_domain if user.team_id is None else f"outside-{user.team_id.lower()}"
        return {
            "type": kind,
            "team": {"id": team_id, "domain": domain},
            "user": {"id": user.id, "username": user.name, "name": user.name, "team_id": team_id},
            "api_app_id": self.config.app_id,
            "token": self.config.verification_token,
            "enterprise": None,
            "is_enterprise_install": False,
        }


def user_json(user: User, config: FakeSlackConfig) -> JsonObject:
    """Return a person as users.info does: without the flags that do not apply to a person who left."""
    described: JsonObject = {
        "id": user.id,
        "team_id": user.team_id or config.team_id,
        "name": user.name,
        "deleted": user.deleted,
        "real_name": user.real_name,
        "profile": {"real_name": user.real_name, "display_name": user.name, "team": user.team_id or config.team_id},
        "is_bot": user.is_bot,
        "is_app_user": False,
        "updated": int(config.clock()),
    }
    if user.enterprise_id is not None:
        teams = list(user.workspaces)
        described["enterprise_user"] = {"id": user.id, "enterprise_id": user.enterprise_id, "teams": teams}
    if user.deleted:
        return described
    flags = ("is_restricted", "is_ultra_restricted", "is_stranger", "is_invited_user")
    described |= {name: getattr(user, name) for name in flags if name in flags[:2] or getattr(user, name)}
    return described | {"is_admin": False, "is_owner": False, "is_primary_owner": False}


def message_json(message: Message, config: FakeSlackConfig) -> JsonObject:
    """Return a message as Slack sends it in payloads and answers."""
    sent: JsonObject = {
        "type": "message",
        "user": message.user_id,
        "ts": message.ts,
        "text": message.text,
        "team": config.team_id,
    }
    if message.bot_id:
        sent |= {"bot_id": message.bot_id, "app_id": config.app_id}
    if message.blocks:
        sent["blocks"] = deepcopy(list(message.blocks))
    if message.client_msg_id:
        sent["client_msg_id"] = message.client_msg_id
    return sent


def action_of(blocks: list[JsonObject], action_id: str, value: str | None) -> JsonObject:
    """Return the entry of `actions` for a pressed button or a choice; raises ImpossibleStepError.

    Of several elements with this action_id it is the one that has the value or offers it; without a value, the first.
    """
    found = [(block, one) for block in blocks for one in elements_of(block) if one["action_id"] == action_id]
    if not found:
        reject_step(f"there is no action {action_id!r}")
    block, element = next((one for one in found if _has(one[1], value)), found[0])
    return {"block_id": block["block_id"], **_pressed(element, value)}


def _channel_name(channel: Channel) -> str:
    names = {"im": "directmessage", "mpim": f"mpdm-{channel.name}-1", "private": "privategroup"}
    return names.get(channel.kind, channel.name)


def _has(element: JsonObject, value: str | None) -> bool:
    if element["type"] == "button":
        return value in {None, element.get("value")}
    return any(value in {option["value"], option["text"]["text"]} for option in options_of(element))


def _pressed(element: JsonObject, value: str | None) -> JsonObject:
    kind, action_id = element["type"], element["action_id"]
    if kind == "button":
        if not _has(element, value):
            reject_step(f"no button {action_id!r} has the value {value!r}")
        shown: JsonObject = {name: element[name] for name in ("text", "value", "style") if name in element}
        return {"type": kind, "action_id": action_id, **shown}
    if kind == "conversations_select":
        return {"type": kind, "action_id": action_id, "selected_conversation": value}
    chosen = [option for option in options_of(element) if value in {option["value"], option["text"]["text"]}]
    if kind == "checkboxes":
        return {"type": kind, "action_id": action_id, "selected_options": chosen}
    if not chosen:
        reject_step(f"{value!r} is not offered in {action_id!r}")
    return {"type": kind, "action_id": action_id, "selected_option": chosen[0]}
