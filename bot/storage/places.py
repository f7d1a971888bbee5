"""Makes sure that this process alone uses its files, and says what is wrong with those that it cannot use."""

import errno
import os
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from bot.file_access import find_fix
from bot.model.errors import StartRefused
from bot.model.finding import Finding
from bot.sealing.private_places import find_exposure
from bot.settings import DatabaseSettings
from bot.storage.lock import AlreadyRunning, ProcessLock
from bot.storage.trouble import DATA_DIR_SETTING, DATABASE_SETTING, Trouble, no_room

NO_DATABASE: Final = f"there is no database of the bot here; set {DATA_DIR_SETTING} or {DATABASE_SETTING}"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class DiskFull(StartRefused):
    """There is no room for the file that it names; someone may make some, so the start of the bot waits."""

    def __init__(self, path: object) -> None:
        self.finding = no_room(path)
        super().__init__(f"{self.finding.setting}: {self.finding.text}; {self.finding.fix}")


class NoRecordsYet(StartRefused):
    """There is no database, or none with an audit: the bot's first start, or that after an upgrade, makes it."""


def require_file(path: Path) -> None:
    """Require the SQLite file of a bot, for a command beside it, in a place where others write nothing.

    Raises StartRefused; NoRecordsYet if there is none.
    """
    try:
        path.stat()
        exposed = {each: exposure for each in (path.parent, path) if (exposure := find_exposure(each))}
    except FileNotFoundError:
        message = f"{path}: {NO_DATABASE}"
        raise NoRecordsYet(message) from None
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror}); run this as the bot's user"
        raise StartRefused(message) from None
    for place, exposure in exposed.items():
        message = f"{place} cannot be used: {exposure}"
        raise StartRefused(message)


def lock_place(path: Path, settings: DatabaseSettings, stack: AsyncExitStack) -> None:
    """Keep other processes out while `stack` is open; creates the directory. Raises StartRefused and OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    require_private(path.parent, DATABASE_SETTING if path.parent != settings.data_dir else DATA_DIR_SETTING)
    try:
        stack.callback(ProcessLock(path).release)
    except AlreadyRunning:
        message = (
            f"another process uses {settings.data_dir} or {settings.database_path}: stop it, or set "
            "R2_CREDENTIAL_DATA_DIR and R2_CREDENTIAL_DATABASE_URL to others"
        )
        raise StartRefused(message) from None


def require_private(path: Path, setting: str) -> None:
    """Refuse a path that others can write: they could plant a database with forged rows, or a key that they know."""
    exposure = find_exposure(path)
    if exposure:
        message = f"{setting}: {path} cannot be used: {exposure}"
        raise StartRefused(message)


def require_access(path: Path) -> None:
    """Raise OSError for a file that this user cannot read and write: SQLite would say only that it cannot open it."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def require_writable(directory: Path) -> None:
    """Raise the OSError with which a start would fail to use or to make a directory; what is tried is undone."""
    found = next(each for each in (directory, *directory.absolute().parents) if os.path.lexists(each))
    if not found.is_dir() and (found == directory or found.is_symlink()):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(found))
    try:
        Path(mkdtemp(prefix=".check-", dir=found)).rmdir()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(directory)) from None


def unusable(settings: DatabaseSettings, error: OSError) -> StartRefused:
    """Return the refusal for a place that failed, with the setting that names it and the fix."""
    if error.errno in _FULL:
        return DiskFull(error.filename or settings.data_dir)
    found = find_unusable(settings, error)
    return StartRefused(f"{found.setting}: {found.text}{': ' if found.fix else ''}{found.fix}")


def find_unusable(settings: DatabaseSettings, error: OSError) -> Finding:
    """Return the same as a finding."""
    data_dir = settings.data_dir
    if error.errno in _FULL:
        return no_room(error.filename or data_dir)
    failed_at = Path(error.filename) if isinstance(error.filename, str) else data_dir
    if failed_at in (data_dir, *data_dir.parents):
        failed_at = data_dir
    is_own = failed_at == data_dir or data_dir in failed_at.parents
    trouble = Trouble(
        reason=f"{failed_at} cannot be used ({error.strerror or 'it cannot be opened'})",
        fix=find_fix(error, failed_at, tree=data_dir if is_own else None),
    )
    return replace(trouble.finding(), setting=DATA_DIR_SETTING if is_own else DATABASE_SETTING)
