"""PostgreSQL behind a small connection pool: one transaction per function, and no wait for a silent server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, Self, TypeVar

import psycopg
import structlog
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from bot.model.background import Background
from bot.model.errors import CommitUnknown, DatabaseTrouble, DatabaseUnavailable
from bot.storage.connecting import Connector
from bot.storage.deadline import Deadline
from bot.storage.migrations import bring_up_to_date, is_up_to_date
from bot.storage.refusals import Refusal, causes, judge_statement, sqlstate_of
from bot.storage.trouble import Trouble

CONNECTIONS: Final = 8
MIGRATION_LIMIT: Final = timedelta(seconds=60)

_COLLISIONS: Final = frozenset({"40001", "40P01"})  # serialization failure, deadlock

_PROOF_LIMIT: Final = timedelta(seconds=0.5)
"""How long an existing connection may take to answer: the rest of the time limit must suffice for a new one."""

_PROVEN_AT: Final = "proven_at"

_T = TypeVar("_T")
_log = structlog.get_logger()
_Afterwards = Callable[[_T, Any], Awaitable[None]]


class PostgresDatabase:
    """Runs functions that take a connection, each in a separate transaction, several concurrently.

    A call takes at most `time_limit`, including the commit, whatever the server and the network do.
    """

    def __init__(
        self,
        url: str,
        *,
        time_limit: timedelta = timedelta(seconds=1.5),
        set_up: Callable[[Connection], None] = bring_up_to_date,
    ) -> None:
        """Parse the URL; raises ValueError, with a sentence that quotes no password, if it is invalid."""
        self._connector = Connector(url)
        self._time_limit = time_limit
        self._set_up = set_up
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._under_way = Background("transaction_broke")
        self._broke_at = float("-inf")
        self._engine: AsyncEngine | None = None

    async def start(self, *, migrates: bool = True) -> None:
        """Connect and, if it `migrates`, bring the tables up to date; raises DatabaseUnavailable and SchemaTooNew.

        If the server refused, `refusal` says what the operator has to do.
        """
        self._connector.refusal = None
        self._engine = create_async_engine(
            "postgresql+psycopg://",
            async_creator=self._connector.connect,
            pool_size=CONNECTIONS,
            max_overflow=0,
            hide_parameters=True,
            use_native_hstore=False,
        )
        try:
            await self._connector.examine(self._time_limit)
            if migrates and not await self.run(is_up_to_date):
                await self._run(self._engine, partial(_migrate, self._set_up), None, MIGRATION_LIMIT)
        except CommitUnknown:  # the next start will know
            await self.stop()
            raise DatabaseUnavailable from None
        except BaseException:
            await self.stop()
            raise

    @property
    def refusal(self) -> Refusal | None:
        """The last refusal since the start that the operator may have to fix."""
        return self._connector.refusal

    @property
    def trouble(self) -> Trouble:
        """Why the latest failed call failed: a refusal by the server, or no answer."""
        refusal = self.refusal
        if refusal is None:
            return Trouble(reason=f"PostgreSQL cannot be reached: {self._connector.silence}")
        state = f" (SQLSTATE {refusal.sqlstate})" if refusal.sqlstate else ""
        return Trouble(reason=f"PostgreSQL refused: {refusal.reason}{state}", fix=refusal.fix or "")

    async def run(self, work: Callable[[Connection], _T], afterwards: _Afterwards[_T] | None = None) -> _T:
        """Return the result of `work` once it is committed.

        Both functions run a second time after a deadlock, or if the connection breaks before the commit.
        `afterwards` must not end the transaction.
        """
        if self._engine is None:
            raise DatabaseUnavailable
        engine = self._engine
        return await self._under_way.shield(lambda: self._run(engine, work, afterwards, self._time_limit))

    async def now(self) -> datetime:
        """Return the time by the server's clock, which all replicas share."""
        now: datetime = await self.run(
            lambda connection: connection.execute(select(func.clock_timestamp())).scalar_one()
        )
        return now.astimezone(UTC)

    async def stop(self) -> None:
        """Wait for the running transactions, including those of cancelled callers, then close all connections."""
        engine, self._engine = self._engine, None
        await self._under_way.drain()
        if engine is not None:
            await engine.dispose()

    async def _run(
        self,
        engine: AsyncEngine,
        work: Callable[[Connection], _T],
        afterwards: _Afterwards[_T] | None,
        time_limit: timedelta,
    ) -> _T:
        failure: type[DatabaseTrouble] = DatabaseUnavailable
        with Deadline.within(time_limit) as deadline:
            for _ in range(2):
                try:
                    return await self._attempt(engine, work, afterwards, deadline)
                except _Failed as failed:
                    failure, may_pass = failed.failure, failed.is_broken or failed.is_collision
                    self._note_failure(failed)
                if failure is CommitUnknown or deadline.is_over or not may_pass:
                    break
        raise failure  # here, so that no driver error, which can quote values, becomes its context

    def _note_failure(self, failed: "_Failed") -> None:
        self._connector.note(failed.refusal)
        if failed.sqlstate is not None and failed.refusal is None and not failed.is_collision:
            _log.warning("postgres_failed", sqlstate=failed.sqlstate)
        if failed.is_broken:
            self._broke_at = asyncio.get_running_loop().time()

    async def _attempt(
        self,
        engine: AsyncEngine,
        work: Callable[[Connection], _T],
        afterwards: _Afterwards[_T] | None,
        deadline: Deadline,
    ) -> _T:
        """Run the transaction once; raises _Failed for any failure of the database."""
        async with self._connection(engine, deadline) as (connection, raw):
            await connection.begin()
            try:
                async with deadline.limit():
                    result = await connection.run_sync(work)
                    if afterwards is not None:
                        await afterwards(result, raw)
            except Exception as error:
                await _roll_back(connection)
                if _is_of_the_database(error) or (deadline.is_over and isinstance(error, TimeoutError)):
                    raise _Failed.before_commit(error, raw, deadline) from None
                raise
            if deadline.is_over or raw.info.transaction_status in {
                TransactionStatus.INERROR,
                TransactionStatus.UNKNOWN,
            }:
                await _roll_back(connection)  # after an error, PostgreSQL answers COMMIT with a rollback and no error
                raise _Failed.before_commit(None, raw, deadline)
            try:
                await connection.commit()
            except DBAPIError as error:
                raise _Failed(CommitUnknown, error=error, is_broken=True) from None
        return result

    @asynccontextmanager
    async def _connection(
        self, engine: AsyncEngine, deadline: Deadline
    ) -> AsyncIterator[tuple[AsyncConnection, psycopg.AsyncConnection[Any]]]:
        """Lend a connection from the pool; discard it afterwards if the time ran out on it."""
        try:
            async with deadline.limit():
                await self._slots.acquire()
        except TimeoutError:
            raise _Failed(DatabaseUnavailable) from None
        try:
            try:
                asked_at = asyncio.get_running_loop().time()
                async with deadline.limit():
                    connection = await self._check_out(engine)
            except (DBAPIError, psycopg.Error, OSError, UnicodeError):
                raise _Failed(DatabaseUnavailable) from None
            try:
                raw = (await connection.get_raw_connection()).driver_connection
                assert raw is not None  # noqa: S101 - just connected
                deadline.watch(raw)
                if connection.info[_PROVEN_AT] < asked_at:  # not a new connection
                    await _prove(connection, raw)
                yield connection, raw
                connection.info[_PROVEN_AT] = asyncio.get_running_loop().time()
            finally:
                if deadline.is_over:
                    await connection.invalidate()
                await connection.close()
                deadline.unwatch()
        finally:
            self._slots.release()

    async def _check_out(self, engine: AsyncEngine) -> AsyncConnection:
        """Return a connection that has answered since the last failure, which most likely broke the older ones too."""
        while True:
            connection = await engine.connect()
            if connection.info.setdefault(_PROVEN_AT, asyncio.get_running_loop().time()) >= self._broke_at:
                return connection
            await connection.invalidate()
            await connection.close()


async def _prove(connection: AsyncConnection, raw: psycopg.AsyncConnection[Any]) -> None:
    """Require an answer before the connection is used; raises _Failed, so that a new one can be tried.

    A half-open connection, whose server is gone while a load balancer still acknowledges packets, would otherwise
    use up the time limit. The query also sends the BEGIN, which is needed anyway.
    """
    with Deadline.within(_PROOF_LIMIT) as deadline:
        deadline.watch(raw)
        try:
            async with deadline.limit():
                await raw.execute("")
        except (psycopg.Error, TimeoutError):
            await connection.invalidate()
            raise _Failed(DatabaseUnavailable, is_broken=True) from None


class _Failed(Exception):  # noqa: N818 - reads as what it says
    """An attempt that failed, or whose outcome is unknown."""

    def __init__(
        self, failure: type[DatabaseTrouble], *, error: Exception | None = None, is_broken: bool = False
    ) -> None:
        super().__init__()
        self.failure = failure
        self.sqlstate = sqlstate_of(error)
        self.refusal = judge_statement(error)
        self.is_collision = self.sqlstate in _COLLISIONS
        self.is_broken = is_broken

    @classmethod
    def before_commit(cls, error: Exception | None, raw: psycopg.AsyncConnection[Any], deadline: Deadline) -> Self:
        """Describe a failure after which certainly nothing was written."""
        return cls(DatabaseUnavailable, error=error, is_broken=deadline.is_over or raw.closed)


def _migrate(set_up: Callable[[Connection], None], connection: Connection) -> None:
    for name in ("statement_timeout", "lock_timeout"):  # another replica may be migrating
        connection.exec_driver_sql(f"SET LOCAL {name} = {MIGRATION_LIMIT // timedelta(milliseconds=1)}")
    set_up(connection)


async def _roll_back(connection: AsyncConnection) -> None:
    with suppress(DBAPIError):  # the connection is broken: the server rolls back by itself
        await connection.rollback()


def _is_of_the_database(error: Exception) -> bool:
    return any(isinstance(cause, psycopg.Error | DBAPIError | PendingRollbackError) for cause in causes(error))
