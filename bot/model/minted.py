"""The tokens that the bot has made itself: how far each has come. Values only, and never the value of a token."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from bot.model.catalog import BucketKey
from bot.model.submission import Pending

SETTLE_AFTER: Final = timedelta(minutes=15)
"""After this long, a create whose answer was lost has landed or never will, and Cloudflare lists what it made."""

PROBE_AFTER: Final = timedelta(seconds=90)
"""How long a token is disabled before the slot is tested: Cloudflare needs up to a minute to know that everywhere."""

LOOK_AGAIN_AFTER: Final = timedelta(seconds=210)
"""How long after a token was enabled again that is looked at: a late "disable" may have come after it."""

TEST_LIFETIME: Final = timedelta(minutes=5)
"""How long a test of the slot counts; a token that is deleted later needs another one."""

HEADROOM: Final = 10
"""So many of the API tokens that an account may have are left to everyone else."""

PRESENT_FOR: Final = timedelta(minutes=5)
"""A minter that was not seen for longer counts as stopped."""

MOST_UNSETTLED: Final = 2
"""So many creates of a bucket may have an unknown outcome: each may have made a token."""


class MintedState(StrEnum):
    """The state of a token that the bot made, or meant to make: docs/rotation.md."""

    INTENDED = "intended"
    """Its name is recorded, and the request may be out."""
    CREATED = "created"
    SENT = "sent"
    """It may be in the slot."""
    IN_SLOT = "in_slot"
    """Cloudflare took it for the slot."""
    PROVEN = "proven"
    """Cloudflare tested the slot after that: the credential works."""
    RETIRED = "retired"
    """A newer one is proven, or it was never sent: it is taken back when it is due."""
    DISABLING = "disabling"
    DISABLED = "disabled"
    """The slot is tested when it is due: if it works, it does not hold this token."""
    TESTED = "tested"
    """The slot works without it."""
    DELETING = "deleting"
    DEAD = "dead"
    UNDOING = "undoing"
    """The slot does not work without it: it is enabled again."""
    UNDONE = "undone"
    KEPT = "kept"
    """Made by this installation, and in nobody's hands: taken back once a newer one is proven."""
    LOST = "lost"
    """The answer to its create was lost: when it is due, Cloudflare lists it or it was never made."""
    GONE = "gone"
    """It was never made."""


OVER: Final = frozenset({MintedState.DEAD, MintedState.GONE})
"""Nothing is left at Cloudflare."""

UNSETTLED: Final = frozenset({MintedState.INTENDED, MintedState.LOST})

ON_ITS_WAY: Final = frozenset({MintedState.INTENDED, MintedState.CREATED, MintedState.SENT, MintedState.IN_SLOT})
"""It belongs to a submission that has not ended, or has ended in doubt."""

REPLACEABLE: Final = frozenset({MintedState.SENT, MintedState.IN_SLOT, MintedState.PROVEN, MintedState.KEPT})
"""Retired once a newer token of the bucket is proven."""

TAKEN_BACK: Final = frozenset(
    {
        MintedState.RETIRED,
        MintedState.DISABLING,
        MintedState.DISABLED,
        MintedState.TESTED,
        MintedState.DELETING,
        MintedState.UNDOING,
        MintedState.UNDONE,
    }
)
"""On the way to its end. A rotation that is asked for meanwhile has to wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MintedToken:
    """One row of the log that is written ahead of each call; `name` is its name at Cloudflare.

    `due_at` is when the next step is due, for a retired one when it is taken back. `was_sent`: whether a request that
    stores it may have left. `undone` counts how often it was enabled again. `trouble` is the code of the error that
    keeps the next step from being done.
    """

    name: str
    key: BucketKey
    submission_id: str | None
    state: MintedState
    token_id: str | None
    scope: str
    epoch: int
    intended_at: datetime
    due_at: datetime
    changed_at: datetime
    disabled_at: datetime | None = None
    tested_at: datetime | None = None
    expires_at: datetime | None = None
    was_sent: bool = False
    undone: int = 0
    trouble: str | None = None
    revision: int = 0

    @property
    def gone_at(self) -> datetime:
        """When one that is being taken back is gone at the earliest: it is disabled for a while before that."""
        is_on = self.state in (MintedState.RETIRED, MintedState.DISABLING)
        return self.due_at + PROBE_AFTER if is_on else self.due_at


def find_busy_until(tokens: Iterable[MintedToken]) -> datetime | None:
    """Return until when an earlier token of a bucket is being taken back, or None: then the bucket can be rotated.

    One that Cloudflare does not let the bot take back now keeps nobody from rotating: that may never end.
    """
    on_the_way = (each for each in tokens if each.state in TAKEN_BACK and each.was_sent and each.trouble is None)
    return max((each.gone_at for each in on_the_way), default=None)


COLUMNS: Final = tuple(field.name for field in fields(MintedToken) if field.name != "key")


@dataclass(frozen=True, slots=True, kw_only=True)
class MintingLease:
    """The right to speak to Cloudflare about a bucket's tokens, until another process takes it."""

    key: BucketKey
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MintingWork:
    """What the holder of a lease finds: the bucket's tokens, the oldest first, and who waits for a new one."""

    lease: MintingLease
    tokens: tuple[MintedToken, ...]
    waiting: Pending | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the minter last found at Cloudflare; every process reads it. `seen_at` is when a minter was last there.

    `tokens` counts all tokens of the account. `trouble` is the code of the error that keeps it from minting.
    """

    seen_at: datetime
    checked_at: datetime | None = None
    tokens: int | None = None
    has_groups: bool | None = None
    trouble: str | None = None


def is_minter_present(standing: Standing | None, now: datetime) -> bool:
    """Return whether a process that makes tokens was seen lately."""
    return standing is not None and now - standing.seen_at < PRESENT_FOR
