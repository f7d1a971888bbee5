"""Hears SIGTERM, SIGINT and SIGHUP in a thread of its own, which also ends a stop that takes too long.

In a thread, since the event loop may be stuck: in a hanging disk, or waiting for a resolver's thread at its end.
"""

import asyncio
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, Self

import structlog

from bot.operations.log_writer import FLUSH_PATIENCE, StrayText
from bot.operations.stop_budget import LAST_RESORT, StopBudget

CUT_OFF: Final = 3
"""The exit code of a stop that was cut off. Nothing that was acknowledged is lost: the next start goes on."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_TERMINAL: Final = "/dev/tty"
_ECHO: Final = timedelta(milliseconds=500)
"""A second signal within this time is taken for the same one: a terminal and a parent process may both send it."""

_LAST_WORDS: Final = timedelta(milliseconds=300)
"""For the log's last lines. With `LAST_RESORT`, less than `LONGEST_STOP`."""

_log = structlog.get_logger()

End = Callable[[int], Any]
"""Ends the process with an exit code, and runs nothing else."""


def has_terminal() -> bool:
    """Return whether the process has a terminal that can be closed."""
    try:
        os.close(os.open(_TERMINAL, os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


class StopSignals:
    """While entered, the first signal begins the stop; a second one, or the end of the budget, ends the process.

    SIGHUP asks for the policy to be read again. When a terminal is closed it is a signal to stop, as it is by default.
    """

    def __init__(
        self,
        budget: StopBudget,
        begin: Callable[[], object],
        end: End = os._exit,
        hang_up: Callable[[], object] = lambda: None,
        has_terminal: Callable[[], bool] = has_terminal,
    ) -> None:
        """Take `begin` and `hang_up`, which are called in another thread."""
        self._budget = budget
        self._begin = begin
        self._end = end
        self._hang_up = hang_up
        self._has_terminal, self._had_terminal = has_terminal, has_terminal()
        self._before: list[Any] = []
        self._wakeup_before = -1

    def __enter__(self) -> Self:
        """Take the signals over; raises ValueError outside the main thread."""
        if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # under nohup, it is to outlive the terminal
            self._had_terminal = False
        self._before = [signal.signal(number, _only_wake) for number in (*_SIGNALS, signal.SIGHUP)]
        self._heard, self._wakeup = os.pipe()
        os.set_blocking(self._wakeup, False)
        self._wakeup_before = signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._attend, name="stop-signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back."""
        for number, before in zip((*_SIGNALS, signal.SIGHUP), self._before, strict=True):
            signal.signal(number, before)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._wakeup)
        self._thread.join()
        os.close(self._heard)

    def _attend(self) -> None:
        while numbers := self._read():
            if self._are_to_stop(numbers):
                break
            self._hang_up()
        else:
            return  # the signals were given back
        self._budget.begin()
        self._begin()
        cause = "it took too long"
        while left := self._budget.left(LAST_RESORT):
            if not select.select([self._heard], [], [], left.total_seconds())[0]:
                continue
            numbers = self._read()
            if not numbers:
                return  # the stop is over
            if self._are_to_stop(numbers) and LAST_RESORT - self._budget.left(LAST_RESORT) > _ECHO:
                cause = "a second signal"
                break
        _cut_off(CUT_OFF, cause, self._end)

    def _are_to_stop(self, numbers: bytes) -> bool:
        return {*numbers} != {signal.SIGHUP} or (self._had_terminal and not self._has_terminal())

    def _read(self) -> bytes:
        """Wait for the numbers of signals; return nothing once the signals were given back."""
        return os.read(self._heard, 64)


def end_now(patience: timedelta, end: End = os._exit) -> None:
    """End the process once the log is written, or `patience` is over, without the end of asyncio and Python.

    Those wait for every thread, also for one that asks a silent resolver, and free every module: half a second, several
    on a busy machine, in which nothing can be cut off.
    """
    try:
        _write_log(min(patience, FLUSH_PATIENCE))
    finally:  # also at a signal
        end(0)


def leave_at_once() -> None:
    """End the process at a signal, until `StopSignals` takes over: as process 1 it would ignore SIGTERM.

    SIGHUP, which would end it, asks for a policy that is read later anyway.
    """
    if threading.current_thread() is threading.main_thread():  # no other may
        for number in _SIGNALS:
            signal.signal(number, _leave)
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # not under nohup
            signal.signal(signal.SIGHUP, _only_wake)


def clean_up_at_a_signal() -> None:
    """Let a signal end a short command as an exception does, so that it removes its unfinished files."""
    if threading.current_thread() is threading.main_thread():  # no other may
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # not under nohup
                signal.signal(number, _exit)


@contextmanager
def cancelling(task: asyncio.Task[None]) -> Iterator[None]:
    """Let a signal cancel this task and nothing else, so that what it began can be cleaned up in peace afterwards."""
    loop, numbers = asyncio.get_running_loop(), (*_SIGNALS, signal.SIGHUP)
    heard = [each for each in numbers if signal.getsignal(each) is not signal.SIG_IGN]  # under nohup
    for number in heard:
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in heard:
            loop.remove_signal_handler(number)


def _only_wake(_: int, __: object) -> None:
    """Do nothing: the signal's number is in the pipe."""


def _leave(_: int, __: object) -> None:
    sys.exit(0)


def _exit(number: int, _: object) -> None:
    sys.exit(128 + number)  # as a shell reports it


def _cut_off(code: int, cause: str, end: End) -> None:
    _log.error("stop_cut_off", cause=cause, exit_code=code)
    _write_log(_LAST_WORDS)
    end(code)


def _write_log(patience: timedelta) -> None:
    if isinstance(sys.stderr, StrayText):
        sys.stderr.writer.drain(patience)
