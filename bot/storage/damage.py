"""Handles rows that no version of the bot has written: each is skipped, left unchanged and reported once.

A damaged row must not block its bucket, a list, or the start.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Final, TypeVar

import structlog
from sqlalchemy import JSON, Row, Table

from bot.model.errors import RecordDamaged, RecordForged

_MOST_REPORTED: Final = 1000
_FIX: Final = "restore this row from a backup, or delete it"
_FIX_OF_FORGED: Final = "find out who writes to this database besides the bot, and delete this row"

_T = TypeVar("_T")
_log = structlog.get_logger()


def require_shape(row: Row[Any], table: Table) -> None:
    """Raise RecordDamaged unless every column holds a value of its type: SQLite keeps anything anywhere."""
    for name, kind, is_nullable in _shape(table):
        value = getattr(row, name)
        if not (is_nullable if value is None else isinstance(value, kind)):
            raise RecordDamaged(table.name, _name(row, table), name)


class SetAside:
    """Reports each damaged row once."""

    def __init__(self) -> None:
        self._reported: set[tuple[str, str]] = set()

    def report(self, damage: RecordDamaged) -> None:
        """Log the key of the row and the fix, but no other value of the row."""
        key = damage.table, damage.row
        if key in self._reported or len(self._reported) >= _MOST_REPORTED:
            return
        self._reported.add(key)
        names = {"table": damage.table, "row": damage.row, "column": damage.column}
        if isinstance(damage, RecordForged):
            _log.critical("record_not_authentic", **names, fix=_FIX_OF_FORGED)
        else:
            _log.error("record_set_aside", **names, fix=_FIX)

    def read_each(self, rows: Iterable[Any], read: Callable[[Any], _T]) -> list[_T]:
        """Return all rows that can be read, and report the others."""
        found = []
        for row in rows:
            try:
                found.append(read(row))
            except RecordDamaged as damage:
                self.report(damage)
        return found


class LeftToOthers(SetAside):
    """Reports nothing: for a transaction that reads rows which others in this process read as well, and report."""

    def report(self, damage: RecordDamaged) -> None:
        """Leave it to them."""


@cache
def _shape(table: Table) -> list[tuple[str, type, bool]]:
    """Return each column's name, the type of its values, and whether it may have none."""
    kinds = {each.name: list if isinstance(each.type, JSON) else each.type.python_type for each in table.columns}
    return [(each.name, kinds[each.name], bool(each.nullable)) for each in table.columns]


def _name(row: Row[Any], table: Table) -> str:
    """Return the key by which an operator finds the row."""
    keys = [column.name for column in table.primary_key] if "id" not in table.columns else ["id"]
    return " ".join(str(getattr(row, key)) for key in keys)
