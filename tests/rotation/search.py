"""Searches for a history that breaks an invariant, on either engine.

python -m tests.rotation.search EXAMPLES: exits with 1, and prints the history, once there is one.
"""

import shutil
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import Connection

from bot.storage.database import Database
from bot.storage.postgres import PostgresDatabase
from bot.storage.sqlite import SqliteDatabase
from bot.storage.trouble import Trouble
from tests.postgres import delete_rows
from tests.rotation.machine import Engine, Rotating

T = TypeVar("T")
_MEMORY = Path("/dev/shm")  # noqa: S108 - only its speed matters; the directory in it is our own


def make_directory() -> TemporaryDirectory[str]:
    """Return a directory for files, where fsync costs nothing if possible."""
    return TemporaryDirectory(prefix="rotating-", dir=_MEMORY if _MEMORY.is_dir() else None)


class Inline:
    """A SQLite file whose transactions run at once, without the thread of the bot: handing them over takes long."""

    def __init__(self, path: Path) -> None:
        self._database = SqliteDatabase(path)
        self._database.start()
        self._database.stop()
        assert self._database._engine is not None
        self._connection = self._database._engine.connect()

    @property
    def trouble(self) -> Trouble:
        """Why the latest failed call failed."""
        return self._database.trouble

    async def run(
        self, work: Callable[[Connection], T], afterwards: Callable[[T, Any], Awaitable[None]] | None = None
    ) -> T:
        """Return the result of `work` once it is committed."""
        assert afterwards is None
        with self._connection.begin():
            return work(self._connection)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class SqliteFiles:
    """Two files for each history, copied from one with tables; in memory where possible."""

    def __init__(self, directory: Path) -> None:
        self._template = directory / "template.sqlite"
        self._directory = directory / "history"
        Inline(self._template).close()
        self._open: list[Inline] = []

    async def open(self, number: int) -> Database:
        """Start on a fresh copy."""
        self._directory.mkdir(exist_ok=True)
        path = self._directory / f"bot{number}.sqlite"
        shutil.copy(self._template, path)
        self._open.append(Inline(path))
        return self._open[-1]

    async def close(self) -> None:
        """Close the copies, and delete them."""
        for database in self._open:
            database.close()
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


def explore(engine: Engine, examples: int, *, is_random: bool = False) -> None:
    """Run that many histories; always the same, unless they are to be random, and then the shortest is looked for."""
    chosen = settings(
        max_examples=examples,
        stateful_step_count=25,
        derandomize=not is_random,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink] if is_random else [Phase.generate],  # shrinking takes minutes
    )
    run_state_machine_as_test(
        lambda: Rotating(engine),  # type: ignore[arg-type]  # hypothesis means whatever makes a machine
        settings=chosen,
    )


def main(examples: int) -> int:
    """Search on SQLite; return the exit code."""
    with make_directory() as directory:
        try:
            explore(SqliteFiles(Path(directory)), examples)
        except AssertionError as found:
            sys.stdout.write("\n".join([str(found), *getattr(found, "__notes__", ())]))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
