"""The steps that make the tables, on both databases: they end at `METADATA`, keep what is there, and refuse safely."""

import asyncio
import hashlib
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect

from bot.model.errors import DatabaseUnavailable
from bot.model.submission import Task
from bot.storage import migrations as migrations_package
from bot.storage.catalogs import Inventory
from bot.storage.database import DatabaseCorrupt, SchemaTooNew
from bot.storage.migrations import KNOWN
from bot.storage.postgres import PostgresDatabase
from bot.storage.schema import METADATA
from bot.storage.sqlite import SqliteDatabase
from bot.storage.submissions import Records
from tests.postgres import execute

FIRST_VERSION = """
CREATE TABLE openings (
    nonce VARCHAR NOT NULL, team_id VARCHAR NOT NULL, user_id VARCHAR NOT NULL, expires_at DATETIME NOT NULL,
    used_by VARCHAR, PRIMARY KEY (nonce)
);
CREATE TABLE submissions (
    sequence INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, id VARCHAR NOT NULL, state VARCHAR NOT NULL,
    team_id VARCHAR NOT NULL, user_id VARCHAR NOT NULL, account_id VARCHAR NOT NULL, bucket VARCHAR NOT NULL,
    channel_id VARCHAR NOT NULL, reason VARCHAR NOT NULL, token_kind VARCHAR NOT NULL, last_four VARCHAR NOT NULL,
    sealed_token VARCHAR, sealed_response_url VARCHAR, accepted_at DATETIME NOT NULL, expires_at DATETIME NOT NULL,
    next_attempt_at DATETIME NOT NULL, attempts INTEGER NOT NULL, possibly_written BOOLEAN NOT NULL,
    confirm_until DATETIME, ended_at DATETIME, error_code VARCHAR, cloudflare_code INTEGER, cf_ray VARCHAR,
    credential_before VARCHAR, confirmation VARCHAR, reported_at DATETIME, UNIQUE (id)
);
CREATE INDEX submissions_open ON submissions (account_id, bucket, sequence) WHERE reported_at IS NULL;
CREATE TABLE catalogs (
    account_id VARCHAR NOT NULL, bucket VARCHAR NOT NULL, status VARCHAR NOT NULL, credential_status VARCHAR NOT NULL,
    PRIMARY KEY (account_id, bucket)
);
CREATE TABLE snapshots (account_id VARCHAR NOT NULL, refreshed_at DATETIME NOT NULL, PRIMARY KEY (account_id));
INSERT INTO openings VALUES ('nonce-1', 'T1', 'U1', '2026-01-02 03:04:05.000000', NULL);
INSERT INTO submissions VALUES (
    7, 'V1', 'accepted', 'T1', 'U1', 'a', 'lake', 'C1', 'a reason', 'account', '1234', 'sealed', NULL,
    '2026-01-02 03:04:05.000000', '2026-01-02 04:04:05.000000', '2026-01-02 03:04:05.000000', 0, 0,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
);
INSERT INTO snapshots VALUES ('a', '2026-01-02 03:04:05.000000');
"""


Differences = tuple[list[object], dict[str, str]]


def _differences(connection: Connection) -> Differences:
    """Compare the tables with `METADATA`; Alembic does not look at an index's condition, so that is added."""
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, METADATA)), _conditions(connection)


def _conditions(connection: Connection) -> dict[str, str]:
    """Return the partial indexes, without the brackets that PostgreSQL puts around their conditions."""
    option = f"{connection.dialect.name}_where"
    found = {
        str(index["name"]): str(index["dialect_options"][option])
        for table in inspect(connection).get_table_names()
        for index in inspect(connection).get_indexes(table)
        if option in index.get("dialect_options", {})
    }
    return {name: condition.strip("()") for name, condition in found.items()}


EQUAL: Differences = (
    [],
    {
        str(index.name): str(where).replace(f"{table.name}.", "")
        for table in METADATA.tables.values()
        for index in table.indexes
        if (where := index.dialect_options["postgresql"]["where"]) is not None
    },
)


def _started(path: Path) -> SqliteDatabase:
    database = SqliteDatabase(path)
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
    """Whatever is read from the names of the files is what Alembic reads in them."""
    script = ScriptDirectory(Path(migrations_package.__path__[0]))
    assert [step.revision for step in script.walk_revisions()][::-1] == KNOWN
    assert [step.down_revision for step in script.walk_revisions()][::-1] == [None, *KNOWN[:-1]]


def test_a_new_file_has_the_tables_of_the_metadata(database_path: Path) -> None:
    """The steps end where `schema` is."""
    _started(database_path).stop()
    assert _sqlite_differences(database_path) == EQUAL
    assert _ask(database_path, "SELECT version_num FROM alembic_version") == [(KNOWN[-1],)]


async def test_a_new_postgres_database_has_the_tables_of_the_metadata(postgres_url: str) -> None:
    """The same there."""
    database = PostgresDatabase(postgres_url)
    await database.start()
    assert await database.run(_differences) == EQUAL
    await database.stop()
    assert execute(postgres_url, "SELECT version_num FROM alembic_version") == [(KNOWN[-1],)]


@pytest.fixture
def first_version(database_path: Path) -> Path:
    """Make a file as the first version of the bot did, with some records."""
    database_path.parent.mkdir()
    with closing(sqlite3.connect(database_path)) as connection:
        connection.executescript(f"PRAGMA journal_mode = WAL; {FIRST_VERSION}")
    return database_path


def test_a_file_of_the_first_version_keeps_its_records(first_version: Path) -> None:
    """It recorded no revision, and is brought up by the same steps."""
    _started(first_version).stop()
    assert _sqlite_differences(first_version) == EQUAL
    assert _ask(first_version, "SELECT sequence, id, bucket, sealed_token FROM submissions") == [
        (7, "V1", "lake", "sealed")
    ]
    assert _ask(first_version, "SELECT nonce, used_by FROM openings") == [("nonce-1", None)]
    assert _ask(first_version, "SELECT account_id FROM snapshots") == [("a",)]


def test_sequences_go_on_where_they_were(first_version: Path) -> None:
    """A number that was given once is never given again, also across the steps."""
    with closing(sqlite3.connect(first_version)) as connection:
        connection.execute("DELETE FROM submissions")
        connection.commit()
    _started(first_version).stop()
    assert _ask(first_version, "SELECT seq FROM sqlite_sequence WHERE name = 'submissions'") == [(7,)]


def test_a_second_start_changes_nothing(database_path: Path) -> None:
    """What is up to date is left alone."""
    _started(database_path).stop()
    before = _hashes(database_path.parent)
    _started(database_path).stop()
    assert _hashes(database_path.parent) == before


def test_alembic_is_not_loaded_when_nothing_is_to_be_done(database_path: Path) -> None:
    """It takes longer than the rest of the start."""
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


def test_steps_that_break_leave_nothing_behind(first_version: Path) -> None:
    """They are done together or not at all: here a table of another make is in the way."""
    with closing(sqlite3.connect(first_version)) as connection:
        connection.executescript("DROP INDEX submissions_open; DROP TABLE submissions; CREATE TABLE submissions (x)")
    before = _ask(first_version, "SELECT name, sql FROM sqlite_master ORDER BY name")
    database = SqliteDatabase(first_version)
    with pytest.raises(DatabaseUnavailable):
        database.start()
    database.stop()
    assert _ask(first_version, "SELECT name, sql FROM sqlite_master ORDER BY name") == before


def _killed(path: Path, *statements: str, keeps_index: bool = True) -> None:
    """Do this in a process that is killed before it closes the file: its WAL stays, and the index of it or not."""
    script = "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
    script += "for s in sys.argv[2:]: c.execute(s)\nos.kill(os.getpid(), 9)"
    subprocess.run((sys.executable, "-c", script, path, *statements), check=False)  # noqa: S603 - our own words
    assert path.with_name(f"{path.name}-wal").stat().st_size > 0
    if not keeps_index:
        path.with_name(f"{path.name}-shm").unlink()


@pytest.mark.parametrize("keeps_index", [True, False], ids=["with the index", "without the index"])
def test_what_a_killed_process_left_in_the_wal_is_there(database_path: Path, *, keeps_index: bool) -> None:
    """To look through the file first does not stand in the way of its recovery."""
    _started(database_path).stop()
    _killed(
        database_path,
        "INSERT INTO snapshots (account_id, refreshed_at) VALUES ('a', '2026-01-02')",
        keeps_index=keeps_index,
    )
    _started(database_path).stop()
    assert _ask(database_path, "SELECT account_id FROM snapshots") == [("a",)]
    assert [path.name for path in database_path.parent.iterdir()] == ["bot.sqlite"]


def test_what_was_killed_while_it_was_made_is_made(database_path: Path) -> None:
    """A journal of the time before the WAL is rolled back as usual."""
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
    """Damage each page but the first, whose header is needed to notice."""
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
    """Let an index hold a row that is in no table: each page is well-formed by itself."""
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
def test_what_cannot_be_used_is_refused_and_left_byte_for_byte(
    database_path: Path, spoil: Callable[[Path], None], refusal: type[Exception]
) -> None:
    """It may be somebody's only copy, and a newer version must find it as it was."""
    _started(database_path).stop()
    spoil(database_path)
    before = _hashes(database_path.parent)
    database = SqliteDatabase(database_path)
    with pytest.raises(refusal):
        database.start()
    database.stop()
    assert _hashes(database_path.parent) == before


def test_a_copy_of_a_file_in_use_can_be_looked_through(database_path: Path) -> None:
    """A file and its WAL that were copied while the bot ran are as good as killed."""
    database = _started(database_path)
    copy = database_path.parent.with_name("copy")
    shutil.copytree(database_path.parent, copy)
    database.stop()
    _started(copy / database_path.name).stop()
    assert _sqlite_differences(copy / database_path.name) == EQUAL


@pytest.fixture
def newer_postgres(postgres_url: str) -> str:
    """Make a database as a newer version would."""
    execute(postgres_url, "CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
    execute(postgres_url, "INSERT INTO alembic_version VALUES ('9999')")
    return postgres_url


async def test_a_newer_postgres_database_is_refused_and_left_alone(newer_postgres: str) -> None:
    """Not a table is added."""
    database = PostgresDatabase(newer_postgres)
    with pytest.raises(SchemaTooNew):
        await database.start()
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    assert execute(newer_postgres, tables) == [("alembic_version",)]
    assert execute(newer_postgres, "SELECT version_num FROM alembic_version") == [("9999",)]


async def test_any_number_of_replicas_may_start_at_once(postgres_url: str) -> None:
    """The first does the steps, and the rest wait for it."""
    databases = [PostgresDatabase(postgres_url) for _ in range(8)]
    await asyncio.gather(*(database.start() for database in databases))
    assert await databases[0].run(_differences) == EQUAL
    await asyncio.gather(*(database.stop() for database in databases))


SECOND_VERSION = """
ALTER TABLE submissions ADD COLUMN superseded_by VARCHAR;
DROP INDEX submissions_open;
CREATE INDEX submissions_open ON submissions (account_id, bucket, accepted_at, sequence) WHERE reported_at IS NULL;
CREATE INDEX submissions_written ON submissions (account_id, bucket, accepted_at) WHERE confirm_until IS NOT NULL;
CREATE TABLE leases (
    account_id VARCHAR NOT NULL, bucket VARCHAR NOT NULL, epoch BIGINT NOT NULL, PRIMARY KEY (account_id, bucket)
);
CREATE TABLE pace (
    account_id VARCHAR NOT NULL, quota INTEGER NOT NULL, window_seconds INTEGER NOT NULL, spent JSON NOT NULL,
    newest_at DATETIME NOT NULL, next_at DATETIME NOT NULL, spare INTEGER, resets_at DATETIME, blocked_until DATETIME,
    PRIMARY KEY (account_id)
);
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
INSERT INTO alembic_version VALUES ('0002');
INSERT INTO catalogs VALUES ('a', 'lake', 'active', 'present');
"""
"""What makes a database of the second version of one of the first."""

OF_POSTGRES = {"INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT": "BIGSERIAL PRIMARY KEY", "DATETIME": "TIMESTAMPTZ"}
OLD_STATES = (
    "accepted",
    "storing",
    "confirming",
    "stored",
    "refused",
    "denied",
    "failed",
    "uncertain",
    "superseded",
    "expired",
)
ENDED = OLD_STATES[3:]


def _old_row(number: int, bucket: str, state: str, minute: int, account_id: str = "a") -> str:
    """Return a statement that records a submission of the second version, accepted in that minute."""
    at, ended_at = f"2026-01-02 03:{minute:02}:00", f"'2026-01-02 03:{minute:02}:09'" if state in ENDED else "NULL"
    sealed = "NULL" if state in ENDED else "'sealed'"
    confirm_until = ended_at if state == "stored" else f"'{at}'" if state == "confirming" else "NULL"
    columns = (
        "sequence, id, state, team_id, user_id, account_id, bucket, channel_id, reason, token_kind, last_four, "
        "sealed_token, accepted_at, expires_at, next_attempt_at, attempts, possibly_written, confirm_until, ended_at, "
        "credential_before, confirmation"
    )
    return (
        f"INSERT INTO submissions ({columns}) VALUES ({number}, 'N{number}', '{state}', 'T1', 'U{number}', "  # noqa: S608 - our own words
        f"'{account_id}', '{bucket}', 'C{number}', 'a reason', 'account', '1234', {sealed}, '{at}', '{at}', '{at}', 1, "
        f"{'TRUE' if state == 'storing' else 'FALSE'}, {confirm_until}, {ended_at}, 'present', 'unknown')"
    )


OLD_ROWS = [
    *(_old_row(10 + number, f"only {state}", state, number) for number, state in enumerate(OLD_STATES)),
    *(_old_row(30 + number, "all", state, number) for number, state in enumerate(OLD_STATES)),
    _old_row(50, "twice", "stored", 1),
    _old_row(51, "twice", "stored", 2),
    _old_row(60, "replaced", "stored", 9),  # a repeated Submit: it keeps its sequence, and is the newer one
    _old_row(61, "replaced", "stored", 1),
    _old_row(70, "confirmed now", "stored", 1),
    _old_row(71, "confirmed now", "confirming", 2),
    _old_row(80, "at once", "stored", 1),
    _old_row(81, "at once", "stored", 1),
    _old_row(90, "twice", "stored", 1, account_id="b"),
]
STORED_LAST = [
    ("a", "all", "N33", "U33", "03:03:09"),
    ("a", "at once", "N81", "U81", "03:01:09"),
    ("a", "confirmed now", "N71", "U71", "03:02:00"),
    ("a", "only confirming", "N12", "U12", "03:02:00"),
    ("a", "only stored", "N13", "U13", "03:03:09"),
    ("a", "replaced", "N60", "U60", "03:09:09"),
    ("a", "twice", "N51", "U51", "03:02:09"),
    ("b", "twice", "N90", "U90", "03:01:09"),
]
NOT_KNOWN = (
    "SELECT count(*) FROM credentials WHERE token_id IS NOT NULL OR expires_at IS NOT NULL OR reminded_at IS NOT NULL "
    "OR broken_at IS NOT NULL"
)


@pytest.fixture
def second_version(first_version: Path) -> Path:
    """Make a file as the second version of the bot did, with submissions in every state."""
    with closing(sqlite3.connect(first_version)) as connection:
        connection.executescript(SECOND_VERSION)
        for statement in OLD_ROWS:
            connection.execute(statement)
        connection.commit()
    return first_version


@pytest.fixture
def second_version_on_postgres(postgres_url: str) -> str:
    """Make the same on PostgreSQL."""
    script = FIRST_VERSION + SECOND_VERSION
    for theirs, its in OF_POSTGRES.items():
        script = script.replace(theirs, its)
    script = script.replace("0, 0,\n", "0, FALSE,\n")
    for statement in [*script.strip().split(";")[:-1], *OLD_ROWS]:
        execute(postgres_url, statement)
    return postgres_url


def test_what_was_stored_last_is_what_the_slots_hold(second_version: Path) -> None:
    """Of each bucket the newest that was written, by its time; who, when and where. Nobody knows the rest."""
    before = _ask(second_version, "SELECT sequence, id, state, sealed_token, superseded_by FROM submissions")
    _started(second_version).stop()
    assert _sqlite_differences(second_version) == EQUAL
    columns = "account_id, bucket, submission_id, stored_by, substr(stored_at, 12, 8)"
    assert _ask(second_version, f"SELECT {columns} FROM credentials ORDER BY account_id, bucket") == STORED_LAST  # noqa: S608 - our own words
    assert _ask(second_version, NOT_KNOWN) == [(0,)]
    assert _ask(second_version, "SELECT sequence, id, state, sealed_token, superseded_by FROM submissions") == before
    assert _ask(second_version, "SELECT DISTINCT task, checked_at, unchecked FROM submissions") == [
        ("store", None, None)
    ]
    assert _ask(second_version, "SELECT bucket, credential_status, tested FROM catalogs") == [("lake", "present", None)]


async def test_what_was_stored_last_is_what_the_slots_hold_on_postgres(second_version_on_postgres: str) -> None:
    """The same there."""
    url = second_version_on_postgres
    database = PostgresDatabase(url)
    await database.start()
    assert await database.run(_differences) == EQUAL
    await database.stop()
    columns = "account_id, bucket, submission_id, stored_by, to_char(stored_at, 'HH24:MI:SS')"
    order = 'ORDER BY account_id, bucket COLLATE "C"'
    assert execute(url, f"SELECT {columns} FROM credentials {order}") == STORED_LAST  # noqa: S608 - our own words
    assert execute(url, NOT_KNOWN) == [(0,)]
    assert execute(url, "SELECT DISTINCT task FROM submissions") == [("store",)]


async def test_what_an_older_version_has_recorded_is_read_and_goes_on(second_version: Path) -> None:
    """Every state of it is one of today's, and what was open stays open."""
    database = _started(second_version)
    records = Records(database)
    submissions = await records.history("a", None, 99)
    open_states = {submission.state.value for submission in submissions if not submission.is_ended}
    stored = await Inventory(database, "a").stored_credentials()
    database.stop()
    assert {submission.state.value for submission in submissions} == set(OLD_STATES)
    assert open_states == {"accepted", "storing", "confirming"}
    assert {(submission.task, submission.findings) for submission in submissions} == {(Task.STORE, None)}
    assert [credential.channel_id for credential in stored] == ["C33", "C81", "C71", "C12", "C13", "C60", "C51"]


async def test_steps_that_break_leave_nothing_behind_on_postgres(postgres_url: str) -> None:
    """All or none there as well."""
    execute(postgres_url, "CREATE TABLE submissions (x INTEGER)")
    database = PostgresDatabase(postgres_url)
    with pytest.raises(DatabaseUnavailable):
        await database.start()
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    assert execute(postgres_url, tables) == [("submissions",)]
