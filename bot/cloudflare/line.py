"""A line in which the more urgent stand before the others, and those who came earlier before those who came later."""

import asyncio
from bisect import bisect_left, insort
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import NamedTuple

from bot.cloudflare.budget import Urgency


class Place(NamedTuple):
    """Where somebody stands; places compare by urgency and number, of which no two are equal."""

    urgency: Urgency
    number: int
    is_called: asyncio.Event

    async def wait_for_call(self) -> None:
        """Return when something has changed for whoever is first. What changed before this was called is missed."""
        self.is_called.clear()
        await self.is_called.wait()


class Line:
    """Nobody is handed anything: who is called looks whether it is first. So whoever gives up takes nothing along."""

    def __init__(self) -> None:
        self._places: list[Place] = []
        self._numbers = count()

    @contextmanager
    def stand(self, urgency: Urgency) -> Iterator[Place]:
        """Stand in line; whoever is first when this place is left is called."""
        place = Place(urgency, next(self._numbers), asyncio.Event())
        insort(self._places, place)
        try:
            yield place
        finally:
            del self._places[bisect_left(self._places, place)]
            self.call_first()

    def is_first(self, place: Place) -> bool:
        """Whether nobody stands before it (any more, or yet: a more urgent one may come at any time)."""
        return self._places[0] is place

    def call_first(self) -> None:
        """Have whoever is first look again."""
        if self._places:
            self._places[0].is_called.set()
