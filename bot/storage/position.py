"""How far a database has come: a number that grows with each write that may be sent, as part of recording it.

Nothing else raises it. So a database with a lower number than was once seen in it is an older one, in which a token may
be open that is older than the one in its slot.
"""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, case, select, update

from bot.storage.high_water_mark import Mark
from bot.storage.schema import ORIGINS

MOST: Final = 2**62
"""A damaged number beyond this is not counted on, and no longer grows: then the database counts as restored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The database's id, and its number."""

    database_id: str
    sent: int

    @property
    def is_damaged(self) -> bool:
        """Whether the number is none that the bot writes."""
        return not 0 <= self.sent < MOST


def read_position(connection: Connection) -> Position | None:
    """Return the position, or None if it was not recorded yet."""
    return _position(connection.execute(_READ).first())


def count_sent(connection: Connection) -> Position | None:
    """Count a write that may be sent, and return the new position."""
    return _position(connection.execute(_COUNT).first())


def is_at(mark: Mark, position: Position | None) -> bool:
    """Return whether the database is the one of the mark, and has come at least as far.

    The mark must have been read before the transaction began: others may have raised it since.
    """
    if position is None or position.is_damaged:
        return False
    return position.database_id == mark.database_id and position.sent >= mark.sent


def _position(row: Row[Any, Any] | None) -> Position | None:
    if row is None:
        return None
    return Position(database_id=row.id, sent=row.sent if isinstance(row.sent, int) else MOST)  # SQLite keeps any type


_READ: Final = select(ORIGINS.c.id, ORIGINS.c.sent)
_COUNT: Final = (
    update(ORIGINS)
    .values(sent=case((ORIGINS.c.sent < MOST, ORIGINS.c.sent + 1), else_=ORIGINS.c.sent))
    .returning(ORIGINS.c.id, ORIGINS.c.sent)
)
