"""Decides whether a person may do something, with which bucket and in which channel."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bot.model.catalog import BucketKey
from bot.model.errors import AccessRefused, MembershipUnknown, Outsider
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


class Memberships(Protocol):
    """Knows who is in which user group."""

    async def members_of(self, usergroup: str) -> frozenset[str]:
        """Return the members of a group; raises MembershipUnknown when that cannot be known."""


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
        answers = dict(zip(asked, await asyncio.gather(*map(self._ask_members, asked)), strict=True))
        person = Person(
            user_id=user_id,
            usergroups=frozenset(group for group, members in answers.items() if members and user_id in members),
            unknown_usergroups=frozenset(group for group, members in answers.items() if members is None),
        )
        refusal = _refuse(self._rules, Request(person=person))
        if refusal is not None:
            raise refusal
        return Permit(person=person, rules=self._rules)

    async def sees(self, user_id: str, key: BucketKey) -> bool:
        """Whether a user may, by now, know of a bucket; raises MembershipUnknown."""
        try:
            permit = await self.permit_user(user_id)
        except MembershipUnknown:
            raise
        except AccessRefused:
            return False
        return permit.sees(key)

    async def _ask_members(self, usergroup: str) -> frozenset[str] | None:
        """Return None where Slack does not tell: one group that is silent must not shut out the members of others."""
        try:
            return await self._memberships.members_of(usergroup)
        except MembershipUnknown:
            return None

    def require_of_anybody(self, verb: Verb, key: BucketKey, channel_id: str) -> None:
        """Raise the AccessRefused that fits for what nobody may, whoever asks."""
        refusal = _refuse(self._rules, Request(verb=verb, key=key, channel_id=channel_id))
        if refusal is not None:
            raise refusal

    def serves(self, key: BucketKey) -> bool:
        """Whether the bot serves this bucket for anybody at all."""
        return _refuse(self._rules, Request(key=key)) is None

    def allows_channel(self, channel_id: str) -> bool:
        """Whether the bot may post to this channel for anybody at all."""
        return _refuse(self._rules, Request(channel_id=channel_id)) is None


def _refuse(rules: Sequence[Rule], request: Request) -> AccessRefused | None:
    return next((refusal for rule in rules if (refusal := rule.refuse(request)) is not None), None)
