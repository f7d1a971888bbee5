"""The two fakes, people, and between them the bot in a container."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from uuid import uuid4

import aiohttp

from bot.sandbox.process import find_free_port
from bot.sandbox.workspace import PATIENCE
from tests.image.engine import Container, EngineError
from tests.scene import ADA, Scene, open_scene

SECRETS: Final = ("SLACK_BOT_TOKEN", "SLACK_APP_TOKEN", "CLOUDFLARE_API_TOKEN")
_NOT_FOR_A_CONTAINER: Final = {"PATH", "PYTHONPATH", "R2_CREDENTIAL_DATA_DIR"}
_ON_THIS_MACHINE: Final = {"R2_CREDENTIAL_HTTP_HOST": "127.0.0.1", "R2_CREDENTIAL_METRICS_HOST": "127.0.0.1"}
"""The container shares the network of this machine, where nobody else should reach it."""

_PAUSE: Final = 0.05


@dataclass(slots=True, kw_only=True)
class Stage:
    """What the steps act on, and what they found."""

    scene: Scene
    container: Container
    metrics_port: int = field(default_factory=find_free_port)
    submitted: dict[str, str] = field(default_factory=dict)
    """The token of each bucket."""

    broken: list[str] = field(default_factory=list)

    def note(self, what: str, *, held: bool = True, figure: str = "") -> None:
        """Print what was found, and remember it if it is not as promised."""
        print(f"{what:58}{'ok' if held else 'BROKEN':8}{figure}", flush=True)
        if not held:
            self.broken.append(what)

    @property
    def secrets(self) -> list[str]:
        """Everything that may appear nowhere."""
        return [*(self.scene.environment[name] for name in SECRETS), *self.submitted.values()]

    async def create(self) -> None:
        """Create the container with the scene's settings, its secrets as files."""
        environment = {name: value for name, value in self.scene.environment.items() if name not in SECRETS}
        settings = {name: value for name, value in environment.items() if name not in _NOT_FOR_A_CONTAINER}
        secrets = {name: self.scene.environment[name] for name in SECRETS}
        metrics = {"R2_CREDENTIAL_METRICS_PORT": str(self.metrics_port)}
        await self.container.create(settings | _ON_THIS_MACHINE | metrics, secrets)

    async def wait_until_ready(self) -> float:
        """Wait until `/readyz` says yes and the fake Slack is connected, and return for how many seconds.

        Raises EngineError with the log if the container ends.
        """
        began = time.monotonic()
        url = f"http://127.0.0.1:{self.scene.environment['R2_CREDENTIAL_HTTP_PORT']}/readyz"
        async with aiohttp.ClientSession() as http, asyncio.timeout(PATIENCE.total_seconds()):
            while not await _says_yes(http, url):
                if not (await self.container.inspect())["State"]["Running"]:
                    message = f"the container ended:\n{(await self.container.logs()).decode()}"
                    raise EngineError(message)
                await asyncio.sleep(_PAUSE)
        await self.scene.slack.wait_for_connections()
        return time.monotonic() - began

    async def ask_metrics(self) -> bytes:
        """Return what Prometheus would read."""
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{self.metrics_port}/metrics") as answer:
            return await answer.read()

    async def fill_form(self, token: str) -> str:
        """Let a person paste a token into the form for a bucket that no other step uses; return the bucket."""
        bucket = f"image-{uuid4().hex[:8]}"
        self.scene.cloudflare.add_bucket(bucket)
        self.submitted[bucket] = token
        await self.scene.open_form(bucket)
        await self.scene.slack.fill(ADA, "token", token)
        return bucket

    async def press_store(self) -> None:
        """Submit the form."""
        await self.scene.slack.submit(ADA)

    def is_stored_once(self, bucket: str) -> bool:
        """Say whether the slot holds the token, and its result was posted exactly once."""
        is_stored = self.scene.cloudflare.stored_token(bucket) == self.submitted[bucket]
        return is_stored and len(self.scene.results(bucket)) == 1

    def note_write(self) -> asyncio.Event:
        """Return an event that is set as soon as a slot is filled, which is before the answer to a slow token."""
        written = asyncio.Event()
        self.scene.cloudflare.on_write = written.set
        return written


@asynccontextmanager
async def open_stage(image: str) -> AsyncIterator[Stage]:
    """Set up the fakes and a container that is not started; removes it at the end."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory()))
        scene = await stack.enter_async_context(open_scene("socket", directory))
        stage = Stage(scene=scene, container=Container(image, f"r2-credential-test-{uuid4().hex[:8]}"))
        stack.push_async_callback(stage.container.remove)
        await stage.create()
        yield stage


async def _says_yes(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(url) as answer:
            return answer.ok
    except aiohttp.ClientError:
        return False
