"""Rotates buckets while processes are killed and frozen and Cloudflare is unreliable, and looks at what is left.

The bot is real processes over real sockets: on SQLite one of role all, on PostgreSQL a gateway, two workers and two
minters. Its clock runs `FACTOR` times as fast as the machine's (`tests.chaos.hasty`), for what waits for minutes and
hours by itself. People rotate, paste in between and do not always wait for the result; then all trouble ends, everyone
rotates once more, and everything comes to rest.

    python -m tests.chaos.rotations [sqlite|postgres] [rotations] [buckets] [seed]

Exits with 1 if anything of `tests.chaos.at_rest` does not hold.
"""

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from bot.sandbox.cloudflare import FakeCloudflare, RateLimit
from bot.sandbox.process import BotProcess, Role, bot_environment, find_free_port
from bot.sandbox.slack import FakeSlack
from bot.sandbox.workspace import PATIENCE, FakeSlackConfig, User, UserGroup
from bot.sealing.hpke import generate_private_key, load_private_keys, public_pem
from tests.chaos.at_rest import find_faults, wait_for_rest
from tests.chaos.hasty import HastyTime
from tests.chaos.rotating_people import Person
from tests.chaos.trouble import be_unreliable, kill_and_freeze
from tests.chaos.world import World
from tests.postgres import execute, running_postgres

FACTOR: Final = 40.0
GRACE: Final = "5m"
"""A shorter one than is safe: no process is frozen for longer here."""

PRESS_SECONDS: Final = 600
"""After so long, trouble ends even if not everyone has rotated as often as they were to."""

_POLICY: Final = """
[[rule]]
usergroups = ["S0CHAOS01"]
verbs = ["store", "check", "status", "history", "rotate"]
"""
FLEET: Final[tuple[Role, ...]] = ("gateway", "worker", "worker", "minter", "minter")
_NOT_OF: Final[dict[Role, tuple[str, ...]]] = {
    "all": (),
    "gateway": ("CLOUDFLARE_API_TOKEN", "CLOUDFLARE_MINTING_TOKEN", "R2_CREDENTIAL_SEALING_KEY"),
    "worker": ("SLACK_APP_TOKEN", "CLOUDFLARE_MINTING_TOKEN", "R2_CREDENTIAL_SEALING_PUBLIC_KEY"),
    "minter": ("SLACK_APP_TOKEN", "SLACK_BOT_TOKEN", "CLOUDFLARE_API_TOKEN", "R2_CREDENTIAL_SEALING_KEY"),
}
"""The settings that each role does not get."""


async def main(engine: str, rotations: int = 200, buckets: int = 10, seed: int | None = None) -> bool:
    """Run one engine, print the figures, and return whether everything holds."""
    seed = random.randrange(10**6) if seed is None else seed
    print(f"{engine}: {rotations} rotations over {buckets} buckets, seed {seed}", flush=True)
    started = time.monotonic()
    async with scene(engine, buckets, random.Random(seed)) as world:
        everyone = [Person(world, number) for number in range(buckets)]
        trouble = [asyncio.create_task(each) for each in (kill_and_freeze(world), be_unreliable(world))]
        try:
            async with asyncio.timeout(PRESS_SECONDS):
                await asyncio.gather(*(person.rotate_often(rotations // buckets) for person in everyone))
        except TimeoutError:
            print("  time for rotating is up", flush=True)
        for each in trouble:
            each.cancel()
        await asyncio.gather(*trouble, return_exceptions=True)
        world.cloudflare.forget_failures()
        await asyncio.gather(*(person.rotate_at_last() for person in everyone))
        await wait_for_rest(world)
        faults = await find_faults(world)
        world.print_figures(time.monotonic() - started)
        print("\n".join(f"  FAILED: {fault}" for fault in faults) or "  all holds", flush=True)
        return not faults


@asynccontextmanager
async def scene(
    engine: str,
    buckets: int,
    dice: random.Random,
    dress: Callable[[dict[str, str]], dict[str, str]] = lambda environment: environment,
    roles: Sequence[Role] = FLEET,
) -> AsyncIterator[World]:
    """Set up the fakes and the processes, all in one hasty time; `dress` changes the environment of each.

    On SQLite there is one process, whatever the `roles`.
    """
    clock = HastyTime.begin(FACTOR)
    people = tuple(User(id=f"U0CHAOS{at:02d}", name=f"p{at}", real_name=f"P {at}") for at in range(buckets))
    group = UserGroup(id="S0CHAOS01", handle="chaos", members=tuple(person.id for person in people))
    config = FakeSlackConfig(users=(*FakeSlackConfig().users, *people), user_groups=(group,), trigger_lifetime=PATIENCE)
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-rotate-")))
        directory.chmod(0o711)  # the PostgreSQL server does not run as root
        fake = FakeCloudflare(clock=clock, timer=clock.timer, limit=RateLimit(requests=10**6, window_seconds=10))
        cloudflare = await stack.enter_async_context(fake)
        slack = await stack.enter_async_context(FakeSlack(config))
        world = World(
            slack=slack,
            cloudflare=cloudflare,
            directory=directory,
            time=clock,
            dice=dice,
            buckets=[f"chaos-{at:02d}" for at in range(buckets)],
        )
        for bucket in world.buckets:
            cloudflare.add_bucket(bucket)
        for name in world.foreign:
            cloudflare.tokens.add(name, [])
        environment = _environment(world)
        if engine == "postgres":
            url = environment["R2_CREDENTIAL_DATABASE_URL"] = stack.enter_context(
                running_postgres(directory / "postgres")
            )
            world.postgres_url = url
            await asyncio.to_thread(execute, url, clock.tell_by_server())
        output = stack.enter_context((directory / "printed").open("wb"))
        for role in roles if engine == "postgres" else ("all",):
            given = dress({name: value for name, value in environment.items() if name not in _NOT_OF[role]})
            given["R2_CREDENTIAL_HTTP_PORT"] = str(find_free_port())
            bot = BotProcess(given, directory, output, role, module="tests.chaos.hasty_bot")
            world.fleet.append(bot)
            stack.push_async_callback(bot.kill)
            await bot.start()
            if not await bot.wait_until_ready():
                sys.exit((directory / "printed").read_text())
        if world.postgres_url:
            await asyncio.to_thread(execute, world.postgres_url, clock.translate_due_times())
        yield world


def _environment(world: World) -> dict[str, str]:
    """Return the settings of all roles together."""
    policy = world.directory / "policy.toml"
    policy.write_text(_POLICY, encoding="utf-8")
    policy.chmod(0o600)
    environment = bot_environment(world.slack, world.cloudflare, world.directory / "data", "socket", 0)
    key = generate_private_key()
    for name in ("R2_CREDENTIAL_ALLOWED_USERGROUPS", "R2_CREDENTIAL_ALLOW_ENABLE"):
        del environment[name]
    return (
        environment
        | world.time.environment()
        | {
            "CLOUDFLARE_MINTING_TOKEN": world.cloudflare.minting_token,
            "R2_CREDENTIAL_POLICY": str(policy),
            "R2_CREDENTIAL_ROTATE_GRACE": GRACE,
            "R2_CREDENTIAL_AUDIT_KEY": "MADEUP-audit-key-5a4db0c35a4db0c35a4db0c3",
            "R2_CREDENTIAL_SEALING_KEY": key,
            "R2_CREDENTIAL_SEALING_PUBLIC_KEY": public_pem(load_private_keys(key)[0]),
        }
    )


if __name__ == "__main__":
    engines = [sys.argv[1]] if len(sys.argv) > 1 else ["sqlite", "postgres"]
    results = [asyncio.run(main(engine, *map(int, sys.argv[2:]))) for engine in engines]
    sys.exit(not all(results))
