"""Keeps the list of the account's catalogs fresh, so that nobody who opens a form waits for Cloudflare."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.catalog import Snapshot
from bot.cloudflare.client import CloudflareClient
from bot.errors import BotError
from bot.records import Records

REFRESH_EVERY: Final = timedelta(minutes=5)
FRESH: Final = timedelta(seconds=30)

_log = structlog.get_logger()


class SnapshotKeeper:
    """Asks Cloudflare at start, every few minutes, and when somebody looks at a list older than 30 s."""

    def __init__(
        self, cloudflare: CloudflareClient, records: Records, account_id: str, clock: Callable[[], datetime]
    ) -> None:
        self._cloudflare = cloudflare
        self._records = records
        self._account_id = account_id
        self._clock = clock
        self._asked_at: datetime | None = None
        self._wanted = asyncio.Event()

    def want(self) -> None:
        """Somebody looks at the list: refresh it soon unless it is fresh. Returns at once."""
        if self._asked_at is None or not timedelta(0) <= self._clock() - self._asked_at < FRESH:
            self._wanted.set()

    async def run(self) -> None:
        """Refresh for ever; a failure is logged and tried again at the next occasion."""
        while True:
            self._wanted.clear()
            await self.refresh()
            try:
                async with asyncio.timeout(REFRESH_EVERY.total_seconds()):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    async def refresh_unless_fresh(self) -> None:
        """Ask Cloudflare, unless another process did a moment ago. Never fails."""
        try:
            known = await self._records.snapshot(self._account_id)
        except BotError as error:
            _log.warning("snapshot_not_read", error=str(error))
            return
        if known is None or not timedelta(0) <= self._clock() - known.refreshed_at < FRESH:
            await self.refresh()

    async def refresh(self) -> None:
        """Ask Cloudflare and keep what it says. Never fails."""
        self._asked_at = self._clock()
        try:
            by_bucket = {catalog.bucket: catalog for catalog in await self._cloudflare.list_catalogs()}
            catalogs = tuple(by_bucket[bucket] for bucket in sorted(by_bucket))
            await self._records.save_snapshot(
                self._account_id, Snapshot(catalogs=catalogs, refreshed_at=self._asked_at)
            )
        except BotError as error:
            _log.warning("snapshot_not_refreshed", error=str(error))
        except Exception as error:  # noqa: BLE001 - an old list must not end the bot
            _log.critical("snapshot_broke", error=type(error).__name__)
        else:
            _log.debug("snapshot_refreshed", catalogs=len(catalogs))


class CatalogsByOthers:
    """Has some worker refresh the list: what a process without Cloudflare's credentials does when somebody looks."""

    def __init__(self, ask: Callable[[], Awaitable[None]], clock: Callable[[], datetime]) -> None:
        self._ask = ask
        self._clock = clock
        self._asked_at: datetime | None = None
        self._question: asyncio.Task[None] | None = None

    def want(self) -> None:
        """Somebody looks at the list: ask for a fresh one, once in 30 s. Returns at once."""
        if self._asked_at is None or not timedelta(0) <= self._clock() - self._asked_at < FRESH:
            self._asked_at = self._clock()
            self._question = asyncio.create_task(self._ask_once())

    async def _ask_once(self) -> None:
        try:
            await self._ask()
        except BotError as error:
            _log.warning("snapshot_not_asked_for", error=str(error))
