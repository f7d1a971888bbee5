"""Decides who may do what from where: the rules, and the facts that only Slack knows."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from bot.model.errors import AccessRefused, Outsider
from bot.model.submission import BucketKey, Task
from bot.policy.rules import Person, Request, Rule, Verb


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """What one person may do, decided without asking anybody. Made anew at each entrance, and not kept."""

    person: Person
    rules: Sequence[Rule]

    def require(self, verb: Verb, key: BucketKey | None, channel_id: str | None) -> None:
        """Raise the AccessRefused that fits; a bucket or channel that is None is not asked about."""
        refusal = self.refusal(verb, key, channel_id)
        if refusal is not None:
            raise refusal

    def refusal(self, verb: Verb, key: BucketKey | None, channel_id: str | None) -> AccessRefused | None:
        """Return what `require` would raise."""
        return _refuse(self.rules, Request(person=self.person, verb=verb, key=key, channel_id=channel_id))

    def sees(self, key: BucketKey) -> bool:
        """Whether this person may know of a bucket: in a table, a list or a button."""
        return _refuse(self.rules, Request(person=self.person, key=key)) is None


class Gate:
    """The one place that says who may what."""

    def __init__(self, rules: Sequence[Rule], home: Home, memberships: Memberships) -> None:
        self._rules = rules
        self.home = home
        self._memberships = memberships

    async def permit(self, actor: Actor) -> Permit:
        """Let somebody in who belongs here and whom a rule names; raises AccessRefused.

        A person of another workspace never is let in, whatever the id.
        """
        if not actor.team_ids or not all(self.home.is_home(team_id) for team_id in actor.team_ids):
            raise Outsider
        return await self.permit_user(actor.user_id)

    async def permit_user(self, user_id: str) -> Permit:
        """Let in a user of this workspace whom a rule names; raises AccessRefused (MembershipUnknown passes)."""
        asked = sorted(frozenset[str]().union(*(rule.usergroups_to_ask(user_id) for rule in self._rules)))
        members = await asyncio.gather(*(self._memberships.members_of(frozenset({group})) for group in asked))
        usergroups = frozenset(group for group, users in zip(asked, members, strict=True) if user_id in users)
        person = Person(user_id=user_id, usergroups=usergroups)
        refusal = _refuse(self._rules, Request(person=person))
        if refusal is not None:
            raise refusal
        return Permit(person=person, rules=self._rules)

    def serves(self, key: BucketKey) -> bool:
        """Whether the bot serves this bucket for anybody at all."""
        return _refuse(self._rules, Request(key=key)) is None

    def allows_channel(self, channel_id: str) -> bool:
        """Whether the bot may post to this channel for anybody at all."""
        return _refuse(self._rules, Request(channel_id=channel_id)) is None

    # To be deleted: what delivery and the stories call until they ask a permit.

    async def check_actor(self, actor: Actor) -> None:
        """Raise what `permit` raises."""
        await self.permit(actor)

    async def check_user(self, user_id: str) -> None:
        """Raise what `permit_user` raises."""
        await self.permit_user(user_id)

    def check_bucket(self, bucket: str) -> None:
        """Raise BucketNotAllowed for a bucket that the bot does not serve."""
        self._check(Request(key=BucketKey(account_id="", bucket=bucket)))

    def check_channel(self, channel_id: str) -> None:
        """Raise ChannelNotAllowed for a channel that the bot may not post to."""
        self._check(Request(channel_id=channel_id))

    def check_task(self, task: Task) -> None:
        """Raise EnablingNotAllowed for what the bot does not do."""
        self._check(Request(verb=Verb.of_task(task)))

    def allows_bucket(self, bucket: str) -> bool:
        """Whether the bot serves this bucket."""
        return self.serves(BucketKey(account_id="", bucket=bucket))

    def _check(self, request: Request) -> None:
        refusal = _refuse(self._rules, request)
        if refusal is not None:
            raise refusal


def _refuse(rules: Sequence[Rule], request: Request) -> AccessRefused | None:
    return next((refusal for rule in rules if (refusal := rule.refuse(request)) is not None), None)


def _present(*team_ids: object) -> frozenset[str]:
    return frozenset(str(team_id) for team_id in team_ids if team_id)
