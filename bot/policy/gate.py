"""Decides whether a person may do something, with which bucket and in which channel."""

import asyncio
from collections.abc import Mapping, Sequence
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
from bot.policy.attempt import Note, RefusedAttempt, keep_quiet
from bot.policy.decision import find_named, refuse, refuse_entrance
from bot.policy.permit import Permit
from bot.policy.profile import Profile
from bot.policy.rules import WITH_RESULT, Person, Request, Rule, Verb, Who


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


class Profiles(Protocol):
    """Looks up what Slack says of people."""

    async def profile_of(self, user_id: str) -> Profile | None:
        """Return that, or None if Slack does not let the bot know; raises PersonUnknown if it does not answer."""


class Gate:
    """The only place that decides who may do what. Its rules can be replaced at any time, all at once."""

    def __init__(
        self,
        rules: Sequence[Rule],
        home: Home,
        memberships: Memberships,
        profiles: Profiles,
        note: Note = keep_quiet,
    ) -> None:
        """Take `note`, called for each person who is refused at an entrance."""
        self._note = note
        self.home = home
        self._memberships = memberships
        self._profiles = profiles
        self.follow(rules)

    @property
    def rules(self) -> Sequence[Rule]:
        """The rules that hold now."""
        return self._rules

    def follow(self, rules: Sequence[Rule]) -> None:
        """Decide by these rules from now on; a permit that was given goes by those of its time."""
        self._rules, self._named = tuple(rules), find_named(rules)

    async def permit(self, actor: Actor, *, was_here: bool = False) -> Permit:
        """Admit a person who belongs here and whom a rule names; raises AccessRefused.

        A person of another company is never admitted, whatever the id. A person who acts from another workspace of our
        own organization is admitted if the caller knows that the same user `was_here`.
        """
        try:
            return await self._permit(actor, was_here=was_here)
        except AccessRefused as refusal:
            team_id = min(actor.team_ids, default="")
            self._note(RefusedAttempt(user_id=actor.user_id, team_id=team_id, refusal=refusal))
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
        """Admit a full member of this workspace whom a rule names, also as an approver; raises AccessRefused.

        MembershipUnknown and PersonUnknown pass.
        """
        rules, named = self._rules, self._named  # the same ones before and after Slack has answered
        # Both ask Slack: in sequence they could take longer than Slack waits for the answer.
        unfit, person = await asyncio.gather(self.judge_person(user_id), self.get_to_know(user_id, named))
        refusals = [each for each in (refuse_entrance(named, person), unfit) if each is not None]
        if refusals:
            raise min(refusals, key=lambda each: each.retryable)  # no one waits for what is refused anyway
        return Permit(person=person, rules=rules, note=self._note)

    async def get_to_know(self, user_id: str, named: Sequence[Who] | None = None) -> Person:
        """Return a user with the groups that rules name, as far as Slack says who is in them. Admits no one."""
        named = self._named if named is None else named
        asked = sorted(frozenset[str]().union(*(who.usergroups_to_ask(user_id) for who in named)))
        answers = dict(zip(asked, await asyncio.gather(*map(self._ask_members, asked)), strict=True))
        return Person(
            user_id=user_id,
            usergroups=frozenset(
                group for group, members in answers.items() if isinstance(members, frozenset) and user_id in members
            ),
            unknown_usergroups=_which(answers, MembershipUnknown),
            unreadable_usergroups=_which(answers, UsergroupUnreadable),
        )

    async def sees(self, user_id: str, key: BucketKey) -> bool:
        """Return whether a user may currently see a bucket; raises MembershipUnknown, PersonUnknown."""
        try:
            permit = await self.permit_user(user_id)
        except AccessRefused as refusal:
            if refusal.retryable:
                raise
            return False
        unseen = refuse(permit.rules, Request(person=permit.person, key=key))
        if isinstance(unseen, MembershipUnknown):
            raise unseen
        return unseen is None

    async def judge_person(self, user_id: str) -> AccessRefused | None:
        """Return why a person who may be listed is refused all the same: no full member, or not known now."""
        try:
            profile = await self._profiles.profile_of(user_id)
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
        refusal = refuse(self._rules, Request(verb=verb, key=key, channel_id=channel_id))
        if refusal is not None:
            raise refusal

    def rule_of_anybody(self, verb: Verb, key: BucketKey, channel_id: str) -> Rule:
        """Return the first rule that lets anyone do this; raises the AccessRefused that applies to everyone."""
        self.require_of_anybody(verb, key, channel_id)
        request = Request(verb=verb, key=key, channel_id=channel_id)
        return next(rule for rule in self._rules if rule.refuse(request) is None)

    def serves(self, key: BucketKey) -> bool:
        """Return whether the bot serves this bucket for anyone."""
        return is_served(self._rules, key)

    def allows_channel(self, channel_id: str) -> bool:
        """Return whether the bot may post to this channel for anyone: a result, or a request for an approval.

        Whose result, and of which bucket, is for a permit to say.
        """
        is_for_approvals = any(channel_id == rule.approval_channel for rule in self._rules)
        return is_for_approvals or _allow(self._rules, WITH_RESULT, Request(channel_id=channel_id))


def is_served(rules: Sequence[Rule], key: BucketKey) -> bool:
    """Return whether these rules let the bot serve a bucket for anyone."""
    return _allow(rules, frozenset(Verb) - {Verb.APPROVE}, Request(key=key))


def _allow(rules: Sequence[Rule], verbs: frozenset[Verb], request: Request) -> bool:
    """Return whether anyone may do one of these things: a rule for others, such as approving, opens nothing."""
    return any(rule.verbs & verbs and rule.refuse(request) is None for rule in rules)


def _which(answers: Mapping[str, object], kind: type[AccessRefused]) -> frozenset[str]:
    return frozenset(group for group, answer in answers.items() if isinstance(answer, kind))
