"""A fleet beside the whole of a rotation, step by step; and what its one message has said."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from bot.model.errors import BotError, SlackRefused
from bot.model.fleet import Count, Fleet, FleetState
from bot.rotation.fleet import FleetEngine
from bot.rotation.fleet_room import FleetRoom
from bot.sandbox.cloudflare import SANDBOX_ACCOUNT_ID
from bot.storage.fleets import Fleets, Started
from tests.rotation.rig import TTL, Process, Rig

USER, CHANNEL = "U1", "C1"
MOST_OPEN = 4
SECOND = timedelta(seconds=1)
_GONE = "message_not_found"


@dataclass(slots=True)
class Board:
    """The channel, as far as a fleet is concerned. What is in `errors` is raised first, one for each call."""

    counts: list[tuple[datetime, Count]] = field(default_factory=list)
    told: list[Count] = field(default_factory=list)
    posts: int = 0
    errors: list[BotError] = field(default_factory=list)
    is_gone: bool = False
    clock: Callable[[], datetime] = datetime.now
    is_posted: asyncio.Event = field(default_factory=asyncio.Event)

    async def post_fleet(self, count: Count) -> str | None:
        """Post it."""
        self._fail()
        self.posts += 1
        self.is_posted.set()
        self._keep(count)
        return None if self.is_gone else "1700000000.000100"

    async def update_fleet(self, count: Count) -> None:
        """Edit it."""
        self._fail()
        if self.is_gone:
            raise SlackRefused(_GONE)
        self._keep(count)

    async def tell_fleet_ended(self, count: Count) -> None:
        """Keep it."""
        self._fail()
        self.told.append(count)

    @property
    def last(self) -> Count:
        """What the message says."""
        return self.counts[-1][1]

    def _fail(self) -> None:
        if self.errors:
            raise self.errors.pop(0)

    def _keep(self, count: Count) -> None:
        self.counts.append((self.clock(), count))


class Worker:
    """The engine of one process, with memory of its own."""

    def __init__(self, rig: Rig, process: Process, board: Board) -> None:
        self.fleets = Fleets(rig.database, process.submissions, SANDBOX_ACCOUNT_ID, rig.clock)
        self.engine = FleetEngine(
            fleets=self.fleets,
            room=FleetRoom(process.tokens, process.installations, rig.quota, rig.clock),
            poster=board,
            clock=rig.clock,
            ttl=TTL,
            polls=False,
            most_open=MOST_OPEN,
        )


class FleetRig:
    """A rig, a board, and a worker; another one is another `Worker`."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.board = Board(clock=rig.clock)
        self.worker = Worker(rig, rig.process, self.board)

    @property
    def fleets(self) -> Fleets:
        """What is recorded."""
        return self.worker.fleets

    def propose(self, *buckets: str, others: tuple[str, ...] = ()) -> Fleet:
        """Return a fleet as the story proposes it; the buckets exist then."""
        for bucket in (*buckets, *others):
            self.rig.fake.add_bucket(bucket)
        return Fleet(
            id="f123456789",
            account_id=SANDBOX_ACCOUNT_ID,
            team_id="T1",
            user_id=USER,
            channel_id=CHANNEL,
            asked="team-*",
            state=FleetState.PROPOSED,
            buckets=buckets,
            others=others,
            proposed_at=self.rig.clock(),
        )

    async def begin(self, *buckets: str) -> Fleet:
        """Press the button, with a minter that has counted."""
        proposed = self.propose(*buckets)
        await self.rig.take_steps()
        await self.fleets.propose(proposed)
        assert await self.fleets.start(proposed, with_others=False) is Started.STARTED
        return proposed

    async def run_for(self, span: timedelta, step: timedelta = SECOND) -> None:
        """Let time pass, step by step."""
        end = self.rig.clock() + span
        while self.rig.clock() < end:
            await self.take_steps()
            self.rig.clock.advance(step)

    async def take_steps(self) -> None:
        """Let the worker look at its fleet, then everything take the steps that are due."""
        await self.worker.engine.work()
        await self.rig.take_steps()

    async def run_to_its_end(self, most: timedelta = timedelta(minutes=10), step: timedelta = SECOND) -> Fleet:
        """Go on until the fleet has ended, and return it."""
        end = self.rig.clock() + most
        while await self.fleets.current() is not None:
            assert self.rig.clock() < end, "it does not end"
            await self.run_for(SECOND, step)
        fleet = await self.fleets.find("f123456789")
        assert fleet is not None
        return fleet


def names(count: int) -> tuple[str, ...]:
    """Return the names of so many buckets."""
    return tuple(f"team-{number:03d}" for number in range(count))
