"""What a catalog needs of a person, which its place in the table follows from. Pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from bot.model.catalog import Catalog, CatalogStatus, CredentialStatus, StoredCredential
from bot.slack.messages.explanation import EXPIRES_SOON


class Need(IntEnum):
    """What a catalog needs, most urgent first."""

    BROKEN = 0
    EXPIRED = 1
    EXPIRES_SOON = 2
    EMPTY = 3
    SWITCHED_OFF = 4
    NOT_KNOWN = 5
    NOTHING = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One catalog, and the credential that the bot last stored in it, if any."""

    catalog: Catalog
    stored: StoredCredential | None
    need: Need

    @property
    def expires_at(self) -> datetime | None:
        """When what the bot stored expires, if that is in the slot."""
        return self.stored.expires_in(self.catalog) if self.stored else None


def find_need(catalog: Catalog, expires_at: datetime | None, now: datetime) -> Need:
    """Return what it needs now; `expires_at` is that of its credential."""
    if catalog.status is CatalogStatus.INACTIVE:
        return Need.SWITCHED_OFF
    if catalog.credential_status is CredentialStatus.INVALID:
        return Need.BROKEN
    if catalog.credential_status is CredentialStatus.ABSENT:
        return Need.EMPTY
    if expires_at is not None and expires_at <= now:
        return Need.EXPIRED
    if expires_at is not None and expires_at - now < EXPIRES_SOON:
        return Need.EXPIRES_SOON
    is_known = catalog.status is CatalogStatus.ACTIVE and catalog.credential_status is not CredentialStatus.UNKNOWN
    return Need.NOTHING if is_known else Need.NOT_KNOWN


def find_next_change(expires_at: datetime | None, now: datetime) -> datetime | None:
    """Return when the need next changes because time passes, at the earliest."""
    if expires_at is None or expires_at <= now:
        return None
    changes = (expires_at - EXPIRES_SOON + datetime.resolution, expires_at)
    return next(next_change for next_change in changes if next_change > now)
