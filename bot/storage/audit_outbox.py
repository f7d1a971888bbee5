"""Which entries of the audit its webhook has not got yet, and who sends them: one process at a time.

A process that was frozen while it sent can send again what another one has sent since: receivers know entries by their
numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final
from uuid import uuid4

import structlog
from sqlalchemy import Connection, func, or_, select, update

from bot.storage.audit import BEFORE_THE_FIRST, Head, read_head
from bot.storage.audit_reading import EntryRow, read_entries
from bot.storage.database import Database
from bot.storage.schema import AUDIT, AUDIT_WEBHOOK
from bot.storage.upsert import insert_into

HELD_FOR: Final = timedelta(seconds=30)
"""Much longer than a request may take; another process waits as long for one that was killed."""

_ROW: Final = AUDIT_WEBHOOK.c
_ID: Final = 1

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """How many entries wait, and since when the oldest of them does."""

    waiting: int
    oldest_at: datetime | None


class AuditOutbox:
    """Lends the next entries to the process that sends. Every method raises DatabaseTrouble."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._holder = uuid4().hex

    async def take(self, most: int) -> Sequence[EntryRow]:
        """Return the next entries, if there are any and no other process sends."""
        delivered, entries = await self._database.run(partial(_take, holder=self._holder, now=self._clock(), most=most))
        if delivered.number and entries and entries[0]["number"] == 1:
            fix = "verify the chain with `audit verify --head` and the head of the last log line or export"
            _log.error("audit_rewritten", delivered=str(delivered), fix=fix)
        return entries

    async def note_delivered(self, last: EntryRow) -> None:
        """Note that all entries up to this one were delivered."""
        head = Head(number=last["number"], signature=last["signature"])
        await self._database.run(partial(_note, holder=self._holder, now=self._clock(), head=head))

    async def let_go(self) -> None:
        """Let another process send at once, before this one ends."""
        await self._database.run(partial(_let_go, holder=self._holder))

    async def backlog(self) -> Backlog:
        """Return what is not delivered yet."""
        return await self._database.run(_read_backlog)


def _take(connection: Connection, holder: str, now: datetime, most: int) -> tuple[Head, list[EntryRow]]:
    """Look first, since there is mostly nothing to send, and a write for each look would cost the disk."""
    if read_head(connection) == _read_delivered(connection):
        return BEFORE_THE_FIRST, []
    row = {"id": _ID, "delivered": 0, "signature": ""}
    connection.execute(insert_into(connection, AUDIT_WEBHOOK).on_conflict_do_nothing(index_elements=["id"]), row)
    is_free = or_(_ROW.holder.is_(None), _ROW.holder == holder, _ROW.held_until.is_(None), _ROW.held_until <= now)
    held = connection.execute(
        update(AUDIT_WEBHOOK)
        .where(_ROW.id == _ID, is_free)
        .values(holder=holder, held_until=now + HELD_FOR)
        .returning(_ROW.delivered, _ROW.signature)
    ).one_or_none()
    if held is None:
        return BEFORE_THE_FIRST, []
    delivered = Head(number=held.delivered, signature=held.signature)
    return delivered, read_entries(connection, _where_to_go_on(connection, delivered), most)


def _note(connection: Connection, holder: str, now: datetime, head: Head) -> int:
    noted = {"delivered": head.number, "signature": head.signature, "held_until": now + HELD_FOR}
    return connection.execute(update(AUDIT_WEBHOOK).where(_ROW.holder == holder).values(noted)).rowcount


def _let_go(connection: Connection, holder: str) -> int:
    return connection.execute(update(AUDIT_WEBHOOK).where(_ROW.holder == holder).values(holder=None)).rowcount


def _read_backlog(connection: Connection) -> Backlog:
    after = _where_to_go_on(connection, _read_delivered(connection))
    waiting = connection.scalar(select(func.max(AUDIT.c.number))) or 0
    oldest = select(AUDIT.c.at).where(AUDIT.c.number > after).order_by(AUDIT.c.number).limit(1)
    return Backlog(waiting=max(0, waiting - after), oldest_at=connection.scalar(oldest))


def _read_delivered(connection: Connection) -> Head:
    row = connection.execute(select(_ROW.delivered, _ROW.signature).where(_ROW.id == _ID)).one_or_none()
    return Head(number=row.delivered, signature=row.signature) if row else BEFORE_THE_FIRST


def _where_to_go_on(connection: Connection, delivered: Head) -> int:
    """Return the number of the last delivered entry; 0 if the chain has another one there, or none: it was rewritten.

    Then all of it is sent again: what was written anew under a number that was delivered before must not be left out.
    """
    signature = connection.scalar(select(AUDIT.c.signature).where(AUDIT.c.number == delivered.number))
    return delivered.number if signature == delivered.signature else 0
