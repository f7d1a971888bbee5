"""A backup is put back: what it holds open is never sent, and its person is told so."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import PATIENCE
from tests.scene import GRACE, Scene, SetScene

OLD = make_token(Behaviour.GOOD, number=61)
NEW = make_token(Behaviour.GOOD, number=62)
BUCKET = "restored-events"


@pytest_asyncio.fixture
async def scene(set_scene: SetScene, tmp_path: Path) -> AsyncIterator[Scene]:
    """Start a bot for one bucket."""
    async with set_scene("socket", tmp_path) as scene:
        scene.cloudflare.add_bucket(BUCKET)
        await scene.start_ready_bot()
        yield scene


async def submit_and_wait_in_vain(scene: Scene) -> None:
    """Leave a submission open: Cloudflare fails until its faults are reset."""
    scene.cloudflare.fail_next("verify", status=503, times=1000)
    await scene.submit(BUCKET, OLD)
    await scene.slack.workspace.changes.wait_until(
        lambda: [r for r in scene.cloudflare.requests if r.path.endswith("/tokens/verify")] or None,
        within=PATIENCE,
        what="the first try",
    )


def copy_files(scene: Scene, to: Path) -> None:
    """Copy the database as an operator might: the file and what belongs to it, while the bot runs."""
    to.mkdir()
    for path in scene.data_dir.glob("bot.sqlite*"):
        shutil.copy(path, to / path.name)


def put_back(scene: Scene, copy: Path) -> None:
    """Replace the database by the copy."""
    for path in scene.data_dir.glob("bot.sqlite*"):
        path.unlink()
    for path in copy.glob("bot.sqlite*"):
        shutil.copy(path, scene.data_dir / path.name)


async def test_an_older_token_of_a_copied_file_is_never_sent(scene: Scene, tmp_path: Path) -> None:
    """The slot keeps the newer token, and the person reads that theirs was given up, and why."""
    await submit_and_wait_in_vain(scene)
    copy_files(scene, tmp_path / "copy")
    scene.cloudflare._failures.clear()
    await scene.submit(BUCKET, NEW, user=GRACE)
    await scene.wait_for_result(BUCKET)
    await scene.bot.stop()

    put_back(scene, tmp_path / "copy")
    before = len(scene.slack.workspace.messages)
    await scene.start_ready_bot()
    told = await scene.slack.wait_for_message("C0DATAPLT", lambda message: "restored from a backup" in message.text)

    assert scene.cloudflare.stored_token(BUCKET) == NEW
    assert OLD not in [write.token for write in scene.cloudflare.writes]
    assert "<@U0ADA0001>" in told.text
    assert b'"database_restored"' in scene.printed()
    assert len(scene.slack.workspace.messages) == before + 1
