"""The rules: each allows a request, or refuses it with a reason. Pure."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Self

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
)
from bot.model.submission import Task


class Verb(StrEnum):
    """What a person wants to do."""

    STORE = "store"
    CHECK = "check"
    STATUS = "status"
    HISTORY = "history"
    ENABLE = "enable"

    @classmethod
    def of_task(cls, task: Task) -> Self:
        """Return the verb of a task."""
        return cls(task.value)


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


class Rule(ABC):
    """One condition; all of them must be met."""

    __slots__ = ()

    tells_people_apart: ClassVar[bool] = True
    """Whether it may show a bucket to one person and not to another; where no rule does, what all see is kept once."""

    @abstractmethod
    def refuse(self, request: Request) -> AccessRefused | None:
        """Return the reason for a no, or None."""

    def usergroups_to_ask(self, user_id: str) -> frozenset[str]:  # noqa: ARG002 - for rules that name user groups
        """Return the user groups whose members must be known to decide on this user."""
        return frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlyPeople(Rule):
    """A person must be listed, or be in a listed user group."""

    tells_people_apart: ClassVar[bool] = False
    users: frozenset[str]
    usergroups: frozenset[str]

    def refuse(self, request: Request) -> AccessRefused | None:
        """Refuse everyone else; if Slack did not list a group, with MembershipUnknown or UsergroupUnreadable."""
        person = request.person
        if person is None or person.user_id in self.users or self.usergroups & person.usergroups:
            return None
        if self.usergroups & person.unknown_usergroups:
            return MembershipUnknown()
        return UsergroupUnreadable() if self.usergroups & person.unreadable_usergroups else NotAllowed()

    def usergroups_to_ask(self, user_id: str) -> frozenset[str]:
        """Return none for a listed user, so that an outage of Slack cannot shut this user out."""
        return frozenset() if user_id in self.users else self.usergroups


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlyChannels(Rule):
    """The bot is used in, and posts to, only these channels."""

    tells_people_apart: ClassVar[bool] = False
    channels: frozenset[str]

    def refuse(self, request: Request) -> AccessRefused | None:
        """Return ChannelNotAllowed for any other."""
        is_listed = request.channel_id is None or request.channel_id in self.channels
        return None if is_listed else ChannelNotAllowed()


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlyBuckets(Rule):
    """The bot serves buckets whose whole name matches one of these globs, and none that matches one with `!`."""

    tells_people_apart: ClassVar[bool] = False
    globs: tuple[str, ...]

    def refuse(self, request: Request) -> AccessRefused | None:
        """Return BucketNotAllowed for any other."""
        key = request.key
        is_listed = key is None or bucket_globs.serves(self.globs, key.bucket)
        return None if is_listed else BucketNotAllowed()


@dataclass(frozen=True, slots=True, kw_only=True)
class NoEnabling(Rule):
    """The bot enables no catalogs: that costs money, and the bot cannot undo it."""

    tells_people_apart: ClassVar[bool] = False

    def refuse(self, request: Request) -> AccessRefused | None:
        """Return EnablingNotAllowed for that verb."""
        return EnablingNotAllowed() if request.verb is Verb.ENABLE else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowlist:
    """The operator's lists, a short form of rules. People must be listed; no channels or no buckets means any.

    `may_enable`: whether those who may store may also enable catalogs.
    """

    users: frozenset[str]
    usergroups: frozenset[str]
    channels: frozenset[str]
    buckets: tuple[str, ...]
    may_enable: bool = False

    def rules(self) -> tuple[Rule, ...]:
        """Return the rules; the reason of the first that refuses is the one shown."""
        return (
            OnlyPeople(users=self.users, usergroups=self.usergroups),
            *([] if self.may_enable else [NoEnabling()]),
            *([OnlyChannels(channels=self.channels)] if self.channels else []),
            *([OnlyBuckets(globs=self.buckets)] if self.buckets else []),
        )
