"""Shows the stored table of catalogs at once, and again when a refresh arrives.

Reads the database only; the refresh itself runs elsewhere.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, TypeAlias

import structlog

from bot.catalogs.freshness import is_listed_lately, is_tested_lately
from bot.model.background import Background
from bot.model.errors import BotError
from bot.model.known_catalogs import Listing
from bot.policy.gate import Actor
from bot.policy.permit import Permit
from bot.policy.rules import Verb
from bot.slack.ages import Freshness
from bot.slack.stories.parts import Parts
from bot.slack.stories.table import Table

PATIENCE: Final = timedelta(seconds=60)
"""How long to wait for a fresh table; then the old one says that it could not be refreshed."""

Show: TypeAlias = Callable[[Table], Awaitable[None]]

_LOOK_AGAIN: Final = timedelta(milliseconds=250)
_LOOK_AGAIN_AT_LAST: Final = timedelta(seconds=2)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class LiveTables:
    """Keeps one pending refresh for each name; a new lookup under the same name cancels the earlier one."""

    parts: Parts
    _follow_ups: Background = field(default_factory=partial(Background, "fresh_table_broke"))

    async def begin(self, name: str, actor: Actor, permit: Permit, channel_id: str | None, show: Show) -> Table:
        """Return the stored table; unless it is fresh, schedule `show` of a fresh one.

        `channel_id` is where it was asked for, None for no channel. Cancels an earlier lookup under the same name: its
        answer is no longer wanted.
        """
        self.cancel(name)
        table = await self._read(Freshness.BEING_ASKED, permit, channel_id)
        listing = self.parts.catalogs.known.listing
        if is_fresh(listing, table.now):
            return replace(table, freshness=Freshness.FRESH)
        self.follow(name, self._follow(listing, actor, channel_id, show))
        return table

    def follow(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Have the catalogs refreshed, and run what shows that under a name, until the bot stops."""
        self.cancel(name)
        self.parts.want_snapshot(tests=True)
        self._follow_ups.start(work, name)

    def cancel(self, name: str) -> None:
        """Stop what runs under a name: its answer is no longer wanted."""
        earlier = self._follow_ups.find(name)
        if earlier is not None:
            earlier.cancel()

    async def _follow(self, shown: Listing | None, actor: Actor, channel_id: str | None, show: Show) -> None:
        """Show the table again: when it is fresh, or saying that it could not be refreshed."""
        try:
            freshness = await self.wait_for_news(shown)
            permit = await self.parts.gate.permit(actor)  # a minute may have passed
            permit.require(Verb.STATUS, None, channel_id)
            await show(await self._read(freshness, permit, channel_id))
        except BotError as error:
            _log.warning("fresh_table_not_shown", error=str(error))

    async def wait_for_news(self, shown: Listing | None) -> Freshness:
        """Return when the catalogs were refreshed, or could not be; polls the database: another process may do it."""
        until, pause = self.parts.clock() + PATIENCE, _LOOK_AGAIN
        while self.parts.clock() < until:
            await asyncio.sleep(pause.total_seconds())
            known, pause = await self.parts.catalogs.catch_up(), min(pause * 1.5, _LOOK_AGAIN_AT_LAST)
            if _is_news(known.listing, shown, self.parts.clock()):
                return Freshness.FRESH
        return Freshness.NOT_ANSWERED

    async def _read(self, freshness: Freshness, permit: Permit, channel_id: str | None) -> Table:
        """Return what this person may see now; it is to be shown before the next `await`."""
        rotatable = await self.parts.rotations.offered_to(permit, channel_id)
        seen = await self.parts.visibility.of(permit, Verb.STATUS, channel_id=channel_id)
        return Table(
            seen=seen,
            as_of=self.parts.catalogs.known.refreshed_at,
            now=self.parts.clock(),
            freshness=freshness,
            rotatable=rotatable,
        )

    async def stop(self) -> None:
        """Cancel all pending refreshes."""
        self._follow_ups.cancel()
        await self._follow_ups.drain()


def is_fresh(listing: Listing | None, now: datetime) -> bool:
    """Return whether the catalogs were listed and tested lately."""
    return listing is not None and is_listed_lately(listing, now) and is_tested_lately(listing, now)


def _is_news(listing: Listing | None, shown: Listing | None, now: datetime) -> bool:
    """Return whether it was listed and tested since the shown one, where that was not fresh."""
    if listing is None:
        return False
    is_listed = shown is None or listing.refreshed_at > shown.refreshed_at or is_listed_lately(listing, now)
    is_tested = listing.tested_at != (shown.tested_at if shown else None) or is_tested_lately(listing, now)
    return is_listed and is_tested
