"""A backup is put back, by the steps of docs/backup.md: what it holds open is never sent, and its person is told so."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import PATIENCE
from tests.postgres import pg_programs
from tests.scene import ADA, GRACE, PLATFORM, Scene, SetScene

OLD = make_token(Behaviour.GOOD, number=61)
NEW = make_token(Behaviour.GOOD, number=62)
BUCKET = "restored-events"
PAGE = (Path(__file__).parents[2] / "docs" / "backup.md").read_text()
COMMANDS = [re.sub(r"^ +", "", each, flags=re.MULTILINE) for each in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)]
"""The page's commands, in its order."""

BACK_UP, DUMP, PUT_BACK, PUT_BACK_DUMP, RESTORED = COMMANDS


@pytest_asyncio.fixture
async def scene(request: pytest.FixtureRequest, set_scene: SetScene, tmp_path: Path) -> AsyncIterator[Scene]:
    """Start a bot for one bucket, on SQLite or, for a test that asks for a database's URL, on PostgreSQL."""
    is_postgres = "postgres_url" in request.fixturenames
    settings = {"R2_CREDENTIAL_DATABASE_URL": request.getfixturevalue("postgres_url")} if is_postgres else {}
    async with set_scene("socket", tmp_path, settings) as scene:
        scene.cloudflare.add_bucket(BUCKET)
        (tmp_path / "backups").mkdir()
        await scene.start_ready_bot()
        yield scene


async def follow(scene: Scene, commands: str) -> str:
    """Run commands of the page as they are written, but for the place of the backups, and return what they print."""
    backups = scene.directory / "backups"
    shim = scene.directory / "r2-credential-bot"
    await asyncio.to_thread(shim.write_text, f'#!/bin/sh\nexec {sys.executable} -m bot "$@"\n')
    await asyncio.to_thread(shim.chmod, 0o700)
    path = os.pathsep.join((str(scene.directory), str(pg_programs()), os.environ["PATH"]))
    shell = await asyncio.create_subprocess_exec(
        "sh",
        "-euc",
        commands.replace("/var/backups", str(backups)),
        cwd=scene.directory,
        env={**scene.environment, "PATH": path},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await shell.communicate()
    assert shell.returncode == 0, printed.decode()
    return printed.decode()


async def leave_open(scene: Scene) -> None:
    """Submit a token about which Cloudflare fails to answer until its faults are reset."""
    scene.cloudflare.fail_next("verify", status=503, times=1000)
    await scene.submit(BUCKET, OLD)
    await scene.slack.workspace.changes.wait_until(
        lambda: [each for each in scene.cloudflare.requests if each.path.endswith("/tokens/verify")] or None,
        within=PATIENCE,
        what="the first try",
    )


async def store_newer_and_stop(scene: Scene) -> None:
    """Store another person's token in the same slot, and stop the bot."""
    await scene.submit(BUCKET, NEW, user=GRACE)  # before Cloudflare answers again: it holds the older one back
    scene.cloudflare._failures.clear()
    await scene.slack.wait_for_message(PLATFORM, lambda message: "replaced by a newer submission" in message.text)
    assert await scene.bot.stop() == 0


async def start_and_require(scene: Scene) -> None:
    """Start; require that the old token is never sent, and that its person reads once why it was given up."""
    before = len(scene.slack.workspace.messages)
    await scene.start_ready_bot()
    told = await scene.slack.wait_for_message(PLATFORM, lambda message: "restored from a backup" in message.text)
    view = await scene.slack.wait_for_view(ADA, lambda view: view.title == "Given up")

    assert told.text.startswith(f"It is not known whether the credential that <@{ADA}> submitted for `{BUCKET}` was")
    assert "restored from a backup" in view.text
    assert scene.cloudflare.stored_token(BUCKET) == NEW
    assert OLD not in [write.token for write in scene.cloudflare.writes]
    assert len(scene.slack.workspace.messages) == before + 1
    assert await scene.bot.stop() == 0


async def test_a_copied_file_is_recognised(scene: Scene) -> None:
    """As an operator might copy it: the file and what belongs to it, while the bot runs."""
    await leave_open(scene)
    await follow(scene, "cp data/bot.sqlite* /var/backups")
    await store_newer_and_stop(scene)
    await follow(scene, "rm data/bot.sqlite*; cp /var/backups/bot.sqlite* data")

    await start_and_require(scene)

    assert '"submissions_ended": 1' in scene.printed().decode()


async def test_the_steps_for_sqlite(scene: Scene) -> None:
    """As written: the copy has nothing open, and the restore is recognised."""
    await leave_open(scene)
    said = await follow(scene, BACK_UP)
    await store_newer_and_stop(scene)
    await follow(scene, PUT_BACK)

    await start_and_require(scene)

    assert "Open submissions that are not in it, and go on in the running bot: 1" in said
    assert '"database_restored"' in scene.printed().decode()


@pytest.mark.thorough
async def test_the_step_for_a_whole_directory(scene: Scene) -> None:
    """The mark is as old as the database, so the operator has to say it."""
    await leave_open(scene)
    await follow(scene, "cp -a data /var/backups")
    await store_newer_and_stop(scene)
    await follow(scene, "rm -r data; cp -a /var/backups/data data")

    assert "Open submissions that were ended: 1." in await follow(scene, RESTORED)
    await start_and_require(scene)


async def test_the_steps_for_postgresql(scene: Scene, postgres_url: str) -> None:
    """With PostgreSQL's own programs: the dump is recognised by the oids of its tables."""
    await leave_open(scene)
    await follow(scene, DUMP)
    await store_newer_and_stop(scene)
    await follow(scene, PUT_BACK_DUMP)

    await start_and_require(scene)


@pytest.mark.thorough
async def test_a_backup_is_not_made_of_postgresql(scene: Scene, postgres_url: str) -> None:
    """The command says what to use in its place; `restored` works there as well."""
    await leave_open(scene)
    said = await follow(scene, "r2-credential-bot backup /var/backups/x.sqlite && exit 1 || true")
    assert "back it up with `pg_dump --format=custom`" in said
    assert await scene.bot.stop() == 0
    scene.cloudflare._failures.clear()

    assert "Open submissions that were ended: 1." in await follow(scene, RESTORED)

    await scene.start_ready_bot()
    await scene.slack.wait_for_message(PLATFORM, lambda message: "restored from a backup" in message.text)
    assert scene.cloudflare.writes == []


@pytest.mark.thorough
async def test_restored_is_refused_while_the_bot_runs(scene: Scene) -> None:
    """On SQLite, where only one process may write."""
    said = await follow(scene, "r2-credential-bot restored && exit 1 || true")
    assert "another process uses" in said
