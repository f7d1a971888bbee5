"""Keeps what people see of the catalogs in order: once for all of them, unless a rule tells people apart."""

from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import Final

from bot.model.known_catalogs import KnownCatalogs
from bot.policy.gate import Permit
from bot.policy.rules import Person
from bot.slack.stories.visible_catalogs import VisibleCatalogs
from bot.storage.catalogs import Catalogs

_MOST: Final = 16
"""Of those who do not see the same: 10,000 catalogs take 3 MB and 80 ms for each of them."""


class Visibility:
    """Every change of a catalog moves it in each order that is kept."""

    def __init__(self, catalogs: Catalogs, clock: Callable[[], datetime]) -> None:
        self._catalogs = catalogs
        self._clock = clock
        self._seen = OrderedDict[Person | None, VisibleCatalogs]()
        catalogs.known.watch(self._note)

    async def of(self, permit: Permit) -> VisibleCatalogs:
        """Return what this person may see now, nothing before the first list; raises DatabaseTrouble.

        The same object each time, so it is to be used before the next `await`.
        """
        known = await self._catalogs.catch_up()
        now = self._clock()
        if known.listing is None:
            return VisibleCatalogs(KnownCatalogs(), permit.sees, now)
        seen = self._seen.get(permit.outlook)
        if seen is None:
            self._seen[permit.outlook] = seen = VisibleCatalogs(known, permit.sees, now)
        self._seen.move_to_end(permit.outlook)
        if len(self._seen) > _MOST:
            self._seen.popitem(last=False)
        seen.advance(now)
        return seen

    def _note(self, bucket: str | None) -> None:
        if bucket is None:
            self._seen.clear()
        else:
            for seen in self._seen.values():
                seen.put(bucket)
