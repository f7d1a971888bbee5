"""People use the bot while a crowd sends it all that makes a port slow, some of it with Slack's signature."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Final

from bot.sandbox.tokens import Behaviour, make_token
from tests.attack.attack import Arena, Attack, Case
from tests.scene import CROWD, PLATFORM, Scene

_WITHIN: Final = 1.0
_ROUNDS: Final = 4
_PATIENCE: Final = 60.0


@asynccontextmanager
async def _crowd(scene: Scene) -> AsyncIterator[asyncio.subprocess.Process]:
    """Let the crowd come, and wait until it has sent every kind of body once."""
    port, secret = scene.environment["R2_CREDENTIAL_HTTP_PORT"], scene.slack.config.signing_secret
    command = (sys.executable, "-m", "tests.attack.crowd", port, secret)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_PATIENCE):
            await process.stdout.readline()
        yield process
        assert process.returncode is None, "the crowd left"
    finally:
        process.kill()
        await process.wait()


async def _time(work: Awaitable[object]) -> float:
    began = time.monotonic()
    await work
    return time.monotonic() - began


async def _use(scene: Scene) -> tuple[list[float], list[float]]:
    """Let people type the command and press Submit; return how long each answer took."""
    commands, submits = list[float](), list[float]()
    for number in range(_ROUNDS * len(CROWD)):
        user, bucket = CROWD[number % len(CROWD)], "analytics-events"
        commands.append(await _time(scene.slack.type_command(user, PLATFORM, f"/r2-credential {bucket}")))
        await scene.pass_notice(user)
        await scene.slack.fill(user, "token", make_token(Behaviour.GOOD, number=number))
        submits.append(await _time(scene.slack.submit(user)))
        await scene.slack.close(user)
    return commands, submits


async def be_served_meanwhile(arena: Arena) -> AsyncIterator[Case]:
    """Compare the slowest answers with those of the same work without the crowd."""
    async with arena.scene() as scene:
        quiet = await _use(scene)
        async with _crowd(scene):
            crowded = await _use(scene)
    for name, before, meanwhile in zip(("commands", "Submits"), quiet, crowded, strict=True):
        figures = f"slowest {max(meanwhile):.2f} s, without the crowd {max(before):.2f} s"
        yield Case.of(f"{len(meanwhile)} {name}: {figures}", took_down=max(meanwhile) > _WITHIN)


ATTACKS: Final = (Attack(name="people are served meanwhile", run=be_served_meanwhile),)
