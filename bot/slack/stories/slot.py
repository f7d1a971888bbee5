"""What the database knows of a bucket's slot, shown before a token is pasted for it.

Opening a form never waits for Cloudflare, so each sentence says how old its data is.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bot.model.catalog import BucketKey, Catalog, CatalogStatus, CredentialStatus, StoredCredential
from bot.model.similar_names import find_similar
from bot.slack.ages import ago
from bot.slack.blocks import did_you_mean, escape
from bot.slack.stories.need import Need, Row
from bot.slack.stories.parts import Parts
from bot.slack.stories.table import CREDENTIAL_WORDS, describe_origin
from bot.slack.stories.visible_catalogs import VisibleCatalogs

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


def find_slot(parts: Parts, seen: VisibleCatalogs, key: BucketKey) -> Slot:
    """Join what Cloudflare listed with what the bot has stored, for a person who sees the bucket."""
    known = parts.catalogs.known
    catalog = known.catalog(key)
    return Slot(
        key=key,
        catalog=catalog,
        stored=known.credential(key),
        as_of=known.refreshed_at,
        now=parts.clock(),
        similar=() if catalog else tuple(find_similar(key.bucket, seen.names)),
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
