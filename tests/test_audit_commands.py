"""The commands `audit verify`, `export`, `begin` and `secret`, beside a bot that runs, on both engines."""

import asyncio
import json
import os
import sqlite3
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from bot.cli import main
from bot.model.audit import Entry, Event, Who
from bot.model.submission import State
from bot.operations.audit_report import export, verify
from bot.sealing.authenticity import Authenticity
from bot.settings import load_database_settings
from bot.storage.audit import AuditChain
from bot.storage.chain_start import set_up_with
from bot.storage.database import Database
from bot.storage.lock import ProcessLock
from bot.storage.postgres import PostgresDatabase
from bot.storage.sqlite import SqliteDatabase
from bot.storage.submissions import Submissions
from tests.make import LAKE, NOW, make_new_submission
from tests.test_cli import REFUSED, _empty_directory, call  # noqa: F401 - a fixture that is used by each test

KEY_HERE = {"R2_CREDENTIAL_AUDIT_KEY": "made-up-and-long-enough-for-a-key-of-the-audit"}
OTHER_KEY = {"R2_CREDENTIAL_AUDIT_KEY": "another-key-of-the-audit-which-nobody-had-before"}
CHAIN = AuditChain(Authenticity([KEY_HERE["R2_CREDENTIAL_AUDIT_KEY"]]))
OTHER_CHAIN = AuditChain(Authenticity([OTHER_KEY["R2_CREDENTIAL_AUDIT_KEY"]]))
FILE = Path("data/bot.sqlite")


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Set where the database is, and the key; return the URL, or "" for a file."""
    monkeypatch.setenv(*next(iter(KEY_HERE.items())))
    url = "" if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))
    if url:
        monkeypatch.setenv("R2_CREDENTIAL_DATABASE_URL", url)
    return url


def _open(url: str) -> SqliteDatabase | PostgresDatabase:
    set_up = set_up_with(CHAIN, lambda: NOW)
    if url:
        return PostgresDatabase(url, set_up=set_up, time_limit=timedelta(seconds=10))
    FILE.parent.mkdir(mode=0o700, exist_ok=True)
    return SqliteDatabase(FILE, set_up)


async def _start(database: SqliteDatabase | PostgresDatabase) -> None:
    if isinstance(database, PostgresDatabase):
        await database.start()
    else:
        database.start()


async def _close(database: SqliteDatabase | PostgresDatabase) -> None:
    await (database.stop() if isinstance(database, PostgresDatabase) else database.close())


async def _fill(database: Database, chain: AuditChain = CHAIN, count: int = 4) -> None:
    who = Who(user_id="U0ADA0001", reason="=1+1")
    entries = [
        Entry(event=Event.SUBMITTED, at=NOW + timedelta(days=day), key=LAKE, who=who) for day in range(1, count + 1)
    ]
    await database.run(lambda connection: chain.append(connection, entries))


def _make(url: str) -> None:
    async def make() -> None:
        database = _open(url)
        await _start(database)
        await _fill(database)
        await _close(database)

    asyncio.run(make())


def _head(stdout: str) -> str:
    return next(line.removeprefix("head: ") for line in stdout.splitlines() if line.startswith("head: "))


def test_a_whole_chain_is_verified(place: str) -> None:
    """Exit code 0, the number of entries and the head, which the next call can ask for."""
    _make(place)
    ended = call("audit", "verify")
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert ended.stdout.startswith("entries: 5\nhead: 5:")
    assert call("audit", "verify", "--head", _head(ended.stdout)).exit_code == 0


def test_a_broken_chain_is_an_error(place: str) -> None:
    """Exit code 1, and the entry by its number."""
    _make(place)
    head = _head(call("audit", "verify").stdout)
    _change(place, "DELETE FROM audit WHERE number = 5")
    ended = call("audit", "verify", "--head", head)
    assert (ended.exit_code, ended.stderr) == (1, "")
    assert ended.stdout == "entry 5: missing: the end of the chain was cut off, or the database is an older one\n"
    _change(place, "UPDATE audit SET details = 'x' WHERE number = 2")
    assert call("audit", "verify").stdout == "entry 2: was changed: its signature does not fit\n"


def _change(url: str, statement: str) -> None:
    async def change() -> None:
        database = _open(url)
        await _start(database)
        await database.run(lambda connection: connection.exec_driver_sql(statement).rowcount)
        await _close(database)

    asyncio.run(change())


def test_another_key_verifies_nothing(place: str) -> None:
    """That is said apart from a broken chain, and is an error all the same."""
    _make(place)
    ended = call("audit", "verify", environment=OTHER_KEY)
    key_id = CHAIN.authenticity.key_id
    assert ended.exit_code == 1
    assert ended.stdout.splitlines()[:2] == [
        f"not verified: entries 1 to 5 are signed with the key {key_id}, which is not set",
        "entries: 5",
    ]


async def test_both_read_beside_a_running_bot(place: str) -> None:
    """Neither waits for its locks; on SQLite nothing but its own files is left."""
    database = _open(place)
    await _start(database)
    lock = ProcessLock(FILE.parent / "lock") if not place else None
    await _fill(database)
    verified = await asyncio.to_thread(call, "audit", "verify")
    exported = await asyncio.to_thread(call, "audit", "export")
    await _fill(database)
    if lock is not None:
        lock.release()
    await _close(database)
    assert verified.stdout.startswith("entries: 5\nhead: 5:")
    assert [json.loads(line)["number"] for line in exported.stdout.splitlines()] == [1, 2, 3, 4, 5]
    if not place:
        assert sorted(path.name for path in FILE.parent.iterdir()) == ["bot.sqlite", "lock"]


def test_reading_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what a killed bot left is not cleaned up: no bytes of the file change, and no key is made."""
    monkeypatch.setenv(*next(iter(KEY_HERE.items())))
    _make("")
    before = FILE.read_bytes(), stat.S_IMODE(FILE.stat().st_mode)
    assert call("audit", "verify").exit_code == call("audit", "export").exit_code == 0
    assert (FILE.read_bytes(), stat.S_IMODE(FILE.stat().st_mode)) == before
    assert [path.name for path in FILE.parent.iterdir()] == ["bot.sqlite"]


def test_forgetting_a_person_breaks_no_chain(place: str) -> None:
    """The export still has the entries, without the person."""
    _make(place)
    assert call("person", "U0ADA0001", "--forget").exit_code == 0
    assert call("audit", "verify").stdout.startswith("entries: 6\n")
    assert "U0ADA0001" not in call("audit", "export").stdout


def test_an_export_says_where_it_ends(place: str) -> None:
    """On standard error: the number of entries, and the head, with which the chain can be verified later."""
    _make(place)
    ended = call("audit", "export", "--since", (NOW + timedelta(days=3)).date().isoformat())
    numbers = [json.loads(line)["number"] for line in ended.stdout.splitlines()]
    assert (ended.exit_code, numbers) == (0, [4, 5])
    assert ended.stderr == f"entries: 2\nhead: {_head(call('audit', 'verify').stdout)}\n"


def test_an_export_as_csv_has_a_header(place: str) -> None:
    """Lines end as RFC 4180 says, whatever the system."""
    _make(place)
    ended = call("audit", "export", "--format", "csv")
    lines = ended.stdout.split("\r\n")
    assert lines[0].startswith("number,at,event,account_id,bucket,")
    assert len(lines) == 7
    assert '"\'=1+1"' in lines[2]


def test_an_export_is_utf_8_whatever_the_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    """A letter that the locale lacks ends no export."""
    monkeypatch.setenv(*next(iter(KEY_HERE.items())))

    async def make() -> None:
        database = _open("")
        await _start(database)
        entry = Entry(event=Event.SUBMITTED, at=NOW, who=Who(user_id="U1", reason="büchse"))
        await database.run(lambda connection: CHAIN.append(connection, [entry]))
        await _close(database)

    asyncio.run(make())
    words = [sys.executable, "-m", "bot", "audit", "export", "--format", "csv"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(__file__).parents[1])}
    ended = subprocess.run(words, env=environment, capture_output=True, check=True)  # noqa: S603 - our own program
    assert "büchse".encode() in ended.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "--since", "yesterday"),
        ("export", "--since", "2026-02-30"),
        ("export", "--since", "2026-11-30T12:00:00"),
        ("export", "--since", "2026-11-30 12:00"),
        ("export", "--since", "20261130"),
        ("export", "--since", "\u0662026-11-30"),
        ("export", "--since", "0001-01-01T00:00:00+23:59"),
        ("export", "--format", "xml"),
        ("verify", "--head", "5"),
        ("verify", "--head", "0:v1.0123456789abcdef." + "0" * 64),
        ("verify", "--head", "5:v1.0123456789abcdef." + "0" * 63),
        ("verify", "--head", "9" * 30 + ":v1.0123456789abcdef." + "0" * 64),
        (),
        ("repair",),
    ],
    ids=" ".join,
)
def test_a_mistake_is_explained(arguments: tuple[str, ...]) -> None:
    """Exit code 2, before anything is opened."""
    ended = call("audit", *arguments)
    assert (ended.exit_code, ended.stdout) == (REFUSED, "")
    assert ": error: " in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize("since", ["2026-11-20", "2026-11-20T14:00:00+02:00", "2026-11-20t12:00:00.000z"])
def test_a_time_is_read_as_it_is_written(since: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A date begins in UTC; small letters and any offset are of RFC 3339."""
    monkeypatch.setenv(*next(iter(KEY_HERE.items())))
    _make("")
    assert len(call("audit", "export", "--since", since).stdout.splitlines()) == 5


COMMANDS = [("audit", "verify"), ("audit", "export"), ("audit", "begin"), ("audit", "secret")]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[1])
def test_each_describes_itself(command: tuple[str, str]) -> None:
    """In the list of the group, and in full on its own page."""
    assert f"\n    {command[1]} " in call("audit", "--help").stdout
    assert call(*command, "--help").stdout.startswith(f"usage: r2-credential-bot audit {command[1]} ")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[1])
def test_bad_settings_are_named(command: tuple[str, str]) -> None:
    """As everywhere."""
    ended = call(*command, environment={"R2_CREDENTIAL_DATABASE_URL": "mysql://x"})
    assert ended.exit_code == REFUSED
    assert ended.stderr.startswith("R2_CREDENTIAL_DATABASE_URL: is sqlite:///PATH")


def test_without_the_key_nothing_is_verified_and_none_is_made() -> None:
    """Neither the directory: a wrong one would get a key that fits nothing."""
    for command in ("verify", "secret"):
        ended = call("audit", command, environment={"R2_CREDENTIAL_HTTP_PORT": ""})
        refusal, hint = ended.stderr.splitlines()
        assert ended.exit_code == REFUSED
        assert refusal.startswith(
            "R2_CREDENTIAL_AUDIT_KEY: is not set, and the bot's own key cannot be read from data/"
        )
        assert hint.startswith(".env: there is none in ")
    assert not Path("data").exists()


def test_the_bots_own_key_is_read() -> None:
    """It lies in the data directory, and is refused where others can read it."""
    Path("data").mkdir(mode=0o700)
    key = Path("data/audit-key")
    key.write_text(KEY_HERE["R2_CREDENTIAL_AUDIT_KEY"] + "\n")
    key.chmod(0o600)
    _make("")
    assert call("audit", "verify").exit_code == 0
    key.chmod(0o644)
    assert "others can read it" in call("audit", "verify").stderr


def test_the_webhooks_secret_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the Standard Webhooks write it, and nothing else."""
    monkeypatch.setenv(*next(iter(KEY_HERE.items())))
    ended = call("audit", "secret")
    assert (ended.stdout, ended.stderr) == (f"{CHAIN.authenticity.webhook_secret().reveal()}\n", "")


@pytest.mark.parametrize(
    "words",
    ["audit verify", "audit export", "audit begin", "audit secret", "person U0ADA0001", "restored", "backup copy"],
)
def test_a_command_beside_the_bot_forgets_its_secrets(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever comes of it: a library may start another program."""
    monkeypatch.setenv(*next(iter(KEY_HERE.items())))
    _make("")
    with suppress(SystemExit):
        main(words.split())
    assert "R2_CREDENTIAL_AUDIT_KEY" not in os.environ


BAD_FILES: dict[str, tuple[Callable[[], object], str]] = {
    "no file": (FILE.unlink, "there is no database of the bot here"),
    "no database": (lambda: FILE.write_bytes(b"x" * 5000), "cannot be read (SQLITE_NOTADB)"),
    "no table": (lambda: _run_sql("DROP TABLE audit"), "there is no audit in this database"),
    "a newer version": (
        lambda: _run_sql("UPDATE alembic_version SET version_num = '9999'"),
        "another version of the bot",
    ),
    "open to others": (lambda: FILE.chmod(0o666), "cannot be used: "),
    "another table": (lambda: _run_sql("ALTER TABLE audit RENAME COLUMN task TO x"), "cannot be read (SQLITE_ERROR)"),
}


def _run_sql(statement: str) -> None:
    with closing(sqlite3.connect(FILE)) as connection:
        connection.execute(statement)
        connection.commit()


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_database_that_cannot_be_read_is_named(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the fix, and without a traceback."""
    monkeypatch.setenv(*next(iter(KEY_HERE.items())))
    _make("")
    spoil, said = BAD_FILES[case]
    spoil()
    for command in ("verify", "export"):
        ended = call("audit", command)
        assert (ended.exit_code, ended.stdout) == (REFUSED, "")
        assert said in ended.stderr


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://postgres@127.0.0.1:1/x", "R2_CREDENTIAL_DATABASE_URL: PostgreSQL cannot be reached"),
        ("postgresql://[", "R2_CREDENTIAL_DATABASE_URL: "),
    ],
)
def test_a_server_that_cannot_be_asked_is_named(url: str, said: str) -> None:
    """A wrong address is no traceback either."""
    ended = call("audit", "verify", environment=KEY_HERE | {"R2_CREDENTIAL_DATABASE_URL": url})
    assert (ended.exit_code, ended.stdout) == (REFUSED, "")
    assert ended.stderr.startswith(said)


def test_a_server_without_an_audit_is_named(postgres_url: str) -> None:
    """Nothing is created there."""
    ended = call("audit", "verify", environment=KEY_HERE | {"R2_CREDENTIAL_DATABASE_URL": postgres_url})
    assert ended.exit_code == REFUSED
    assert "there is no audit in this database" in ended.stderr


def test_a_lost_key_is_replaced(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is open ends, can be told, and the chain goes on; with the key at hand there is nothing to do."""
    opened = make_new_submission(accepted_at=NOW, sent_at=NOW)

    async def make() -> None:
        database = _open(place)
        await _start(database)
        assert (await Submissions(database, CHAIN).add(opened)).is_recorded
        await _close(database)

    asyncio.run(make())
    Path("data").mkdir(mode=0o700, exist_ok=True)
    refused = call("audit", "begin")
    assert (refused.exit_code, refused.stdout) == (REFUSED, "")
    assert "signs the last entry of the audit already, so there is nothing to do" in refused.stderr
    monkeypatch.setenv(*next(iter(OTHER_KEY.items())))
    begun = call("audit", "begin")
    assert (begun.exit_code, begun.stdout) == (
        0,
        "Begun. Open submissions that were ended: 1. The bot tells their users when it runs.\n",
    )
    assert call("audit", "begin").exit_code == REFUSED
    verified = call("audit", "verify").stdout.splitlines()
    assert verified[0].startswith("not verified: entries 1 to 2 are signed with the key ")

    async def tell() -> list[State]:
        database = _open(place)
        await _start(database)
        submissions = Submissions(database, OTHER_CHAIN)
        work = await submissions.work(await submissions.take(LAKE))
        await _close(database)
        return [pending.submission.state for pending in work]

    assert asyncio.run(tell()) == [State.EXPIRED]


def test_a_key_is_not_replaced_where_there_is_no_database() -> None:
    """A wrong directory gets no empty one."""
    ended = call("audit", "begin", environment={"R2_CREDENTIAL_DATA_DIR": "typo"})
    assert ended.exit_code == REFUSED
    assert ended.stderr.startswith("typo/bot.sqlite: there is no database of the bot here")


MANY = 20_000
LITTLE_BYTES = 12 * 1024 * 1024
"""Twenty batches of a thousand take up more than twice as much."""


@pytest.fixture(scope="module")
def long_chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with many entries."""
    path = tmp_path_factory.mktemp("long") / "data" / "bot.sqlite"
    path.parent.mkdir(mode=0o700)
    who = Who(user_id="U0ADA0001", team_id="T0SANDBOX", channel_id="C0DATAPLT", reason="r" * 200)

    async def make() -> None:
        database = SqliteDatabase(path, set_up_with(CHAIN, lambda: NOW))
        database.start()
        entries = [Entry(event=Event.SUBMITTED, at=NOW, key=LAKE, details=str(each), who=who) for each in range(MANY)]
        await database.run(lambda connection: CHAIN.append(connection, entries))
        await database.close()

    asyncio.run(make())
    return path


@pytest.mark.thorough
@pytest.mark.parametrize("arguments", [("verify",), ("export",), ("export", "--since", "2026-11-19")], ids=" ".join)
def test_a_long_chain_takes_no_more_memory_than_a_short_one(
    long_chain: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read in batches, and nothing of a batch is kept."""
    count = 0

    def write(_: str) -> None:
        nonlocal count
        count += 1

    monkeypatch.setenv("R2_CREDENTIAL_DATA_DIR", str(long_chain.parent))
    monkeypatch.setenv(*next(iter(KEY_HERE.items())))
    settings = load_database_settings()
    since = NOW - timedelta(days=1) if len(arguments) > 1 else None
    work = verify(settings, None) if arguments == ("verify",) else export(settings, since, "csv", write)
    tracemalloc.start()
    asyncio.run(work)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < LITTLE_BYTES
    assert arguments == ("verify",) or count == 1 + (MANY + 1 + 999) // 1000
