"""Slack's payloads as values: a missing or mistyped field is empty, over either transport."""

import json
import unicodedata
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bot.model.catalog import is_bucket_name
from bot.model.pasted_token import MASK, mask_tokens
from bot.model.place import DIRECT
from bot.model.secret import Secret
from bot.model.submission import PastedToken, SealedToken, Task, TokenKind
from bot.policy.gate import Actor
from bot.sandbox.slack import FakeSlack
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import Message
from bot.slack import form as modal
from bot.slack import rotate_form
from bot.slack.blocks import Json
from bot.slack.inbound.http import _parse
from bot.slack.inbound.ingress import parse_json_object
from bot.slack.inbound.payloads import (
    LONGEST_TEXT,
    Command,
    Opened,
    Payload,
    Press,
    Search,
    Submit,
    UnverifiedForm,
    actor_of_command,
    actor_of_event,
    actor_of_interaction,
    installed_team_id,
    parse_form,
    parse_payload,
    take_token,
)
from bot.slack.messages.render import TRY_AGAIN
from bot.slack.subcommands import HELP, HISTORY, STATUS, STORE, Subcommand

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
ADA = "U0ADA0001"
HOME = "T0SANDBOX"
AWAY = "T0PARTNER"
ORGANIZATION = "E0NORTHWD"
PLATFORM = "C0DATAPLT"
TOKEN = make_token(Behaviour.GOOD)
ADA_AT_HOME = Actor(user_id=ADA, team_ids=frozenset({HOME}))
URL = Secret("https://hooks.slack.test/made-up")
PASTED = PastedToken(kind=TokenKind.ACCOUNT, last_four="0001", sealed=SealedToken("sealed.v1.5a4d.MADEUP"))


def _submitted(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever a client may send
    """Return a view as Slack sends it with a Submit."""
    values: dict[str, Any] = {
        "bucket": {"bucket": {"type": "external_select", "selected_option": {"value": "lake"}}},
        "token": {"token": {"type": "plain_text_input", "value": TOKEN}},
        "channel": {"channel": {"type": "conversations_select", "selected_conversation": "C0DATAPLT"}},
        "reason": {"reason": {"type": "plain_text_input", "value": " ticket 42 "}},
    }
    return {"private_metadata": "nonce-1", "state": {"values": values | changes}}


CHECKS: dict[str, tuple[object, bool]] = {
    "ticked": ([{"value": "check"}], True),
    "not ticked": ([], False),
    "no list": (None, False),
    "another option": ([{"value": "anything"}], True),
}


@pytest.mark.parametrize(("chosen", "is_ticked"), CHECKS.values(), ids=CHECKS)
def test_a_ticked_box_makes_it_a_dry_run(chosen: object, *, is_ticked: bool) -> None:
    """The field has one option: in doubt nothing is written."""
    check = {"check": {"type": "checkboxes", "selected_options": chosen}}

    assert parse_form(_submitted(check=check)).check_only is is_ticked


@pytest.mark.parametrize(("chosen", "is_ticked"), CHECKS.values(), ids=CHECKS)
def test_a_ticked_box_sends_the_result_to_the_person_alone(chosen: object, *, is_ticked: bool) -> None:
    """Even if a channel is chosen as well: in doubt fewer people read it."""
    direct = {"direct": {"type": "checkboxes", "selected_options": chosen}}

    assert parse_form(_submitted(direct=direct)).channel_id == (DIRECT if is_ticked else "C0DATAPLT")


def test_a_submitted_form_is_read() -> None:
    """From either form of the bucket field, with blanks around the reason removed."""
    expected = UnverifiedForm(nonce="nonce-1", bucket="lake", channel_id="C0DATAPLT", reason="ticket 42")
    assert parse_form(_submitted()) == expected
    assert parse_form(_submitted(bucket={"bucket": {"type": "plain_text_input", "value": " lake "}})) == expected


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        pytest.param({}, ("", "", "", ""), id="nothing"),
        pytest.param({"private_metadata": 7, "state": None}, ("", "", "", ""), id="wrong types"),
        pytest.param({"state": {"values": []}}, ("", "", "", ""), id="a list of values"),
        pytest.param(_submitted(bucket=None), ("nonce-1", "", "C0DATAPLT", "ticket 42"), id="no bucket"),
        pytest.param(_submitted(bucket={}), ("nonce-1", "", "C0DATAPLT", "ticket 42"), id="an empty block"),
        pytest.param(
            _submitted(bucket={"bucket": {"selected_option": None}}),
            ("nonce-1", "", "C0DATAPLT", "ticket 42"),
            id="nothing chosen",
        ),
        pytest.param(
            _submitted(bucket={"bucket": {"selected_option": {"value": ["lake"]}}}),
            ("nonce-1", "", "C0DATAPLT", "ticket 42"),
            id="a list for a name",
        ),
        pytest.param(
            _submitted(channel={"channel": {"selected_conversation": {"id": "C0DATAPLT"}}}),
            ("nonce-1", "lake", "", "ticket 42"),
            id="an object for a channel",
        ),
        pytest.param(
            _submitted(reason={"reason": {"value": None}}), ("nonce-1", "lake", "C0DATAPLT", ""), id="no reason"
        ),
    ],
)
def test_a_missing_or_mistyped_field_is_empty(view: dict[str, Any], expected: tuple[str, ...]) -> None:
    """A client may send anything; the checks that follow get strings."""
    form = parse_form(view)
    assert (form.nonce, form.bucket, form.channel_id, form.reason) == expected


_NAMES = st.sampled_from(
    ["state", "values", "bucket", "token", "channel", "reason", "value", "selected_option", "selected_conversation"]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
_VALUES = st.dictionaries(_NAMES, st.dictionaries(_NAMES, _JSON, max_size=3) | _JSON, max_size=5)
_VIEWS = st.fixed_dictionaries(
    {}, optional={"private_metadata": _JSON, "state": st.fixed_dictionaries({"values": _VALUES}) | _JSON}
)


@given(view=_VIEWS | st.dictionaries(_NAMES, _JSON))
def test_any_object_is_parsed_into_strings(view: dict[str, Any]) -> None:
    """No JSON object makes the parser or the checks of its fields raise."""
    form = parse_form(view)
    assert all(isinstance(part, str) for part in (form.nonce, form.bucket, form.channel_id, form.reason))
    assert modal.check_bucket(form.bucket) is None or not is_bucket_name(form.bucket)
    modal.check_reason(form.reason)


@given(view=_VIEWS, pasted=st.text(min_size=1))
def test_a_taken_token_is_removed_from_the_view(view: dict[str, Any], pasted: str) -> None:
    """The field's value is returned, and is no longer in the view."""
    marked = f"MADEUP-MARK-{pasted}"
    values = view.get("state", {}).get("values", {}) if isinstance(view.get("state"), dict) else {}
    kept = {name: block for name, block in values.items() if name != "token"} if isinstance(values, dict) else {}
    full = {**view, "state": {"values": {**kept, "token": {"token": {"type": "plain_text_input", "value": marked}}}}}
    assert take_token(full) == marked
    assert "MADEUP-MARK" not in json.dumps(full)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        pytest.param({"token": {"value": TOKEN}}, TOKEN, id="the field"),
        pytest.param({"another": {"value": TOKEN}}, TOKEN, id="a field of another name"),
        pytest.param({"token": {"value": TOKEN}, "other": {"value": None}}, TOKEN, id="a second, empty field"),
        pytest.param({"token": {"value": None}}, "", id="nothing pasted"),
        pytest.param({"token": {}}, "", id="no value"),
        pytest.param({"token": {"value": [TOKEN]}}, "", id="a list"),
        pytest.param({"token": None}, "", id="no element"),
        pytest.param({}, "", id="an empty block"),
        pytest.param(None, "", id="no block"),
    ],
)
def test_the_token_is_taken_out_of_its_field(block: Any, expected: str) -> None:  # noqa: ANN401 - as a client sends it
    """Whatever shape the client sent, nothing of the token stays."""
    view = _submitted(token=block)
    assert take_token(view) == expected
    assert TOKEN not in json.dumps(view)
    assert take_token(view) == ""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param({"view": {"app_installed_team_id": "T1", "team_id": "T2"}, "team": {"id": "T3"}}, "T1", id="view"),
        pytest.param(
            {"view": {"app_installed_team_id": None, "team_id": "T2"}, "team": {"id": "T3"}}, "T2", id="older"
        ),
        pytest.param({"view": {}, "team": {"id": "T3"}}, "T3", id="only the team"),
        pytest.param({"view": None, "team": None}, "", id="an org-wide install without a view"),
        pytest.param({"view": {"team_id": ["T2"]}, "team": "T3"}, "", id="wrong types"),
        pytest.param({}, "", id="nothing"),
    ],
)
def test_the_installed_workspace_is_read(body: dict[str, Any], expected: str) -> None:
    """From the most reliable field that has it; empty if none has."""
    assert installed_team_id(body) == expected


_VIEW = {"team_id": HOME, "app_installed_team_id": HOME}
PAYLOADS: dict[str, tuple[Callable[[dict[str, Any]], Actor], dict[str, Any], tuple[str, ...]]] = {
    "a command": (actor_of_command, {"user_id": ADA, "team_id": HOME}, (HOME,)),
    "a command that names no team": (actor_of_command, {"user_id": ADA}, ()),
    "a submission": (
        actor_of_interaction,
        {"user": {"id": ADA, "team_id": HOME}, "team": {"id": HOME}, "view": _VIEW},
        (HOME,),
    ),
    "a submission by an outsider": (
        actor_of_interaction,
        {"user": {"id": ADA, "team_id": AWAY}, "team": {"id": HOME}, "view": _VIEW},
        (HOME, AWAY),
    ),
    "a press in another workspace": (
        actor_of_interaction,
        {"user": {"id": ADA}, "team": {"id": AWAY}, "view": None},
        (AWAY,),
    ),
    "an org-wide install": (
        actor_of_interaction,
        {"user": {"id": ADA, "team_id": ORGANIZATION}, "team": None, "view": {"app_installed_team_id": HOME}},
        (HOME, ORGANIZATION),
    ),
    "a view of another workspace": (
        actor_of_interaction,
        {"user": {"id": ADA, "team_id": HOME}, "team": {"id": HOME}, "view": _VIEW | {"team_id": AWAY}},
        (HOME, AWAY),
    ),
    "a submission that places nobody": (actor_of_interaction, {"user": {"id": ADA}, "team": None, "view": _VIEW}, ()),
    "an opened Home that places nobody": (actor_of_event, {"event": {"user": ADA, "view": _VIEW}}, ()),
    "the App Home opened": (actor_of_event, {"team_id": HOME, "event": {"user": ADA, "view": _VIEW}}, (HOME,)),
    "the App Home opened for the first time": (actor_of_event, {"team_id": HOME, "event": {"user": ADA}}, (HOME,)),
    "the App Home opened by an outsider": (
        actor_of_event,
        {"team_id": HOME, "event": {"user": ADA, "user_team": AWAY, "view": None}},
        (HOME, AWAY),
    ),
    "a Home of another workspace opened": (
        actor_of_event,
        {"team_id": HOME, "event": {"user": ADA, "view": _VIEW | {"app_installed_team_id": AWAY}}},
        (HOME, AWAY),
    ),
}


@pytest.mark.parametrize(("read", "payload", "teams"), PAYLOADS.values(), ids=PAYLOADS)
def test_every_team_that_a_payload_names_counts(
    read: Callable[[dict[str, Any]], Actor], payload: dict[str, Any], teams: tuple[str, ...]
) -> None:
    """A single foreign team makes the person an outsider, wherever it is named."""
    assert read(payload) == Actor(user_id=ADA, team_ids=frozenset(teams))


@pytest.mark.parametrize("read", [actor_of_command, actor_of_interaction, actor_of_event])
def test_a_payload_without_a_user_is_refused(read: Callable[[dict[str, Any]], Actor]) -> None:
    """No rule lets an empty user in."""
    assert read({}) == Actor(user_id="", team_ids=frozenset())


# Payloads as Slack sends them, over either transport.


@pytest.fixture
def slack() -> FakeSlack:
    """Return a workspace that is not started, with an open form: its people can still act."""
    slack = FakeSlack()
    form = modal.build_form(nonce="the-nonce", filling=modal.Filling(), catalogs=None)
    slack.modals.open(slack.workspace.users[ADA], PLATFORM, form)
    return slack


def over_http(payload: Json) -> Json | None:
    """Return a payload as HTTP delivers it: commands as a form, events as JSON, the rest as JSON in a form."""
    if payload.get("type") == "event_callback":
        return _parse("application/json", json.dumps(payload).encode())
    form = payload if "command" in payload else {"payload": json.dumps(payload)}
    return _parse("application/x-www-form-urlencoded", urlencode(form).encode())


def over_socket(payload: Json) -> Json | None:
    """Return a payload as a WebSocket frame delivers it."""
    return parse_json_object(json.dumps(payload))


@pytest.fixture(params=[over_http, over_socket])
def parse(request: pytest.FixtureRequest) -> Callable[[Json], Payload | None]:
    """Parse a payload that came over one of the transports."""

    def read(payload: Json) -> Payload | None:
        body = request.param(payload)
        return None if body is None else parse_payload(body, NOW, PASTED, URL)

    return read


Parse = Callable[[Json], Payload | None]


TEXTS: dict[str, tuple[str, Subcommand, str]] = {
    "nothing": ("", STORE, ""),
    "blanks": ("  ", STORE, ""),
    "a bucket": ("lake", STORE, "lake"),
    "several words": ("my  lake", STORE, "my  lake"),
    "status": ("status", STATUS, ""),
    "status of a bucket": (" Status  lake ", STATUS, "lake"),
    "history": ("HISTORY lake", HISTORY, "lake"),
    "help": ("help", HELP, ""),
    "store": ("store", STORE, ""),
    "store a bucket": ("store lake", STORE, "lake"),
    "store a bucket called like a subcommand": ("store status", STORE, "status"),
    "store a bucket called store": ("store store", STORE, "store"),
    "a name that begins like a subcommand": ("status-lake", STORE, "status-lake"),
}


@pytest.mark.parametrize(("text", "subcommand", "bucket"), TEXTS.values(), ids=TEXTS)
def test_a_command_is_parsed(slack: FakeSlack, parse: Parse, text: str, subcommand: Subcommand, bucket: str) -> None:
    """Its first word is the subcommand; any other word is a bucket to store for."""
    payload = slack.make_command(ADA, PLATFORM, "/r2-credential") | {"text": text}

    assert parse(payload) == Command(
        actor=ADA_AT_HOME,
        received_at=NOW,
        subcommand=subcommand,
        bucket=bucket,
        has_token=False,
        channel_id=PLATFORM,
        trigger_id=payload.get("trigger_id", ""),
        answer_url=URL,
    )


@pytest.mark.parametrize("text", [TOKEN, f"lake {TOKEN}", f"status {TOKEN}"])
def test_a_command_reports_that_a_token_was_typed(slack: FakeSlack, parse: Parse, text: str) -> None:
    """After any word; the ingress has masked it."""
    command = parse(slack.make_command(ADA, PLATFORM, "/r2-credential") | {"text": mask_tokens(text)})

    assert isinstance(command, Command)
    assert command.has_token
    assert MASK in command.bucket


GROUP_MESSAGES: dict[str, tuple[object, bool]] = {
    "a group message": ("mpdm-ada--oscar-1", True),
    "a channel": ("data-platform", False),
    "a private channel": ("privategroup", False),
    "a direct message": ("directmessage", False),
    "no name": (None, False),
}


@pytest.mark.parametrize(("name", "is_in_group_message"), GROUP_MESSAGES.values(), ids=GROUP_MESSAGES)
def test_a_group_message_is_recognised_by_its_name(
    slack: FakeSlack, parse: Parse, name: object, *, is_in_group_message: bool
) -> None:
    """Its id may have the format of a channel's."""
    said = slack.workspace.post(Message(ts="", channel_id=PLATFORM, user_id=ADA, text="Made up."))
    command = parse(slack.make_command(ADA, PLATFORM, "/r2-credential") | {"channel_name": name})
    pressed = slack.make_message_action(ADA, said, {"action_id": TRY_AGAIN, "value": "V0MADEUP"})
    press = parse(pressed | {"channel": {"id": PLATFORM, "name": name}})

    assert isinstance(command, Command)
    assert isinstance(press, Press)
    assert command.is_in_group_message is press.is_in_group_message is is_in_group_message


def test_a_submit_is_parsed(slack: FakeSlack, parse: Parse) -> None:
    """With the sealed token that was taken out before, and all other fields as typed."""
    view = slack.modals.top(ADA)
    assert view is not None
    for block_id, text in ((modal.BUCKET_BLOCK, "lake"), (modal.REASON_BLOCK, " ticket 7 ")):
        slack.modals.fill(view, view.field_at(block_id), text)

    assert parse(slack.make_submission(ADA)) == Submit(
        actor=ADA_AT_HOME,
        received_at=NOW,
        sent_at=NOW,
        callback_id=modal.CALLBACK_ID,
        view_id=view.id,
        team_id=HOME,
        form=UnverifiedForm(nonce="the-nonce", bucket="lake", channel_id=PLATFORM, reason="ticket 7"),
        pasted=PASTED,
    )


def test_a_press_in_a_message_is_parsed(slack: FakeSlack, parse: Parse) -> None:
    """It belongs to the message's channel."""
    said = slack.workspace.post(Message(ts="", channel_id=PLATFORM, user_id=ADA, text="Made up."))
    payload = slack.make_message_action(ADA, said, {"action_id": TRY_AGAIN, "value": "V0MADEUP"})

    press = parse(payload | {"trigger_id": "1.2.3"})

    assert press == Press(
        actor=ADA_AT_HOME,
        received_at=NOW,
        action_id=TRY_AGAIN,
        value="V0MADEUP",
        channel_id=PLATFORM,
        trigger_id="1.2.3",
        answer_url=URL,
    )
    assert not press.is_in_view


def test_a_press_in_a_view_has_no_channel(slack: FakeSlack, parse: Parse) -> None:
    """Neither a modal nor the App Home belongs to one."""
    view = slack.modals.top(ADA)
    assert view is not None

    press = parse(slack.payloads.view_action(view, {"action_id": TRY_AGAIN, "value": "lake"}))

    assert isinstance(press, Press)
    assert (press.actor, press.value, press.channel_id, press.is_in_view) == (ADA_AT_HOME, "lake", None, True)


def test_a_search_is_parsed(slack: FakeSlack, parse: Parse) -> None:
    """With the text typed so far, and its field."""
    view = slack.modals.top(ADA)
    assert view is not None

    assert parse(slack.payloads.options(view, modal.BUCKET_BLOCK, modal.BUCKET_ACTION, " La")) == Search(
        actor=ADA_AT_HOME,
        received_at=NOW,
        action_id=modal.BUCKET_ACTION,
        query=" La",
        nonce=view.definition["private_metadata"],
    )


@pytest.mark.parametrize("tab", ["home", "messages"])
def test_an_opened_tab_is_parsed(slack: FakeSlack, parse: Parse, tab: Any) -> None:  # noqa: ANN401 - one of two words
    """Either tab of the app."""
    payload = slack.payloads.home_opened(slack.workspace.users[ADA], tab, None)

    assert parse(payload) == Opened(actor=ADA_AT_HOME, received_at=NOW, tab=tab)


@pytest.mark.parametrize(
    "payload",
    [
        {"type": "shortcut"},
        {"type": "view_closed"},
        {"type": "event_callback", "event": {"type": "message"}},
        {"type": ["block_actions"]},
        {"text": "lake"},
    ],
)
def test_an_unsupported_payload_is_none(parse: Parse, payload: Json) -> None:
    """Bolt has no listener for it either."""
    assert parse(payload) is None


_FIELDS = st.sampled_from(
    [
        "actions",
        "value",
        "action_id",
        "channel",
        "id",
        "user",
        "team",
        "view",
        "event",
        "type",
        "tab",
        "text",
        "team_id",
    ]
)
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_FIELDS, inner, max_size=4),
    max_leaves=10,
)
_TYPES = st.sampled_from(["view_submission", "block_actions", "block_suggestion", "event_callback"]) | _ANYTHING


@given(body=st.dictionaries(_FIELDS | st.just("command"), _ANYTHING, max_size=6), kind=_TYPES)
def test_no_payload_breaks_the_parser(body: Json, kind: object) -> None:
    """Slack may omit or change anything: each field becomes a text, and a missing user is an empty one."""
    payload = parse_payload(body | {"type": kind}, NOW)

    if payload is not None:
        assert isinstance(payload.actor.user_id, str)
        names = ("bucket", "channel_id", "trigger_id", "value", "query", "tab", "view_id", "team_id", "action_id")
        texts = [getattr(payload, name) for name in names if hasattr(payload, name)]
        assert all(text is None or isinstance(text, str) for text in texts)


@pytest.mark.parametrize("name", ["team", "user", "view"])
@pytest.mark.parametrize("foreign", [AWAY, [AWAY], {"id": AWAY}, 7, "t0sandbox", f"{HOME}\n", f"{HOME} ", "None", "x"])
def test_a_team_of_a_wrong_type_is_foreign(name: str, foreign: object) -> None:
    """An unreadable value must not let a person in."""
    body: Json = {"user": {"id": ADA, "team_id": HOME}, "team": {"id": HOME}, "view": {"team_id": HOME}}
    body[name] = body[name] | {"id" if name == "team" else "team_id": foreign}

    assert actor_of_interaction(body).team_ids - {HOME}


NO_IDS = [
    "",
    "x",
    "alice",
    "u0ada0001",
    "U0ADA 001",
    "U0ADA0001\n",
    "U0ADA0001\0",
    "<@U0ADA0001>",
    "U" * 60,
    "\u202eU0ADA",
]


@pytest.mark.parametrize("text", NO_IDS, ids=repr)
def test_a_malformed_id_is_empty(slack: FakeSlack, text: str) -> None:
    """The user, channel or form is then empty, and the code that needs it refuses."""
    form = slack.make_submission(ADA)
    form["user"]["id"] = form["view"]["id"] = text
    form["view"]["state"]["values"][modal.CHANNEL_BLOCK]["channel"]["selected_conversation"] = text
    command = slack.make_command(ADA, PLATFORM, "/r2-credential") | {"user_id": text, "channel_id": text}
    opened = slack.payloads.home_opened(slack.workspace.users[ADA], "home", None)
    opened["event"]["user"] = text

    submit, typed, opening = (parse_payload(body, NOW) for body in (form, command, opened))

    assert isinstance(submit, Submit)
    assert isinstance(typed, Command)
    assert isinstance(opening, Opened)
    assert (submit.actor.user_id, submit.view_id, submit.form.channel_id) == ("", "", "")
    assert (typed.actor.user_id, typed.channel_id) == ("", "")
    assert opening.actor.user_id == ""


@pytest.mark.parametrize("channel", ["C0DATAPLT", "G0INCID42", "D0ADA0001"])
def test_a_command_may_be_typed_in_any_conversation(slack: FakeSlack, channel: str) -> None:
    """Even in a direct message; whether a result may go there is decided elsewhere."""
    command = parse_payload(slack.make_command(ADA, PLATFORM, "/r2-credential") | {"channel_id": channel}, NOW)

    assert isinstance(command, Command)
    assert command.channel_id == channel


def test_a_token_beyond_the_limit_of_a_command_is_reported(slack: FakeSlack) -> None:
    """The text is cut, and the advice to revoke the token is still given."""
    text = mask_tokens("lake " * LONGEST_TEXT + TOKEN)
    command = parse_payload(slack.make_command(ADA, PLATFORM, "/r2-credential") | {"text": text}, NOW)

    assert isinstance(command, Command)
    assert command.has_token
    assert len(command.bucket) <= LONGEST_TEXT


@given(
    typed=st.text()
    | st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"]))
    | st.integers(1, 9999).map("x\n".__mul__)
)
def test_no_text_enters_as_more_than_one_line(typed: str) -> None:
    """Text in any field can forge no line, and its length is limited."""
    view = _submitted(
        bucket={"bucket": {"value": typed}}, reason={"reason": {"value": typed}}, channel={"channel": {"x": typed}}
    )
    who: Json = {"user": {"id": ADA}, "team": {"id": HOME}, "trigger_id": typed}
    bodies: list[Json] = [
        who | {"type": "view_submission", "view": view | {"id": typed, "private_metadata": typed}},
        who | {"type": "block_actions", "actions": [{"action_id": typed, "value": typed}], "channel": {"id": typed}},
        who | {"type": "block_suggestion", "action_id": typed, "value": typed},
        {"type": "event_callback", "event": {"type": "app_home_opened", "user": typed, "tab": typed}},
        {"command": "/r2-credential", "text": typed, "user_id": typed, "channel_id": typed, "trigger_id": typed},
    ]
    texts = [text for body in bodies for text in _texts_in(parse_payload(body, NOW))]

    assert len(texts) > 20
    for text in texts:
        assert len(text) <= LONGEST_TEXT
        assert not [each for each in text if unicodedata.category(each) in {"Cc", "Cs", "Zl", "Zp"}]
        assert not set(text) & set("\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def _texts_in(value: object) -> list[str]:
    """Return every text of a payload, at any depth."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, frozenset):
        return [text for part in value for text in _texts_in(part)]
    if is_dataclass(value):
        return [text for field in fields(value) for text in _texts_in(getattr(value, field.name))]
    return []


FORMS = st.one_of(
    st.text().map(
        lambda text: urlencode({"payload": json.dumps({"text": text}, ensure_ascii=False)}, errors="replace")
    ),
    st.text(alphabet='%=&;+ \r\n_0aAfFzé{}"', max_size=40).map(lambda value: f"payload={value}"),
)


@given(form=FORMS)
@example(form="payload=%7B%22text%22%3A+%22%FF%22%7D")
@example(form="payload=%7B%22text%22%3A+%22%0A%22%7D")
@example(form="payload={%22text%22:%22%3D%0D%0A%3D41%22}")
@example(form="payload={%22text%22:%22=41%22}")
@example(form="payload={}&payload={%22text%22:1}")
def test_the_short_way_reads_what_the_long_way_reads(form: str) -> None:
    """Python's own parser of forms is slower, and decides."""
    try:
        fields = dict(parse_qsl(form, keep_blank_values=True, strict_parsing=True))
    except ValueError:
        fields = {}
    expected = parse_json_object(fields["payload"]) if "payload" in fields else None
    assert _parse("application/x-www-form-urlencoded", form.encode()) == expected


@pytest.mark.parametrize(("chosen", "is_ticked"), CHECKS.values(), ids=CHECKS)
def test_the_form_of_a_rotation_is_known_by_its_name(chosen: object, *, is_ticked: bool) -> None:
    """Its tick changes nothing, but asks for no check of a token: there is none."""
    check = {"check": {"type": "checkboxes", "selected_options": chosen}}

    form = parse_form(_submitted(check=check) | {"callback_id": rotate_form.CALLBACK_ID})

    assert (form.task, form.check_only) == (Task.ROTATE, is_ticked)
