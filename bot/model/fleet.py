"""Values: a fleet, which is many buckets whose credentials are rotated at one press. No input or output."""

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

MOST_BUCKETS: Final = 1000
"""In one fleet: its record names each of them."""

MOST_OPEN: Final = 64
"""Rotations of a fleet that are under way at a time. Each takes a minute where Cloudflare is slow to know a new token,
and the pace allows about forty a minute."""

MOST_FAILED: Final = 5
"""So many buckets in a row that fail, each for a reason of its own, are taken for a reason that all have."""

PROPOSAL_LIFETIME: Final = timedelta(minutes=10)
"""How long the sums of a dry run count: they are about the tokens and the catalogs of that moment."""


class FleetState(StrEnum):
    """How far a fleet has come."""

    PROPOSED = "proposed"
    """Shown to the person, who has not pressed the button."""
    RUNNING = "running"
    STOPPING = "stopping"
    """No rotation is begun any more; those that were are finished."""
    DONE = "done"
    STOPPED = "stopped"


CURRENT: Final = frozenset({FleetState.RUNNING, FleetState.STOPPING})
"""There is at most one such fleet in an account."""


class Alarm(StrEnum):
    """Why a fleet stops by itself; any other word is the code of the error with which a rotation ended."""

    NOT_WORKING = "not_working"
    """The slot was written, and Cloudflare says that its credential does not work."""
    NOT_TESTED = "not_tested"
    """The slot was written, and Cloudflare did not say whether its credential works: nothing is proven."""
    MANY_FAILED = "many_failed"
    TOKEN_NEEDED = "token_needed"  # noqa: S105 - the name of an alarm
    """While a token was disabled to be taken back, a slot did not work: it was enabled again."""
    NO_ROOM = "no_room"
    """The account may have no more tokens, and none is on its way to be taken back."""
    NO_MINTER = "no_minter"
    NO_MESSAGE = "no_message"
    """The message with the button Stop could not be posted."""


SUPERSEDED: Final = "superseded"
"""Why a bucket's rotation ended that has no error: somebody else's is newer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """One row. `buckets` are rotated in this order; `others` are those that a second button of the dry run adds.

    `asked` is what was typed. `alarm` is an Alarm or the code of an error, `alarm_bucket` the bucket that it is about,
    if any. `stopped_by` is who pressed Stop.
    """

    id: str
    account_id: str
    team_id: str
    user_id: str
    channel_id: str
    asked: str
    state: FleetState
    buckets: tuple[str, ...]
    others: tuple[str, ...] = ()
    proposed_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    message_ts: str | None = None
    stopped_by: str | None = None
    alarm: str | None = None
    alarm_bucket: str | None = None
    revision: int = 0

    @property
    def is_current(self) -> bool:
        """Whether it has begun and not ended."""
        return self.state in CURRENT


COLUMNS: Final = tuple(field.name for field in fields(Fleet))


class Outcome(StrEnum):
    """How the rotation of one bucket ended."""

    DONE = "done"
    """The new token is in the slot, and tested."""
    FAILED = "failed"
    """For a reason of this bucket's own; the others go on."""
    ALARM = "alarm"
    """For a reason that others may have as well: the fleet stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one bucket. `why` is an Alarm, the code of an error, or SUPERSEDED; "" where it was done."""

    bucket: str
    outcome: Outcome
    why: str = ""
    ended_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How a fleet stands: what its message says."""

    fleet: Fleet
    ended: tuple[Result, ...] = ()
    """In the order in which they ended."""
    open: int = 0
    waits_for_room: bool = False
    """The account may have no more tokens until earlier ones are taken back."""
    is_over: bool = False

    @property
    def waiting(self) -> int:
        """How many have not begun."""
        return len(self.fleet.buckets) - len(self.ended) - self.open

    def of(self, outcome: Outcome) -> tuple[Result, ...]:
        """Return those that ended like this."""
        return tuple(result for result in self.ended if result.outcome is outcome)
