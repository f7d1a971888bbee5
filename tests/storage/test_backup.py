"""A backup is a whole, private copy that holds nothing sealed and nothing open; every refusal names the fix."""

import asyncio
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from bot.model.errors import StartRefused
from bot.model.move import Changes, Move
from bot.model.submission import Sealed, SealedResponseUrl, SealedToken, State
from bot.storage.backup import back_up
from bot.storage.backup_draft import backup_draft
from bot.storage.database import SchemaTooNew
from bot.storage.migrations import VERSIONS, bring_up_to_date
from bot.storage.sqlite import SqliteDatabase
from bot.storage.submissions import Submissions
from tests.make import CHAIN, NOW, make_key, make_new_submission
from tests.sealing.test_private_places import give_away
from tests.storage.test_migrations import FIRST_SUBMISSION, NEXT, NEXT_STEP

SEALED = "sealed.v1.0000000000facade.MADEUPBACKUPTOKEN"
URL = "sealed.v1.0000000000facade.MADEUPBACKUPURL"
FULL_BYTES = 40_000
"""Enough for the index of a WAL, not for the tables."""

WAYS: dict[State, tuple[State, ...]] = {
    State.ACCEPTED: (),
    State.VERIFYING: (State.VERIFYING,),
    State.STORING: (State.VERIFYING, State.STORING),
    State.CONFIRMING: (State.VERIFYING, State.STORING, State.CONFIRMING),
    State.REFUSED: (State.REFUSED,),
}
ENDS = {
    State.ACCEPTED: ("expired", "database_restored"),
    State.VERIFYING: ("expired", "database_restored"),
    State.STORING: ("uncertain", "database_restored"),
    State.CONFIRMING: ("stored", None),
    State.REFUSED: ("refused", None),
}
"""How what was in each state is found in a backup; the last one had ended, and was not reported yet."""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return the path of the backup."""
    return tmp_path / "backup.sqlite"


async def record(submissions: Submissions, state: State) -> None:
    """Record a submission with sealed values, and bring it to this state, in a bucket of its name."""
    sealed = Sealed(token=SealedToken(f"{SEALED}.{state}"), response_url=SealedResponseUrl(f"{URL}.{state}"))
    key = make_key(state.value)
    await submissions.add(make_new_submission(id=f"V{state}", key=key, sealed=sealed))
    lease = await submissions.take(key)
    for to in WAYS[state]:
        submission = await submissions.find(f"V{state}")
        assert submission is not None
        changes = Changes(confirm_until=NOW if to is State.CONFIRMING else None)
        await submissions.apply(submission, Move(to=to, at=NOW, changes=changes), lease)


def names_in(directory: Path) -> list[str]:
    """List a directory."""
    return sorted(path.name for path in directory.iterdir())


def read(path: Path) -> tuple[bytes, int]:
    """Return a file's content and mode."""
    return path.read_bytes(), stat.S_IMODE(path.stat().st_mode)


def ask(path: Path, question: str) -> list[tuple[object, ...]]:
    """Query a file."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(question).fetchall()


async def test_a_backup_holds_nothing_sealed_and_nothing_open(
    submissions: Submissions, database_path: Path, target: Path
) -> None:
    """Not even in freed pages; the database itself is left as it is, and the bot goes on writing."""
    for state in WAYS:
        await record(submissions, state)

    ended = back_up(database_path, target, NOW)
    await record(submissions, State.ACCEPTED)

    content, mode = read(target)
    assert SEALED.encode() not in content
    assert URL.encode() not in content
    assert ended == 4
    assert mode == 0o600
    assert names_in(target.parent) == [target.name, "data"]
    found = ask(target, "SELECT bucket, state, error_code FROM submissions")
    assert {State(str(bucket)): (state, code) for bucket, state, code in found} == ENDS
    assert ask(target, "SELECT count(*) FROM submissions WHERE reported_at IS NOT NULL") == [(0,)]
    assert ask(database_path, "SELECT count(*) FROM submissions WHERE sealed_token IS NOT NULL") == [(4,)]


async def test_a_backup_starts_as_the_bots_database(
    submissions: Submissions, database_path: Path, target: Path
) -> None:
    """It has all tables, and the numbers go on."""
    await record(submissions, State.REFUSED)
    back_up(database_path, target, NOW)
    database = SqliteDatabase(target)
    database.start()
    copied = await Submissions(database, CHAIN).find("Vrefused")
    database.stop()

    assert copied is not None
    assert ask(target, "PRAGMA integrity_check") == [("ok",)]
    assert ask(target, "SELECT seq FROM sqlite_sequence") == ask(database_path, "SELECT seq FROM sqlite_sequence")


async def test_a_backup_is_of_one_moment_while_the_bot_writes(
    submissions: Submissions, database_path: Path, target: Path
) -> None:
    """Each transaction of the bot is in it as a whole or not at all, and the bot waits for nothing."""
    is_over = asyncio.Event()

    async def write() -> int:
        number = 0
        while not is_over.is_set():
            number += 1
            new = make_new_submission(id=f"V{number}", key=make_key(f"b{number}"), reason="x" * 900)
            await submissions.add(new)
        return number

    writing = asyncio.create_task(write())
    for number in range(3):
        await asyncio.to_thread(back_up, database_path, target.with_name(f"{number}.sqlite"), NOW)
    is_over.set()
    written = await writing

    for number in range(3):
        copy = target.with_name(f"{number}.sqlite")
        [(count, highest)] = ask(copy, "SELECT count(*), coalesce(max(sequence), 0) FROM submissions")
        assert ask(copy, "PRAGMA integrity_check") == [("ok",)]
        assert count == highest
        assert int(str(count)) <= written


async def test_a_database_of_an_earlier_version_is_copied_as_it_is(database_path: Path, target: Path) -> None:
    """The version before an upgrade must be able to read it."""
    [first] = VERSIONS[0].glob("0001_*.py")
    steps = target.parent / "steps"
    steps.mkdir()
    shutil.copy(first, steps)
    database = SqliteDatabase(database_path, lambda connection: bring_up_to_date(connection, (steps,)))
    database.start()
    database.stop()
    with closing(sqlite3.connect(database_path)) as connection, connection:
        connection.execute(FIRST_SUBMISSION)

    assert back_up(database_path, target, NOW) == 1
    assert ask(target, "SELECT state, sealed_token FROM submissions") == [("expired", None)]
    assert ask(target, "SELECT version_num FROM alembic_version") == [("0001",)]


async def test_the_backup_of_an_upgrade_is_the_way_back(
    submissions: Submissions, database: SqliteDatabase, database_path: Path, target: Path
) -> None:
    """The older version refuses what the newer one has made of the database, and goes on with the backup."""
    await record(submissions, State.REFUSED)
    back_up(database_path, target, NOW)
    database.stop()
    newer = target.parent / "steps"
    newer.mkdir()
    (newer / f"{NEXT}_moods.py").write_text(NEXT_STEP)
    upgraded = SqliteDatabase(database_path, lambda connection: bring_up_to_date(connection, (*VERSIONS, newer)))
    upgraded.start()
    upgraded.stop()

    with pytest.raises(SchemaTooNew):
        SqliteDatabase(database_path).start()
    shutil.copy(target, database_path)
    older = SqliteDatabase(database_path)
    older.start()
    found = await Submissions(older, CHAIN).find("Vrefused")
    older.stop()

    assert found is not None


def _nothing(path: Path) -> None:
    path.unlink()


def _garbage(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)


def _damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 20_000)


def _newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")


def _another(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE notes (text)")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(_nothing, "there is no database of the bot here; set R2_CREDENTIAL_DATA_DIR", id="no file"),
        pytest.param(_garbage, "is damaged; keep the last backup, and put it in its place", id="not a database"),
        pytest.param(_damage, "is damaged; keep the last backup, and put it in its place", id="damaged pages"),
        pytest.param(_newer, "belongs to a newer version of the bot; make the backup with that", id="a newer one"),
        pytest.param(_another, "is no database of this bot; set R2_CREDENTIAL_DATABASE_URL", id="another one"),
    ],
)
def test_a_file_that_cannot_be_backed_up_is_refused(
    migrated_path: Path, target: Path, spoil: Callable[[Path], None], said: str
) -> None:
    """The fix is named, and no half of a backup is left."""
    spoil(migrated_path)

    with pytest.raises(StartRefused) as refused:
        back_up(migrated_path, target, NOW)

    assert str(refused.value).startswith(f"{migrated_path}")
    assert said in str(refused.value)
    assert names_in(target.parent) == ["data"]


@pytest.mark.parametrize("is_link", [False, True], ids=["a file", "a link to nowhere"])
def test_an_existing_file_is_never_replaced(migrated_path: Path, target: Path, *, is_link: bool) -> None:
    """Nor is a link followed."""
    if is_link:
        target.symlink_to(target.parent / "nowhere")
    else:
        target.write_text("kept")

    with pytest.raises(StartRefused, match="already exists, and a backup never replaces one; choose another name"):
        back_up(migrated_path, target, NOW)

    assert target.is_symlink() == is_link
    assert is_link or target.read_text() == "kept"
    assert not (target.parent / "nowhere").exists()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: None, id="no directory"),
        pytest.param(lambda path: path.write_text("a file"), id="a file in its place"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused(
    migrated_path: Path, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """The system's reason, and what to do."""
    make(tmp_path / "elsewhere")

    with pytest.raises(StartRefused, match=r"cannot be written \(.+\); name a file on a local disk with room for it"):
        back_up(migrated_path, tmp_path / "elsewhere" / "backup.sqlite", NOW)


def test_a_full_disk_is_named(migrated_path: Path, target: Path) -> None:
    """What was written of it is removed."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_BYTES, limits[1]))
    try:
        with pytest.raises(StartRefused) as refused:
            back_up(migrated_path, target, NOW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)

    assert "make room" in str(refused.value)
    assert names_in(target.parent) == ["data"]


def test_a_database_that_another_program_holds_is_refused(
    migrated_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exclusive lock, as a repair tool takes it."""
    monkeypatch.setattr("bot.storage.backup._BUSY_SECONDS", 0)
    with closing(sqlite3.connect(migrated_path)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StartRefused, match="is held by another program"):
            back_up(migrated_path, target, NOW)


def test_what_a_kill_left_is_replaced(migrated_path: Path, target: Path) -> None:
    """A draft is no backup."""
    for draft in (target.with_name(f".{target.name}.draft"), *drafts_of(migrated_path)):
        draft.write_text("half")

    back_up(migrated_path, target, NOW)

    assert names_in(target.parent) == ["backup.sqlite", "data"]
    assert names_in(migrated_path.parent) == [migrated_path.name]


def test_what_a_kill_left_is_removed_by_a_start(migrated_path: Path) -> None:
    """Nobody may make a backup again."""
    for draft in drafts_of(migrated_path):
        draft.write_text("half")
    database = SqliteDatabase(migrated_path)
    database.start()
    database.stop()

    assert names_in(migrated_path.parent) == [migrated_path.name]


def test_one_backup_of_a_database_is_made_at_a_time(migrated_path: Path, target: Path) -> None:
    """A second one is refused, and neither it nor a start removes the draft of the first."""
    with backup_draft(migrated_path) as (draft, _):
        with pytest.raises(StartRefused, match=r"another backup of .+ is being made; wait for its end"):
            back_up(migrated_path, target, NOW)
        database = SqliteDatabase(migrated_path)
        database.start()
        database.stop()

        assert draft.exists()
    assert names_in(target.parent) == ["data"]


EVENTS = ("open", "sqlite3.connect", "fcntl.flock", "os.link", "os.remove")
"""Python's audit events between which every step of a backup lies."""

KILLED = f"""
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from bot.storage.backup import back_up

def hear(event, arguments):
    global left
    if event in {EVENTS} and (event != "open" or str(arguments[0]).startswith(own)):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

left, own = int(sys.argv[3]), str(Path(sys.argv[2]).parent)
sys.addaudithook(hear)
back_up(Path(sys.argv[1]), Path(sys.argv[2]), datetime.now(UTC))
"""


@pytest.mark.thorough
async def test_a_kill_at_any_time_leaves_nothing_sealed(
    submissions: Submissions, database: SqliteDatabase, database_path: Path, target: Path
) -> None:
    """Not beside the backup, nor in a file of the data directory that is not the database."""
    for state in WAYS:
        await record(submissions, state)
    database.stop()
    is_killed, number = True, 0
    while is_killed:
        number += 1
        ended = run_python(KILLED, database_path, target.with_name(f"{number}.sqlite"), number)
        is_killed = ended.returncode == -signal.SIGKILL
        holding = [path.name for path in target.parent.rglob("*") if path.is_file() and SEALED in content_of(path)]
        assert holding == [database_path.name], number
        assert is_killed or ended.returncode == 0, ended.stderr

    assert number > len(EVENTS)
    assert names_in(database_path.parent) == [database_path.name]


def run_python(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program in a new process."""
    words = [sys.executable, "-c", program, *(str(argument) for argument in arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 - our own program


def content_of(path: Path) -> str:
    """Return all bytes of a file as text."""
    return path.read_bytes().decode("latin-1")


def drafts_of(database: Path) -> tuple[Path, Path]:
    """Return the files that a killed backup can leave beside the database."""
    return database.with_name(f".{database.name}.backup"), database.with_name(f".{database.name}.backup-journal")


@pytest.mark.parametrize("ending", ["-wal", "-journal", "-shm"])
def test_nothing_that_another_user_planted_is_opened(migrated_path: Path, target: Path, ending: str) -> None:
    """SQLite would replay a log of theirs: beside the backup, it opens no file at all."""
    planted = [target.with_name(f".{target.name}.{kind}{ending}") for kind in ("draft", "vacuumed")]
    for path in planted:
        path.mkdir()

    back_up(migrated_path, target, NOW)

    assert all(path.is_dir() for path in planted)
    assert ask(target, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("others", ["write there", "own it"])
def test_the_directory_of_the_database_must_be_the_bots(
    migrated_path: Path, target: Path, others: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a start: the backup is put together there."""
    if others == "own it":
        give_away(migrated_path.parent, monkeypatch)
    else:
        migrated_path.parent.chmod(0o777)

    with pytest.raises(StartRefused, match=f"^{migrated_path.parent} cannot be used: "):
        back_up(migrated_path, target, NOW)

    assert names_in(target.parent) == ["data"]
    assert names_in(migrated_path.parent) == [migrated_path.name]


class DiskUsage(NamedTuple):
    """As the standard library's, which has no public name."""

    total: int
    used: int
    free: int


def test_a_backup_leaves_room_for_the_bot(migrated_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is put together on the bot's own disk."""
    size = migrated_path.stat().st_size
    monkeypatch.setattr(shutil, "disk_usage", lambda _: DiskUsage(total=0, used=0, free=size + 2**24))

    with pytest.raises(StartRefused, match="has no room for two copies of the database, as a backup needs; make room"):
        back_up(migrated_path, target, NOW)
