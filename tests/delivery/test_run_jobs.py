"""Jobs and their runner on a real PostgreSQL, with scripted deliveries: no job is lost, whatever fails."""

import asyncio
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from procrastinate import App, PsycopgConnector
from sqlalchemy import select
from structlog.testing import capture_logs

from bot.delivery.run_jobs import STALE, JobRunner, _defer_copy
from bot.model.catalog import BucketKey
from bot.model.errors import DatabaseTrouble, DatabaseUnavailable, NeverSent
from bot.model.submission import NewSubmission, Opening, Sealed, SealedToken, Task, TokenKind
from bot.storage.jobs import Jobs
from bot.storage.postgres import PostgresDatabase
from bot.storage.schema import SUBMISSIONS
from bot.storage.submissions import Submissions
from tests.make import CHAIN
from tests.postgres import PostgresProxy, execute
from tests.scripted import ScriptedDelivery

LAKE = BucketKey(account_id="made-up", bucket="lake")
POND = BucketKey(account_id="made-up", bucket="pond")
SECOND = timedelta(seconds=1)
PATIENCE = timedelta(seconds=60)
SEALED = "sealed.v1.madeup.MADEUPCIPHERTEXT"


class Workplace:
    """The job queue, and the processes that work on it, of which a test may start several."""

    def __init__(self, url: str, database: PostgresDatabase, stack: AsyncExitStack) -> None:
        self.url = url
        self.jobs = Jobs(database)
        self.submissions = Submissions(database, CHAIN, enqueue=self.jobs.deliver_in)
        self.delivery = ScriptedDelivery()
        self.refreshed = asyncio.Queue[bool]()
        self.keepers = 0
        self.most_keepers = 0
        self.kept = asyncio.Queue[None]()
        self.runners: list[JobRunner] = []
        self._stack = stack

    async def start_runner(self) -> asyncio.Task[None]:
        """Start one, and wait until it works: its first job is always a refresh of the catalogs."""
        runner = JobRunner(
            url=self.url,
            jobs=self.jobs,
            find_overdue=self.submissions.overdue_keys,
            delivery=self.delivery,
            refresh_catalogs=self._refresh,
            keep_house=self._keep_house,
            clock=lambda: datetime.now(UTC),
        )
        self.runners.append(runner)
        task = asyncio.create_task(runner.run())
        self._stack.push_async_callback(stop, task)
        async with asyncio.timeout(PATIENCE.total_seconds()):
            await self.refreshed.get()
        return task

    async def _refresh(self, tests: bool) -> None:  # noqa: FBT001 - as the runner hands it on
        self.refreshed.put_nowait(tests)

    async def _keep_house(self) -> None:
        self.keepers += 1
        self.most_keepers = max(self.most_keepers, self.keepers)
        await asyncio.sleep(0.5)  # the time that an announcement may take
        self.keepers -= 1
        self.kept.put_nowait(None)

    def job_rows(self) -> list[tuple[object, ...]]:
        """Return the waiting and running jobs, without the periodic ones."""
        query = "SELECT task_name, status, scheduled_at, args::text FROM procrastinate_jobs"
        return execute(self.url, f"{query} WHERE args ->> 'timestamp' IS NULL")

    async def wait_until(self, condition: str) -> None:
        """Wait until an SQL condition holds."""
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while not await asyncio.to_thread(execute, self.url, f"SELECT 1 WHERE {condition}"):  # noqa: ASYNC110 - the database sends no event
                await asyncio.sleep(0.02)


IDLE = "NOT EXISTS (SELECT 1 FROM procrastinate_jobs WHERE task_name IN ('deliver', 'wake'))"


async def stop(runner: asyncio.Task[None]) -> None:
    """Stop a runner, whatever it waits for."""
    runner.cancel()
    done, _ = await asyncio.wait({runner}, timeout=2 * PATIENCE.total_seconds())
    assert done, "the runner does not stop"


@asynccontextmanager
async def workplace(url: str) -> AsyncIterator[Workplace]:
    """Open the database at a URL, with all tables."""
    database = PostgresDatabase(url)
    await database.start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(database.stop)
        place = Workplace(url, database, stack)
        await place.jobs.prepare()
        yield place


@pytest_asyncio.fixture
async def place(postgres_url: str) -> AsyncIterator[Workplace]:
    """Open a database without a proxy; no runner works yet."""
    async with workplace(postgres_url) as opened:
        yield opened


@pytest_asyncio.fixture
async def proxy(postgres_url: str) -> AsyncIterator[PostgresProxy]:
    """Start a proxy in front of the database."""
    async with PostgresProxy(postgres_url) as started:
        yield started


def _held(released: asyncio.Event) -> Callable[[BucketKey], Awaitable[None]]:
    async def act(_: BucketKey) -> None:
        await released.wait()

    return act


def _submission(key: BucketKey, view_id: str, accepted_at: datetime) -> NewSubmission:
    return NewSubmission(
        id=view_id,
        team_id="T1",
        user_id="U1",
        key=key,
        channel_id="C1",
        reason="",
        token_kind=TokenKind.ACCOUNT,
        last_four="four",
        sealed=Sealed(token=SealedToken(SEALED)),
        sent_at=accepted_at,
        accepted_at=accepted_at,
        expires_at=accepted_at + timedelta(hours=1),
    )


async def _record(
    submissions: Submissions,
    key: BucketKey,
    view_id: str = "V1",
    age: timedelta = timedelta(0),
    task: Task = Task.STORE,
) -> None:
    now = datetime.now(UTC)
    opening = Opening(nonce=view_id, team_id="T1", user_id="U1", expires_at=now + timedelta(hours=1))
    await submissions.add_opening(opening)
    await submissions.accept(replace(_submission(key, view_id, now - age), task=task), view_id)


# Deferring jobs.


async def test_the_tables_are_created_once(postgres_url: str) -> None:
    """Replicas that start at once do not conflict, and the next start finds the tables."""
    async with AsyncExitStack() as stack:
        databases = [PostgresDatabase(postgres_url) for _ in range(4)]
        for database in databases:
            stack.push_async_callback(database.stop)
        await asyncio.gather(*(database.start() for database in databases))
        await asyncio.gather(*(Jobs(database).prepare() for database in databases))
        await Jobs(databases[0]).prepare()

    assert execute(postgres_url, "SELECT count(*) FROM procrastinate_jobs") == [(0,)]


async def test_a_submission_and_its_job_are_recorded_together(place: Workplace) -> None:
    """The job names the bucket; no part of the token, sealed or not, is in any table of the engine."""
    await _record(place.submissions, LAKE)

    assert [(name, status, args) for name, status, _, args in place.job_rows()] == [
        ("deliver", "todo", '{"bucket": "lake", "account_id": "made-up"}')
    ]
    tables = execute(place.url, "SELECT tablename FROM pg_tables WHERE tablename LIKE 'procrastinate%'")
    everything = [execute(place.url, f"SELECT t::text FROM {name} t") for (name,) in tables]  # noqa: S608 - names of tables
    assert len(tables) >= 4
    assert "MADEUPCIPHERTEXT" not in str(everything)
    assert "four" not in str(everything)


async def test_a_button_press_is_recorded_with_one_job(place: Workplace) -> None:
    """A press that Slack repeats is neither recorded nor delivered again."""
    new = replace(_submission(LAKE, "V1", datetime.now(UTC)), task=Task.ENABLE, sealed=Sealed())
    assert (await place.submissions.add(new)).is_recorded
    assert not (await place.submissions.add(new)).is_recorded

    assert [name for name, *_ in place.job_rows()] == ["deliver"]


async def test_what_only_checks_starts_last(place: Workplace) -> None:
    """However many checks wait for a worker: a bucket with anything else to do starts before them, also as a retry."""
    checked = [BucketKey(account_id="made-up", bucket=f"checked-{number}") for number in range(3)]
    for number, key in enumerate(checked):
        await _record(place.submissions, key, f"C{number}", task=Task.CHECK)
    await _record(place.submissions, POND, "C9", task=Task.CHECK)
    await _record(place.submissions, POND, "V9")
    await _record(place.submissions, LAKE)
    await place.jobs.deliver_at(POND, datetime.now(UTC) - SECOND)
    await place.jobs.deliver(POND)

    query = "SELECT args ->> 'bucket' FROM procrastinate_jobs ORDER BY priority DESC, id"
    assert [bucket for (bucket,) in execute(place.url, query)][:4] == ["pond", "lake", "pond", "pond"]
    await place.start_runner()
    started = [await place.delivery.next_start() for _ in range(5)]
    assert LAKE not in started[2:]
    assert set(checked) & set(started[:2]) == set()


async def test_a_failed_recording_leaves_neither_a_submission_nor_a_job(place: Workplace) -> None:
    """Any failure before the commit rolls both back."""

    async def break_down(connection: Any, key: BucketKey) -> None:  # noqa: ANN401 - psycopg's
        await place.jobs.deliver_in(connection, key)
        raise ZeroDivisionError

    database = place.submissions._database
    with pytest.raises(ZeroDivisionError):
        await _record(Submissions(database, CHAIN, enqueue=break_down), LAKE)

    assert place.job_rows() == []
    assert await database.run(lambda connection: connection.execute(select(SUBMISSIONS)).all()) == []


async def test_if_the_job_cannot_be_deferred_nothing_is_recorded(place: Workplace) -> None:
    """The database's refusal of the job is truthfully reported as "nothing was recorded"."""
    execute(place.url, "ALTER TABLE procrastinate_jobs RENAME TO elsewhere")

    with pytest.raises(DatabaseUnavailable):
        await _record(place.submissions, LAKE)

    assert await place.submissions.unreported_keys() == []


async def test_a_job_that_cannot_be_deferred_raises_our_error(postgres_url: str, proxy: PostgresProxy) -> None:
    """No error of Procrastinate or of the driver comes through."""
    async with workplace(proxy.url) as place:
        proxy.refuse()
        proxy.cut()
        for leave in (
            place.jobs.deliver(LAKE),
            place.jobs.deliver_at(LAKE, datetime.now(UTC)),
            place.jobs.refresh_catalogs(tests=False),
        ):
            with pytest.raises(DatabaseUnavailable):
                await leave


async def test_a_waiting_refresh_is_not_deferred_again(place: Workplace) -> None:
    """However many gateways ask, one job waits, and none gets an error."""
    for _ in range(3):
        await place.jobs.refresh_catalogs(tests=False)
    await asyncio.gather(*(place.jobs.refresh_catalogs(tests=False) for _ in range(5)))

    assert [name for name, *_ in place.job_rows()] == ["refresh_catalogs"]
    await place.start_runner()
    await place.wait_until("NOT EXISTS (SELECT 1 FROM procrastinate_jobs WHERE status = 'doing')")


async def test_requested_tests_run_besides_a_waiting_refresh(place: Workplace) -> None:
    """A list without tests is not enough for a person who wants them; each of the two runs once."""
    for tests in (False, True, True, False):
        await place.jobs.refresh_catalogs(tests=tests)

    assert sorted(str(args) for *_, args in place.job_rows()) == ['{"tests": false}', '{"tests": true}']
    runner = await place.start_runner()
    async with asyncio.timeout(PATIENCE.total_seconds()):
        assert await place.refreshed.get() is True  # the wait for the start took the first one
    await place.wait_until("NOT EXISTS (SELECT 1 FROM procrastinate_jobs WHERE task_name = 'refresh_catalogs')")
    assert not runner.done()


# Running jobs.


async def test_a_job_runs_and_leaves_nothing_behind(place: Workplace) -> None:
    """A recorded job runs, twice if it is deferred twice, and finished jobs are deleted."""
    await place.start_runner()
    for _ in range(2):
        await _record(place.submissions, LAKE, f"V{uuid4().hex}")
        assert await place.delivery.next_start() == LAKE
    await place.wait_until(IDLE)

    assert place.delivery.started.empty()


async def test_one_delivery_runs_for_a_bucket_and_others_go_on(place: Workplace) -> None:
    """Also with two processes."""
    released = asyncio.Event()
    place.delivery.act = _held(released)
    await place.start_runner()
    await place.start_runner()
    for key in (LAKE, LAKE, LAKE, POND):
        await place.jobs.deliver(key)

    assert {await place.delivery.next_start(), await place.delivery.next_start()} == {LAKE, POND}
    await asyncio.sleep(1.2)  # longer than the polling interval of both
    assert place.delivery.started.empty()
    released.set()
    assert [await place.delivery.next_start(), await place.delivery.next_start()] == [LAKE, LAKE]
    await place.wait_until(IDLE)
    assert place.delivery.most_of_one_bucket == 1


async def test_a_delivery_goes_on_when_it_is_due(place: Workplace) -> None:
    """Not before; and while it waits, a new submission of its bucket is not held up."""
    place.delivery.answers = [timedelta(hours=1)]
    await place.start_runner()
    await place.jobs.deliver(LAKE)
    await place.delivery.next_start()
    await place.wait_until("EXISTS (SELECT 1 FROM procrastinate_jobs WHERE task_name = 'wake')")

    await place.jobs.deliver(LAKE)
    assert await place.delivery.next_start() == LAKE
    await place.wait_until("NOT EXISTS (SELECT 1 FROM procrastinate_jobs WHERE task_name = 'deliver')")
    assert place.delivery.started.empty()
    execute(place.url, "UPDATE procrastinate_jobs SET scheduled_at = now() WHERE task_name = 'wake'")
    assert await place.delivery.next_start() == LAKE


@pytest.mark.parametrize(
    ("error", "pause", "event"),
    [
        pytest.param(DatabaseUnavailable(), 1, "delivery_stopped", id="an error of ours"),
        pytest.param(NeverSent(), 1, "delivery_stopped", id="an odd error of ours"),
        pytest.param(ZeroDivisionError("MADEUPSECRET"), 60, "delivery_broke", id="a fault"),
    ],
)
async def test_a_delivery_that_fails_is_tried_again(
    place: Workplace, log: io.StringIO, error: Exception, pause: int, event: str
) -> None:
    """Soon after trouble, in a minute after a bug; the log names the error's type and never its text."""
    place.delivery.answers = [error]
    await place.start_runner()
    asked_at = datetime.now(UTC)
    with capture_logs() as logged:
        await place.jobs.deliver(LAKE)
        await place.delivery.next_start()
        await place.wait_until("EXISTS (SELECT 1 FROM procrastinate_jobs WHERE task_name = 'wake')")

    [(due_at,)] = execute(place.url, "SELECT scheduled_at FROM procrastinate_jobs WHERE task_name = 'wake'")
    assert isinstance(due_at, datetime)
    assert asked_at <= due_at - pause * SECOND <= datetime.now(UTC)
    assert event in [line["event"] for line in logged]
    assert "MADEUPSECRET" not in str(logged) + log.getvalue()


async def test_housekeeping_runs_once_for_all_replicas(place: Workplace) -> None:
    """Each minute, in one of them: so that each expiry reminder is sent once."""
    first_minute = time.time() // 60
    for _ in range(3):
        await place.start_runner()
    async with asyncio.timeout(PATIENCE.total_seconds()):
        await place.kept.get()
    await asyncio.sleep(1.5)  # longer than the polling interval of all
    await place.wait_until("NOT EXISTS (SELECT 1 FROM procrastinate_jobs WHERE task_name = 'keep_house')")

    minutes = time.time() // 60 - first_minute + 1
    assert 1 + place.kept.qsize() <= minutes
    assert place.most_keepers == 1


async def test_jobs_run_behind_a_pooler(pooled: Callable[..., str]) -> None:
    """PgBouncer with its default settings, in session mode; notifications arrive as well."""
    async with workplace(pooled("session")) as place:
        await place.start_runner()
        await place.jobs.deliver(LAKE)
        assert await place.delivery.next_start() == LAKE
        await place.wait_until(IDLE)
        await _wait_for(lambda: place.runners[0].is_working)


# Dead workers.


@pytest.mark.parametrize(
    "end",
    [
        pytest.param("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '6 s'", id="no heartbeat"),
        pytest.param("DELETE FROM procrastinate_workers", id="removed from the list"),
    ],
)
async def test_the_job_of_a_dead_worker_is_taken_over(place: Workplace, end: str) -> None:
    """It runs again, once, and the next one of the bucket after it."""
    await place.jobs.deliver(LAKE)
    execute(place.url, "INSERT INTO procrastinate_workers DEFAULT VALUES")
    execute(
        place.url, "UPDATE procrastinate_jobs SET status = 'doing', worker_id = (SELECT id FROM procrastinate_workers)"
    )
    await place.jobs.deliver(LAKE)
    execute(place.url, end)

    with capture_logs() as logged:
        await place.start_runner()
        assert [await place.delivery.next_start(), await place.delivery.next_start()] == [LAKE, LAKE]

    await place.wait_until(IDLE)
    again = {place.delivery.started.get_nowait() for _ in range(place.delivery.started.qsize())}
    assert POND not in again  # the others may be found again at the full minute: they are still overdue
    assert [line["bucket"] for line in logged if line["event"] == "job_taken_over"] == ["lake"]


async def test_a_job_that_is_taken_over_stays_as_urgent(place: Workplace) -> None:
    """A write whose worker died does not go behind the checks."""
    await _record(place.submissions, LAKE)
    execute(place.url, "INSERT INTO procrastinate_workers DEFAULT VALUES")
    execute(
        place.url, "UPDATE procrastinate_jobs SET status = 'doing', worker_id = (SELECT id FROM procrastinate_workers)"
    )
    execute(place.url, "DELETE FROM procrastinate_workers")
    app = App(connector=PsycopgConnector(conninfo=place.url))
    async with app.open_async():
        [job] = await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=STALE.total_seconds())
        await _defer_copy(app, job)
    assert execute(place.url, "SELECT DISTINCT priority FROM procrastinate_jobs") == [(1,)]


async def test_a_worker_that_lives_keeps_its_job(place: Workplace) -> None:
    """A long delivery with a heartbeat is not taken over, however long it takes."""
    released = asyncio.Event()
    place.delivery.act = _held(released)
    await place.start_runner()
    await place.start_runner()
    await place.jobs.deliver(LAKE)
    await place.delivery.next_start()

    await asyncio.sleep((STALE + 2.5 * SECOND).total_seconds())

    assert place.delivery.started.empty()
    released.set()
    await place.wait_until(IDLE)


def _put_off(url: str) -> Callable[[BucketKey], Awaitable[None]]:
    """Make a delivery leave nothing overdue: at the full minute it would be found again."""

    async def put_off(key: BucketKey) -> None:
        later = f"UPDATE submissions SET next_attempt_at = now() + interval '1 h' WHERE bucket = '{key.bucket}'"  # noqa: S608 - our own words
        await asyncio.to_thread(execute, url, later)

    return put_off


async def test_an_overdue_bucket_without_a_job_is_found(place: Workplace) -> None:
    """A start searches for it; a bucket that has a job or is not overdue is left alone."""
    await _record(place.submissions, LAKE, "V1", age=timedelta(minutes=1))
    await _record(place.submissions, POND, "V2")
    execute(place.url, "DELETE FROM procrastinate_jobs")
    with_job = BucketKey(account_id="made-up", bucket="with-job")
    await _record(place.submissions, with_job, "V3", age=timedelta(minutes=1))
    place.delivery.act = _put_off(place.url)

    with capture_logs() as logged:
        await place.start_runner()
        assert {await place.delivery.next_start(), await place.delivery.next_start()} == {LAKE, with_job}

    await place.wait_until(IDLE)
    assert place.delivery.started.empty()
    assert [line["bucket"] for line in logged if line["event"] == "delivery_found"] == ["lake"]


async def test_damaged_jobs_hold_up_nothing_else(place: Workplace) -> None:
    """The start, the search for overdue buckets, the sweeper and the other jobs go on, and the locks are free."""
    await _record(place.submissions, LAKE, "V1", age=timedelta(minutes=1))
    place.delivery.act = _put_off(place.url)
    execute(
        place.url,
        """INSERT INTO procrastinate_jobs (queue_name, task_name, args, lock, status)
        SELECT 'default', 'deliver', args::jsonb, 'damaged ' || args, status::procrastinate_job_status
        FROM unnest(ARRAY['[]', 'null', '7', '{"bucket": 7}', '{"account_id": null, "other": {}}']) AS args,
        unnest(ARRAY['todo', 'doing']) AS status""",
    )

    task = await place.start_runner()
    assert await place.delivery.next_start() == LAKE

    await place.wait_until("NOT EXISTS (SELECT 1 FROM procrastinate_jobs WHERE lock LIKE 'damaged%')")
    await place.jobs.deliver(POND)
    assert await place.delivery.next_start() == POND
    assert not task.done()


# Outages.


async def test_it_works_on_after_an_outage(postgres_url: str, proxy: PostgresProxy) -> None:
    """Neither broken connections nor a server that is down for a while end it."""
    async with workplace(proxy.url) as place:
        runner = await place.start_runner()
        proxy.refuse()
        proxy.cut()
        await asyncio.sleep(3)  # longer than the pool waits for a connection
        assert not runner.done()
        await proxy.accept()
        await _insist(lambda: place.jobs.deliver(LAKE))

        assert await place.delivery.next_start() == LAKE
        assert not runner.done()


async def test_a_delivery_that_ends_in_an_outage_defers_its_next_job_later(
    postgres_url: str, proxy: PostgresProxy
) -> None:
    """It continues, although the database was down when it ended."""
    async with workplace(proxy.url) as place:
        released = asyncio.Event()
        place.delivery.act = _held(released)
        await place.start_runner()
        await place.jobs.deliver(LAKE)
        await place.delivery.next_start()
        proxy.refuse()
        proxy.cut()
        place.delivery.answers = [timedelta(0)]
        released.set()
        await asyncio.sleep(2)
        await proxy.accept()

        assert await place.delivery.next_start() == LAKE


async def test_a_wake_that_meets_an_outage_is_not_lost(postgres_url: str, proxy: PostgresProxy) -> None:
    """Its job ends only once the delivery's job exists."""
    async with workplace(proxy.url) as place:
        runner = await place.start_runner()
        await place.wait_until("NOT EXISTS (SELECT 1 FROM procrastinate_jobs WHERE status = 'doing')")
        execute(postgres_url, "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$")
        await place.jobs.deliver_at(LAKE, datetime.now(UTC) + SECOND)
        execute(
            postgres_url,
            "CREATE TRIGGER no BEFORE INSERT ON procrastinate_jobs FOR EACH ROW WHEN (NEW.task_name = 'deliver') "
            "EXECUTE FUNCTION no()",
        )
        await place.wait_until("EXISTS (SELECT 1 FROM procrastinate_jobs WHERE status = 'doing')")
        await asyncio.sleep(1.2)
        execute(postgres_url, "DROP TRIGGER no ON procrastinate_jobs")

        assert await place.delivery.next_start() == LAKE
        assert not runner.done()


@pytest.mark.parametrize(
    "after", [pytest.param("", id="all of them"), pytest.param("LISTEN", id="the one that listens")]
)
async def test_half_open_connections_hold_up_no_job(
    postgres_url: str, proxy: PostgresProxy, log: io.StringIO, after: str
) -> None:
    """Existing connections fall silent with their sockets open, as after a failover behind a load balancer."""
    async with workplace(proxy.url) as place:
        runner = await place.start_runner()
        proxy.freeze_existing(after=after)
        await _insist(lambda: place.jobs.deliver(LAKE))

        assert await place.delivery.next_start() == LAKE
        await place.wait_until(IDLE)
        await _wait_for(lambda: place.runners[0].is_working)
        assert not runner.done()
    assert "never retrieved" not in log.getvalue()


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("procrastinate_finish_job", id="a job is done"),
        pytest.param("procrastinate_fetch_job", id="a job is looked for"),
        pytest.param("last_heartbeat", id="the worker says that it lives"),
    ],
)
async def test_connections_that_become_half_open_in_the_middle_hold_up_no_job(
    postgres_url: str, proxy: PostgresProxy, log: io.StringIO, statement: str
) -> None:
    """Whether or not the server has executed the request, the jobs run elsewhere or again."""
    async with workplace(proxy.url) as place:
        runner = await place.start_runner()
        proxy.freeze_on(statement, existing=True)
        await _insist(lambda: place.jobs.deliver(LAKE))
        async with asyncio.timeout(PATIENCE.total_seconds()):
            await proxy.wait_until_frozen()
        await _insist(lambda: place.jobs.deliver(POND))

        started = {await place.delivery.next_start()}
        while started != {LAKE, POND}:
            started.add(await place.delivery.next_start())
        await place.wait_until(IDLE)
        await _wait_for(lambda: place.runners[0].is_working)
        assert not runner.done()
    assert "never retrieved" not in log.getvalue()


async def test_a_job_that_cannot_be_marked_as_done_does_not_block_its_bucket(
    postgres_url: str, proxy: PostgresProxy, log: io.StringIO
) -> None:
    """The worker continues under a new id; under the old one, the job would belong to a living worker."""
    async with workplace(proxy.url) as place:
        released = asyncio.Event()
        place.delivery.act = _held(released)
        runner = await place.start_runner()
        await place.jobs.deliver(LAKE)
        await place.delivery.next_start()
        execute(
            postgres_url,
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN RAISE 'no' USING ERRCODE = 'XX000'; END$$",
        )
        await asyncio.to_thread(  # it waits for the worker's transactions, which end on this loop
            execute,
            postgres_url,
            "CREATE TRIGGER no BEFORE DELETE ON procrastinate_jobs FOR EACH ROW WHEN (OLD.task_name = 'deliver') "
            "EXECUTE FUNCTION no()",
        )
        with capture_logs() as logged:
            released.set()
            await _wait_for_event(logged, "job_not_finished")
            await asyncio.to_thread(execute, postgres_url, "DROP TRIGGER no ON procrastinate_jobs")
            await _insist(lambda: place.jobs.deliver(LAKE))
            assert [await place.delivery.next_start(), await place.delivery.next_start()] == [LAKE, LAKE]

        await place.wait_until(IDLE)
        assert not runner.done()
    assert "never retrieved" not in log.getvalue()


async def test_a_runner_is_not_working_before_its_start_nor_in_an_outage(
    postgres_url: str, proxy: PostgresProxy
) -> None:
    """The readiness check asks this; afterwards it works again."""
    async with workplace(proxy.url) as place:
        await place.start_runner()
        [runner] = place.runners
        await _wait_for(lambda: runner.is_working)
        proxy.refuse()
        proxy.cut()
        await _wait_for(lambda: not runner.is_working)
        await proxy.accept()
        await _wait_for(lambda: runner.is_working)


async def _wait_for(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while not condition():  # noqa: ASYNC110 - it is a matter of time alone
            await asyncio.sleep(0.05)


async def _wait_for_event(logged: Sequence[MutableMapping[str, Any]], event: str) -> None:
    await _wait_for(lambda: any(line["event"] == event for line in logged))


async def _insist(act: Callable[[], Awaitable[None]]) -> None:
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while True:
            try:
                await act()
            except DatabaseTrouble:
                await asyncio.sleep(0.1)
            else:
                return


# Stopping.


async def test_a_stop_without_running_jobs(place: Workplace) -> None:
    """It is logged as a stop, and the worker's row is gone."""
    runner = await place.start_runner()
    await place.wait_until("NOT EXISTS (SELECT 1 FROM procrastinate_jobs WHERE status = 'doing')")

    await stop(runner)

    assert runner.cancelled()
    assert execute(place.url, "SELECT * FROM procrastinate_workers") == []


async def test_a_stop_waits_for_a_delivery_that_ends_soon(place: Workplace) -> None:
    """It ends normally, and leaves no job."""
    released = asyncio.Event()
    place.delivery.act = _held(released)
    runner = await place.start_runner()
    await place.jobs.deliver(LAKE)
    await place.delivery.next_start()
    stopping = asyncio.create_task(stop(runner))
    await asyncio.sleep(0.1)  # no event says that it waits
    assert not stopping.done()
    released.set()
    await stopping

    assert place.job_rows() == []


async def test_a_stop_in_the_middle_leaves_a_job_for_the_next_one(place: Workplace) -> None:
    """After the patience the delivery is cancelled, and goes on in another process at once."""
    place.delivery.act = _held(asyncio.Event())
    runner = await place.start_runner()
    await place.jobs.deliver(LAKE)
    await place.delivery.next_start()

    await stop(runner)
    place.delivery.act = None
    await place.start_runner()

    assert await place.delivery.next_start() == LAKE


@pytest.mark.parametrize(
    ("is_busy", "is_silent"),
    [
        pytest.param(False, False, id="idle, refused"),
        pytest.param(True, False, id="busy, refused"),
        pytest.param(False, True, id="idle, silent"),
    ],
)
async def test_a_stop_ends_also_while_the_database_is_down(
    postgres_url: str, proxy: PostgresProxy, *, is_busy: bool, is_silent: bool
) -> None:
    """The process exits, and its work is taken over once the database is back."""
    async with workplace(proxy.url) as place:
        runner = await place.start_runner()
        if is_busy:
            place.delivery.act = _held(asyncio.Event())
            await place.jobs.deliver(LAKE)
            await place.delivery.next_start()
        if is_silent:
            proxy.freeze()
        else:
            proxy.refuse()
            proxy.cut()

        await stop(runner)

        if is_silent:
            proxy.thaw()
        else:
            await proxy.accept()
        place.delivery.act = None
        if is_busy:
            await place.start_runner()
            assert await place.delivery.next_start() == LAKE
