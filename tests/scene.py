"""A workspace, an account, and between them the unchanged bot as a separate process, over either transport."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bot.sandbox.answers import SubmitOutcome
from bot.sandbox.cloudflare import FakeCloudflare
from bot.sandbox.process import BotProcess, Transport, bot_environment, find_free_port
from bot.sandbox.run import furnish
from bot.sandbox.slack import FakeSlack
from bot.sandbox.tokens import READY_MADE_TOKENS
from bot.sandbox.workspace import PATIENCE, FakeSlackConfig, Message, User, UserGroup
from bot.slack.stories import no_catalog, rotate

ADA = "U0ADA0001"
GRACE = "U0GRACE01"
MALLORY = "U0MALLORY"
PLATFORM = "C0DATAPLT"
"""A channel that the bot is a member of."""

CROWD = tuple(f"U0CROWD{number:02d}" for number in range(len(READY_MADE_TOKENS)))
"""Users of the bot, so that many forms can be open at once."""

SLOW_SECONDS = 0.5
"""How long Cloudflare takes to answer a slow token."""

_CONFIG = FakeSlackConfig()


@dataclass(slots=True, kw_only=True)
class Scene:
    """A workspace, an account and a bot between them."""

    transport: Transport
    slack: FakeSlack
    cloudflare: FakeCloudflare
    directory: Path
    environment: dict[str, str]
    bots: list[BotProcess] = field(default_factory=list)

    @property
    def bot(self) -> BotProcess:
        """Return the bot that was started last."""
        return self.bots[-1]

    @property
    def data_dir(self) -> Path:
        """Return the bot's data directory."""
        return Path(self.environment["R2_CREDENTIAL_DATA_DIR"])

    async def start_bot(self, changes: Mapping[str, str] | None = None) -> BotProcess:
        """Start a bot, with the settings in `changes` on top; it is not ready yet."""
        with self._log_path.open("ab") as output:
            environment = {**self.environment, **(changes or {})}
            bot = BotProcess(environment, self.directory, output, stop_patience=PATIENCE)
            self.bots.append(bot)
            await bot.start()
        return bot

    async def run_bot_to_its_end(self, changes: Mapping[str, str] | None = None) -> int:
        """Start a bot that cannot run, and return its exit code."""
        bot = await self.start_bot(changes)
        async with asyncio.timeout(PATIENCE.total_seconds()):
            return await bot.wait()

    async def start_ready_bot(self) -> BotProcess:
        """Start a bot and wait until it is ready."""
        bot = await self.start_bot()
        assert await bot.wait_until_ready(), self.printed().decode()
        if self.transport == "socket":
            await self.slack.wait_for_connections()
        return bot

    def printed(self) -> bytes:
        """Return everything that the scene's bots wrote to stdout and stderr."""
        return self._log_path.read_bytes() if self._log_path.exists() else b""

    async def open_form(self, bucket: str, *, user: str = ADA, channel: str = PLATFORM) -> None:
        """Type the command and open the form for a bucket, even if its catalog is not listed."""
        outcome = await self.slack.type_command(user, channel, f"/r2-credential {bucket}")
        assert outcome.message is None, outcome.message
        assert outcome.failure is None
        await self.pass_notice(user)

    async def pass_notice(self, user: str) -> None:
        """Open the form anyway if the list does not have the catalog yet, as with a bucket that was just added."""
        view = await self.slack.wait_for_view(user)
        there = {each.get("action_id") for block in view.blocks for each in block.get("elements", [])}
        for action_id in there & {no_catalog.OPEN_ANYWAY, rotate.OPEN_ANYWAY}:
            await self.slack.click(user, view, action_id)
            await self.slack.wait_for_view(user, lambda view: view.has_submit)

    async def submit(
        self, bucket: str, token: str, *, user: str = ADA, channel: str = PLATFORM, to: str | None = None
    ) -> SubmitOutcome:
        """Do everything from the command to pressing Store, with the result to be posted to the channel `to`."""
        await self.open_form(bucket, user=user, channel=channel)
        await self.slack.fill(user, "token", token)
        if to is not None:
            await self.slack.fill(user, "channel", to)
        return await self.slack.submit(user)

    async def wait_for_result(self, bucket: str, channel: str = PLATFORM) -> Message:
        """Return the message with a bucket's result."""
        return await self.slack.wait_for_message(channel, lambda message: is_result(message, bucket))

    def results(self, bucket: str) -> list[Message]:
        """Return all messages with a bucket's result, in any channel."""
        return [message for message in self.slack.workspace.messages if is_result(message, bucket)]

    async def wait_until_printed(self, word: str) -> str:
        """Return the output once it contains `word`: the log may be written a little after the event it reports."""
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while word.encode() not in self.printed():  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.02)
        return self.printed().decode()

    @property
    def _log_path(self) -> Path:
        return self.directory / "printed"


def is_result(message: Message, bucket: str) -> bool:
    """Say whether this message of the bot is the result for this bucket."""
    return message.bot_id is not None and f"`{bucket}`" in message.text


async def press_rotate(scene: Scene, bucket: str, user: str = ADA) -> str:
    """Rotate a bucket, as soon as a minter has said that it is there, and return the submission's id."""
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while (await scene.slack.type_command(user, PLATFORM, f"/r2-credential rotate {bucket}")).message:  # noqa: ASYNC110 - it is only told when asked
            await asyncio.sleep(0.2)
    await scene.pass_notice(user)
    view = await scene.slack.wait_for_view(user, lambda view: view.has_submit)
    answer = await scene.slack.submit(user)
    assert answer.kind == "updated", answer
    return view.id


class SetScene(Protocol):
    """Makes a scene whose bot is not started yet; stops all its bots at the end."""

    def __call__(
        self, transport: Transport, directory: Path, settings: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[Scene]:
        """Put the bot's files into `directory`; `settings` override those of the sandbox."""


@asynccontextmanager
async def open_scene(
    transport: Transport, directory: Path, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Scene]:
    """Make a scene; see `SetScene`."""
    crowd = tuple(User(id=user_id, name=user_id.lower(), real_name=user_id) for user_id in CROWD)
    engineers = UserGroup(id="S0DATAENG", handle="data-engineers", members=(ADA, GRACE, *CROWD))
    config = FakeSlackConfig(
        users=(*_CONFIG.users, *crowd),
        user_groups=(engineers,),
        answer_timeout=PATIENCE,  # no duration is asserted: a busy machine is not the bot's fault
        trigger_lifetime=PATIENCE,
    )
    async with FakeCloudflare() as cloudflare, FakeSlack(config) as slack, AsyncExitStack() as stack:
        cloudflare.slow_delay, cloudflare.retry_after, cloudflare.fresh_seconds = SLOW_SECONDS, 1, 1.0
        furnish(cloudflare)
        port = find_free_port()
        if transport == "http":
            slack.request_url = f"http://127.0.0.1:{port}/slack/events"
        environment = bot_environment(slack, cloudflare, directory / "data", transport, port)
        environment |= {"R2_CREDENTIAL_FRESH_TOKEN_PATIENCE": "4s"} | dict(settings or {})
        scene = Scene(
            transport=transport, slack=slack, cloudflare=cloudflare, directory=directory, environment=environment
        )
        stack.push_async_callback(_end_bots, scene)
        yield scene


async def _end_bots(scene: Scene) -> None:
    for bot in scene.bots:
        await bot.kill()
