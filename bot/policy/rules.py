"""The rules: each allows a request, or refuses it with a reason. Pure."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final, Self

from bot.model import bucket_globs
from bot.model.catalog import BucketKey
from bot.model.errors import (
    AccessRefused,
    BucketNotAllowed,
    ChannelNotAllowed,
    EnablingNotAllowed,
    MembershipUnknown,
    NotAllowed,
    UsergroupUnreadable,
    VerbNotAllowed,
)
from bot.model.submission import Task


class Verb(StrEnum):
    """What a person wants to do."""

    STORE = "store"
    CHECK = "check"
    STATUS = "status"
    HISTORY = "history"
    ENABLE = "enable"
    ROTATE = "rotate"
    APPROVE = "approve"

    @classmethod
    def of_task(cls, task: Task) -> Self:
        """Return the verb of a task."""
        return cls(task.value)


USUAL_VERBS: Final = frozenset({Verb.STORE, Verb.CHECK, Verb.STATUS, Verb.HISTORY})
"""What a rule without verbs allows. Enabling costs money, and the bot cannot undo it."""

WITH_RESULT: Final = frozenset({Verb.STORE, Verb.CHECK, Verb.ENABLE, Verb.ROTATE})
"""What has a result, which is posted to a channel."""

WITH_TOKEN: Final = frozenset({Verb.STORE, Verb.CHECK, Verb.ROTATE})
"""What a token is submitted for, and a reason given."""

APPROVABLE: Final = frozenset({Verb.STORE, Verb.ENABLE, Verb.ROTATE})
"""What changes something, and so may need an approval."""

APPLIES_TO: Final[Mapping[str, frozenset[Verb]]] = {
    "approvals": APPROVABLE,  # a dry run waits for nobody
    "require_reason": WITH_TOKEN,
    "max_token_lifetime": WITH_TOKEN,
}
"""The verbs without which a term means nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A user of this workspace, and the user groups named by a rule that this user is in.

    `unreadable_usergroups` are those whose members Slack does not show to this bot: refused with a separate reason.
    `unknown_usergroups` are those whose members Slack did not return. A rule that only one of these could meet returns
    MembershipUnknown: neither allowed nor refused, so that no later rule decides instead.
    """

    user_id: str
    usergroups: frozenset[str]
    unknown_usergroups: frozenset[str] = frozenset()
    unreadable_usergroups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Who wants to do what, with which bucket, and where. A part that is None is not checked."""

    person: Person | None = None
    verb: Verb | None = None
    key: BucketKey | None = None
    channel_id: str | None = None

    @property
    def is_whole(self) -> bool:
        """Return whether nothing is left open, so that one rule decides; else, some rule that fits is enough."""
        return self.verb is not None and self.key is not None and self.channel_id is not None


class Who(ABC):
    """Of whom a rule speaks."""

    __slots__ = ()

    @abstractmethod
    def refuse(self, person: Person | None) -> AccessRefused | None:
        """Return the reason for a no, or None; nobody in particular passes."""

    @abstractmethod
    def usergroups_to_ask(self, user_id: str) -> frozenset[str]:
        """Return the user groups whose members must be known to decide on this user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class People(Who):
    """Listed users, and the members of listed user groups."""

    users: frozenset[str] = frozenset()
    usergroups: frozenset[str] = frozenset()

    def refuse(self, person: Person | None) -> AccessRefused | None:
        """Refuse everyone else; if Slack did not list a group, with MembershipUnknown or UsergroupUnreadable."""
        if person is None or person.user_id in self.users or not self.usergroups.isdisjoint(person.usergroups):
            return None
        if not self.usergroups.isdisjoint(person.unknown_usergroups):
            return MembershipUnknown()
        return NotAllowed() if self.usergroups.isdisjoint(person.unreadable_usergroups) else UsergroupUnreadable()

    def usergroups_to_ask(self, user_id: str) -> frozenset[str]:
        """Return none for a listed user, so that an outage of Slack cannot shut this user out."""
        return frozenset() if user_id in self.users else self.usergroups


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Lets some people do some things with some buckets in some channels, and on what terms.

    No channels, or no buckets, means any. `approvals`: how many others must agree. `approvers` says who they are; None
    means anyone whom a rule lets `approve` for the bucket. `approval_channel` is where they are asked; None means where
    the result goes. `max_token_lifetime` refuses tokens that live longer, or that never expire.
    """

    name: str
    who: Who
    verbs: frozenset[Verb] = USUAL_VERBS
    channels: frozenset[str] = frozenset()
    buckets: tuple[str, ...] = ()
    approvals: int = 0
    approvers: Who | None = None
    approval_channel: str | None = None
    require_reason: bool = False
    max_token_lifetime: timedelta | None = None

    def refuse(self, request: Request) -> AccessRefused | None:
        """Return the first reason for a no, or None: the person, then what, where, and with which bucket."""
        return self.who.refuse(request.person) or self.refuse_of_anybody(request)

    def refuse_of_anybody(self, request: Request) -> AccessRefused | None:
        """Return the reason for a no that does not depend on the person, or None."""
        if request.verb is not None and request.verb not in self.verbs:
            return EnablingNotAllowed() if request.verb is Verb.ENABLE else VerbNotAllowed()
        if request.channel_id is not None and self.channels and request.channel_id not in self.channels:
            return ChannelNotAllowed()
        if request.key is not None and not self.serves(request.key):
            return BucketNotAllowed()
        return None

    def asks_less_than(self, other: "Rule", verb: Verb) -> bool:
        """Return whether its terms leave out, or loosen, one of another rule's."""
        mine, its = self.max_token_lifetime, other.max_token_lifetime
        is_longer = its is not None and (mine is None or mine > its)
        is_silent = other.require_reason and not self.require_reason
        is_alone = other.approvals > self.approvals
        return (verb in APPROVABLE and is_alone) or (verb in WITH_TOKEN and (is_silent or is_longer))

    def serves(self, key: BucketKey) -> bool:
        """Return whether it is about this bucket: the whole name matches a glob, and none that begins with `!`."""
        return not self.buckets or bucket_globs.serves(self.buckets, key.bucket)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowlist:
    """The operator's lists, a short form of one rule. People must be listed; no channels or no buckets means any.

    `may_enable`: whether those who may store may also enable catalogs.
    """

    users: frozenset[str]
    usergroups: frozenset[str]
    channels: frozenset[str]
    buckets: tuple[str, ...]
    may_enable: bool = False
    max_token_lifetime: timedelta | None = None

    def rules(self) -> tuple[Rule, ...]:
        """Return the rule."""
        rule = Rule(
            name="R2_CREDENTIAL_ALLOWED_*",
            who=People(users=self.users, usergroups=self.usergroups),
            verbs=USUAL_VERBS | {Verb.ENABLE} if self.may_enable else USUAL_VERBS,
            channels=self.channels,
            buckets=self.buckets,
            max_token_lifetime=self.max_token_lifetime,
        )
        return (rule,)


def find_fitting(rules: Iterable[Rule], request: Request) -> list[Rule]:
    """Return the rules that let somebody do this, whichever person that is."""
    return [rule for rule in rules if rule.refuse_of_anybody(request) is None]


def grants(rules: Iterable[Rule], verb: Verb) -> bool:
    """Return whether any rule lets anyone do this anywhere."""
    return any(verb in rule.verbs for rule in rules)
