"""Runs the bot under a steady load, and says whether anything grew or was lost.

The bot is the real process, on SQLite and over HTTP, with its default settings. Cloudflare is down for a thirtieth of
the time, and then again in the middle. The memory that the first backlog took stays with the process: so the first one
ends before the memory is first compared, and the second one must find room in it.

The database grows, as it should: each submission stays in the history for a year, on disk. Of it, SQLite keeps at most
2 MB a connection in memory, which are full before the memory is first compared.

    python -m tests.soak [seconds] [submissions a second]

Exits with 1 if something that must hold does not. Shorter than ten minutes, memory has not settled: that is for a try.
"""

import asyncio
import json
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from bot.operations.gauges import TASKS
from bot.sandbox.cloudflare import NO_LIMIT_TO_SPEAK_OF, FakeCloudflare, Kind
from bot.sandbox.process import BotProcess, bot_environment, find_free_port
from bot.sandbox.slack import FakeSlack
from bot.sandbox.workspace import FakeSlackConfig, UserGroup
from tests.benchmarks.footprint import cpu_seconds, resident_bytes
from tests.soak.people import BUCKETS, PEOPLE, People
from tests.soak.verdict import Ending, Sample, find_faults, memory_growth

RESULTS_WITHIN: Final = timedelta(seconds=120)
_QUIET: Final = timedelta(seconds=20)
"""Longer than aiohttp keeps an unused connection."""

_READ_EVERY: Final = 0.2
_OUTAGE: Final[tuple[Kind, ...]] = ("list", "get", "read", "status", "credential", "verify", "own")


@dataclass(slots=True, kw_only=True)
class Soak:
    """The bot, the fakes around it, and what was seen of it so far."""

    bot: BotProcess
    people: People
    cloudflare: FakeCloudflare
    metrics_port: int
    directory: Path
    http: aiohttp.ClientSession
    samples: list[Sample] = field(default_factory=list)
    began_at: float = 0.0

    @property
    def database(self) -> Path:
        """Where the bot keeps everything."""
        return self.directory / "data" / "bot.sqlite"

    @property
    def log(self) -> Path:
        """What the bot printed."""
        return self.directory / "log"


async def main(seconds: float = 1800, per_second: float = 20) -> bool:
    """Run it, print a line a minute, and return whether everything holds."""
    seed = random.randrange(10**6)
    print(f"{per_second:g} submissions a second for {seconds:g} s, seed {seed}", flush=True)
    print(f"{'min':>5}{'a second':>10}{'MB':>8}{'fds':>5}{'threads':>9}{'tasks':>7}{'waiting':>9}", end="")
    print(f"{'db MB':>8}{'CPU':>6}{'p50 ms':>8}{'p99':>7}{'worst':>7}", flush=True)
    async with scene(random.Random(seed)) as soak:
        await asyncio.sleep(_QUIET.total_seconds())
        soak.began_at = time.monotonic()
        rest = await look(soak)
        async with asyncio.TaskGroup() as group:
            watchers = [group.create_task(watch) for watch in (read(soak), sample(soak, seconds), show(soak, seconds))]
            group.create_task(fail_twice(soak.cloudflare, seconds))
            await soak.people.work(per_second, seconds)
            await wait_for_results(soak.people)
            for watcher in watchers:
                watcher.cancel()
        soak.people.read()
        await asyncio.sleep(_QUIET.total_seconds())
        rest_after = await look(soak)
        is_stopped = await soak.bot.stop() == 0
        return print_verdict(soak, rest, rest_after, is_stopped=is_stopped)


@asynccontextmanager
async def scene(dice: random.Random) -> AsyncIterator[Soak]:
    """Set up the fakes and a ready bot. Cloudflare allows the load: the real one would need many accounts for it."""
    config = FakeSlackConfig()
    group = UserGroup(id="S0SOAK001", handle="soak", members=tuple(person.id for person in PEOPLE))
    config = FakeSlackConfig(users=(*config.users, *PEOPLE), user_groups=(group,), answer_timeout=timedelta(seconds=30))
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        async with (
            FakeCloudflare(limit=NO_LIMIT_TO_SPEAK_OF) as cloudflare,
            FakeSlack(config) as slack,
            aiohttp.ClientSession() as http,
        ):
            cloudflare.slow_delay = 2.0
            for bucket in BUCKETS:
                cloudflare.add_bucket(bucket)
            port, metrics_port = find_free_port(), find_free_port()
            slack.request_url = f"http://127.0.0.1:{port}/slack/events"
            environment = bot_environment(slack, cloudflare, directory / "data", "http", port)
            del environment["R2_CREDENTIAL_FRESH_TOKEN_PATIENCE"]  # a minute by default
            environment["R2_CREDENTIAL_METRICS_PORT"] = str(metrics_port)
            with (directory / "log").open("wb") as output:
                bot = BotProcess(environment, directory, output)
                await bot.start()
            try:
                if not await bot.wait_until_ready():
                    sys.exit((directory / "log").read_text())
                yield Soak(
                    bot=bot,
                    people=People(slack, cloudflare, dice),
                    cloudflare=cloudflare,
                    metrics_port=metrics_port,
                    directory=directory,
                    http=http,
                )
            finally:
                await bot.kill()


async def read(soak: Soak) -> None:
    """Read what the bot says, and keep the fakes small, until cancelled."""
    while True:
        soak.people.read()
        await asyncio.sleep(_READ_EVERY)


async def sample(soak: Soak, seconds: float) -> None:
    """Look at the process all the time of the load."""
    while time.monotonic() - soak.began_at < seconds:
        soak.samples.append(await look(soak))
        await asyncio.sleep(min(5.0, seconds / 60))


async def look(soak: Soak) -> Sample:
    """Look at the process once."""
    process = Path(f"/proc/{soak.bot.pid}")
    async with soak.http.get(f"http://127.0.0.1:{soak.metrics_port}/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
        [tasks] = [each.value for family in families if family.name == TASKS.name for each in family.samples]
    return Sample(
        seconds=time.monotonic() - soak.began_at,
        resident_bytes=resident_bytes(soak.bot.pid),
        descriptors=len(list((process / "fd").iterdir())),
        threads=len(list((process / "task").iterdir())),
        tasks=int(tasks),
    )


async def show(soak: Soak, seconds: float) -> None:
    """Print a line a minute, or six in all if it is shorter, until cancelled."""
    every = min(60.0, seconds / 6)
    acknowledged, cpu, first = 0, cpu_seconds(soak.bot.pid), 0
    while True:
        await asyncio.sleep(every)
        people, now = soak.people, soak.samples[-1]
        latencies, first = sorted(people.latencies[first:]) or [0.0], len(people.latencies)
        used, cpu = cpu_seconds(soak.bot.pid) - cpu, cpu_seconds(soak.bot.pid)
        rate, acknowledged = (people.acknowledged - acknowledged) / every, people.acknowledged
        size = sum(each.stat().st_size for each in soak.database.parent.glob("bot.sqlite*"))
        p50, p99, worst = statistics.median(latencies), latencies[int(len(latencies) * 0.99)], latencies[-1]
        print(
            f"{(time.monotonic() - soak.began_at) / 60:5.1f}{rate:10.1f}{now.resident_bytes / 2**20:8.1f}"
            f"{now.descriptors:5}{now.threads:9}{now.tasks:7}{len(people.waiting):9}{size / 2**20:8.1f}"
            f"{used / every:6.0%}{p50 * 1000:8.0f}{p99 * 1000:7.0f}{worst * 1000:7.0f}",
            flush=True,
        )


async def fail_twice(cloudflare: FakeCloudflare, seconds: float) -> None:
    """Take Cloudflare down for a while, and again in the middle."""
    lasts, passed = seconds / 30, 0.0
    for begins in (seconds / 12, seconds / 2):
        await asyncio.sleep(begins - passed)
        for kind in _OUTAGE:
            cloudflare.fail_next(kind, times=10**9, status=503)
        await asyncio.sleep(lasts)
        cloudflare.forget_failures()
        passed = begins + lasts


async def wait_for_results(people: People) -> None:
    """Wait until every acknowledged submission has a result, at most two minutes; then a little for a second one."""
    until = time.monotonic() + RESULTS_WITHIN.total_seconds()
    while people.waiting and time.monotonic() < until:
        await asyncio.sleep(_READ_EVERY)
    await asyncio.sleep(3)


def print_verdict(soak: Soak, rest: Sample, rest_after: Sample, *, is_stopped: bool) -> bool:
    """Print what must hold, and return whether it does."""
    people = soak.people
    with closing(sqlite3.connect(f"file:{soak.database}?mode=ro", uri=True)) as database:
        [(recorded, left_open)] = database.execute("SELECT count(*), sum(reported_at IS NULL) FROM submissions")
    ending = Ending(
        acknowledged=people.acknowledged,
        not_acknowledged=people.not_acknowledged,
        without_result=len(people.waiting),
        results_doubled=people.doubled,
        left_open=left_open or 0,
        is_stopped=is_stopped,
    )
    print(f"acknowledged {ending.acknowledged}, recorded {recorded}, pressed too late {people.missed}")
    print(f"memory grew by {memory_growth(soak.samples):.1%}")
    for name, at in (("before", rest), ("after", rest_after)):
        print(f"at rest {name}: {at.descriptors} descriptors, {at.threads} threads, {at.tasks} tasks")
    print(
        f"log: {dict(count_trouble(soak.log).most_common(8))}; what people met: {dict(people.problems.most_common(5))}"
    )
    faults = find_faults(rest, soak.samples, rest_after, ending)
    print("\n".join(f"FAILED: {fault}" for fault in faults) or "all holds")
    return not faults


def count_trouble(log: Path) -> Counter[str]:
    """Return how often the log names each event that is more than information."""
    found: Counter[str] = Counter()
    with log.open() as lines:
        for line in lines:
            entry = json.loads(line) if line.startswith("{") else {"level": "?", "event": line[:60]}
            if entry["level"] != "info":
                found[entry["event"]] += 1
    return found


if __name__ == "__main__":
    sys.exit(not asyncio.run(main(*map(float, sys.argv[1:]))))
