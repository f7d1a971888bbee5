"""What a rotation of one bucket would do now, as far as the database knows. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from bot.model.catalog import Catalog, CredentialStatus, StoredCredential
from bot.model.minted import MintedState, MintedToken, Standing

_HELD: Final = frozenset({MintedState.SENT, MintedState.IN_SLOT, MintedState.PROVEN})


class Present(StrEnum):
    """Whose the token in the slot is, as far as the bot knows."""

    NONE = "none"
    OURS = "ours"
    """The bot made it."""
    PASTED = "pasted"
    """A person stored it through the bot."""
    FOREIGN = "foreign"
    """Nothing is known of it: somebody else wrote it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the settings say of every rotation: `grace` until the previous token is revoked, and the account's quota.

    `is_for_account`: the new token reaches the data of all buckets.
    """

    grace: timedelta
    quota: int
    is_for_account: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """All that the form and "only look" say of a bucket.

    `catalog` is as Cloudflare listed it at `as_of` (None: never asked), `standing` what the minter last found.
    `expires_at`: when a token that is made now expires. `busy_until`: until when an earlier one is taken back.
    `offers_test`: whether Cloudflare has tested a credential of the account.
    """

    bucket: str
    catalog: Catalog | None
    stored: StoredCredential | None
    present: Present
    as_of: datetime | None
    offers_test: bool
    expires_at: datetime
    busy_until: datetime | None
    standing: Standing | None
    terms: Terms
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """What keeps everybody from rotating: no rule grants it, or else no process that makes tokens was seen lately."""

    is_granted: bool = False
    standing: Standing | None = None


def find_present(catalog: Catalog | None, stored: StoredCredential | None, tokens: Iterable[MintedToken]) -> Present:
    """Return whose token the slot holds, from the bucket's minted tokens and the last one that the bot stored."""
    if catalog is not None and catalog.credential_status is CredentialStatus.ABSENT:
        return Present.NONE
    if stored is None:
        return Present.FOREIGN
    is_another_one = catalog is not None and stored.expires_at is not None and stored.expires_in(catalog) is None
    if is_another_one:
        return Present.FOREIGN
    is_ours = any(token.submission_id == stored.submission_id and token.state in _HELD for token in tokens)
    return Present.OURS if is_ours else Present.PASTED
