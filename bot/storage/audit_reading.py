"""Reads the audit's entries in order, some at a time, to verify, to export and to send them. Writes nothing."""

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import Connection, bindparam, select

from bot.storage.schema import AUDIT

BATCH: Final = 1000
"""Entries in one query: PostgreSQL answers within the time limit of a call, however slow."""

COLUMNS: Final = tuple(column.name for column in AUDIT.columns)
EntryRow = Mapping[str, Any]
"""An entry by the names of its columns."""

_T = TypeVar("_T")
_TIMES_BATCH: Final = 20_000
_FIRST: Final = select(AUDIT).order_by(AUDIT.c.number).limit(bindparam("most"))
_NEXT: Final = _FIRST.where(AUDIT.c.number > bindparam("after"))
_TIMES: Final = (
    select(AUDIT.c.number, AUDIT.c.at)
    .where(AUDIT.c.number > bindparam("after"))
    .order_by(AUDIT.c.number)
    .limit(_TIMES_BATCH)
)


class Reads(Protocol):
    """A database, as far as a reader needs it."""

    async def run(self, work: Callable[[Connection], _T]) -> _T:
        """Return the result of `work`."""
        ...


async def read_batches(database: Reads, after: int | None = None, most: int = BATCH) -> AsyncIterator[list[EntryRow]]:
    """Yield the entries behind a number, or all, until there are no more; also what is appended meanwhile.

    Each batch is a query of its own: a long read transaction would keep the database from tidying up.
    """
    last = after
    while rows := await database.run(partial(read_entries, after=last, most=most)):
        yield rows
        last = rows[-1]["number"]


def read_entries(connection: Connection, after: int | None, most: int) -> list[EntryRow]:
    """Return the first entries behind a number, or at all."""
    query = _FIRST if after is None else _NEXT
    rows = connection.execute(query, {"most": most} | ({} if after is None else {"after": after}))
    return [dict(row._mapping) for row in rows]  # noqa: SLF001 - public in SQLAlchemy, with this name


async def find_before(database: Reads, since: datetime) -> int:
    """Return the number before the first entry of that time or later, or that of the last entry.

    From there on all entries belong together: clocks of several processes differ a little, and an export without gaps
    can be verified.
    """
    last = 0
    while rows := await database.run(partial(_read_times, after=last)):
        found = next((number for number, at in rows if at is not None and at >= since), None)
        if found is not None:
            return found - 1
        last = rows[-1][0]
    return last


def _read_times(connection: Connection, after: int) -> list[tuple[int, datetime | None]]:
    return [(row.number, row.at) for row in connection.execute(_TIMES, {"after": after})]
