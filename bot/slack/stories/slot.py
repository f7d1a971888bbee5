"""What is known of a bucket's slot, from the database alone: said before a token is pasted for it.

Opening a form never waits for Cloudflare, so each sentence says how old it is.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bot.model.catalog import BucketKey, Catalog, CatalogStatus, CredentialStatus, Snapshot, StoredCredential
from bot.model.similar_names import find_similar
from bot.policy.gate import Permit
from bot.slack.blocks import escape
from bot.slack.stories.table import CREDENTIAL_WORDS, Need, Row, ago, tell_origin
from bot.storage.catalogs import Catalogs

_REPLACED: Final = {
    CredentialStatus.ABSENT: "Nothing is replaced.",
    CredentialStatus.UNKNOWN: "*What is there will be replaced.*",
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
    """Listed buckets of which the name may be a misspelling, as far as the person may know of them."""

    @property
    def needs_enabling(self) -> bool:
        """Whether a token for it would be refused, as far as is known."""
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
    """Return the state, what a new token does to it, who stored the last one, and until when that one lives."""
    name = f"`{escape(slot.key.bucket)}`"
    if slot.as_of is None:
        return f"The bot has not heard from Cloudflare yet what {name} holds. *What is there will be replaced.*"
    when = ago(slot.now - slot.as_of).capitalize()
    if slot.catalog is None:
        meant = f" Did you mean {', '.join(f'`{escape(each)}`' for each in slot.similar)}?" if slot.similar else ""
        fix = "check the name, or enable its catalog first, else the token is refused"
        return f"{when}, Cloudflare listed no catalog on {name}: {fix}.{meant}"
    if slot.needs_enabling:
        off = f"the catalog of {name} is switched off"
        return f"{when}, Cloudflare said that {off}: enable it first, else the token is refused."
    status = slot.catalog.credential_status
    state = f"{when}, Cloudflare said of {name}: {CREDENTIAL_WORDS[status]}. {_REPLACED.get(status, _WILL_BE_REPLACED)}"
    return f"{state} {tell_origin(Row(catalog=slot.catalog, stored=slot.stored, need=Need.NOTHING), slot.now)}"
