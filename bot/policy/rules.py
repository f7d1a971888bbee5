"""Who may store credentials, for which buckets, from which channels. Pure: asks nobody."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bot.model.errors import BucketNotAllowed, ChannelNotAllowed, EnablingNotAllowed, NotAllowed
from bot.model.submission import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowlist:
    """The operator's lists. Users and user groups: somebody must be listed. Channels and buckets: empty means any.

    `may_enable`: whether those who may store may also enable catalogs.
    """

    users: frozenset[str]
    usergroups: frozenset[str]
    channels: frozenset[str]
    buckets: tuple[str, ...]
    may_enable: bool = False

    def usergroups_to_ask(self, user_id: str) -> frozenset[str]:
        """Return the user groups whose members must be known to decide on this user; none when the user is listed."""
        return frozenset() if user_id in self.users else self.usergroups

    def check_user(self, user_id: str, members: AbstractSet[str]) -> None:
        """Raise NotAllowed unless the user is listed or among the members of the listed user groups."""
        if user_id not in self.users and user_id not in members:
            raise NotAllowed

    def check_channel(self, channel_id: str) -> None:
        """Raise ChannelNotAllowed when channels are listed and this is none of them."""
        if not self.allows_channel(channel_id):
            raise ChannelNotAllowed

    def check_bucket(self, bucket: str) -> None:
        """Raise BucketNotAllowed when buckets are listed and none of the globs matches."""
        if not self.allows_bucket(bucket):
            raise BucketNotAllowed

    def check_task(self, task: Task) -> None:
        """Raise EnablingNotAllowed for enabling a catalog, unless the operator wants that."""
        if not self.allows_task(task):
            raise EnablingNotAllowed

    def allows_task(self, task: Task) -> bool:
        """Whether this is one of the things that the bot does."""
        return task is not Task.ENABLE or self.may_enable

    def allows_bucket(self, bucket: str) -> bool:
        """Whether the bot serves this bucket."""
        return not self.buckets or any(fnmatchcase(bucket, glob) for glob in self.buckets)

    def allows_channel(self, channel_id: str) -> bool:
        """Whether the bot is used in this channel."""
        return not self.channels or channel_id in self.channels
