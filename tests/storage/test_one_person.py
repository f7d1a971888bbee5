"""The command `person` works beside a running bot, and says what is missing where it cannot."""

import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from bot.model.errors import StartRefused
from bot.settings import DatabaseSettings, load_database_settings
from bot.storage.one_person import export_person, forget
from bot.storage.records import open_file
from bot.storage.submissions import Submissions
from tests.make import make_new_submission

ADA = "U0ADA0001"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DatabaseSettings:
    """Return settings that name a data directory which does not exist yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("R2_CREDENTIAL_DATA_DIR", str(tmp_path / "data"))
    return load_database_settings()


async def _submit(submissions: Submissions) -> None:
    assert (await submissions.add(make_new_submission(user_id=ADA))).is_recorded


async def test_what_is_kept_is_written_as_lines_of_json(settings: DatabaseSettings) -> None:
    """While the bot runs, and holds its locks."""
    lines: list[str] = []
    async with AsyncExitStack() as stack:
        records = await open_file(settings, stack)
        await _submit(records.submissions)
        await export_person(settings, ADA, lines.append)
    assert [json.loads(line)["table"] for line in lines] == ["submissions", "audit"]
    assert all(line.endswith("\n") for line in lines)


async def test_what_is_open_keeps_a_person_from_being_forgotten(settings: DatabaseSettings) -> None:
    """Their result is still to be posted."""
    async with AsyncExitStack() as stack:
        await _submit((await open_file(settings, stack)).submissions)
        with pytest.raises(StartRefused, match="try again when it has ended"):
            await forget(settings, ADA)


async def test_a_person_is_forgotten(settings: DatabaseSettings) -> None:
    """A second time, there is nothing left."""
    async with AsyncExitStack() as stack:
        records = await open_file(settings, stack)
        await _submit(records.submissions)
        await records.lineage.settle(is_told=True)  # ends what is open
        await records.database.run(
            lambda connection: connection.exec_driver_sql("UPDATE submissions SET reported_at = ended_at").rowcount
        )
        assert "Submissions that named this person: 1; entries" in await forget(settings, ADA)
        assert "Submissions that named this person: 0; entries" in await forget(settings, ADA)


def _no_database(data: Path) -> None:
    (data / "bot.sqlite").unlink()


def _no_key(data: Path) -> None:
    (data / "audit-key").unlink()


def _another_key(data: Path) -> None:
    (data / "audit-key").write_text("1" * 64)


def _not_a_database(data: Path) -> None:
    (data / "bot.sqlite").write_bytes(b"no database" * 1000)


def _older_tables(data: Path) -> None:
    import sqlite3  # noqa: PLC0415 - only here

    with sqlite3.connect(data / "bot.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0006'")
    connection.close()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_no_database, "there is no database of the bot here"),
        (_no_key, "is not set, and the bot's own key cannot be read from"),
        (_another_key, "signed with another key"),
        (_not_a_database, "cannot be opened as a database"),
        (_older_tables, "of another version of the bot"),
    ],
)
async def test_without_its_records_it_says_what_is_missing(
    settings: DatabaseSettings, spoil: Callable[[Path], None], said: str
) -> None:
    """It makes no database and no key: neither would be the bot's."""
    async with AsyncExitStack() as stack:
        await open_file(settings, stack)
    before = {path.name for path in settings.data_dir.iterdir()}
    spoil(settings.data_dir)
    with pytest.raises(StartRefused, match=said):
        await export_person(settings, ADA, lambda _: None)
    assert {path.name for path in settings.data_dir.iterdir()} <= before


@pytest.mark.parametrize("user", ["ada", "@ada", "<@U0ADA0001>", "C0DATAPLT", ""])
async def test_a_name_is_no_person(settings: DatabaseSettings, user: str) -> None:
    """Names change, and two people can have one."""
    with pytest.raises(StartRefused, match="write it as Slack shows it"):
        await export_person(settings, user, lambda _: None)
