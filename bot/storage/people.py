"""What is kept of people: all of it for one person, and how it is forgotten without breaking the audit's chain."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Column, Connection, Table, and_, exists, func, or_, select, update

from bot.model.audit import PERSONAL, Entry, Event
from bot.storage.audit import AuditChain, as_text
from bot.storage.database import Database
from bot.storage.schema import AUDIT, CREDENTIALS, DECISIONS, OPENINGS, SUBMISSIONS

BATCH: Final = 2000
"""Entries in one transaction, so that no submission waits long for it."""

_STEP: Final = timedelta(days=1)
"""How much older than allowed something may get: else each minute would add an entry about what it forgot."""

PEOPLE: Final[Mapping[Table, tuple[Column[Any], ...]]] = {
    SUBMISSIONS: (SUBMISSIONS.c.user_id, SUBMISSIONS.c.superseded_by, SUBMISSIONS.c.decided_by),
    DECISIONS: (DECISIONS.c.user_id,),
    OPENINGS: (OPENINGS.c.user_id,),
    CREDENTIALS: (CREDENTIALS.c.stored_by,),
    AUDIT: (AUDIT.c.user_id,),
}
"""Each column that names a person; a test finds one that is missing."""

_SEALED: Final = frozenset({"sealed_token", "sealed_response_url"})
_NOBODY: Final = dict.fromkeys((*PERSONAL, "salt"))
_OF_SUBMISSION: Final = {"user_id": "", "channel_id": "", "reason": "", "last_four": ""}


class StillOpen(Exception):  # noqa: N818 - reads as what it says
    """The person has submissions that have not ended, or whose result is not posted yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """How many records named the person."""

    submissions: int
    entries: int


def find_kept(connection: Connection, user_id: str) -> Iterator[dict[str, Any]]:
    """Yield each record that names a person, with the table's name; of what is sealed, only that it is there."""
    for table, columns in PEOPLE.items():
        query = select(table).where(or_(*(column == user_id for column in columns)))
        for row in connection.execute(query).mappings():
            values = {name: "sealed" if name in _SEALED and value else as_text(value) for name, value in row.items()}
            yield {"table": table.name, **values}


def forget_person(connection: Connection, chain: AuditChain, user_id: str, at: datetime) -> Forgotten:
    """Take a person out of every record, in one transaction; what was done to each slot stays. Raises StillOpen."""
    submission = SUBMISSIONS.c
    is_open = and_(submission.user_id == user_id, submission.reported_at.is_(None))
    if connection.scalar(select(func.count()).select_from(SUBMISSIONS).where(is_open)):
        raise StillOpen
    is_theirs = submission.user_id == user_id
    submissions = connection.execute(update(SUBMISSIONS).where(is_theirs).values(_OF_SUBMISSION)).rowcount
    is_named = and_(submission.superseded_by == user_id, submission.reported_at.is_not(None))
    connection.execute(update(SUBMISSIONS).where(is_named).values(superseded_by=""))
    is_over = exists().where(submission.id == DECISIONS.c.submission_id, submission.reported_at.is_not(None))
    connection.execute(DECISIONS.delete().where(DECISIONS.c.user_id == user_id, is_over))
    has_decided = and_(submission.decided_by == user_id, submission.reported_at.is_not(None))
    connection.execute(update(SUBMISSIONS).where(has_decided).values(decided_by=""))
    connection.execute(update(CREDENTIALS).where(CREDENTIALS.c.stored_by == user_id).values(stored_by=""))
    connection.execute(OPENINGS.delete().where(OPENINGS.c.user_id == user_id))
    numbers = sorted(connection.scalars(select(AUDIT.c.number).where(AUDIT.c.user_id == user_id)))
    connection.execute(update(AUDIT).where(AUDIT.c.user_id == user_id).values(_NOBODY))
    if numbers:
        chain.append(connection, [_entry({"entries": [*_ranges(numbers)]}, at)])
    return Forgotten(submissions=submissions, entries=len(numbers))


class PeopleLimit:
    """Forgets the people of the audit's old entries; the entries stay, and so does the chain."""

    def __init__(self, database: Database, chain: AuditChain, kept_for: timedelta) -> None:
        self._database = database
        self._chain = chain
        self._kept_for = kept_for

    async def enforce(self, now: datetime) -> int:
        """Forget who is in entries that are too old; return how many entries. Raises DatabaseTrouble."""
        before, forgotten = now - self._kept_for, 0
        if not await self._database.run(lambda connection: _is_due(connection, before - _STEP)):
            return 0
        while number := await self._database.run(lambda connection: _forget_old(connection, self._chain, before, now)):
            forgotten += number
        return forgotten


_REMEMBERED: Final = select(AUDIT.c.number, AUDIT.c.at).where(AUDIT.c.user_id.is_not(None)).order_by(AUDIT.c.number)


def _is_due(connection: Connection, before: datetime) -> bool:
    oldest = connection.execute(_REMEMBERED.limit(1)).one_or_none()
    return oldest is not None and (oldest.at is None or oldest.at < before)


def _forget_old(connection: Connection, chain: AuditChain, before: datetime, now: datetime) -> int:
    """Forget the people of the oldest entries that name any; return of how many."""
    old = []
    for row in connection.execute(_REMEMBERED.limit(BATCH)):
        if row.at is not None and row.at >= before:
            break
        old.append(row.number)
    if old:
        is_old = and_(AUDIT.c.number <= old[-1], AUDIT.c.user_id.is_not(None))
        connection.execute(update(AUDIT).where(is_old).values(_NOBODY))
        chain.append(connection, [_entry({"up_to": old[-1]}, now)])
    return len(old)


def _entry(which: Mapping[str, object], at: datetime) -> Entry:
    """Return the entry that tells `audit verify` whose absence is right; it names nobody."""
    return Entry(event=Event.PEOPLE_FORGOTTEN, at=at, details=json.dumps(which))


def _ranges(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last of each run of numbers, in order."""
    for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        places = [number for _, number in run]
        yield places[0], places[-1]
