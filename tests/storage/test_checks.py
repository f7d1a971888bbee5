"""What a running bot finds of its database: whether it can be written, and why not."""

import shutil
import sqlite3
from collections import namedtuple
from contextlib import closing
from pathlib import Path

import pytest

from bot.model.finding import Finding, Mark, Part
from bot.storage.checks import NONE_LEFT_BYTES, SCARCE_BYTES, storage_checks
from bot.storage.opening import Store
from bot.storage.ring import KEY_DIRECTORY
from tests.postgres import PostgresProxy
from tests.storage.test_examination import on_postgres
from tests.storage.test_opening import CONTEXT, LoadSettings, load, opened, proxy, record

__all__ = ["load", "proxy"]  # fixtures

_Usage = namedtuple("_Usage", "total used free")  # noqa: PYI024 - as shutil's


async def database_of(store: Store, disk: Path | None = None) -> Finding:
    """Return what is found of the database."""
    check = next(each for each in storage_checks(store, disk) if each.part is Part.DATABASE)
    assert check.is_quick
    [found] = await check.examine()
    return found


async def test_a_database_that_takes_a_write_is_good(load: LoadSettings, tmp_path: Path) -> None:
    """Engine and version are named."""
    async with opened(load()) as store:
        found = await database_of(store, tmp_path)
    assert (found.mark, found.text) == (Mark.OK, f"SQLite {sqlite3.sqlite_version}, can be written")


async def test_a_held_file_is_named_with_its_cause(load: LoadSettings, tmp_path: Path) -> None:
    """And is good again when it is released."""
    async with opened(load()) as store:
        with closing(sqlite3.connect(tmp_path / "data" / "bot.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            held = await database_of(store)
        released = await database_of(store)

    assert (held.mark, held.blocks) == (Mark.FAILED, True)
    assert held.text == "SQLite failed (SQLITE_BUSY)"
    assert "other program" in held.fix
    assert released.mark is Mark.OK


async def test_a_file_that_was_removed_is_named(load: LoadSettings, tmp_path: Path) -> None:
    """Whatever is written to it would be lost."""
    async with opened(load()) as store:
        (tmp_path / "data" / "bot.sqlite").unlink()
        found = await database_of(store)
    assert found.mark is Mark.FAILED
    assert found.fix.endswith("put a backup in place (docs/backup.md), then restart")


@pytest.mark.parametrize(
    ("free", "event", "blocks"),
    [(SCARCE_BYTES - 1, "disk_almost_full", False), (NONE_LEFT_BYTES - 1, "disk_full", True)],
)
async def test_a_disk_is_watched_before_it_is_full(
    load: LoadSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, event: str, *, blocks: bool
) -> None:
    """A full one may still take the small write of this check, and no submission."""
    async with opened(load()) as store:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage(0, 0, free))
        found = await database_of(store, tmp_path)
    assert (found.event, found.blocks, found.known) == (event, blocks, {"free_bytes": free})
    assert found.fix


async def test_a_server_that_goes_away_is_named_with_its_cause(load: LoadSettings, proxy: PostgresProxy) -> None:
    """And the bot recovers by itself."""
    async with opened(on_postgres(load, proxy.url)) as store:
        before = await database_of(store)
        proxy.refuse()
        proxy.cut()
        away = await database_of(store)
        await proxy.accept()
        after = await database_of(store)

    assert (before.mark, away.mark, after.mark) == (Mark.OK, Mark.FAILED, Mark.OK)
    assert "the connection was refused" in away.text
    assert after.text.startswith("PostgreSQL ")


async def test_keys_without_a_database_are_not_judged(load: LoadSettings, proxy: PostgresProxy) -> None:
    """The database's own finding says enough."""
    async with opened(on_postgres(load, proxy.url)) as store:
        proxy.refuse()
        proxy.cut()
        check = next(each for each in storage_checks(store, None) if each.part is Part.KEYS)
        [found] = await check.examine()
    assert (found.event, found.mark, found.blocks) == ("keys_not_compared", Mark.WARNING, False)


@pytest.mark.parametrize("leave", ["nothing", "the directory"])
async def test_key_files_removed_under_a_running_bot_are_an_alarm(
    load: LoadSettings, tmp_path: Path, leave: str
) -> None:
    """Only the process still has them: the operator learns that before the restart that loses what waits."""
    async with opened(load()) as store:
        assert store.key_ring is not None
        assert store.key_files is not None
        sealing = store.key_ring.sealing_key.key_id
        before = await keys_of(store)
        directory = tmp_path / "data" / KEY_DIRECTORY
        for path in directory.iterdir():
            path.unlink()
        if leave == "nothing":
            directory.rmdir()
        removed = await keys_of(store)
        store.key_files.rotate(store.key_ring, store.clock(), frozenset())
        after = await keys_of(store)

    assert (before.event, after.event) == ("keys_fit", "keys_fit")
    assert (removed.event, removed.mark, removed.blocks) == ("keys_removed", Mark.FAILED, True)
    assert removed.known == {"removed": [sealing]}
    assert "do not stop the bot" in removed.fix


async def test_a_removed_key_is_missed_until_what_waits_has_ended(load: LoadSettings, tmp_path: Path) -> None:
    """Also when new submissions are sealed with a new key: a restart would still lose the older one."""
    async with opened(load()) as store:
        assert store.key_ring is not None
        assert store.key_files is not None
        await record(store, "V1", store.clock(), store.key_ring.sealing_key.seal("MADEUP", CONTEXT))
        for path in (tmp_path / "data" / KEY_DIRECTORY).iterdir():
            path.unlink()
        store.key_files.rotate(store.key_ring, store.clock(), await store.submissions.key_ids_in_use())
        removed = await keys_of(store)

    assert (removed.event, removed.mark, removed.blocks) == ("keys_removed", Mark.FAILED, False)


async def test_key_files_that_cannot_be_read_are_an_alarm(load: LoadSettings, tmp_path: Path) -> None:
    """The next start would refuse them."""
    async with opened(load()) as store:
        (tmp_path / "data" / KEY_DIRECTORY).chmod(0o777)
        found = await keys_of(store)

    assert (found.event, found.mark) == ("keys_unusable", Mark.FAILED)
    assert "chmod go-w" in found.text


async def keys_of(store: Store) -> Finding:
    """Return what is found of the keys."""
    [found] = await next(each for each in storage_checks(store, None) if each.part is Part.KEYS).examine()
    return found
