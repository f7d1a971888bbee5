"""Applies the settings of a PostgreSQL session after connecting.

Not while connecting, by `options`: PgBouncer refuses those, or drops them silently (`ignore_startup_parameters`).
"""

from collections.abc import Mapping
from typing import Any, Final, LiteralString

import psycopg

COMMON: Final[Mapping[str, Any]] = {
    "keepalives_idle": 30,  # notices a vanished peer while the connection is idle
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "client_encoding": "utf8",  # otherwise PGCLIENTENCODING of the environment decides what can be written
    "prepare_threshold": None,  # prepared statements break behind a pooler and after a migration
}
"""Connection parameters for every connection."""

_SET: Final[LiteralString] = (
    "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS wanted (name, value)"
)


async def set_up(connection: psycopg.AsyncConnection[Any], wanted: Mapping[str, str]) -> None:
    """Apply settings to the session, outside any transaction; closes the connection on failure."""
    before = connection.autocommit
    try:
        await connection.set_autocommit(True)
        await connection.execute(_SET, (list(wanted), list(wanted.values())))
        await connection.set_autocommit(before)
    except BaseException:
        await connection.close()
        raise
