"""How old something known of Cloudflare may be for somebody who looks at it. Pure."""

from datetime import datetime, timedelta
from typing import Final

from bot.model.catalog import Snapshot

FRESH: Final = timedelta(seconds=30)

_TEST_SHARE: Final = timedelta(seconds=0.5)
"""For each catalog: people who look all the time cost half of what Cloudflare lets an account ask."""


def is_listed_lately(snapshot: Snapshot, now: datetime) -> bool:
    """Whether the list is fresh enough for somebody who looks."""
    return is_younger(snapshot.refreshed_at, now, than=FRESH)


def is_tested_lately(snapshot: Snapshot, now: datetime) -> bool:
    """Whether the tests are fresh enough for somebody who looks; the more catalogs, the longer they are."""
    return snapshot.tested_at is not None and is_younger(
        snapshot.tested_at, now, than=fresh_tests(len(snapshot.catalogs))
    )


def fresh_tests(catalogs: int) -> timedelta:
    """Return how long the tests of so many catalogs are fresh."""
    return max(FRESH, _TEST_SHARE * catalogs)


def is_younger(at: datetime, now: datetime, *, than: timedelta) -> bool:
    """Whether it is; what seems to come from the future was noted before the clock was set back."""
    return timedelta(0) <= now - at < than
