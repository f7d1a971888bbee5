"""Keeps the snapshot of the account's catalogs fresh, so that opening a form does not wait for Cloudflare."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.catalogs.freshness import FRESH, fresh_tests, is_tested_lately, is_younger
from bot.cloudflare.client import CloudflareClient
from bot.cloudflare.errors import CatalogRefusal, CloudflareError, RouteGone
from bot.model.background import Background
from bot.model.catalog import BucketKey, Catalog, CatalogStatus, CredentialStatus, Snapshot
from bot.model.errors import BotError
from bot.model.known_catalogs import Listing
from bot.model.memory import Memory
from bot.storage.catalogs import Catalogs

REFRESH_EVERY: Final = timedelta(minutes=5)
TEST_EVERY: Final = timedelta(days=1)
"""How often each stored credential is tested if no one asks for its status."""
MOST_TESTS_AT_ONCE: Final = 8

_log = structlog.get_logger()


class SnapshotKeeper:
    """Asks Cloudflare at start, every few minutes, and when someone asks and the list is older than 30 s.

    One request lists all catalogs. Testing the stored credentials takes one request each: once a day, and when someone
    asks for their status.
    """

    def __init__(
        self,
        cloudflare: CloudflareClient,
        catalogs: Catalogs,
        clock: Callable[[], datetime],
        tell_listed: Callable[[Sequence[Catalog]], None] = lambda _: None,
        tell_count: Callable[[int | None], None] = lambda _: None,
    ) -> None:
        """Store the dependencies; `tell_listed` gets each new list, `tell_count` its length, or None for a failure."""
        self._tell_listed = tell_listed
        self._tell_count = tell_count
        self._cloudflare = cloudflare
        self._catalogs = catalogs
        self._clock = clock
        self._asked_at: datetime | None = None
        self._round_began_at: datetime | None = None
        self._wanted = asyncio.Event()
        self._wants_tests = False
        self._failing: set[BucketKey] = set()

    def want(self, *, tests: bool = False) -> None:
        """Request a refresh, unless the list is fresh; with `tests`, also test the credentials. Returns at once."""
        if tests or not self._is_fresh(self._asked_at):
            self._wants_tests = self._wants_tests or tests
            self._wanted.set()

    async def run(self) -> None:
        """Refresh forever; after a failure, the next refresh tries again."""
        await self.refresh()
        while True:
            try:
                async with asyncio.timeout(REFRESH_EVERY.total_seconds()):
                    await self._wanted.wait()
            except TimeoutError:
                await self.refresh()
            else:
                tests, self._wants_tests = self._wants_tests, False
                self._wanted.clear()
                await self.refresh_unless_fresh(tests=tests)

    async def refresh_unless_fresh(self, *, tests: bool = False) -> None:
        """Ask Cloudflare, unless this or another process did so a moment ago. Never fails."""
        try:
            known = (await self._catalogs.catch_up()).listing
        except BotError as error:
            _log.warning("snapshot_not_read", error=str(error))
            return
        tests = tests and (known is None or not (is_tested_lately(known, self._clock()) or self._is_in_round(known)))
        if tests or known is None or not self._is_fresh(known.refreshed_at):
            await self.refresh(tests=tests)

    async def refresh(self, *, tests: bool = False) -> None:
        """Ask Cloudflare and save its answer; with `tests`, test all credentials not tested recently. Never fails.

        That Cloudflare or the database refuses a list is no news here: the checks of those parts say it, with its fix.
        """
        self._asked_at = asked_at = self._clock()
        self._round_began_at = asked_at if tests else self._round_began_at
        is_listed = False
        try:
            listed = await self._list()
            await self._catalogs.save_snapshot(Snapshot(catalogs=listed, refreshed_at=asked_at))
            is_listed = True
            await self._test(asked_at, older_than=fresh_tests(len(listed)) if tests else TEST_EVERY)
            if tests:
                await self._catalogs.note_all_tested(asked_at)
        except BotError as error:
            if is_listed and isinstance(error, CloudflareError):
                _log.warning("credentials_not_tested", error=str(error))
            else:
                _log.debug("snapshot_not_refreshed", error=str(error))
        except Exception as error:  # noqa: BLE001 - a failed refresh must not end the bot
            _log.critical("snapshot_broke", error=type(error).__name__)
        else:
            _log.debug("snapshot_refreshed", catalogs=len(listed))

    async def _list(self) -> tuple[Catalog, ...]:
        try:
            by_key = {catalog.key: catalog for catalog in await self._cloudflare.list_catalogs()}
        except CloudflareError:
            self._tell_count(None)
            raise
        listed = tuple(by_key[key] for key in sorted(by_key))
        self._tell_count(len(listed))
        self._tell_listed(listed)
        return listed

    async def _test(self, now: datetime, older_than: timedelta) -> None:
        """Have Cloudflare test what is due, a few at once; after a failure, the rest comes first next time."""
        known = await self._catalogs.snapshot()
        due = self._find_due(known.catalogs, now, older_than) if known else deque()
        try:
            if due:  # alone: if Cloudflare offers no test, this costs one request
                await self._test_one(due.popleft())
            askers = [self._test_one_after_the_other(due) for _ in range(MOST_TESTS_AT_ONCE)]
            troubles = [each for each in await asyncio.gather(*askers, return_exceptions=True) if each is not None]
        except RouteGone:
            return
        if troubles:
            raise troubles[0]

    async def _test_one_after_the_other(self, due: deque[BucketKey]) -> None:
        try:
            while due:
                await self._test_one(due.popleft())
        except Exception:
            due.clear()  # ends the concurrent tests too
            raise

    async def _test_one(self, key: BucketKey) -> None:
        asked_at = self._clock()
        try:
            status = await self._cloudflare.test_credential(key)
        except CatalogRefusal:  # it was deleted or disabled a moment ago
            return
        except Exception:
            self._failing.add(key)
            raise
        self._failing.discard(key)
        await self._catalogs.save_test(key, status, asked_at)

    def _find_due(self, catalogs: Iterable[Catalog], now: datetime, older_than: timedelta) -> deque[BucketKey]:
        """Return the buckets to be tested, the one tested longest ago first, those whose last test failed last.

        So a catalog that Cloudflare cannot test never keeps the others from being tested.
        """
        due = [catalog for catalog in catalogs if _is_due(catalog, now, older_than)]
        due.sort(key=lambda each: (each.key in self._failing, each.tested_at is not None, each.tested_at or now))
        return deque(catalog.key for catalog in due)

    def _is_in_round(self, known: Listing) -> bool:
        """Return whether a round of tests began recently: a failed one must not be repeated at each status request."""
        return self._round_began_at is not None and is_younger(
            self._round_began_at, self._clock(), than=fresh_tests(known.count)
        )

    def _is_fresh(self, asked_at: datetime | None) -> bool:
        return asked_at is not None and is_younger(asked_at, self._clock(), than=FRESH)


class CatalogsByOthers:
    """Lets a worker refresh the snapshot, for a process without Cloudflare credentials."""

    def __init__(self, ask: Callable[[bool], Awaitable[None]], clock: Callable[[], datetime]) -> None:
        self._ask = ask
        self._clock = clock
        self._asked_at = Memory[bool, datetime](clock)
        self._questions = Background("snapshot_question_broke")

    def want(self, *, tests: bool = False) -> None:
        """Ask for a fresh snapshot, at most once in 30 s. Returns at once."""
        if self._asked_at.get(tests) is None:
            self._asked_at.keep(tests, self._clock(), FRESH)
            self._questions.start(self._ask_once(tests=tests))

    async def _ask_once(self, *, tests: bool) -> None:
        try:
            await self._ask(tests)
        except BotError as error:
            _log.warning("snapshot_not_asked_for", error=str(error))


def _is_due(catalog: Catalog, now: datetime, older_than: timedelta) -> bool:
    if catalog.status is not CatalogStatus.ACTIVE:
        return False
    if catalog.tested_at is None:
        return catalog.credential_status is not CredentialStatus.ABSENT  # listed as empty: nothing to test
    return not is_younger(catalog.tested_at, now, than=older_than)
