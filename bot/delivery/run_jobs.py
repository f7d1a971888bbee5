"""Runs deliveries on Procrastinate (https://procrastinate.readthedocs.io) and PostgreSQL, in any number of processes.

A job names a bucket, never a token. One `deliver` job runs at a time for a bucket (Procrastinate's lock); where that
fails, because a frozen process may wake up, the lease decides. A `deliver` job is always due at once; a later time
takes a `wake` job without a lock, since a waiting job blocks the later ones with the same lock.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg
import structlog
from procrastinate import App, JobContext
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.worker import Worker

from bot.delivery.guarded import AFTER_TROUBLE, Deliverer, deliver_guarded
from bot.model.catalog import BucketKey
from bot.model.errors import BotError
from bot.storage.job_connections import JobConnections, Pulse
from bot.storage.jobs import DELIVER, REFRESH, WAKE, Jobs
from bot.storage.refusals import sqlstate_of

HEARTBEAT: Final = timedelta(seconds=1)
STALE: Final = timedelta(seconds=5)
"""A worker without a heartbeat for this long counts as dead, and its jobs are given to others."""

STOP_PATIENCE: Final = timedelta(seconds=3)
"""How long a stop lets jobs finish; what remains of its budget is for recording that they go on elsewhere."""

CONCURRENCY: Final = 64

_LONGEST_STOP: Final = STOP_PATIENCE + timedelta(seconds=1)
_POLL: Final = timedelta(seconds=1)
_SWEEP_EVERY: Final = timedelta(seconds=2)
_ABORT_POLL: Final = timedelta(seconds=60)
_PRUNED_AFTER: Final = timedelta(seconds=60)
_OVERDUE: Final = timedelta(seconds=10)
_KEEP: Final = "keep_house"
_STANDSTILL: Final = timedelta(seconds=5)
"""The worker fetches jobs and sends a heartbeat once a second; after this long without, it has stalled."""

_NOT_OURS: Final = "P0001"
"""Procrastinate's SQLSTATE for a job that is gone: it was given to another worker while this process was frozen."""

_WATCH_PATIENCE: Final = timedelta(seconds=12)
"""Longer than the limit of any statement, so that only a bug of ours or of Procrastinate's exceeds it."""

_log = structlog.get_logger()


class JobRunner:
    """Runs jobs until it is stopped, through database outages, and takes over the jobs of dead processes."""

    def __init__(  # noqa: PLR0913 - the composition root fills this by name
        self,
        *,
        url: str,
        jobs: Jobs,
        find_overdue: Callable[[datetime], Awaitable[list[BucketKey]]],
        delivery: Deliverer,
        refresh_catalogs: Callable[[bool], Awaitable[None]],
        keep_house: Callable[[], Awaitable[None]],
        clock: Callable[[], datetime],
    ) -> None:
        self._url = url
        self._jobs = jobs
        self._find_overdue = find_overdue
        self._delivery = delivery
        self._refresh_catalogs = refresh_catalogs
        self._keep_house = keep_house
        self._clock = clock
        self._is_stopping = False
        self._pulse = Pulse()
        self._job_tasks = set[asyncio.Task[Any]]()
        self._broken = asyncio.Event()

    @property
    def is_working(self) -> bool:
        """Whether jobs are being fetched: False before the start, in an outage, and when the worker has stalled."""
        return not self._pulse.is_slower_than(_STANDSTILL, is_full=self._is_full)

    @property
    def _is_full(self) -> bool:
        return len(self._job_tasks) >= CONCURRENCY

    async def run(self) -> None:
        """Run forever; on cancellation, give running jobs up to three seconds to finish, if the database answers.

        Without the database, stopping takes longer, and another process takes the jobs over. A second cancellation
        closes every connection at once.
        """
        work = asyncio.create_task(self._run_through_outages())
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            self._is_stopping = True  # a flag, since Procrastinate loses a cancellation during a database outage
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            raise

    async def _run_through_outages(self) -> None:
        while not self._is_stopping:
            connections = JobConnections(self._url, self._pulse)
            app = self._build_app(connections)
            try:
                try:
                    await app.open_async()
                    await self._run_jobs(app, connections)
                finally:
                    await app.close_async()
            except (ConnectorException, BotError, psycopg.Error) as error:  # psycopg's: from the pool
                _log.error("jobs_stopped", error=type(error).__name__, sqlstate=sqlstate_of(error))
            if not self._is_stopping:
                await asyncio.sleep(AFTER_TROUBLE.total_seconds())

    async def _run_jobs(self, app: App, connections: JobConnections) -> None:
        await self._find_forgotten(app)
        await self._jobs.refresh_catalogs(tests=False)
        self._broken.clear()
        work = asyncio.create_task(self._work(app))
        helpers = [asyncio.create_task(self._sweep(app)), asyncio.create_task(self._watch())]
        try:
            await asyncio.wait({work, *helpers}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for helper in helpers:
                helper.cancel()
            await _end(work, connections)
            await asyncio.gather(*helpers, return_exceptions=True)
        for ended in (work, *helpers):
            if not ended.cancelled():
                ended.result()

    async def _work(self, app: App) -> None:
        await app.run_worker_async(
            concurrency=CONCURRENCY,
            fetch_job_polling_interval=_POLL.total_seconds(),
            abort_job_polling_interval=_ABORT_POLL.total_seconds(),
            update_heartbeat_interval=HEARTBEAT.total_seconds(),
            stalled_worker_timeout=_PRUNED_AFTER.total_seconds(),
            shutdown_graceful_timeout=STOP_PATIENCE.total_seconds(),
            delete_jobs="always",
            install_signal_handlers=False,
            worker_middleware=[self._accompany],
        )

    async def _watch(self) -> None:
        """Return when the worker must be restarted: it has stalled, or a job could not be marked as done."""
        started_at = asyncio.get_running_loop().time()
        while not self._pulse.is_slower_than(_WATCH_PATIENCE, since=started_at, is_full=self._is_full):
            try:
                async with asyncio.timeout(_POLL.total_seconds()):
                    await self._broken.wait()
            except TimeoutError:
                continue
            return
        _log.error("jobs_stood_still", seconds=_WATCH_PATIENCE.total_seconds())

    async def _accompany(self, go_on: Callable[[], Awaitable[Any]], _: JobContext, __: Worker) -> Any:  # noqa: ANN401 - Procrastinate's
        """Follow a job's task to its end, which comes after the job was marked as done."""
        task = asyncio.current_task()
        if task is not None:
            self._job_tasks.add(task)
            task.add_done_callback(self._note_end)
        return await go_on()

    def _note_end(self, task: asyncio.Task[Any]) -> None:
        """Restart the worker if a job could not be marked as done: it would block its bucket while this worker lives.

        After the restart, which gives the worker a new id, the job belongs to a dead worker and is taken over.
        Procrastinate itself does not check how the task ended.
        """
        self._job_tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and sqlstate_of(error) == _NOT_OURS:
            _log.warning("job_was_taken_over")
        elif error is not None:
            _log.error("job_not_finished", error=type(error).__name__, sqlstate=sqlstate_of(error))
            self._broken.set()

    def _build_app(self, connections: JobConnections) -> App:
        app = App(connector=connections.connector)
        app.task(name=DELIVER)(self._deliver)
        app.task(name=WAKE)(self._wake)
        app.periodic(cron="*/5 * * * *")(app.task(name=REFRESH, lock=REFRESH)(self._refresh))

        async def keep(timestamp: int) -> None:  # noqa: ARG001 - Procrastinate passes the time
            await self._find_forgotten(app)
            await self._keep_house()  # last, because posting announcements can take a while

        app.periodic(cron="* * * * *")(app.task(name=_KEEP, lock=_KEEP)(keep))
        return app

    async def _deliver(self, account_id: str, bucket: str) -> None:
        """Take every step that is due, and defer a job for the next one before this job is deleted."""
        key = BucketKey(account_id=account_id, bucket=bucket)
        next_at: datetime | None = self._clock()  # if a stop interrupts the delivery
        try:
            next_at = await deliver_guarded(self._delivery, key, self._clock)
        finally:
            if next_at is not None:
                await self._insist(self._jobs.deliver_at, key, next_at)

    async def _wake(self, account_id: str, bucket: str) -> None:
        await self._insist(self._jobs.deliver, BucketKey(account_id=account_id, bucket=bucket))

    async def _insist(self, defer: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Defer a job for the bucket, even if this one is aborted, and however long the database is down.

        Only the end of the process stops this; then this job stays with a dead worker, or `_find_forgotten` finds the
        bucket.
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

    async def _refresh(self, timestamp: int = 0, *, tests: bool = False) -> None:  # noqa: ARG002 - Procrastinate passes the time
        await self._refresh_catalogs(tests)

    async def _sweep(self, app: App) -> None:
        """Defer copies of dead workers' jobs, then delete the originals, so that a kill in between loses nothing."""
        while True:
            await asyncio.sleep(_SWEEP_EVERY.total_seconds())
            try:
                await self._remove_damaged()
                for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=STALE.total_seconds()):
                    _log.warning("job_taken_over", task=job.task_name, bucket=job.task_kwargs.get("bucket"))
                    await _defer_copy(app, job)
                    await app.job_manager.finish_job(job, Status.FAILED, delete_job=True)
            except (ConnectorException, BotError) as error:  # another process was faster, or the database is down
                _log.info("sweep_ended", error=type(error).__name__, sqlstate=sqlstate_of(error))

    async def _remove_damaged(self) -> None:
        removed = await self._jobs.remove_damaged()
        if removed:
            _log.error("damaged_jobs_removed", jobs=removed)

    async def _find_forgotten(self, app: App) -> None:
        """Defer a delivery for each overdue bucket without a job: an outage at the wrong moment can leave one."""
        await self._remove_damaged()
        overdue = await self._find_overdue(self._clock() - _OVERDUE)
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


async def _end(work: asyncio.Task[None], connections: JobConnections) -> None:
    """Stop the worker gracefully, then by force: Procrastinate can lose a cancellation."""
    work.cancel()
    try:
        await asyncio.wait({work}, timeout=_LONGEST_STOP.total_seconds())
    except asyncio.CancelledError:
        connections.shut()
        raise
    while not work.done():
        connections.shut()  # else it would wait for a silent server
        work.cancel()
        await asyncio.wait({work}, timeout=AFTER_TROUBLE.total_seconds())
    if not work.cancelled():
        work.exception()  # retrieved, or asyncio would log a traceback


async def _defer_copy(app: App, job: Job) -> None:
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
