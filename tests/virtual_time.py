"""An event loop whose time passes only while nothing else is to do: hours take no time, and no machine is too slow."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class _Selector(selectors.DefaultSelector):
    """Does not wait for a timer; it counts how long it should have waited."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready now, or let the time until the next timer pass."""
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


def run_in_virtual_time(work: Coroutine[Any, Any, _T]) -> _T:
    """Run without waiting for any timer; threads and other processes have no place in it."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
