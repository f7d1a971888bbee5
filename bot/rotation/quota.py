"""Keeps the account's tokens below Cloudflare's limit: others need some as well."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.cloudflare.minter import MintingClient
from bot.cloudflare.minting_errors import TokenQuotaReached
from bot.model.minted import HEADROOM, Standing
from bot.storage.installations import Installations
from bot.storage.minted_tokens import MintedTokens

_COUNT_LASTS: Final = timedelta(hours=1)
_COUNT_AGAIN_AFTER: Final = timedelta(seconds=30)

_log = structlog.get_logger()


class Quota:
    """Counts the account's tokens now and then, and adds what was made since."""

    def __init__(
        self,
        *,
        most: int,
        cloudflare: MintingClient,
        installations: Installations,
        tokens: MintedTokens,
        clock: Callable[[], datetime],
    ) -> None:
        self._most = most
        self._cloudflare = cloudflare
        self._installations = installations
        self._tokens = tokens
        self._clock = clock

    async def require_room(self) -> None:
        """Raise TokenQuotaReached unless one more token fits; raises CloudflareError where it cannot be counted."""
        standing = await self._installations.standing()
        used = await self._tokens.estimate_total(standing)
        if used is None or not timedelta(0) <= self._age_of(standing) <= self._lasts(used):
            used = await self.count()
        if used >= self._limit:
            _log.warning("token_quota_reached", tokens=used, quota=self._most, left_to_others=HEADROOM)
            raise TokenQuotaReached

    async def count(self) -> int:
        """Ask Cloudflare how many tokens the account has, and note it."""
        asked_at = self._clock()
        used = await self._cloudflare.count_all()
        await self._installations.note_count(used, asked_at)
        return used

    @property
    def _limit(self) -> int:
        return self._most - HEADROOM

    def _age_of(self, standing: Standing | None) -> timedelta:
        return timedelta.max if standing is None or standing.checked_at is None else self._clock() - standing.checked_at

    def _lasts(self, used: int) -> timedelta:
        """Return how long a count lasts: where there is no room, others may have been deleted."""
        return _COUNT_LASTS if used < self._limit else _COUNT_AGAIN_AFTER
