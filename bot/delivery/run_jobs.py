"""Runs deliveries on Procrastinate (https://procrastinate.readthedocs.io) and PostgreSQL, in any number of processes.

A job names a bucket, never a token. One `deliver` job runs at a time for a bucket (Procrastinate's lock); where that
fails, since a frozen process may wake, the lease decides. A `deliver` job is always due at once: what has
to wait is a `wake` job without a lock, since a waiting job holds up the later ones of its lock.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final
from weakref import WeakSet

import structlog
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from procrastinate.jobs import Job, Status
from psycopg import AsyncConnection

from bot.delivery.deliver import Delivery
from bot.delivery.guarded import AFTER_TROUBLE, deliver_guarded
from bot.model.catalog import BucketKey
from bot.model.errors import BotError
from bot.storage.jobs import DELIVER, REFRESH, WAKE, Jobs
from bot.storage.submissions import Submissions

HEARTBEAT: Final = timedelta(seconds=1)
STALE: Final = timedelta(seconds=5)
"""A worker without a heartbeat for this long is taken for dead, and its jobs are given to others."""

STOP_PATIENCE: Final = timedelta(seconds=4)
CONCURRENCY: Final = 64

_LONGEST_STOP: Final = STOP_PATIENCE + timedelta(seconds=1)
_POLL: Final = timedelta(seconds=1)
_SWEEP_EVERY: Final = timedelta(seconds=2)
_ABORT_POLL: Final = timedelta(seconds=60)
_PRUNED_AFTER: Final = timedelta(seconds=60)
_OVERDUE: Final = timedelta(seconds=10)
_KEEP: Final = "keep_house"
_CONNECTION: Final = {
    "connect_timeout": 2,
    "tcp_user_timeout": 5000,
    "application_name": "r2-credential-bot jobs",
    "options": "-c statement_timeout=5000 -c idle_in_transaction_session_timeout=5000",
}

_log = structlog.get_logger()


class JobRunner:
    """Runs jobs until it is stopped, through outages of the database; takes over those of processes that died."""

    def __init__(  # noqa: PLR0913 - the composition root fills this by name
        self,
        *,
        url: str,
        jobs: Jobs,
        submissions: Submissions,
        delivery: Delivery,
        refresh_catalogs: Callable[[bool], Awaitable[None]],
        keep_house: Callable[[], Awaitable[None]],
        clock: Callable[[], datetime],
    ) -> None:
        self._url = url
        self._jobs = jobs
        self._submissions = submissions
        self._delivery = delivery
        self._refresh_catalogs = refresh_catalogs
        self._keep_house = keep_house
        self._clock = clock
        self._is_stopping = False
        self._connections = WeakSet[AsyncConnection[Any]]()

    async def run(self) -> None:
        """Run for ever; a cancellation lets running jobs finish, for four seconds at most, if the database answers.

        While it does not, the end takes some seconds more, and what was being done is left to whoever takes it over.
        """
        work = asyncio.create_task(self._run_through_outages())
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            self._is_stopping = True  # known to everyone: Procrastinate loses a cancellation while the database is away
            work.cancel()
            await asyncio.wait({work}, timeout=_LONGEST_STOP.total_seconds())
            for connection in self._connections:
                _shut(connection)  # a server that does not answer would be waited for, without end
            await asyncio.gather(work, return_exceptions=True)
            raise

    async def _run_through_outages(self) -> None:
        while not self._is_stopping:
            app = self._build_app()
            try:
                async with app.open_async():
                    await self._run_jobs(app)
            except (ConnectorException, BotError) as error:
                _log.error("jobs_stopped", error=type(error).__name__)
            if not self._is_stopping:
                await asyncio.sleep(AFTER_TROUBLE.total_seconds())

    async def _run_jobs(self, app: App) -> None:
        await self._find_forgotten(app)
        await self._jobs.refresh_catalogs(tests=False)
        sweeper = asyncio.create_task(self._sweep(app))
        try:
            await app.run_worker_async(
                concurrency=CONCURRENCY,
                fetch_job_polling_interval=_POLL.total_seconds(),
                abort_job_polling_interval=_ABORT_POLL.total_seconds(),
                update_heartbeat_interval=HEARTBEAT.total_seconds(),
                stalled_worker_timeout=_PRUNED_AFTER.total_seconds(),
                shutdown_graceful_timeout=STOP_PATIENCE.total_seconds(),
                delete_jobs="always",
                install_signal_handlers=False,
            )
        finally:
            sweeper.cancel()
            await asyncio.gather(sweeper, return_exceptions=True)

    def _build_app(self) -> App:
        connector = PsycopgConnector(
            conninfo=self._url, min_size=1, max_size=4, timeout=2.0, kwargs=_CONNECTION, configure=self._note
        )
        app = App(connector=connector)
        app.task(name=DELIVER)(self._deliver)
        app.task(name=WAKE)(self._wake)
        app.periodic(cron="*/5 * * * *")(app.task(name=REFRESH, lock=REFRESH)(self._refresh))

        async def keep(timestamp: int) -> None:  # noqa: ARG001 - Procrastinate hands the time of a periodic job
            await self._find_forgotten(app)
            await self._keep_house()  # last: to announce something can take a while

        app.periodic(cron="* * * * *")(app.task(name=_KEEP, lock=_KEEP)(keep))
        return app

    async def _note(self, connection: AsyncConnection[Any]) -> None:
        self._connections.add(connection)

    async def _deliver(self, account_id: str, bucket: str) -> None:
        """Take every step that is due, and leave a job for the next one before this one is gone."""
        key = BucketKey(account_id=account_id, bucket=bucket)
        next_at: datetime | None = self._clock()  # where a stop ends it
        try:
            next_at = await deliver_guarded(self._delivery, key, self._clock)
        finally:
            if next_at is not None:
                await self._insist(self._jobs.deliver_at, key, next_at)

    async def _wake(self, account_id: str, bucket: str) -> None:
        await self._insist(self._jobs.deliver, BucketKey(account_id=account_id, bucket=bucket))

    async def _insist(self, defer: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Leave a job for the bucket, also when this one is aborted, and however long the database is away.

        Only the end of the process ends that; then this job stays with a dead worker, or `_find_forgotten` helps.
        """
        attempts = asyncio.create_task(self._try_until_done(defer, *arguments))
        try:
            await asyncio.shield(attempts)
        except asyncio.CancelledError:
            await attempts
            raise

    async def _try_until_done(self, defer: Callable[..., Awaitable[None]], *arguments: object) -> None:
        while True:
            try:
                await defer(*arguments)
            except BotError:
                if self._is_stopping:
                    return
                await asyncio.sleep(AFTER_TROUBLE.total_seconds())
            else:
                return

    async def _refresh(self, timestamp: int = 0, *, tests: bool = False) -> None:  # noqa: ARG002 - Procrastinate hands the time of a periodic job
        await self._refresh_catalogs(tests)

    async def _sweep(self, app: App) -> None:
        """Defer the jobs of dead workers anew, then remove them: in this order a kill in between loses nothing."""
        while True:
            await asyncio.sleep(_SWEEP_EVERY.total_seconds())
            try:
                await self._remove_damaged()
                for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=STALE.total_seconds()):
                    _log.warning("job_taken_over", task=job.task_name, bucket=job.task_kwargs.get("bucket"))
                    await _defer_anew(app, job)
                    await app.job_manager.finish_job(job, Status.FAILED, delete_job=True)
            except (ConnectorException, BotError) as error:  # another process was faster, or the database is away
                _log.info("sweep_ended", error=type(error).__name__)

    async def _remove_damaged(self) -> None:
        removed = await self._jobs.remove_damaged()
        if removed:
            _log.error("damaged_jobs_removed", jobs=removed)

    async def _find_forgotten(self, app: App) -> None:
        """See to buckets that are overdue and have no job: what an outage in the wrong moment has left."""
        await self._remove_damaged()
        overdue = await self._submissions.overdue_keys(self._clock() - _OVERDUE)
        if not overdue:
            return
        known = {
            (job.task_kwargs.get("account_id"), job.task_kwargs.get("bucket"))
            for status in (Status.TODO, Status.DOING)
            for job in await app.job_manager.list_jobs_async(status=status.value)
        }
        for key in overdue:
            if (key.account_id, key.bucket) not in known:
                _log.warning("delivery_found", bucket=key.bucket)
                await self._jobs.deliver(key)


def _shut(connection: AsyncConnection[Any]) -> None:
    """End what is waited for, without asking the server (see `bot.storage.deadline`)."""
    if not connection.closed:
        with socket.socket(fileno=socket.dup(connection.fileno())) as copy, suppress(OSError):
            copy.shutdown(socket.SHUT_RDWR)


async def _defer_anew(app: App, job: Job) -> None:
    deferrer = app.configure_task(
        job.task_name,
        lock=job.lock,
        queueing_lock=job.queueing_lock,
        schedule_at=job.scheduled_at,
        priority=job.priority,
    )
    try:
        await deferrer.defer_async(**job.task_kwargs)
    except AlreadyEnqueued:
        return
