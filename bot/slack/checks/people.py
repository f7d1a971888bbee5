"""Examines whom the allowlist lets in, and which listed people Slack does not call members of the workspace."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Final

import structlog

from bot.model.errors import MembershipUnknown, PersonUnknown, UsergroupUnreadable
from bot.model.finding import Check, Finding, Mark, Part
from bot.slack.checks.turns import Turns
from bot.slack.memberships import USERGROUPS, Memberships
from bot.slack.profiles import Profiles

LOOKUPS: Final = 5
"""At each examination of a running bot, once a minute: Slack allows about 20, which people need as well."""

LOOKUPS_AT_ONCE: Final = 15
"""In the one examination of the command."""

_USERS: Final = "R2_CREDENTIAL_ALLOWED_USERS"

_log = structlog.get_logger()

_Members = Mapping[str, Collection[str] | None]
"""Who is in each user group; None if that is not known."""


class ListedPeople:
    """Remembers which listed people are refused, since Slack does not call them full members."""

    def __init__(self, profiles: Profiles, turns: Turns) -> None:
        self._profiles = profiles
        self._turns = turns
        self._refused: dict[str, Finding] = {}

    async def examine(self, member: str | None) -> Sequence[Finding]:
        """Ask about those whose turn it is, and return what is known of all; if no one is listed, about `member`.

        Each answer also shows whether Slack lets the bot know such things at all.
        """
        for user_id in self._turns.due() if self._turns.names else filter(None, [member]):
            try:
                profile = await self._profiles.profile_of(user_id)
            except PersonUnknown:
                break  # the next question would not be answered either
            self._refused.pop(user_id, None)
            if profile is not None and profile.flaws:
                self._refused[user_id] = _listed_in_vain(user_id, ", ".join(sorted(profile.flaws)))
            self._turns.note(user_id, is_good=user_id not in self._refused)
        return [*self._refused.values(), *filter(None, [self._profiles.trouble])]


class AllowedPeople:
    """Remembers who is in each listed user group."""

    def __init__(self, memberships: Memberships, users: Collection[str], turns: Turns, listed: ListedPeople) -> None:
        self._memberships = memberships
        self._users = users
        self._turns = turns
        self._listed = listed
        self._members: dict[str, Collection[str] | None] = dict.fromkeys(turns.names)

    async def examine(self) -> Sequence[Finding]:
        """Ask about the groups and people whose turn it is, and return what is known of all."""
        for group in self._turns.due():
            self._members[group] = people = await _ask(self._memberships, group)
            if people is None:
                break  # the next question would not be answered either
            self._turns.note(group, is_good=bool(people))
        troubles = [
            self._memberships.trouble_with(group) or _judge(group, people) for group, people in self._members.items()
        ]
        members = sorted(user_id for people in self._members.values() for user_id in people or ())
        outside = await self._listed.examine(next(iter(members), None))
        return [*filter(None, troubles), *outside, find_people(self._users, self._members)]


def people_check(  # noqa: PLR0913 - what is examined, by name
    memberships: Memberships,
    profiles: Profiles,
    clock: Callable[[], datetime],
    *,
    users: Collection[str],
    usergroups: Sequence[str],
    most: int = LOOKUPS,
) -> Check:
    """Return the check of listed users and user groups, of which `most` are asked about at each examination."""
    listed = ListedPeople(profiles, Turns(tuple(users), clock, most))
    allowed = AllowedPeople(memberships, users, Turns(usergroups, clock, most), listed)
    return Check(part=Part.PEOPLE, examine=allowed.examine)


async def report_people(memberships: Memberships, *, users: Collection[str], usergroups: Sequence[str]) -> None:
    """Log whom the allowlist lets in, for the start."""
    members = {group: await _ask(memberships, group) for group in usergroups}
    _log.info("allowlist_lets_in", **_count(users, members))


def find_people(users: Collection[str], members: _Members) -> Finding:
    """Count those whom the allowlist lets in."""
    known = [people for people in members.values() if people is not None]
    if not users and not any(known):
        return _nobody(is_certain=len(known) == len(members))
    counts = _count(users, members)
    at_least = "at least " if len(known) < len(members) else ""
    text = f"{at_least}{counts['people']} {'person is' if counts['people'] == 1 else 'people are'} let in"
    return Finding(part=Part.PEOPLE, event="allowlist_lets_in", text=text + _explain(users, members), known=counts)


async def _ask(memberships: Memberships, group: str) -> frozenset[str] | None:
    try:
        return await memberships.members_of(group)
    except UsergroupUnreadable:
        return frozenset()  # its members are refused
    except MembershipUnknown:
        return None


def _count(users: Collection[str], members: _Members) -> dict[str, object]:
    known = [people for people in members.values() if people is not None]
    return {
        "people": len(set(users).union(*known)),
        "users": len(set(users)),
        "usergroups": {group: None if people is None else len(people) for group, people in members.items()},
    }


def _explain(users: Collection[str], members: _Members) -> str:
    """Return how they are let in."""
    ids, groups = len(set(users)), len(members)
    parts = [
        *([f"{ids} by {'id' if ids == 1 else 'ids'}"] if ids else ()),
        *([f"{'the others ' if ids else ''}by {groups} user {'group' if groups == 1 else 'groups'}"] if groups else ()),
    ]
    return f": {', '.join(parts)}"


def _nobody(*, is_certain: bool) -> Finding:
    if not is_certain:
        text = "Slack did not say who is in the user groups"
        return Finding(part=Part.PEOPLE, event="allowlist_not_counted", text=text, mark=Mark.WARNING)
    return Finding(
        part=Part.PEOPLE,
        event="allowlist_matches_nobody",
        text="the allowlist lets in nobody",
        mark=Mark.FAILED,
        setting=USERGROUPS,
        fix="check the ids of the user groups, add people to them in Slack, or set R2_CREDENTIAL_ALLOWED_USERS",
    )


def _listed_in_vain(user_id: str, because: str) -> Finding:
    return Finding(
        part=Part.PEOPLE,
        event="listed_person_refused",
        text=f"{user_id} is listed, and refused all the same: Slack calls this user {because}",
        mark=Mark.WARNING,
        setting=_USERS,
        fix="take the id off the list, or have the person made a full member in Slack",
        known={"user": user_id, "because": because},
        about=user_id,
    )


def _judge(usergroup: str, people: Collection[str] | None) -> Finding | None:
    if people is None or people:
        return None
    return Finding(
        part=Part.PEOPLE,
        event="usergroup_empty",
        text=f"the user group {usergroup} has no members",
        mark=Mark.WARNING,
        setting=USERGROUPS,
        fix="add people to it in Slack, or remove its id from the list",
        known={"usergroup": usergroup},
        about=usergroup,
    )
