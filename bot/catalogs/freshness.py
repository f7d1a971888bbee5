"""How old an answer of Cloudflare may be before it is asked for again. Pure."""

from datetime import datetime, timedelta
from typing import Final

from bot.model.catalog import Snapshot

FRESH: Final = timedelta(seconds=30)

_TEST_SHARE: Final = timedelta(seconds=0.5)
"""For each catalog: with people asking all the time, tests take half of the requests that an account has."""


def is_listed_lately(snapshot: Snapshot, now: datetime) -> bool:
    """Whether the list is fresh enough to be shown as it is."""
    return is_younger(snapshot.refreshed_at, now, than=FRESH)


def is_tested_lately(snapshot: Snapshot, now: datetime) -> bool:
    """Whether the tests are fresh enough to be shown; the more catalogs there are, the longer they count as fresh."""
    return snapshot.tested_at is not None and is_younger(
        snapshot.tested_at, now, than=fresh_tests(len(snapshot.catalogs))
    )


def fresh_tests(catalogs: int) -> timedelta:
    """Return how long the tests of so many catalogs are fresh."""
    return max(FRESH, _TEST_SHARE * catalogs)


def is_younger(at: datetime, now: datetime, *, than: timedelta) -> bool:
    """Whether it is; a time in the future was recorded before the clock was set back, and counts as old."""
    return timedelta(0) <= now - at < than
