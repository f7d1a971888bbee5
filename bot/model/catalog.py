"""A catalog as Cloudflare describes it: values only."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

_BUCKET_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


def is_bucket_name(text: str) -> bool:
    """Whether a bucket can have this name (Cloudflare: 3 to 63 of a-z, 0-9 and hyphens, none at the ends)."""
    return _BUCKET_NAME.fullmatch(text) is not None


class CatalogApi(StrEnum):
    """Which of the two identical path families is spoken; `auto` finds out and remembers."""

    AUTO = "auto"
    R2_CATALOG = "r2-catalog"
    BASIN_CATALOG = "basin-catalog"


class CatalogStatus(StrEnum):
    """Whether the catalog takes requests."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    UNKNOWN = "unknown"


class CredentialStatus(StrEnum):
    """What Cloudflare says of the credential in a catalog's slot.

    A test of it gives VALID, INVALID or ABSENT; where none is offered, a catalog is described as PRESENT or ABSENT, or
    Cloudflare leaves it out.
    """

    VALID = "valid"
    INVALID = "invalid"
    PRESENT = "present"
    ABSENT = "absent"
    UNKNOWN = "unknown"

    @property
    def is_alarm(self) -> bool:
        """Whether a slot that was written a moment ago must not look like this."""
        return self in {CredentialStatus.INVALID, CredentialStatus.ABSENT}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class BucketKey:
    """One catalog's slot: deliveries are run one at a time for each of these."""

    account_id: str
    bucket: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """One bucket's catalog; `tested_at` is when Cloudflare last tested its credential, where it ever did.

    `cf_ray` is Cloudflare's id of the answer that described it, where it was asked about alone.
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
    """The account's catalogs as they were at `refreshed_at`, sorted by bucket.

    `tested_at` is when their credentials had last been tested, as far as that was due and Cloudflare offers it.
    """

    catalogs: tuple[Catalog, ...]
    refreshed_at: datetime
    tested_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCredential:
    """What a catalog's slot holds as far as the bot put it there. Nothing in here is secret.

    `channel_id` is where that was told. `reminded_at`: of the expiry; `broken_at`: since when Cloudflare calls it
    invalid although it called it valid before, as long as that is not announced.
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
        """Return when what is in the slot expires, unless the slot is empty or known to hold another one by now."""
        is_another_one = (
            catalog.credential_status is CredentialStatus.VALID
            and self.expires_at is not None
            and catalog.tested_at is not None
            and self.expires_at <= catalog.tested_at
        )
        is_gone = catalog.credential_status is CredentialStatus.ABSENT
        return None if is_another_one or is_gone else self.expires_at
