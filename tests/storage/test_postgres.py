"""A real PostgreSQL, sometimes behind a failing proxy: atomic, bounded in time, exact about what was written."""

import asyncio
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from structlog.testing import capture_logs

from bot.model.errors import CommitUnknown, DatabaseTrouble, DatabaseUnavailable
from bot.storage.postgres import CONNECTIONS, PostgresDatabase
from tests.postgres import PostgresProxy, execute

METADATA = MetaData()
ENTRIES = Table(
    "entries", METADATA, Column("number", Integer, primary_key=True), Column("word", String, nullable=False)
)
MARKED = "sealed.v1.madeup.MADEUPCIPHERTEXTMADEUPCIPHERTEXT"
SHORT = timedelta(seconds=0.8)
PATIENCE = timedelta(seconds=60)
Raw = psycopg.AsyncConnection[Any]


@pytest.fixture
def url(postgres_url: str) -> str:
    """Return a database with one small table, which detects deadlocks at once."""
    execute(postgres_url, "CREATE TABLE entries (number INTEGER PRIMARY KEY, word VARCHAR NOT NULL)")
    execute(postgres_url, f"ALTER DATABASE {postgres_url.rpartition('/')[2]} SET deadlock_timeout = '50ms'")
    return postgres_url


@asynccontextmanager
async def _started(url: str, time_limit: timedelta = timedelta(seconds=1.5)) -> AsyncIterator[PostgresDatabase]:
    database = PostgresDatabase(url, time_limit=time_limit)
    await database.start()
    try:
        yield database
    finally:
        await database.stop()


@pytest_asyncio.fixture
async def database(url: str) -> AsyncIterator[PostgresDatabase]:
    """Start a database without the proxy."""
    async with _started(url) as started:
        yield started


@pytest_asyncio.fixture
async def proxy(url: str) -> AsyncIterator[PostgresProxy]:
    """Start the proxy."""
    async with PostgresProxy(url) as started:
        yield started


@pytest_asyncio.fixture
async def behind(proxy: PostgresProxy) -> AsyncIterator[PostgresDatabase]:
    """Start a database behind the proxy, with a short time limit."""
    async with _started(proxy.url, time_limit=SHORT) as started:
        yield started
        proxy.thaw()


def _add(number: int, word: str = "made up") -> Callable[[Connection], int]:
    def work(connection: Connection) -> int:
        connection.execute(insert(ENTRIES).values(number=number, word=word))
        return number

    return work


def _read(url: str) -> list[object]:
    """Read what another process would see."""
    return [number for (number,) in execute(url, "SELECT number FROM entries ORDER BY number")]


def _ask(connection: Connection) -> int:
    found: int = connection.execute(select(1)).scalar_one()
    return found


async def _wait_until(url: str, question: str) -> None:
    """Wait until the server answers the query with a row; no event of ours signals that."""
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while not await asyncio.to_thread(execute, url, question):  # noqa: ASYNC110 - see above
            await asyncio.sleep(0)


async def _fails(work: Awaitable[Any], failure: type[DatabaseTrouble] = DatabaseUnavailable) -> DatabaseTrouble:
    """Await the failure, which must come although the obstacle stays, and must not hold the driver's error."""
    async with asyncio.timeout(PATIENCE.total_seconds()):
        with pytest.raises(failure) as caught:
            await work
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return caught.value


# Transactions.


async def test_a_result_comes_back_when_it_is_committed(database: PostgresDatabase, url: str) -> None:
    """By then, others see the change."""
    assert await database.run(_add(7)) == 7
    assert _read(url) == [7]


async def test_a_function_runs_wholly_or_not_at_all(database: PostgresDatabase, url: str) -> None:
    """The changes of a failing function are rolled back, and the caller gets its exception unchanged."""
    error = ValueError("made up")

    def work(connection: Connection) -> None:
        _add(1)(connection)
        raise error

    with pytest.raises(ValueError, match="made up") as caught:
        await database.run(work)
    assert caught.value is error
    assert _read(url) == []
    assert await database.run(_ask) == 1


async def test_afterwards_runs_in_the_same_transaction(database: PostgresDatabase, url: str) -> None:
    """It sees uncommitted changes, and is committed with them."""
    seen: list[object] = []

    async def afterwards(result: int, raw: Raw) -> None:
        seen.append((result, _read(url), await (await raw.execute("SELECT number FROM entries")).fetchall()))
        await raw.execute("INSERT INTO entries VALUES (2, 'made up')")

    assert await database.run(_add(1), afterwards) == 1
    assert seen == [(1, [], [(1,)])]
    assert _read(url) == [1, 2]


async def test_afterwards_is_committed_after_a_function_without_queries(database: PostgresDatabase, url: str) -> None:
    """A function without queries begins a transaction too."""

    async def afterwards(_: None, raw: Raw) -> None:
        await raw.execute("INSERT INTO entries VALUES (2, 'made up')")

    await database.run(lambda _: None, afterwards)
    assert _read(url) == [2]


async def test_an_error_in_afterwards_rolls_everything_back(database: PostgresDatabase, url: str) -> None:
    """A submission that cannot be dispatched is not recorded."""
    error = TimeoutError("its own")

    async def afterwards(_: int, raw: Raw) -> None:
        await raw.execute("INSERT INTO entries VALUES (2, 'made up')")
        raise error

    with pytest.raises(TimeoutError) as caught:
        await database.run(_add(1), afterwards)
    assert caught.value is error
    assert _read(url) == []


async def test_transactions_run_concurrently(database: PostgresDatabase) -> None:
    """None waits for another to end."""
    barrier = asyncio.Barrier(CONNECTIONS)

    async def afterwards(_: int, __: Raw) -> None:
        await barrier.wait()

    async with asyncio.timeout(PATIENCE.total_seconds()):
        assert await asyncio.gather(*(database.run(_ask, afterwards) for _ in range(CONNECTIONS))) == [1] * CONNECTIONS


# Errors.


async def _insert_marked(_: int, raw: Raw) -> None:
    await raw.execute("INSERT INTO entries VALUES (1, %s)", (MARKED,))


async def _insert_marked_through_others(result: int, raw: Raw) -> None:
    """Fail as Procrastinate does, with an exception raised from the driver's."""
    try:
        await _insert_marked(result, raw)
    except psycopg.Error as error:
        message = "made up"
        raise LookupError(message) from error


@pytest.mark.parametrize(
    ("work", "afterwards"),
    [
        pytest.param(_add(1, MARKED), None, id="in the function"),
        pytest.param(_ask, _insert_marked, id="afterwards"),
        pytest.param(_ask, _insert_marked_through_others, id="afterwards, wrapped"),
    ],
)
async def test_a_database_error_comes_as_ours(
    database: PostgresDatabase,
    url: str,
    log: io.StringIO,
    work: Callable[[Connection], int],
    afterwards: Callable[[int, Any], Awaitable[None]] | None,
) -> None:
    """No driver error, which quotes statement and values, leaves the module or is logged."""
    await database.run(_add(1))
    error = await _fails(database.run(work, afterwards))
    assert MARKED not in repr(error)
    assert MARKED not in log.getvalue()
    assert _read(url) == [1]
    assert await database.run(_ask) == 1


async def test_an_error_that_the_function_swallowed_is_noticed(database: PostgresDatabase, url: str) -> None:
    """PostgreSQL answers the COMMIT of a failed transaction with a silent rollback."""

    def work(connection: Connection) -> None:
        _add(2)(connection)
        with pytest.raises(IntegrityError):
            _add(2)(connection)

    await _fails(database.run(work))
    assert _read(url) == []


async def test_a_commit_that_fails_is_unknown(database: PostgresDatabase, url: str) -> None:
    """Whatever the reason: here the server refuses it."""
    execute(url, "CREATE TABLE later (number INTEGER UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    insert_twice = text("INSERT INTO later VALUES (1), (1)")
    await _fails(database.run(lambda connection: connection.execute(insert_twice).rowcount), CommitUnknown)
    assert await database.run(_ask) == 1


# Time.


async def test_a_commit_without_an_answer_is_unknown(behind: PostgresDatabase, proxy: PostgresProxy, url: str) -> None:
    """The server has committed, and its answer was lost."""
    proxy.freeze_on_commit()
    await _fails(behind.run(_add(1)), CommitUnknown)
    assert _read(url) == [1]
    proxy.thaw()
    assert await behind.run(_add(2)) == 2


async def test_a_frozen_server_delays_no_one(behind: PostgresDatabase, proxy: PostgresProxy) -> None:
    """Neither over an existing connection nor over a new one; once it is back, calls work again."""
    proxy.freeze()
    await _fails(behind.run(_add(1)))
    await _fails(behind.run(_add(1)))
    await asyncio.gather(*(_fails(behind.run(_add(1))) for _ in range(3 * CONNECTIONS)))
    proxy.thaw()
    assert await behind.run(_add(2)) == 2


async def test_a_server_that_freezes_in_a_transaction_delays_no_one(
    behind: PostgresDatabase, proxy: PostgresProxy, url: str
) -> None:
    """Certainly nothing was committed."""

    def work(connection: Connection) -> int:
        _add(1)(connection)
        proxy.freeze()
        return _ask(connection)

    await _fails(behind.run(work))
    proxy.thaw()
    assert _read(url) == []


async def test_a_server_that_freezes_before_the_rollback_delays_no_one(
    behind: PostgresDatabase, proxy: PostgresProxy
) -> None:
    """The caller still gets the function's exception."""

    def work(connection: Connection) -> int:
        _add(1)(connection)
        proxy.freeze()
        message = "made up"
        raise ValueError(message)

    async with asyncio.timeout(PATIENCE.total_seconds()):
        with pytest.raises(ValueError, match="made up"):
            await behind.run(work)
    proxy.thaw()
    assert await behind.run(_ask) == 1


async def test_a_server_that_freezes_in_afterwards_delays_no_one(
    behind: PostgresDatabase, proxy: PostgresProxy
) -> None:
    """The driver's connection is cut as well."""

    async def afterwards(_: int, raw: Raw) -> None:
        proxy.freeze()
        await raw.execute("SELECT 1")

    await _fails(behind.run(_ask, afterwards))


async def test_a_slow_statement_is_ended_by_the_server(url: str) -> None:
    """After a second, so that it does not keep running for no one."""
    async with _started(url, time_limit=2 * PATIENCE) as database:
        await _fails(
            database.run(lambda connection: connection.execute(text("SELECT pg_sleep(3600)")).scalar()),
        )
    assert execute(url, "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'") == []


async def test_a_lock_is_not_waited_for_beyond_the_limit(url: str) -> None:
    """If a row is locked for longer, the others fail instead of waiting."""
    execute(url, "INSERT INTO entries VALUES (1, 'made up')")
    async with _started(url, time_limit=SHORT) as database:
        with psycopg.connect(url) as other:
            other.execute("UPDATE entries SET word = 'other'")
            change = update(ENTRIES).values(word="ours")
            await _fails(database.run(lambda connection: connection.execute(change).rowcount))
        assert await database.run(lambda connection: connection.execute(change).rowcount) == 1


async def test_afterwards_is_ended_even_if_it_waits_for_something_else(url: str) -> None:
    """It may wait for something that is not the database."""

    async def afterwards(_: int, __: Raw) -> None:
        await asyncio.Event().wait()

    async with _started(url, time_limit=SHORT) as database:
        await _fails(database.run(_add(1), afterwards))
        assert _read(url) == []
        assert await database.run(_ask) == 1


async def test_no_one_waits_for_a_free_connection_forever(url: str) -> None:
    """A caller without a connection fails in the same time as those with one; then calls work again."""

    async def afterwards(_: int, __: Raw) -> None:
        await asyncio.Event().wait()

    async with _started(url, time_limit=SHORT) as database:
        await asyncio.gather(*(_fails(database.run(_ask, afterwards)) for _ in range(4 * CONNECTIONS)))
        assert await database.run(_ask) == 1


async def test_a_process_that_was_frozen_commits_nothing(url: str) -> None:
    """Its caller got no answer in time, and another process may have taken over its rows."""

    def work(connection: Connection) -> int:
        _add(1)(connection)
        time.sleep(SHORT.total_seconds())  # blocks everything else in this process too
        return 1

    async with _started(url, time_limit=SHORT) as database:
        await _fails(database.run(work))
        assert _read(url) == []
        assert await database.run(_ask) == 1


async def test_an_idle_transaction_releases_its_locks(url: str) -> None:
    """A process stopped inside a transaction must not block others for more than three seconds."""
    execute(url, "INSERT INTO entries VALUES (1, 'made up')")
    got_the_lock = asyncio.Event()

    async def afterwards(_: int, __: Raw) -> None:
        await got_the_lock.wait()

    async with _started(url, time_limit=PATIENCE) as database, asyncio.timeout(PATIENCE.total_seconds()):
        change = update(ENTRIES).values(word="ours")
        holder = asyncio.create_task(database.run(lambda connection: connection.execute(change).rowcount, afterwards))
        # After BEGIN alone it is idle as well, and has no lock yet.
        locked = "SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE 'UPDATE%'"
        await _wait_until(url, f"{locked} AND datname = current_database()")
        await asyncio.to_thread(execute, url, "UPDATE entries SET word = 'other'")
        got_the_lock.set()
        await _fails(holder, DatabaseTrouble)
    assert execute(url, "SELECT word FROM entries") == [("other",)]


# Outages.


async def test_a_connection_that_breaks_in_a_transaction_is_replaced(
    behind: PostgresDatabase, proxy: PostgresProxy, url: str
) -> None:
    """The function runs again, and takes effect once."""
    tries: list[int] = []

    def work(connection: Connection) -> int:
        tries.append(1)
        _add(1)(connection)
        if len(tries) == 1:
            proxy.cut()
        return _ask(connection)

    assert await behind.run(work) == 1
    assert len(tries) == 2
    assert _read(url) == [1]


async def test_half_open_connections_are_replaced(proxy: PostgresProxy, url: str, log: io.StringIO) -> None:
    """The existing ones fall silent with their sockets open, new ones work: no call fails."""
    barrier = asyncio.Barrier(CONNECTIONS)

    async def meet(_: int, __: Raw) -> None:
        await barrier.wait()

    async with _started(proxy.url, time_limit=PATIENCE) as database:
        await asyncio.gather(*(database.run(_ask, meet) for _ in range(CONNECTIONS)))
        proxy.freeze_existing()
        assert await asyncio.gather(*(database.run(_add(number)) for number in range(12))) == list(range(12))
    assert _read(url) == list(range(12))
    assert "never retrieved" not in log.getvalue()


async def test_connections_that_freeze_in_a_transaction_fail_it(
    behind: PostgresDatabase, proxy: PostgresProxy, url: str
) -> None:
    """The call is not repeated; the next one gets a new connection."""

    def work(connection: Connection) -> int:
        _add(1)(connection)
        proxy.freeze_existing()
        return _ask(connection)

    await _fails(behind.run(work))
    assert await behind.run(_add(2)) == 2
    assert _read(url) == [2]


async def test_a_connection_that_breaks_in_afterwards_is_replaced(
    behind: PostgresDatabase, proxy: PostgresProxy, url: str
) -> None:
    """Both functions run again."""
    tries: list[int] = []

    async def afterwards(result: int, raw: Raw) -> None:
        tries.append(result)
        if len(tries) == 1:
            proxy.cut()
        await raw.execute("INSERT INTO entries VALUES (2, 'made up')")

    assert await behind.run(_add(1), afterwards) == 1
    assert tries == [1, 1]
    assert _read(url) == [1, 2]


async def test_a_connection_that_breaks_every_time_fails_the_call(
    behind: PostgresDatabase, proxy: PostgresProxy, url: str
) -> None:
    """There is no third attempt."""
    tries: list[int] = []

    def work(connection: Connection) -> int:
        tries.append(1)
        _add(1)(connection)
        proxy.cut()
        return _ask(connection)

    await _fails(behind.run(work))
    assert len(tries) == 2
    assert _read(url) == []


async def test_a_restart_of_the_server_is_not_noticed(database: PostgresDatabase, url: str) -> None:
    """All idle connections are dead, and no call fails because of it."""
    await asyncio.gather(*(database.run(lambda c: c.execute(text("SELECT pg_sleep(0.05)")).rowcount) for _ in range(8)))
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    ended = execute(url, f"SELECT pg_terminate_backend(pid, 5000) {others}")
    assert ended == [(True,)] * CONNECTIONS
    assert await asyncio.gather(*(database.run(_add(number)) for number in range(20))) == list(range(20))
    assert _read(url) == list(range(20))


async def test_a_connection_that_was_closed_while_idle_is_replaced(database: PostgresDatabase) -> None:
    """The pool does not check its idle connections."""
    used: list[Raw] = []

    async def afterwards(_: int, raw: Raw) -> None:
        used.append(raw)

    await database.run(_ask, afterwards)
    await used[0].close()
    assert await database.run(_ask, afterwards) == 1
    assert used[-1] is not used[0]


async def test_after_an_outage_calls_work_again(behind: PostgresDatabase, proxy: PostgresProxy, url: str) -> None:
    """While the server is down, each call fails at once."""
    proxy.refuse()
    proxy.cut()
    for _ in range(3):
        await _fails(behind.run(_add(1)))
    await proxy.accept()
    assert await behind.run(_add(1)) == 1
    assert _read(url) == [1]


async def test_a_deadlock_is_retried_once(url: str) -> None:
    """The transaction that PostgreSQL ends runs again after the other one."""
    async with _started(url, time_limit=PATIENCE) as database:  # a busy machine may take longer than usual
        await _let_two_transactions_deadlock(database, url)


async def _let_two_transactions_deadlock(database: PostgresDatabase, url: str) -> None:
    execute(url, "INSERT INTO entries VALUES (1, ''), (2, '')")
    tries: list[int] = []
    both_began = asyncio.Event()

    def append(number: int) -> Callable[[Connection], int]:
        def work(connection: Connection) -> int:
            change = update(ENTRIES).where(ENTRIES.c.number == number).values(word=ENTRIES.c.word + str(number))
            return connection.execute(change).rowcount

        return work

    def append_to_other(other: int) -> Callable[[int, Any], Awaitable[None]]:
        async def afterwards(_: int, raw: Raw) -> None:
            tries.append(other)
            if set(tries) == {1, 2}:
                both_began.set()
            await both_began.wait()
            await raw.execute("UPDATE entries SET word = word || %s WHERE number = %s", (str(3 - other), other))

        return afterwards

    await asyncio.gather(database.run(append(1), append_to_other(2)), database.run(append(2), append_to_other(1)))
    assert len(tries) == 3
    words = execute(url, "SELECT word FROM entries ORDER BY number")
    assert [sorted(str(word)) for (word,) in words] == [["1", "2"], ["1", "2"]]


# Callers.


async def test_a_cancelled_callers_work_completes(url: str) -> None:
    """A cancelled caller cannot know the outcome; the stop waits for the work."""
    is_inside, may_go_on = asyncio.Event(), asyncio.Event()

    async def afterwards(_: int, __: Raw) -> None:
        is_inside.set()
        await may_go_on.wait()

    async with asyncio.timeout(PATIENCE.total_seconds()), _started(url) as database:
        caller = asyncio.create_task(database.run(_add(1), afterwards))
        await is_inside.wait()
        just_called = asyncio.create_task(database.run(_add(2)))
        await asyncio.sleep(0)
        for task in (caller, just_called):
            task.cancel()
        results = await asyncio.gather(caller, just_called, return_exceptions=True)
        assert [type(result) for result in results] == [asyncio.CancelledError] * 2
        may_go_on.set()
        await database.stop()
        assert _read(url) == [1, 2]


async def test_a_cancelled_callers_failure_is_not_logged(url: str, log: io.StringIO) -> None:
    """No one is waiting for it."""
    async with _started(url, time_limit=SHORT) as database:
        await database.run(_add(1))
        caller = asyncio.create_task(database.run(_add(1, MARKED)))
        await asyncio.sleep(0)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
    assert "asyncio" not in log.getvalue()
    assert MARKED not in log.getvalue()


async def test_before_the_start_and_after_the_stop_there_is_no_database(url: str) -> None:
    """A stop may come twice or without a start, and another start after it."""
    database = PostgresDatabase(url)
    await database.stop()
    await _fails(database.run(_ask))
    await database.start()
    await database.stop()
    await database.stop()
    await _fails(database.run(_ask))
    await database.start()
    assert await database.run(_ask) == 1
    await database.stop()


async def test_after_the_stop_no_connection_is_left(url: str) -> None:
    """The server's connections are limited."""
    async with _started(url) as database:
        await asyncio.gather(*(database.run(_ask) for _ in range(20)))
    ours = "FROM pg_stat_activity WHERE application_name = 'r2-credential-bot' AND datname = current_database()"
    await _wait_until(url, f"SELECT 1 WHERE NOT EXISTS (SELECT 1 {ours})")


# The start.


async def test_a_missing_server_fails_the_start_at_once(proxy: PostgresProxy) -> None:
    """Nothing remains of the attempt."""
    proxy.refuse()
    database = PostgresDatabase(proxy.url, time_limit=SHORT)
    await _fails_to_start(database)
    await proxy.accept()
    await database.start()
    await database.stop()


async def _fails_to_start(database: PostgresDatabase) -> None:
    async with asyncio.timeout(PATIENCE.total_seconds()):
        with pytest.raises(DatabaseUnavailable):
            await database.start()


async def test_a_frozen_server_does_not_hold_up_the_start(proxy: PostgresProxy) -> None:
    """Neither while connecting, nor if it freezes at the first answer."""
    database = PostgresDatabase(proxy.url, time_limit=SHORT)
    proxy.freeze()
    await _fails_to_start(database)
    proxy.thaw()
    proxy.freeze_on_commit()
    await _fails_to_start(database)
    proxy.thaw()
    await database.start()
    await database.stop()


async def test_a_server_that_freezes_at_the_first_query_does_not_hold_up_the_start(proxy: PostgresProxy) -> None:
    """SQLAlchemy sends a new server some queries before any of ours."""
    database = PostgresDatabase(proxy.url, time_limit=SHORT)
    proxy.freeze_on("pg_catalog.version")
    await _fails_to_start(database)
    proxy.thaw()
    await database.start()
    await database.stop()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("statement_timeout", "1s", id="a statement has a second"),
        pytest.param("lock_timeout", "1s", id="a lock is waited for a second"),
        pytest.param("idle_in_transaction_session_timeout", "3s", id="a frozen process holds no lock"),
        pytest.param("application_name", "r2-credential-bot", id="it says who it is"),
        pytest.param("TimeZone", "UTC", id="times are UTC"),
        pytest.param("transaction_isolation", "read committed", id="whatever the server's default"),
        pytest.param("work_mem", "5MB", id="what the URL sets stays"),
    ],
)
async def test_the_settings_are_in_force(url: str, name: str, expected: str) -> None:
    """Checked on the connections that write."""
    execute(url, f"ALTER DATABASE {url.rpartition('/')[2]} SET default_transaction_isolation = 'serializable'")
    async with _started(url.replace("postgresql:", "postgres:") + "?options=-cwork_mem%3D5MB") as database:
        found = await database.run(lambda connection: connection.execute(text(f"SHOW {name}")).scalar_one())
    assert found == expected


@pytest.mark.parametrize(
    ("variable", "name", "expected"),
    [
        pytest.param("PGCLIENTENCODING=latin1", "client_encoding", "UTF8", id="encoding"),
        pytest.param("PGDATESTYLE=German", "DateStyle", "ISO, MDY", id="dates"),
    ],
)
async def test_the_environment_changes_no_format(
    url: str, monkeypatch: pytest.MonkeyPatch, variable: str, name: str, expected: str
) -> None:
    """It is read by libpq: with another encoding the start ended with a traceback, and psycopg reads no other dates."""
    monkeypatch.setenv(*variable.split("="))
    async with _started(url) as database:
        await database.now()
        found = await database.run(lambda connection: connection.execute(text(f"SHOW {name}")).scalar_one())
    assert found == expected


_TIMEOUTS = {"statement_timeout": "1000", "lock_timeout": "1000", "idle_in_transaction_session_timeout": "3000"}


@pytest.mark.parametrize(
    "lines", [pytest.param((), id="default"), pytest.param(("ignore_startup_parameters = options",), id="lossy")]
)
async def test_the_settings_are_in_force_behind_a_pooler(pooled: Callable[..., str], lines: tuple[str, ...]) -> None:
    """PgBouncer in session mode refuses `options` while connecting, or drops them silently."""
    show = text("SELECT name, setting FROM pg_settings WHERE name = ANY (:names)").bindparams(names=list(_TIMEOUTS))
    with capture_logs() as logs:
        async with _started(pooled("session", *lines)) as database:
            found = await database.run(lambda connection: connection.execute(show).all())
    assert {row.name: row.setting for row in found} == _TIMEOUTS
    assert logs == []


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(("transaction",), id="transaction"),
        pytest.param(("transaction", "server_round_robin = 1", "min_pool_size = 5"), id="transaction, in turn"),
        pytest.param(("statement",), id="statement"),
    ],
)
async def test_a_pooler_in_transaction_mode_is_refused(pooled: Callable[..., str], lines: tuple[str, ...]) -> None:
    """Notifications, session settings and locks would be lost now and then, under load."""
    database = PostgresDatabase(pooled(*lines))
    await _fails_to_start(database)
    assert database.refusal is not None
    assert "one transaction at a time" in database.refusal.reason
    assert "pool_mode to session" in str(database.refusal.fix)


async def test_now_is_the_servers_time(database: PostgresDatabase) -> None:
    """Not the time at which a transaction began, and in UTC."""
    first, between, second = await database.now(), datetime.now(UTC), await database.now()
    assert first < between < second
    assert first.tzinfo is UTC


@pytest.mark.parametrize("url", ["postgresql://user:pass%ZZword@host/", f"postgresql://[{MARKED}"])
def test_an_invalid_url_is_refused_without_being_quoted(url: str) -> None:
    """It may contain a password."""
    with pytest.raises(ValueError, match="is not an address") as caught:
        PostgresDatabase(url)
    assert caught.value.__cause__ is None


async def test_a_refusal_of_the_server_is_logged_with_the_fix(postgres_url: str) -> None:
    """It could be mistaken for an outage: the log and the start say what it is."""
    database = PostgresDatabase(postgres_url.rpartition("/")[0] + "/made_up")
    with capture_logs() as logs, pytest.raises(DatabaseUnavailable):
        await database.start()
    [refused] = [line for line in logs if line["event"] == "postgres_refused"]
    assert (refused["sqlstate"], refused["reason"]) == ("3D000", 'database "made_up" does not exist')
    assert database.refusal is not None
    assert database.refusal.fix == refused["fix"] == "create the database, or put the right name into the URL"


async def test_a_refused_statement_is_logged_with_its_sqlstate(
    database: PostgresDatabase, url: str, log: io.StringIO
) -> None:
    """The SQLSTATE names the cause; the driver's message can quote values and is left out."""
    read_only = text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
    with capture_logs() as logs:
        await _fails(database.run(lambda connection: connection.execute(text("SELECT 1 / 0")).scalar()))
        await database.run(lambda connection: connection.execute(read_only).rowcount)
        await _fails(database.run(_add(1, MARKED)))
    assert [line.get("sqlstate") for line in logs] == ["22012", "25006"]
    assert MARKED not in str(logs) + log.getvalue()
