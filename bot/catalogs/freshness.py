"""Decides how old an answer of Cloudflare may be before it is requested again. Pure."""

from datetime import datetime, timedelta
from typing import Final

from bot.model.known_catalogs import Listing

FRESH: Final = timedelta(seconds=30)

_TEST_SHARE: Final = timedelta(seconds=0.5)
"""Per catalog: even if people ask all the time, tests take half of an account's requests."""


def is_listed_lately(listing: Listing, now: datetime) -> bool:
    """Return whether the list is fresh enough to be shown."""
    return is_younger(listing.refreshed_at, now, than=FRESH)


def is_tested_lately(listing: Listing, now: datetime) -> bool:
    """Return whether the tests are fresh enough to be shown; with more catalogs, they count as fresh for longer."""
    return listing.tested_at is not None and is_younger(listing.tested_at, now, than=fresh_tests(listing.count))


def fresh_tests(catalogs: int) -> timedelta:
    """Return how long the tests of that many catalogs count as fresh."""
    return max(FRESH, _TEST_SHARE * catalogs)


def is_younger(at: datetime, now: datetime, *, than: timedelta) -> bool:
    """Return whether `at` is; a time in the future was recorded before the clock was set back, and counts as old."""
    return timedelta(0) <= now - at < than
