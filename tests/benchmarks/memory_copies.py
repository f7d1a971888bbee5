"""How often a token is left in the bot's memory after its submission ended, and how often the bot's own credentials.

In the whole memory of the unchanged process, freed blocks included, and also without what has them overwritten. A text
is found by its middle in UTF-8; JSON, a form and a header have it in the same bytes, since nothing in it is escaped.
An argument chooses one of the transports.
"""

import asyncio
import itertools
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from yarl import URL

from bot.operations.freed_memory import ALLOCATOR
from bot.sandbox.process import Transport
from bot.sandbox.tokens import Behaviour, make_token
from tests.process_memory import MemoryDoor, ProcessMemory
from tests.scene import ADA, CROWD, Scene, open_scene
from tests.tls import Authority, make_authority, terminate_tls

ONE_BY_ONE: Final = 20
TOGETHER: Final = len(CROWD)
REST_SECONDS: Final = 6
"""Longer than a kept connection lives."""

OWN: Final = ("SLACK_BOT_TOKEN", "SLACK_APP_TOKEN", "SLACK_SIGNING_SECRET", "CLOUDFLARE_API_TOKEN")
LEFT_AS_FREED: Final = {ALLOCATOR: "pymalloc"}
"""The allocator that Python has by default: the bot does not start itself again, and warns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Copies at rest: of all tokens together, of the token with the most, and of each own credential."""

    tokens: int
    most: int
    own: Mapping[str, int]


async def main() -> None:
    """Print a line for each transport, with freed memory overwritten and without."""
    print(f"copies in memory after {ONE_BY_ONE + TOGETHER} submissions that ended in every way")
    for transport in [each for each in get_args(Transport) if each in sys.argv[1:] or not sys.argv[1:]]:
        for name, settings in (("", {}), (" (not overwritten)", LEFT_AS_FREED)):
            left = await measure(transport, ONE_BY_ONE, TOGETHER, settings)
            own = ", ".join(f"{name} {count}" for name, count in left.own.items())
            print(f"{transport + name:28}{left.tokens:3} of all tokens, {left.most:2} of one; own: {own}", flush=True)


async def measure(
    transport: Transport, one_by_one: int, together: int, settings: Mapping[str, str] | None = None
) -> Left:
    """Send tokens one after the other, then several at once that end in every way, and count what is left of each."""
    async with running_bot(transport, settings or {}) as (scene, memory):
        tokens = await send_all(scene, one_by_one, together)
        await asyncio.sleep(REST_SECONDS)
        found = memory.count([middle_of(token) for token in tokens])
        own = {name: scene.environment[name] for name in OWN if name in scene.environment}
        counted = memory.count(list(own.values()))
        return Left(
            tokens=sum(found.values()),
            most=max(found.values()),
            own={name: counted[value] for name, value in own.items()},
        )


async def send_all(scene: Scene, one_by_one: int, together: int) -> list[str]:
    """Send good tokens one by one, then some at once, each with another behaviour; return all once all have ended."""
    ways = [Behaviour.GOOD] * one_by_one + [*itertools.islice(itertools.cycle(Behaviour), together)]
    tokens = [make_token(way, 771_300 + number) for number, way in enumerate(ways)]
    for number in range(one_by_one):
        await send(scene, number, tokens[number], ADA)
    await asyncio.gather(*(send(scene, one_by_one + at, tokens[one_by_one + at], CROWD[at]) for at in range(together)))
    return tokens


def middle_of(token: str) -> str:
    """Return the part that tells tokens apart, without the ends, which the next use of a block overwrites first."""
    return token[-16:-2]


@asynccontextmanager
async def running_bot(transport: Transport, settings: Mapping[str, str]) -> AsyncIterator[tuple[Scene, ProcessMemory]]:
    """Start the bot, and open its memory."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        (directory / "door").mkdir()
        door = MemoryDoor(directory / "door")
        async with (
            open_scene(transport, directory, {"R2_CREDENTIAL_TTL": "10s", **settings}) as scene,
            over_tls(scene, make_authority(directory)),
        ):
            scene.environment = door.environment(scene.environment)
            await scene.start_ready_bot()
            memory = door.receive()
            yield scene, memory
            memory.close()


@asynccontextmanager
async def over_tls(scene: Scene, authority: Authority) -> AsyncIterator[None]:
    """Let the bot reach Slack and Cloudflare over TLS, whose buffers hold plain text as well."""
    api, cloudflare = URL(scene.slack.api_url), URL(scene.cloudflare.base_url)
    async with (
        terminate_tls(authority, api.port or 0) as api_port,
        terminate_tls(authority, cloudflare.port or 0) as cloudflare_port,
    ):
        scene.slack._web_api.base_url = f"https://localhost:{api_port}"
        scene.environment |= {
            "SSL_CERT_FILE": str(authority.ca_file),
            "SLACK_API_URL": f"https://localhost:{api_port}{api.path}",
            "CLOUDFLARE_BASE_URL": f"https://localhost:{cloudflare_port}{cloudflare.path}",
        }
        yield


async def send(scene: Scene, number: int, token: str, user: str) -> None:
    """Submit a token, and wait until the channel has been told how that ended."""
    bucket = f"copies-{number:03d}"
    scene.cloudflare.add_bucket(bucket)
    await scene.submit(bucket, token, user=user)
    await scene.wait_for_result(bucket)


if __name__ == "__main__":
    asyncio.run(main())
