"""What tests of the storage share: the tables on both engines, empty at the beginning of each test."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from sqlite3 import connect
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from bot.model.move import Changes, Move
from bot.model.submission import State, Submission
from bot.storage.database import Database
from bot.storage.postgres import PostgresDatabase
from bot.storage.submissions import Submissions
from tests.make import LAKE, NOW
from tests.postgres import delete_rows, execute


@pytest.fixture(scope="module")
def tables_url(postgres_server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the URL of a PostgreSQL database for a module's tests, each of which empties its tables."""
    name = request.module.__name__.rpartition(".")[2]
    execute(postgres_server, f"CREATE DATABASE {name}")
    yield urlsplit(postgres_server)._replace(path=f"/{name}").geturl()
    execute(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


Query = Callable[[str], list[tuple[object, ...]]]


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    """Return the engine's name: what needs it holds on both."""
    return str(request.param)


@pytest_asyncio.fixture
async def tables(engine: str, request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """Start an empty database, once per engine."""
    if engine == "sqlite":
        yield request.getfixturevalue("database")
        return
    database = PostgresDatabase(request.getfixturevalue("tables_url"), time_limit=timedelta(seconds=10))
    await database.start()
    await database.run(delete_rows)
    yield database
    await database.stop()


@pytest.fixture
def query(engine: str, request: pytest.FixtureRequest, database_path: Path) -> Query:
    """Return a function that queries the database over another connection."""
    if engine == "postgresql":
        url = request.getfixturevalue("tables_url")
        return lambda statement: execute(url, statement)

    def ask(statement: str) -> list[tuple[object, ...]]:
        with closing(connect(database_path, isolation_level=None)) as other:
            return other.execute(statement).fetchall()

    return ask


async def move_on(submissions: Submissions, to: State, **changes: object) -> Submission:
    """Make a move of the only submission of a bucket, as a delivery does."""
    lease = await submissions.take(LAKE)
    [pending] = await submissions.work(lease)
    move = Move(to=to, at=NOW, changes=Changes(**changes))  # type: ignore[arg-type]  # of its fields
    [moved] = await submissions.apply(pending.submission, move, lease)
    return moved
