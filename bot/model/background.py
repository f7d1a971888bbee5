"""Background tasks: referenced while they run, drained or cancelled at a stop."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from datetime import timedelta
from typing import Any, TypeVar

import structlog

from bot.model.reference import context_about

_T = TypeVar("_T")

_log = structlog.get_logger()


class Background:
    """Tasks that are kept until they end: the event loop itself holds only weak references to them.

    A failure is logged as `event` with only the error's type: a traceback could show secrets.
    """

    def __init__(self, event: str) -> None:
        self._event = event
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def tasks(self) -> frozenset[asyncio.Task[Any]]:
        """The tasks that are running."""
        return frozenset(self._tasks)

    def find(self, name: str) -> asyncio.Task[Any] | None:
        """Return the task with this name, unless it has ended or is being cancelled."""
        tasks = (task for task in self._tasks if task.get_name() == name)
        return next((task for task in tasks if not task.done() and not task.cancelling()), None)

    def start(self, work: Coroutine[Any, Any, _T], name: str | None = None, *, reference: str = "") -> asyncio.Task[_T]:
        """Start a task that need not be awaited. Its log lines have this reference, and not that of the caller."""
        context = context_about(reference)
        task = self._add(work, name, context)
        task.add_done_callback(self._log_fault, context=context)
        return task

    async def shield(self, work: Callable[[], Coroutine[Any, Any, _T]], name: str | None = None) -> _T:
        """Return or raise the outcome of `work`, which continues if the caller is cancelled.

        All callers under one name share the task that is running, so its log lines have no one's reference.
        """
        known = self.find(name) if name is not None else None
        context = copy_context() if name is None else context_about()
        task: asyncio.Task[_T] = known or self._add(work(), name, context)
        await asyncio.wait([task])  # asyncio.shield logs a traceback if the caller is gone, from Python 3.14 on
        return task.result()

    def cancel(self) -> None:
        """Cancel all, without waiting for them to end."""
        for task in self._tasks:
            task.cancel()

    async def drain(self, patience: timedelta | None = None) -> None:
        """Wait until all current tasks have ended; cancel those that outlast `patience` or the caller."""
        if tasks := self.tasks:
            try:
                _, late = await asyncio.wait(tasks, timeout=None if patience is None else patience.total_seconds())
            except asyncio.CancelledError:
                self.cancel()
                raise
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _add(self, work: Coroutine[Any, Any, _T], name: str | None, context: Context) -> asyncio.Task[_T]:
        task = asyncio.create_task(work, name=name, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, even if its caller is gone: else asyncio logs a traceback

    def _log_fault(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error(self._event, error=type(error).__name__)
