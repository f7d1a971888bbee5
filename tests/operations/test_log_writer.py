"""The bot and its log go on if no one reads the log: tested with real pipes that are full."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO

import pytest

import bot
from bot.operations.log_writer import LogWriter, StrayText
from bot.operations.logs import scrub

PATIENCE = timedelta(seconds=60)
AT_ONCE = timedelta(0)
TOKEN = "cfut_" + "MADEUP0user1" * 3 + "abcd" + "0badc0de"  # made up


@dataclass(slots=True)
class Pipe:
    """A pipe whose reader reads only when the test asks."""

    reader: int
    writer: int

    def fill(self) -> int:
        """Fill the pipe; return how many bytes that took."""
        os.set_blocking(self.writer, False)
        filled = 0
        with suppress(BlockingIOError):
            while True:
                filled += os.write(self.writer, b"." * 4096)
        os.set_blocking(self.writer, True)
        return filled

    def read(self, size: int) -> bytes:
        """Read this many bytes, however long that takes."""
        received = b""
        while len(received) < size:
            received += os.read(self.reader, size - len(received))
        return received

    def read_lines_until(self, last: str) -> list[str]:
        """Read lines until one has this ending."""
        received = b""
        while not received.endswith(f"{last}\n".encode()):
            received += os.read(self.reader, 65536)
        return received.decode().splitlines()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Open a pipe."""
    pipe = Pipe(*os.pipe())
    yield pipe
    os.close(pipe.reader)
    os.close(pipe.writer)


def describe_loss(lines: int) -> str:
    """Return a line with the number."""
    return f"{lines} lost\n"


def test_lines_are_written_in_order(pipe: Pipe) -> None:
    """While the pipe is read, nothing is lost; a character that cannot be encoded is escaped."""
    writer = LogWriter(pipe.writer, describe_loss)
    for number in range(100):
        writer.write(f"line {number}\n")
    writer.write("half \ud800 of a pair\n")
    assert pipe.read_lines_until("pair") == [*(f"line {number}" for number in range(100)), "half \\ud800 of a pair"]
    assert writer.drain(PATIENCE)


def test_a_full_pipe_blocks_no_one_and_dropped_lines_are_counted(pipe: Pipe) -> None:
    """The oldest lines are dropped, since the last ones before a crash matter most. A count takes their place."""
    filled = pipe.fill()
    noted: list[int] = []
    writer = LogWriter(pipe.writer, describe_loss, most_bytes=1000, note_loss=noted.append)
    writer.write("first\n")
    while writer._waiting:  # later, its thread would take some of the others along
        time.sleep(0.001)
    assert not writer.drain(AT_ONCE)

    for number in range(1000):
        writer.write(f"line {number:04}\n")  # 10 bytes
    writer.write("crashed\n")
    assert not writer.drain(AT_ONCE)

    assert pipe.read(filled) == b"." * filled
    lines = pipe.read_lines_until("crashed")
    kept = [line for line in lines if line.startswith("line")]
    assert kept == [f"line {number:04}" for number in range(1000 - len(kept), 1000)]
    assert len(kept) == 99  # with the last line, as much as there is room for
    assert sum(noted) == 1001 - len(kept) - ("first" in lines)
    losses = [line for line in lines if line.endswith("lost")]
    assert sum(int(line.split()[0]) for line in losses) + len(kept) + ("first" in lines) == 1001
    assert lines.index(losses[-1]) < lines.index(kept[0])


def test_a_reader_that_is_gone_costs_nothing(pipe: Pipe) -> None:
    """Nothing breaks, and the process does not wait at its end."""
    reader, writer_end = os.pipe()
    os.close(reader)
    noted: list[int] = []
    writer = LogWriter(writer_end, describe_loss, note_loss=noted.append)
    writer.write("one\n")
    assert writer.drain(PATIENCE)
    writer.write("two\nthree\n")
    assert writer.drain(PATIENCE)

    os.dup2(pipe.writer, writer_end)  # like a disk that has room again
    writer.write("four\n")
    assert pipe.read_lines_until("four") == ["3 lost", "four"]
    assert sum(noted) == 3
    os.close(writer_end)


def test_a_pipe_that_others_made_nonblocking_is_waited_for(pipe: Pipe) -> None:
    """The flag belongs to the pipe: a parent that sets it for itself sets it for the bot too."""
    filled = pipe.fill()
    os.set_blocking(pipe.writer, False)
    writer = LogWriter(pipe.writer, describe_loss)
    writer.write("late\n")
    assert not writer.drain(AT_ONCE)
    pipe.read(filled)
    assert pipe.read_lines_until("late") == ["late"]


def test_printed_text_is_masked_even_in_pieces(pipe: Pipe) -> None:
    """A traceback is printed in pieces; a secret split in two would not be masked."""
    writer = LogWriter(pipe.writer, describe_loss)
    stray = StrayText(writer, scrub)
    print("one of", TOKEN[:20], end="", file=stray)
    print(TOKEN[20:], "and more", file=stray)
    stray.write("x" * 70_000)
    stray.write("unfinished")
    writer.write("end\n")
    text = "\n".join(pipe.read_lines_until("end"))
    assert TOKEN[20:] not in text
    assert "masked" in text
    assert "x" * 70_000 in text


PROGRAM = """
import logging, sys, threading
import structlog
from bot.operations.logs import configure_logging
configure_logging("info", "json")
log = structlog.get_logger("bot.x")
for number in range(20_000):
    log.info("busy", number=number)
print("all logged", flush=True)
sys.stdin.read()
{ending}
"""
ENDINGS = {
    "a normal end": ("", 0, "busy"),
    "a crash": ("raise RuntimeError('made up')", 1, "RuntimeError: made up"),
    "a crash that was logged": ("logging.getLogger('bot').critical('crashed'); sys.exit(1)", 1, "crashed"),
    "a crash in a thread": ("threading.Thread(target=lambda: 1 / 0).start()", 0, "ZeroDivisionError"),
}


@pytest.mark.parametrize(("ending", "code", "last"), ENDINGS.values(), ids=ENDINGS)
def test_a_process_ends_with_its_last_words(ending: str, code: int, last: str) -> None:
    """Logging 20,000 lines to a pipe that no one reads does not block; a later reader gets the last ones."""
    with _start(ending) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        lines = list(_lines_until(process.stderr, b'"number": 19999,'))
        process.stdin.close()
        last_words = process.stderr.read()
        assert process.wait(PATIENCE.total_seconds()) == code

    assert last.encode() in b"".join([*lines, last_words])
    told = [line for line in map(json.loads, lines) if line["event"] == "log_lines_dropped"]
    assert {line["level"] for line in told} == {"warning"}
    assert sum(line["count"] for line in told) + len(lines) - len(told) == 20_000


def test_the_end_of_a_process_does_not_wait_for_a_reader_who_never_comes() -> None:
    """Otherwise a supervisor could not restart it."""
    ending, code, _ = ENDINGS["a crash that was logged"]
    with _start(ending) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(PATIENCE.total_seconds()) == code


@contextmanager
def _start(ending: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", PROGRAM.format(ending=ending)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(bot.__file__).parent.parent,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"all logged\n"
        yield process


def _lines_until(stream: IO[bytes], word: bytes) -> Iterator[bytes]:
    for line in stream:
        yield line
        if word in line:
            return


def test_one_thread_waits_and_no_other(pipe: Pipe) -> None:
    """No thread that logs holds a lock while the writer waits for the pipe."""
    pipe.fill()
    writer = LogWriter(pipe.writer, describe_loss)
    handler = logging.StreamHandler(writer)
    record = logging.makeLogRecord({"msg": "x"})
    threads = [threading.Thread(target=handler.handle, args=[record]) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE.total_seconds())
    assert not any(thread.is_alive() for thread in threads)
