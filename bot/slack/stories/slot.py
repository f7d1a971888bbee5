"""What the database knows of a bucket's slot, shown before a token is pasted for it.

Opening a form never waits for Cloudflare, so each sentence says how old its data is.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bot.model.catalog import BucketKey, Catalog, CatalogStatus, CredentialStatus, Snapshot, StoredCredential
from bot.model.similar_names import find_similar
from bot.policy.gate import Permit
from bot.slack.blocks import did_you_mean, escape
from bot.slack.stories.table import CREDENTIAL_WORDS, Need, Row, ago, describe_origin
from bot.storage.catalogs import Catalogs

_REPLACED: Final = {
    CredentialStatus.ABSENT: "Nothing is replaced.",
    CredentialStatus.UNKNOWN: "*Any credential there will be replaced.*",
}
_WILL_BE_REPLACED: Final = "*It will be replaced.*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One bucket's catalog as Cloudflare listed it at `as_of` (None: never asked), and what the bot has stored."""

    key: BucketKey
    catalog: Catalog | None
    stored: StoredCredential | None
    as_of: datetime | None
    now: datetime
    similar: tuple[str, ...] = ()
    """Listed buckets that the name may misspell, if the person may see them."""

    @property
    def needs_enabling(self) -> bool:
        """Whether a token for it would be refused, as far as the bot knows."""
        is_off = self.catalog is None or self.catalog.status is CatalogStatus.INACTIVE
        return self.as_of is not None and is_off


async def find_slot(
    catalogs: Catalogs, snapshot: Snapshot | None, key: BucketKey, permit: Permit, now: datetime
) -> Slot:
    """Join what Cloudflare listed with what the bot has stored; raises DatabaseTrouble."""
    listed = [each for each in snapshot.catalogs if permit.sees(each.key)] if snapshot else []
    stored = await catalogs.stored_credentials()
    return Slot(
        key=key,
        catalog=next((each for each in listed if each.key == key), None),
        stored=next((each for each in stored if each.key == key), None),
        as_of=snapshot.refreshed_at if snapshot else None,
        now=now,
        similar=tuple(find_similar(key.bucket, (each.bucket for each in listed))),
    )


def describe_slot(slot: Slot) -> str:
    """Return the state, what a new token replaces, who stored the last one, and when that one expires."""
    name = f"`{escape(slot.key.bucket)}`"
    if slot.as_of is None:
        return f"The bot does not know yet what {name} holds. *Any credential there will be replaced.*"
    when = ago(slot.now - slot.as_of).capitalize()
    if slot.catalog is None:
        fix = "check the name, or enable its catalog first; otherwise the token is refused"
        return f"{when}, Cloudflare listed no catalog on {name}: {fix}.{did_you_mean(slot.similar)}"
    if slot.needs_enabling:
        off = f"the catalog of {name} is switched off"
        return f"{when}, Cloudflare said that {off}: enable it first, or the token is refused."
    status = slot.catalog.credential_status
    state = f"{when}, Cloudflare said of {name}: {CREDENTIAL_WORDS[status]}. {_REPLACED.get(status, _WILL_BE_REPLACED)}"
    return f"{state} {describe_origin(Row(catalog=slot.catalog, stored=slot.stored, need=Need.NOTHING), slot.now)}"
