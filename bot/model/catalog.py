"""Values: a catalog as Cloudflare describes it, and what the bot stored in its slot."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

_BUCKET_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


def is_bucket_name(text: str) -> bool:
    """Return whether a bucket can have this name (Cloudflare: 3 to 63 of a-z, 0-9 and hyphens, none at the ends)."""
    return _BUCKET_NAME.fullmatch(text) is not None


class CatalogApi(StrEnum):
    """Which of the two identical path families is used; `auto` finds out and remembers."""

    AUTO = "auto"
    R2_CATALOG = "r2-catalog"
    BASIN_CATALOG = "basin-catalog"


class CatalogStatus(StrEnum):
    """Whether the catalog takes requests."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    UNKNOWN = "unknown"


class CredentialStatus(StrEnum):
    """What Cloudflare says about the credential in a catalog's slot.

    A test returns VALID, INVALID or ABSENT. If no test is offered, a catalog's `credential_status` is PRESENT or
    ABSENT, or missing (UNKNOWN).
    """

    VALID = "valid"
    INVALID = "invalid"
    PRESENT = "present"
    ABSENT = "absent"
    UNKNOWN = "unknown"

    @property
    def is_alarm(self) -> bool:
        """Whether this is wrong for a slot that was just written."""
        return self in {CredentialStatus.INVALID, CredentialStatus.ABSENT}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class BucketKey:
    """One catalog's slot; deliveries for one key never overlap."""

    account_id: str
    bucket: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """One bucket's catalog; `tested_at` is when Cloudflare last tested its credential, or None.

    `cf_ray` is Cloudflare's id of the answer, if this catalog alone was requested.
    """

    key: BucketKey
    status: CatalogStatus
    credential_status: CredentialStatus
    tested_at: datetime | None = None
    cf_ray: str | None = field(default=None, compare=False)

    @property
    def bucket(self) -> str:
        """The bucket's name, for people."""
        return self.key.bucket


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The account's catalogs as of `refreshed_at`, sorted by bucket.

    `tested_at` is when the last round of credential tests ended, if Cloudflare offers tests.
    """

    catalogs: tuple[Catalog, ...]
    refreshed_at: datetime
    tested_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCredential:
    """The credential that the bot last stored in a catalog's slot. Nothing in here is secret.

    `channel_id` is where the result was posted; `reminded_at` is when the expiry reminder was. `broken_at` is when
    Cloudflare first called it invalid after having called it valid, until that is announced.
    """

    key: BucketKey
    submission_id: str
    stored_by: str
    stored_at: datetime
    channel_id: str
    token_id: str | None
    expires_at: datetime | None
    reminded_at: datetime | None
    broken_at: datetime | None

    @property
    def bucket(self) -> str:
        """The bucket's name, for people."""
        return self.key.bucket

    def expires_in(self, catalog: Catalog) -> datetime | None:
        """Return when the slot's credential expires, or None if the slot is empty or must hold another one by now.

        A credential that Cloudflare calls valid after its expiry cannot be the one that the bot stored.
        """
        is_another_one = (
            catalog.credential_status is CredentialStatus.VALID
            and self.expires_at is not None
            and catalog.tested_at is not None
            and self.expires_at <= catalog.tested_at
        )
        is_gone = catalog.credential_status is CredentialStatus.ABSENT
        return None if is_another_one or is_gone else self.expires_at
