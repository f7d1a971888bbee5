"""What Slack's side needs to know of the tokens that the bot makes. Reads the database, and asks Cloudflare nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from bot.model.catalog import BucketKey
from bot.model.errors import AccessRefused, BotError
from bot.model.minted import find_busy_until, is_minter_present
from bot.policy.gate import Gate
from bot.policy.permit import NOWHERE, Outlook, Permit
from bot.policy.rules import Verb, grants
from bot.slack.prospect import Obstacle, Prospect, Terms, find_present
from bot.storage.catalogs import Catalogs
from bot.storage.installations import Installations
from bot.storage.minted_tokens import MintedTokens

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotations:
    """Whether and where a rotation is offered, and what it would do, or has done.

    `lifetime` returns when a token expires that is made for a bucket at a time.
    """

    gate: Gate
    tokens: MintedTokens
    installations: Installations
    catalogs: Catalogs
    lifetime: Callable[[BucketKey, datetime], datetime]
    terms: Terms
    clock: Callable[[], datetime]

    async def find_obstacle(self) -> Obstacle | None:
        """Return what keeps everybody from rotating anything; raises DatabaseTrouble."""
        if not grants(self.gate.rules, Verb.ROTATE):
            return Obstacle()
        standing = await self.installations.standing()
        return None if is_minter_present(standing, self.clock()) else Obstacle(is_granted=True, standing=standing)

    async def _is_on(self) -> bool:
        """Return whether nothing keeps everybody from rotating; never fails."""
        try:
            return await self.find_obstacle() is None
        except BotError as error:  # a table is shown without its buttons rather than not at all
            _log.warning("rotation_not_offered", error=error.code)
            return False

    async def offered_to(self, permit: Permit, channel_id: str | None) -> Outlook:
        """Return the buckets that this person may rotate there, now; never fails."""
        if permit.refusal(Verb.ROTATE, None, channel_id) is not None or not await self._is_on():
            return NOWHERE
        return permit.outlook(Verb.ROTATE, channel_id=channel_id)

    async def is_offered(self, key: BucketKey, channel_id: str) -> bool:
        """Return whether it is offered where many can read it: someone may. Never fails."""
        try:
            self.gate.require_of_anybody(Verb.ROTATE, key, channel_id)
        except AccessRefused:
            return False
        return await self._is_on()

    async def prospect(self, key: BucketKey) -> Prospect:
        """Return what a rotation of this bucket would do; raises DatabaseTrouble, RecordForged."""
        known = await self.catalogs.catch_up()
        tokens = await self.tokens.of_bucket(key)
        standing = await self.installations.standing()
        catalog, stored, now = known.catalog(key), known.credential(key), self.clock()
        return Prospect(
            bucket=key.bucket,
            catalog=catalog,
            stored=stored,
            present=find_present(catalog, stored, tokens),
            as_of=known.refreshed_at,
            offers_test=known.listing is not None and known.listing.tested_at is not None,
            expires_at=self.lifetime(key, now),
            busy_until=find_busy_until(tokens),
            standing=standing,
            terms=self.terms,
            now=now,
        )
