"""Sets a session of PostgreSQL up after connecting.

Not at connecting, by `options`: PgBouncer refuses that, or loses it without a word (`ignore_startup_parameters`).
"""

from collections.abc import Mapping
from typing import Any, Final, LiteralString

import psycopg

COMMON: Final[Mapping[str, Any]] = {
    "keepalives_idle": 30,  # a peer that vanished is noticed while nobody waits
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "prepare_threshold": None,  # neither a pooler nor a migration comes across statements prepared before it
}
"""How to connect."""

_SET: Final[LiteralString] = (
    "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS wanted (name, value)"
)


async def set_up(connection: psycopg.AsyncConnection[Any], wanted: Mapping[str, str]) -> None:
    """Set these for the rest of the session, outside of any transaction; closes the connection where that fails."""
    before = connection.autocommit
    try:
        await connection.set_autocommit(True)
        await connection.execute(_SET, (list(wanted), list(wanted.values())))
        await connection.set_autocommit(before)
    except BaseException:
        await connection.close()
        raise
