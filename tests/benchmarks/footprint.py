"""What the idle bot costs: time to ready, memory, CPU (Socket Mode, default settings, Linux)."""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bot.sandbox.cloudflare import FakeCloudflare
from bot.sandbox.process import BotProcess, bot_environment, find_free_port
from bot.sandbox.slack import FakeSlack

STARTS = 5
IDLE_SECONDS = 30
LIBRARIES = "import aiohttp, cryptography, httpx, pydantic_settings, slack_bolt.async_app, sqlalchemy, structlog"


async def main() -> None:
    """Start the bot a few times, then measure the last one while idle; import its libraries alone for comparison."""
    libraries = [seconds_of([sys.executable, "-c", LIBRARIES]) for _ in range(STARTS)]
    async with FakeSlack() as slack, FakeCloudflare() as cloudflare:
        starts = []
        for number in range(STARTS):
            with tempfile.TemporaryDirectory() as directory:
                environment = bot_environment(slack, cloudflare, Path(directory) / "data", "socket", find_free_port())
                process = BotProcess(environment, Path(directory))
                started = time.perf_counter()
                await process.start()
                await process.wait_until_ready()
                starts.append(time.perf_counter() - started)
                if number == STARTS - 1:
                    await show_idle(process.pid)
                await process.stop()
    print(f"start to ready     {statistics.median(starts):.2f} s (median of {STARTS}; worst {max(starts):.2f} s)")
    print(f"  of that, libraries {statistics.median(libraries):.2f} s (importing them and nothing else)")


async def show_idle(pid: int) -> None:
    """Print memory and CPU of an idle process."""
    await asyncio.sleep(5)
    before = cpu_seconds(pid)
    await asyncio.sleep(IDLE_SECONDS)
    print(f"idle CPU           {(cpu_seconds(pid) - before) / IDLE_SECONDS:.2%} of one core over {IDLE_SECONDS} s")
    print(f"idle memory        {resident_bytes(pid) / 2**20:.0f} MB resident")


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process, in seconds (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Return the resident set of a process (proc(5))."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def seconds_of(command: list[str]) -> float:
    """Return how long a command takes, in seconds."""
    started = time.perf_counter()
    subprocess.run(command, check=True)  # noqa: S603 - our own command
    return time.perf_counter() - started


if __name__ == "__main__":
    asyncio.run(main())
