"""What it takes to rotate many buckets: requests, minutes and tokens, worked out before anything begins. Pure."""

from dataclasses import dataclass
from datetime import timedelta
from math import ceil
from typing import Final

from bot.model.minted import HEADROOM

REQUESTS_BY_BOT: Final = 5
"""Of one rotation, on the budget of the bot's own credentials: the last one when the earlier token is taken back."""
REQUESTS_BY_MINTER: Final = 5
"""The same on the budget of CLOUDFLARE_MINTING_TOKEN: create, and later look and disable, look and delete."""

REQUESTS_PER_MINUTE: Final = 220
"""What the pace lets through of Cloudflare's 1,200 in 5 minutes when many rotations want them."""

_TAKES_BACK_IN: Final = timedelta(minutes=4)
"""After the grace: disable, wait, test, delete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """`buckets` are to be rotated, of which `first` have no token of ours yet: each of those adds one for good.

    `tokens` is how many the account has now, None where no minter has counted them; `quota` how many it may have.
    """

    buckets: int
    first: int
    tokens: int | None
    quota: int
    grace: timedelta

    @property
    def requests(self) -> int:
        """How many requests to Cloudflare it takes."""
        return self.buckets * (REQUESTS_BY_BOT + REQUESTS_BY_MINTER)

    @property
    def room(self) -> int:
        """How many tokens the account may still get."""
        return max(0, self.quota - HEADROOM - (self.tokens or 0))

    @property
    def batch(self) -> int:
        """How many earlier tokens can be there beside their successors, once all are rotated that had none."""
        return self.room - self.first

    @property
    def fits_at_once(self) -> bool:
        """Whether all can be rotated before the first earlier token is taken back."""
        return self.buckets <= self.room

    @property
    def is_possible(self) -> bool:
        """Whether it can come to an end at all."""
        return self.tokens is not None and (self.fits_at_once or self.batch >= 1)

    @property
    def missing(self) -> int:
        """By how much the quota is too low for it to come to an end."""
        return max(0, self.first + min(1, self.buckets - self.first) - self.room)

    @property
    def batches(self) -> int:
        """In how many parts it is done, each after the earlier tokens of the one before are taken back."""
        if self.fits_at_once or self.batch < 1:
            return 1
        return ceil((self.buckets - self.first) / self.batch)

    @property
    def between_batches(self) -> timedelta:
        """How long the earlier tokens of one part keep the next one waiting."""
        return self.grace + _TAKES_BACK_IN

    @property
    def takes(self) -> timedelta:
        """How long until the last bucket is rotated, about. Its earlier token is taken back the grace later."""
        by_pace = timedelta(minutes=ceil(self.buckets * REQUESTS_BY_BOT / REQUESTS_PER_MINUTE))
        return by_pace + (self.batches - 1) * self.between_batches
