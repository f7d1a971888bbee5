"""Tokens that the bot makes come to every end; afterwards all that is left is searched for them, in every encoding.

Thorough, and in a time that passes faster. Each library logs all that it can, and errors are noted with the local
variables of each frame.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
import pytest_asyncio

from bot.sandbox.account_tokens import MINTED_MARK
from tests.aftermath import look_at, out_of_place, read_files
from tests.benchmarks.memory_copies import middle_of
from tests.chaos.rotating_people import Person
from tests.chaos.rotations import scene
from tests.chaos.world import World
from tests.leaks import find_leaks
from tests.postgres import execute
from tests.talkative import talkative, tracked

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.thorough]

ENDS_AFTER = 240
"""Seconds; nothing here takes so long."""

PLACES = ("printed", "files while running", "files", "database", "traffic", "tracker", "processes", "cloudflare")


@dataclass(slots=True, kw_only=True)
class Left:
    """What was left in each place, the tokens that were made, and the tokens of the settings."""

    places: Mapping[str, bytes]
    values: list[str]
    minting_token: str
    endings: set[tuple[object, ...]]
    states: set[object]
    may_expire: bool


class Walk:
    """Takes one bucket after another to its end."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._people = (Person(world, number) for number in count())

    async def to_the_end(self, arrange: Callable[[], object] = lambda: None) -> None:
        """Rotate one more bucket, with whatever goes wrong."""
        arrange()
        person = next(self._people)
        await person.wait_for(await person.rotate())
        self.world.cloudflare.forget_failures()

    async def every_way(self) -> None:
        """Take each way."""
        cloudflare = self.world.cloudflare
        flaws, fail = cloudflare.tokens.flaws, cloudflare.fail_next
        await self.undo()
        for flaw in ("invalid", "refused", "useless"):
            await self.to_the_end(lambda flaw=flaw: flaws.append(flaw))  # type: ignore[misc]  # mypy cannot infer it
        await self.to_the_end(lambda: fail("create_token", drop_after_store=True))
        await self.to_the_end(lambda: fail("create_token", status=400, code=1001))
        await self.supersede()
        await self.strike()
        await self.to_the_end(lambda: fail("create_token", status=503, times=1000))  # until its time is over
        if self.world.postgres_url:
            await self.expire()

    async def undo(self) -> None:
        """Rotate twice, and put the first token back as a stranger would: the bot needs it, and makes a third one."""
        person, world = next(self._people), self.world
        bucket = world.buckets[0]
        for _ in "12":
            await person.wait_for(await person.rotate())
        first = next(token for token in world.cloudflare.tokens.tokens.values() if f" {bucket} " in token.name)
        world.cloudflare.buckets[bucket].token = first.value
        healed = "SELECT 1 FROM submissions WHERE id LIKE 'heal.%' AND state = 'stored' AND reported_at IS NOT NULL"
        await until(lambda: world.rows(healed))

    async def supersede(self) -> None:
        """Paste a token while one is being made."""
        self.world.cloudflare.fail_next("create_token", delay=3.0)
        person = next(self._people)
        rotation = await person.rotate()
        await person.paste()
        await person.wait_for(rotation)

    async def strike(self) -> None:
        """Kill the process that makes a token while it waits for the answer, and start it again."""
        world, minter = self.world, self.world.fleet[-1]
        world.cloudflare.fail_next("create_token", delay=3.0)
        before, person = _creates(world), next(self._people)
        rotation = await person.rotate()
        await until(lambda: _later(_creates(world) > before))
        await minter.kill()
        await minter.start()
        await person.wait_for(rotation)

    async def expire(self) -> None:
        """Rotate while nobody makes tokens."""
        minter, person = self.world.fleet[-1], next(self._people)
        await minter.kill()
        await person.wait_for(await person.rotate())
        await minter.start()
        assert await minter.wait_until_ready()


def _creates(world: World) -> int:
    return sum(each.method == "POST" and each.path.endswith("/tokens") for each in world.cloudflare.requests)


async def _later(value: object) -> object:
    return value


async def until(look: Callable[[], Awaitable[object]]) -> None:
    """Look until there is something."""
    async with asyncio.timeout(ENDS_AFTER):
        while not await look():  # noqa: ASYNC110 - neither a row nor a file has an event
            await asyncio.sleep(0.2)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["sqlite", "postgres"])
async def left(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Left]:
    """Take tokens to every end, then stop all processes; on PostgreSQL, the server logs each statement."""
    noted, numbers = tmp_path_factory.mktemp("notes"), count()

    def dress(environment: dict[str, str]) -> dict[str, str]:
        more = {"R2_CREDENTIAL_LOG_LEVEL": "debug", "R2_CREDENTIAL_TTL": "20m"}
        return talkative(environment | more, noted / str(next(numbers)))

    dice = random.Random(1)  # noqa: S311 - nobody throws them
    async with scene(request.param, 10, dice, dress, ("gateway", "worker", "minter")) as world:
        if world.postgres_url:
            for statement in ("ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()"):
                execute(world.postgres_url, statement)
        await Walk(world).every_way()
        files = [path for path in world.directory.iterdir() if path.name not in ("printed", "postgres")]
        running = read_files(files)
        processes = b"".join(look_at(Path(f"/proc/{bot.pid}")) for bot in world.fleet)
        endings = {*await world.rows("SELECT DISTINCT task, state FROM submissions")}
        states = {state for (state,) in await world.rows("SELECT DISTINCT state FROM minted_tokens")}
        assert {await bot.stop() for bot in world.fleet} <= {0, -15}
        if world.postgres_url:
            execute(world.postgres_url, "CHECKPOINT")
        places = {
            "printed": read_files([world.directory / "printed"]),
            "files while running": running,
            "files": read_files(files),
            "database": read_files([world.directory / name for name in ("postgres/data", "postgres/log", "data")]),
            "traffic": world.slack.traffic_received(),
            "tracker": b"".join(map(tracked, noted.iterdir())),
            "processes": processes,
            "cloudflare": out_of_place(world.cloudflare),
        }
        values = [token.value for token in world.cloudflare.tokens.tokens.values() if MINTED_MARK in token.value]
        yield Left(
            places=places,
            values=values,
            minting_token=world.cloudflare.minting_token,
            may_expire=bool(world.postgres_url),
            endings=endings,
            states=states,
        )


@pytest.mark.parametrize("place", PLACES)
async def test_no_token_that_was_made_is_left_anywhere(left: Left, place: str) -> None:
    """In no encoding, not even in part; at Cloudflare, nowhere but in the header or the body for it."""
    found = left.places[place]

    assert found
    assert find_leaks(found, MINTED_MARK) == []
    assert [value for value in left.values if find_leaks(found, middle_of(value))] == []


@pytest.mark.parametrize("place", PLACES)
async def test_the_token_that_makes_tokens_is_left_nowhere(left: Left, place: str) -> None:
    """Neither in a log nor in a file, and not in the environment of the process that has it."""
    assert find_leaks(left.places[place], left.minting_token) == []


async def test_every_end_was_really_reached(left: Left) -> None:
    """The records, the log and the noted errors have them all."""
    of_rotations = {"stored", "failed", "superseded", *(["expired"] if left.may_expire else [])}
    assert {*((("rotate", ending)) for ending in of_rotations), ("store", "stored")} <= left.endings
    assert {"proven", "retired", "lost"} & left.states
    for event in (b"token_minted", b"token_not_minted", b"token_lost", b"token_enabled_again", b"rotation_asked_again"):
        assert event in left.places["printed"]
    for room in (b"\nbot.rotation.", b"\nbot.delivery.", b"Secret("):
        assert room in left.places["tracker"]
    assert len(left.values) >= 10
