"""Guests, bots and people who left are refused even if listed, by what Slack says of them at most a minute ago."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from bot.model.catalog import BucketKey
from bot.model.errors import AccessRefused, NotAllowed, NotAMember, PersonUnknown
from bot.model.finding import Mark
from bot.policy.gate import Gate, Home
from bot.policy.rules import Allowlist
from bot.sandbox.slack import FakeSlack
from bot.sandbox.workspace import OUTSIDERS, User
from bot.slack.api import TIMEOUT, SlackWeb
from bot.slack.memberships import Memberships
from bot.slack.profiles import OLDEST_PROFILE, PROFILE_LIFETIME, SILENCE_LIFETIME, Profiles
from bot.slack.session import SlackClient, open_session
from tests.between import stand_between
from tests.clock import Clock

ADA, MALLORY, GROUP = "U0ADA0001", "U0MALLORY", "S0DATAENG"
HOME = "T0SANDBOX"
LAKE = BucketKey(account_id="a" * 32, bucket="lake")


@pytest_asyncio.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    """Start a fake Slack, with people of every kind."""
    async with FakeSlack() as slack:
        for user in OUTSIDERS:
            slack.workspace.change_user(user)
        yield slack


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """Open the session of the calls."""
    async with open_session(TIMEOUT) as http:
        yield http


@pytest.fixture
def profiles(slack: FakeSlack, http: aiohttp.ClientSession, clock: Clock) -> Profiles:
    """Return what Slack says of profiles."""
    return Profiles(connect(slack.api_url, http), clock)


def connect(address: str, http: aiohttp.ClientSession) -> SlackWeb:
    """Build the client as the composition root does."""
    return SlackWeb(SlackClient(token="xoxb-sandbox-bot", base_url=address, session=http, retry_handlers=[]))


def gate_of(slack: FakeSlack, http: aiohttp.ClientSession, profiles: Profiles, clock: Clock, *users: str) -> Gate:
    """Build a gate that lists these users, and a group."""
    allowlist = Allowlist(
        users=frozenset(users), usergroups=frozenset({GROUP}), channels=frozenset(), buckets=(), may_enable=True
    )
    memberships = Memberships(connect(slack.api_url, http), clock)
    return Gate(allowlist.rules(), Home(team_id=HOME, enterprise_id=None), memberships, profiles)


@pytest.fixture
def gate(slack: FakeSlack, http: aiohttp.ClientSession, profiles: Profiles, clock: Clock) -> Gate:
    """Build a gate that lists everyone who must not get in."""
    return gate_of(slack, http, profiles, clock, *(user.id for user in OUTSIDERS), "USLACKBOT", "U0NOBODY1")


@pytest.mark.parametrize("user", OUTSIDERS, ids=lambda user: user.name)
async def test_who_is_no_full_member_is_refused_even_if_listed(gate: Gate, user: User) -> None:
    """By id, which Slack does not check as it does the members of a user group."""
    with pytest.raises(NotAMember):
        await gate.permit_user(user.id)
    assert not await gate.sees(user.id, LAKE)


@pytest.mark.parametrize("user_id", ["USLACKBOT", "U0NOBODY1"])
async def test_who_is_nobody_is_refused_even_if_listed(gate: Gate, user_id: str) -> None:
    """Slack's own bot, which Slack does not call one, and an id that no one has."""
    with pytest.raises(NotAMember):
        await gate.permit_user(user_id)


async def test_a_member_of_a_group_can_have_become_a_guest(slack: FakeSlack, gate: Gate) -> None:
    """The answer about the group may be older."""
    await gate.permit_user("U0GRACE01")
    slack.workspace.change_user(replace(slack.workspace.users[ADA], is_restricted=True))
    with pytest.raises(NotAMember):
        await gate.permit_user(ADA)


async def test_a_person_who_leaves_is_out_within_a_minute(slack: FakeSlack, gate: Gate, clock: Clock) -> None:
    """And one who comes back is in again."""
    await gate.permit_user(ADA)
    slack.workspace.change_user(replace(slack.workspace.users[ADA], deleted=True))
    clock.advance(PROFILE_LIFETIME)
    with pytest.raises(NotAMember):
        await gate.permit_user(ADA)
    slack.workspace.change_user(replace(slack.workspace.users[ADA], deleted=False))
    clock.advance(PROFILE_LIFETIME)
    await gate.permit_user(ADA)


async def test_a_crowd_asks_once_a_minute(slack: FakeSlack, profiles: Profiles, clock: Clock) -> None:
    """Of each person, however many wait for the answer."""
    await asyncio.gather(*(profiles.profile_of(ADA) for _ in range(20)))
    clock.advance(PROFILE_LIFETIME - timedelta(milliseconds=1))
    await profiles.profile_of(ADA)
    assert len(slack.calls_of("users.info")) == 1
    clock.advance(timedelta(milliseconds=1))
    await profiles.profile_of(ADA)
    assert len(slack.calls_of("users.info")) == 2


async def test_group_and_person_are_asked_about_at_once(slack: FakeSlack, gate: Gate) -> None:
    """One after the other could take longer than Slack waits for an answer."""
    for method in ("usergroups.users.list", "users.info"):
        slack.fail_next(method, delay=timedelta(seconds=0.3))
    permitting = asyncio.create_task(gate.permit_user(ADA))
    both = {"usergroups.users.list", "users.info"}

    def look() -> bool | None:
        return {call.method for call in slack.calls} == both or None

    await slack.workspace.changes.wait_until(look, timedelta(seconds=5), "both questions")
    assert not permitting.done()
    await permitting


SILENCES: dict[str, dict[str, Any]] = {
    "an outage": {"status": 503},
    "an error of Slack's": {"error": "internal_error"},
    "a broken connection": {"drop_connection": True, "times": 4},
    "a token that is being replaced": {"error": "invalid_auth"},
    "a refusal that the bot does not know": {"error": "no_such_thing"},
}


@pytest.mark.parametrize("silence", SILENCES.values(), ids=SILENCES)
async def test_without_any_answer_the_bot_refuses(
    slack: FakeSlack, gate: Gate, profiles: Profiles, clock: Clock, silence: dict[str, Any]
) -> None:
    """For a moment, in which Slack is left alone; then it is asked again."""
    slack.fail_next("users.info", **silence)
    for _ in range(2):
        with pytest.raises(PersonUnknown) as refused:
            await gate.permit_user(ADA)
    asked = len(slack.calls_of("users.info"))
    assert (refused.value.retryable, "Try again" in refused.value.user_message) == (True, True)
    assert profiles.trouble is not None
    assert (profiles.trouble.event, profiles.trouble.mark) == ("people_not_asked", Mark.WARNING)
    clock.advance(SILENCE_LIFETIME)
    await gate.permit_user(ADA)
    assert len(slack.calls_of("users.info")) == asked + 1
    assert profiles.trouble is None


async def test_during_an_outage_the_last_answer_counts_for_ten_minutes(
    slack: FakeSlack, gate: Gate, profiles: Profiles, clock: Clock
) -> None:
    """Whatever it was: a member stays in, and a guest out."""
    await gate.permit_user(ADA)
    with pytest.raises(NotAMember):
        await gate.permit_user("U0GUEST01")
    slack.fail_next("users.info", status=503, times=100)
    clock.advance(OLDEST_PROFILE - timedelta(seconds=1))
    assert await profiles.profile_of(ADA) is not None
    with pytest.raises(NotAMember):
        await gate.permit_user("U0GUEST01")
    clock.advance(SILENCE_LIFETIME)
    with pytest.raises(PersonUnknown):
        await profiles.profile_of(ADA)


async def test_slack_is_left_alone_as_long_as_it_asks_for(slack: FakeSlack, profiles: Profiles, clock: Clock) -> None:
    """During a rate limit, no further request about this person is sent."""
    slack.fail_next("users.info", retry_after=30)
    for seconds in (0, 10, 19):
        clock.advance(timedelta(seconds=seconds))
        with pytest.raises(PersonUnknown):
            await profiles.profile_of(ADA)
    clock.advance(timedelta(seconds=1))
    await profiles.profile_of(ADA)
    assert len(slack.calls_of("users.info")) == 2


NOT_KNOWN: dict[str, dict[str, Any]] = {
    "the scope is missing": {"error": "missing_scope"},
    "a method that is not there": {"error": "unknown_method"},
    "a token of another kind": {"error": "not_allowed_token_type"},
    "a page that is not there": {"status": 404},
    "a refusal with status 404": {"status": 404, "error": "unknown_method"},
}


@pytest.mark.parametrize("failure", NOT_KNOWN.values(), ids=NOT_KNOWN)
async def test_an_app_without_the_scope_works_as_before(
    slack: FakeSlack, gate: Gate, profiles: Profiles, clock: Clock, failure: dict[str, Any]
) -> None:
    """The list decides, and the operator reads what is missing until it is there."""
    slack.fail_next("users.info", **failure, times=2)
    await gate.permit_user(ADA)
    await gate.permit_user("U0GUEST01")
    assert profiles.trouble is not None
    assert (profiles.trouble.event, profiles.trouble.mark, profiles.trouble.blocks) == (
        "people_not_looked_up",
        Mark.WARNING,
        False,
    )
    assert "users:read" in profiles.trouble.fix
    with pytest.raises(NotAllowed):
        await gate.permit_user(MALLORY)
    clock.advance(PROFILE_LIFETIME)
    with pytest.raises(NotAMember):
        await gate.permit_user("U0GUEST01")
    assert profiles.trouble is None


@asynccontextmanager
async def _answering(answer: object, http: aiohttp.ClientSession, clock: Clock) -> AsyncIterator[Profiles]:
    async with stand_between() as between:
        between.tamper = lambda _: web.json_response(answer)
        yield Profiles(connect(f"{between.address}/api/", http), clock)


MEMBER = {"id": ADA, "team_id": HOME}
ANSWERS: dict[str, tuple[object, bool | type[AccessRefused] | None]] = {
    "a member": ({"ok": True, "user": MEMBER}, True),
    "of another workspace": ({"ok": True, "user": MEMBER | {"team_id": "T0OTHER"}}, False),
    "nobody": ({"ok": True}, None),
    "a list": ({"ok": True, "user": [MEMBER]}, None),
    "an empty object": ({"ok": True, "user": {}}, None),
    "a member of nowhere": ({"ok": True, "user": {"id": ADA}}, None),
    "a guest of nowhere": ({"ok": True, "user": {"id": ADA, "is_restricted": True}}, False),
    "a team that is no id": ({"ok": True, "user": MEMBER | {"team_id": ["T0SANDBOX"]}}, None),
    "a flag that is a word": ({"ok": True, "user": MEMBER | {"deleted": "true"}}, False),
    "a workflow's bot": ({"ok": True, "user": MEMBER | {"is_workflow_bot": True}}, False),
    "an organization's, of this workspace": (
        {"ok": True, "user": MEMBER | {"team_id": "T0OTHER", "enterprise_user": {"teams": ["T0OTHER", HOME]}}},
        True,
    ),
    "an organization's, of others": (
        {"ok": True, "user": MEMBER | {"team_id": "T0OTHER", "enterprise_user": {"teams": ["T0OTHER", 7, None]}}},
        False,
    ),
    "an organization that is no object": ({"ok": True, "user": MEMBER | {"enterprise_user": "T0OTHER"}}, True),
    "another person": ({"ok": True, "user": MEMBER | {"id": MALLORY}}, PersonUnknown),
    "no answer of Slack's": (["ok"], PersonUnknown),
}


@pytest.mark.parametrize(("answer", "expected"), ANSWERS.values(), ids=ANSWERS)
async def test_every_answer_is_read_once(
    http: aiohttp.ClientSession, clock: Clock, answer: object, *, expected: bool | type[AccessRefused] | None
) -> None:
    """What describes nobody says nothing; what describes someone else is no answer."""
    async with _answering(answer, http, clock) as profiles:
        if isinstance(expected, type):
            with pytest.raises(expected):
                await profiles.profile_of(ADA)
            return
        profile = await profiles.profile_of(ADA)
    assert (profile is None) is (expected is None)
    assert profile is None or profile.is_member_of(HOME, None) is expected


async def test_what_is_refused_anyway_does_not_wait(
    slack: FakeSlack, http: aiohttp.ClientSession, profiles: Profiles, clock: Clock
) -> None:
    """A guest need not try again when Slack knows more, nor does a person who is on no list."""
    gate = gate_of(slack, http, profiles, clock)
    slack.fail_next("usergroups.users.list", error="internal_error")
    with pytest.raises(NotAMember):
        await gate.permit_user("U0GUEST01")
    clock.advance(SILENCE_LIFETIME)
    slack.fail_next("users.info", error="internal_error")
    with pytest.raises(NotAllowed):
        await gate.permit_user(MALLORY)
