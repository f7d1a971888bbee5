"""INSERT ... ON CONFLICT: the same in both databases, but SQLAlchemy provides it for each dialect separately."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

Insert = sqlite.Insert | postgresql.Insert

INSERTS: Final[Mapping[str, Callable[[Table], Insert]]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def insert_into(connection: Connection, table: Table) -> Insert:
    """Return the dialect's INSERT, which supports ON CONFLICT."""
    return INSERTS[connection.dialect.name](table)


def upsert(connection: Connection, table: Table, row: dict[str, Any], key: tuple[str, ...]) -> None:
    """Insert a row, or update the one with the same `key`."""
    connection.execute(_upsert(connection.dialect.name, table, tuple(row), key), row)


@cache
def _upsert(dialect: str, table: Table, columns: tuple[str, ...], key: tuple[str, ...]) -> Insert:
    statement = INSERTS[dialect](table)
    changed = {name: statement.excluded[name] for name in columns}
    return statement.on_conflict_do_update(index_elements=key, set_=changed)
