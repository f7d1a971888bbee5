"""How a fleet uses what Cloudflare allows: many rotations in virtual time, over the real storage, delivery and minter.

`python -m tests.benchmarks.fleet [buckets] [lag]`: each token may make 1,200 requests in 300 s, and Cloudflare answers
after 0.15 s. It knows a new token at once, or after `lag` seconds: each time that it does not is more requests. A first
fleet gives each bucket a token of the bot's; the second one, which is measured, replaces it and takes it back after the
grace.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web

from bot.cloudflare.pace import LocalPace
from bot.delivery.run_inline import InlineDispatcher
from bot.model.catalog import BucketKey
from bot.model.fleet import Count, Fleet, FleetState, Outcome
from bot.rotation.fleet import FleetEngine
from bot.rotation.fleet_room import FleetRoom
from bot.sandbox.cloudflare import (
    SANDBOX_ACCOUNT_ID,
    SANDBOX_MINTING_TOKEN,
    FakeCloudflare,
    RateLimit,
    ReceivedRequest,
)
from bot.storage.fleets import Fleets, Started
from bot.storage.sqlite import SqliteDatabase
from tests.rotation.rig import GRACE, TTL, Process, Rig, Ways
from tests.virtual_time import LoopClock, TimelessDatabase, run_in_virtual_time

LIMIT: Final = RateLimit(requests=1200, window_seconds=300)
ANSWERS_AFTER: Final = 0.15
START: Final = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What Cloudflare saw of the second fleet. `used` are shares of what is allowed, after the first window."""

    buckets: int
    done: int
    minutes: float
    used: float
    refused: int
    by_bot: float
    by_minter: float
    edits: int
    live: int


class _Far:
    """The fake Cloudflare at a distance."""

    def __init__(self, fake: FakeCloudflare) -> None:
        self._fake = fake

    def now(self) -> datetime:
        """Return its time."""
        return self._fake.now()

    async def respond(self, received: ReceivedRequest) -> web.Response:
        """Answer after a while."""
        await asyncio.sleep(ANSWERS_AFTER / 2)
        answer = await self._fake.respond(replace(received, at=self._fake.now()))
        await asyncio.sleep(ANSWERS_AFTER / 2)
        return answer


class _Board:
    """Counts what would be posted."""

    def __init__(self) -> None:
        self.edits = 0
        self.is_over = asyncio.Event()
        self.last: Count | None = None

    async def post_fleet(self, count: Count) -> str:
        """Post the message."""
        self.last = count
        return "1700000000.000100"

    async def update_fleet(self, count: Count) -> None:
        """Edit it."""
        self.edits += 1
        self.last = count
        if count.is_over:
            self.is_over.set()

    async def tell_fleet_ended(self, count: Count) -> None:
        """Say so."""
        self.last = count


class World:
    """An account with so many catalogs, and a bot in which everything runs by itself."""

    def __init__(self, database: SqliteDatabase, buckets: int, lag: float) -> None:
        self.clock = LoopClock(START)
        loop = asyncio.get_running_loop()
        self.fake = FakeCloudflare(clock=self.clock, timer=loop.time)
        self.fake.tokens.quota = 3 * buckets + 100
        self.fake.tokens.known_after = lag
        self.names = tuple(f"bucket-{number:04d}" for number in range(buckets))
        for name in self.names:
            self.fake.add_bucket(name)
        timeless = TimelessDatabase(database)
        self.rig = Rig(timeless, self.clock, self.fake, quota=self.fake.tokens.quota)
        ways = Ways(database=timeless, server=_Far(self.fake), poster=self.rig.posts, pace=LocalPace)
        self.process = process = Process(self.rig, ways)
        self.board = _Board()
        self.fleets = Fleets(timeless, process.submissions, SANDBOX_ACCOUNT_ID, self.clock)
        self.engine = FleetEngine(
            fleets=self.fleets,
            room=FleetRoom(process.tokens, process.installations, self.rig.quota, self.clock),
            poster=self.board,
            clock=self.clock,
            ttl=TTL,
            polls=False,
        )
        self.fleets.wake_by(self.engine.wake)
        self.dispatcher = InlineDispatcher(process.work, self._find_unfinished, self.clock)
        process.submissions.wake_by(self.dispatcher.dispatch)
        process.submissions.watch(lambda change: process.minter.wake(change.submission.key))
        process.tokens.wake_minter_by(process.minter.wake)

    async def _find_unfinished(self) -> list[BucketKey]:
        return []

    async def run(self, stack: AsyncExitStack) -> None:
        """Let everything run until the stack ends it."""
        await self.process.house.look()
        for work in (self.engine.run(), self.process.minter.run()):
            task = asyncio.create_task(work)
            stack.callback(task.cancel)
        stack.push_async_callback(self.dispatcher.stop)
        stack.push_async_callback(self.process.aclose)

    async def rotate(self, fleet_id: str) -> float:
        """Rotate all, and return how many minutes that took."""
        began = self.clock()
        fleet = Fleet(
            id=fleet_id,
            account_id=SANDBOX_ACCOUNT_ID,
            team_id="T1",
            user_id="U1",
            channel_id="C1",
            asked="--all",
            state=FleetState.PROPOSED,
            buckets=self.names,
            proposed_at=began,
        )
        await self.fleets.propose(fleet)
        assert await self.fleets.start(fleet, with_others=False) is Started.STARTED
        await self.board.is_over.wait()
        self.board.is_over.clear()
        return (self.clock() - began) / timedelta(minutes=1)


async def measure(
    buckets: int,
    path: Path,
    note: Callable[[str], None] = lambda _: None,
    *,
    lag: float = 0.0,
    limit: RateLimit = LIMIT,
) -> Figures:
    """Run both fleets, and return what was seen of the second."""
    database = SqliteDatabase(path)
    database.start()
    try:
        async with AsyncExitStack() as stack:
            world = World(database, buckets, lag)
            await world.run(stack)
            note(f"first fleet: {await world.rotate('first'):.1f} minutes")
            await asyncio.sleep(3600)  # the windows are empty again
            return await _measure_second(world, limit)
    finally:
        database.stop()


async def _measure_second(world: World, limit: RateLimit) -> Figures:
    fake, buckets = world.fake, len(world.names)
    fake.limit = limit
    seen, edits, began = len(fake.requests), world.board.edits, asyncio.get_running_loop().time()
    minutes = await world.rotate("second")
    first_part = fake.requests[seen:]
    edits = world.board.edits - edits
    await asyncio.sleep((GRACE + timedelta(minutes=20)).total_seconds())
    later = began + limit.window_seconds
    everything = fake.requests[seen:]
    assert world.board.last is not None
    return Figures(
        buckets=buckets,
        done=len(world.board.last.of(Outcome.DONE)),
        minutes=minutes,
        used=_used([request for request in first_part if not _is_minters(request)], limit, later),
        refused=sum(at > later for at in fake.throttled_at),
        by_bot=sum(not _is_minters(request) for request in everything) / buckets,
        by_minter=sum(_is_minters(request) and not _is_look(request) for request in everything) / buckets,
        edits=edits,
        live=len(fake.tokens.list_live()),
    )


def _used(requests: list[ReceivedRequest], limit: RateLimit, later: float) -> float:
    """Return the share of the allowance that was used after the first window, as long as there was something to do."""
    times = [(request.at - START).total_seconds() for request in requests]
    after = [at for at in times if at > later]
    if not after:
        return 0.0
    return len(after) / (max(after) - later) * limit.window_seconds / limit.requests


def _is_minters(request: ReceivedRequest) -> bool:
    return request.headers.get("authorization") == f"Bearer {SANDBOX_MINTING_TOKEN}"


def _is_look(request: ReceivedRequest) -> bool:
    """Return whether it is housekeeping's: one for 50 tokens, once an hour."""
    return request.method == "GET" and not request.path.rpartition("/")[0].endswith("/tokens")


def main(buckets: int = 500, lag: float = 0.0) -> None:
    """Print the figures."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fleet-") as directory:
        figures = run_in_virtual_time(measure(buckets, Path(directory) / "bot.sqlite", print, lag=lag))
    print(f"second fleet of {figures.buckets}: {figures.done} rotated in {figures.minutes:.1f} minutes")
    print(f"requests for each: {figures.by_bot:.2f} by the bot's client, {figures.by_minter:.2f} by the minter's")
    print(f"of the allowance used after the first window: {figures.used:.1%}; 429 since then: {figures.refused}")
    print(f"edits of the message: {figures.edits}; live tokens in the end: {figures.live}")
    print(f"({time.monotonic() - began:.0f} s on this machine)")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
