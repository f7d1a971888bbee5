"""A queue ordered by urgency, then by arrival."""

import asyncio
from bisect import bisect_left, insort
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import NamedTuple


class Place(NamedTuple):
    """A place in the queue; places compare by urgency and number, and no two numbers are equal. 0 is most urgent."""

    urgency: int
    number: int
    is_called: asyncio.Event

    async def wait_for_call(self) -> None:
        """Return when this place is next called as the first. Earlier calls do not count."""
        self.is_called.clear()
        await self.is_called.wait()


class Line:
    """The queue. A called place checks whether it is first; nothing is handed over, so cancelling one loses nothing."""

    def __init__(self) -> None:
        self._places: list[Place] = []
        self._numbers = count()

    @contextmanager
    def stand(self, urgency: int) -> Iterator[Place]:
        """Join the queue; on leaving, call the place that is then first."""
        place = Place(urgency, next(self._numbers), asyncio.Event())
        insort(self._places, place)
        try:
            yield place
        finally:
            del self._places[bisect_left(self._places, place)]
            self.call_first()

    @property
    def is_empty(self) -> bool:
        """Whether no one waits."""
        return not self._places

    def waiting(self, urgency: int) -> int:
        """Return how many of that urgency are in the queue."""
        return sum(place.urgency == urgency for place in self._places)

    def is_first(self, place: Place) -> bool:
        """Return whether it is first now; a more urgent one may come at any time."""
        return self._places[0] is place

    def call_first(self) -> None:
        """Wake the first place."""
        if self._places:
            self._places[0].is_called.set()
