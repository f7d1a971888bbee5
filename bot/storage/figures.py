"""The figures that an operator watches, read in one transaction: a few rows, however long the history is."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, func, select

from bot.model.catalog import is_bucket_name
from bot.model.errors import RecordDamaged
from bot.storage.catalogs import read_catalog, read_credential
from bot.storage.database import Database
from bot.storage.schema import CATALOGS, CREDENTIALS, SNAPSHOTS, SUBMISSIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """`waiting` is by task, `catalogs` by status and credential status, in the words of the rows, damaged or not.

    `expiries` is by bucket, for each slot that still holds what the bot stored there.
    """

    waiting: Mapping[str, int]
    oldest_waiting_at: datetime | None
    unposted: int
    catalogs: Mapping[tuple[str, str], int]
    refreshed_at: datetime | None
    expiries: Mapping[str, datetime]


async def read_figures(database: Database, account_id: str) -> Figures:
    """Read them; raises DatabaseTrouble. Damaged rows are left out: others report them."""
    return await database.run(lambda connection: _read(connection, account_id))


_SUBMISSION: Final = SUBMISSIONS.c
_HAS_ENDED: Final = _SUBMISSION.ended_at.is_not(None)
_OPEN: Final = (
    select(
        _SUBMISSION.task,
        _HAS_ENDED.label("has_ended"),
        func.count().label("number"),
        func.min(_SUBMISSION.accepted_at).label("oldest"),
    )
    .where(_SUBMISSION.reported_at.is_(None))
    .group_by(_SUBMISSION.task, _HAS_ENDED)
)
_CREDENTIAL_STATUS: Final = func.coalesce(CATALOGS.c.tested, CATALOGS.c.credential_status)


def _read(connection: Connection, account_id: str) -> Figures:
    rows = connection.execute(_OPEN).all()
    waiting = [row for row in rows if not row.has_ended]
    return Figures(
        waiting={str(row.task): row.number for row in waiting},
        oldest_waiting_at=min((row.oldest for row in waiting if row.oldest is not None), default=None),
        unposted=sum(row.number for row in rows if row.has_ended),
        catalogs=_count_catalogs(connection, account_id),
        refreshed_at=connection.scalar(select(SNAPSHOTS.c.refreshed_at).where(SNAPSHOTS.c.account_id == account_id)),
        expiries=dict(_expiries(connection, account_id)),
    )


def _count_catalogs(connection: Connection, account_id: str) -> dict[tuple[str, str], int]:
    query = (
        select(CATALOGS.c.status, _CREDENTIAL_STATUS.label("credential"), func.count().label("number"))
        .where(CATALOGS.c.account_id == account_id)
        .group_by(CATALOGS.c.status, _CREDENTIAL_STATUS)
    )
    return {(str(row.status), str(row.credential)): row.number for row in connection.execute(query)}


def _expiries(connection: Connection, account_id: str) -> Iterator[tuple[str, datetime]]:
    """Yield each bucket whose slot is known to hold what the bot stored, with the time at which that expires."""
    expiring = select(CREDENTIALS).where(CREDENTIALS.c.account_id == account_id, CREDENTIALS.c.expires_at.is_not(None))
    names = expiring.with_only_columns(CREDENTIALS.c.bucket)
    listed = select(CATALOGS).where(CATALOGS.c.account_id == account_id, CATALOGS.c.bucket.in_(names))
    catalogs = {row.bucket: row for row in connection.execute(listed)}
    for row in connection.execute(expiring).all():
        with suppress(RecordDamaged):
            expires_at = _expires_at(row, catalogs.get(row.bucket))
            if expires_at is not None and is_bucket_name(row.bucket):
                yield row.bucket, expires_at


def _expires_at(credential: Row[Any], catalog: Row[Any] | None) -> datetime | None:
    return None if catalog is None else read_credential(credential).expires_in(read_catalog(catalog))
