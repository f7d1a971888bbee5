"""Decides whether a person may do something, with which bucket and in which channel."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bot.model.catalog import BucketKey
from bot.model.errors import (
    AccessRefused,
    MembershipUnknown,
    NotAMember,
    OtherWorkspace,
    Outsider,
    PersonUnknown,
    UsergroupUnreadable,
)
from bot.policy.profile import Profile
from bot.policy.rules import Person, Request, Rule, Verb


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The workspace in which the bot is installed, and its Enterprise Grid organization if any."""

    team_id: str
    enterprise_id: str | None
    is_org_wide: bool = False
    """Whether the bot is installed in the whole organization, and so in no single home workspace."""

    def is_home(self, team_id: str | None) -> bool:
        """Return whether a user's team id from Slack means this installation; user.team_id may be an `E...`."""
        return team_id is not None and team_id in (self.team_id, self.enterprise_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """The acting user as Slack names it: the id, and every team and organization in the payload."""

    user_id: str
    team_ids: frozenset[str]
    enterprise_ids: frozenset[str] = frozenset()


class Memberships(Protocol):
    """Looks up the members of user groups."""

    async def members_of(self, usergroup: str) -> frozenset[str]:
        """Return the members of a group; raises MembershipUnknown, or UsergroupUnreadable if waiting does not help."""


class People(Protocol):
    """Looks up what Slack says of people."""

    async def profile_of(self, user_id: str) -> Profile | None:
        """Return that, or None if Slack does not let the bot know; raises PersonUnknown if it does not answer."""


def _keep_quiet(_: AccessRefused) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """Decides what one person may do, without further requests. Made for each event; its `outlook` may keep it."""

    person: Person
    rules: Sequence[Rule]
    note: Callable[[AccessRefused], None] = _keep_quiet

    def require(self, verb: Verb, key: BucketKey | None, channel_id: str | None) -> None:
        """Raise the AccessRefused that applies; a bucket or channel that is None is not checked."""
        refusal = self.refusal(verb, key, channel_id)
        if refusal is not None:
            self.note(refusal)
            raise refusal

    def refusal(self, verb: Verb, key: BucketKey | None, channel_id: str | None) -> AccessRefused | None:
        """Return what `require` would raise."""
        return _refuse(self.rules, Request(person=self.person, verb=verb, key=key, channel_id=channel_id))

    @property
    def outlook(self) -> Person | None:
        """What decides which buckets this person sees: None if everyone who is admitted sees the same ones."""
        return self.person if any(rule.tells_people_apart for rule in self.rules) else None

    def sees(self, key: BucketKey) -> bool:
        """Return whether this person may see a bucket in a table, a list or a button."""
        return _refuse(self.rules, Request(person=self.person, key=key)) is None


class Gate:
    """The only place that decides who may do what."""

    def __init__(
        self,
        rules: Sequence[Rule],
        home: Home,
        memberships: Memberships,
        people: People,
        note: Callable[[AccessRefused], None] = _keep_quiet,
    ) -> None:
        """Take `note`, called for each person who is refused at an entrance."""
        self._note = note
        self._rules = rules
        self.home = home
        self._memberships = memberships
        self._people = people

    async def permit(self, actor: Actor, *, was_here: bool = False) -> Permit:
        """Admit a person who belongs here and whom a rule names; raises AccessRefused.

        A person of another company is never admitted, whatever the id. A person who acts from another workspace of our
        own organization is admitted if the caller knows that the same user `was_here`.
        """
        try:
            return await self._permit(actor, was_here=was_here)
        except AccessRefused as refusal:
            self._note(refusal)
            raise

    async def _permit(self, actor: Actor, *, was_here: bool) -> Permit:
        is_home = bool(actor.team_ids) and all(self.home.is_home(team_id) for team_id in actor.team_ids)
        if not is_home and not self.is_of_organization(actor):
            raise Outsider
        if not is_home and not was_here:
            raise OtherWorkspace
        return await self.permit_user(actor.user_id)

    def is_of_organization(self, actor: Actor) -> bool:
        """Return whether a payload names only our organization, and workspaces that can belong to it.

        That alone admits no one: Slack does not say which workspaces belong to it, and may name the bot's own
        organization when an outsider presses a button.
        """
        is_ours = self.home.enterprise_id is not None and actor.enterprise_ids == {self.home.enterprise_id}
        teams_fit = all(self.home.is_home(team_id) or team_id.startswith("T") for team_id in actor.team_ids)
        return is_ours and bool(actor.team_ids) and teams_fit

    async def permit_user(self, user_id: str) -> Permit:
        """Admit a full member of this workspace whom a rule names.

        Raises AccessRefused, of which MembershipUnknown and PersonUnknown pass.
        """
        asked = sorted(frozenset[str]().union(*(rule.usergroups_to_ask(user_id) for rule in self._rules)))
        # Both ask Slack: in sequence they could take longer than Slack waits for the answer.
        unfit, members_of = await asyncio.gather(
            self._judge_person(user_id), asyncio.gather(*map(self._ask_members, asked))
        )
        answers = dict(zip(asked, members_of, strict=True))
        person = Person(
            user_id=user_id,
            usergroups=frozenset(
                group for group, members in answers.items() if isinstance(members, frozenset) and user_id in members
            ),
            unknown_usergroups=_which(answers, MembershipUnknown),
            unreadable_usergroups=_which(answers, UsergroupUnreadable),
        )
        refusals = [each for each in (_refuse(self._rules, Request(person=person)), unfit) if each is not None]
        if refusals:
            raise min(refusals, key=lambda each: each.retryable)  # no one waits for what is refused anyway
        return Permit(person=person, rules=self._rules, note=self._note)

    async def sees(self, user_id: str, key: BucketKey) -> bool:
        """Return whether a user may currently see a bucket; raises MembershipUnknown, PersonUnknown."""
        try:
            permit = await self.permit_user(user_id)
        except AccessRefused as refusal:
            if refusal.retryable:
                raise
            return False
        return permit.sees(key)

    async def _judge_person(self, user_id: str) -> AccessRefused | None:
        """Return why a person who may be listed is refused all the same: no full member, or not known now."""
        try:
            profile = await self._people.profile_of(user_id)
        except PersonUnknown as refusal:
            return refusal
        is_member = profile is None or profile.is_member_of(self.home.team_id, self.home.enterprise_id)
        return None if is_member else NotAMember()

    async def _ask_members(self, usergroup: str) -> frozenset[str] | AccessRefused:
        """Return the members, or the refusal: one unreadable group must not shut out the members of others."""
        try:
            return await self._memberships.members_of(usergroup)
        except (MembershipUnknown, UsergroupUnreadable) as refusal:
            return refusal

    def require_of_anybody(self, verb: Verb, key: BucketKey, channel_id: str) -> None:
        """Raise the AccessRefused that applies to everyone, if there is one."""
        refusal = _refuse(self._rules, Request(verb=verb, key=key, channel_id=channel_id))
        if refusal is not None:
            raise refusal

    def serves(self, key: BucketKey) -> bool:
        """Return whether the bot serves this bucket for anyone."""
        return is_served(self._rules, key)

    def allows_channel(self, channel_id: str) -> bool:
        """Return whether the bot may post to this channel for anyone."""
        return _refuse(self._rules, Request(channel_id=channel_id)) is None


def is_served(rules: Sequence[Rule], key: BucketKey) -> bool:
    """Return whether these rules let the bot serve a bucket for anyone."""
    return _refuse(rules, Request(key=key)) is None


def _which(answers: Mapping[str, object], kind: type[AccessRefused]) -> frozenset[str]:
    return frozenset(group for group, answer in answers.items() if isinstance(answer, kind))


def _refuse(rules: Sequence[Rule], request: Request) -> AccessRefused | None:
    return next((refusal for rule in rules if (refusal := rule.refuse(request)) is not None), None)
