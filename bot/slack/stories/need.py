"""What a catalog needs of a person, which its place in the table follows from. Pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from bot.model.catalog import Catalog, CatalogStatus, CredentialStatus, StoredCredential
from bot.model.timetable import RotationFailure, Timetable
from bot.slack.messages.explanation import EXPIRES_SOON


class Need(IntEnum):
    """What a catalog needs, most urgent first."""

    BROKEN = 0
    EXPIRED = 1
    OVERDUE = 2
    """The schedule has not rotated it in time."""
    NOT_ROTATED = 3
    """The last rotation failed; there is time left."""
    EXPIRES_SOON = 4
    EMPTY = 5
    SWITCHED_OFF = 6
    NOT_KNOWN = 7
    NOTHING = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """How a bucket is rotated: whether its token is the bot's own, when the schedule replaces it, and what failed."""

    is_ours: bool = False
    timetable: Timetable | None = None
    failure: RotationFailure | None = None


NOT_ROTATED = Rotation()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One catalog, the credential that the bot last stored in it, if any, and how that is rotated."""

    catalog: Catalog
    stored: StoredCredential | None
    need: Need
    rotation: Rotation = NOT_ROTATED

    @property
    def expires_at(self) -> datetime | None:
        """When what the bot stored expires, if that is in the slot."""
        return self.stored.expires_in(self.catalog) if self.stored else None

    @property
    def overdue_at(self) -> datetime | None:
        """From when on its rotation is overdue, if the schedule rotates it."""
        timetable = self.rotation.timetable
        return timetable.overdue_at(self.stored) if self.stored and timetable else None

    def next_rotation(self, now: datetime) -> datetime | None:
        """Return when the schedule rotates it next, if it does."""
        timetable = self.rotation.timetable
        return timetable.next_at(self.stored, self.rotation.failure, now) if self.stored and timetable else None


def find_need(
    catalog: Catalog,
    expires_at: datetime | None,
    now: datetime,
    overdue_at: datetime | None = None,
    *,
    has_failed: bool = False,
) -> Need:
    """Return what it needs now; `expires_at` is that of its credential.

    What the schedule rotates has an `overdue_at`: before that, nobody needs to care when it expires.
    """
    is_known = catalog.status is CatalogStatus.ACTIVE and catalog.credential_status is not CredentialStatus.UNKNOWN
    left = None if expires_at is None or overdue_at is not None else expires_at - now
    found = (
        (Need.SWITCHED_OFF, catalog.status is CatalogStatus.INACTIVE),
        (Need.BROKEN, catalog.credential_status is CredentialStatus.INVALID),
        (Need.EMPTY, catalog.credential_status is CredentialStatus.ABSENT),
        (Need.EXPIRED, expires_at is not None and expires_at <= now),
        (Need.OVERDUE, overdue_at is not None and overdue_at <= now),
        (Need.NOT_ROTATED, has_failed),
        (Need.EXPIRES_SOON, left is not None and left < EXPIRES_SOON),
        (Need.NOT_KNOWN, not is_known),
    )
    return next((need for need, holds in found if holds), Need.NOTHING)


def find_next_change(expires_at: datetime | None, now: datetime, overdue_at: datetime | None = None) -> datetime | None:
    """Return when the need next changes because time passes, at the earliest."""
    if expires_at is None or expires_at <= now:
        return None
    first = overdue_at or expires_at - EXPIRES_SOON + datetime.resolution
    return first if first > now else expires_at
