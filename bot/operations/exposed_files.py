"""Finds secret files that other users of this machine can read. The operator is warned; the bot starts anyway."""

import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from bot.sealing.private_places import is_read_by_others
from bot.settings import LoadedSettings

_HANDED_OUT: Final = Path("/run/secrets")
"""Docker and Podman put secrets there, readable by all users of the container; the bot is the only one."""


def find_exposed(loaded: LoadedSettings, handed_out: Path = _HANDED_OUT) -> Iterator[str]:
    """Yield a warning with the fix for each such file, the database and the data directory."""
    for setting, path in loaded.secret_files.items():
        if _is_exposed(path) and not path.resolve().is_relative_to(handed_out):
            yield f"{setting}: others can read {path}: {_fix(path)}, and replace its secrets if anyone has read them"
    settings = loaded.settings
    if _is_exposed(settings.data_dir, _is_own_directory):
        yield f"R2_CREDENTIAL_DATA_DIR: others can read {settings.data_dir}: {_fix(settings.data_dir)}"
    database = settings.database_path
    if settings.postgres_url is None and _is_exposed(database, Path.is_file):
        yield f"R2_CREDENTIAL_DATABASE_URL: others can read {database}: {_fix(database)}"


def _is_exposed(path: Path, is_of_kind: Callable[[Path], bool] = Path.exists) -> bool:
    try:
        return is_of_kind(path) and is_read_by_others(path)
    except (OSError, ValueError):  # not there yet, or unreadable, which is reported elsewhere
        return False


def _is_own_directory(path: Path) -> bool:
    return path.is_dir() and path.stat().st_uid == os.geteuid()  # another user's is refused, with one line


def _fix(path: Path) -> str:
    """Return the command; a file that another user lets this one read has to change hands first.

    Not to root, which reads it anyway: it may be the file of a bot that is another user's.
    """
    name, user = shlex.quote(str(path)), os.geteuid()
    hand_over = f"chown {user} {name} && " if user not in (0, path.stat().st_uid) else ""
    return f"run `{hand_over}chmod go-rwx {name}`"
