"""A start that cannot succeed ends with exit code 2 and the fix; one that waits can be stopped."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from bot.sandbox.process import BotProcess, Transport
from bot.sandbox.workspace import PATIENCE
from bot.sealing.key_files import KeyFiles
from tests.scene import Scene, SetScene

REFUSED = 2


@pytest_asyncio.fixture
async def stage(set_scene: SetScene, transport: Transport, tmp_path: Path) -> AsyncIterator[Scene]:
    """Make a scene whose bot is not started yet."""
    async with set_scene(transport, tmp_path) as scene:
        yield scene


def with_bad_bot_token(scene: Scene) -> str:
    """Set a bot token that Slack does not know."""
    scene.environment["SLACK_BOT_TOKEN"] = "xoxb-made-up-and-unknown"
    return "(invalid_auth); copy the Bot User OAuth Token again"


def with_file_for_data_dir(scene: Scene) -> str:
    """Put a file where the data directory should be."""
    scene.data_dir.write_text("not a directory")
    return f"R2_CREDENTIAL_DATA_DIR: {scene.data_dir} cannot be used"


def with_locked_data_dir(scene: Scene) -> str:
    """Put the data directory where this user has no access."""
    if os.geteuid() == 0:
        pytest.skip("root may enter every directory")
    scene.data_dir.mkdir(mode=0o000)
    return f"R2_CREDENTIAL_DATA_DIR: {scene.data_dir}/lock cannot be used (Permission denied): its mode keeps its own"


def with_exposed_key(scene: Scene) -> str:
    """Let others read the sealing key."""
    scene.data_dir.mkdir(mode=0o700)
    keys = scene.data_dir / "sealing-keys"
    KeyFiles(keys).load(datetime.now(UTC))
    [path] = keys.iterdir()
    path.chmod(0o644)
    return f"others can read it: run `chmod 600 {path}`"


def with_another_file_for_database(scene: Scene) -> str:
    """Put another file in the place of the database."""
    scene.data_dir.mkdir(mode=0o700)
    (scene.data_dir / "bot.sqlite").write_text("no database, " * 1000)
    return "is damaged, or no database at all"


def with_nobody_listed(scene: Scene) -> str:
    """Leave every list of people empty."""
    del scene.environment["R2_CREDENTIAL_ALLOWED_USERGROUPS"]
    return "no one is listed, so no one could use the bot"


MORE_OBSTACLES = (with_file_for_data_dir, with_locked_data_dir, with_exposed_key, with_nobody_listed)
OBSTACLES = (
    with_bad_bot_token,
    with_another_file_for_database,
    *(pytest.param(obstruct, marks=pytest.mark.thorough) for obstruct in MORE_OBSTACLES),
)
"""One reported by Slack and one on the disk; the other refusals are tested in the modules that make them."""


@pytest.mark.parametrize("transport", ["http"])
@pytest.mark.parametrize("obstruct", OBSTACLES, ids=lambda obstruct: obstruct.__name__.replace("_", " "))
async def test_a_start_that_cannot_succeed_says_how_to_fix_it(stage: Scene, obstruct: Callable[[Scene], str]) -> None:
    """The exit code is 2, the last line is the fix, and nothing looks like a crash."""
    fix = obstruct(stage)

    code = await stage.run_bot_to_its_end()

    assert fix in stage.printed().decode()
    assert "The bot cannot start" in stage.printed().decode()
    assert b"Traceback" not in stage.printed()
    assert b"MADEUP" not in stage.printed()
    assert b"made-up-and-unknown" not in stage.printed()
    assert code == REFUSED


@pytest.mark.parametrize("transport", ["socket"])
async def test_a_bad_app_token_is_refused_at_the_start(stage: Scene) -> None:
    """Slack's refusal of the app token ends the start instead of being retried forever."""
    stage.environment["SLACK_APP_TOKEN"] = "xapp-made-up-and-unknown"

    code = await stage.run_bot_to_its_end()

    refused = b"SLACK_APP_TOKEN: Slack does not know this app-level token, or not from this network (invalid_auth); "
    assert refused + b"generate an App-Level Token with the scope connections:write" in stage.printed()
    assert b"Traceback" not in stage.printed()
    assert code == REFUSED


@pytest.mark.parametrize("transport", ["http"])
async def test_a_taken_port_is_refused_by_name(stage: Scene) -> None:
    """The message names the settings, the address and the system's reason."""
    port = int(stage.environment["R2_CREDENTIAL_HTTP_PORT"])
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        code = await stage.run_bot_to_its_end()

    said = f"R2_CREDENTIAL_HTTP_PORT: cannot listen on 127.0.0.1, port {port} (Address already in use); set them to"
    assert said.encode() in stage.printed()
    assert b"Traceback" not in stage.printed()
    assert code == REFUSED


@pytest.mark.parametrize("method", ["auth.test", "apps.connections.open"])
@pytest.mark.parametrize("transport", ["socket"])
async def test_a_start_that_waits_for_slack_can_be_stopped(stage: Scene, method: str) -> None:
    """SIGTERM ends a bot that cannot reach Slack yet, with exit code 0."""
    stage.slack.fail_next(method, status=503, times=1000)
    bot = await stage.start_bot()
    await stage.slack.workspace.changes.wait_until(
        lambda: stage.slack.calls_of(method) or None, within=PATIENCE, what=method
    )

    async with asyncio.timeout(PATIENCE.total_seconds()):
        code = await bot.stop()

    assert code == 0, stage.printed().decode()
    assert b"Traceback" not in stage.printed()


@pytest.mark.parametrize("transport", ["socket"])
async def test_a_start_outlasts_slacks_trouble(stage: Scene) -> None:
    """A bot that is started while Slack is down becomes ready when Slack is back."""
    stage.slack.fail_next("apps.connections.open", status=503)

    await stage.start_ready_bot()

    assert len(stage.slack.calls_of("apps.connections.open")) >= 2


@pytest.mark.parametrize("transport", ["socket"])
async def test_a_log_that_is_not_read_does_not_stop_the_bot(stage: Scene) -> None:
    """Its pipe is full before the first line: the bot still starts, opens forms and ends."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"." * 4096)
    os.set_blocking(writer, True)
    with os.fdopen(reader, "rb"), os.fdopen(writer, "wb") as output:
        bot = BotProcess(stage.environment, stage.directory, output, stop_patience=PATIENCE)
        stage.bots.append(bot)
        await bot.start()

        assert await bot.wait_until_ready()
        await stage.slack.wait_for_connections()
        await stage.open_form("unheard")
        assert await bot.stop() == 0
