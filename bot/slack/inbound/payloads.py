"""Parses what Slack sends, once: beyond this module a payload is a typed value, never a dict of Slack's.

A part that is missing, of the wrong type or not a valid id is read as empty; code that needs it refuses. Every text is
one line, and no longer than Slack lets a person type.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from bot.model.foreign_text import one_line
from bot.model.pasted_token import MASK, trim_typed
from bot.model.place import DIRECT
from bot.model.secret import Secret
from bot.model.slack_ids import SlackId
from bot.model.submission import PastedToken, Task, TokenKind
from bot.policy.gate import Actor
from bot.slack import form as store_form
from bot.slack import rotate_form
from bot.slack.blocks import Json
from bot.slack.form import (
    BUCKET_BLOCK,
    CHANNEL_BLOCK,
    CHECK_BLOCK,
    DIRECT_BLOCK,
    REASON_BLOCK,
    TOKEN_BLOCK,
)
from bot.slack.subcommands import Subcommand, guess_subcommand, read_text

LONGEST_TEXT: Final = 3000
"""The maximum length of a form field."""

_BUCKET_ACTIONS: Final = {
    store_form.CALLBACK_ID: store_form.BUCKET_ACTION,
    rotate_form.CALLBACK_ID: rotate_form.BUCKET_ACTION,
}
"""The forms, and the action id of the field in which another bucket can be chosen."""

_NAME: Final = re.compile(r"[\x21-\x7e]{1,255}")
_FOREIGN: Final = "no team"
"""Replaces an invalid team or organization id: it matches no team, and never counts as "not named"."""

_GROUP_MESSAGE: Final = "mpdm-"
"""How Slack names group messages, whose ids look like channel ids; no channel can have such a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """Who acts, and when the payload arrived."""

    actor: Actor
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Payload):
    """The typed command. `bucket` is the text after the subcommand, unverified.

    `answer_url` accepts answers for half an hour, like that of a Press. `has_token`: something token-shaped was typed,
    and is masked. `is_in_group_message`: `channel_id` is a group message, not a channel. `guess`: the subcommand that
    may have been misspelt, unless `bucket` is a bucket.
    """

    subcommand: Subcommand
    bucket: str
    has_token: bool
    channel_id: str
    is_in_group_message: bool = False
    trigger_id: str
    answer_url: Secret | None
    guess: Subcommand | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedForm:
    """What a submitted form says. It comes from a client: nothing is checked yet.

    `channel_id` is `DIRECT` where the result goes to the person alone, even if a channel is chosen too. `check_only`:
    nothing is to be changed. `is_rotation`: the form has no token in it.
    """

    nonce: str
    bucket: str
    channel_id: str
    reason: str
    check_only: bool = False
    is_rotation: bool = False

    @property
    def task(self) -> Task:
        """The requested task."""
        if self.is_rotation:
            return Task.ROTATE
        return Task.CHECK if self.check_only else Task.STORE


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit(Payload):
    """A pressed Submit. `team_id` is the workspace in which the form was opened.

    `sent_at`: by Slack's clock, to the second, where Slack signs that; else when it arrived.
    """

    sent_at: datetime
    callback_id: str
    view_id: str
    team_id: str
    form: UnverifiedForm
    pasted: PastedToken


@dataclass(frozen=True, slots=True, kw_only=True)
class Press(Payload):
    """A pressed button. `channel_id` is None in a view, which is in no channel.

    `is_in_group_message` as in a Command. `view_id` is empty outside a view.
    """

    action_id: str
    value: str
    channel_id: str | None
    view_id: str = ""
    is_in_group_message: bool = False
    trigger_id: str
    answer_url: Secret | None
    is_in_modal: bool = False

    @property
    def is_in_view(self) -> bool:
        """Whether the button is in the App Home or a modal, and not in a message."""
        return self.channel_id is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Payload):
    """Another bucket chosen in an open form; `form` holds what it contains so far, without the token."""

    action_id: str
    view_id: str
    form: UnverifiedForm


@dataclass(frozen=True, slots=True, kw_only=True)
class Search(Payload):
    """What was typed into a field that offers options."""

    action_id: str
    query: str
    nonce: str = ""
    """The form's nonce, from `private_metadata` of the view."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened(Payload):
    """An opened tab of the app."""

    tab: str


def parse_payload(
    body: Json,
    received_at: datetime,
    pasted: PastedToken | None = None,
    answer_url: Secret | None = None,
    sent_at: datetime | None = None,
) -> Payload | None:
    """Parse a sealed payload; return None for one that the bot does not handle. Raises nothing."""
    kind = body.get("type")
    if kind == "view_submission":
        return _parse_submit(body, received_at, sent_at or received_at, pasted)
    if kind == "block_actions":
        return _parse_press(body, received_at, answer_url)
    if kind == "block_suggestion":
        actor, action_id = actor_of_interaction(body), name_of(body.get("action_id"))
        nonce = text_of(object_of(body.get("view")).get("private_metadata"))
        query = text_of(body.get("value"))
        return Search(actor=actor, received_at=received_at, action_id=action_id, query=query, nonce=nonce)
    if kind == "event_callback":
        event = object_of(body.get("event"))
        is_opening = event.get("type") == "app_home_opened"
        tab = text_of(event.get("tab"))
        return Opened(actor=actor_of_event(body), received_at=received_at, tab=tab) if is_opening else None
    return _parse_command(body, received_at, answer_url) if "command" in body else None


def parse_form(view: Mapping[str, Any]) -> UnverifiedForm:
    """Read a submitted view."""
    is_direct = bool(_state(view, DIRECT_BLOCK).get("selected_options"))
    chosen = _state(view, CHANNEL_BLOCK).get("selected_conversation")
    return UnverifiedForm(
        nonce=text_of(view.get("private_metadata")),
        bucket=_bucket(view),
        channel_id=DIRECT if is_direct else id_of(SlackId.CONVERSATION, chosen),
        reason=" ".join(text_of(_state(view, REASON_BLOCK).get("value")).split()),  # many blanks look like a new line
        check_only=bool(_state(view, CHECK_BLOCK).get("selected_options")),
        is_rotation=view.get("callback_id") == rotate_form.CALLBACK_ID,
    )


def take_token(view: Mapping[str, Any]) -> str:
    """Remove what was typed into the token field from the view, and return it."""
    pasted = ""
    for element in object_of(object_of(object_of(view.get("state")).get("values")).get(TOKEN_BLOCK)).values():
        if isinstance(element, dict):
            pasted = _encodable(element.pop("value", None)) or pasted
    return pasted


def rewrite_reason(view: Mapping[str, Any], rewrite: Callable[[str], str]) -> None:
    """Replace what was typed into the reason field, in place."""
    for element in object_of(object_of(object_of(view.get("state")).get("values")).get(REASON_BLOCK)).values():
        if isinstance(element, dict) and isinstance(element.get("value"), str):
            element["value"] = rewrite(element["value"])


def view_id_of(body: Mapping[str, Any]) -> str:
    """Return the id of the submitted view, which becomes that of the submission."""
    return id_of(SlackId.VIEW, object_of(body.get("view")).get("id"))


def installed_team_id(body: Mapping[str, Any]) -> str:
    """Return the workspace in which the form was opened, preferably from the view: `team` can be null."""
    view = object_of(body.get("view"))
    candidates = (view.get("app_installed_team_id"), view.get("team_id"), object_of(body.get("team")).get("id"))
    return next((team_id for each in candidates if (team_id := id_of(SlackId.TEAM, each))), "")


def actor_of_command(body: Mapping[str, Any]) -> Actor:
    """Read who typed a command."""
    return Actor(
        user_id=id_of(SlackId.USER, body.get("user_id")),
        team_ids=_present(body.get("team_id")),
        enterprise_ids=_present(body.get("enterprise_id")),
    )


def actor_of_interaction(body: Mapping[str, Any]) -> Actor:
    """Read who acts, from every field that names a team; Bolt's `context.team_id` is the installed one.

    Slack sets all of it, but not all of it is about the person: `view.app_installed_team_id` is ours for anyone who
    presses, and `enterprise` may be. So a view alone places nobody: where neither `team` nor `user` names a workspace,
    the person is of none. An outsider cannot choose `user.id`.
    """
    user, view, team = (object_of(body.get(name)) for name in ("user", "view", "team"))
    of_person = _present(team.get("id"), user.get("team_id"))
    enterprises = (_enterprise_of(body), team.get("enterprise_id"), user.get("enterprise_id"))
    return Actor(
        user_id=id_of(SlackId.USER, user.get("id")),
        team_ids=_with_those_of(view, of_person),
        enterprise_ids=_present(*enterprises),
    )


def actor_of_event(body: Mapping[str, Any]) -> Actor:
    """Read who caused an event."""
    event = object_of(body.get("event"))
    view = object_of(event.get("view"))
    return Actor(
        user_id=id_of(SlackId.USER, event.get("user")),
        team_ids=_with_those_of(view, _present(body.get("team_id"), event.get("user_team"))),
        enterprise_ids=_present(body.get("enterprise_id")),
    )


def object_of(value: object) -> Mapping[str, Any]:
    """Return a JSON object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def text_of(value: object) -> str:
    """Return a text as one line, so that it cannot forge another, cut to what a person can type."""
    return one_line(value)[:LONGEST_TEXT] if isinstance(value, str) else ""


def name_of(value: object) -> str:
    """Return a machine-made name of the bot's or Slack's, or ""."""
    return value if isinstance(value, str) and _NAME.fullmatch(value) else ""


def id_of(kind: SlackId, value: object) -> str:
    """Return an id of this kind, or ""."""
    return value if isinstance(value, str) and kind.fits(value) else ""


def _parse_command(body: Json, received_at: datetime, answer_url: Secret | None) -> Command:
    text = body.get("text")
    subcommand, bucket = read_text(text_of(text))
    return Command(
        actor=actor_of_command(body),
        received_at=received_at,
        subcommand=subcommand,
        bucket=bucket,
        has_token=isinstance(text, str) and MASK in text,  # also beyond what is read of it
        channel_id=id_of(SlackId.CONVERSATION, body.get("channel_id")),
        is_in_group_message=_is_group_message(body.get("channel_name")),
        trigger_id=name_of(body.get("trigger_id")),
        answer_url=answer_url,
        guess=guess_subcommand(text_of(text)),
    )


def _parse_submit(body: Json, received_at: datetime, sent_at: datetime, pasted: PastedToken | None) -> Submit:
    view = object_of(body.get("view"))
    return Submit(
        actor=actor_of_interaction(body),
        received_at=received_at,
        sent_at=sent_at,
        callback_id=name_of(view.get("callback_id")),
        view_id=view_id_of(body),
        team_id=installed_team_id(body),
        form=parse_form(view),
        pasted=pasted or PastedToken(kind=TokenKind.EMPTY, last_four="", sealed=None),
    )


def _parse_press(body: Json, received_at: datetime, answer_url: Secret | None) -> Press | Choice:
    actions = body.get("actions")
    action = object_of(actions[0]) if isinstance(actions, list) and actions else {}
    view = object_of(body.get("view"))
    action_id = name_of(action.get("action_id"))
    if action_id and _BUCKET_ACTIONS.get(name_of(view.get("callback_id"))) == action_id:
        return Choice(
            actor=actor_of_interaction(body),
            received_at=received_at,
            action_id=action_id,
            view_id=view_id_of(body),
            form=parse_form(view),
        )
    channel = object_of(body.get("channel"))
    channel_id = id_of(SlackId.CONVERSATION, channel.get("id"))
    return Press(
        actor=actor_of_interaction(body),
        received_at=received_at,
        action_id=action_id,
        value=text_of(action.get("value")),
        channel_id=None if isinstance(body.get("view"), dict) else channel_id,
        view_id=view_id_of(body),
        is_in_group_message=_is_group_message(channel.get("name")),
        trigger_id=name_of(body.get("trigger_id")),
        answer_url=answer_url,
        is_in_modal=object_of(body.get("view")).get("type") == "modal",
    )


def _is_group_message(channel_name: object) -> bool:
    return text_of(channel_name).startswith(_GROUP_MESSAGE)


def _bucket(view: Mapping[str, Any]) -> str:
    element = _state(view, BUCKET_BLOCK)
    return trim_typed(text_of(element.get("value"))) or text_of(object_of(element.get("selected_option")).get("value"))


def _state(view: Mapping[str, Any], block_id: str) -> Mapping[str, Any]:
    """Return the state of the only element of a block."""
    block = object_of(object_of(object_of(view.get("state")).get("values")).get(block_id))
    return object_of(next(iter(block.values()), None))


def _encodable(value: object) -> str:
    """Return a text that can be encoded: JSON can hold lone surrogates."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _with_those_of(view: Mapping[str, Any], of_person: frozenset[str]) -> frozenset[str]:
    """Return a person's teams and those of the view: foreign ones count, while a view of ours places nobody here."""
    return of_person and of_person | _present(view.get("team_id"), view.get("app_installed_team_id"))


def _enterprise_of(body: Mapping[str, Any]) -> object:
    """Return the organization that an interaction names; an object without an id counts as a foreign one."""
    enterprise = body.get("enterprise")
    return enterprise.get("id") or _FOREIGN if isinstance(enterprise, dict) else enterprise


def _present(*team_ids: object) -> frozenset[str]:
    """Return the named teams; an invalid id counts as a foreign team."""
    return frozenset(id_of(SlackId.TEAM, team_id) or _FOREIGN for team_id in team_ids if team_id)
