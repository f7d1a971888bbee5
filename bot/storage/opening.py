"""Opens the database, the keys and, on PostgreSQL, the job queue. Waits for a PostgreSQL that is unreachable."""

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from bot.file_access import explain
from bot.model.clock import FURTHEST_BACK, steady_clock
from bot.model.errors import DatabaseTrouble, KeyFileUnusable, StartRefused
from bot.model.finding import Finding, Mark, Part, log_finding
from bot.model.role import Role
from bot.sealing.hpke import KeyRing, PublicRing, load_private_keys, load_public_key
from bot.sealing.key_files import KeyFiles
from bot.sealing.private_places import find_exposure
from bot.settings import DatabaseSettings, Settings
from bot.storage.catalogs import Catalogs
from bot.storage.database import Database, DatabaseBusy, DatabaseCorrupt, SchemaTooNew
from bot.storage.high_water_mark import HighWaterMark
from bot.storage.history import HistoryLimit
from bot.storage.lineage import Lineage
from bot.storage.lock import AlreadyRunning, ProcessLock
from bot.storage.sqlite import SqliteDatabase
from bot.storage.sqlite_faults import ROOM
from bot.storage.submissions import Submissions
from bot.storage.trouble import DATABASE_SETTING, Trouble, no_room

if TYPE_CHECKING:
    from bot.storage.jobs import Jobs
    from bot.storage.postgres import PostgresDatabase
    from bot.storage.refusals import Refusal

KEY_DIRECTORY: Final = "sealing-keys"
HIGH_WATER_MARK: Final = "high-water-mark"
"""The file beside an SQLite database, not named like it: `cp bot.sqlite*` must not put it back with a backup."""

_DATABASE: Final = DATABASE_SETTING
_PAUSE: Final = timedelta(seconds=1)
_PAUSE_LONG: Final = timedelta(seconds=10)
_WRITTEN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_DATA_DIR: Final = "R2_CREDENTIAL_DATA_DIR"
_ROLL_BACK: Final = "Run that version or, to go back to this one, restore the backup that was made before the upgrade"

_log = structlog.get_logger()


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

    @property
    def key_ring(self) -> KeyRing | None:
        """The keys that can open sealed tokens; a gateway has none."""
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
        return await _open_postgres(settings, settings.postgres_url.reveal(), stack, clock, tell)
    return await _open_files(settings, stack, clock, tell)


def _read_clock() -> datetime:
    return datetime.now(UTC)


async def wait_for_the_clock(tell: Callable[[Finding], None], read: Callable[[], datetime] = _read_clock) -> None:
    """Wait until the machine's clock is after this code: a machine without one begins in 1970, and asks the network.

    Every certificate would be refused, and every key be from the future, which ends the start.
    """
    while (now := read()) < _WRITTEN:
        tell(
            Finding(
                part=Part.CLOCK,
                event="clock_not_set",
                text=f"the machine's clock says {now.isoformat(timespec='seconds')}",
                mark=Mark.FAILED,
                setting="the machine's clock",
                fix="set it (NTP)",
                blocks=True,
            )
        )
        await asyncio.sleep(_PAUSE_LONG.total_seconds())


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

    Raises StartRefused, also while a bot uses the SQLite file.
    """
    async with AsyncExitStack() as stack:
        url = settings.postgres_url
        opened = _open_server(settings, url.reveal(), stack) if url else _open_file(settings, stack)
        records = await opened
        try:
            return await records.lineage.settle(is_told=True)
        except DatabaseTrouble as error:
            message = f"{_DATABASE}: the database failed ({error}), so nothing was ended; try again"
            raise StartRefused(message) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Records:
    """The open database, and what every process needs of it."""

    database: Database
    submissions: Submissions
    lineage: Lineage
    clock: Callable[[], datetime]
    tell_time: Callable[[], Awaitable[datetime]]
    jobs: "Jobs | None" = None


class _DiskFull(StartRefused):
    """There is no room for the file that it names; someone may make some, so the start of the bot waits."""

    def __init__(self, path: object) -> None:
        super().__init__(f"{_DATABASE}: no room is left for {path}; {ROOM}")
        self.finding = no_room(path)


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
            except _DiskFull as full:
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
    records = await _open_file(settings, stack, clock, tell)
    try:
        key_files, key_ring = _key_ring(settings, records.clock())
    except OSError as error:
        raise _unusable(settings, error) from None
    return Store(
        database=records.database,
        submissions=records.submissions,
        catalogs=Catalogs(records.database, settings.cloudflare_account_id),
        clock=records.clock,
        tell_time=records.tell_time,
        sealing=key_ring,
        key_files=key_files,
        jobs=None,
        lineage=records.lineage,
        history=HistoryLimit(records.database, settings.history),
    )


async def _open_file(
    settings: DatabaseSettings,
    stack: AsyncExitStack,
    clock: Callable[[], datetime] | None = None,
    tell: Callable[[Finding], None] = log_finding,
) -> _Records:
    path = settings.database_path
    try:
        _lock(settings.data_dir / "lock", settings, stack)
        _lock(Path(f"{path}.lock"), settings, stack)
        for each in (path, *path.parent.glob(f"{path.name}-*")):
            if each.exists():
                _require_private(each, _DATABASE)
                _require_access(each)
        database = SqliteDatabase(path)
        stack.push_async_callback(database.close)
        await _start_unless_busy(database, path, tell)
        mark = HighWaterMark(path.with_name(f"{HIGH_WATER_MARK}.{path.name}"), is_expected=True)
        stack.callback(mark.close)
        submissions = Submissions(database, mark=mark)
        now = clock or steady_clock(await _latest_time(submissions, _read_clock()))
    except OSError as error:
        raise _unusable(settings, error) from None
    except DatabaseCorrupt:
        message = (
            f"{_DATABASE}: {path} is damaged, or no database at all, and was left as it is. Put a backup in its place, "
            "or move it away to begin with an empty one"
        )
        raise StartRefused(message) from None
    except SchemaTooNew:
        message = f"{_DATABASE}: {path} belongs to a newer version of the bot and was left as it is. {_ROLL_BACK}"
        raise StartRefused(message) from None
    except (DatabaseTrouble, ValueError):  # a path without a name
        message = f"{_DATABASE}: {path} cannot be opened as a database of this bot"
        raise StartRefused(message) from None
    return _Records(
        database=database,
        submissions=submissions,
        lineage=Lineage(submissions, mark, now),
        clock=now,
        tell_time=_machine_time,
    )


def busy() -> Finding:
    """Return what is found while another program, for instance a backup, holds an SQLite file."""
    return Trouble(reason="another program holds the database's file", fix="end it, or wait until it is done").finding()


async def _start_unless_busy(database: SqliteDatabase, path: Path, tell: Callable[[Finding], None]) -> None:
    """Wait while another program holds the file, for instance a backup."""
    while True:
        try:
            database.start()
        except DatabaseBusy:
            tell(busy())
            await asyncio.sleep(_PAUSE.total_seconds())
        except DatabaseTrouble:
            if database.fault is not None and database.fault.fix == ROOM:
                raise _DiskFull(path) from None
            because = f" ({database.fault.cause}): {database.fault.fix}" if database.fault else ""
            message = f"{_DATABASE}: {path} cannot be opened as a database of this bot{because}"
            raise StartRefused(message) from None
        else:
            return


async def _open_postgres(
    settings: Settings,
    url: str,
    stack: AsyncExitStack,
    clock: Callable[[], datetime] | None,
    tell: Callable[[Finding], None],
) -> Store:
    records = await _open_server(settings, url, stack, clock, tell)
    key_files, sealing = _sealing_on_postgres(settings, records.clock(), stack)
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
    )


async def _open_server(
    settings: DatabaseSettings,
    url: str,
    stack: AsyncExitStack,
    clock: Callable[[], datetime] | None = None,
    tell: Callable[[Finding], None] = log_finding,
) -> _Records:
    try:
        from bot.storage.jobs import Jobs  # noqa: PLC0415 - the extra "postgres"
        from bot.storage.postgres import PostgresDatabase  # noqa: PLC0415 - the extra "postgres"
    except ImportError:
        message = f"{_DATABASE}: PostgreSQL needs the extra: pip install '.[postgres]' in the bot's directory"
        raise StartRefused(message) from None
    try:
        database = PostgresDatabase(url)
    except ValueError as error:
        message = f"{_DATABASE}: {error}"
        raise StartRefused(message) from None
    stack.push_async_callback(database.stop)
    jobs = Jobs(database)
    mark = HighWaterMark(settings.data_dir / HIGH_WATER_MARK, is_expected=False)
    stack.callback(mark.close)
    submissions = Submissions(database, enqueue=jobs.deliver_in, mark=mark)
    started_at = await _wait_for(database, jobs, submissions, tell)
    now = clock or steady_clock(started_at)
    return _Records(
        database=database,
        submissions=submissions,
        lineage=Lineage(submissions, mark, now),
        clock=now,
        tell_time=database.now,
        jobs=jobs,
    )


def _sealing_on_postgres(
    settings: Settings, now: datetime, stack: AsyncExitStack
) -> tuple[KeyFiles | None, KeyRing | PublicRing]:
    if settings.role is Role.GATEWAY:
        return None, _public_ring(settings)
    try:
        if settings.sealing_key is None:
            _lock(settings.data_dir / "lock", settings, stack)
        return _key_ring(settings, now)
    except OSError as error:
        raise _unusable(settings, error) from None


async def _wait_for(
    database: "PostgresDatabase", jobs: "Jobs", submissions: Submissions, tell: Callable[[Finding], None]
) -> datetime:
    """Wait until the database has all tables, and return the time to start the clock with."""
    while True:
        try:
            await database.start()
            await jobs.prepare()
            return await _latest_time(submissions, await database.now())
        except SchemaTooNew:
            message = f"{_DATABASE}: the database belongs to a newer version of the bot. {_ROLL_BACK}"
            raise StartRefused(message) from None
        except DatabaseTrouble:
            if database.refusal is not None:
                _refuse_unless_it_passes(database.refusal)
            tell(database.trouble.finding())
            await database.stop()  # the next attempt makes new connections
            await asyncio.sleep(_PAUSE.total_seconds())


def _refuse_unless_it_passes(refusal: "Refusal") -> None:
    if refusal.fix is not None and not refusal.passes:
        state = f" (SQLSTATE {refusal.sqlstate})" if refusal.sqlstate else ""
        message = f"{_DATABASE}: {refusal.reason}{state}; {refusal.fix}"
        raise StartRefused(message) from None


async def _latest_time(submissions: Submissions, now: datetime) -> datetime:
    """Return the time to start with: if the clock was set back since the last run, no delivery must wait for it."""
    latest = await not_before_what_is_recorded(submissions, now)
    if latest > now:
        _log.warning("clock_was_set_back", seconds=int((latest - now).total_seconds()))
    return latest


async def not_before_what_is_recorded(submissions: Submissions, now: datetime) -> datetime:
    """Return `now` or, if it is later, the latest recorded past time; times over a day ahead are ignored."""
    return max(now, await submissions.latest_time(until=now + FURTHEST_BACK) or now)


async def _machine_time() -> datetime:
    return _read_clock()


def _unusable(settings: DatabaseSettings, error: OSError) -> StartRefused:
    data_dir = settings.data_dir
    if error.errno in _FULL:
        return _DiskFull(error.filename or data_dir)
    failed_at = Path(error.filename) if isinstance(error.filename, str) else data_dir
    if failed_at in (data_dir, *data_dir.parents):
        return StartRefused(f"{_DATA_DIR}: {data_dir} cannot be used {explain(error, data_dir, tree=data_dir)}")
    if data_dir in failed_at.parents:
        return StartRefused(f"{_DATA_DIR}: {failed_at} cannot be used {explain(error, failed_at, tree=data_dir)}")
    return StartRefused(f"{_DATABASE}: {failed_at} cannot be used {explain(error, failed_at)}")


def _lock(path: Path, settings: DatabaseSettings, stack: AsyncExitStack) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _require_private(path.parent, _DATABASE if path.parent != settings.data_dir else _DATA_DIR)
    try:
        stack.callback(ProcessLock(path).release)
    except AlreadyRunning:
        message = (
            f"another process uses {settings.data_dir} or {settings.database_path}: stop it, or set "
            "R2_CREDENTIAL_DATA_DIR and R2_CREDENTIAL_DATABASE_URL to others"
        )
        raise StartRefused(message) from None


def _require_private(path: Path, setting: str) -> None:
    """Refuse a path that others can write: they could plant a database with forged rows, or a key that they know."""
    exposure = find_exposure(path)
    if exposure:
        message = f"{setting}: {path} cannot be used: {exposure}"
        raise StartRefused(message)


def _require_access(path: Path) -> None:
    """Raise OSError for a file that this user cannot read and write: SQLite would say only that it cannot open it."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _key_ring(settings: Settings, now: datetime) -> tuple[KeyFiles | None, KeyRing]:
    """Return the operator's key ring, which the bot never changes, or the generated one with its key files."""
    try:
        if settings.sealing_key is not None:
            return None, KeyRing(*load_private_keys(settings.sealing_key.reveal()))
        key_files = KeyFiles(settings.data_dir / KEY_DIRECTORY)
        return key_files, key_files.load(now)
    except KeyFileUnusable as error:
        raise StartRefused(str(error)) from None
    except ValueError as error:
        message = f"R2_CREDENTIAL_SEALING_KEY: {error}"
        raise StartRefused(message) from None


def _public_ring(settings: Settings) -> PublicRing:
    pem = settings.sealing_public_key.reveal() if settings.sealing_public_key is not None else ""
    try:
        return PublicRing(load_public_key(pem))
    except ValueError as error:
        message = f"R2_CREDENTIAL_SEALING_PUBLIC_KEY: {error}"
        raise StartRefused(message) from None
