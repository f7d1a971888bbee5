"""Decides who may do what from where: the allowlist, and the facts that only Slack knows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import structlog

from bot.model.errors import Outsider
from bot.model.submission import Task
from bot.policy.rules import Allowlist

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The workspace, and the Enterprise Grid organization if any, in which the bot is installed."""

    team_id: str
    enterprise_id: str | None

    def is_home(self, team_id: str | None) -> bool:
        """Whether an id that Slack gave as somebody's team means this installation; user.team_id may be an `E...`."""
        return team_id is not None and team_id in (self.team_id, self.enterprise_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts, as Slack told it: the id, and every team that the payload names for this person."""

    user_id: str
    team_ids: frozenset[str]

    @classmethod
    def of_command(cls, body: Mapping[str, Any]) -> Self:
        """Read who typed a command."""
        return cls(user_id=str(body.get("user_id", "")), team_ids=_present(body.get("team_id")))

    @classmethod
    def of_interaction(cls, body: Mapping[str, Any]) -> Self:
        """Read who acts, from every place that names a team: in Bolt's `context.team_id` it is the installed one."""
        user, view, team = body.get("user") or {}, body.get("view") or {}, body.get("team") or {}
        teams = (team.get("id"), user.get("team_id"), view.get("team_id"), view.get("app_installed_team_id"))
        return cls(user_id=str(user.get("id", "")), team_ids=_present(*teams))

    @classmethod
    def of_event(cls, body: Mapping[str, Any]) -> Self:
        """Read who caused an event."""
        event = body.get("event") or {}
        view = event.get("view") or {}
        teams = (body.get("team_id"), event.get("user_team"), view.get("team_id"), view.get("app_installed_team_id"))
        return cls(user_id=str(event.get("user", "")), team_ids=_present(*teams))


class Memberships(Protocol):
    """Knows who is in which user group."""

    async def members_of(self, usergroups: frozenset[str]) -> frozenset[str]:
        """Return the members of all these groups; raises MembershipUnknown when that cannot be known."""


class Gate:
    """The one place that says yes or no; each method raises the AccessRefused that fits, or returns nothing."""

    def __init__(self, allowlist: Allowlist, home: Home, memberships: Memberships) -> None:
        self._allowlist = allowlist
        self.home = home
        self._memberships = memberships

    async def check_actor(self, actor: Actor) -> None:
        """Check that somebody belongs here and is listed. A person of another workspace never is, whatever the id."""
        if not actor.team_ids or not all(self.home.is_home(team_id) for team_id in actor.team_ids):
            raise Outsider
        await self.check_user(actor.user_id)

    async def check_user(self, user_id: str) -> None:
        """Check that a user of this workspace is listed."""
        usergroups = self._allowlist.usergroups_to_ask(user_id)
        members = await self._memberships.members_of(usergroups) if usergroups else frozenset[str]()
        self._allowlist.check_user(user_id, members)

    def check_bucket(self, bucket: str) -> None:
        """Check that the bot serves this bucket."""
        self._allowlist.check_bucket(bucket)

    def check_channel(self, channel_id: str) -> None:
        """Check that the bot may be used in, and post to, this channel."""
        self._allowlist.check_channel(channel_id)

    def check_task(self, task: Task) -> None:
        """Check that this is one of the things that the bot does."""
        self._allowlist.check_task(task)

    def allows_task(self, task: Task) -> bool:
        """Whether this is one of the things that the bot does."""
        return self._allowlist.allows_task(task)

    def allows_bucket(self, bucket: str) -> bool:
        """Whether the bot serves this bucket."""
        return self._allowlist.allows_bucket(bucket)

    def allows_channel(self, channel_id: str) -> bool:
        """Whether the bot may post to this channel."""
        return self._allowlist.allows_channel(channel_id)


def _present(*team_ids: object) -> frozenset[str]:
    return frozenset(str(team_id) for team_id in team_ids if team_id)
