"""Measures one contender at a time: how fast it acknowledges, and what one `kill -9` under load costs."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from bot.sandbox.workspace import FakeSlackConfig
from tests.benchmarks.alternatives.contenders import BOT, Contender, ContenderFailed, Running, environment_of
from tests.benchmarks.alternatives.figures import Cell, Kill, count_late, percentile, rate
from tests.benchmarks.alternatives.lines import LineProcess
from tests.benchmarks.alternatives.load import MOST, Load, Sent
from tests.benchmarks.submissions import form_body, record_openings

WARM_UP_SECONDS: Final = 0.5
OPENINGS: Final = 20_000
"""For so many submissions the bot has an opening; a load on it ends early where they are used up."""

KILL_RATE: Final = 20.0
KILLED_AFTER: Final = 4.0
_LOAD_SECONDS: Final = 5.0
_QUIET: Final = 5.0
_PATIENCE: Final = 60.0
_LONGEST_WORK: Final = 240.0
"""After a restart the bot keeps to Cloudflare's usual limit until an answer has told it another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all measurements share: the generator, the fakes, and a data directory with all openings."""

    generator: LineProcess
    doubles: LineProcess
    data: Path
    config: FakeSlackConfig
    body: str

    async def send(
        self, running: Running, first: int, seconds: float, *, connections: int = 0, per_second: float = 0
    ) -> list[Sent]:
        """Have submissions sent, and return them in the order in which they ended."""
        load = Load(
            port=running.port,
            secret=self.config.signing_secret,
            body=self.body,
            first=first,
            last=OPENINGS - 1 if running.contender is BOT else MOST,
            seconds=seconds,
            connections=connections,
            per_second=per_second,
        )
        answer = await self.generator.ask(asdict(load), patience=seconds + load.patience + _PATIENCE)
        return [Sent(**each) for each in answer]

    async def delay_cloudflare(self, seconds: float) -> None:
        """Let each answer of Cloudflare take so long from now on."""
        await self.doubles.ask({"delay": seconds})


@asynccontextmanager
async def open_bench(data: Path) -> AsyncIterator[Bench]:
    """Start the processes; `data` is from `record_data`."""
    config = FakeSlackConfig()
    async with (
        LineProcess("tests.benchmarks.alternatives.load") as generator,
        LineProcess("tests.benchmarks.alternatives.doubles") as doubles,
    ):
        yield Bench(generator=generator, doubles=doubles, data=data, config=config, body=form_body(config.team_id))


async def record_data(data: Path, openings: int = OPENINGS) -> None:
    """Make a data directory with an opening for each submission."""
    await record_openings(data / "bot.sqlite", FakeSlackConfig().team_id, openings)


@asynccontextmanager
async def run_contender(bench: Bench, contender: Contender) -> AsyncIterator[Running]:
    """Prepare a contender against new fakes; kill it at the end."""
    ports = await bench.doubles.ask({"begin": True})
    with TemporaryDirectory() as scratch:
        directory = Path(scratch)
        shutil.copytree(bench.data, directory / "data")
        running = Running(contender, environment_of(directory=directory, **ports), directory)
        try:
            yield running
        finally:
            await running.kill()


async def measure_cell(bench: Bench, contender: Contender, delay: float, connections: int, seconds: float) -> Cell:
    """Return the figures of one round; a contender that fails makes a cell that says so.

    Cloudflare answers at once until the warm-up is over.
    """
    place: dict[str, Any] = {
        "contender": contender.key,
        "delay": delay if contender.calls_cloudflare else None,
        "connections": connections,
    }
    try:
        async with run_contender(bench, contender) as running:
            start = await running.start(bench.body)
            warm_up = await bench.send(running, 1, WARM_UP_SECONDS, connections=connections)
            await bench.delay_cloudflare(delay)
            sent = await bench.send(running, len(warm_up) + 1, seconds, connections=connections)
            return Cell(**place, **describe(sent), resident=running.resident_bytes(), start=start)
    except (ContenderFailed, TimeoutError, OSError) as error:
        return Cell(**place, failure=str(error) or type(error).__name__)


def describe(sent: list[Sent]) -> dict[str, Any]:
    """Return the figures of a load; an answer that never came counts as late, and not in the times."""
    times = [each.took for each in sent if not each.failure]
    return {
        "per_second": rate(sent),
        "p50": percentile(times, 0.50),
        "p99": percentile(times, 0.99),
        "slowest": max(times, default=0),
        "answers": len(sent),
        "late": count_late(sent),
        "failed": len(sent) - len(times),
    }


async def measure_kill(bench: Bench, contender: Contender, delay: float) -> Kill:
    """Kill a contender under load, start it again, wait until nothing more comes, and count who was told nothing."""
    try:
        async with run_contender(bench, contender) as running:
            await running.start(bench.body)
            await bench.delay_cloudflare(delay)
            load = asyncio.create_task(bench.send(running, 1, _LOAD_SECONDS, per_second=KILL_RATE))
            await asyncio.sleep(KILLED_AFTER)
            await running.kill()
            await running.spawn()
            acknowledged = {each.number for each in await load if not each.failure}
            lost = await wait_for_messages(bench.doubles, acknowledged, delay + _QUIET)
    except (ContenderFailed, TimeoutError, OSError) as error:
        return Kill(contender=contender.key, delay=delay, failure=str(error) or type(error).__name__)
    return Kill(contender=contender.key, delay=delay, acknowledged=len(acknowledged), lost=lost)


async def wait_for_messages(doubles: LineProcess, acknowledged: set[int], quiet: float) -> int:
    """Return how many got no message; waits for all, or until no request came to a fake for `quiet` seconds."""
    loop = asyncio.get_running_loop()
    received, since, began = -1, loop.time(), loop.time()
    while True:
        report = await doubles.ask({"report": True})
        lost = len(acknowledged - set(report["told"]))
        now = loop.time()
        if report["received"] != received:
            received, since = report["received"], now
        if not lost or now - since > quiet or now - began > _LONGEST_WORK:
            return lost
        await asyncio.sleep(0.2)
