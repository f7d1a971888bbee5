"""The catalogs that a person may see, kept in order, so that a page of 10,000 costs what a page of ten does. Pure."""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from bot.model.catalog import BucketKey, Catalog, StoredCredential
from bot.model.known_catalogs import KnownCatalogs
from bot.policy.scheduled import NOT_SCHEDULED, Scheduled
from bot.slack.stories.need import Need, Rotation, Row, find_need, find_next_change

_NEVER = datetime.max.replace(tzinfo=UTC)

_Place = tuple[Need, datetime, str]
"""By need, then by expiry, then by name."""

_Ordered = TypeVar("_Ordered", str, _Place, tuple[datetime, str])


class VisibleCatalogs:
    """The served catalogs that `sees` lets through: sorting 10,000 for each `status` took most of its 439 ms.

    A change moves one catalog; so does the time at which a credential expires or is about to.
    """

    def __init__(
        self,
        known: KnownCatalogs,
        sees: Callable[[BucketKey], bool],
        now: datetime,
        scheduled: Scheduled = NOT_SCHEDULED,
    ) -> None:
        self._scheduled = scheduled
        self._known = known
        self._sees = sees
        self._now = now
        self.counts = Counter[Need]()
        self._places: dict[str, _Place] = {}
        self._next_change_of: dict[str, datetime] = {}
        self._build()

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._order)

    def rows(self, start: int, stop: int) -> list[Row]:
        """Return some, the most urgent first."""
        return [self._row(need, bucket) for need, _, bucket in self._order[start:stop]]

    def row(self, key: BucketKey) -> Row | None:
        """Return one of them."""
        place = self._places.get(key.bucket)
        if place is None or self._known.catalogs[key.bucket].key != key:
            return None
        return self._row(place[0], key.bucket)

    def catalog(self, bucket: str) -> Catalog:
        """Return the catalog of one of the names."""
        return self._known.catalogs[bucket]

    def advance(self, now: datetime) -> None:
        """Move those whose need has changed since it was last called."""
        if now < self._now:  # the clock was set back
            self._now = now
            self._build()
        self._now = now
        while self._next_changes and self._next_changes[0][0] <= now:
            self.put(self._next_changes[0][1])

    def put(self, bucket: str) -> None:
        """Put a catalog where it belongs now, or remove it."""
        place, next_change = self._places.pop(bucket, None), self._next_change_of.pop(bucket, None)
        if place is not None:
            _remove(self._order, place)
            _remove(self.names, bucket)
            self.counts[place[0]] -= 1
        if next_change is not None:
            _remove(self._next_changes, (next_change, bucket))
        catalog = self._known.catalogs.get(bucket)
        if catalog is not None and self._sees(catalog.key):
            insort(self._order, self._find_place(catalog))
            insort(self.names, bucket)
            if bucket in self._next_change_of:
                insort(self._next_changes, (self._next_change_of[bucket], bucket))

    def _build(self) -> None:
        for each in (self.counts, self._places, self._next_change_of):
            each.clear()
        for catalog in self._known.catalogs.values():
            if self._sees(catalog.key):
                self._find_place(catalog)
        self.names = sorted(self._places)
        self._order = sorted(self._places.values())
        self._next_changes = sorted((next_change, bucket) for bucket, next_change in self._next_change_of.items())

    def _find_place(self, catalog: Catalog) -> _Place:
        """Return its place, and note it and when it changes."""
        stored = self._known.credential(catalog.key)
        expires_at = stored.expires_in(catalog) if stored else None
        rotation = self._rotation(stored, catalog.bucket)
        timetable, has_failed = rotation.timetable, rotation.failure is not None
        overdue_at = timetable.overdue_at(stored) if stored and timetable else None
        need = find_need(catalog, expires_at, self._now, overdue_at, has_failed=has_failed)
        self._places[catalog.bucket] = place = need, expires_at or _NEVER, catalog.bucket
        self.counts[need] += 1
        next_change = find_next_change(expires_at, self._now, overdue_at)
        if next_change is not None:
            self._next_change_of[catalog.bucket] = next_change
        return place

    def _row(self, need: Need, bucket: str) -> Row:
        stored = self._known.credentials.get(bucket)
        return Row(
            catalog=self._known.catalogs[bucket], stored=stored, need=need, rotation=self._rotation(stored, bucket)
        )

    def _rotation(self, stored: StoredCredential | None, bucket: str) -> Rotation:
        known = self._known
        failure = known.failures.get(bucket)
        if stored is None:
            return Rotation(failure=failure)
        timetable = self._scheduled.timetable_of(stored, known)
        return Rotation(is_ours=known.is_ours(stored), timetable=timetable, failure=failure)


def _remove(ordered: list[_Ordered], one: _Ordered) -> None:
    del ordered[bisect_left(ordered, one)]
