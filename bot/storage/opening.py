"""Opens the database, the keys and, on PostgreSQL, the job queue. Waits for what may come without a restart."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from bot.model.errors import DatabaseTrouble, StartRefused
from bot.model.finding import Finding, log_each_once, log_finding
from bot.sealing.hpke import KeyRing, PublicRing
from bot.sealing.key_files import KeyFiles
from bot.settings import DatabaseSettings, Settings
from bot.storage.catalogs import Catalogs
from bot.storage.chain_start import RequireKey, require_another_key, require_same_key
from bot.storage.database import Database, SchemaTooNew
from bot.storage.history import HistoryLimit
from bot.storage.lineage import Lineage
from bot.storage.migrations import has_tables
from bot.storage.people import PeopleLimit
from bot.storage.places import NO_DATABASE, DiskFull, lock_place, unusable
from bot.storage.records import Records, open_file, open_server, postgres_of
from bot.storage.ring import load_public_ring, load_ring
from bot.storage.start_clock import wait_for_the_clock
from bot.storage.submissions import Submissions
from bot.storage.trouble import DATABASE_SETTING

if TYPE_CHECKING:
    from bot.storage.jobs import Jobs

_PAUSE: Final = timedelta(seconds=1)
_PAUSE_LONG: Final = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Everything that a process of the bot has open.

    `jobs` is set on PostgreSQL only, `key_files` only if the bot generates its keys.
    """

    database: Database
    submissions: Submissions
    catalogs: Catalogs
    clock: Callable[[], datetime]
    tell_time: Callable[[], Awaitable[datetime]]
    """The time of the machine or, on PostgreSQL, of the database server; it can jump when that clock is set."""
    sealing: KeyRing | PublicRing
    key_files: KeyFiles | None
    jobs: "Jobs | None"
    lineage: Lineage
    history: HistoryLimit
    people: PeopleLimit

    @property
    def key_ring(self) -> KeyRing | None:
        """The keys that can open sealed tokens; a process that does not deliver has none."""
        return self.sealing if isinstance(self.sealing, KeyRing) else None


async def open_store(
    settings: Settings,
    stack: AsyncExitStack,
    clock: Callable[[], datetime] | None,
    tell: Callable[[Finding], None] = log_finding,
) -> Store:
    """Open everything, and close it with `stack`. The default `clock` is steady and starts at the database's time.

    Raises StartRefused. Waits without a limit, and tells why: for a clock that was not set yet, for room on the disk,
    for another program that holds the file, and for an unreachable PostgreSQL.
    """
    await wait_for_the_clock(tell)
    if settings.postgres_url is not None:
        return await _open_postgres(settings, stack, clock, tell)
    return await _open_files(settings, stack, clock, tell)


async def settle_at_the_start(store: Store, tell: Callable[[Finding], None]) -> None:
    """Settle whether the database was restored, before anything of it is delivered; wait for a database in trouble."""
    while True:
        try:
            await store.lineage.settle()
        except DatabaseTrouble:
            tell(store.database.trouble.finding())
            await asyncio.sleep(_PAUSE.total_seconds())
        else:
            store.submissions.settle_by(store.lineage.settle)
            return


async def end_after_a_restore(settings: DatabaseSettings) -> int:
    """End all that the database holds open, without running the bot, and return how many submissions that were.

    Raises StartRefused, also while a bot uses the SQLite file, and where there is no database: the operator would take
    an empty one, made at a wrong place, for the restored one.
    """
    return await _end_all(settings, require_same_key, lambda lineage: lineage.settle(is_told=True), adopts=True)


async def begin_chain(settings: DatabaseSettings) -> int:
    """Go on with the present key of the audit after one that is lost, and end all that the database holds open.

    Returns how many submissions that were. Raises StartRefused, also if the present key signs the audit already.
    """
    return await _end_all(settings, require_another_key, Lineage.begin_chain)


async def _end_all(
    settings: DatabaseSettings,
    require_key: RequireKey,
    end: Callable[[Lineage], Awaitable[int]],
    *,
    adopts: bool = False,
) -> int:
    await _require_database(settings)
    async with AsyncExitStack() as stack:
        opener = open_file if settings.postgres_url is None else open_server
        records = await opener(settings, stack, tell=log_each_once(), require_key=require_key, adopts=adopts)
        try:
            return await end(records.lineage)
        except DatabaseTrouble as error:
            message = f"{DATABASE_SETTING}: the database failed ({error}), so nothing was ended; try again"
            raise StartRefused(message) from None


async def _require_database(settings: DatabaseSettings) -> None:
    if settings.postgres_url is None:
        is_there, place = settings.database_path.is_file(), str(settings.database_path)
    else:
        is_there, place = await _has_tables(settings), DATABASE_SETTING
    if not is_there:
        message = f"{place}: {NO_DATABASE}"
        raise StartRefused(message)


async def _has_tables(settings: DatabaseSettings) -> bool:
    """Return whether a server has the bot's tables; also true if that cannot be asked: opening it says why."""
    try:
        database = postgres_of(settings)
    except (ImportError, ValueError):
        return True
    try:
        await database.start(migrates=False)
        return await database.run(has_tables)
    except (DatabaseTrouble, SchemaTooNew):
        return True
    finally:
        await database.stop()


async def _open_files(
    settings: Settings,
    stack: AsyncExitStack,
    clock: Callable[[], datetime] | None,
    tell: Callable[[Finding], None],
) -> Store:
    """Open the files; wait while the disk is full, since a restart would not help."""
    while True:
        async with AsyncExitStack() as attempt:
            try:
                store = await _open_files_once(settings, attempt, clock, tell)
            except DiskFull as full:
                tell(full.finding)
            else:
                await stack.enter_async_context(attempt.pop_all())
                return store
        await asyncio.sleep(_PAUSE_LONG.total_seconds())


async def _open_files_once(
    settings: Settings,
    stack: AsyncExitStack,
    clock: Callable[[], datetime] | None,
    tell: Callable[[Finding], None],
) -> Store:
    records = await open_file(settings, stack, clock, tell)
    try:
        key_files, key_ring = load_ring(settings, records.clock())
    except OSError as error:
        raise unusable(settings, error) from None
    return _join(settings, records, key_files, key_ring)


async def _open_postgres(
    settings: Settings,
    stack: AsyncExitStack,
    clock: Callable[[], datetime] | None,
    tell: Callable[[Finding], None],
) -> Store:
    records = await open_server(settings, stack, clock, tell)
    key_files, sealing = _sealing_on_postgres(settings, records.clock(), stack)
    return _join(settings, records, key_files, sealing)


def _sealing_on_postgres(
    settings: Settings, now: datetime, stack: AsyncExitStack
) -> tuple[KeyFiles | None, KeyRing | PublicRing]:
    if not settings.role.delivers:
        return None, load_public_ring(settings)
    try:
        if settings.sealing_key is None:
            lock_place(settings.data_dir / "lock", settings, stack)
        return load_ring(settings, now)
    except OSError as error:
        raise unusable(settings, error) from None


def _join(settings: Settings, records: Records, key_files: KeyFiles | None, sealing: KeyRing | PublicRing) -> Store:
    return Store(
        database=records.database,
        submissions=records.submissions,
        catalogs=Catalogs(records.database, settings.cloudflare_account_id),
        clock=records.clock,
        tell_time=records.tell_time,
        sealing=sealing,
        key_files=key_files,
        jobs=records.jobs,
        lineage=records.lineage,
        history=HistoryLimit(records.database, settings.history),
        people=PeopleLimit(records.database, records.submissions.chain, settings.history),
    )
