"""What is kept of people: all of it for one person, and how it is forgotten without breaking the audit's chain."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby, takewhile
from typing import Any, Final

from sqlalchemy import Column, Connection, Row, Table, and_, exists, func, or_, select, update

from bot.model.audit import PERSONAL, Entry, Event
from bot.sealing.authenticity import key_id_of
from bot.storage.audit import AuditChain, as_text
from bot.storage.database import Database
from bot.storage.schema import AUDIT, CREDENTIALS, DECISIONS, FLEETS, OPENINGS, SUBMISSIONS

BATCH: Final = 2000
"""Entries in one transaction, so that no submission waits long for it."""

_STEP: Final = timedelta(days=1)
"""How much older than allowed something may get: else each minute would add an entry about what it forgot."""

PEOPLE: Final[Mapping[Table, tuple[Column[Any], ...]]] = {
    SUBMISSIONS: (SUBMISSIONS.c.user_id, SUBMISSIONS.c.superseded_by, SUBMISSIONS.c.decided_by),
    DECISIONS: (DECISIONS.c.user_id,),
    OPENINGS: (OPENINGS.c.user_id,),
    CREDENTIALS: (CREDENTIALS.c.stored_by,),
    FLEETS: (FLEETS.c.user_id, FLEETS.c.stopped_by),
    AUDIT: (AUDIT.c.user_id,),
}
"""Each column that names a person; a test finds one that is missing."""

_SEALED: Final = frozenset({"sealed_token", "sealed_response_url"})
_NOBODY: Final = dict.fromkeys((*PERSONAL, "salt"))
_OF_SUBMISSION: Final = {"user_id": "", "channel_id": "", "reason": "", "last_four": ""}


class StillOpen(Exception):  # noqa: N818 - reads as what it says
    """The person has submissions or a fleet that have not ended, or whose result is not posted yet."""


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
    """Take a person out of every record, in one transaction; what was done to each slot stays. Raises StillOpen.

    An entry into which somebody else wrote this person is emptied too, but not vouched for: `audit verify` names it.
    """
    submission = SUBMISSIONS.c
    is_open = and_(submission.user_id == user_id, submission.reported_at.is_(None))
    if connection.scalar(select(func.count()).select_from(SUBMISSIONS).where(is_open)):
        raise StillOpen
    is_in_fleet = or_(*(column == user_id for column in PEOPLE[FLEETS]))
    is_running = and_(is_in_fleet, FLEETS.c.started_at.is_not(None), FLEETS.c.ended_at.is_(None))
    if connection.scalar(select(func.count()).select_from(FLEETS).where(is_running)):
        raise StillOpen
    connection.execute(FLEETS.delete().where(is_in_fleet))  # what became of each bucket is its submission's row
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
    rows = [*connection.execute(select(AUDIT).where(AUDIT.c.user_id == user_id).order_by(AUDIT.c.number))]
    numbers = [row.number for row in _as_signed(connection, chain, rows) if _is_named(chain, row)]
    connection.execute(update(AUDIT).where(AUDIT.c.user_id == user_id).values(_NOBODY))
    if numbers:
        chain.append(connection, [_entry({"entries": [*_ranges(numbers)]}, at)])
    return Forgotten(submissions=submissions, entries=len(rows))


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


_REMEMBERED: Final = select(AUDIT).where(AUDIT.c.user_id.is_not(None)).order_by(AUDIT.c.number)


def _is_due(connection: Connection, before: datetime) -> bool:
    oldest = connection.execute(_REMEMBERED.limit(1)).one_or_none()
    return oldest is not None and (oldest.at is None or oldest.at < before)


def _forget_old(connection: Connection, chain: AuditChain, before: datetime, now: datetime) -> int:
    """Forget the people of the oldest entries that name any; return of how many.

    Up to the last one that is as it was signed: else someone who writes an early time into a young entry would have
    the bot forget who did it, and vouch for that.
    """
    old = [*takewhile(lambda row: row.at is None or row.at < before, connection.execute(_REMEMBERED.limit(BATCH)))]
    certain = _as_signed(connection, chain, old)
    del old[old.index(certain[-1]) + 1 if certain else 0 :]
    if old:
        is_old = and_(AUDIT.c.number <= old[-1].number, AUDIT.c.user_id.is_not(None))
        connection.execute(update(AUDIT).where(is_old).values(_NOBODY))
        chain.append(connection, [_entry({"up_to": old[-1].number}, now)])
    return len(old)


def _as_signed(connection: Connection, chain: AuditChain, rows: list[Row[Any]]) -> list[Row[Any]]:
    """Return the entries that say what they said when they were signed. Those of a lost key are believed."""
    if all(map(chain.is_authentic, rows)):
        return rows
    beginnings = select(AUDIT).where(AUDIT.c.event == Event.CHAIN_BEGUN.value).order_by(AUDIT.c.number.desc())
    begun = next((row.number for row in connection.execute(beginnings) if chain.is_authentic(row)), 0)
    return [row for row in rows if row.number < begun or chain.is_authentic(row)]


def _is_named(chain: AuditChain, row: Row[Any]) -> bool:
    """Return whether an entry was signed with these people; also if it was signed with a key that is lost."""
    people = {name: getattr(row, name) for name in PERSONAL}
    is_of_lost_key = key_id_of(row.signature) not in chain.authenticity.key_ids
    return is_of_lost_key or chain.authenticity.is_committed(str(row.salt), people, row.people_digest)


def _entry(which: Mapping[str, object], at: datetime) -> Entry:
    """Return the entry that tells `audit verify` whose absence is right; it names nobody."""
    return Entry(event=Event.PEOPLE_FORGOTTEN, at=at, details=json.dumps(which))


def _ranges(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last of each run of numbers, in order."""
    for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        places = [number for _, number in run]
        yield places[0], places[-1]
