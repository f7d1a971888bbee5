"""Which buckets a person means by names and globs, and which of them can be rotated now. Pure."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Self

from bot.model import bucket_globs
from bot.model.catalog import is_bucket_name
from bot.model.minted import MintedState, MintedToken, find_busy_until

RECENT: Final = timedelta(hours=24)
"""A glob leaves out what was rotated that lately: so a fleet that was stopped goes on where it was."""

ALL: Final = "--all"
_SEPARATORS: Final = re.compile(r"[\s,]+")
_DASHES: Final = str.maketrans({"\u2013": "--", "\u2014": "--"})
"""What a phone makes of two hyphens."""


class LeftOut(StrEnum):
    """Why a bucket that was meant is not rotated."""

    UNKNOWN = "unknown"
    """No catalog of that name, or none that this person may see: the two look the same."""
    NO_RIGHT = "no_right"
    NEEDS_APPROVAL = "needs_approval"
    NEEDS_REASON = "needs_reason"
    SWITCHED_OFF = "switched_off"
    AT_WORK = "at_work"
    """Something that was submitted for it has not ended."""
    BUSY = "busy"
    """An earlier token of it is being taken back."""
    RECENT = "recent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was typed. `names` are the buckets that are named in full."""

    globs: tuple[str, ...]

    @classmethod
    def read(cls, text: str) -> Self:
        """Read names and globs, in any order; `--all` is every bucket."""
        words = [word for word in _SEPARATORS.split(text.translate(_DASHES)) if word]
        return cls(globs=tuple("*" if word.lower() in (ALL, "-all") else word for word in words))

    @property
    def names(self) -> frozenset[str]:
        """The buckets that are named in full."""
        return frozenset(glob for glob in self.globs if is_bucket_name(glob))

    @property
    def is_many(self) -> bool:
        """Whether it can be more than one bucket, or is no name at all: several words, or a glob."""
        return len(self.globs) > 1 or any(sign in glob for glob in self.globs for sign in "*?![")

    @property
    def is_valid(self) -> bool:
        """Whether each part is a name or a glob that can match a bucket, and not all of them exclude."""
        return bool(self.globs) and bucket_globs.find_slip(self.globs) is None

    def __str__(self) -> str:
        return " ".join(self.globs)

    def means(self, bucket: str) -> bool:
        """Return whether a bucket is meant."""
        return bucket_globs.serves(self.globs, bucket)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTokens:
    """What is recorded of the tokens that the bot has made, by bucket."""

    proven_at: Mapping[str, datetime]
    """Since when the slot holds one of ours."""
    busy_until: Mapping[str, datetime]

    @classmethod
    def of(cls, tokens: Sequence[MintedToken]) -> Self:
        """Take what matters of all that are left."""
        of_bucket: defaultdict[str, list[MintedToken]] = defaultdict(list)
        for token in tokens:
            of_bucket[token.key.bucket].append(token)
        busy = {bucket: until for bucket, its in of_bucket.items() if (until := find_busy_until(its)) is not None}
        proven = {each.key.bucket: each.changed_at for each in tokens if each.state is MintedState.PROVEN}
        return cls(proven_at=proven, busy_until=busy)


@dataclass(slots=True, kw_only=True)
class FleetPlan:
    """What would be rotated: `own`, whose slots hold a token of ours, and `others`; and what would not be, and why."""

    wanted: Wanted
    own: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    first: set[str] = field(default_factory=set)
    """Those of either that have no token of ours yet."""
    left_out: dict[LeftOut, list[str]] = field(default_factory=dict)
    free_at: datetime | None = None
    """When the last of those that are busy no longer is."""

    def leave_out(self, bucket: str, why: LeftOut) -> None:
        """Note one that is not rotated."""
        self.left_out.setdefault(why, []).append(bucket)

    def take(self, bucket: str, tokens: OwnTokens, now: datetime) -> None:
        """Put a bucket that may be rotated where it belongs."""
        until, proven_at = tokens.busy_until.get(bucket), tokens.proven_at.get(bucket)
        is_named = bucket in self.wanted.names
        if until is not None:
            self.free_at = max(until, self.free_at or until)
            self.leave_out(bucket, LeftOut.BUSY)
        elif proven_at is not None and now - proven_at < RECENT and not is_named:
            self.leave_out(bucket, LeftOut.RECENT)
        else:
            (self.own if proven_at is not None or is_named else self.others).append(bucket)
            if proven_at is None:
                self.first.add(bucket)
