"""What is tried in an environment that holds the wheel and the locked versions alone: its own Python runs this file."""

import asyncio
import importlib
import pkgutil
import tempfile
from pathlib import Path

import bot
from bot.sandbox.cloudflare import FakeCloudflare
from bot.sandbox.process import BotProcess, bot_environment, find_free_port
from bot.sandbox.run import furnish
from bot.sandbox.slack import FakeSlack
from bot.sandbox.tokens import Behaviour, make_token

ADA = "U0ADA0001"
PLATFORM = "C0DATAPLT"
BUCKET = "analytics-events"
TOKEN = make_token(Behaviour.GOOD, number=1)


async def main() -> None:
    """Store a token through the whole bot, which is a process of its own, and stop it; raises where something fails."""
    import_everything()
    async with FakeSlack() as slack, FakeCloudflare() as cloudflare:
        furnish(cloudflare)
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            environment = bot_environment(slack, cloudflare, directory / "data", "socket", find_free_port())
            with (directory / "printed").open("wb") as output:
                process = BotProcess(environment, directory, output)
                await process.start()
            try:
                expect(await process.wait_until_ready(), (directory / "printed").read_text())
                await store(slack)
                expect(cloudflare.stored_token(BUCKET) == TOKEN, "the slot holds something else")
            finally:
                exit_code = await process.stop()
            expect(exit_code == 0, (directory / "printed").read_text())


def import_everything() -> None:
    """Import each module, those for PostgreSQL too."""
    for module in pkgutil.walk_packages(bot.__path__, "bot."):
        if module.name != "bot.__main__":
            importlib.import_module(module.name)


async def store(slack: FakeSlack) -> None:
    """Do what a person does, and wait for the result in the channel."""
    await slack.wait_for_connections()
    await slack.type_command(ADA, PLATFORM, f"/r2-credential {BUCKET}")
    await slack.wait_for_view(ADA)
    await slack.fill(ADA, "token", TOKEN)
    await slack.submit(ADA)
    await slack.wait_for_message(PLATFORM, lambda message: "stored a new credential" in message.text)


def expect(is_so: bool, otherwise: str) -> None:  # noqa: FBT001 - reads like an assertion, which -O would remove
    """Raise AssertionError unless it is so."""
    if not is_so:
        raise AssertionError(otherwise)


if __name__ == "__main__":
    asyncio.run(main())
