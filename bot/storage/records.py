"""Opens either kind of database. Waits where that may help, and refuses what has to be fixed first."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection

from bot.model.clock import steady_clock
from bot.model.errors import DatabaseTrouble, StartRefused
from bot.model.finding import Finding, log_finding
from bot.settings import DatabaseSettings
from bot.storage.chain_start import HEAD_FILE, RequireKey, load_chain, require_same_key, set_up_with
from bot.storage.database import Database, DatabaseBusy, DatabaseCorrupt, SchemaTooNew
from bot.storage.high_water_mark import HighWaterMark
from bot.storage.lineage import Lineage
from bot.storage.lost_file import require_not_lost
from bot.storage.migrations import bring_up_to_date
from bot.storage.places import DiskFull, lock_place, require_access, require_private, unusable
from bot.storage.sqlite import SqliteDatabase
from bot.storage.sqlite_faults import ROOM
from bot.storage.start_clock import latest_time, machine_time, read_clock
from bot.storage.submissions import Submissions
from bot.storage.trouble import DATABASE_SETTING, Trouble

if TYPE_CHECKING:
    from bot.storage.jobs import Jobs
    from bot.storage.postgres import PostgresDatabase
    from bot.storage.refusals import Refusal

HIGH_WATER_MARK: Final = "high-water-mark"
"""In the data directory, one for all databases, and not named like one: `cp bot.sqlite*` must not put it back."""

_PAUSE: Final = timedelta(seconds=1)
_ROLL_BACK: Final = "Run that version or, to go back to this one, restore the backup that was made before the upgrade"


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """The open database, and what every process needs of it."""

    database: Database
    submissions: Submissions
    lineage: Lineage
    clock: Callable[[], datetime]
    tell_time: Callable[[], Awaitable[datetime]]
    jobs: "Jobs | None" = None


async def open_file(  # noqa: PLR0913 - those who open it name what they change
    settings: DatabaseSettings,
    stack: AsyncExitStack,
    clock: Callable[[], datetime] | None = None,
    tell: Callable[[Finding], None] = log_finding,
    require_key: RequireKey = require_same_key,
    *,
    adopts: bool = False,
) -> Records:
    """Open the SQLite file; waits while another program holds it. Raises StartRefused.

    Records that nobody signed are signed if it `adopts` them, or if no process has ever signed any here.
    """
    path = settings.database_path
    try:
        lock_place(settings.data_dir / "lock", settings, stack)
        lock_place(Path(f"{path}.lock"), settings, stack)
        for each in (path, *path.parent.glob(f"{path.name}-*")):
            if each.exists():
                require_private(each, DATABASE_SETTING)
                require_access(each)
        require_not_lost(path, settings.data_dir / HIGH_WATER_MARK)
        chain = load_chain(settings)
        is_first = not (settings.data_dir / HEAD_FILE).exists()
        database = SqliteDatabase(path, set_up_with(chain, clock or read_clock, adopts=adopts or is_first))
        stack.push_async_callback(database.close)
        await _start_unless_busy(database, path, tell)
        await database.run(lambda connection: require_key(connection, chain))
        mark = HighWaterMark(settings.data_dir / HIGH_WATER_MARK, is_expected=True)
        stack.callback(mark.close)
        mark.open()
        submissions = Submissions(database, chain, mark=mark)
        now = clock or steady_clock(await latest_time(submissions, read_clock()))
    except OSError as error:
        raise unusable(settings, error) from None
    except DatabaseCorrupt:
        message = (
            f"{DATABASE_SETTING}: {path} is damaged, or no database at all, and was left as it is. Put a backup in its "
            "place, or move it away to begin with an empty one"
        )
        raise StartRefused(message) from None
    except SchemaTooNew:
        message = (
            f"{DATABASE_SETTING}: {path} belongs to a newer version of the bot and was left as it is. {_ROLL_BACK}"
        )
        raise StartRefused(message) from None
    except (DatabaseTrouble, ValueError):  # a path without a name
        message = f"{DATABASE_SETTING}: {path} cannot be opened as a database of this bot"
        raise StartRefused(message) from None
    return Records(
        database=database,
        submissions=submissions,
        lineage=Lineage(submissions, mark, now),
        clock=now,
        tell_time=machine_time,
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
                raise DiskFull(path) from None
            because = f" ({database.fault.cause}): {database.fault.fix}" if database.fault else ""
            message = f"{DATABASE_SETTING}: {path} cannot be opened as a database of this bot{because}"
            raise StartRefused(message) from None
        else:
            return


def postgres_of(
    settings: DatabaseSettings, set_up: Callable[[Connection], None] = bring_up_to_date
) -> "PostgresDatabase":
    """Return the database of the URL in the settings, not started.

    Raises ImportError without the extra "postgres", and ValueError, which quotes no password, for a bad URL.
    """
    from bot.storage.postgres import PostgresDatabase  # noqa: PLC0415 - the extra "postgres"

    url = settings.postgres_url
    return PostgresDatabase("" if url is None else url.reveal(), set_up=set_up)


async def open_server(  # noqa: PLR0913 - as above
    settings: DatabaseSettings,
    stack: AsyncExitStack,
    clock: Callable[[], datetime] | None = None,
    tell: Callable[[Finding], None] = log_finding,
    require_key: RequireKey = require_same_key,
    *,
    adopts: bool = False,
) -> Records:
    """Open the PostgreSQL database; waits for a server that is away. Raises StartRefused.

    Records that nobody signed are signed if it `adopts` them: a process may have no directory that would tell whether
    others have signed any before.
    """
    try:
        chain = load_chain(settings)
        database = postgres_of(settings, set_up_with(chain, clock or read_clock, adopts=adopts))
        from bot.storage.jobs import Jobs  # noqa: PLC0415 - the extra "postgres"
    except ImportError:
        message = f"{DATABASE_SETTING}: PostgreSQL needs the extra: pip install '.[postgres]' in the bot's directory"
        raise StartRefused(message) from None
    except OSError as error:
        raise unusable(settings, error) from None
    except ValueError as error:
        message = f"{DATABASE_SETTING}: {error}"
        raise StartRefused(message) from None
    stack.push_async_callback(database.stop)
    jobs = Jobs(database)
    mark = HighWaterMark(settings.data_dir / HIGH_WATER_MARK, is_expected=False)
    stack.callback(mark.close)
    mark.open()
    submissions = Submissions(database, chain, enqueue=jobs.deliver_in, mark=mark)
    started_at = await _wait_for(database, jobs, submissions, tell, require_key)
    now = clock or steady_clock(started_at)
    return Records(
        database=database,
        submissions=submissions,
        lineage=Lineage(submissions, mark, now),
        clock=now,
        tell_time=database.now,
        jobs=jobs,
    )


async def _wait_for(
    database: "PostgresDatabase",
    jobs: "Jobs",
    submissions: Submissions,
    tell: Callable[[Finding], None],
    require_key: RequireKey,
) -> datetime:
    """Wait until the database has all tables, and return the time to start the clock with."""
    while True:
        try:
            await database.start()
            await database.run(lambda connection: require_key(connection, submissions.chain))
            await jobs.prepare()
            return await latest_time(submissions, await database.now())
        except SchemaTooNew:
            message = f"{DATABASE_SETTING}: the database belongs to a newer version of the bot. {_ROLL_BACK}"
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
        message = f"{DATABASE_SETTING}: {refusal.reason}{state}; {refusal.fix}"
        raise StartRefused(message) from None
