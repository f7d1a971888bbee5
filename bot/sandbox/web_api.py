"""The Web API that an app calls: its methods, its envelope and its error names.

Methods: https://docs.slack.dev/reference/methods
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from bot.sandbox.block_rules import home_problems, view_problems
from bot.sandbox.blocks import JsonObject
from bot.sandbox.faults import Faults
from bot.sandbox.handles import RefusedError, Triggers, from_app, refuse, said
from bot.sandbox.homes import Homes
from bot.sandbox.modals import Modals, OpenView
from bot.sandbox.payloads import message_json, user_json
from bot.sandbox.transport import Transport
from bot.sandbox.views import View
from bot.sandbox.workspace import Channel, User, Workspace

_LARGEST_VIEW = 250_000
# Of all blocks together; measured, not documented: https://github.com/slackapi/bolt-js/issues/2509. Slack counts the
# texts and something for each block; JSON is longer than that, so what is taken here is taken there.
_LARGEST_MESSAGE = 13_200
_SCOPES = {
    "chat.postEphemeral": "chat:write",
    "chat.postMessage": "chat:write",
    "chat.update": "chat:write",
    "usergroups.users.list": "usergroups:read",
    "users.info": "users:read",
}
_SCOPE_OF_KIND = {"im": "im:read", "mpim": "mpim:read", "private": "groups:read", "public": "channels:read"}
_SCOPE_OF_SOCKETS = "connections:write"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiCall:
    """A call of the Web API that arrived, with its parsed arguments; it may have been refused or failed as ordered."""

    method: str
    arguments: JsonObject
    at: float


@dataclass(slots=True, kw_only=True)
class WebApi:
    """Serves `/api/{method}` and remembers every call."""

    workspace: Workspace
    modals: Modals
    homes: Homes
    triggers: Triggers
    transport: Transport
    faults: Faults
    traffic: list[bytes]
    problems: list[str]
    base_url: str = ""
    bot_token_refusal: str | None = None
    is_socket_mode_on: bool = True
    calls: list[ApiCall] = field(default_factory=list)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Serve one call."""
        body = await request.read()
        head = "\n".join((request.path_qs, *(f"{name}: {value}" for name, value in request.headers.items())))
        self.traffic.append(head.encode() + b"\n" + body)
        method = request.match_info["method"]
        arguments = await _arguments(request, body)
        # Noted before anything is done with it: a call that fails as ordered is a call as well.
        self.calls.append(ApiCall(method=method, arguments=arguments or {}, at=self.workspace.config.clock()))
        self.workspace.changes.announce()
        return await self.faults.around(method, request, lambda: self._answer(request, method, arguments))

    def _answer(self, request: web.Request, method: str, arguments: JsonObject | None) -> web.Response:
        try:
            answer = {"ok": True, **self._perform(request, method, arguments)}
        except RefusedError as refused:
            answer = {"ok": False, "error": refused.error}
            self.problems.append(" ".join((f"{method}: {refused.error}", *refused.messages)))
            if refused.needed:
                answer |= {"needed": refused.needed, "provided": ",".join(self.workspace.config.scopes)}
            if refused.messages:
                answer["response_metadata"] = {"messages": list(refused.messages)}
        return web.json_response(answer, headers=self._granted(request, arguments or {}))

    def _granted(self, request: web.Request, arguments: JsonObject) -> dict[str, str]:
        """Return the header that names a token's scopes; an unknown token has none."""
        config, token = self.workspace.config, _token(request, arguments)
        if token in config.bot_tokens:
            return {"X-OAuth-Scopes": ",".join(config.scopes)}
        return {"X-OAuth-Scopes": ",".join(config.app_token_scopes)} if token and token == config.app_token else {}

    def _perform(self, request: web.Request, method: str, arguments: JsonObject | None) -> JsonObject:
        methods: dict[str, Callable[[JsonObject], JsonObject]] = {
            "apps.connections.open": self._open_connection,
            "auth.test": self._test_auth,
            "chat.postEphemeral": self._post_ephemeral,
            "chat.postMessage": self._post_message,
            "chat.update": self._update_message,
            "conversations.info": self._describe_conversation,
            "usergroups.users.list": self._list_group,
            "users.info": self._describe_user,
            "views.open": self._open_view,
            "views.push": self._push_view,
            "views.publish": self._publish_view,
            "views.update": self._update_view,
        }
        if method not in methods:
            refuse("unknown_method", f"unknown method: {method}")
        if arguments is None:
            refuse("invalid_json")
        self._authorize(request, method, arguments)
        return methods[method](arguments)

    def _authorize(self, request: web.Request, method: str, arguments: JsonObject) -> None:
        config, token = self.workspace.config, _token(request, arguments)
        if not token:
            refuse("not_authed")
        is_bot, is_app = token in config.bot_tokens, token == config.app_token
        if not is_bot and not is_app:
            refuse("invalid_auth")
        if is_app != (method == "apps.connections.open"):
            refuse("not_allowed_token_type")
        if is_bot and self.bot_token_refusal:
            refuse(self.bot_token_refusal)
        if is_app and _SCOPE_OF_SOCKETS not in config.app_token_scopes:
            refuse("missing_scope", needed=_SCOPE_OF_SOCKETS)
        if method in _SCOPES:
            self._need_scope(_SCOPES[method])

    def _need_scope(self, scope: str) -> None:
        if scope not in self.workspace.config.scopes:
            refuse("missing_scope", needed=scope)

    def _open_connection(self, _: JsonObject) -> JsonObject:
        if not self.is_socket_mode_on:
            refuse("socket_mode_not_enabled")
        address = self.base_url.replace("http", "ws", 1)
        return {"url": f"{address}/link/?ticket={self.transport.issue_ticket()}&app_id={self.workspace.config.app_id}"}

    def _test_auth(self, _: JsonObject) -> JsonObject:
        config = self.workspace.config
        return {
            "url": f"https://{config.team_domain}.slack.com/",
            "team": config.team_name,
            "user": config.app_name.lower().replace(" ", "-"),
            "team_id": config.team_id,
            "user_id": config.bot_user_id,
            "bot_id": config.bot_id,
            "is_enterprise_install": False,
        }

    def _post_message(self, arguments: JsonObject) -> JsonObject:
        channel = self._writable(_required(arguments, "channel"))
        client_msg_id = arguments.get("client_msg_id")
        posted = self.workspace.post(
            from_app(self.workspace, channel.id, _said(arguments), client_msg_id=client_msg_id)
        )
        return {"channel": channel.id, "ts": posted.ts, "message": message_json(posted, self.workspace.config)}

    def _update_message(self, arguments: JsonObject) -> JsonObject:
        """Change one of the app's own messages; an ephemeral one cannot be named."""
        channel, ts = self._writable(_required(arguments, "channel")), _required(arguments, "ts")
        message = self.workspace.find_message(ts)
        if message is None or message.channel_id != channel.id or message.ephemeral_to is not None:
            refuse("message_not_found")
        if message.bot_id != self.workspace.config.bot_id:
            refuse("cant_update_message")
        text, blocks = _said(arguments)
        self.workspace.replace_message(ts, text, blocks)
        return {"channel": channel.id, "ts": ts, "text": text}

    def _post_ephemeral(self, arguments: JsonObject) -> JsonObject:
        channel, user_id = self._writable(_required(arguments, "channel")), _required(arguments, "user")
        if user_id not in self.workspace.users or not channel.is_seen_by(user_id):
            refuse("user_not_in_channel")
        posted = self.workspace.post(from_app(self.workspace, channel.id, _said(arguments), ephemeral_to=user_id))
        return {"message_ts": posted.ts}

    def _describe_conversation(self, arguments: JsonObject) -> JsonObject:
        channel = self._found(_required(arguments, "channel"))
        self._need_scope(_SCOPE_OF_KIND[channel.kind])
        if channel.dm_with is not None:
            return {"channel": {"id": channel.id, "is_im": True, "user": channel.dm_with, "is_archived": False}}
        return {
            "channel": {
                "id": channel.id,
                "name": channel.name,
                "name_normalized": channel.name,
                "is_channel": channel.kind == "public",
                "is_group": channel.kind == "private",
                "is_im": False,
                "is_mpim": channel.is_mpim,
                "is_private": channel.kind != "public",
                "is_archived": channel.is_archived,
                "is_member": channel.bot_is_member,
                "is_shared": channel.is_ext_shared or channel.is_org_shared,
                "is_ext_shared": channel.is_ext_shared,
                "is_pending_ext_shared": channel.is_pending_ext_shared,
                "pending_shared": ["T0PARTNER"] if channel.is_pending_ext_shared else [],
                "is_org_shared": channel.is_org_shared,
                "context_team_id": self.workspace.config.team_id,
                "topic": {"value": channel.topic},
            }
        }

    def _list_group(self, arguments: JsonObject) -> JsonObject:
        group = self.workspace.user_groups.get(_required(arguments, "usergroup"))
        if group is None or group.is_disabled:
            refuse("no_such_subteam")
        return {"users": list(group.members)}

    def _describe_user(self, arguments: JsonObject) -> JsonObject:
        return {"user": user_json(self._user(_required(arguments, "user")), self.workspace.config)}

    def _open_view(self, arguments: JsonObject) -> JsonObject:
        definition = _view(arguments)
        trigger_id = _required(arguments, "trigger_id")
        if self._is_taken(definition.get("external_id"), None):
            refuse("duplicate_external_id")
        trigger = self.triggers.exchange(trigger_id)
        view = self.modals.open(trigger.user, trigger.channel_id, definition)
        return {"view": view.as_json(self.workspace.config)}

    def _push_view(self, arguments: JsonObject) -> JsonObject:
        """Lay a view on the one that is in front of the person; Slack takes three."""
        definition = _view(arguments)
        trigger_id = _required(arguments, "trigger_id")
        trigger = self.triggers.exchange(trigger_id)
        under = self.modals.top(trigger.user.id)
        if under is None:
            refuse("view_not_found")
        if not self.modals.can_push(under):
            refuse("push_limit_reached")
        return {"view": self.modals.push(under, definition).as_json(self.workspace.config)}

    def _publish_view(self, arguments: JsonObject) -> JsonObject:
        user = self._user(_required(arguments, "user_id"))
        definition = _view(arguments, home_problems)
        if not self.workspace.config.home_tab_enabled:
            refuse("not_enabled")
        published = self.homes.of(user.id)
        if arguments.get("hash") not in {None, "", published.hash if published else None}:
            refuse("hash_conflict")
        if self._is_taken(definition.get("external_id"), published):
            refuse("duplicate_external_id")
        return {"view": self.homes.publish(user, definition).as_json(self.workspace.config)}

    def _update_view(self, arguments: JsonObject) -> JsonObject:
        definition = _view(arguments)
        view = self._open_one(arguments)
        if arguments.get("hash") not in {None, "", view.hash}:
            refuse("hash_conflict")
        if self._is_taken(definition.get("external_id"), view):
            refuse("duplicate_external_id")
        if not self.modals.is_overwritten(view):
            self.modals.update(view, definition)
        return {"view": view.as_json(self.workspace.config)}

    def _open_one(self, arguments: JsonObject) -> OpenView:
        external_id = arguments.get("external_id")
        if external_id:
            view = self.modals.find_external(external_id)
        else:
            view = self.modals.find(_required(arguments, "view_id"))
        if view is None:
            refuse("not_found")
        return view

    def _is_taken(self, external_id: str | None, by_other_than: View | None) -> bool:
        if not external_id:
            return False
        holders = self.modals.find_external(external_id), self.homes.find_external(external_id)
        return any(holder is not None and holder is not by_other_than for holder in holders)

    def _user(self, user_id: str) -> User:
        if not re.fullmatch("[UW][A-Z0-9]+", user_id):
            refuse("invalid_arguments", "invalid `user_id`")
        user = self.workspace.users.get(user_id)
        if user is None:
            refuse("user_not_found")
        return user

    def _found(self, address: str) -> Channel:
        channel = self.workspace.channel_for(address)
        if channel is None or (channel.is_secret and not channel.bot_is_member):
            refuse("channel_not_found")
        return channel

    def _writable(self, address: str) -> Channel:
        channel = self._found(address)
        if channel.is_archived:
            refuse("is_archived")
        if not channel.bot_is_member and channel.dm_with is None:
            refuse("not_in_channel")
        return channel


async def _arguments(request: web.Request, body: bytes) -> JsonObject | None:
    query = dict(request.query)
    if request.content_type != "application/json":
        posted: Mapping[str, object] = await request.post() if body else {}
        return {**query, **{name: value for name, value in posted.items() if isinstance(value, str)}}
    try:
        parsed = json.loads(body or b"{}")
    except ValueError:
        return None
    return {**query, **parsed} if isinstance(parsed, dict) else None


def _token(request: web.Request, arguments: JsonObject) -> object:
    return request.headers.get("Authorization", "").removeprefix("Bearer ") or arguments.get("token", "")


def _required(arguments: JsonObject, name: str) -> str:
    value = arguments.get(name)
    if not value or not isinstance(value, str):
        refuse("invalid_arguments", f"[ERROR] missing required field: {name}")
    return value


def _said(arguments: JsonObject) -> tuple[str, tuple[JsonObject, ...]]:
    """Return what is posted; a response URL takes more."""
    text, blocks = said(arguments)
    if len(json.dumps(blocks)) > _LARGEST_MESSAGE:
        refuse("msg_blocks_too_long")
    return text, blocks


def _view(arguments: JsonObject, problems_of: Callable[[object], list[str]] = view_problems) -> JsonObject:
    view = arguments.get("view")
    if isinstance(view, str):
        try:
            view = json.loads(view)
        except ValueError:
            refuse("invalid_arguments", "[ERROR] view is not valid JSON [json-pointer:/view]")
    if not isinstance(view, dict):
        refuse("invalid_arguments", "[ERROR] missing required field: view")
    if problems := problems_of(view):
        refuse("invalid_arguments", *problems)
    if len(json.dumps(view)) > _LARGEST_VIEW:
        refuse("view_too_large")
    return view
