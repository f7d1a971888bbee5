"""Keeps the budgets of accounts in rows that all processes share; a crash may lose the latest changes."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, DateTime, Row, bindparam, func, select, true, update
from sqlalchemy.dialects.postgresql import insert

from bot.cloudflare.budget import Budget, Spent, slot_of
from bot.model.errors import RecordDamaged
from bot.storage.damage import SetAside, require_shape
from bot.storage.database import Database
from bot.storage.schema import PACE

_T = TypeVar("_T")
_NOW: Final = func.clock_timestamp(type_=DateTime(timezone=True))

# A change is made for each request to Cloudflare. With its statements built once, and the setting made by one of them
# instead of by a third, it takes 1.0 ms of CPU instead of 1.6.
_ITS_ROW: Final = PACE.c.account_id == bindparam("its_account_id")
_LOCK: Final = (
    # Losing a count is harmless; waiting for the disk before every request is not.
    select(PACE, _NOW.label("now"), func.set_config("synchronous_commit", "off", true()).label("setting"))
    .where(_ITS_ROW)
    .with_for_update()
)
_CHANGE: Final = update(PACE).where(_ITS_ROW)


class PaceRows:
    """The store of one account's budget on PostgreSQL; a `bot.cloudflare.pace.PaceStore`.

    The time is that of the server, which all processes share.
    """

    def __init__(self, database: Database, account_id: str) -> None:
        self._database = database
        self._account_id = account_id
        self._set_aside = SetAside()

    async def change(self, change: Callable[[Budget, datetime], tuple[Budget, _T]]) -> _T:
        """Replace the budget by what `change` makes of it, under a lock of its row; raises DatabaseTrouble."""
        return await self._database.run(lambda connection: self._change(connection, change))

    def _change(self, connection: Connection, change: Callable[[Budget, datetime], tuple[Budget, _T]]) -> _T:
        row = self._lock(connection) or self._insert(connection)
        now = row.now.astimezone(UTC)
        budget = self._read(row, now)
        changed, result = change(budget, now)
        if changed != budget:
            connection.execute(_CHANGE, _row_of(changed) | {"its_account_id": self._account_id})
        return result

    def _read(self, row: Row[Any], now: datetime) -> Budget:
        """Return a fresh budget if the row is damaged or would stop the account for days; a 429 corrects it."""
        try:
            return _read(row, now)
        except RecordDamaged as damage:
            self._set_aside.report(damage)
            return Budget.fresh(now)

    def _lock(self, connection: Connection) -> Row[Any] | None:
        return connection.execute(_LOCK, {"its_account_id": self._account_id}).one_or_none()

    def _insert(self, connection: Connection) -> Row[Any]:
        """Insert a fresh budget, unless another process has just done so."""
        now = connection.execute(select(_NOW)).scalar_one()
        values = {"account_id": self._account_id, **_row_of(Budget.fresh(now.astimezone(UTC)))}
        connection.execute(insert(PACE).values(values).on_conflict_do_nothing())
        row = self._lock(connection)
        assert row is not None  # noqa: S101 - rows are never deleted
        return row


def _read(row: Row[Any], now: datetime) -> Budget:
    """Read a row; raises RecordDamaged."""
    require_shape(row, PACE)
    budget = _as_budget(row)
    if not budget.is_possible(now):
        raise RecordDamaged(PACE.name, row.account_id, "a number or a time that no answer has given")
    return budget


def _as_budget(row: Row[Any]) -> Budget:
    window = timedelta(seconds=row.window_seconds)
    return Budget(
        quota=row.quota,
        window=window,
        spent=Spent(counts=tuple(row.spent), slot=slot_of(window), newest_at=row.newest_at),
        next_at=row.next_at,
        spare=row.spare,
        resets_at=row.resets_at,
        blocked_until=row.blocked_until,
    )


def _row_of(budget: Budget) -> dict[str, object]:
    return {
        "quota": budget.quota,
        "window_seconds": int(budget.window.total_seconds()),
        "spent": list(budget.spent.counts),
        "newest_at": budget.spent.newest_at,
        "next_at": budget.next_at,
        "spare": budget.spare,
        "resets_at": budget.resets_at,
        "blocked_until": budget.blocked_until,
    }
