"""Any history leaves one live token for a bucket, in its slot, and breaks none of the invariants.

A soak run takes other histories each time: ROTATING_EXAMPLES=2000 pytest tests/rotation/test_machine.py
"""

import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from bot.storage.database import Database
from bot.storage.postgres import PostgresDatabase
from bot.storage.sqlite import SqliteDatabase
from tests.postgres import delete_rows, execute
from tests.rotation.machine import Engine, Rotating

EXAMPLES = int(os.environ.get("ROTATING_EXAMPLES", "0"))


class SqliteFiles:
    """Two files for each history, copied from one with tables; in memory where possible."""

    def __init__(self, directory: Path) -> None:
        self._template = directory / "template.sqlite"
        self._directory = directory / "history"
        first = SqliteDatabase(self._template)
        first.start()
        first.stop()
        self._open: list[SqliteDatabase] = []

    async def open(self, number: int) -> Database:
        """Start on a fresh copy."""
        self._directory.mkdir(exist_ok=True)
        path = self._directory / f"bot{number}.sqlite"
        shutil.copy(self._template, path)
        database = SqliteDatabase(path)
        database.start()
        self._open.append(database)
        return database

    async def close(self) -> None:
        """Stop, and delete the copies."""
        for database in self._open:
            database.stop()
        self._open.clear()
        shutil.rmtree(self._directory)


class Postgres:
    """Two databases of a server, emptied for each history."""

    def __init__(self, urls: list[str]) -> None:
        self._urls = urls
        self._open: list[PostgresDatabase] = []

    async def open(self, number: int) -> Database:
        """Connect, and empty the tables."""
        database = PostgresDatabase(self._urls[number], time_limit=timedelta(seconds=10))
        await database.start()
        await database.run(delete_rows)
        self._open.append(database)
        return database

    async def close(self) -> None:
        """Disconnect."""
        for database in self._open:
            await database.stop()
        self._open.clear()


@pytest.fixture
def sqlite_files() -> Iterator[SqliteFiles]:
    """Return a directory for files, where fsync costs nothing."""
    memory = Path("/dev/shm")  # noqa: S108 - only its speed matters; the directory in it is our own
    with TemporaryDirectory(prefix="rotating-", dir=memory if memory.is_dir() else None) as directory:
        yield SqliteFiles(Path(directory))


@pytest.fixture
def postgres(postgres_server: str) -> Iterator[Postgres]:
    """Return two empty databases of the server."""
    names = [f"rotating_{number}" for number in range(2)]
    for name in names:
        execute(postgres_server, f"CREATE DATABASE {name}")
    yield Postgres([urlsplit(postgres_server)._replace(path=f"/{name}").geturl() for name in names])
    for name in names:
        execute(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


def explore(engine: Engine, examples: int) -> None:
    """Run that many histories."""
    chosen = settings(
        max_examples=EXAMPLES or examples,
        stateful_step_count=25,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],  # shrinking takes minutes
    )
    run_state_machine_as_test(
        lambda: Rotating(engine),  # type: ignore[arg-type]  # hypothesis means whatever makes a machine
        settings=chosen,
    )


@pytest.mark.parametrize("examples", [10, pytest.param(300, marks=pytest.mark.thorough)])
def test_the_invariants_hold_on_sqlite(sqlite_files: SqliteFiles, examples: int) -> None:
    """Whatever happens in between, on real files."""
    explore(sqlite_files, examples)


@pytest.mark.parametrize("examples", [3, pytest.param(60, marks=pytest.mark.thorough)])
def test_the_invariants_hold_on_postgresql(postgres: Postgres, examples: int) -> None:
    """The same on a real server, where a transaction takes longer: fewer histories."""
    explore(postgres, examples)
