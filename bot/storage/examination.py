"""Examines a database at rest or in use, for the command `check`. Whatever it writes is undone."""

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection

from bot.model.errors import DatabaseTrouble, KeyFileUnusable
from bot.model.finding import Finding, Mark, Part
from bot.sealing.key_files import KeyFiles
from bot.sealing.private_places import find_exposure
from bot.settings import Settings
from bot.storage.checks import describe, find_scarcity, judge_keys, judge_public_key
from bot.storage.database import Database, DatabaseBusy, DatabaseCorrupt, SchemaTooNew
from bot.storage.lost_file import find_lost
from bot.storage.migrations import bring_up_to_date, has_tables, is_up_to_date
from bot.storage.places import find_unusable, require_access, require_writable
from bot.storage.records import HIGH_WATER_MARK, busy, postgres_of
from bot.storage.ring import KEY_DIRECTORY, read_given_keys, read_public_key
from bot.storage.sqlite import SqliteDatabase
from bot.storage.submissions import find_needed_keys, try_to_write
from bot.storage.trouble import DATA_DIR_SETTING, DATABASE_SETTING, Trouble
from bot.storage.workers_keys import find_seen

if TYPE_CHECKING:
    from bot.storage.postgres import PostgresDatabase

_TOO_NEW: Final = Trouble(
    reason="it belongs to a newer version of the bot", fix="run that version, or restore the backup made before it"
)
_DAMAGED: Final = Trouble(
    reason="the file is damaged, or no database at all",
    fix="put a backup in its place, or move it away to begin with an empty one",
)
_INTERRUPTED: Final = Trouble(
    reason="a process was killed while it changed the file, so the file is not examined",
    fix="start the bot, which undoes the half of that change",
)
_NO_EXTRA: Final = Trouble(
    reason="PostgreSQL needs the extra", fix="run pip install '.[postgres]' in the bot's directory"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _KeyIds:
    """The keys that are needed to open what is sealed, and those that a worker has lately had (None: not known)."""

    needed: frozenset[str] = frozenset()
    seen: frozenset[str] | None = None


class _Undo(Exception):  # noqa: N818 - ends a transaction that must leave nothing behind
    """Rolls a transaction back."""


async def examine_storage(settings: Settings, now: datetime) -> Sequence[Finding]:
    """Return what is found of the database and of the keys. Never raises for what is wrong with them."""
    keys = _KeyIds()
    try:
        if settings.postgres_url is not None:
            database, keys = await _examine_postgres(settings)
        else:
            database, keys = await _examine_files(settings, now)
    except _Bad as bad:
        database = bad.finding
    except OSError as error:
        database = find_unusable(settings, error)
    return [database, _examine_keys(settings, now, keys)]


class _Bad(Exception):  # noqa: N818 - carries a finding up to the caller
    """The database cannot be used."""

    def __init__(self, trouble: Trouble, setting: str = DATABASE_SETTING) -> None:
        super().__init__()
        self.finding = replace(trouble.finding(), setting=setting)


async def _examine_files(settings: Settings, now: datetime) -> tuple[Finding, _KeyIds]:
    path = settings.database_path
    for directory, setting in ((settings.data_dir, DATA_DIR_SETTING), (path.parent, DATABASE_SETTING)):
        _require_usable(directory, setting)
    mark = settings.data_dir / HIGH_WATER_MARK
    _require_own_files(settings.data_dir / "lock", Path(f"{path}.lock"), mark)
    if lost := find_lost(path, mark):
        return lost, _KeyIds()
    if not path.exists():
        return _fine(f"{path} is created at the first start"), _KeyIds()
    for each in (path, *path.parent.glob(f"{path.name}-*")):
        if exposure := find_exposure(each):
            raise _Bad(Trouble(reason=f"{each} cannot be used", fix=exposure))
        require_access(each)
    if _is_filled(path.with_name(f"{path.name}-journal")):
        return replace(_INTERRUPTED.finding(), mark=Mark.WARNING, blocks=False), _KeyIds()
    with _held_wal(path):
        return await _examine_file(path, now)


async def _examine_file(path: Path, now: datetime) -> tuple[Finding, _KeyIds]:
    database = SqliteDatabase(path, set_up=_leave_as_it_is, is_only_examined=True)
    try:
        database.start()
        return find_scarcity(path.parent) or await _examine_tables(database), await _find_key_ids(database, now)
    except DatabaseBusy:
        return replace(busy(), mark=Mark.WARNING, blocks=False), _KeyIds()
    except DatabaseCorrupt:
        raise _Bad(_DAMAGED) from None
    except SchemaTooNew:
        raise _Bad(_TOO_NEW) from None
    except DatabaseTrouble:
        raise _Bad(database.trouble) from None
    finally:
        database.stop()


@contextmanager
def _held_wal(path: Path) -> Iterator[None]:
    """Keep the WAL that a killed bot left: the last connection that closes would move it into the file.

    One that cannot write does not, and no other is the last one while this is open.
    """
    with ExitStack() as stack:
        if _is_filled(path.with_name(f"{path.name}-wal")):
            reader = stack.enter_context(closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)))
            with suppress(sqlite3.Error):  # found again, and reported, by the examination
                reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
        yield


def _is_filled(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _require_usable(directory: Path, setting: str) -> None:
    """Require that this user alone controls a directory, or can create it. Raises OSError."""
    if directory.is_dir() and (exposure := find_exposure(directory)):
        raise _Bad(Trouble(reason=f"{directory} cannot be used", fix=exposure), setting)
    require_writable(directory)


def _require_own_files(*paths: Path) -> None:
    """Require what a start opens without following a link. Raises OSError."""
    for path in paths:
        if path.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        if path.exists():
            require_access(path)


async def _examine_postgres(settings: Settings) -> tuple[Finding, _KeyIds]:
    try:
        return await _examine_server(postgres_of(settings))
    except ImportError:
        raise _Bad(_NO_EXTRA) from None
    except ValueError as error:
        raise _Bad(Trouble(reason=str(error))) from None


async def _examine_server(database: "PostgresDatabase") -> tuple[Finding, _KeyIds]:
    try:
        await database.start(migrates=False)
        return await _examine_tables(database), await _find_key_ids(database, await database.now())
    except SchemaTooNew:
        raise _Bad(_TOO_NEW) from None
    except DatabaseTrouble:
        raise _Bad(database.trouble) from None
    finally:
        await database.stop()


async def _examine_tables(database: Database) -> Finding:
    """Write as a submission does; where there are no tables yet, create them first. Both are undone."""
    name = await describe(database)
    if await database.run(is_up_to_date):
        await _undone(database, try_to_write)
        return _fine(f"{name}, can be written")
    if await database.run(has_tables):  # creating columns would lock the tables of a running bot
        return _fine(f"{name}, has the tables of an older version, which the next start brings up to date")
    await _undone(database, bring_up_to_date)
    return _fine(f"{name}, can be written, and the tables are created at the first start")


async def _undone(database: Database, work: Callable[[Connection], object]) -> None:
    def try_it(connection: Connection) -> None:
        work(connection)
        raise _Undo

    with suppress(_Undo):
        await database.run(try_it)


async def _find_key_ids(database: Database, now: datetime) -> _KeyIds:
    if not await database.run(is_up_to_date):
        return _KeyIds(seen=frozenset())
    return _KeyIds(needed=await find_needed_keys(database, now), seen=await find_seen(database, now))


def _leave_as_it_is(connection: Connection) -> None:
    is_up_to_date(connection)  # raises SchemaTooNew


def _fine(text: str) -> Finding:
    return Finding(part=Part.DATABASE, event="database_answers", text=text)


def _examine_keys(settings: Settings, now: datetime, keys: _KeyIds) -> Finding:
    try:
        return _judge_ring(settings, now, keys)
    except KeyFileUnusable as error:
        return _no_keys(DATA_DIR_SETTING, str(error))
    except _Bad as bad:
        return replace(bad.finding, part=Part.KEYS, event="keys_unusable")
    except OSError as error:
        return replace(find_unusable(settings, error), part=Part.KEYS, event="keys_unusable")
    except ValueError as error:
        name = "R2_CREDENTIAL_SEALING_KEY" if settings.role.delivers else "R2_CREDENTIAL_SEALING_PUBLIC_KEY"
        return _no_keys(name, str(error))


def _judge_ring(settings: Settings, now: datetime, keys: _KeyIds) -> Finding:
    if not settings.role.delivers:
        return judge_public_key(read_public_key(settings).sealing_key.key_id, keys.seen)
    given = read_given_keys(settings)
    if given is not None:
        return judge_keys(given, keys.needed, is_own=False, is_running=False)
    if settings.postgres_url is not None:  # else the database is there as well, and its finding says it
        _require_usable(settings.data_dir, DATA_DIR_SETTING)
        _require_own_files(settings.data_dir / "lock")
    ring = KeyFiles(settings.data_dir / KEY_DIRECTORY).read(now)
    if ring is None and not keys.needed:
        return Finding(part=Part.KEYS, event="keys_to_come", text="the first key is made at the first start")
    return judge_keys(ring, keys.needed, is_own=True, is_running=False)


def _no_keys(setting: str, text: str) -> Finding:
    return Finding(part=Part.KEYS, event="keys_unusable", text=text, mark=Mark.FAILED, setting=setting, blocks=True)
