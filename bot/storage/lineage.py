"""Finds out whether the database is older than what was done with it, and then ends all that it holds open.

A restored backup forgets deliveries: an open submission of it may be older than what is in the slot since. Three signs
tell, each with its limits (docs/decisions/14-restored-databases.md):

- the mark outside of the database is ahead of it, or belongs to another one;
- PostgreSQL says that the records were made in another cluster, database or table: they were dumped and restored;
- the operator says so, by the command `restored`: a copy of the mark and the database together has no sign at all.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

import structlog
from sqlalchemy import Connection, TextClause, exists, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from bot.model.move import Change
from bot.storage.chain_start import begin_anew
from bot.storage.high_water_mark import HighWaterMark, Mark
from bot.storage.lock import lock_name
from bot.storage.minted_doubt import doubt_tokens
from bot.storage.moves import end_all_open
from bot.storage.position import MOST, Position, is_at, read_position
from bot.storage.schema import LEASES, ORIGINS, SUBMISSIONS
from bot.storage.submissions import Submissions

_QUESTIONS: Final = (
    text("SELECT CAST(system_identifier AS text) AS server_id FROM pg_control_system()"),
    text(
        "SELECT CAST(oid AS text) AS database_oid, CAST(CAST(to_regclass('origins') AS oid) AS text) AS table_oid "
        "FROM pg_database WHERE datname = current_database()"
    ),
    text("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS timeline"),
)
"""Each apart: a role without the right to one still gets the others."""

_FIX_OF_TIMELINE: Final = (
    "nothing, if a standby that had received everything was promoted; after a recovery to an earlier time, stop all "
    "processes, run `r2-credential-bot restored`, and start them"
)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Which database this is. What the server does not tell is None; SQLite has only the id."""

    id: str
    server_id: str | None = None
    database_oid: str | None = None
    table_oid: str | None = None
    timeline: str | None = None

    def is_another_than(self, other: "Origin") -> bool:
        """Return whether the two are another cluster, database or table. A timeline alone may be a failover."""
        of_both = ((getattr(self, name), getattr(other, name)) for name in ("server_id", "database_oid", "table_oid"))
        return any(None not in pair and pair[0] != pair[1] for pair in of_both)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What was found, and the submissions that were ended."""

    mark: Mark
    changes: list[Change]
    is_restored: bool
    timelines: tuple[str | None, str | None]


class Lineage:
    """Settles whether the database was restored. Of several processes, the first one does it for all."""

    def __init__(self, submissions: Submissions, mark: HighWaterMark, clock: Callable[[], datetime]) -> None:
        self._submissions = submissions
        self._mark = mark
        self._clock = clock

    async def settle(self, *, is_told: bool = False) -> int:
        """Compare all signs. If one tells, or the operator does, end what is open; return how many submissions.

        Raises DatabaseTrouble.
        """
        return await self._run(lambda connection: self._settle(connection, is_told=is_told))

    async def begin_chain(self) -> int:
        """End what is open, and go on with the present key of the audit; return how many submissions.

        Raises DatabaseTrouble.
        """

        def begin(connection: Connection) -> Settled:
            begin_anew(connection, self._submissions.chain, self._clock())
            return self._settle(connection, is_told=True)

        return await self._run(begin)

    async def _run(self, settle: Callable[[Connection], Settled]) -> int:
        settled = await self._submissions.end_all(settle)
        self._mark.adopt(settled.mark)
        before, after = settled.timelines
        if settled.is_restored:
            _log.warning("database_restored", submissions_ended=len(settled.changes))
        elif None not in settled.timelines and before != after:
            _log.warning("database_timeline_changed", before=before, after=after, fix=_FIX_OF_TIMELINE)
        return len(settled.changes)

    def _settle(self, connection: Connection, *, is_told: bool) -> Settled:
        mark = self._mark.current  # before the database is asked, which then has no less
        lock_name(connection, "origin")
        recorded, position = _read_origin(connection), read_position(connection)
        now = Origin(id=recorded.id if recorded else _new_id(mark), **_describe(connection))
        is_restored = is_told or self._is_older(connection, mark, recorded, now, position)
        counted = 0 if position is None or position.is_damaged else position.sent
        sent = max(counted, mark.sent if mark else 0)
        changes: list[Change] = []
        if is_restored:
            now = replace(now, id=uuid4().hex)  # by its new id, every older backup is still recognised
            changes = end_all_open(connection, self._submissions.chain, self._clock())
            doubt_tokens(connection, self._submissions.chain, self._clock())
            connection.execute(update(LEASES).values(epoch=LEASES.c.epoch + 1))  # takes each away from its holder
        elif recorded is None:  # on disk before the commit: a kill in between must not look like a restore
            self._mark.adopt(Mark(database_id=now.id, sent=sent, is_new=True))
        if recorded is None:
            connection.execute(insert(ORIGINS), asdict(now) | {"sent": min(sent, MOST - 1)})
        elif is_restored:
            connection.execute(update(ORIGINS).values(asdict(now) | {"sent": min(sent, MOST - 1)}))
        elif now != recorded:  # another process may have raised the number since it was read: it is left alone
            connection.execute(update(ORIGINS).values(asdict(now)))
        return Settled(
            mark=Mark(database_id=now.id, sent=min(sent, MOST - 1)),
            changes=changes,
            is_restored=is_restored,
            timelines=(recorded.timeline if recorded else None, now.timeline),
        )

    def _is_older(
        self, connection: Connection, mark: Mark | None, recorded: Origin | None, now: Origin, position: Position | None
    ) -> bool:
        if recorded is None:  # a first start, an upgrade, or a backup from before this table
            is_used = mark is not None and not mark.is_new
            return is_used and bool(connection.scalar(select(exists().select_from(SUBMISSIONS))))
        if mark is None or mark.database_id != recorded.id:  # on PostgreSQL, another process may have settled it
            return self._mark.is_expected or recorded.is_another_than(now)
        return not is_at(mark, position) or recorded.is_another_than(now)


def _new_id(mark: Mark | None) -> str:
    """Return the id that a killed start was about to record, or another one."""
    return mark.database_id if mark is not None and mark.is_new else uuid4().hex


def _read_origin(connection: Connection) -> Origin | None:
    row = connection.execute(select(*(ORIGINS.c[field.name] for field in fields(Origin)))).first()
    return Origin(**row._mapping) if row else None  # noqa: SLF001 - public in SQLAlchemy, with this name


def _describe(connection: Connection) -> dict[str, Any]:
    """Return what the server says of itself; nothing on SQLite."""
    found: dict[str, Any] = {}
    for question in _QUESTIONS if connection.dialect.name == "postgresql" else ():
        with suppress(DBAPIError):  # a right that was taken away, or a function that a managed service lacks
            found |= _ask(connection, question)
    return found


def _ask(connection: Connection, question: TextClause) -> dict[str, Any]:
    with connection.begin_nested():  # else a refusal would end the transaction
        return dict(connection.execute(question).mappings().one())
