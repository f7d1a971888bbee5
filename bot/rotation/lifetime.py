"""How long a token that the bot makes is valid. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from bot.model import bucket_globs
from bot.model.catalog import BucketKey
from bot.policy.rules import Request, Rule, Verb, find_fitting

WITHOUT_SCHEDULE: Final = timedelta(days=90)
"""Where nothing rotates it by itself: people are reminded before it expires."""

_SPARE: Final = timedelta(days=2)
"""At least this much longer than the interval: a weekend to repair what keeps it from being rotated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetime:
    """Knows the interval of the schedule and its buckets, and the rules, which may limit how long a token lives."""

    every: timedelta | None
    rules: Callable[[], Sequence[Rule]]
    globs: tuple[str, ...] = ()

    def expires_at(self, key: BucketKey, now: datetime) -> datetime:
        """Return the expiry of a token for this bucket, in whole seconds, as Cloudflare takes it."""
        wanted = self._wanted(key)
        fitting = find_fitting(self.rules(), Request(verb=Verb.ROTATE, key=key))
        limits = [limit for rule in fitting if (limit := rule.max_token_lifetime) is not None]
        return (now + min([wanted, *limits])).replace(microsecond=0)

    def _wanted(self, key: BucketKey) -> timedelta:
        if self.every is None or (self.globs and not bucket_globs.serves(self.globs, key.bucket)):
            return WITHOUT_SCHEDULE
        return max(self.every * 1.5, self.every + _SPARE)
