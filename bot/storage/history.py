"""Deletes what was submitted longer ago than R2_CREDENTIAL_HISTORY, a bounded number of rows at a time.

Kept in any case: what is open or unreported, and the submission that a slot's record names. Nothing else that old has a
say: no Submit arrives a day late (`bot.storage.accepting`), and the shortest history is longer than the longest TTL.
"""

from datetime import datetime, timedelta
from functools import partial
from typing import Final

from sqlalchemy import Connection, and_, bindparam, delete, exists, select

from bot.model.minted import OVER
from bot.storage.database import Database
from bot.storage.schema import APPROVAL_REQUESTS, CREDENTIALS, DECISIONS, FLEETS, MINTED_TOKENS, SUBMISSIONS

BATCH: Final = 500
"""Rows in one transaction, so that no submission waits long for it."""

_MOST_BATCHES: Final = 20
"""In one call: ten times more than the busiest bot adds in a minute."""

_ROW: Final = SUBMISSIONS.c
_BEFORE: Final = bindparam("before", type_=_ROW.accepted_at.type)
_NEXT: Final = (
    select(_ROW.sequence, _ROW.accepted_at)
    .where(_ROW.sequence > bindparam("after"))
    .order_by(_ROW.sequence)
    .limit(BATCH)
)
_IS_IN_THE_SLOT: Final = exists().where(
    CREDENTIALS.c.account_id == _ROW.account_id,
    CREDENTIALS.c.bucket == _ROW.bucket,
    CREDENTIALS.c.submission_id == _ROW.id,
)
_IS_OVER: Final = and_(
    _ROW.sequence > bindparam("after"),
    _ROW.sequence <= bindparam("last"),
    _ROW.reported_at < _BEFORE,
    _ROW.accepted_at < _BEFORE,
    _ROW.sent_at < _BEFORE,
    ~_IS_IN_THE_SLOT,
)
_DELETE: Final = delete(SUBMISSIONS).where(_IS_OVER)
_DELETE_FIRST: Final = [
    delete(table).where(table.c.submission_id.in_(select(_ROW.id).where(_IS_OVER)))
    for table in (APPROVAL_REQUESTS, DECISIONS)
]
"""What belongs to the submissions that are deleted."""


class HistoryLimit:
    """Goes through the submissions by their numbers, which is nearly by their age, and begins anew at the young ones.

    So a call costs a few reads by primary key, however many rows there are, and no index on a time is needed.
    """

    def __init__(self, database: Database, kept_for: timedelta) -> None:
        self._database = database
        self._kept_for = kept_for
        self._after = 0

    async def enforce(self, now: datetime) -> int:
        """Delete what is too old, up to a limit; return how many submissions. Raises DatabaseTrouble."""
        before, deleted = now - self._kept_for, 0
        await self._database.run(partial(_prune_rotations, before=before))
        for _ in range(_MOST_BATCHES):
            last, count = await self._database.run(partial(_prune, after=self._after, before=before))
            self._after = last or 0
            deleted += count
            if last is None:
                break
        return deleted


def _prune_rotations(connection: Connection, before: datetime) -> None:
    """Delete the fleets that ended before that time, and the tokens of which nothing is left: a few rows of each."""
    connection.execute(delete(FLEETS).where(FLEETS.c.ended_at < before))
    is_over = MINTED_TOKENS.c.state.in_([state.value for state in OVER])
    connection.execute(delete(MINTED_TOKENS).where(is_over, MINTED_TOKENS.c.changed_at < before))


def _prune(connection: Connection, after: int, before: datetime) -> tuple[int | None, int]:
    """Delete what is too old of the next rows; return where to go on, None behind the last old one, and the number."""
    rows = connection.execute(_NEXT, {"after": after}).all()
    if all(row.accepted_at is not None and row.accepted_at >= before for row in rows):
        return None, 0
    last = rows[-1].sequence
    its = {"after": after, "last": last, "before": before}
    for statement in _DELETE_FIRST:
        connection.execute(statement, its)
    deleted = connection.execute(_DELETE, its).rowcount
    return (last if len(rows) == BATCH else None), deleted
