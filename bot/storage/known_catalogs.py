"""Keeps what a process knows of the catalogs equal to the database, by reading only what changed since it last looked.

Reading and parsing all rows took 439 ms for each `status` of 10,000 catalogs; this takes 1 ms for any number of them.
A trigger notes each change of a row in `catalog_changes`, made by anyone: a worker, an older version of the bot in
an upgrade, or an operator who repairs a row. So a lookup in any process sees what was committed before it began.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Select,
    String,
    Table,
    bindparam,
    func,
    literal_column,
    select,
)

from bot.model.catalog import Catalog, StoredCredential
from bot.model.known_catalogs import KnownCatalogs, ProvenToken
from bot.model.minted import MintedState
from bot.model.timetable import RotationFailure
from bot.storage.catalog_rows import read_catalog, read_credential, read_proven
from bot.storage.damage import SetAside
from bot.storage.database import Database
from bot.storage.rotation_failures import read_failure
from bot.storage.schema import (
    CATALOG_CHANGES,
    CATALOGS,
    CREDENTIALS,
    IS_LEFT,
    MINTED_TOKENS,
    ORIGINS,
    ROTATION_FAILURES,
    SNAPSHOTS,
)

MOST_CHANGES: Final = 1000
"""With more, all rows are read: no list of buckets that long is put into a query."""

_AT_ONCE: Final = 250
"""Rows parsed before other work has its turn: about 5 ms."""

_ANEW: Final = timedelta(hours=1)
"""How long what no trigger sees can last, such as TRUNCATE."""


@dataclass(frozen=True, slots=True)
class _News:
    """What a transaction has read. `buckets` are those that changed, or None if all rows are there.

    Where the next one begins is `next_number`.
    """

    next_number: int
    database_id: str | None
    refreshed_at: datetime | None
    tested_at: datetime | None
    buckets: Sequence[str] | None
    catalogs: Sequence[Row[Any]] = ()
    credentials: Sequence[Row[Any]] = ()
    proven: Sequence[Row[Any]] = ()
    failures: Sequence[Row[Any]] = ()


@dataclass(frozen=True, slots=True)
class _Parsed:
    """What could be read of it."""

    catalogs: list[Catalog] = field(default_factory=list)
    credentials: list[StoredCredential] = field(default_factory=list)
    proven: list[ProvenToken] = field(default_factory=list)
    failures: list[RotationFailure] = field(default_factory=list)


class CatalogReader:
    """Reads them into one KnownCatalogs. Reads may overlap: what a later one has brought, no earlier one takes back."""

    def __init__(self, database: Database, account_id: str) -> None:
        self._database = database
        self._account_id = account_id
        self._set_aside = SetAside()
        self._next_number: int | None = None
        self._database_id: str | None = None
        self._began = self._newest_taken = 0
        self._read_all_at = -math.inf
        self._reading_all: asyncio.Task[None] | None = None
        self.known = KnownCatalogs()

    async def catch_up(self) -> KnownCatalogs:
        """Return it as the database was at some time after this call; raises DatabaseTrouble."""
        await self._read_all_unless_recent()
        if not await self._read(self._next_number):
            self._read_all_at = -math.inf
            await self._read_all_unless_recent()
        return self.known

    async def _read_all_unless_recent(self) -> None:
        """Read all rows, once for all who wait for them."""
        if asyncio.get_running_loop().time() < self._read_all_at + _ANEW.total_seconds():
            return
        if self._reading_all is None:
            self._reading_all = asyncio.create_task(self._read_all())
            self._reading_all.add_done_callback(self._end_reading_all)
        await asyncio.shield(self._reading_all)

    async def _read_all(self) -> None:
        await self._read(None)
        self._read_all_at = asyncio.get_running_loop().time()

    def _end_reading_all(self, task: "asyncio.Task[None]") -> None:
        self._reading_all = None
        if not task.cancelled():
            task.exception()  # has been raised in those who waited, if anyone still did

    async def _read(self, since: int | None) -> bool:
        """Read what changed since that number, or all; return False, and take nothing, from an older database."""
        self._began = number = self._began + 1
        news = await self._database.run(partial(_read_news, account_id=self._account_id, since=since))
        if since is not None and self._is_older(news, since):
            return number < self._newest_taken
        parsed = await self._parse(news)
        if number > self._newest_taken:
            self._newest_taken = number
            self._take(news, parsed)
        return True

    def _is_older(self, news: _News, since: int) -> bool:
        """Return whether this is an older database, in which the numbers mean other changes.

        By its times and numbers, or since another process found that it was restored, and gave it another id.
        """
        before = self.known.refreshed_at
        is_refreshed_before = before is not None and (news.refreshed_at is None or news.refreshed_at < before)
        return is_refreshed_before or news.next_number < since or news.database_id != self._database_id

    async def _parse(self, news: _News) -> _Parsed:
        parsed = _Parsed()
        for start in range(0, max(map(len, (news.catalogs, news.credentials, news.proven, news.failures))), _AT_ONCE):
            if start:
                await asyncio.sleep(0)
            part, read = slice(start, start + _AT_ONCE), self._set_aside.read_each
            parsed.catalogs.extend(read(news.catalogs[part], read_catalog))
            parsed.credentials.extend(read(news.credentials[part], read_credential))
            parsed.proven.extend(read(news.proven[part], read_proven))
            parsed.failures.extend(read(news.failures[part], read_failure))
        return parsed

    def _take(self, news: _News, parsed: _Parsed) -> None:
        self.known.refreshed_at, self.known.tested_at = news.refreshed_at, news.tested_at
        self._next_number, self._database_id = news.next_number, news.database_id
        lists = parsed.catalogs, parsed.credentials, parsed.proven, parsed.failures
        if news.buckets is None:
            self.known.replace_all(*lists)
        elif news.buckets:
            self.known.replace(news.buckets, *lists)


def _read_news(connection: Connection, account_id: str, since: int | None) -> _News:
    """Read where the next one begins first: what is committed meanwhile is then read once more, and never missed."""
    number, database_id, refreshed_at, tested_at = connection.execute(
        _STATE[connection.dialect.name], {"its_account_id": account_id}
    ).one()
    buckets = None if since is None else _find_changed(connection, account_id, since)
    if buckets is not None and not buckets:
        return _News(number, database_id, refreshed_at, tested_at, buckets)
    catalogs, credentials, failures = (
        _read_rows(connection, select(table), table, account_id, buckets)
        for table in (CATALOGS, CREDENTIALS, ROTATION_FAILURES)
    )
    proven = _read_rows(connection, _PROVEN, MINTED_TOKENS, account_id, buckets)
    return _News(number, database_id, refreshed_at, tested_at, buckets, catalogs, credentials, proven, failures)


def _read_rows(
    connection: Connection, query: Select[Any], table: Table, account_id: str, buckets: Sequence[str] | None
) -> Sequence[Row[Any]]:
    some = [] if buckets is None else [table.c.bucket.in_(buckets)]
    return connection.execute(query.where(table.c.account_id == account_id, *some)).all()


def _find_changed(connection: Connection, account_id: str, since: int) -> Sequence[str] | None:
    """Return the buckets, or None if there are too many."""
    found = connection.scalars(_CHANGED[connection.dialect.name], {"its_account_id": account_id, "since": since}).all()
    if len(found) > MOST_CHANGES:
        return None
    return sorted({bucket for bucket in found if isinstance(bucket, str)})  # SQLite keeps any type


def _state(next_number: ColumnElement[int]) -> Select[Any]:
    its = SNAPSHOTS.c.account_id == bindparam("its_account_id", type_=String)
    times = (SNAPSHOTS.c.refreshed_at, SNAPSHOTS.c.tested_at)
    database_id = select(func.max(ORIGINS.c.id)).scalar_subquery()  # of the only row
    return select(next_number, database_id, *(select(time).where(its).scalar_subquery() for time in times))


_PROVEN: Final = select(MINTED_TOKENS.c.bucket, MINTED_TOKENS.c.token_id).where(
    IS_LEFT, MINTED_TOKENS.c.state == MintedState.PROVEN.value
)
_NUMBER: Final = CATALOG_CHANGES.c.number
_ITS_CHANGES: Final = CATALOG_CHANGES.c.account_id == bindparam("its_account_id", type_=String)
_STATE: Final = {
    # One connection writes, so a higher number is a later commit.
    "sqlite": _state(select(func.coalesce(func.max(_NUMBER), 0) + 1).where(_ITS_CHANGES).scalar_subquery()),
    # A number is the id of its transaction, and ids are not committed in order: the oldest that is still open is where
    # the next read begins, so that none is missed, and a few are read twice.
    "postgresql": _state(literal_column("txid_snapshot_xmin(txid_current_snapshot())", BigInteger)),
}
_FOUND: Final = (
    select(CATALOG_CHANGES.c.bucket)
    .where(_ITS_CHANGES, bindparam("since", type_=BigInteger) <= _NUMBER)
    .limit(MOST_CHANGES + 1)
)
_CHANGED: Final = {
    "sqlite": _FOUND,
    # Higher ids are those of another server, from which the database was restored: each read would find them anew.
    "postgresql": _FOUND.where(literal_column("txid_snapshot_xmax(txid_current_snapshot())", BigInteger) > _NUMBER),
}
