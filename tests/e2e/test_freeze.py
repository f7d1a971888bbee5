"""A process frozen with a Submit in its socket: when it resumes, that Submit overwrites no newer token."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import pytest_asyncio

from bot.sandbox.answers import SubmitOutcome
from bot.sandbox.process import BotProcess, Transport, find_free_port
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import PATIENCE
from bot.sealing.hpke import generate_private_key
from tests.postgres import execute
from tests.scene import ADA, GRACE, Scene, SetScene

pytestmark = pytest.mark.asyncio(loop_scope="module")

OLD, NEW = make_token(Behaviour.GOOD, 61), make_token(Behaviour.GOOD, 62)

FREEZE_SECONDS = 5.2
"""Longer than Slack waits plus the second of doubt: real time must pass, since no event marks its end."""


@dataclass(slots=True, kw_only=True)
class Pair:
    """A bot of two processes on one PostgreSQL; the test chooses which of them Slack uses."""

    scene: Scene
    ways: dict[BotProcess, list[object]]

    def choose(self, bot: BotProcess) -> None:
        """Make Slack send everything to this process."""
        transport = self.scene.slack.transport
        if self.scene.transport == "http":
            transport.request_urls[:] = [str(url) for url in self.ways[bot]]
        else:
            transport.connections.sort(key=lambda connection: connection not in self.ways[bot])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(
    set_scene: SetScene, transport: Transport, tmp_path_factory: pytest.TempPathFactory, postgres_server: str
) -> AsyncIterator[Pair]:
    """Start them one after another, so that it is known whose connections are whose."""
    name = f"test_{uuid4().hex}"
    execute(postgres_server, f"CREATE DATABASE {name}")
    async with AsyncExitStack() as stack:
        stack.callback(execute, postgres_server, f"DROP DATABASE {name} WITH (FORCE)")
        scene = await stack.enter_async_context(set_scene(transport, tmp_path_factory.mktemp("pair")))
        scene.environment |= {
            "R2_CREDENTIAL_DATABASE_URL": urlsplit(postgres_server)._replace(path=f"/{name}").geturl(),
            "R2_CREDENTIAL_SEALING_KEY": generate_private_key(),
        }
        pair = Pair(scene=scene, ways={})
        for number in (1, 2):
            await _add(pair, number, stack)
        yield pair


async def _add(pair: Pair, number: int, stack: AsyncExitStack) -> None:
    scene, port = pair.scene, find_free_port()
    data_dir = Path(scene.directory / f"data {number}")
    environment = scene.environment | {"R2_CREDENTIAL_HTTP_PORT": str(port), "R2_CREDENTIAL_DATA_DIR": str(data_dir)}
    before = list(scene.slack.transport.connections)
    output = stack.enter_context((scene.directory / "printed").open("ab"))
    bot = BotProcess(environment, scene.directory, output, stop_patience=PATIENCE)
    scene.bots.append(bot)
    await bot.start()
    assert await bot.wait_until_ready(), scene.printed().decode()
    if scene.transport == "http":
        pair.ways[bot] = [f"http://127.0.0.1:{port}/slack/events"]
    else:
        await scene.slack.wait_for_connections(2 * number)
        pair.ways[bot] = [each for each in scene.slack.transport.connections if each not in before]


async def submit_to_a_frozen(scene: Scene, bot: BotProcess, token: str) -> asyncio.Task[SubmitOutcome]:
    """Freeze a process, then press Submit: the payload waits in the socket."""
    await scene.slack.fill(ADA, "token", token)
    os.kill(bot.pid, signal.SIGSTOP)
    pressed = asyncio.create_task(scene.slack.submit(ADA))
    await asyncio.sleep(FREEZE_SECONDS)
    return pressed


def wake(bot: BotProcess) -> None:
    """Resume the process."""
    os.kill(bot.pid, signal.SIGCONT)


def writes(scene: Scene, bucket: str) -> int:
    """Count the POSTs for a bucket, whatever their outcome."""
    return sum(each.path.endswith(f"/{bucket}/credential") for each in scene.cloudflare.requests)


async def test_a_submit_left_in_the_socket_is_refused_and_the_next_try_accepted(scene: Scene) -> None:
    """Slack has shown a failure to the person; the form is still there, and the same token can be pressed again."""
    scene.cloudflare.add_bucket("frozen")
    await scene.open_form("frozen")

    pressed = await submit_to_a_frozen(scene, scene.bot, NEW)
    wake(scene.bot)
    refused = await pressed
    nothing_was_written = not writes(scene, "frozen")
    again = await scene.slack.submit(ADA)
    await scene.wait_for_result("frozen")

    assert (refused.kind, nothing_was_written) == ("errors", True)
    assert "Press the button again" in str(refused.errors)
    assert again.kind == "updated"
    assert scene.cloudflare.stored_token("frozen") == NEW
    assert scene.slack.problems == []


async def test_a_frozen_gateway_does_not_overwrite_a_newer_token(pair: Pair) -> None:
    """The older token is never sent, and no one reads that it was the newer one."""
    scene, (frozen, other) = pair.scene, list(pair.ways)
    bucket = f"contested-{uuid4().hex[:8]}"
    scene.cloudflare.add_bucket(bucket)
    pair.choose(frozen)
    await scene.open_form(bucket)

    pair.choose(frozen)  # again: opening the form took more than one request, and connections take turns
    pressed = await submit_to_a_frozen(scene, frozen, OLD)
    pair.choose(other)
    await scene.open_form(bucket, user=GRACE)
    await scene.slack.fill(GRACE, "token", NEW)
    pair.choose(other)
    assert (await scene.slack.submit(GRACE)).kind == "updated"
    result = await scene.wait_for_result(bucket)
    wake(frozen)
    refused = await pressed

    assert refused.kind == "errors"
    assert "stored a new credential" in result.text
    assert (scene.cloudflare.stored_token(bucket), writes(scene, bucket)) == (NEW, 1)
    assert len(scene.results(bucket)) == 1
