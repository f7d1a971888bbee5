"""Shows the stored table of catalogs at once, and again when a refresh arrives.

Reads the database only; the refresh itself runs elsewhere.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeAlias

import structlog

from bot.catalogs.freshness import is_listed_lately, is_tested_lately
from bot.model.background import Background
from bot.model.catalog import Snapshot
from bot.model.errors import BotError
from bot.policy.gate import Actor, Permit
from bot.slack.stories.parts import Parts
from bot.slack.stories.table import Freshness, Table, build_table

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

    async def begin(self, name: str, actor: Actor, permit: Permit, show: Show) -> Table:
        """Return the stored table; unless it is fresh, schedule `show` of a fresh one.

        Cancels an earlier lookup under the same name: its answer is no longer wanted.
        """
        earlier = self._follow_ups.find(name)
        if earlier is not None:
            earlier.cancel()
        snapshot = await self.parts.catalogs.snapshot()
        if _is_fresh(snapshot, self.parts.clock()):
            return await self._read(snapshot, Freshness.FRESH, permit)
        table = await self._read(snapshot, Freshness.BEING_ASKED, permit)
        self.parts.want_snapshot(tests=True)
        self._follow_ups.start(self._follow(snapshot, actor, show), name)
        return table

    async def _follow(self, shown: Snapshot | None, actor: Actor, show: Show) -> None:
        """Show the table again: when it is fresh, or saying that it could not be refreshed."""
        try:
            snapshot, freshness = await self._wait_for_news(shown)
            permit = await self.parts.gate.permit(actor)  # a minute may have passed
            await show(await self._read(snapshot, freshness, permit))
        except BotError as error:
            _log.warning("fresh_table_not_shown", error=str(error))

    async def _wait_for_news(self, shown: Snapshot | None) -> tuple[Snapshot | None, Freshness]:
        """Poll the database: another process may do the refresh."""
        until, pause = self.parts.clock() + PATIENCE, _LOOK_AGAIN
        snapshot = shown
        while self.parts.clock() < until:
            await asyncio.sleep(pause.total_seconds())
            snapshot, pause = await self.parts.catalogs.snapshot(), min(pause * 1.5, _LOOK_AGAIN_AT_LAST)
            if _is_news(snapshot, shown, self.parts.clock()):
                return snapshot, Freshness.FRESH
        return snapshot, Freshness.NOT_ANSWERED

    async def _read(self, snapshot: Snapshot | None, freshness: Freshness, permit: Permit) -> Table:
        seen = snapshot and replace(
            snapshot, catalogs=tuple(catalog for catalog in snapshot.catalogs if permit.sees(catalog.key))
        )
        stored = await self.parts.catalogs.stored_credentials()
        return build_table(seen, stored, self.parts.clock(), freshness)

    async def stop(self) -> None:
        """Cancel all pending refreshes."""
        self._follow_ups.cancel()
        await self._follow_ups.drain()


def _is_fresh(snapshot: Snapshot | None, now: datetime) -> bool:
    return snapshot is not None and is_listed_lately(snapshot, now) and is_tested_lately(snapshot, now)


def _is_news(snapshot: Snapshot | None, shown: Snapshot | None, now: datetime) -> bool:
    """Return whether it was listed and tested since the shown one, where that was not fresh."""
    if snapshot is None:
        return False
    is_listed = shown is None or snapshot.refreshed_at > shown.refreshed_at or is_listed_lately(snapshot, now)
    is_tested = snapshot.tested_at != (shown.tested_at if shown else None) or is_tested_lately(snapshot, now)
    return is_listed and is_tested
