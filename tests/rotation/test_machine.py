"""Any history leaves one live token for a bucket, in its slot, and breaks none of the invariants.

A soak run takes other histories each time: ROTATING_EXAMPLES=2000 pytest tests/rotation/test_machine.py
"""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.postgres import execute
from tests.rotation.search import Postgres, SqliteFiles, explore, make_directory

EXAMPLES = int(os.environ.get("ROTATING_EXAMPLES", "0"))


@pytest.fixture
def sqlite_files() -> Iterator[SqliteFiles]:
    """Return files in a directory of their own."""
    with make_directory() as directory:
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


@pytest.mark.parametrize("examples", [6, pytest.param(100, marks=pytest.mark.thorough)])
def test_the_invariants_hold_on_sqlite(sqlite_files: SqliteFiles, examples: int) -> None:
    """Whatever happens in between, on real files."""
    explore(sqlite_files, EXAMPLES or examples, is_random=bool(EXAMPLES))


@pytest.mark.parametrize("examples", [3, pytest.param(25, marks=pytest.mark.thorough)])
def test_the_invariants_hold_on_postgresql(postgres: Postgres, examples: int) -> None:
    """The same on a real server, where a transaction takes longer: fewer histories."""
    explore(postgres, EXAMPLES or examples, is_random=bool(EXAMPLES))
