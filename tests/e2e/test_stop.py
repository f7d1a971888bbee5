"""A stop with everything hanging at once: it ends, says what it cut off, and loses nothing that was acknowledged."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from bot.sandbox.process import BotProcess, Transport
from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import PATIENCE
from bot.sealing.hpke import generate_private_key
from tests.postgres import PostgresProxy
from tests.scene import ADA, GRACE, Scene, SetScene

FOREVER = timedelta(hours=1)
SLOW, GOOD = make_token(Behaviour.SLOW, 71), make_token(Behaviour.GOOD, 72)
WRITING, POSTING = "stop-writing", "stop-posting"


async def begin_everything(scene: Scene) -> None:
    """Bring a write to Cloudflare, a message, updates of modals and a form under way; none of them gets an answer."""
    written = asyncio.Event()
    scene.cloudflare.slow_delay, scene.cloudflare.on_write = FOREVER.total_seconds(), written.set
    for bucket in (WRITING, POSTING):
        scene.cloudflare.add_bucket(bucket)
    scene.slack.fail_next("chat.postMessage", delay=FOREVER, times=100)
    await scene.submit(POSTING, GOOD, user=GRACE)
    await wait_for_call(scene, "chat.postMessage")
    await scene.open_form(WRITING)
    scene.slack.fail_next("views.update", delay=FOREVER, times=100)
    written.clear()
    await scene.slack.fill(ADA, "token", SLOW)
    await scene.slack.submit(ADA)
    await wait_for_call(scene, "views.update")
    async with asyncio.timeout(PATIENCE.total_seconds()):
        await written.wait()


async def wait_for_call(scene: Scene, method: str) -> None:
    """Wait until the bot has called a method of Slack's."""
    await scene.slack.workspace.changes.wait_until(
        lambda: scene.slack.calls_of(method) or None, within=PATIENCE, what=method
    )


@contextmanager
def clients(scene: Scene) -> Iterator[None]:
    """Hold connections to the bot's port: one sends half a request, one asks and does not read."""
    address = ("127.0.0.1", int(scene.environment["R2_CREDENTIAL_HTTP_PORT"]))
    with socket.create_connection(address) as half, socket.create_connection(address) as asker:
        half.sendall(b"POST /slack/events HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
        asker.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        yield


def stop_while_nothing_answers(bot: BotProcess) -> float:
    """Send SIGTERM, and block the event loop, with both fakes and any proxy in it, until the process has ended.

    Returns the seconds, for a person; no test asserts them.
    """
    began_at = time.monotonic()
    os.kill(bot.pid, signal.SIGTERM)
    while _is_alive(bot.pid):
        assert time.monotonic() < began_at + PATIENCE.total_seconds(), "the stop does not end"
        time.sleep(0.01)
    return time.monotonic() - began_at


def _is_alive(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None
    except ChildProcessError:  # asyncio's thread was faster
        return False


@asynccontextmanager
async def postgres_between(scene: Scene, url: str) -> AsyncIterator[None]:
    """Put PostgreSQL, behind a proxy of this loop, in the place of SQLite."""
    async with PostgresProxy(url) as proxy:
        scene.environment |= {
            "R2_CREDENTIAL_DATABASE_URL": proxy.url,
            "R2_CREDENTIAL_SEALING_KEY": generate_private_key(),
        }
        yield


async def go_on(scene: Scene) -> None:
    """Start the next process where everything answers again, and wait for both results."""
    scene.slack.faults._next.clear()
    scene.cloudflare.slow_delay = 0
    await scene.start_ready_bot()
    for bucket in (WRITING, POSTING):
        assert "stored a new credential" in (await scene.wait_for_result(bucket)).text


@pytest.mark.parametrize("transport", ["socket", pytest.param("http", marks=pytest.mark.thorough)])
async def test_a_stop_ends_with_slack_cloudflare_and_every_client_hanging(
    set_scene: SetScene, transport: Transport, tmp_path: Path
) -> None:
    """SQLite is all that works; what was under way is finished by the next process."""
    async with set_scene(transport, tmp_path) as scene:
        await scene.start_ready_bot()
        await begin_everything(scene)
        with clients(scene):
            stop_while_nothing_answers(scene.bot)

        assert await scene.bot.wait() == 0, scene.printed().decode()
        assert b"Traceback" not in scene.printed()
        await go_on(scene)


@pytest.mark.thorough
@pytest.mark.parametrize("transport", ["socket", "http"])
async def test_a_stop_ends_with_a_silent_postgresql_as_well(
    set_scene: SetScene, transport: Transport, tmp_path: Path, postgres_url: str
) -> None:
    """Nothing in the world answers any more."""
    async with set_scene(transport, tmp_path) as scene, postgres_between(scene, postgres_url):
        await scene.start_ready_bot()
        await begin_everything(scene)
        with clients(scene):
            stop_while_nothing_answers(scene.bot)

        assert await scene.bot.wait() in {0, 3}, scene.printed().decode()
        assert b"Traceback" not in scene.printed()
        await go_on(scene)
