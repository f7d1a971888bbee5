"""Defers Procrastinate jobs (https://procrastinate.readthedocs.io) in the transaction that makes them necessary.

A job names a bucket, never a token.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from procrastinate.schema import SchemaManager
from sqlalchemy import Connection, text

from bot.model.catalog import BucketKey
from bot.model.errors import DatabaseUnavailable
from bot.storage.database import Database

DELIVER: Final = "deliver"
WAKE: Final = "wake"
REFRESH: Final = "refresh_catalogs"

_URGENT: Final = 1
"""Urgent jobs start before others that are due, so that checks cannot take every place of a worker from writes."""

_HAS_MORE_THAN_CHECKS: Final = """
    SELECT EXISTS (
        SELECT FROM submissions WHERE account_id = %s AND bucket = %s AND reported_at IS NULL AND task <> 'check'
    )
"""


class Jobs:
    """Defers jobs, each inside a transaction of the bot's database. A gateway needs no more than this."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._app = App(connector=PsycopgConnector())  # never opened: every call passes a connection

    async def prepare(self) -> None:
        """Create Procrastinate's tables if they are missing; raises DatabaseTrouble."""

        async def create(is_missing: bool, connection: Any) -> None:  # noqa: ANN401, FBT001 - psycopg is optional
            if is_missing:
                await connection.execute(SchemaManager.get_schema())

        await self._database.run(_lock_and_find_missing, create)

    async def deliver_in(self, connection: Any, key: BucketKey) -> None:  # noqa: ANN401 - psycopg is optional
        """Defer a delivery that starts once this connection's transaction commits; checks alone are not urgent."""
        cursor = await connection.execute(_HAS_MORE_THAN_CHECKS, (key.account_id, key.bucket))
        (is_urgent,) = await cursor.fetchone()
        deferrer = self._app.configure_task(
            DELIVER, lock=_lock_of(key), priority=_URGENT if is_urgent else None, connection=connection
        )
        with _drivers_errors():
            await deferrer.defer_async(account_id=key.account_id, bucket=key.bucket)

    async def deliver(self, key: BucketKey) -> None:
        """Defer a delivery for this bucket now; raises DatabaseTrouble."""
        await self._run(lambda connection: self.deliver_in(connection, key))

    async def deliver_at(self, key: BucketKey, at: datetime) -> None:
        """Defer a delivery for this bucket to the given time; raises DatabaseTrouble."""

        async def wake(connection: Any) -> None:  # noqa: ANN401 - psycopg is optional
            deferrer = self._app.configure_task(WAKE, schedule_at=at, priority=_URGENT, connection=connection)
            await deferrer.defer_async(account_id=key.account_id, bucket=key.bucket)

        await self._run(wake)

    async def refresh_catalogs(self, tests: bool) -> None:  # noqa: FBT001 - passed through
        """Defer one refresh of the catalogs, unless one is already queued; raises DatabaseTrouble."""

        async def refresh(connection: Any) -> None:  # noqa: ANN401 - psycopg is optional
            only_once = f"{REFRESH} tests" if tests else REFRESH
            deferrer = self._app.configure_task(REFRESH, lock=REFRESH, queueing_lock=only_once, connection=connection)
            await deferrer.defer_async(tests=tests)

        try:
            await self._run(refresh)
        except AlreadyEnqueued:
            return

    async def remove_damaged(self) -> int:
        """Delete jobs whose arguments are not an object, and return their number; raises DatabaseTrouble.

        Procrastinate fails on such a job and leaves it in place, which blocks its bucket's lock.
        """
        statement = text("DELETE FROM procrastinate_jobs WHERE jsonb_typeof(args) <> 'object'")
        return await self._database.run(lambda connection: connection.execute(statement).rowcount)

    async def _run(self, act: Callable[[Any], Awaitable[None]]) -> None:
        async def afterwards(_: None, connection: Any) -> None:  # noqa: ANN401 - psycopg is optional
            with _drivers_errors():
                await act(connection)

        await self._database.run(lambda _: None, afterwards)


@contextmanager
def _drivers_errors() -> Iterator[None]:
    """Unwrap the driver's errors from Procrastinate's: the database classifies them by SQLSTATE."""
    try:
        yield
    except ConnectorException as error:
        raise error.__cause__ or DatabaseUnavailable() from None


def _lock_of(key: BucketKey) -> str:
    return f"{key.account_id}/{key.bucket}"


def _lock_and_find_missing(connection: Connection) -> bool:
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('r2-credential-bot procrastinate'))"))
    return connection.scalar(text("SELECT to_regclass('procrastinate_jobs')")) is None
