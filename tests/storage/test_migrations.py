"""The migration steps on both databases: they end at `METADATA`, keep existing rows, and refuse safely."""

import asyncio
import hashlib
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect

from bot.model.errors import DatabaseUnavailable
from bot.storage import migrations as migrations_package
from bot.storage.database import DatabaseCorrupt, SchemaTooNew
from bot.storage.migrations import VERSIONS, bring_up_to_date, list_steps
from bot.storage.postgres import PostgresDatabase
from bot.storage.schema import METADATA
from bot.storage.sqlite import SqliteDatabase
from tests.postgres import execute

NEXT = f"{int(list_steps()[-1]) + 1:04d}"
NEXT_STEP = f"""
from alembic import op
from sqlalchemy import Column, String

revision = "{NEXT}"
down_revision = "{list_steps()[-1]}"


def upgrade():
    op.add_column("submissions", Column("mood", String, nullable=False, server_default="calm"))
    op.drop_index("submissions_history", "submissions")
    op.create_table("moods", Column("bucket", String, primary_key=True), Column("last_id", String))
    op.execute("INSERT INTO moods SELECT bucket, max(id) FROM submissions GROUP BY bucket")
"""  # noqa: S608 - our own words
"""A made-up step of the next version: what such a step does to tables, and to what is in them."""

SUBMISSION = """
INSERT INTO submissions (
    sequence, id, revision, task, state, team_id, user_id, account_id, bucket, channel_id, reason, token_kind,
    last_four, sealed_token, sent_at, accepted_at, expires_at, next_attempt_at, attempts, possibly_written
) VALUES (
    7, 'V1', 0, 'store', 'accepted', 'T1', 'U1', 'a', 'lake', 'C1', 'a reason', 'account', '1234', 'sealed',
    '2026-01-02 03:04:05.000000', '2026-01-02 03:04:05.000000',
    '2026-01-02 04:04:05.000000', '2026-01-02 03:04:05.000000', 0, FALSE
)
"""


Differences = tuple[list[object], dict[str, str]]


def _differences(connection: Connection) -> Differences:
    """Compare the tables with `METADATA`, including the conditions of indexes, which Alembic ignores."""
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, METADATA)), _conditions(connection)


def _conditions(connection: Connection) -> dict[str, str]:
    """Return the partial indexes, without the parentheses and casts that PostgreSQL adds to their conditions."""
    option = f"{connection.dialect.name}_where"
    found = {
        str(index["name"]): str(index["dialect_options"][option])
        for table in inspect(connection).get_table_names()
        for index in inspect(connection).get_indexes(table)
        if option in index.get("dialect_options", {})
    }
    return {name: re.sub(r"[()]|::text", "", condition) for name, condition in found.items()}


EQUAL: Differences = (
    [],
    {
        str(index.name): str(where).replace(f"{table.name}.", "")
        for table in METADATA.tables.values()
        for index in table.indexes
        if (where := index.dialect_options["postgresql"]["where"]) is not None
    },
)


def _started(path: Path, set_up: Callable[[Connection], None] = bring_up_to_date) -> SqliteDatabase:
    database = SqliteDatabase(path, set_up)
    database.start()
    return database


def _ask(path: Path, question: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(question).fetchall()


def _hashes(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


def _sqlite_differences(path: Path) -> object:
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        found = _differences(connection)
    engine.dispose()
    return found


def test_each_step_follows_the_one_before_and_is_called_as_its_file() -> None:
    """Alembic reads the same numbers inside the files as their names say."""
    script = ScriptDirectory(Path(migrations_package.__path__[0]))
    assert [step.revision for step in script.walk_revisions()][::-1] == list_steps()
    assert [step.down_revision for step in script.walk_revisions()][::-1] == [None, *list_steps()[:-1]]


def test_a_new_file_has_the_tables_of_the_metadata(database_path: Path) -> None:
    """The steps end at what `schema` defines."""
    _started(database_path).stop()
    assert _sqlite_differences(database_path) == EQUAL
    assert _ask(database_path, "SELECT version_num FROM alembic_version") == [(list_steps()[-1],)]


async def test_a_new_postgres_database_has_the_tables_of_the_metadata(postgres_url: str) -> None:
    """The same there."""
    database = PostgresDatabase(postgres_url)
    await database.start()
    assert await database.run(_differences) == EQUAL
    await database.stop()
    assert execute(postgres_url, "SELECT version_num FROM alembic_version") == [(list_steps()[-1],)]


@pytest.fixture
def to_the_next_version(tmp_path: Path) -> Callable[[Connection], None]:
    """Return a function that migrates a database to a made-up next version."""
    steps = tmp_path / "next version"
    steps.mkdir()
    (steps / f"{NEXT}_moods.py").write_text(NEXT_STEP)
    return partial(bring_up_to_date, versions=(*VERSIONS, steps))


@pytest.fixture
def first_version(database_path: Path) -> Path:
    """Create a file as this version of the bot does, with a submission."""
    _started(database_path).stop()
    with closing(sqlite3.connect(database_path)) as connection:
        connection.execute(SUBMISSION)
        connection.commit()
    return database_path


UPGRADED = ("store", "sealed", "calm", "V1")
UPGRADED_ROWS = "SELECT task, sealed_token, mood, last_id FROM submissions JOIN moods USING (bucket)"


def test_an_upgraded_file_keeps_its_records(
    first_version: Path, to_the_next_version: Callable[[Connection], None]
) -> None:
    """Only the remaining step runs, on the existing rows."""
    _started(first_version, to_the_next_version).stop()
    assert _ask(first_version, UPGRADED_ROWS) == [UPGRADED]
    assert _ask(first_version, "SELECT version_num FROM alembic_version") == [(NEXT,)]


async def test_an_upgraded_postgres_database_keeps_its_records(
    postgres_url: str, to_the_next_version: Callable[[Connection], None]
) -> None:
    """The same there, and only once, however many new replicas start at the same time."""
    database = PostgresDatabase(postgres_url, time_limit=timedelta(seconds=30))
    await database.start()
    execute(postgres_url, SUBMISSION)
    await asyncio.gather(*(database.run(to_the_next_version) for _ in range(4)))
    await database.stop()
    assert execute(postgres_url, UPGRADED_ROWS) == [UPGRADED]


def test_an_upgraded_file_equals_a_new_one(
    first_version: Path, tmp_path: Path, to_the_next_version: Callable[[Connection], None]
) -> None:
    """Every database runs through the same steps."""
    new = tmp_path / "new" / "bot.sqlite"
    for path in (first_version, new):
        _started(path, to_the_next_version).stop()
    tables = "SELECT name, sql FROM sqlite_master ORDER BY name"
    assert _ask(first_version, tables) == _ask(new, tables)


def test_an_upgraded_file_is_refused_by_the_version_before(
    first_version: Path, to_the_next_version: Callable[[Connection], None]
) -> None:
    """That version does not know the step."""
    _started(first_version, to_the_next_version).stop()
    with pytest.raises(SchemaTooNew):
        _started(first_version)


def test_sequences_continue(first_version: Path, to_the_next_version: Callable[[Connection], None]) -> None:
    """A number is never assigned twice, also across the steps."""
    with closing(sqlite3.connect(first_version)) as connection:
        connection.execute("DELETE FROM submissions")
        connection.commit()
    _started(first_version, to_the_next_version).stop()
    assert _ask(first_version, "SELECT seq FROM sqlite_sequence WHERE name = 'submissions'") == [(7,)]


@pytest.fixture
def to_the_first_version(tmp_path: Path) -> Callable[[Connection], None]:
    """Return a function that creates the tables as the first version did."""
    steps = tmp_path / "first version"
    steps.mkdir()
    [first] = Path(VERSIONS[0]).glob("0001_*.py")
    shutil.copy(first, steps)
    return partial(bring_up_to_date, versions=(steps,))


FIRST_SUBMISSION = SUBMISSION.replace("sent_at, ", "").replace("'2026-01-02 03:04:05.000000', ", "", 1)
SENT = "SELECT sequence, sent_at = accepted_at, sealed_token FROM submissions"


def test_a_file_of_the_first_version_is_brought_up_to_date(
    database_path: Path, to_the_first_version: Callable[[Connection], None]
) -> None:
    """Existing submissions count as sent when they arrived, and no number is assigned twice."""
    _started(database_path, to_the_first_version).stop()
    with closing(sqlite3.connect(database_path)) as connection:
        connection.execute(FIRST_SUBMISSION)
        connection.execute("UPDATE sqlite_sequence SET seq = 9 WHERE name = 'submissions'")
        connection.commit()
    _started(database_path).stop()
    assert _sqlite_differences(database_path) == EQUAL
    assert _ask(database_path, SENT) == [(7, 1, "sealed")]
    assert _ask(database_path, "SELECT seq FROM sqlite_sequence WHERE name = 'submissions'") == [(9,)]


async def test_a_postgres_database_of_the_first_version_is_brought_up_to_date(
    postgres_url: str, to_the_first_version: Callable[[Connection], None]
) -> None:
    """The same there."""
    database = PostgresDatabase(postgres_url, time_limit=timedelta(seconds=30))
    await database.start()
    execute(postgres_url, "DROP SCHEMA public CASCADE")
    execute(postgres_url, "CREATE SCHEMA public")
    await database.run(to_the_first_version)
    execute(postgres_url, FIRST_SUBMISSION)
    await database.run(bring_up_to_date)
    assert await database.run(_differences) == EQUAL
    await database.stop()
    assert execute(postgres_url, SENT) == [(7, True, "sealed")]


def test_a_second_start_changes_nothing(database_path: Path) -> None:
    """An up-to-date database is left unchanged."""
    _started(database_path).stop()
    before = _hashes(database_path.parent)
    _started(database_path).stop()
    assert _hashes(database_path.parent) == before


def test_alembic_is_not_loaded_if_no_step_is_left(database_path: Path) -> None:
    """Importing it takes longer than the rest of the start."""
    start = (
        "import sys; from pathlib import Path; from bot.storage.sqlite import SqliteDatabase\n"
        "database = SqliteDatabase(Path(sys.argv[1])); database.start(); database.stop()\n"
        "print('alembic' in sys.modules)"
    )
    outputs = [
        subprocess.run((sys.executable, "-c", start, database_path), check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own words
        for _ in range(2)
    ]
    assert outputs == ["True\n", "False\n"]


def test_failing_steps_leave_nothing_behind(
    first_version: Path, to_the_next_version: Callable[[Connection], None]
) -> None:
    """All steps or none: here an existing table makes one fail."""
    with closing(sqlite3.connect(first_version)) as connection:
        connection.execute("CREATE TABLE moods (x)")
    before = _ask(first_version, "SELECT name, sql FROM sqlite_master ORDER BY name")
    database = SqliteDatabase(first_version, to_the_next_version)
    with pytest.raises(DatabaseUnavailable):
        database.start()
    database.stop()
    assert _ask(first_version, "SELECT name, sql FROM sqlite_master ORDER BY name") == before


def _killed(path: Path, *statements: str, keeps_index: bool = True) -> None:
    """Do this in a process that is killed before it closes the file: the WAL stays, with or without its index."""
    script = "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
    script += "for s in sys.argv[2:]: c.execute(s)\nos.kill(os.getpid(), 9)"
    subprocess.run((sys.executable, "-c", script, path, *statements), check=False)  # noqa: S603 - our own words
    assert path.with_name(f"{path.name}-wal").stat().st_size > 0
    if not keeps_index:
        path.with_name(f"{path.name}-shm").unlink()


@pytest.mark.parametrize("keeps_index", [True, False], ids=["with the index", "without the index"])
def test_what_a_killed_process_left_in_the_wal_is_recovered(database_path: Path, *, keeps_index: bool) -> None:
    """The check of the file before opening does not prevent recovery."""
    _started(database_path).stop()
    _killed(
        database_path,
        "INSERT INTO snapshots (account_id, refreshed_at) VALUES ('a', '2026-01-02')",
        keeps_index=keeps_index,
    )
    _started(database_path).stop()
    assert _ask(database_path, "SELECT account_id FROM snapshots") == [("a",)]
    assert [path.name for path in database_path.parent.iterdir()] == ["bot.sqlite"]


def test_a_file_whose_creation_was_killed_is_created(database_path: Path) -> None:
    """A journal from before WAL mode is rolled back as usual."""
    database_path.parent.mkdir()
    script = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('CREATE TABLE t (x)'); c.execute('PRAGMA cache_size = 1'); c.execute('BEGIN')\n"
        "c.executemany('INSERT INTO t VALUES (?)', [('x' * 900,)] * 900); os.kill(os.getpid(), 9)"
    )
    subprocess.run((sys.executable, "-c", script, database_path), check=False)  # noqa: S603 - our own words
    assert database_path.with_name("bot.sqlite-journal").exists()
    _started(database_path).stop()
    assert _ask(database_path, "SELECT count(*) FROM t") == [(0,)]


def _make_newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()


def _make_newer_in_the_wal(path: Path) -> None:
    _killed(path, "UPDATE alembic_version SET version_num = '9999'")


def _make_newer_in_the_wal_alone(path: Path) -> None:
    _killed(path, "UPDATE alembic_version SET version_num = '9999'", keeps_index=False)


def _overwrite(path: Path, content: bytes) -> None:
    """Damage each page except the first, whose header is needed to notice it."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        for page in range(4096, size, 4096):
            file.seek(page)
            file.write(content)


def _damage(path: Path) -> None:
    _overwrite(path, b"\xa5" * 512)


def _damage_behind_a_wal(path: Path) -> None:
    _killed(path, "INSERT INTO snapshots (account_id, refreshed_at) VALUES ('a', '2026-01-02')")
    _damage(path)


def _damage_an_index(path: Path) -> None:
    """Add a row to an index that is in no table: each single page stays well-formed."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO snapshots (account_id, refreshed_at) VALUES ('a', '2026-01-02')")
        connection.commit()
        [root] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'snapshots'").fetchone()
    content = bytearray(path.read_bytes())
    content[(root - 1) * 4096 + 3 : (root - 1) * 4096 + 5] = b"\x00\x00"  # the number of the table's rows
    path.write_bytes(content)


def _cut_short(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(4096 * 2)


@pytest.mark.parametrize(
    ("spoil", "refusal"),
    [
        pytest.param(_make_newer, SchemaTooNew, id="a newer one"),
        pytest.param(_make_newer_in_the_wal, SchemaTooNew, id="a newer one in the WAL"),
        pytest.param(_make_newer_in_the_wal_alone, SchemaTooNew, id="a newer one in a WAL without its index"),
        pytest.param(_damage, DatabaseCorrupt, id="damaged pages"),
        pytest.param(_damage_behind_a_wal, DatabaseCorrupt, id="damaged pages behind a WAL"),
        pytest.param(_damage_an_index, DatabaseCorrupt, id="an index that does not fit"),
        pytest.param(_cut_short, DatabaseCorrupt, id="cut short"),
        pytest.param(lambda path: path.write_bytes(b"no database " * 999), DatabaseCorrupt, id="a text"),
    ],
)
def test_an_unusable_file_is_refused_and_left_byte_for_byte(
    database_path: Path, spoil: Callable[[Path], None], refusal: type[Exception]
) -> None:
    """It may be someone's only copy, and a newer version must find it unchanged."""
    _started(database_path).stop()
    spoil(database_path)
    before = _hashes(database_path.parent)
    database = SqliteDatabase(database_path)
    with pytest.raises(refusal):
        database.start()
    database.stop()
    assert _hashes(database_path.parent) == before


def test_a_copy_of_a_file_in_use_can_be_checked(database_path: Path) -> None:
    """A file and its WAL, copied while the bot runs, look like those of a killed process."""
    database = _started(database_path)
    copy = database_path.parent.with_name("copy")
    shutil.copytree(database_path.parent, copy)
    database.stop()
    _started(copy / database_path.name).stop()
    assert _sqlite_differences(copy / database_path.name) == EQUAL


@pytest.fixture
def newer_postgres(postgres_url: str) -> str:
    """Create a database as a newer version would."""
    execute(postgres_url, "CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
    execute(postgres_url, "INSERT INTO alembic_version VALUES ('9999')")
    return postgres_url


async def test_a_newer_postgres_database_is_refused_and_left_alone(newer_postgres: str) -> None:
    """No table is added."""
    database = PostgresDatabase(newer_postgres)
    with pytest.raises(SchemaTooNew):
        await database.start()
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    assert execute(newer_postgres, tables) == [("alembic_version",)]
    assert execute(newer_postgres, "SELECT version_num FROM alembic_version") == [("9999",)]


async def test_any_number_of_replicas_may_start_at_once(postgres_url: str) -> None:
    """The first runs the steps, and the others wait for it."""
    databases = [PostgresDatabase(postgres_url) for _ in range(8)]
    await asyncio.gather(*(database.start() for database in databases))
    assert await databases[0].run(_differences) == EQUAL
    await asyncio.gather(*(database.stop() for database in databases))


async def test_failing_steps_leave_nothing_behind_on_postgres(postgres_url: str) -> None:
    """All or none there as well."""
    execute(postgres_url, "CREATE TABLE submissions (x INTEGER)")
    database = PostgresDatabase(postgres_url)
    with pytest.raises(DatabaseUnavailable):
        await database.start()
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    assert execute(postgres_url, tables) == [("submissions",)]
