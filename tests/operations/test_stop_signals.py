"""Signals are heard whatever the event loop does, and end a stop that takes too long, or that someone is tired of."""

import io
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

import bot
from bot.operations.log_writer import LogWriter, StrayText
from bot.operations.stop_budget import LAST_RESORT, StopBudget
from bot.operations.stop_signals import CUT_OFF, StopSignals, end_now

PATIENCE = 60


@dataclass(slots=True)
class Process:
    """What a process of its own would do: begins to stop, and ends with a code; its time is set by the test."""

    seconds: float = 0.0
    begun: threading.Event = field(default_factory=threading.Event)
    hung_up: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    has_terminal: bool = False
    ended: queue.SimpleQueue[int] = field(default_factory=queue.SimpleQueue)
    budget: StopBudget = field(init=False)

    def __post_init__(self) -> None:
        """Count by this time."""
        self.budget = StopBudget(lambda: self.seconds)

    def signals(self) -> StopSignals:
        """Return what hears the signals."""
        return StopSignals(self.budget, self.begun.set, self.ended.put, self.hung_up.release, lambda: self.has_terminal)

    def hear(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal."""
        os.kill(os.getpid(), number)


@pytest.fixture
def process(log: io.StringIO) -> Process:
    """Return a process, with its log."""
    return Process()


def causes(log: io.StringIO) -> list[str]:
    """Return why stops were cut off."""
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line["cause"] for line in lines if line["event"] == "stop_cut_off"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_begins_the_stop(process: Process, log: io.StringIO, number: signal.Signals) -> None:
    """Also while the main thread, and the loop in it, waits for something else."""
    with process.signals():
        process.hear(number)
        assert process.begun.wait(PATIENCE)
        assert process.budget.left(LAST_RESORT) == LAST_RESORT
        process.seconds = 1
        assert process.budget.left(LAST_RESORT) < LAST_RESORT
    assert process.ended.empty()
    assert causes(log) == []


def test_a_second_signal_ends_the_process_at_once(process: Process, log: io.StringIO) -> None:
    """With a code of its own, and a line that says why."""
    with process.signals():
        process.hear()
        assert process.begun.wait(PATIENCE)
        process.seconds = 1
        process.hear(signal.SIGINT)
        assert process.ended.get(timeout=PATIENCE) == CUT_OFF
    assert causes(log) == ["a second signal"]


def test_an_echo_of_the_first_signal_is_no_second_one(process: Process, log: io.StringIO) -> None:
    """A terminal sends SIGINT to every process, and a parent that hears it sends SIGTERM to its child."""
    with process.signals():
        process.hear(signal.SIGINT)
        assert process.begun.wait(PATIENCE)
        process.hear(signal.SIGTERM)
        process.hear(signal.SIGTERM)
    assert process.ended.empty()
    assert causes(log) == []


def test_a_hang_up_stops_nothing(process: Process) -> None:
    """Each asks for the policy once more; also after a signal to stop it is none to stop at once."""
    with process.signals():
        for _ in range(2):
            process.hear(signal.SIGHUP)
            assert process.hung_up.acquire(timeout=PATIENCE)
        assert not process.begun.is_set()
        process.hear()
        assert process.begun.wait(PATIENCE)
        process.seconds = 1
        process.hear(signal.SIGHUP)
    assert process.ended.empty()
    assert not process.hung_up.acquire(blocking=False)


@pytest.fixture(autouse=True)
def heard_by_default() -> Iterator[None]:
    """Hear SIGHUP as by default: the tests themselves may run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_terminal_that_is_closed_stops_the_bot(process: Process, *, is_closed: bool) -> None:
    """As it does by default; one that stays only sends a signal."""
    process.has_terminal = True
    with process.signals():
        process.has_terminal = not is_closed
        process.hear(signal.SIGHUP)
        assert process.begun.wait(PATIENCE) if is_closed else process.hung_up.acquire(timeout=PATIENCE)
        assert process.begun.is_set() is is_closed


def test_under_nohup_it_outlives_the_terminal(process: Process) -> None:
    """The signal, which nohup lets it ignore, still asks for the policy."""
    process.has_terminal = True
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with process.signals():
            process.has_terminal = False
            process.hear(signal.SIGHUP)
            assert process.hung_up.acquire(timeout=PATIENCE)
            assert not process.begun.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_end_of_the_budget_ends_the_process(process: Process, log: io.StringIO) -> None:
    """The time is up as the thread looks at it."""

    def begin() -> None:
        process.seconds = LAST_RESORT.total_seconds()

    with StopSignals(process.budget, begin, process.ended.put):
        process.hear()
        assert process.ended.get(timeout=PATIENCE) == CUT_OFF
    assert causes(log) == ["it took too long"]


def test_signals_are_given_back() -> None:
    """With what asyncio or another library had set."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    with Process().signals():
        pass
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == before
    assert signal.set_wakeup_fd(-1) == -1
    assert not any(thread.name == "stop-signals" for thread in threading.enumerate())


def test_a_process_ends_with_its_log_written(process: Process, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing else of Python's end is waited for."""
    with (tmp_path / "log").open("wb") as file:
        writer = LogWriter(file.fileno(), str)
        monkeypatch.setattr(sys, "stderr", StrayText(writer, str))
        writer.write("a last line\n" * 1000)
        end_now(LAST_RESORT, process.ended.put)
        assert process.ended.get(timeout=PATIENCE) == 0
        assert (tmp_path / "log").read_text() == "a last line\n" * 1000


def test_a_log_that_nobody_reads_does_not_hold_up_the_end(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has only what is left of the budget."""
    reader, writer = os.pipe()
    stray = StrayText(LogWriter(writer, str), str)
    monkeypatch.setattr(sys, "stderr", stray)
    stray.writer.write("x" * 1024 * 1024)  # more than a pipe holds
    end_now(timedelta(0), process.ended.put)
    assert process.ended.get(timeout=PATIENCE) == 0
    assert not stray.writer.drain(timedelta(0))
    os.close(reader)  # ends the writing
    assert stray.writer.drain(timedelta(seconds=PATIENCE))
    os.close(writer)


STUCK = """
import asyncio, sys, threading
from bot.operations import stop_signals
from bot.operations.stop_budget import StopBudget

async def live():
    with stop_signals.StopSignals(StopBudget(), lambda: print("begun", flush=True)):
        print("here", flush=True)
        threading.Event().wait()  # as the loop's thread in a hanging disk

asyncio.run(live())
"""


@pytest.fixture
def stuck() -> Iterator[subprocess.Popen[str]]:
    """Start a process whose event loop hangs."""
    with subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-c", STUCK],
        env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(Path(bot.__file__).parent.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        yield process
        process.kill()


def test_a_loop_that_hangs_does_not_outlive_a_second_signal(stuck: subprocess.Popen[str]) -> None:
    """A person who presses Ctrl+C twice gets the terminal back."""
    assert stuck.stdout is not None
    assert stuck.stdout.readline() == "here\n"
    while stuck.poll() is None:
        stuck.send_signal(signal.SIGINT)
        try:
            stuck.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    assert stuck.returncode == CUT_OFF
    assert stuck.stdout.readline() == "begun\n"
    assert "stop_cut_off" in stuck.stdout.read()


LEAVING = """
import signal, sys
from bot.operations.stop_signals import leave_at_once
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
leave_at_once()
print("here", flush=True)
for _ in sys.stdin:
    print("goes on", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_start_ends_it(number: signal.Signals) -> None:
    """Without a traceback, and also as process 1 of a container, which otherwise ignores SIGTERM; not SIGHUP."""
    with subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-c", LEAVING],
        env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(Path(bot.__file__).parent.parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        assert process.stdin is not None
        process.send_signal(signal.SIGHUP)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "goes on\n"
        process.send_signal(number)
        _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
