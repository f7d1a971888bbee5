"""Runs deliveries in this process: one task for each bucket with work, and no polling."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

import structlog

from bot.delivery.guarded import Deliverer, deliver_guarded
from bot.model.background import Background
from bot.model.catalog import BucketKey
from bot.model.errors import DatabaseTrouble

STOP_PATIENCE: Final = timedelta(seconds=4)
"""How long a stop waits for deliveries that are in the middle of a call; after that they continue at the next start."""

_LONGEST_SLEEP: Final = timedelta(seconds=60)
"""The next step is recomputed at least this often, however far off it seems: the wall clock may be corrected."""

LOOK_EVERY: Final = timedelta(seconds=60)

_log = structlog.get_logger()


class InlineDispatcher:
    """Starts a bucket's delivery within a millisecond and wakes it when its next step is due."""

    def __init__(
        self,
        delivery: Deliverer,
        find_unfinished: Callable[[], Awaitable[list[BucketKey]]],
        clock: Callable[[], datetime],
    ) -> None:
        self._delivery = delivery
        self._find_unfinished = find_unfinished
        self._clock = clock
        self._workers: dict[BucketKey, _Worker] = {}
        self._tasks = Background("delivery_broke")
        self._is_stopping = False

    async def start(self) -> None:
        """Resume the unfinished deliveries."""
        for key in await self._find_unfinished():
            if key not in self._workers:
                _log.info("delivery_resumed", bucket=key.bucket)
                self.dispatch(key)

    async def look_forever(self) -> None:
        """Resume now and then what nobody delivers: what was left alone while rotation was off may be on again."""
        while True:
            await asyncio.sleep(LOOK_EVERY.total_seconds())
            with suppress(DatabaseTrouble):  # reported by whatever watches the database
                await self.start()

    def dispatch(self, key: BucketKey) -> None:
        """Start or wake the delivery of a bucket; returns at once."""
        if self._is_stopping:
            return  # it is recorded: the next start resumes it
        worker = self._workers.get(key)
        if worker is None or worker.task.done():  # done a moment ago: its callback has not run yet
            worker = self._workers[key] = _Worker(
                lambda: deliver_guarded(self._delivery, key, self._clock), self._clock, self._tasks
            )
            worker.task.add_done_callback(lambda task: self._forget(key, task))
        worker.wake()

    def _forget(self, key: BucketKey, task: asyncio.Task[None]) -> None:
        if self._workers[key].task is task:
            del self._workers[key]

    async def stop(self) -> None:
        """Let running steps finish; the rest is recorded and resumed at the next start."""
        self._is_stopping = True
        workers = list(self._workers.values())
        for worker in workers:
            worker.stop()
        await self._tasks.drain(STOP_PATIENCE)


class _Worker:
    """One bucket's task: it ends when nothing is left, so that idle buckets cost nothing."""

    def __init__(
        self, deliver: Callable[[], Awaitable[datetime | None]], clock: Callable[[], datetime], tasks: Background
    ) -> None:
        self._deliver = deliver
        self._clock = clock
        self._woken = asyncio.Event()
        self._is_stopping = False
        self.task = tasks.start(self._run())

    def wake(self) -> None:
        self._woken.set()

    def stop(self) -> None:
        self._is_stopping = True
        self._woken.set()

    async def _run(self) -> None:
        while not self._is_stopping:
            self._woken.clear()
            next_at = await self._deliver()
            if next_at is None and not self._woken.is_set():
                return
            if next_at is not None:
                await self._sleep_until(next_at)

    async def _sleep_until(self, next_at: datetime) -> None:
        wait = min(next_at - self._clock(), _LONGEST_SLEEP).total_seconds()
        try:
            async with asyncio.timeout(max(wait, 0)):
                await self._woken.wait()
        except TimeoutError:
            return
