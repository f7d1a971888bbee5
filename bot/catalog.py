"""A catalog as Cloudflare describes it: values only."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


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
    """Whether the catalog's slot holds a credential; Cloudflare may leave it out."""

    PRESENT = "present"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """One bucket's catalog."""

    bucket: str
    status: CatalogStatus
    credential_status: CredentialStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The account's catalogs as they were at `refreshed_at`, sorted by bucket."""

    catalogs: tuple[Catalog, ...]
    refreshed_at: datetime
