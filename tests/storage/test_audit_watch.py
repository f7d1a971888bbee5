"""A chain that was cut is noticed: by the running process and after a restart, but not after a recorded restore."""

import secrets
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bot.model.audit import Entry, Event
from bot.model.finding import Finding, Mark
from bot.sealing.authenticity import Authenticity
from bot.settings import DatabaseSettings, load_database_settings
from bot.storage.audit import AuditChain
from bot.storage.audit_watch import LOG_EVERY, AuditWatch, examine_audit
from bot.storage.chain_start import HEAD_FILE
from bot.storage.database import Database
from bot.storage.moves import end_all_open
from bot.storage.records import open_file
from tests.clock import Clock
from tests.make import CHAIN, NOW
from tests.storage.conftest import Query


@pytest.fixture
def watch(tables: Database, clock: Clock, tmp_path: Path) -> AuditWatch:
    """Return the watch of a process with a data directory."""
    return AuditWatch(tables, CHAIN, clock, tmp_path / HEAD_FILE)


async def _append(tables: Database, number: int = 3, chain: AuditChain = CHAIN) -> None:
    entries = [Entry(event=Event.REFUSED, at=NOW, details=secrets.token_hex(4)) for _ in range(number)]
    await tables.run(lambda connection: chain.append(connection, entries))


async def _find(watch: AuditWatch) -> Finding:
    [found] = await watch.examine()
    return found


async def test_a_growing_chain_is_whole(tables: Database, watch: AuditWatch) -> None:
    """However much is added."""
    for _ in range(3):
        await _append(tables)
        assert (await _find(watch)).event == "audit_whole"
    assert await watch.count() == 9


_CUTS = {
    "its last entry": "DELETE FROM audit WHERE number = 3",
    "all but the first": "DELETE FROM audit WHERE number > 1",
    "everything": "DELETE FROM audit",
    "its last entry replaced": "UPDATE audit SET signature = 'v1.0000000000000000.0' WHERE number = 3",
}


@pytest.mark.parametrize("cut", _CUTS.values(), ids=_CUTS)
async def test_a_cut_is_noticed(tables: Database, watch: AuditWatch, query: Query, cut: str) -> None:
    """It stays noticed when the chain grows again over the gap."""
    await _append(tables)
    await _find(watch)
    query(cut)
    assert (await _find(watch)).event == "audit_cut"
    await _append(tables, 5)
    found = await _find(watch)
    assert (found.event, found.mark, found.blocks) == ("audit_cut", Mark.FAILED, False)
    assert HEAD_FILE in found.fix


async def test_a_cut_between_two_runs_is_noticed(
    tables: Database, watch: AuditWatch, clock: Clock, query: Query, tmp_path: Path
) -> None:
    """The last entry is remembered in the data directory."""
    await _append(tables)
    await _find(watch)
    query("DELETE FROM audit WHERE number = 3")
    await _append(tables, 1)
    assert (await _find(AuditWatch(tables, CHAIN, clock, tmp_path / HEAD_FILE))).event == "audit_cut"


async def test_without_a_directory_the_process_remembers(
    tables: Database, clock: Clock, query: Query, tmp_path: Path
) -> None:
    """A gateway in a container has none."""
    watch = AuditWatch(tables, CHAIN, clock, tmp_path / "nowhere" / HEAD_FILE)
    await _append(tables)
    assert (await _find(watch)).event == "audit_whole"
    query("DELETE FROM audit WHERE number = 3")
    assert (await _find(watch)).event == "audit_cut"


@pytest.mark.parametrize("content", ["", "garbage", "x y", "1"])
async def test_a_damaged_file_counts_as_none(tables: Database, clock: Clock, tmp_path: Path, content: str) -> None:
    """The present end is remembered instead."""
    (tmp_path / HEAD_FILE).write_text(content)
    await _append(tables)
    assert (await _find(AuditWatch(tables, CHAIN, clock, tmp_path / HEAD_FILE))).event == "audit_whole"


async def test_an_entry_that_others_wrote_is_noticed(tables: Database, watch: AuditWatch) -> None:
    """Its signature is one of a key that this installation does not have."""
    await _append(tables)
    await _find(watch)
    await _append(tables, 1, AuditChain(Authenticity(["the key of somebody who can write here"])))
    assert (await _find(watch)).event == "audit_forged"


async def test_a_restore_that_the_bot_recorded_is_no_cut(tables: Database, watch: AuditWatch, query: Query) -> None:
    """The backup had fewer entries, and the next one says that it was put back."""
    await _append(tables, 9)
    await _find(watch)
    query("DELETE FROM audit WHERE number > 4")
    await tables.run(lambda connection: end_all_open(connection, CHAIN, NOW + timedelta(hours=1)))
    assert (await _find(watch)).event == "audit_whole"
    assert await watch.count() == 5


async def test_a_restore_of_before_excuses_no_cut(tables: Database, watch: AuditWatch, query: Query) -> None:
    """Its entry stays in the chain for good, and whoever cuts the chain leaves it there."""
    await tables.run(lambda connection: end_all_open(connection, CHAIN, NOW - timedelta(days=1)))
    await _append(tables, 9)
    await _find(watch)
    query("DELETE FROM audit WHERE number > 4")
    assert (await _find(watch)).event == "audit_cut"


async def test_the_head_is_logged_now_and_then(tables: Database, watch: AuditWatch, clock: Clock) -> None:
    """For the first time at once; then every ten minutes at most, and not if nothing was added."""
    with capture_logs() as logs:
        for _ in range(3):
            await _append(tables, 1)
            await _find(watch)
        clock.now += LOG_EVERY
        await _find(watch)
        await _append(tables, 1)
        await _find(watch)
    heads = [line["head"].partition(":") for line in logs if line["event"] == "audit_head"]
    assert [number for number, _, _ in heads] == ["1", "4"]
    assert all(len(digits) == 16 for _, _, digits in heads)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DatabaseSettings:
    """Return settings that name a data directory which does not exist yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("R2_CREDENTIAL_DATA_DIR", str(tmp_path / "data"))
    return load_database_settings()


async def test_a_command_examines_the_same_and_remembers_nothing(settings: DatabaseSettings) -> None:
    """Before the first start, while the bot runs, and after its key was lost."""
    assert [each.event for each in await examine_audit(settings)] == ["audit_to_come"]
    async with AsyncExitStack() as stack:
        await open_file(settings, stack)
        assert [each.event for each in await examine_audit(settings)] == ["audit_whole"]
    assert not (settings.data_dir / HEAD_FILE).exists()
    (settings.data_dir / HEAD_FILE).write_text("7 v1.0000000000000000.0 2026-11-20T12:00:00+00:00\n")
    assert [each.event for each in await examine_audit(settings)] == ["audit_cut"]
    (settings.data_dir / "audit-key").write_text("1" * 64)
    [found] = await examine_audit(settings)
    assert (found.event, found.mark) == ("audit_not_examined", Mark.FAILED)
    assert "signed with another key" in found.text
