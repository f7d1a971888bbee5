"""Keeps what people see of the catalogs in order: once for all who see the same buckets."""

from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import Final

from bot.model.known_catalogs import KnownCatalogs
from bot.policy.permit import Outlook, Permit
from bot.policy.rules import Verb
from bot.policy.scheduled import NOT_SCHEDULED, Scheduled
from bot.slack.stories.visible_catalogs import VisibleCatalogs
from bot.storage.catalogs import Catalogs

_MOST: Final = 16
"""Of those who do not see the same: 10,000 catalogs take 3 MB and 80 ms for each of them."""


class Visibility:
    """Every change of a catalog moves it in each order that is kept."""

    def __init__(self, catalogs: Catalogs, clock: Callable[[], datetime], scheduled: Scheduled = NOT_SCHEDULED) -> None:
        self._scheduled = scheduled
        self._rules = scheduled.rules()
        self._catalogs = catalogs
        self._clock = clock
        self._seen = OrderedDict[Outlook, VisibleCatalogs]()
        catalogs.known.watch(self._note)

    async def of(self, permit: Permit, *verbs: Verb, channel_id: str | None = None) -> VisibleCatalogs:
        """Return the catalogs with which this person may do one of these things there; raises DatabaseTrouble.

        Nothing before the first list.

        The same object each time, so it is to be used before the next `await`.
        """
        known = await self._catalogs.catch_up()
        now, outlook = self._clock(), permit.outlook(*verbs, channel_id=channel_id)
        if known.listing is None:
            return VisibleCatalogs(KnownCatalogs(), outlook.sees, now)
        self._follow_rules()
        seen = self._seen.get(outlook)
        if seen is None:
            self._seen[outlook] = seen = VisibleCatalogs(known, outlook.sees, now, self._scheduled)
        self._seen.move_to_end(outlook)
        if len(self._seen) > _MOST:
            self._seen.popitem(last=False)
        seen.advance(now)
        return seen

    def _follow_rules(self) -> None:
        """Forget the orders if other rules hold: what the schedule rotates has its place by that."""
        rules = self._scheduled.rules()
        if rules != self._rules:
            self._rules = rules
            self._seen.clear()

    def _note(self, bucket: str | None) -> None:
        if bucket is None:
            self._seen.clear()
        else:
            for seen in self._seen.values():
                seen.put(bucket)
