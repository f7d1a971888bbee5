"""What a process remembers of the fleet that it works on; all of it can be read again from the database."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from bot.model.fleet import Count, Fleet, Outcome, Result

AT_ONCE: Final = 100
"""So many buckets are read in one query."""


class Progress:
    """Where each bucket of a fleet stands: to be begun, open, or ended."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet_id = fleet.id
        self.ended: list[Result] = []
        """In the order in which they ended."""
        self.open: set[str] = set()
        self.is_read = False
        """Whether all of them were looked up since this process took the fleet."""
        self.waits_for_room = False
        self._todo = dict.fromkeys(fleet.buckets)
        self._shown: Count | None = None
        self._show_after: datetime | None = None

    @property
    def has_begun_all(self) -> bool:
        """Whether none is left to begin."""
        return not self._todo

    @property
    def is_proven(self) -> bool:
        """Whether the way has worked for one bucket."""
        return any(result.outcome is Outcome.DONE for result in self.ended)

    def next(self, most: int) -> list[str]:
        """Return the buckets to begin next."""
        return [*islice(self._todo, max(0, most))]

    def to_read(self) -> Iterator[list[str]]:
        """Yield those whose state may have changed: the open ones; at first, all of them."""
        buckets = sorted(self.open) if self.is_read else [*self._todo, *sorted(self.open)]
        for start in range(0, len(buckets), AT_ONCE):
            yield buckets[start : start + AT_ONCE]

    def begin(self, bucket: str) -> None:
        """Note that its rotation is recorded."""
        self._todo.pop(bucket, None)
        self.open.add(bucket)

    def end(self, result: Result) -> None:
        """Note how its rotation ended."""
        self._todo.pop(result.bucket, None)
        self.open.discard(result.bucket)
        self.ended.append(result)
        self.ended.sort(key=lambda each: (each.ended_at, each.bucket))

    def count(self, fleet: Fleet, *, is_over: bool = False) -> Count:
        """Return how it stands."""
        return Count(
            fleet=fleet,
            ended=tuple(self.ended),
            open=len(self.open),
            waits_for_room=self.waits_for_room,
            is_over=is_over,
        )

    def needs_showing(self, count: Count, now: datetime) -> bool:
        """Return whether the message says something else, and may be edited again."""
        return not self.is_shown(count) and (self._show_after is None or now >= self._show_after)

    def is_shown(self, count: Count) -> bool:
        """Return whether the message says this."""
        return count == self._shown

    def note_shown(self, count: Count | None, now: datetime, pause: timedelta) -> None:
        """Note what the message says, and when it may be edited again; None if that failed."""
        self._shown = count or self._shown
        self._show_after = now + pause
