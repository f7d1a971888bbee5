"""Which keys the workers have: a gateway whose public key belongs to none of them would seal what nobody can open."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, delete, select

from bot.storage.database import Database
from bot.storage.schema import WORKERS_KEYS
from bot.storage.upsert import upsert

SEEN_FOR: Final = timedelta(minutes=5)
"""A worker says what it has every minute."""


async def say_which(database: Database, key_ids: Collection[str], now: datetime) -> None:
    """Record that a worker has these keys now, and forget the keys that no worker has had for a while."""

    def say(connection: Connection) -> None:
        for key_id in sorted(key_ids):  # sorted: two workers must not lock the rows in opposite orders
            upsert(connection, WORKERS_KEYS, {"key_id": key_id, "seen_at": now}, ("key_id",))
        connection.execute(delete(WORKERS_KEYS).where(WORKERS_KEYS.c.seen_at < now - SEEN_FOR))

    await database.run(say)


async def find_seen(database: Database, now: datetime) -> frozenset[str]:
    """Return the keys that some worker has; raises DatabaseTrouble."""
    query = select(WORKERS_KEYS.c.key_id).where(WORKERS_KEYS.c.seen_at >= now - SEEN_FOR)
    return frozenset(await database.run(lambda connection: connection.scalars(query).all()))
