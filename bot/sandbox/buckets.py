"""The buckets of the fake Cloudflare: the state of each one's catalog, and its slot for a credential."""

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal
from uuid import NAMESPACE_DNS, uuid5

from aiohttp import web

from bot.sandbox.envelopes import refuse

CatalogState = Literal["active", "inactive"]


@dataclass(slots=True, kw_only=True)
class SmallBucket:
    """A bucket; `catalog` is None where none was ever enabled."""

    name: str
    catalog: CatalogState | None
    token: str | None = field(default=None, repr=False)

    def describe(self, account_id: str) -> dict[str, object]:
        """Return what the API says of its catalog."""
        name = f"{account_id}_{self.name}"
        return {
            "id": str(uuid5(NAMESPACE_DNS, name)),
            "bucket": self.name,
            "name": name,
            "status": self.catalog,
            "credential_status": "absent" if self.token is None else "present",
        }


def refuse_bucket(bucket: SmallBucket | None, *, must_be_active: bool = False) -> web.Response | None:
    """Return the refusal where there is no bucket, or no catalog on it, or one that is switched off."""
    if bucket is None:
        return refuse(HTTPStatus.NOT_FOUND, 40406, "There is no such bucket.")
    if bucket.catalog is None:
        return refuse(HTTPStatus.NOT_FOUND, 40401, "There is no catalog on this bucket.")
    if must_be_active and bucket.catalog == "inactive":
        return refuse(HTTPStatus.CONFLICT, 40402, "The catalog is not active.")
    return None
