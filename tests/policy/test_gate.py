"""Authorization: the allowlist combined with what only Slack knows, and a refusal whenever that is unknown."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import aiohttp
import pytest
import pytest_asyncio
from slack_sdk.web.async_client import AsyncWebClient

from bot.model.catalog import BucketKey
from bot.model.errors import (
    AccessRefused,
    BucketNotAllowed,
    ChannelNotAllowed,
    EnablingNotAllowed,
    MembershipUnknown,
    NotAllowed,
    OtherWorkspace,
    Outsider,
    UsergroupUnreadable,
)
from bot.model.finding import Mark
from bot.policy.attempt import RefusedAttempt
from bot.policy.gate import Actor, Gate, Home
from bot.policy.rules import USUAL_VERBS, Allowlist, People, Rule, Verb
from bot.sandbox.slack import FakeSlack
from bot.sandbox.workspace import UserGroup
from bot.slack.api import TIMEOUT, SlackWeb
from bot.slack.memberships import MEMBERSHIP_LIFETIME, SILENCE_LIFETIME, Memberships
from tests.clock import Clock
from tests.everybody import EVERYBODY

ADA = "U0ADA0001"
GRACE = "U0GRACE01"
MALLORY = "U0MALLORY"
GROUP = "S0DATAENG"
OTHER_GROUP = "S0SECURIT"
HOME = "T0SANDBOX"
AWAY = "T0PARTNER"
ORGANIZATION = "E0NORTHWD"


@pytest_asyncio.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    """Start a fake Slack with two user groups."""
    async with FakeSlack() as slack:
        slack.workspace.user_groups[OTHER_GROUP] = UserGroup(id=OTHER_GROUP, handle="security", members=(GRACE,))
        yield slack


@pytest_asyncio.fixture
async def memberships(slack: FakeSlack, clock: Clock) -> AsyncIterator[Memberships]:
    """Build the lookup of group members at the fake Slack."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT.total_seconds())) as http:
        client = AsyncWebClient(
            token=slack.config.bot_tokens[0], base_url=slack.api_url, session=http, retry_handlers=[]
        )
        client.proxy = None
        yield Memberships(SlackWeb(client), clock)


def gate_of(
    memberships: Memberships,
    *,
    users: tuple[str, ...] = (),
    usergroups: tuple[str, ...] = (),
    channels: tuple[str, ...] = (),
    buckets: tuple[str, ...] = (),
    enterprise_id: str | None = None,
) -> Gate:
    """Build a gate with these lists."""
    allowlist = Allowlist(
        users=frozenset(users), usergroups=frozenset(usergroups), channels=frozenset(channels), buckets=buckets
    )
    return Gate(allowlist.rules(), Home(team_id=HOME, enterprise_id=enterprise_id), memberships, EVERYBODY)


def actor(user_id: str, *team_ids: str) -> Actor:
    """Return a person as a payload names them."""
    return Actor(user_id=user_id, team_ids=frozenset(team_ids))


def change_members(slack: FakeSlack, *members: str) -> None:
    """Let someone edit the user group."""
    slack.workspace.user_groups[GROUP] = replace(slack.workspace.user_groups[GROUP], members=members)


OUTSIDERS = {
    "from another workspace": (AWAY,),
    "one of the names is another workspace": (HOME, AWAY),
    "from nowhere": (),
    "from another organization": (HOME, "E0ANOTHER"),
    "a name that only begins alike": (f"{HOME}1",),
}


@pytest.mark.parametrize("team_ids", OUTSIDERS.values(), ids=OUTSIDERS)
async def test_an_outsider_is_refused_whatever_the_id(memberships: Memberships, team_ids: tuple[str, ...]) -> None:
    """A listed id does not help a person whom any part of the payload places elsewhere."""
    gate = gate_of(memberships, users=(ADA,), usergroups=(GROUP,), enterprise_id=ORGANIZATION)

    with pytest.raises(Outsider):
        await gate.permit(actor(ADA, *team_ids))


async def test_an_organization_is_home_only_where_there_is_one(memberships: Memberships) -> None:
    """An `E...` id is foreign to a bot installed in a workspace without an organization."""
    with pytest.raises(Outsider):
        await gate_of(memberships, users=(ADA,)).permit(actor(ADA, HOME, ORGANIZATION))


@pytest.mark.parametrize("team_ids", [(HOME,), (HOME, ORGANIZATION), (ORGANIZATION,)])
async def test_a_listed_user_at_home_is_let_in(memberships: Memberships, team_ids: tuple[str, ...]) -> None:
    """The workspace and its organization both count as home."""
    await gate_of(memberships, users=(ADA,), enterprise_id=ORGANIZATION).permit(actor(ADA, *team_ids))


@pytest.mark.parametrize("was_here", [False, True])
@pytest.mark.parametrize(
    ("team_ids", "enterprise_ids"),
    [
        pytest.param((AWAY,), (), id="no organization"),
        pytest.param((AWAY,), ("E0ANOTHER",), id="another organization"),
        pytest.param((AWAY,), (ORGANIZATION, "E0ANOTHER"), id="two organizations"),
        pytest.param((HOME, "E0ANOTHER"), (ORGANIZATION,), id="of another organization"),
        pytest.param((HOME, "no team"), (ORGANIZATION,), id="what is no id"),
        pytest.param((), (ORGANIZATION,), id="from nowhere"),
    ],
)
async def test_only_our_own_organization_counts(
    memberships: Memberships, team_ids: tuple[str, ...], enterprise_ids: tuple[str, ...], *, was_here: bool
) -> None:
    """Even for a listed user who was here before."""
    visitor = replace(actor(ADA, *team_ids), enterprise_ids=frozenset(enterprise_ids))
    gate = gate_of(memberships, users=(ADA,), enterprise_id=ORGANIZATION)
    assert not gate.is_of_organization(visitor)
    with pytest.raises(Outsider):
        await gate.permit(visitor, was_here=was_here)


async def test_a_sister_workspace_is_admitted_only_for_a_user_who_was_here(memberships: Memberships) -> None:
    """And who is listed."""
    gate = gate_of(memberships, users=(ADA,), enterprise_id=ORGANIZATION)
    ada, mallory = (
        replace(actor(user, HOME, AWAY), enterprise_ids=frozenset({ORGANIZATION})) for user in (ADA, MALLORY)
    )
    await gate.permit(ada, was_here=True)
    with pytest.raises(OtherWorkspace):
        await gate.permit(ada)
    with pytest.raises(NotAllowed):
        await gate.permit(mallory, was_here=True)


async def test_without_an_organization_no_sister_is_known(memberships: Memberships) -> None:
    """Whatever the payload names."""
    visitor = replace(actor(ADA, AWAY), enterprise_ids=frozenset({ORGANIZATION}))
    with pytest.raises(Outsider):
        await gate_of(memberships, users=(ADA,)).permit(visitor, was_here=True)


STRANGERS = {"not listed": MALLORY, "nobody": "", "lower case": ADA.lower(), "a group's id": GROUP}


@pytest.mark.parametrize("user_id", STRANGERS.values(), ids=STRANGERS)
async def test_who_is_on_no_list_is_refused(memberships: Memberships, user_id: str) -> None:
    """Neither users nor groups include this person."""
    with pytest.raises(NotAllowed):
        await gate_of(memberships, users=(ADA,), usergroups=(GROUP,)).permit(actor(user_id, HOME))


async def test_a_listed_user_is_let_in_without_asking_slack(slack: FakeSlack, memberships: Memberships) -> None:
    """A user listed by id neither waits for Slack nor depends on it."""
    slack.fail_next("usergroups.users.list", error="internal_error")

    await gate_of(memberships, users=(ADA,), usergroups=(GROUP,)).permit_user(ADA)

    assert slack.calls == []


@pytest.mark.parametrize("usergroups", [(GROUP,), (OTHER_GROUP, GROUP)], ids=["the only group", "one of two groups"])
async def test_a_member_of_a_group_is_let_in(memberships: Memberships, usergroups: tuple[str, ...]) -> None:
    """Membership in any listed group is enough."""
    await gate_of(memberships, usergroups=usergroups).permit_user(ADA)


async def test_membership_is_asked_once_a_minute(slack: FakeSlack, memberships: Memberships, clock: Clock) -> None:
    """Within 60 s the last answer counts; after that, Slack is asked again."""
    gate = gate_of(memberships, usergroups=(GROUP,))
    await gate.permit_user(ADA)
    change_members(slack, MALLORY)

    clock.advance(timedelta(seconds=59))
    await gate.permit_user(ADA)
    with pytest.raises(NotAllowed):
        await gate.permit_user(MALLORY)
    clock.advance(timedelta(seconds=1))
    with pytest.raises(NotAllowed):
        await gate.permit_user(ADA)
    await gate.permit_user(MALLORY)

    assert len(slack.calls_of("usergroups.users.list")) == 2


async def test_many_at_once_ask_slack_once(slack: FakeSlack, memberships: Memberships) -> None:
    """A crowd after a deployment sends one request to Slack."""
    gate = gate_of(memberships, usergroups=(GROUP,))

    await asyncio.gather(*(gate.permit_user(ADA) for _ in range(20)))

    assert len(slack.calls_of("usergroups.users.list")) == 1


TROUBLE = ("internal_error", "invalid_auth", "access_denied", "no_such_thing")


@pytest.mark.parametrize("error", TROUBLE)
async def test_when_slack_cannot_be_asked_the_answer_is_no(
    slack: FakeSlack, memberships: Memberships, clock: Clock, error: str
) -> None:
    """A member is refused with that reason for a moment, in which Slack is left alone; then it is asked again."""
    gate = gate_of(memberships, usergroups=(GROUP,))
    slack.fail_next("usergroups.users.list", error=error)

    with pytest.raises(MembershipUnknown) as refused:
        await gate.permit_user(ADA)
    clock.advance(SILENCE_LIFETIME - timedelta(milliseconds=1))
    with pytest.raises(MembershipUnknown):
        await gate.permit_user(ADA)
    clock.advance(timedelta(milliseconds=1))
    await gate.permit_user(ADA)

    assert "Slack did not say who is in" in refused.value.user_message
    assert len(slack.calls_of("usergroups.users.list")) == 2


async def test_slack_is_left_alone_as_long_as_it_asks_for(
    slack: FakeSlack, memberships: Memberships, clock: Clock
) -> None:
    """During a rate limit, no further request is sent."""
    gate = gate_of(memberships, usergroups=(GROUP,))
    slack.fail_next("usergroups.users.list", retry_after=30)

    for seconds in (0, 10, 19):
        clock.advance(timedelta(seconds=seconds))
        with pytest.raises(MembershipUnknown):
            await gate.permit_user(ADA)
    clock.advance(timedelta(seconds=1))
    await gate.permit_user(ADA)

    assert len(slack.calls_of("usergroups.users.list")) == 2


async def test_a_cancelled_caller_does_not_end_the_lookup_for_others(
    slack: FakeSlack, memberships: Memberships
) -> None:
    """The request continues for those who still wait, and its answer is cached."""
    gate = gate_of(memberships, usergroups=(GROUP,))
    slack.fail_next("usergroups.users.list", delay=timedelta(seconds=0.2))
    first, second = (asyncio.create_task(gate.permit_user(ADA)) for _ in range(2))
    await slack.workspace.changes.wait_until(lambda: slack.calls or None, timedelta(seconds=5), "the question")

    first.cancel()
    await second
    await gate.permit_user(ADA)

    assert first.cancelled()
    assert len(slack.calls_of("usergroups.users.list")) == 1


async def test_an_old_answer_does_not_replace_a_failed_lookup(
    slack: FakeSlack, memberships: Memberships, clock: Clock
) -> None:
    """An answer older than a minute does not count if Slack cannot be asked now."""
    gate = gate_of(memberships, usergroups=(GROUP,))
    await gate.permit_user(ADA)
    clock.advance(MEMBERSHIP_LIFETIME)
    slack.fail_next("usergroups.users.list", status=503)

    with pytest.raises(MembershipUnknown):
        await gate.permit_user(ADA)


@pytest.mark.parametrize("error", ["internal_error", "missing_scope", "no_such_subteam", "plan_upgrade_required"])
@pytest.mark.parametrize("first", [True, False], ids=["the first fails", "the second fails"])
async def test_a_group_that_fails_shuts_out_nobody_elses_members(
    slack: FakeSlack, memberships: Memberships, clock: Clock, error: str, *, first: bool
) -> None:
    """A member of a group that answered is allowed, whatever happened to another group."""
    slack.workspace.user_groups[OTHER_GROUP] = replace(slack.workspace.user_groups[OTHER_GROUP], members=(ADA,))
    gate = gate_of(memberships, usergroups=(GROUP, OTHER_GROUP))
    if not first:  # the first one's answer is cached, so the next lookup is of the second one
        await memberships.members_of(GROUP)
    slack.fail_next("usergroups.users.list", error=error)

    permit = await gate.permit_user(ADA)

    permit.require(Verb.STORE, None, None)
    assert len(permit.person.usergroups) == 1


@pytest.mark.parametrize("user_id", [MALLORY, ""], ids=["a stranger", "nobody"])
async def test_who_is_in_no_group_that_answered_waits_for_the_others(
    slack: FakeSlack, memberships: Memberships, user_id: str
) -> None:
    """The silent group may have this person: neither allowed nor definitely refused."""
    slack.fail_next("usergroups.users.list", error="internal_error")

    with pytest.raises(MembershipUnknown):
        await gate_of(memberships, usergroups=(GROUP, OTHER_GROUP)).permit_user(user_id)


KEPT_BACK: dict[str, tuple[str, type[AccessRefused], str, str]] = {
    "it is gone": ("no_such_subteam", UsergroupUnreadable, "usergroup_gone", "its id from the list"),
    **{
        error: (error, UsergroupUnreadable, "usergroup_unreadable", fix)
        for fix, errors in {
            "the scope usergroups:read": (
                "missing_scope",
                "no_permission",
                "permission_denied",
                "not_allowed_token_type",
            ),
            "Slack plan": ("plan_upgrade_required", "paid_teams_only", "paid_only", "feature_not_enabled"),
        }.items()
        for error in errors
    },
}


@pytest.mark.parametrize("answer", KEPT_BACK.values(), ids=KEPT_BACK)
async def test_a_definite_no_of_slacks_is_one_of_the_bots(
    slack: FakeSlack, memberships: Memberships, clock: Clock, answer: tuple[str, type[AccessRefused], str, str]
) -> None:
    """The operator reads what is wrong with the group until it recovers; no one is asked to try again."""
    error, refusal, event, fix = answer
    gate = gate_of(memberships, usergroups=(GROUP,))
    for asks in (2, 1):
        slack.fail_next("usergroups.users.list", error=error, times=asks)
        for _ in range(asks):
            with pytest.raises(refusal) as refused:
                await gate.permit_user(ADA)
            assert not refused.value.retryable
            assert "try again" not in refused.value.user_message.lower()
            clock.advance(MEMBERSHIP_LIFETIME)
        trouble = memberships.trouble_with(GROUP)
        assert trouble is not None
        assert (trouble.event, trouble.mark, trouble.about) == (event, Mark.FAILED, GROUP)
        assert (trouble.known["slack_error"], trouble.setting) == (error, "R2_CREDENTIAL_ALLOWED_USERGROUPS")
        assert fix in trouble.fix
        await gate.permit_user(ADA)
        assert memberships.trouble_with(GROUP) is None
        clock.advance(MEMBERSHIP_LIFETIME)


async def test_a_group_that_is_not_there_leaves_the_decision_to_no_later_rule(memberships: Memberships) -> None:
    """A misspelt id in the strict rule does not open the lax one; what the strict one is not about goes on."""
    strict = Rule(name="1", who=People(usergroups=frozenset({"S0MISSPELT"})), buckets=("prod-*",), approvals=1)
    gate = gate_of(memberships, users=(ADA,))
    gate.follow([strict, *gate.rules])
    permit = await gate.permit_user(ADA)
    prod, lake = (BucketKey(account_id="a" * 32, bucket=bucket) for bucket in ("prod-lake", "lake"))
    assert _refusal_of(permit.refusal(Verb.STORE, prod, "C1")) is UsergroupUnreadable
    assert permit.refusal(Verb.STORE, lake, "C1") is None


async def test_a_bot_token_that_is_refused_is_the_operators_and_may_pass(
    slack: FakeSlack, memberships: Memberships, clock: Clock
) -> None:
    """It is being replaced, or must be: the token has a finding of its own, and a person may try again."""
    gate = gate_of(memberships, usergroups=(GROUP,))
    slack.fail_next("usergroups.users.list", error="token_revoked", times=2)
    for _ in range(2):
        with pytest.raises(MembershipUnknown):
            await gate.permit_user(ADA)
        clock.advance(SILENCE_LIFETIME)
    trouble = memberships.trouble_with(GROUP)
    assert trouble is not None
    assert (trouble.event, trouble.mark, trouble.fix) == ("usergroup_not_asked", Mark.WARNING, "")
    await gate.permit_user(ADA)
    assert memberships.trouble_with(GROUP) is None


async def test_silence_goes_before_a_definite_no(slack: FakeSlack, memberships: Memberships) -> None:
    """The silent group may have this person, so waiting may help."""
    gate = gate_of(memberships, usergroups=(GROUP, OTHER_GROUP))
    for error in ("internal_error", "missing_scope"):
        slack.fail_next("usergroups.users.list", error=error)

    with pytest.raises(MembershipUnknown):
        await gate.permit_user(ADA)


BUCKETS: dict[str, tuple[tuple[str, ...], str, bool]] = {
    "no list": ((), "any-bucket", True),
    "by name": (("events", "photos"), "photos", True),
    "by glob": (("team-a-*",), "team-a-events", True),
    "another name": (("events",), "events-2", False),
    "only the end fits": (("events",), "my-events", False),
    "another team": (("team-a-*",), "team-b-events", False),
    "nothing": (("team-*",), "", False),
    "a glob as name": (("team-a-*",), "*", False),
}


@pytest.mark.parametrize(("buckets", "bucket", "is_allowed"), BUCKETS.values(), ids=BUCKETS)
async def test_buckets_are_checked_by_glob(
    memberships: Memberships, buckets: tuple[str, ...], bucket: str, *, is_allowed: bool
) -> None:
    """The whole name must match a glob."""
    gate = gate_of(memberships, users=(ADA,), buckets=buckets)

    key = BucketKey(account_id="a" * 32, bucket=bucket)
    permit = await gate.permit_user(ADA)

    assert gate.serves(key) is is_allowed
    assert permit.sees(key) is is_allowed
    assert _refusal_of(permit.refusal(Verb.STORE, key, None)) is (None if is_allowed else BucketNotAllowed)


CHANNELS: dict[str, tuple[tuple[str, ...], str, bool]] = {
    "no list": ((), "C0ANALYTX", True),
    "listed": (("C0DATAPLT", "C0ANALYTX"), "C0ANALYTX", True),
    "not listed": (("C0DATAPLT",), "C0ANALYTX", False),
    "nowhere": (("C0DATAPLT",), "", False),
    "lower case": (("C0DATAPLT",), "c0dataplt", False),
}


@pytest.mark.parametrize(("channels", "channel_id", "is_allowed"), CHANNELS.values(), ids=CHANNELS)
async def test_channels_are_checked_by_id(
    memberships: Memberships, channels: tuple[str, ...], channel_id: str, *, is_allowed: bool
) -> None:
    """An id is listed or it is not."""
    gate = gate_of(memberships, users=(ADA,), channels=channels)

    permit = await gate.permit_user(ADA)

    assert gate.allows_channel(channel_id) is is_allowed
    assert _refusal_of(permit.refusal(Verb.STORE, None, channel_id)) is (None if is_allowed else ChannelNotAllowed)


SEES: dict[str, tuple[str, tuple[str, ...], bool]] = {
    "listed, and so is the bucket": (ADA, ("lake*",), True),
    "not listed": (MALLORY, (), False),
    "listed, but the bucket is not": (ADA, ("pond*",), False),
}


@pytest.mark.parametrize(("user", "buckets", "sees"), SEES.values(), ids=SEES)
async def test_who_sees_a_bucket_is_checked_again(
    memberships: Memberships, user: str, buckets: tuple[str, ...], *, sees: bool
) -> None:
    """For a person who is to get a message about it without acting."""
    gate = gate_of(memberships, users=(ADA,), buckets=buckets)
    assert await gate.sees(user, BucketKey(account_id="a" * 32, bucket="lake-7")) is sees


async def test_when_slack_does_not_say_who_sees_a_bucket_is_unknown(slack: FakeSlack, memberships: Memberships) -> None:
    """That is not a refusal: the message is sent later."""
    slack.fail_next("usergroups.users.list", status=503)
    with pytest.raises(MembershipUnknown):
        await gate_of(memberships, usergroups=(GROUP,)).sees(ADA, BucketKey(account_id="a" * 32, bucket="lake"))


@pytest.mark.parametrize("may_enable", [False, True])
async def test_catalogs_are_enabled_only_where_that_is_allowed(memberships: Memberships, *, may_enable: bool) -> None:
    """Everything else is always allowed."""
    allowlist = Allowlist(
        users=frozenset({ADA}), usergroups=frozenset(), channels=frozenset(), buckets=(), may_enable=may_enable
    )
    permit = await Gate(allowlist.rules(), Home(team_id=HOME, enterprise_id=None), memberships, EVERYBODY).permit_user(
        ADA
    )

    for verb in (*USUAL_VERBS, Verb.ENABLE):
        is_allowed = may_enable or verb is not Verb.ENABLE
        assert _refusal_of(permit.refusal(verb, None, None)) is (None if is_allowed else EnablingNotAllowed)


async def test_a_permit_knows_the_groups_that_rules_name(slack: FakeSlack, memberships: Memberships) -> None:
    """So that a rule can distinguish groups; a listed user's groups are not looked up."""
    gate = gate_of(memberships, users=(MALLORY,), usergroups=(GROUP, OTHER_GROUP))

    permits = [await gate.permit_user(user_id) for user_id in (ADA, GRACE, MALLORY)]

    assert [permit.person.user_id for permit in permits] == [ADA, GRACE, MALLORY]
    assert [sorted(permit.person.usergroups) for permit in permits] == [[GROUP], sorted([GROUP, OTHER_GROUP]), []]
    assert len(slack.calls_of("usergroups.users.list")) == 2


def _refusal_of(refusal: AccessRefused | None) -> type[AccessRefused] | None:
    return None if refusal is None else type(refusal)


async def test_each_refusal_at_an_entrance_is_noted(memberships: Memberships) -> None:
    """For the operator's count; a question about a button or a table is no refusal."""
    noted: list[RefusedAttempt] = []
    allowlist = Allowlist(
        users=frozenset({ADA}), usergroups=frozenset(), channels=frozenset({"C1"}), buckets=("lake-*",)
    )
    gate = Gate(allowlist.rules(), Home(team_id=HOME, enterprise_id=None), memberships, EVERYBODY, note=noted.append)
    elsewhere = BucketKey(account_id="0f" * 16, bucket="pond")

    for person in (actor(MALLORY, HOME), actor(ADA, AWAY)):
        with pytest.raises(AccessRefused):
            await gate.permit(person)
    permit = await gate.permit(actor(ADA, HOME))
    with pytest.raises(BucketNotAllowed):
        permit.require(Verb.STORE, elsewhere, "C1")
    assert not permit.sees(elsewhere)
    assert permit.refusal(Verb.STORE, elsewhere, "C1") is not None
    assert not await gate.sees(MALLORY, elsewhere)

    assert [type(each.refusal) for each in noted] == [NotAllowed, Outsider, BucketNotAllowed]


LAKE, POND = (BucketKey(account_id="a" * 32, bucket=bucket) for bucket in ("lake", "pond"))
STORES = Rule(
    name="stores",
    who=People(usergroups=frozenset({GROUP})),
    buckets=("lake",),
    channels=frozenset({"C1"}),
    approvals=1,
    approval_channel="C2",
)
APPROVES = Rule(name="approves", who=People(users=frozenset({GRACE})), verbs=frozenset({Verb.APPROVE}))
LOOKS = Rule(name="looks", who=People(users=frozenset({GRACE})), verbs=frozenset({Verb.STATUS}), buckets=("pond",))


def _gate_of_rules(memberships: Memberships, *rules: Rule) -> Gate:
    return Gate(rules, Home(team_id=HOME, enterprise_id=None), memberships, EVERYBODY)


def test_what_is_served_and_where_is_posted_follows_the_rules_that_say_so(memberships: Memberships) -> None:
    """A rule about approving, or looking, opens no bucket and no channel for results."""
    gate = _gate_of_rules(memberships, STORES, APPROVES, LOOKS)
    assert [gate.serves(key) for key in (LAKE, POND)] == [True, True]
    assert [gate.allows_channel(channel) for channel in ("C1", "C2", "C3", "direct")] == [True, True, False, False]
    gate.follow([STORES, APPROVES])
    assert [gate.serves(key) for key in (LAKE, POND)] == [True, False]
    gate.require_of_anybody(Verb.STORE, LAKE, "C1")
    with pytest.raises(ChannelNotAllowed):  # it is for requests, not for results
        gate.require_of_anybody(Verb.STORE, LAKE, "C2")


async def test_a_silent_group_leaves_open_who_sees_its_bucket(slack: FakeSlack, memberships: Memberships) -> None:
    """A person whom another rule admits gets the message about it later, and not never."""
    gate = _gate_of_rules(memberships, STORES, LOOKS)
    slack.fail_next("usergroups.users.list", status=503)
    assert await gate.sees(GRACE, POND)
    with pytest.raises(MembershipUnknown):
        await gate.sees(GRACE, LAKE)


async def test_an_approver_is_let_in_and_may_do_nothing_else(slack: FakeSlack, memberships: Memberships) -> None:
    """Named in a rule as an approver only, by group."""
    slack.workspace.user_groups[OTHER_GROUP] = UserGroup(id=OTHER_GROUP, handle="security", members=(MALLORY,))
    gate = _gate_of_rules(memberships, replace(STORES, approvers=People(usergroups=frozenset({OTHER_GROUP}))))
    permit = await gate.permit(actor(MALLORY, HOME))
    permit.require_approver(gate.rules[0], ADA, LAKE, "C1")
    assert [_refusal_of(permit.refusal(verb, LAKE, "C1")) for verb in Verb] == [NotAllowed] * len(Verb)
    assert not permit.sees(LAKE)


async def test_rules_that_change_meanwhile_do_not_mix(memberships: Memberships) -> None:
    """A permit goes by the rules that were asked about, though Slack's answer came after others held."""
    gate = _gate_of_rules(memberships, STORES)
    asking = asyncio.create_task(gate.permit_user(ADA))
    await asyncio.sleep(0)
    gate.follow([LOOKS])
    assert (await asking).require(Verb.STORE, LAKE, "C1") is STORES
    with pytest.raises(NotAllowed):
        await gate.permit_user(ADA)
