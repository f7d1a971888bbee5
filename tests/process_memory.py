"""Searches the whole memory of a started bot, as a debugger would show it: live objects, and freed blocks.

A hardened process lets only root open its memory. So its interpreter opens it before the bot's first line, and sends
the open files over a socket; the bot itself is unchanged.
"""

import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

_NAME: Final = "MEMORY_SOCKET"
_AT_START: Final = f"""
import os, socket
with socket.socket(socket.AF_UNIX) as way:
    way.connect(os.environ["{_NAME}"])
    files = [os.open(f"/proc/self/{{name}}", os.O_RDONLY) for name in ("maps", "mem")]
    socket.send_fds(way, [b"."], files)
    for each in files:
        os.close(each)
"""
_AREA: Final = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) rw\S+ \S+ \S+ \S+ *(.*)$", re.MULTILINE)


class ProcessMemory:
    """The memory of one process, to be read as long as it lives."""

    def __init__(self, maps: int, memory: int) -> None:
        self._maps, self._memory = maps, memory

    def close(self) -> None:
        """Close both files."""
        os.close(self._maps)
        os.close(self._memory)

    def count(self, texts: Sequence[str]) -> dict[str, int]:
        """Return how many copies of each text there are, those in freed blocks included."""
        found = dict.fromkeys(texts, 0)
        pattern = re.compile(b"|".join(re.escape(text.encode()) for text in texts))
        for start, end in self._areas():
            for text in pattern.findall(os.pread(self._memory, end - start, start)):
                found[text.decode()] += 1
        return found

    def _areas(self) -> Iterator[tuple[int, int]]:
        """Yield what can be written: all that the process has put anywhere."""
        os.lseek(self._maps, 0, os.SEEK_SET)
        text = b"".join(iter(lambda: os.read(self._maps, 1 << 16), b"")).decode()
        for start, end, name in _AREA.findall(text):
            if not name.startswith("[v"):  # of the kernel, not readable
                yield int(start, 16), int(end, 16)


class MemoryDoor:
    """Where one started process hands over its memory."""

    def __init__(self, directory: Path) -> None:
        """Take an empty directory for the interpreter's start-up code and the socket."""
        (directory / "sitecustomize.py").write_text(_AT_START)
        self._directory = directory
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(directory / "door"))
        self._socket.listen()

    def environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the environment with what makes the process hand over its memory."""
        path = f"{self._directory}{os.pathsep}{environment['PYTHONPATH']}"
        return {**environment, "PYTHONPATH": path, _NAME: str(self._directory / "door")}

    def receive(self) -> ProcessMemory:
        """Return the memory of a process that is ready. If it started itself again, that of its last start."""
        received = [self._receive_one()]
        self._socket.settimeout(0)
        with self._socket, suppress(BlockingIOError):
            while True:
                received.append(self._receive_one())
        *former, memory = received
        for each in former:
            each.close()
        return memory

    def _receive_one(self) -> ProcessMemory:
        with self._socket.accept()[0] as way:
            _, (maps, memory), _, _ = socket.recv_fds(way, 1, 2)
        return ProcessMemory(maps, memory)
