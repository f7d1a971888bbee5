"""INSERT ... ON CONFLICT: the two databases spell it alike, but SQLAlchemy has it for each of them alone."""

from collections.abc import Callable, Mapping
from typing import Final

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

Insert = sqlite.Insert | postgresql.Insert

INSERTS: Final[Mapping[str, Callable[[Table], Insert]]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def insert_into(connection: Connection, table: Table) -> Insert:
    """Return the dialect's own INSERT, which knows ON CONFLICT."""
    return INSERTS[connection.dialect.name](table)
