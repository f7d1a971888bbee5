"""What tests of several modules need: a real database file, and a loop whose time can be moved on."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from bot.database import Database
from bot.records import METADATA, Records


@pytest.fixture
def database_path(tmp_path: Path) -> Path:
    """Name the file of the database; its directory holds nothing else."""
    return tmp_path / "data" / "bot.sqlite"


@pytest.fixture
def database(database_path: Path) -> Iterator[Database]:
    """Start the bot's database on a real file."""
    database = Database(database_path, METADATA)
    database.start()
    yield database
    database.stop()


@pytest.fixture
def records(database: Database) -> Records:
    """Return the tables of that database."""
    return Records(database)


@pytest_asyncio.fixture
async def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[timedelta], None]:
    """Return what moves the loop's own time on, so that nobody sits through a timeout."""
    loop = asyncio.get_running_loop()
    real_time, passed = loop.time, timedelta(0)

    def move_on(by: timedelta) -> None:
        nonlocal passed
        passed += by

    monkeypatch.setattr(loop, "time", lambda: real_time() + passed.total_seconds())
    return move_on
