"""An event loop whose time passes only while nothing else is to do: hours take no time, and no machine is too slow."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection

from bot.storage.database import Database
from bot.storage.trouble import Trouble
from tests.clock import Clock

_T = TypeVar("_T")
_PATIENCE_SECONDS = 60.0


class _Selector(selectors.DefaultSelector):
    """Does not wait for a timer; it counts how long it should have waited. `outside`: what really takes its time."""

    passed = 0.0
    outside = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready now, or let the time until the next timer pass."""
        if self.outside:
            return super().select(timeout if timeout == 0 else _PATIENCE_SECONDS)
        if timeout is None:
            message = "everything waits, and no timer would wake it"
            raise RuntimeError(message)
        ready = super().select(0)
        if not ready:
            self.passed += max(timeout, 0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that starts at second 0."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Return the virtual time."""
        return self._virtual.passed

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Let no virtual time pass meanwhile: a thread, or a server, has something to do that really takes time."""
        self._virtual.outside += 1
        try:
            yield
        finally:
            self._virtual.outside -= 1


class LoopClock(Clock):
    """Returns the time of the loop that is running now, which begins at `start`; also to other threads."""

    def __init__(self, start: datetime) -> None:
        super().__init__(start)
        self._loop = asyncio.get_running_loop()

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now + timedelta(seconds=self._loop.time())


class TimelessDatabase:
    """A database whose work takes no virtual time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def trouble(self) -> Trouble:
        """Why the latest failed call failed."""
        return self._database.trouble

    async def run(
        self, work: Callable[[Connection], _T], afterwards: Callable[[_T, Any], Awaitable[None]] | None = None
    ) -> _T:
        """Run it; see `Database`."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        with loop.standing_still():
            return await self._database.run(work, afterwards)


def run_in_virtual_time(work: Coroutine[Any, Any, _T]) -> _T:
    """Run without waiting for any timer; threads and other processes have no place in it but `standing_still`."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
