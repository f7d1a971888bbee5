"""When the schedule rotates a bucket's credential: from what is stored alone, and so the same in every process. Pure.

Each bucket has moments of its own, found by a hash of its name: those that are due at once, such as 500 that were
rotated in one go, or all of them after a month in which the bot was down, are rotated one after the other.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from bot.model.catalog import StoredCredential
from bot.model.clock import FURTHEST_BACK

START_FOR: Final = timedelta(minutes=10)
"""How long after such a moment a rotation may still begin: it is looked for every minute."""

LONGEST_RHYTHM: Final = timedelta(hours=4)
"""A bucket's moments are at most this far apart. Whatever was missed is done within this time."""

SHORTEST_INTERVAL: Final = timedelta(hours=6)

FIRST_PAUSE: Final = timedelta(hours=1)
LATER_PAUSE: Final = timedelta(days=1)
"""How long a failed rotation is not tried again: the first time, and from then on."""

_PULL: Final = 8
_OF_LIFE: Final = 2 / 3
"""A token lives one and a half intervals, unless a rule allows less (`bot.rotation.lifetime`)."""

_OVERDUE: Final = 1.25
_NEARLY_ALL_ITS_LIFE: Final = 1.45
_SURELY_NOT_DUE: Final = 0.9
_MOMENTS: Final = 8
"""At least so many of a bucket's moments are in an interval."""

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_REMEMBERED: Final = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationFailure:
    """That a bucket could not be rotated since its credential was stored: since when, how often, and why the last time.

    `code` is that of the last error, if there was one.
    """

    bucket: str
    since: datetime
    failed_at: datetime
    failures: int
    code: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """The schedule with this interval. Times of a clock that was far ahead when they were recorded count as past."""

    every: timedelta

    def interval_of(self, credential: StoredCredential) -> timedelta:
        """Return how long this token is used: shorter than the interval if a rule lets it live less."""
        if credential.expires_at is None:
            return self.every
        of_life = (credential.expires_at - credential.stored_at) * _OF_LIFE
        return max(min(self.every, of_life), SHORTEST_INTERVAL)

    def due_at(self, credential: StoredCredential) -> datetime:
        """Return when it has been used for about the interval, give or take a sixteenth.

        Each time, it is moved by an eighth of the way to the bucket's own place in the interval. So all are spread over
        it in the end, and none is replaced much too early or late for that.
        """
        interval = self.interval_of(credential)
        used_up_at = credential.stored_at + interval
        past_its_place = (used_up_at - _EPOCH - interval * _fraction(credential.bucket, "place")) % interval
        away = past_its_place if past_its_place < interval / 2 else past_its_place - interval
        return used_up_at - away / _PULL

    def overdue_at(self, credential: StoredCredential) -> datetime:
        """Return from when on people are told that it was not rotated."""
        return credential.stored_at + self.interval_of(credential) * _OVERDUE

    def next_at(self, credential: StoredCredential, failure: RotationFailure | None, now: datetime) -> datetime:
        """Return when it is rotated next, if nothing else keeps it from that; not later than now: at once."""
        earliest = self._find_earliest(credential, failure, now)
        last = now - self._since_moment(credential, now)
        if last >= earliest and now - last < START_FOR:
            return last
        earliest = max(earliest, now)
        since = self._since_moment(credential, earliest)
        return earliest - since + self._rhythm(credential) if since else earliest

    def turn(self, credential: StoredCredential, failure: RotationFailure | None, now: datetime) -> int | None:
        """Return the number of the turn if it is to be rotated now, else None; the same in every process."""
        if self._find_earliest(credential, failure, now) > now:
            return None
        at = self.next_at(credential, failure, now)
        return int((at - _EPOCH).total_seconds()) if at <= now else None

    def may_be_due(self, credential: StoredCredential, now: datetime) -> bool:
        """Return False for most of those that are surely not due: to ask more of 10,000 takes too long."""
        age = now - credential.stored_at
        if age >= self.every * _SURELY_NOT_DUE or age <= -FURTHEST_BACK:
            return True
        life = None if credential.expires_at is None else credential.expires_at - credential.stored_at
        return life is not None and life < self.every * _NEARLY_ALL_ITS_LIFE

    def _find_earliest(self, credential: StoredCredential, failure: RotationFailure | None, now: datetime) -> datetime:
        times = [self.due_at(credential)] if credential.stored_at - now < FURTHEST_BACK else []
        if failure is not None and failure.failed_at - now < FURTHEST_BACK:
            times.append(failure.failed_at + (FIRST_PAUSE if failure.failures <= 1 else LATER_PAUSE))
        return max(times, default=_EPOCH)

    def _rhythm(self, credential: StoredCredential) -> timedelta:
        return min(LONGEST_RHYTHM, self.interval_of(credential) / _MOMENTS)

    def _since_moment(self, credential: StoredCredential, at: datetime) -> timedelta:
        """Return how long ago the last moment of this bucket was."""
        rhythm = self._rhythm(credential)
        return (at - _EPOCH - rhythm * _fraction(credential.bucket, "moment")) % rhythm


@lru_cache(_REMEMBERED)
def _fraction(bucket: str, purpose: str) -> float:
    """Return a number from 0 to 1, always the same for this name."""
    digest = blake2b(bucket.encode(), digest_size=8, person=purpose.encode()).digest()
    return int.from_bytes(digest) / 2**64
