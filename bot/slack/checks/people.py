"""Examines whom the allowlist lets in.

Slack does not tell the bot whether a listed user exists: that needs users:read, which would let it read everyone's
profile.
"""

from collections.abc import Collection, Mapping, Sequence

import structlog

from bot.model.errors import MembershipUnknown, UsergroupUnreadable
from bot.model.finding import Check, Finding, Mark, Part
from bot.slack.memberships import USERGROUPS, Memberships

_log = structlog.get_logger()

_Members = Mapping[str, Collection[str] | None]
"""Who is in each user group; None if that is not known."""


def people_check(memberships: Memberships, *, users: Collection[str], usergroups: Collection[str]) -> Check:
    """Return the check of listed users and user groups."""

    async def examine() -> Sequence[Finding]:
        members = await _ask(memberships, usergroups)
        troubles = [memberships.trouble_with(group) or _judge(group, people) for group, people in members.items()]
        return [*filter(None, troubles), find_people(users, members)]

    return Check(part=Part.PEOPLE, examine=examine)


async def report_people(memberships: Memberships, *, users: Collection[str], usergroups: Collection[str]) -> None:
    """Log whom the allowlist lets in, for the start."""
    members = await _ask(memberships, usergroups)
    _log.info("allowlist_lets_in", **_count(users, members))


def find_people(users: Collection[str], members: _Members) -> Finding:
    """Count those whom the allowlist lets in."""
    known = [people for people in members.values() if people is not None]
    if not users and not any(known):
        return _nobody(is_certain=len(known) == len(members))
    counts = _count(users, members)
    text = f"{counts['people']} {'person is' if counts['people'] == 1 else 'people are'} let in"
    return Finding(part=Part.PEOPLE, event="allowlist_lets_in", text=text + _explain(users, members), known=counts)


async def _ask(memberships: Memberships, usergroups: Collection[str]) -> dict[str, frozenset[str] | None]:
    members: dict[str, frozenset[str] | None] = {}
    for group in usergroups:
        try:
            members[group] = await memberships.members_of(group)
        except UsergroupUnreadable:
            members[group] = frozenset()  # its members are refused
        except MembershipUnknown:
            members[group] = None
    return members


def _count(users: Collection[str], members: _Members) -> dict[str, object]:
    known = [people for people in members.values() if people is not None]
    return {
        "people": len(set(users).union(*known)),
        "users": len(set(users)),
        "usergroups": {group: None if people is None else len(people) for group, people in members.items()},
    }


def _explain(users: Collection[str], members: _Members) -> str:
    parts = []
    if users:
        parts.append(f"{len(set(users))} by their ids, of which Slack does not tell the bot whether they exist")
    if members:
        parts.append(
            f"{'the others ' if users else ''}by {len(members)} user {'group' if len(members) == 1 else 'groups'}"
        )
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
