"""What goes wrong in `tests.chaos.rotations`, until it is cancelled."""

import asyncio
import os
import signal
import time
from typing import Final

from bot.sandbox.account_tokens import Flaw
from bot.sandbox.cloudflare import Kind
from bot.sandbox.failures import Failure
from bot.sandbox.process import BotProcess
from tests.chaos.world import World

BETWEEN_STRIKES: Final = (0.5, 3.0)
"""Seconds in which a process is ready, between two strikes at any."""

FROZEN: Final = (0.5, 4.0)
"""Seconds: less than the grace, within which a request that was held up so long still does no harm."""

_BETWEEN_FAULTS: Final = (4, 20)
"""Requests."""

_LOOK_EVERY: Final = 0.05
_LONGEST_LAG: Final = 60.0
"""Seconds by the bot's clock: Cloudflare's own figure."""

_LATEST_LANDING: Final = 100.0
_CALLS: Final[tuple[Kind, ...]] = (
    "create_token", "create_token", "update_token", "delete_token", "get_token", "list_tokens", "credential", "status",
    "verify", "list", "read",
)  # fmt: skip
_WRITES: Final = frozenset({"create_token", "update_token", "delete_token", "credential"})
_FLAWS: Final[tuple[Flaw | None, ...]] = (None,) * 24 + ("useless", "refused", "invalid")


async def kill_and_freeze(world: World) -> None:
    """Strike one process after another, each a moment after it was ready: kill it and start it again, or freeze it."""
    async with asyncio.TaskGroup() as group:
        victims = world.fleet[1:] or world.fleet  # of several processes, the gateway is left alone
        for bot in victims:
            group.create_task(_strike_often(world, bot, len(victims)))


async def _strike_often(world: World, bot: BotProcess, victims: int) -> None:
    while True:
        await bot.wait_until_ready()
        await asyncio.sleep(world.dice.uniform(*BETWEEN_STRIKES) * victims)
        strike = world.dice.choice((_kill, _kill, _freeze))
        await strike(world, bot)


async def _kill(world: World, bot: BotProcess) -> None:
    await bot.kill()
    world.done["kills"] += 1
    world.struck_at.append(time.time())
    await bot.start()


async def _freeze(world: World, bot: BotProcess) -> None:
    os.kill(bot.pid, signal.SIGSTOP)
    world.done["freezes"] += 1
    world.struck_at.append(time.time())
    try:
        await asyncio.sleep(world.dice.uniform(*FROZEN))
    finally:
        os.kill(bot.pid, signal.SIGCONT)
        world.struck_at.append(time.time())


async def be_unreliable(world: World) -> None:
    """Let Cloudflare learn late of what it did, lose answers, throttle, be slow or down, and make weak tokens."""
    dice, cloudflare = world.dice, world.cloudflare
    tokens = cloudflare.tokens
    while True:
        quiet_until = len(cloudflare.requests) + dice.randint(*_BETWEEN_FAULTS)
        while len(cloudflare.requests) < quiet_until:
            await asyncio.sleep(_LOOK_EVERY)
        tokens.known_after, tokens.unknown_after, tokens.listed_after = (dice.uniform(0, _LONGEST_LAG) for _ in "123")
        kind = dice.choice(_CALLS)
        cloudflare.forget_failures()  # of a kind that nobody asked for
        cloudflare.fail_next(kind, **_failure(world, kind))
        world.done["faults of Cloudflare"] += 1
        if not tokens.flaws:
            tokens.flaws.append(dice.choice(_FLAWS))


def _failure(world: World, kind: Kind) -> Failure:
    dice = world.dice
    kinds: list[Failure] = [
        {"status": 503},
        {"status": 429, "retry_after": 1},
        {"delay": dice.uniform(0.1, 1.0)},
        {"drop_before_store": True},
    ]
    if kind in _WRITES:
        kinds += [{"drop_after_store": True}, {"lands_after": dice.uniform(0, _LATEST_LANDING)}] * 2
    return dice.choice(kinds)
