"""What tests of rotation share: the tables on both engines, and rotations in virtual time."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from bot.storage.database import Database
from bot.storage.postgres import PostgresDatabase
from tests.clock import Clock
from tests.make import NOW
from tests.postgres import delete_rows, execute
from tests.rotation.scene import Rotations


@pytest.fixture(scope="module")
def tables_url(postgres_server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the URL of a PostgreSQL database for a module's tests, each of which empties its tables."""
    name = f"rotation_{request.module.__name__.rpartition('.')[2]}"
    execute(postgres_server, f"CREATE DATABASE {name}")
    yield urlsplit(postgres_server)._replace(path=f"/{name}").geturl()
    execute(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest_asyncio.fixture(params=["sqlite", "postgresql"])
async def tables(request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """Start an empty database, once per engine."""
    if request.param == "sqlite":
        yield request.getfixturevalue("database")
        return
    database = PostgresDatabase(request.getfixturevalue("tables_url"), time_limit=timedelta(seconds=10))
    await database.start()
    await database.run(delete_rows)
    yield database
    await database.stop()


@pytest.fixture
def rotations(tables: Database, clock: Clock) -> Rotations:
    """Return a database in which nothing was rotated yet, at NOW."""
    clock.now = NOW
    return Rotations(tables, clock)
