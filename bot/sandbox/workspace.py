"""The state of the one workspace: its people, channels and messages, and who sees what. Speaks no protocol."""

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Literal, NoReturn, TypeVar

from bot.sandbox.blocks import JsonObject, texts_of

PATIENCE = timedelta(seconds=60)
"""How long to wait for something that is sure to come: after that it never will."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person; `team_id` is set for a person of another company (Slack Connect).

    The flags are Slack's own. `workspaces` are those of an organization that the person is in.
    """

    id: str
    name: str
    real_name: str
    team_id: str | None = None
    deleted: bool = False
    is_bot: bool = False
    is_restricted: bool = False
    is_ultra_restricted: bool = False
    is_stranger: bool = False
    is_invited_user: bool = False
    enterprise_id: str | None = None
    workspaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A conversation; empty `members` means everybody, `dm_with` is the one user of a direct message with the bot.

    `is_im` and `is_mpim` are direct messages of people among themselves: of two, and of several.
    """

    id: str
    name: str
    is_private: bool = False
    is_im: bool = False
    is_mpim: bool = False
    is_ext_shared: bool = False
    is_pending_ext_shared: bool = False
    is_org_shared: bool = False
    is_archived: bool = False
    bot_is_member: bool = False
    members: frozenset[str] = frozenset()
    dm_with: str | None = None
    topic: str = ""

    @property
    def kind(self) -> Literal["im", "mpim", "private", "public"]:
        """What a filter of conversations calls it."""
        if self.is_im or self.dm_with is not None:
            return "im"
        if self.is_mpim:
            return "mpim"
        return "private" if self.is_private else "public"

    @property
    def is_secret(self) -> bool:
        """Whether an app that is not in it does not even learn that it is there."""
        return self.dm_with is None and self.kind != "public"

    def is_seen_by(self, user_id: str) -> bool:
        """Say whether the user finds this conversation in the sidebar."""
        if self.dm_with is not None:
            return user_id == self.dm_with
        return not self.members or user_id in self.members


@dataclass(frozen=True, slots=True, kw_only=True)
class UserGroup:
    """A user group (`S...`) and its members."""

    id: str
    handle: str
    members: tuple[str, ...]
    is_disabled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SlashCommand:
    """A command that the app registered."""

    command: str
    description: str
    usage_hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message as it stands now; `ephemeral_to` is set when only that user sees it, `bot_id` when the app wrote it."""

    ts: str
    channel_id: str
    user_id: str
    text: str
    blocks: tuple[JsonObject, ...] = ()
    bot_id: str | None = None
    ephemeral_to: str | None = None
    client_msg_id: str | None = None
    edited: bool = False

    @property
    def shown_text(self) -> str:
        """All that a person can read in it: the blocks where there are some, the text otherwise."""
        return "\n".join(texts_of(list(self.blocks))) or self.text


DEFAULT_USERS = (
    User(id="U0ADA0001", name="ada", real_name="Ada Lovelace"),
    User(id="U0GRACE01", name="grace", real_name="Grace Hopper"),
    User(id="U0MALLORY", name="mallory", real_name="Mallory"),
)
OUTSIDERS = (
    User(id="U0GUEST01", name="gus", real_name="Gus of the agency", is_restricted=True),
    User(id="U0ONECHAN", name="una", real_name="Una of one channel", is_restricted=True, is_ultra_restricted=True),
    User(id="U0DEPART1", name="dora", real_name="Dora, who left", deleted=True),
    User(id="U0ROBOT01", name="robo", real_name="Robo", is_bot=True),
    User(id="U0INVITED", name="iris", real_name="Iris, invited", is_invited_user=True),
    User(id="U0STRANGE", name="sam", real_name="Sam of elsewhere", team_id="T0PARTNER", is_stranger=True),
    User(id="U0PARTNER", name="oscar", real_name="Oscar of Acme", team_id="T0PARTNER"),
)
"""People whom Slack does not call full members; they are in no workspace until a test adds them."""

DEFAULT_CHANNELS = (
    Channel(id="C0DATAPLT", name="data-platform", bot_is_member=True, topic="Catalogs, pipelines and who broke them"),
    Channel(id="C0ANALYTX", name="analytics", topic="Numbers, and what they mean"),
    Channel(id="G0INCID42", name="incident-42", is_private=True, topic="Late events in the raw zone"),
    Channel(
        id="C0PARTNER", name="partner-acme", is_ext_shared=True, bot_is_member=True, topic="Shared with Acme Analytics"
    ),
    Channel(id="C0OLDWARE", name="old-warehouse", is_archived=True, bot_is_member=True, topic="Kept for reading"),
)
DEFAULT_USER_GROUPS = (UserGroup(id="S0DATAENG", handle="data-engineers", members=("U0ADA0001", "U0GRACE01")),)
DEFAULT_COMMANDS = (SlashCommand(command="/r2-credential", description="Store the credential of an R2 Data Catalog"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeSlackConfig:
    """What the fake Slack knows: one workspace, one installed app, and how the app is reached.

    With `request_url` (or once `FakeSlack.request_url` is set) payloads go there by HTTP, signed with
    `signing_secret`; without, they go over the app's open Socket Mode connections.
    """

    team_id: str = "T0SANDBOX"
    team_name: str = "Northwind Data"
    team_domain: str = "northwind-data"
    app_id: str = "A0R2CREDS"
    app_name: str = "R2 Credential"
    bot_user_id: str = "U0R2BOT01"
    bot_id: str = "B0R2BOT01"
    bot_tokens: tuple[str, ...] = ("xoxb-sandbox-bot",)
    app_token: str | None = "xapp-sandbox-app"  # noqa: S105 - made up, opens nothing but this sandbox
    app_token_scopes: tuple[str, ...] = ("connections:write",)
    signing_secret: str = "5a4d0b0c5a4d0b0c5a4d0b0c5a4d0b0c"  # noqa: S105 - made up, as above
    verification_token: str = "legacy-token-sandbox"  # noqa: S105 - the legacy `token` field, made up
    request_url: str | None = None
    scopes: tuple[str, ...] = (
        *("commands", "chat:write", "channels:read", "groups:read", "usergroups:read"),
        "users:read",
    )
    commands: tuple[SlashCommand, ...] = DEFAULT_COMMANDS
    bot_events: tuple[str, ...] = ("app_home_opened",)
    home_tab_enabled: bool = True
    users: tuple[User, ...] = DEFAULT_USERS
    channels: tuple[Channel, ...] = DEFAULT_CHANNELS
    user_groups: tuple[UserGroup, ...] = DEFAULT_USER_GROUPS
    clock: Callable[[], float] = time.time
    answer_timeout: timedelta = timedelta(seconds=3)
    trigger_lifetime: timedelta = timedelta(seconds=3)


class ImpossibleStepError(AssertionError):
    """A step that no person could take: a field that is not there, an option that is not offered."""


def reject_step(why: str) -> NoReturn:
    """Raise an ImpossibleStepError."""
    raise ImpossibleStepError(why)


class Changes:
    """Wakes everyone who waits when something changes."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def announce(self) -> None:
        """Wake everyone who waits."""
        self._next.set()
        self._next = asyncio.Event()

    def next_change(self) -> asyncio.Event:
        """Return the event that the next change sets."""
        return self._next

    async def wait_until(self, look: Callable[[], T | None], within: timedelta, what: str) -> T:
        """Return what `look` finds, now or after a change; raise AssertionError naming `what` when it stays away."""
        try:
            async with asyncio.timeout(within.total_seconds()):
                while (found := look()) is None:
                    await self._next.wait()
        except TimeoutError:
            message = f"{what} did not come within {within.total_seconds():g} s"
            raise AssertionError(message) from None
        return found


@dataclass(slots=True)
class Workspace:
    """People, channels and messages of the workspace; all its changes are announced."""

    config: FakeSlackConfig
    changes: Changes = field(default_factory=Changes)
    channels: dict[str, Channel] = field(default_factory=dict)
    users: dict[str, User] = field(default_factory=dict)
    user_groups: dict[str, UserGroup] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    _last_ts: int = 0

    def __post_init__(self) -> None:
        self.users = {user.id: user for user in self.config.users}
        self.user_groups = {group.id: group for group in self.config.user_groups}
        direct = (Channel(id=dm_id(user.id), name=user.name, dm_with=user.id) for user in self.config.users)
        self.channels = {channel.id: channel for channel in (*self.config.channels, *direct)}

    def channel_for(self, address: str) -> Channel | None:
        """Return the channel with this id, or the direct message with the user of this id."""
        return self.channels.get(dm_id(address) if address in self.users else address)

    def change_user(self, user: User) -> None:
        """Put a changed person in the place of the one with this id, or add them."""
        self.users[user.id] = user
        direct = Channel(id=dm_id(user.id), name=user.name, dm_with=user.id)
        self.channels.setdefault(direct.id, direct)
        self.changes.announce()

    def change_channel(self, channel: Channel) -> None:
        """Put a changed channel in the place of the one with its id."""
        self.channels[channel.id] = channel
        self.changes.announce()

    def post(self, message: Message) -> Message:
        """Add a message and give it its timestamp, which is its id."""
        posted = replace(message, ts=self._new_ts())
        self.messages.append(posted)
        self.changes.announce()
        return posted

    def replace_message(self, ts: str, text: str, blocks: tuple[JsonObject, ...]) -> None:
        """Replace what a message says."""
        self.messages = [
            replace(message, text=text, blocks=blocks, edited=message.ephemeral_to is None)
            if message.ts == ts
            else message
            for message in self.messages
        ]
        self.changes.announce()

    def delete_message(self, ts: str) -> None:
        """Take a message away."""
        self.messages = [message for message in self.messages if message.ts != ts]
        self.changes.announce()

    def find_message(self, ts: str) -> Message | None:
        """Return the message with this timestamp."""
        return next((message for message in self.messages if message.ts == ts), None)

    def seen_messages(self, channel_id: str, user_id: str | None) -> tuple[Message, ...]:
        """Return what stands in a channel: for everybody, or with what only this user sees."""
        return tuple(
            message
            for message in self.messages
            if message.channel_id == channel_id and message.ephemeral_to in {None, user_id}
        )

    def seen_channels(self, user_id: str) -> tuple[Channel, ...]:
        """Return the conversations that a user finds in the sidebar."""
        return tuple(channel for channel in self.channels.values() if channel.is_seen_by(user_id))

    def _new_ts(self) -> str:
        self._last_ts = max(int(self.config.clock() * 1_000_000), self._last_ts + 1)
        return f"{self._last_ts // 1_000_000}.{self._last_ts % 1_000_000:06d}"


def fits_filter(channel: Channel, wanted: JsonObject | None) -> bool:
    """Say whether a `conversations_select` with this filter offers the channel.

    What excludes shared channels excludes no people from there: direct messages with them are offered
    (https://docs.slack.dev/reference/block-kit/composition-objects/conversation-filter-object).
    """
    wanted = wanted or {}
    if channel.dm_with is not None and wanted.get("exclude_bot_users"):
        return False
    is_channel = channel.kind in {"private", "public"}
    if is_channel and channel.is_ext_shared and wanted.get("exclude_external_shared_channels"):
        return False
    return channel.kind in (wanted.get("include") or ("im", "mpim", "private", "public"))


def dm_id(user_id: str) -> str:
    """Return the id of a user's direct message with the bot."""
    return f"D{user_id[1:]}"


def new_hash(config: FakeSlackConfig) -> str:
    """Return a new hash of a view in Slack's form: a time and something random."""
    return f"{int(config.clock())}.{secrets.token_hex(4)}"


def new_id(prefix: str) -> str:
    """Return a new id in Slack's form: a letter and ten upper-case letters or digits."""
    return prefix + secrets.token_hex(5).upper()
