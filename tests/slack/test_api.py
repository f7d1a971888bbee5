"""The client of Slack's API: typed results, and each failure becomes one of two errors."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from bot.model.errors import SlackConnectionBroke, SlackRefused, SlackTimedOut, SlackUnavailable
from bot.policy.gate import Home
from bot.sandbox.slack import FakeSlack
from bot.sandbox.workspace import FakeSlackConfig
from bot.slack.api import TIMEOUT, Channel, SlackWeb
from bot.slack.blocks import section
from bot.slack.identity import Identity
from bot.slack.messages import render
from bot.slack.session import SlackClient, open_session
from tests.clock import Clock

ADA = "U0ADA0001"
PLATFORM = "C0DATAPLT"
PRIVATE = "G0INCID42"
VIEW = render.notice_view("A title", "A text.")
HOME_VIEW = {"type": "home", "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "A home."}}]}
BOT_TOKEN = FakeSlackConfig().bot_tokens[0]
MESSAGE = {"text": "A text.", "blocks": []}
CLIENT_MSG_ID = "6f3cacfe-3614-5dad-9dfa-09675d6189dd"

Call = Callable[[SlackWeb], Awaitable[object]]


def connect(
    api_url: str,
    http: aiohttp.ClientSession,
    bot_token: str = BOT_TOKEN,
    clock: Callable[[], datetime] | None = None,
) -> SlackWeb:
    """Build the client as the composition root does."""
    client = SlackClient(token=bot_token, base_url=api_url, session=http, retry_handlers=[])
    client.proxy = None
    return SlackWeb(client, clock)


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """Open the one session that all calls share."""
    async with open_session(TIMEOUT) as http:
        yield http


@pytest_asyncio.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    """Start a fake Slack."""
    async with FakeSlack() as slack:
        yield slack


@pytest.fixture
def slack_web(slack: FakeSlack, http: aiohttp.ClientSession) -> SlackWeb:
    """Return a client with the bot's token."""
    return connect(slack.api_url, http)


CALLS: dict[str, Call] = {
    "auth.test": lambda slack_web: slack_web.identify(),
    "apps.connections.open": lambda slack_web: slack_web.open_connection("xapp-sandbox-app"),
    "views.open": lambda slack_web: slack_web.open_view("1.2.3", VIEW),
    "views.push": lambda slack_web: slack_web.open_view("1.2.3", VIEW, in_modal=True),
    "views.update": lambda slack_web: slack_web.update_view("V0", VIEW),
    "views.publish": lambda slack_web: slack_web.publish_home(ADA, HOME_VIEW),
    "chat.postMessage": lambda slack_web: slack_web.post(PLATFORM, MESSAGE, CLIENT_MSG_ID),
    "conversations.info": lambda slack_web: slack_web.channel(PLATFORM),
    "usergroups.users.list": lambda slack_web: slack_web.usergroup_members("S0DATAENG"),
    "users.info": lambda slack_web: slack_web.person(ADA),
}


async def test_the_bot_learns_its_identity(slack_web: SlackWeb) -> None:
    """`auth.test` returns workspace, organization and user."""
    home = Home(team_id="T0SANDBOX", enterprise_id=None)
    assert await slack_web.identify() == Identity(home=home, user_id="U0R2BOT01", is_bot=True)


@pytest.mark.parametrize(
    ("answered", "home"),
    [
        pytest.param(
            {"team_id": "T0ACME", "enterprise_id": "E0ACME", "is_enterprise_install": False},
            Home(team_id="T0ACME", enterprise_id="E0ACME"),
            id="one workspace of an organization",
        ),
        pytest.param(
            {"team_id": "T0ACME", "enterprise_id": "E0ACME", "is_enterprise_install": True},
            Home(team_id="", enterprise_id="E0ACME", is_org_wide=True),
            id="the whole organization",
        ),
        pytest.param(
            {"team_id": None, "enterprise_id": "E0ACME"},
            Home(team_id="", enterprise_id="E0ACME", is_org_wide=True),
            id="no workspace is named",
        ),
        pytest.param(
            {"team_id": "E0ACME", "enterprise_id": "E0ACME"},
            Home(team_id="", enterprise_id="E0ACME", is_org_wide=True),
            id="the organization as the workspace",
        ),
        pytest.param(
            {"team_id": "T0ACME", "is_enterprise_install": True},
            Home(team_id="T0ACME", enterprise_id=None, is_org_wide=True),
            id="an organization without a name",
        ),
    ],
)
async def test_the_bot_learns_where_it_is_installed(
    http: aiohttp.ClientSession, answered: dict[str, object], home: Home
) -> None:
    """A workspace, or an organization, in which no workspace is home."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"ok": True} | answered)

    app = web.Application()
    app.router.add_route("*", "/api/{method}", answer)
    async with TestServer(app, host="127.0.0.1") as server:
        assert (await connect(str(server.make_url("/api/")), http).identify()).home == home


async def test_a_socket_is_opened_with_the_app_token(slack_web: SlackWeb) -> None:
    """The address is returned; the bot's own token would be refused."""
    assert (await slack_web.open_connection("xapp-sandbox-app")).startswith("ws://127.0.0.1:")


async def test_a_view_opens_and_changes(slack: FakeSlack, slack_web: SlackWeb) -> None:
    """A view opened with a trigger can be updated by its id."""
    trigger_id = slack.make_command(ADA, PLATFORM, "/r2-credential")["trigger_id"]

    await slack_web.open_view(trigger_id, VIEW)
    opened = slack.modal(ADA)
    assert opened is not None
    await slack_web.update_view(opened.id, render.notice_view("Another title", "Another text."))

    changed = slack.modal(ADA)
    assert changed is not None
    assert (opened.title, changed.title) == ("A title", "Another title")


async def test_a_home_is_published(slack: FakeSlack, slack_web: SlackWeb) -> None:
    """The app's tab shows what was published last."""
    for text in ("A home.", "Another home."):
        await slack_web.publish_home(ADA, {"type": "home", "blocks": [section(text)]})

    home = await slack.wait_for_home(ADA)
    assert home.text == "Another home."


@pytest.mark.parametrize(("place", "found_in"), [(PLATFORM, PLATFORM), (ADA, "D0ADA0001")])
async def test_a_message_is_posted(slack: FakeSlack, slack_web: SlackWeb, place: str, found_in: str) -> None:
    """To a channel, or to a user as a direct message, with an id of ours and without link previews."""
    await slack_web.post(place, MESSAGE, CLIENT_MSG_ID)

    [message] = slack.messages(found_in)
    assert (message.text, message.client_msg_id) == ("A text.", CLIENT_MSG_ID)
    [call] = slack.calls_of("chat.postMessage")
    assert {str(call.arguments[name]).lower() for name in ("unfurl_links", "unfurl_media")} <= {"false", "0"}


CHANNELS = {
    PLATFORM: Channel(is_visible=True, is_member=True),
    "C0ANALYTX": Channel(is_visible=True),
    "C0OLDWARE": Channel(is_visible=True, is_archived=True, is_member=True),
    "C0PARTNER": Channel(is_visible=True, is_shared_outside=True, is_member=True),
    PRIVATE: Channel(is_visible=False),
    "C0NOWHERE": Channel(is_visible=False),
}


SHARED: dict[str, tuple[dict[str, object], bool]] = {
    "not shared": ({"is_shared": False, "is_ext_shared": False, "is_org_shared": False}, False),
    "with another company": ({"is_shared": True, "is_ext_shared": True}, True),
    "another company is invited": ({"is_pending_ext_shared": True}, True),
    "an invitation that is under way": ({"pending_shared": ["T0PARTNER"]}, True),
    "an invitation that waits for approval": ({"pending_connected_team_ids": ["T0PARTNER"]}, True),
    "within the organization": ({"is_shared": True, "is_org_shared": True, "pending_shared": []}, False),
    "within the organization and outside": ({"is_shared": True, "is_org_shared": True, "is_ext_shared": True}, True),
    "somehow": ({"is_shared": True}, True),
}


@pytest.mark.parametrize(("signs", "is_outside"), SHARED.values(), ids=SHARED)
async def test_who_else_reads_a_channel_is_read_from_every_sign(
    http: aiohttp.ClientSession, signs: dict[str, object], *, is_outside: bool
) -> None:
    """A company that is invited can read what was posted before it joined."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"ok": True, "channel": {"id": PLATFORM} | signs})

    app = web.Application()
    app.router.add_route("*", "/api/{method}", answer)
    async with TestServer(app, host="127.0.0.1") as server:
        channel = await connect(str(server.make_url("/api/")), http).channel(PLATFORM)
    assert channel.is_shared_outside is is_outside


@pytest.mark.parametrize(("channel_id", "expected"), CHANNELS.items(), ids=CHANNELS)
async def test_a_channel_is_looked_up(slack_web: SlackWeb, channel_id: str, expected: Channel) -> None:
    """A channel that the bot cannot see is no error, but nothing is known of it."""
    assert await slack_web.channel(channel_id) == expected


@pytest.mark.parametrize(
    ("answered", "expected"),
    [
        ({"is_pending_ext_shared": True}, Channel(is_visible=True, is_shared_outside=True)),
        ({"is_shared": True, "is_org_shared": True}, Channel(is_visible=True)),
        ({"is_mpim": True}, Channel(is_visible=True, is_group_message=True)),
        (
            {"ok": False, "error": "missing_scope", "needed": "mpim:read"},
            Channel(is_visible=False, is_group_message=True),
        ),
        (
            {
                "ok": False,
                "error": "missing_scope",
                "needed": "channels:read,groups:read,mpim:read,im:read",
                "provided": "commands,chat:write,channels:read,groups:read,usergroups:read",
            },
            Channel(is_visible=False, is_group_message=True),
        ),
    ],
    ids=[
        "an invitation is on its way",
        "shared within the organization",
        "a group message",
        "an invisible channel",
        "an invisible channel, described with every flag",
    ],
)
async def test_a_channel_is_classified_as_slack_describes_it(
    http: aiohttp.ClientSession, answered: dict[str, object], expected: Channel
) -> None:
    """A company about to join can read earlier posts; a workspace of the organization is no other company."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"ok": True, "channel": {"id": PLATFORM, **answered}} | answered)

    app = web.Application()
    app.router.add_route("*", "/api/{method}", answer)
    async with TestServer(app, host="127.0.0.1") as server:
        assert await connect(str(server.make_url("/api/")), http).channel(PLATFORM) == expected


@pytest.mark.parametrize(
    "answered",
    [
        {},
        {"needed": None},
        {"needed": "groups:read"},
        {"needed": "im:read"},
        {"needed": "mpim:read,groups:read", "provided": "chat:write,channels:read"},
        {"needed": "mpim:history"},
        {"needed": ["mpim:read"]},
        {"needed": "mpim:read", "provided": "mpim:read"},
    ],
    ids=str,
)
async def test_a_missing_scope_for_channels_is_the_operators_fault(
    http: aiohttp.ClientSession, answered: dict[str, object]
) -> None:
    """A missing scope does not make the channel a group message."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"ok": False, "error": "missing_scope"} | answered)

    app = web.Application()
    app.router.add_route("*", "/api/{method}", answer)
    async with TestServer(app, host="127.0.0.1") as server:
        with pytest.raises(SlackRefused):
            await connect(str(server.make_url("/api/")), http).channel(PLATFORM)


async def test_a_good_channel_is_remembered_for_a_minute(
    slack: FakeSlack, http: aiohttp.ClientSession, clock: Clock
) -> None:
    """Frequent submissions do not wait for Slack each time; a change is noticed a minute later."""
    slack_web = connect(slack.api_url, http, clock=clock)
    await slack_web.channel(PLATFORM)
    slack.change_channel(PLATFORM, is_archived=True)

    clock.advance(timedelta(seconds=59.9))
    remembered = await slack_web.channel(PLATFORM)
    clock.advance(timedelta(seconds=0.1))
    asked_again = await slack_web.channel(PLATFORM)

    assert (remembered.is_archived, asked_again.is_archived) == (False, True)
    assert len(slack.calls_of("conversations.info")) == 2


@pytest.mark.parametrize("channel_id", ["C0OLDWARE", "C0PARTNER", PRIVATE])
async def test_any_other_channel_is_looked_up_each_time(slack: FakeSlack, slack_web: SlackWeb, channel_id: str) -> None:
    """A person who fixed a channel need not wait."""
    await slack_web.channel(channel_id)
    await slack_web.channel(channel_id)

    assert len(slack.calls_of("conversations.info")) == 2


async def test_no_wait_is_longer_than_five_minutes(slack: FakeSlack, slack_web: SlackWeb) -> None:
    """A wait that Slack (or a proxy before it) asks for is capped."""
    slack.fail_next("auth.test", retry_after=99_999)

    with pytest.raises(SlackUnavailable) as raised:
        await slack_web.identify()

    assert raised.value.retry_after == timedelta(minutes=5)


async def test_the_members_of_a_group_are_listed(slack_web: SlackWeb) -> None:
    """User ids, as a set."""
    assert await slack_web.usergroup_members("S0DATAENG") == {ADA, "U0GRACE01"}


REFUSALS: dict[str, tuple[Call, str]] = {
    "unknown trigger": (CALLS["views.open"], "invalid_trigger_id"),
    "closed view": (CALLS["views.update"], "not_found"),
    "unknown group": (lambda slack_web: slack_web.usergroup_members("S0NOBODY"), "no_such_subteam"),
    "bad app token": (lambda slack_web: slack_web.open_connection("xapp-made-up"), "invalid_auth"),
    "bot token for a socket": (
        lambda slack_web: slack_web.open_connection("xoxb-sandbox-bot"),
        "not_allowed_token_type",
    ),
    "not a member": (lambda slack_web: slack_web.post("C0ANALYTX", MESSAGE, CLIENT_MSG_ID), "not_in_channel"),
    "invisible": (lambda slack_web: slack_web.post(PRIVATE, MESSAGE, CLIENT_MSG_ID), "channel_not_found"),
    "archived": (lambda slack_web: slack_web.post("C0OLDWARE", MESSAGE, CLIENT_MSG_ID), "is_archived"),
}


@pytest.mark.parametrize(("call", "slack_error"), REFUSALS.values(), ids=REFUSALS)
async def test_a_definite_refusal_has_slacks_error_code(slack_web: SlackWeb, call: Call, slack_error: str) -> None:
    """Slack's code is kept, and nothing else of its answer."""
    with pytest.raises(SlackRefused) as raised:
        await call(slack_web)

    assert raised.value.slack_error == slack_error
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None


async def test_a_bad_bot_token_is_a_definite_refusal(slack: FakeSlack, http: aiohttp.ClientSession) -> None:
    """A retry would not help."""
    with pytest.raises(SlackRefused) as raised:
        await connect(slack.api_url, http, "xoxb-made-up").identify()

    assert raised.value.slack_error == "invalid_auth"
    assert "made-up" not in repr(raised.value)


@pytest.mark.parametrize("method", [method for method in CALLS if method != "conversations.info"])
async def test_a_missing_scope_is_a_definite_refusal(slack: FakeSlack, slack_web: SlackWeb, method: str) -> None:
    """The operator has to act."""
    slack.fail_next(method, error="missing_scope")

    with pytest.raises(SlackRefused):
        await CALLS[method](slack_web)


TROUBLE: dict[str, dict[str, Any]] = {
    "server error as a page": {"status": 500},
    "bad gateway": {"status": 502},
    "unavailable": {"status": 503},
    "server error with a name": {"status": 500, "error": "invalid_auth"},
    "internal_error": {"error": "internal_error"},
    "fatal_error": {"error": "fatal_error"},
    "service_unavailable": {"error": "service_unavailable"},
    "request_timeout": {"error": "request_timeout"},
    "ratelimited": {"error": "ratelimited"},
    "429": {"retry_after": 7},
}


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE)
@pytest.mark.parametrize("method", CALLS)
async def test_a_transient_failure_is_distinguished(
    slack: FakeSlack, slack_web: SlackWeb, method: str, trouble: dict[str, Any]
) -> None:
    """Slack's trouble is never taken for a refusal, whatever it looks like, and is not retried here."""
    slack.fail_next(method, **trouble)

    with pytest.raises(SlackUnavailable) as raised:
        await CALLS[method](slack_web)

    wait = trouble.get("retry_after")
    assert raised.value.retry_after == (timedelta(seconds=wait) if wait else None)
    assert raised.value.__context__ is None
    assert len(slack.calls_of(method)) == 1


@pytest.mark.parametrize("method", CALLS)
async def test_a_connection_that_breaks_twice_is_trouble(slack: FakeSlack, slack_web: SlackWeb, method: str) -> None:
    """It is unknown whether Slack did it: a message may be posted already, so posting alone is not even tried twice."""
    slack.fail_next(method, drop_connection=True, times=4)

    with pytest.raises(SlackConnectionBroke) as raised:
        await CALLS[method](slack_web)

    assert raised.value.__context__ is None
    assert len(slack.calls_of(method)) == {
        "chat.postMessage": 1,
        "conversations.info": 4,
        "usergroups.users.list": 4,
        "users.info": 4,
    }.get(method, 2)


async def test_a_slow_call_is_abandoned(http: aiohttp.ClientSession, pass_time: Callable[[timedelta], None]) -> None:
    """A call that takes longer than two seconds is cancelled."""
    asked, let_go = asyncio.Event(), asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        asked.set()
        await let_go.wait()
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/api/{method}", answer)
    async with TestServer(app, host="127.0.0.1") as server:
        call = asyncio.create_task(connect(str(server.make_url("/api/")), http).identify())
        await asked.wait()
        pass_time(TIMEOUT)
        with pytest.raises(SlackTimedOut):
            await call
        let_go.set()


async def test_an_unreachable_slack_is_trouble(http: aiohttp.ClientSession) -> None:
    """It is treated as a Slack that is down."""
    with pytest.raises(SlackConnectionBroke):
        await connect("http://127.0.0.1:1/api/", http).identify()


STRANGE_ANSWERS: dict[str, web.Response] = {
    "nothing": web.Response(),
    "plain text": web.Response(text="upstream connect error"),
    "plain text, 503": web.Response(text="upstream connect error", status=503),
    "a page": web.Response(text="<html>", content_type="text/html"),
    "a page, 503": web.Response(text="<html>", content_type="text/html", status=503),
    "broken JSON": web.Response(text='{"ok": tr', content_type="application/json"),
    "a list": web.json_response(["ok"]),
    "a text": web.json_response("ok"),
    "null": web.json_response(None),
    "no reason": web.json_response({"ok": False}),
    "a code that is no word": web.json_response({"ok": False, "error": ["x"]}),
    "a code with markup": web.json_response({"ok": False, "error": "<!channel> ask <@U0MALLORY>"}),
    "a code of two lines": web.json_response({"ok": False, "error": "not_found\nreally"}),
    "a code that is a token": web.json_response({"ok": False, "error": "xoxb-1-made-up"}),
    "a long code": web.json_response({"ok": False, "error": "a" * 65}),
    "no UTF-8": web.Response(body=b"\xff\xfe", content_type="application/json"),
    "a charset that does not exist": web.Response(body=b"{}", headers={"Content-Type": "application/json; charset=x"}),
    "an archive": web.Response(body=b"\x1f\x8b", content_type="application/gzip"),
    "members that are no list": web.json_response({"ok": True, "users": ADA}),
    "members as an object": web.json_response({"ok": True, "users": {ADA: True}}),
    "no members named": web.json_response({"ok": True}),
    "a wait in words": web.json_response({"ok": False}, status=429, headers={"Retry-After": "soon"}),
}


async def test_a_malformed_user_id_is_in_no_group(http: aiohttp.ClientSession) -> None:
    """Malformed entries are dropped, and exclude none of the others."""
    users = [ADA, "", "S0DATAENG", 7, None, [ADA], "u0ada0001", "U0ADA0001\n"]

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"ok": True, "users": users})

    app = web.Application()
    app.router.add_route("*", "/api/{method}", answer)
    async with TestServer(app, host="127.0.0.1") as server:
        assert await connect(str(server.make_url("/api/")), http).usergroup_members("S0DATAENG") == {ADA}


NO_IDS: dict[str, tuple[str, object]] = {
    "no workspace": ("auth.test", {"ok": True}),
    "a workspace in words": ("auth.test", {"ok": True, "team_id": "our team"}),
    "a malformed organization": ("auth.test", {"ok": True, "team_id": "T0ACME", "enterprise_id": {"id": "E0"}}),
    "no view": ("views.open", {"ok": True, "view": None}),
    "a view without an id": ("views.open", {"ok": True, "view": {"title": "x"}}),
    "a view with another kind of id": ("views.open", {"ok": True, "view": {"id": "U0ADA0001"}}),
    "no channel": ("conversations.info", {"ok": True}),
    "a channel of which nothing is said": ("conversations.info", {"ok": True, "channel": {}}),
    "a channel that is only an id": ("conversations.info", {"ok": True, "channel": PLATFORM}),
    "several channels": ("conversations.info", {"ok": True, "channel": [{"id": PLATFORM}]}),
}


@pytest.mark.parametrize(("method", "document"), NO_IDS.values(), ids=NO_IDS)
async def test_an_answer_without_what_was_asked_is_trouble(
    http: aiohttp.ClientSession, method: str, document: object
) -> None:
    """The bot would take an empty id for a workspace or a submission, and no channel for one that nobody shares."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(document)

    app = web.Application()
    app.router.add_route("*", "/api/{method}", answer)
    async with TestServer(app, host="127.0.0.1") as server:
        with pytest.raises(SlackUnavailable):
            await CALLS[method](connect(str(server.make_url("/api/")), http))


@pytest.mark.parametrize("name", STRANGE_ANSWERS)
async def test_a_malformed_answer_is_trouble(http: aiohttp.ClientSession, name: str) -> None:
    """A proxy between the bot and Slack may answer anything: that is neither a yes nor a no."""
    template = STRANGE_ANSWERS[name]

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=template.status, body=template.body, headers=template.headers.copy())

    app = web.Application()
    app.router.add_route("*", "/api/{method}", answer)
    async with TestServer(app, host="127.0.0.1") as server:
        with pytest.raises(SlackUnavailable) as raised:
            await connect(str(server.make_url("/api/")), http).usergroup_members("S0DATAENG")

    assert raised.value.retry_after is None
