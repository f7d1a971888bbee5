"""A database of the first version is upgraded at the start, and what was open in it goes on."""

import asyncio
import shutil
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

from bot.sandbox.tokens import Behaviour, make_token
from bot.sandbox.workspace import PATIENCE
from bot.storage.migrations import VERSIONS, bring_up_to_date
from bot.storage.sqlite import SqliteDatabase
from tests.scene import SetScene

TOKEN = make_token(Behaviour.GOOD, number=81)
BUCKET = "upgraded-events"


def make_as_the_first_version(path: Path) -> None:
    """Move all that a database holds into the tables of the first version."""
    steps = path.parent / "steps"
    steps.mkdir()
    [first] = VERSIONS[0].glob("0001_*.py")
    shutil.copy(first, steps)
    old = path.with_name("first.sqlite")
    database = SqliteDatabase(old, partial(bring_up_to_date, versions=(steps,)))
    database.start()
    database.stop()
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("ATTACH ? AS new", (str(path),))
        for (table,) in connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall():
            columns = ", ".join(row[1] for row in connection.execute(f"PRAGMA main.table_info({table})"))
            if not table.startswith(("sqlite_", "alembic_")):
                connection.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM new.{table}")  # noqa: S608 - our own words
    old.replace(path)
    shutil.rmtree(steps)


async def test_what_was_open_in_the_first_version_goes_on(set_scene: SetScene, tmp_path: Path) -> None:
    """The token that it had sealed is stored by this version."""
    async with set_scene("socket", tmp_path) as scene:
        scene.cloudflare.add_bucket(BUCKET)
        await scene.start_ready_bot()
        scene.cloudflare.fail_next("verify", status=503, times=1000)
        await scene.submit(BUCKET, TOKEN)
        await scene.slack.workspace.changes.wait_until(
            lambda: [each for each in scene.cloudflare.requests if each.path.endswith("/tokens/verify")] or None,
            within=PATIENCE,
            what="the first try",
        )
        assert await scene.bot.stop() == 0
        await asyncio.to_thread(make_as_the_first_version, scene.data_dir / "bot.sqlite")
        (scene.data_dir / "high-water-mark").unlink()
        (scene.data_dir / "audit-head").unlink()
        scene.cloudflare._failures.clear()

        await scene.start_ready_bot()
        message = await scene.wait_for_result(BUCKET)

        assert "stored a new credential" in message.text
        assert [write.token for write in scene.cloudflare.writes] == [TOKEN]
        assert b"database_restored" not in scene.printed()
