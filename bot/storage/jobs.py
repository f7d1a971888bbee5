"""Defers jobs on Procrastinate (https://procrastinate.readthedocs.io), in the transaction that makes them needed.

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
"""Of all jobs that are due the urgent ones start first: however many checks wait, a worker's places are not theirs."""

_HAS_MORE_THAN_CHECKS: Final = """
    SELECT EXISTS (
        SELECT FROM submissions WHERE account_id = %s AND bucket = %s AND reported_at IS NULL AND task <> 'check'
    )
"""


class Jobs:
    """Defers jobs, each inside a transaction of the bot's own connection: all that a gateway needs."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._app = App(connector=PsycopgConnector())  # never opened: every call brings its connection

    async def prepare(self) -> None:
        """Make Procrastinate's tables where they are missing; raises DatabaseTrouble."""

        async def make(is_missing: bool, connection: Any) -> None:  # noqa: ANN401, FBT001 - psycopg is optional
            if is_missing:
                await connection.execute(SchemaManager.get_schema())

        await self._database.run(_lock_and_look, make)

    async def deliver_in(self, connection: Any, key: BucketKey) -> None:  # noqa: ANN401 - psycopg is optional
        """See to a bucket as soon as the transaction of this connection is committed; later where it only checks."""
        cursor = await connection.execute(_HAS_MORE_THAN_CHECKS, (key.account_id, key.bucket))
        (is_urgent,) = await cursor.fetchone()
        deferrer = self._app.configure_task(
            DELIVER, lock=_lock_of(key), priority=_URGENT if is_urgent else None, connection=connection
        )
        with _drivers_errors():
            await deferrer.defer_async(account_id=key.account_id, bucket=key.bucket)

    async def deliver(self, key: BucketKey) -> None:
        """See to a bucket; raises DatabaseTrouble."""
        await self._run(lambda connection: self.deliver_in(connection, key))

    async def deliver_at(self, key: BucketKey, at: datetime) -> None:
        """See to a bucket at that time; raises DatabaseTrouble."""

        async def wake(connection: Any) -> None:  # noqa: ANN401 - psycopg is optional
            deferrer = self._app.configure_task(WAKE, schedule_at=at, priority=_URGENT, connection=connection)
            await deferrer.defer_async(account_id=key.account_id, bucket=key.bucket)

        await self._run(wake)

    async def refresh_catalogs(self, tests: bool) -> None:  # noqa: FBT001 - handed on as it is
        """Have some worker ask Cloudflare about the catalogs, once however often this is called."""

        async def refresh(connection: Any) -> None:  # noqa: ANN401 - psycopg is optional
            only_once = f"{REFRESH} tests" if tests else REFRESH
            deferrer = self._app.configure_task(REFRESH, lock=REFRESH, queueing_lock=only_once, connection=connection)
            await deferrer.defer_async(tests=tests)

        try:
            await self._run(refresh)
        except AlreadyEnqueued:
            return

    async def remove_damaged(self) -> int:
        """Remove the jobs whose arguments name nothing, and return how many there were; raises DatabaseTrouble.

        Procrastinate breaks on them and leaves them as they are, and their bucket's lock with them.
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
    """Give the database the driver's own errors, which it knows how to tell apart; Procrastinate wraps them."""
    try:
        yield
    except ConnectorException as error:
        raise error.__cause__ or DatabaseUnavailable() from None


def _lock_of(key: BucketKey) -> str:
    return f"{key.account_id}/{key.bucket}"


def _lock_and_look(connection: Connection) -> bool:
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('r2-credential-bot procrastinate'))"))
    return connection.scalar(text("SELECT to_regclass('procrastinate_jobs')")) is None
