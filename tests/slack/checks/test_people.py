"""The check of whom the allowlist lets in: counts, and the user groups that let in nobody."""

import io
import json
from dataclasses import replace
from datetime import timedelta
from typing import Protocol

import pytest

from bot.model.finding import Finding, Mark
from bot.sandbox.slack import FakeSlack
from bot.sandbox.workspace import OUTSIDERS, User, UserGroup
from bot.slack.api import SlackWeb
from bot.slack.checks.people import people_check, report_people
from bot.slack.memberships import MEMBERSHIP_LIFETIME, Memberships
from bot.slack.profiles import Profiles
from tests.clock import Clock

ADA, GRACE = "U0ADA0001", "U0GRACE01"
GROUP, OTHER_GROUP = "S0DATAENG", "S0OTHERS1"


@pytest.fixture
def memberships(slack: FakeSlack, web: SlackWeb, clock: Clock) -> Memberships:
    """Return the members of a group of two, and of an empty one."""
    slack.workspace.user_groups[OTHER_GROUP] = UserGroup(id=OTHER_GROUP, handle="others", members=())
    return Memberships(web, clock)


@pytest.fixture
def profiles(web: SlackWeb, clock: Clock) -> Profiles:
    """Return what Slack says of people."""
    return Profiles(web, clock)


class Examine(Protocol):
    """Examines these lists once."""

    async def __call__(self, users: tuple[str, ...], usergroups: tuple[str, ...]) -> list[Finding]:
        """Return what is found."""


@pytest.fixture
def examine(memberships: Memberships, profiles: Profiles) -> Examine:
    """Return what examines lists."""

    async def examine(users: tuple[str, ...], usergroups: tuple[str, ...]) -> list[Finding]:
        return list(await people_check(memberships, profiles, Clock(), users=users, usergroups=usergroups).examine())

    return examine


LISTS: dict[str, tuple[tuple[str, ...], tuple[str, ...], int, list[str]]] = {
    "a user": ((ADA,), (), 1, []),
    "a user twice": ((ADA, ADA), (), 1, []),
    "a group": ((), (GROUP,), 2, []),
    "both, who overlap": ((ADA,), (GROUP,), 2, []),
    "both": (("U0MALLORY",), (GROUP,), 3, []),
    "an empty group and a user": ((ADA,), (OTHER_GROUP,), 1, ["usergroup_empty"]),
    "an empty group and another": ((), (OTHER_GROUP, GROUP), 2, ["usergroup_empty"]),
    "a group that is gone and a user": ((ADA,), ("S0NOWHERE",), 1, ["usergroup_gone"]),
}


@pytest.mark.parametrize(("users", "usergroups", "count", "others"), LISTS.values(), ids=LISTS)
async def test_whom_the_allowlist_lets_in_is_counted(
    examine: Examine, users: tuple[str, ...], usergroups: tuple[str, ...], count: int, others: list[str]
) -> None:
    """A person who is listed twice counts once; each group that lets in nobody is told."""
    *troubles, last = await examine(users, usergroups)

    assert (last.event, last.mark, last.known["people"]) == ("allowlist_lets_in", Mark.OK, count)
    assert [each.event for each in troubles] == others
    assert all(each.fix and each.about in usergroups for each in troubles)


NOBODY: dict[str, tuple[str | None, str, str]] = {
    "an empty group": (None, OTHER_GROUP, "usergroup_empty"),
    "a group that is gone": (None, "S0NOWHERE", "usergroup_gone"),
    "a group that Slack does not show": ("missing_scope", GROUP, "usergroup_unreadable"),
    "no user groups in this plan": ("plan_upgrade_required", GROUP, "usergroup_unreadable"),
}


@pytest.mark.parametrize(("error", "usergroup", "event"), NOBODY.values(), ids=NOBODY)
async def test_an_allowlist_that_lets_in_nobody_has_failed(
    slack: FakeSlack, examine: Examine, error: str | None, usergroup: str, event: str
) -> None:
    """The group says why."""
    if error:
        slack.fail_next("usergroups.users.list", error=error)
    cause, last = await examine((), (usergroup,))

    assert (last.event, last.mark) == ("allowlist_matches_nobody", Mark.FAILED)
    assert last.fix
    assert (cause.event, cause.about, bool(cause.fix)) == (event, usergroup, True)


async def test_a_slack_that_does_not_tell_who_is_let_in_is_no_failure(slack: FakeSlack, examine: Examine) -> None:
    """It is not known that the allowlist lets in nobody."""
    slack.fail_next("usergroups.users.list", error="internal_error")
    cause, last = await examine((), (GROUP,))

    assert (cause.event, cause.mark) == ("usergroup_not_asked", Mark.WARNING)
    assert (last.event, last.mark) == ("allowlist_not_counted", Mark.WARNING)


async def test_an_outage_is_told_of_one_group(slack: FakeSlack, examine: Examine) -> None:
    """Not of each: nothing is wrong with them, and the next question would fail as well."""
    slack.fail_next("usergroups.users.list", error="internal_error", times=9)
    cause, last = await examine((ADA,), (GROUP, OTHER_GROUP))

    assert (cause.event, cause.about, cause.setting) == ("usergroup_not_asked", GROUP, "")
    assert "at least 1 person is let in" in last.text
    assert len(slack.calls_of("usergroups.users.list")) == 1


async def test_a_group_that_is_disabled_and_enabled_again_recovers(
    slack: FakeSlack, examine: Examine, clock: Clock
) -> None:
    """As soon as the cached answer is too old."""
    group = slack.workspace.user_groups[GROUP]
    slack.workspace.user_groups[GROUP] = replace(group, is_disabled=True)
    gone, *_ = await examine((ADA,), (GROUP,))
    slack.workspace.user_groups[GROUP] = group
    clock.advance(MEMBERSHIP_LIFETIME)
    [after] = await examine((ADA,), (GROUP,))

    assert (gone.event, gone.mark, gone.about) == ("usergroup_gone", Mark.FAILED, GROUP)
    assert after.event == "allowlist_lets_in"


async def test_the_examination_shares_the_answers_that_people_need(
    slack: FakeSlack, memberships: Memberships, examine: Examine
) -> None:
    """Slack is asked once a minute for each group, however often it is examined."""
    await memberships.members_of(GROUP)
    for _ in range(3):
        await examine((), (GROUP,))

    assert len(slack.calls_of("usergroups.users.list")) == 1


async def test_many_groups_are_asked_about_slowly(
    slack: FakeSlack, memberships: Memberships, profiles: Profiles, clock: Clock
) -> None:
    """Five a minute, and each once an hour: Slack allows about twenty, which people need as well."""
    groups = [f"S0{number:07}" for number in range(12)]
    for each in groups:
        slack.workspace.user_groups[each] = UserGroup(id=each, handle=each.lower(), members=(ADA,))
    check = people_check(memberships, profiles, clock, users=(), usergroups=groups)
    counts = []
    for _ in range(10):
        [found] = await check.examine()
        counts.append(len(slack.calls_of("usergroups.users.list")))
        clock.advance(timedelta(minutes=1))

    assert counts == [5, 10, *[12] * 8]
    assert found.known["people"] == 1


async def test_the_start_logs_whom_the_allowlist_lets_in(memberships: Memberships, log: io.StringIO) -> None:
    """One line at level info, with the counts."""
    await report_people(memberships, users=(ADA,), usergroups=(GROUP,))

    [line] = [json.loads(line) for line in log.getvalue().splitlines() if "allowlist" in line]
    assert (line["level"], line["people"], line["usergroups"]) == ("info", 2, {GROUP: 2})


REFUSED: dict[str, tuple[User, str]] = {
    "a guest": (OUTSIDERS[0], "a guest"),
    "a guest of one channel": (OUTSIDERS[1], "a guest"),
    "deactivated": (OUTSIDERS[2], "deactivated"),
    "a bot": (OUTSIDERS[3], "a bot"),
    "invited": (OUTSIDERS[4], "invited"),
    "a stranger": (OUTSIDERS[5], "a stranger"),
}


@pytest.mark.parametrize(("user", "because"), REFUSED.values(), ids=REFUSED)
async def test_a_listed_person_who_is_refused_is_named(
    slack: FakeSlack, examine: Examine, user: User, because: str
) -> None:
    """The operator believes that the id lets someone in."""
    slack.workspace.change_user(user)
    refused, last = await examine((ADA, user.id), ())

    assert (refused.event, refused.mark, refused.about) == ("listed_person_refused", Mark.WARNING, user.id)
    assert because in refused.text
    assert (refused.blocks, bool(refused.fix), last.event) == (False, True, "allowlist_lets_in")


async def test_an_id_that_is_nobodys_is_named(examine: Examine) -> None:
    """Mistyped, or of a person of another workspace."""
    refused, _ = await examine(("U0NOBODY1",), ())
    assert (refused.event, "not known to Slack" in refused.text) == ("listed_person_refused", True)


@pytest.mark.parametrize(("users", "usergroups"), [((ADA,), ()), ((), (GROUP,))], ids=["by id", "by group"])
async def test_an_app_without_the_scope_is_warned_of(
    slack: FakeSlack, examine: Examine, users: tuple[str, ...], usergroups: tuple[str, ...]
) -> None:
    """As installed before the bot asked for it: the bot works as before, and says what is missing."""
    slack.grant(*(scope for scope in slack.config.scopes if scope != "users:read"))
    warning, last = await examine(users, usergroups)

    assert (warning.event, warning.mark, warning.blocks) == ("people_not_looked_up", Mark.WARNING, False)
    assert "users:read" in warning.fix
    assert last.event == "allowlist_lets_in"


async def test_an_outage_is_told_of_one_person(slack: FakeSlack, examine: Examine) -> None:
    """Nothing is wrong with the others, and the next question would fail as well."""
    slack.fail_next("users.info", status=503, times=9)
    trouble, _ = await examine((ADA, GRACE), ())

    assert (trouble.event, trouble.mark, trouble.fix) == ("people_not_asked", Mark.WARNING, "")
    assert len(slack.calls_of("users.info")) == 1


async def test_many_listed_people_are_asked_about_slowly(
    slack: FakeSlack, memberships: Memberships, profiles: Profiles, clock: Clock
) -> None:
    """Five a minute, and each once an hour."""
    users = [f"U0{number:07}" for number in range(12)]
    for each in users:
        slack.workspace.change_user(User(id=each, name=each.lower(), real_name=each))
    check = people_check(memberships, profiles, clock, users=users, usergroups=())
    counts = []
    for _ in range(6):
        await check.examine()
        counts.append(len(slack.calls_of("users.info")))
        clock.advance(timedelta(minutes=1))

    assert counts == [5, 10, *[12] * 4]
