"""Says how many more tokens the account may have, and what keeps tokens from being made at all, from the database.

The minter counts at Cloudflare; the workers, which run fleets, cannot ask there.
"""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Final

from bot.model.errors import error_of_code
from bot.model.fleet import Alarm, Fleet
from bot.model.minted import HEADROOM, TAKEN_BACK, Standing, is_minter_present
from bot.model.origin import id_in_fleet
from bot.storage.installations import Installations
from bot.storage.minted_tokens import MintedTokens

_NOT_COUNTED: Final = 0


class FleetRoom:
    """Counts from what the minter last counted."""

    def __init__(
        self, tokens: MintedTokens, installations: Installations, quota: int, clock: Callable[[], datetime]
    ) -> None:
        self._tokens = tokens
        self._installations = installations
        self._quota = quota
        self._clock = clock

    async def tokens(self) -> int | None:
        """Return how many tokens the account has now, as far as that is known; None where nobody has counted."""
        return await self._tokens.estimate_total(await self._installations.standing())

    async def left(self, fleet: Fleet, open_buckets: Collection[str]) -> int:
        """Return how many more rotations may begin: those that are under way may still need a token each."""
        used = await self.tokens()
        if used is None:
            return _NOT_COUNTED
        ids = {id_in_fleet(fleet.id, bucket) for bucket in open_buckets}
        coming = len(ids - await self._tokens.made_for(ids))
        return self._quota - HEADROOM - used - coming

    async def find_alarm(self, fleet: Fleet, *, has_open: bool) -> tuple[str, str | None] | None:
        """Return why nothing more may begin, whichever bucket is next, and the bucket that it is about, if one."""
        standing = await self._installations.standing()
        if standing is None or not is_minter_present(standing, self._clock()):
            return Alarm.NO_MINTER, None
        if standing.trouble is not None and not error_of_code(standing.trouble).retryable:
            return standing.trouble, None
        needed = await self._tokens.find_undone(fleet.started_at or fleet.proposed_at)
        if needed is not None:
            return Alarm.TOKEN_NEEDED, needed
        return None if has_open or await self._may_come_free(fleet, standing) else (Alarm.NO_ROOM, None)

    async def _may_come_free(self, fleet: Fleet, standing: Standing) -> bool:
        """Return whether a token more may be made now, or after an earlier one is taken back."""
        if await self._tokens.estimate_total(standing) is None or await self.left(fleet, ()) > 0:
            return True
        return not TAKEN_BACK.isdisjoint(await self._tokens.count())
