"""The figures that an operator watches, read from a few rows, however long the history is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, case, func, select

from bot.model.catalog import StoredCredential, is_bucket_name
from bot.model.in_turns import in_turns
from bot.model.known_catalogs import KnownCatalogs
from bot.model.submission import State
from bot.storage.catalogs import Catalogs
from bot.storage.database import Database
from bot.storage.schema import CATALOGS, SNAPSHOTS, SUBMISSIONS

Replaces = Callable[[StoredCredential, KnownCatalogs], bool]
"""Whether a token is replaced before it expires without anybody's doing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """`waiting` is by task, `catalogs` by status and credential status, in the words of the rows, damaged or not.

    `expiries` is by bucket, for each slot that still holds what the bot stored there.
    """

    waiting: Mapping[str, int]
    oldest_waiting_at: datetime | None
    unposted: int
    unapproved: int
    catalogs: Mapping[tuple[str, str], int]
    refreshed_at: datetime | None
    expiries: Mapping[str, datetime]


async def read_figures(database: Database, catalogs: Catalogs, replaces: Replaces = lambda *_: False) -> Figures:
    """Read them; raises DatabaseTrouble. Damaged rows are left out: others report them.

    `replaces` says of which tokens the expiry concerns nobody.

    The expiries are known in memory: reading 10,000 rows at each scrape held up all other work for 200 ms.
    """
    figures = await database.run(lambda connection: _read(connection, catalogs.account_id))
    return replace(figures, expiries=await _find_expiries(await catalogs.catch_up(), replaces))


_SUBMISSION: Final = SUBMISSIONS.c
_HAS_ENDED: Final = _SUBMISSION.ended_at.is_not(None)
_OPEN: Final = (
    select(
        _SUBMISSION.task,
        _HAS_ENDED.label("has_ended"),
        func.count().label("number"),
        func.min(_SUBMISSION.accepted_at).label("oldest"),
        func.count(case((_SUBMISSION.state == State.AWAITING_APPROVAL.value, 1))).label("unapproved"),
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
        unapproved=sum(row.unapproved for row in waiting),
        unposted=sum(row.number for row in rows if row.has_ended),
        catalogs=_count_catalogs(connection, account_id),
        refreshed_at=connection.scalar(select(SNAPSHOTS.c.refreshed_at).where(SNAPSHOTS.c.account_id == account_id)),
        expiries={},
    )


def _count_catalogs(connection: Connection, account_id: str) -> dict[tuple[str, str], int]:
    query = (
        select(CATALOGS.c.status, _CREDENTIAL_STATUS.label("credential"), func.count().label("number"))
        .where(CATALOGS.c.account_id == account_id)
        .group_by(CATALOGS.c.status, _CREDENTIAL_STATUS)
    )
    return {(str(row.status), str(row.credential)): row.number for row in connection.execute(query)}


async def _find_expiries(known: KnownCatalogs, replaces: Replaces) -> dict[str, datetime]:
    """Return each bucket whose slot is known to hold what the bot stored, with the time at which that expires."""
    found = {}
    async for credential in in_turns(known.credentials.values()):
        catalog = known.catalogs.get(credential.bucket)
        expires_at = credential.expires_in(catalog) if catalog else None
        if expires_at is not None and is_bucket_name(credential.bucket) and not replaces(credential, known):
            found[credential.bucket] = expires_at
    return found
