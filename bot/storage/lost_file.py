"""Recognises an SQLite file that is gone: to begin with an empty one would hide the loss until someone asks for it."""

from pathlib import Path

from bot.model.errors import StartRefused
from bot.model.finding import Finding, Mark, Part
from bot.storage.high_water_mark import read_mark
from bot.storage.trouble import DATA_DIR_SETTING, DATABASE_SETTING


def require_not_lost(database: Path, mark: Path) -> None:
    """Refuse to begin with an empty database in the place of a lost one. Raises StartRefused and OSError."""
    lost = find_lost(database, mark)
    if lost is not None:
        message = f"{lost.setting}: {lost.text}; {lost.fix}"
        raise StartRefused(message)


def find_lost(database: Path, mark: Path) -> Finding | None:
    """Return a finding if there is no database, or an empty file, where the mark says one was used. Raises OSError."""
    if database.exists() and database.stat().st_size > 0:
        return None
    used = read_mark(mark)
    if used is None or used.is_new:  # a first start that was killed
        return None
    return Finding(
        part=Part.DATABASE,
        event="database_missing",
        text=f"there is no database in {database}, and {mark} says that one was in use",
        mark=Mark.FAILED,
        setting=DATA_DIR_SETTING if database.parent == mark.parent else DATABASE_SETTING,
        fix=f"put a backup in place (docs/backup.md); to begin with an empty database, remove {mark}",
        blocks=True,
    )
