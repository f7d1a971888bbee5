"""Runs the bot as its command `run` does, but in a time that passes faster (`tests.chaos.hasty`).

    HASTY_TIME="..." python -m tests.chaos.hasty_bot run --role all|gateway|worker|minter

The unchanged parts, joined by the unchanged composition root, which takes a clock: `run` itself has no way to set one.
"""

import asyncio
import os
import sys

from bot.app import running
from bot.command_line import forget_secrets
from bot.model.role import Role
from bot.operations.logs import configure_logging
from bot.settings import Settings, load_settings
from tests.chaos.hasty import HastyTime


async def live(settings: Settings, time: HastyTime) -> None:
    """Run until killed, or until a part breaks."""
    async with running(settings, clock=time) as bot:
        forever = asyncio.ensure_future(asyncio.Event().wait())
        done, _ = await asyncio.wait([forever, *bot.background], return_when=asyncio.FIRST_COMPLETED)
        for broken in done:
            broken.result()


def main(role: str) -> None:
    """Read the settings, and run."""
    time = HastyTime.of(dict(os.environ))
    loaded = load_settings(role=Role(role))
    forget_secrets()
    configure_logging(loaded.settings.log_level, "json")
    sys.setswitchinterval(0.001)
    with asyncio.Runner(loop_factory=time.loop) as runner:
        runner.run(live(loaded.settings, time))


if __name__ == "__main__":
    main(sys.argv[-1])
