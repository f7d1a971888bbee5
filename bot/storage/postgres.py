"""PostgreSQL: a few connections of one pool, a transaction for each function, and nobody waits for a silent server."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self, TypeVar

import psycopg
import structlog
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.types.datetime import TimestamptzLoader
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from bot.model.background import Background
from bot.model.errors import CommitUnknown, DatabaseTrouble, DatabaseUnavailable
from bot.storage.deadline import Deadline
from bot.storage.fitness import find_unfit
from bot.storage.migrations import bring_up_to_date, is_up_to_date
from bot.storage.refusals import Refusal, causes, judge_connecting, judge_statement, sqlstate_of
from bot.storage.session import COMMON, set_up

CONNECTIONS: Final = 8
MIGRATION_LIMIT: Final = timedelta(seconds=60)

_SESSION: Final = {
    "statement_timeout": "1s",
    "lock_timeout": "1s",
    "idle_in_transaction_session_timeout": "3s",  # a frozen process gives its row locks back
    "TimeZone": "UTC",
    "default_transaction_isolation": "read committed",
}
_CONNECTION: Final = {**COMMON, "application_name": "r2-credential-bot"}
_COLLISIONS: Final = frozenset({"40001", "40P01"})  # serialization failure, deadlock

_UNKNOWN_PARAMETER: Final = re.compile(r'invalid URI query parameter: "(\w{1,40})"')
_PROOF_LIMIT: Final = timedelta(seconds=0.5)
"""How long a connection that was there may take to answer at all: a new one has to fit into the rest of the time."""

_PROVEN_AT: Final = "proven_at"

_T = TypeVar("_T")
_log = structlog.get_logger()
_Afterwards = Callable[[_T, Any], Awaitable[None]]


class PostgresDatabase:
    """Runs functions of a connection, each in a transaction of its own, several at once.

    Each takes `time_limit` at most, from the call to the outcome, whatever the server and the network do.
    """

    def __init__(self, url: str, *, time_limit: timedelta = timedelta(seconds=1.5)) -> None:
        """Take a URL; raises ValueError, with a sentence that quotes no password, where it is none."""
        self._parameters = _parameters(url)
        self._time_limit = time_limit
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._under_way = Background("transaction_broke")
        self._broke_at = float("-inf")
        self._refusal: Refusal | None = None
        self._engine: AsyncEngine | None = None

    async def start(self) -> None:
        """Connect, and bring the tables up to date; raises DatabaseUnavailable and SchemaTooNew.

        Where waiting does not help, `refusal` says what does.
        """
        self._refusal = None
        self._engine = create_async_engine(
            "postgresql+psycopg://",
            async_creator=self._connect,
            pool_size=CONNECTIONS,
            max_overflow=0,
            hide_parameters=True,
            use_native_hstore=False,
        )
        try:
            await self._examine()
            if not await self.run(is_up_to_date):
                await self._run(self._engine, _migrate, None, MIGRATION_LIMIT)
        except CommitUnknown:  # the next start will know
            await self.stop()
            raise DatabaseUnavailable from None
        except BaseException:
            await self.stop()
            raise

    @property
    def refusal(self) -> Refusal | None:
        """What the database said no with since the last start, where its operator has to do something."""
        return self._refusal

    async def run(self, work: Callable[[Connection], _T], afterwards: _Afterwards[_T] | None = None) -> _T:
        """Return what `work` returns, once it is committed.

        Both functions run twice after a deadlock, or when the connection turns out to be broken before the commit.
        `afterwards` must not end the transaction.
        """
        if self._engine is None:
            raise DatabaseUnavailable
        engine = self._engine
        return await self._under_way.shield(lambda: self._run(engine, work, afterwards, self._time_limit))

    async def now(self) -> datetime:
        """Return the time of the server's clock, which all replicas share."""
        now: datetime = await self.run(
            lambda connection: connection.execute(select(func.clock_timestamp())).scalar_one()
        )
        return now.astimezone(UTC)

    async def stop(self) -> None:
        """Wait for what was given, which is soon over, also for cancelled callers, and close all connections."""
        engine, self._engine = self._engine, None
        await self._under_way.drain()
        if engine is not None:
            await engine.dispose()

    async def _examine(self) -> None:
        """Ask once what holds for every later connection; raises DatabaseUnavailable."""
        opened: list[psycopg.AsyncConnection[Any]] = []
        try:
            with Deadline.within(self._time_limit) as deadline:
                async with deadline.limit():
                    opened.append(one := await self._connect())
                    opened.append(other := await self._connect())
                    found = await find_unfit(one, other, _SESSION, deadline.watch)
        except (psycopg.Error, OSError, UnicodeError, TimeoutError):
            raise DatabaseUnavailable from None
        finally:
            for connection in opened:
                await connection.close()
        if found is not None:
            self._note(found)
            raise DatabaseUnavailable

    def _note(self, refusal: Refusal | None) -> None:
        if refusal is not None:
            _log.error("postgres_refused", sqlstate=refusal.sqlstate, reason=refusal.reason, fix=refusal.fix)
            self._refusal = refusal

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
        raise failure  # here, where no error of the driver, which quotes values, becomes its context

    def _note_failure(self, failed: "_Failed") -> None:
        self._note(failed.refusal)
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
        """Run a transaction once; raises _Failed for whatever the database did."""
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
                await _roll_back(connection)  # PostgreSQL would take a COMMIT after an error for a rollback
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
        """Wait for one of the few connections, and give it back, unless time ran out on it."""
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
                assert raw is not None  # noqa: S101 - it has just been connected
                deadline.watch(raw)
                if connection.info[_PROVEN_AT] < asked_at:  # else it is new
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
        """Return a connection that has answered since one broke: what broke that has most likely broken it as well."""
        while True:
            connection = await engine.connect()
            if connection.info.setdefault(_PROVEN_AT, asyncio.get_running_loop().time()) >= self._broke_at:
                return connection
            await connection.invalidate()
            await connection.close()

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        try:
            connection = await psycopg.AsyncConnection.connect(**self._parameters)
        except psycopg.OperationalError as error:
            refusal = judge_connecting(error)
            if refusal is not None and "," in str(self._parameters.get("host")):
                refusal = replace(refusal, passes=True)  # another server may answer later
            self._note(refusal)
            raise
        Deadline.current().watch(connection)  # SQLAlchemy has questions to its first connection
        await set_up(connection, _SESSION)
        connection.adapters.register_loader("timestamptz", _TimeLoader)
        return connection


async def _prove(connection: AsyncConnection, raw: psycopg.AsyncConnection[Any]) -> None:
    """Have the connection answer before anything is asked of it; raises _Failed, and a new one can be tried.

    A half-open one, whose server is gone and whose packets a balancer still acknowledges, would else cost the whole
    time. It begins the transaction, which has to be done anyway.
    """
    with Deadline.within(_PROOF_LIMIT) as deadline:
        deadline.watch(raw)
        try:
            async with deadline.limit():
                await raw.execute("")
        except (psycopg.Error, TimeoutError):
            await connection.invalidate()
            raise _Failed(DatabaseUnavailable, is_broken=True) from None


class _TimeLoader(Loader):
    """Reads what Python knows no time for, such as infinity, as None: raised, it would take its whole query with it."""

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        self._loader = TimestamptzLoader(oid, context)

    def load(self, data: Buffer) -> datetime | None:
        """Return the time."""
        try:
            return self._loader.load(data)
        except psycopg.DataError:
            return None


class _Failed(Exception):  # noqa: N818 - reads as what it says
    """An attempt that came to nothing, or to nobody knows what."""

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
        """Nothing was written, for certain."""
        return cls(DatabaseUnavailable, error=error, is_broken=deadline.is_over or raw.closed)


def _parameters(url: str) -> dict[str, Any]:
    try:
        parameters = conninfo_to_dict(url)
    except psycopg.Error as error:
        raise ValueError(_explain(url, str(error))) from None
    return {**parameters, **_CONNECTION}


def _explain(url: str, message: str) -> str:
    """Name a parameter that is not known, unless it may be the rest of a password with a question mark in it."""
    found = _UNKNOWN_PARAMETER.search(message)
    if found and "@" not in url.partition("?")[2]:
        return f"PostgreSQL knows no parameter `{found[1]}`; correct it, or remove it"
    return "is not an address that PostgreSQL's own programs understand"


def _migrate(connection: Connection) -> None:
    for name in ("statement_timeout", "lock_timeout"):  # another replica may be at it
        connection.exec_driver_sql(f"SET LOCAL {name} = {MIGRATION_LIMIT // timedelta(milliseconds=1)}")
    bring_up_to_date(connection)


async def _roll_back(connection: AsyncConnection) -> None:
    with suppress(DBAPIError):  # broken: the server rolls back by itself
        await connection.rollback()


def _is_of_the_database(error: Exception) -> bool:
    return any(isinstance(cause, psycopg.Error | DBAPIError | PendingRollbackError) for cause in causes(error))
